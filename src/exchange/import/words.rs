//! The settings that each program knows, by section. What is not among them is nobody's: it is told as unknown, with what was meant.
//!
//! The lists are the programs' own reference, name by name (`words/*.txt`). Tests hold the readers to them: each name is carried over,
//! approximated or dropped with a reason of its own.

use crate::policy::meant::did_you_mean;

/// Longer words mean nothing that is known, and are compared with nothing.
const LONGEST: usize = 48;

/// The words of one program.
#[derive(Clone, Copy)]
pub(in crate::exchange) struct Words {
    whose: &'static str,
    text: &'static str,
}

pub(in crate::exchange) const SYSTEMD: Words = Words { whose: "systemd's", text: include_str!("words/systemd.txt") };
pub(in crate::exchange) const SUPERVISOR: Words =
    Words { whose: "Supervisor's", text: include_str!("words/supervisor.txt") };
pub(in crate::exchange) const PM2: Words = Words { whose: "PM2's", text: include_str!("words/pm2.txt") };
pub(in crate::exchange) const COMPOSE: Words = Words { whose: "Compose's", text: include_str!("words/compose.txt") };
pub(in crate::exchange) const KUBERNETES: Words =
    Words { whose: "Kubernetes'", text: include_str!("words/kubernetes.txt") };

impl Words {
    /// `(section, word)` of all; a word of which several may stand ends in `+`.
    fn all(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let mut section = "";
        let lines = self.text.lines().filter(|line| !line.starts_with('#'));
        lines.flat_map(move |line| {
            let named = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            section = named.unwrap_or(section);
            let here = section;
            let words = if named.is_some() { "" } else { line };
            words.split_whitespace().map(move |word| (here, word))
        })
    }

    /// The words of a section.
    pub(in crate::exchange) fn of(self, section: &str) -> impl Iterator<Item = &'static str> {
        let mine = self.all().filter(move |(there, _)| *there == section);
        mine.map(|(_, word)| word.trim_end_matches('+'))
    }

    /// True if the program knows it.
    pub(in crate::exchange) fn knows(self, section: &str, word: &str) -> bool {
        self.of(section).any(|known| known == word)
    }

    /// True if several of it may stand.
    pub(in crate::exchange) fn is_list(self, section: &str, word: &str) -> bool {
        self.all().any(|(there, known)| there == section && known.strip_suffix('+') == Some(word))
    }

    /// What is said of a setting that the program does not know there.
    pub(super) fn stranger(self, section: &str, word: &str) -> String {
        let elsewhere = || self.all().find(|(_, known)| known.trim_end_matches('+') == word);
        let close = || did_you_mean(word, self.of(section).filter(|_| word.len() <= LONGEST));
        let meant = close().or_else(|| elsewhere().map(|(section, _)| format!("it belongs into `{section}`")));
        let meant = meant.map_or(String::new(), |meant| format!("; {meant}"));
        format!("no setting of {} that is known{meant}", self.whose)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_nobody_knows_is_told_with_what_was_meant() {
        for (words, section, word, told) in [
            (SYSTEMD, "Service", "ExecStrat", "no setting of systemd's that is known; did you mean `ExecStart`?"),
            (SYSTEMD, "Service", "Description", "no setting of systemd's that is known; it belongs into `Unit`"),
            (COMPOSE, "service", "Q", "no setting of Compose's that is known"),
        ] {
            assert_eq!(words.stranger(section, word), told);
        }
        assert!(SYSTEMD.is_list("Service", "ExecStart") && !SYSTEMD.is_list("Service", "User"));
        assert!(SYSTEMD.knows("Service", "ExecStart") && !SYSTEMD.knows("Unit", "ExecStart"));
    }
}
