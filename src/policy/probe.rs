//! What the answers to probes add up to, and when to ask again: Kubernetes' rules.
//!
//! ```text
//!   startup ──succeeds──► started ──► readiness: ready ⇄ not ready
//!      │ fails                   └──► liveness: fails ──► dead
//!      └──► dead
//! ```
//! The startup probe gates the others. A probe's verdict turns when it has said the same so often in a row as its threshold
//! wants. Beside the regular questions there are eager ones: as long as a startup or readiness probe has not succeeded once,
//! it is also asked after 100 ms, 200 ms, 400 ms and so on, so that an App that comes up within a second counts as up then and
//! not after a period. An eager question that is answered with no counts for nothing, so no deadline moves.

use std::time::Duration;

use crate::api::{InstanceSpec, Probe};

/// What a probe is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Whether it has finished its start.
    Startup,
    /// Whether it can be used.
    Readiness,
    /// Whether it is alive.
    Liveness,
}

impl Purpose {
    /// All of them, in the order in which they matter.
    pub const ALL: [Purpose; 3] = [Purpose::Startup, Purpose::Readiness, Purpose::Liveness];

    /// As it begins a sentence: `Readiness`.
    pub fn word(self) -> &'static str {
        match self {
            Purpose::Startup => "Startup",
            Purpose::Readiness => "Readiness",
            Purpose::Liveness => "Liveness",
        }
    }
}

/// The probes of an Instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    /// Whether it has finished its start.
    pub startup: Option<Probe>,
    /// Whether it can be used.
    pub readiness: Option<Probe>,
    /// Whether it is alive.
    pub liveness: Option<Probe>,
}

impl Probes {
    /// Those of a spec.
    pub fn of(spec: &InstanceSpec) -> Self {
        let (startup, readiness) = (spec.startup_probe.clone(), spec.readiness_probe.clone());
        Self { startup, readiness, liveness: spec.liveness_probe.clone() }
    }

    /// The one for a purpose.
    pub fn get(&self, purpose: Purpose) -> Option<&Probe> {
        match purpose {
            Purpose::Startup => self.startup.as_ref(),
            Purpose::Readiness => self.readiness.as_ref(),
            Purpose::Liveness => self.liveness.as_ref(),
        }
    }

    /// True if nothing is asked.
    pub fn is_empty(&self) -> bool {
        Purpose::ALL.iter().all(|purpose| self.get(*purpose).is_none())
    }
}

/// How one question was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Yes.
    Success,
    /// No.
    Failure,
    /// No, to an eager question.
    NotYet,
    /// Yes or no, and nothing needs to be asked again before that is believed.
    Certain(bool),
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It has finished its start.
    Started,
    /// It can be used.
    Ready,
    /// It cannot be used; said once even if it could not before.
    Unready,
    /// It is to be ended, because this probe failed.
    Dead(Purpose),
}

/// Answers in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Row {
    last: Option<bool>,
    length: u32,
}

impl Row {
    /// The verdict, if the row is long enough for one.
    fn take(&mut self, outcome: Outcome, probe: &Probe) -> Option<bool> {
        let success = match outcome {
            Outcome::Success => true,
            Outcome::Failure => false,
            Outcome::NotYet => return None,
            Outcome::Certain(verdict) => {
                *self = Self::default();
                return Some(verdict);
            }
        };
        if self.last != Some(success) {
            *self = Self { last: Some(success), length: 0 };
        }
        self.length = self.length.saturating_add(1);
        let threshold = if success { probe.success_threshold } else { probe.failure_threshold };
        (self.length >= threshold.unsigned_abs().max(1)).then_some(success)
    }
}

/// What the answers so far add up to, for one attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    started: bool,
    ready: bool,
    /// The readiness probe has given a verdict.
    judged: bool,
    dead: bool,
    rows: [Row; 3],
}

impl Checks {
    /// Of an attempt of which so much is known already. What is ready stays so until its probe has failed.
    pub fn new(started: bool, ready: bool) -> Self {
        Self { started, ready: started && ready, ..Self::default() }
    }

    /// Whether this question makes sense now.
    pub fn asks(&self, purpose: Purpose, probes: &Probes) -> bool {
        let started = self.started || probes.startup.is_none();
        let turn = match purpose {
            Purpose::Startup => !started,
            Purpose::Readiness | Purpose::Liveness => started,
        };
        turn && !self.dead && probes.get(purpose).is_some()
    }

    /// Whether it is still waited for the first yes, so that it pays to ask eagerly.
    pub fn hopes(&self, purpose: Purpose) -> bool {
        match purpose {
            Purpose::Startup => !self.started,
            Purpose::Readiness => !self.ready && self.rows[purpose as usize].last != Some(true) && !self.judged,
            Purpose::Liveness => false,
        }
    }

    /// True before the first answer that counts.
    pub fn is_fresh(&self, purpose: Purpose) -> bool {
        self.rows[purpose as usize].last.is_none()
    }

    /// The probe is another now: what the old one said in a row does not count for it; what is known stays.
    pub fn reset(&mut self, purpose: Purpose, started: bool, ready: bool) {
        (self.started, self.ready) = (started, started && ready);
        self.rows[purpose as usize] = Row::default();
    }

    /// Takes an answer. One that came too late to matter changes nothing.
    pub fn take(&mut self, purpose: Purpose, outcome: Outcome, probes: &Probes) -> Option<Turn> {
        let probe = probes.get(purpose).filter(|_| self.asks(purpose, probes))?;
        let verdict = self.rows[purpose as usize].take(outcome, probe)?;
        match (purpose, verdict) {
            (Purpose::Startup, true) => {
                self.started = true;
                Some(Turn::Started)
            }
            (Purpose::Startup | Purpose::Liveness, false) => {
                self.dead = true;
                Some(Turn::Dead(purpose))
            }
            (Purpose::Liveness, true) => None,
            (Purpose::Readiness, ready) => {
                let turns = self.ready != ready || (!ready && !self.judged);
                (self.ready, self.judged) = (ready, true);
                turns.then_some(if ready { Turn::Ready } else { Turn::Unready })
            }
        }
    }
}

/// When a probe is asked next, in some time that nobody sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rhythm {
    /// The next question that counts.
    regular: Duration,
    /// The next eager one comes this long after the last.
    pause: Duration,
}

const FIRST_PAUSE: Duration = Duration::from_millis(100);

impl Rhythm {
    /// Begins with a question at `first`.
    pub fn new(first: Duration) -> Self {
        Self { regular: first, pause: FIRST_PAUSE }
    }

    /// The next question, and whether it counts.
    pub fn next(&self, now: Duration, hopes: bool) -> (Duration, bool) {
        let eager = now + self.pause;
        if hopes && eager < self.regular { (eager, false) } else { (self.regular, true) }
    }

    /// A question was asked at `now`. Those that were missed meanwhile are not made up for. `random` shifts the first by up to
    /// a tenth of a period, so that what began together does not stay together.
    pub fn asked(&mut self, counted: bool, now: Duration, period: Duration, random: Option<u64>) {
        if !counted {
            self.pause = self.pause.saturating_mul(2);
            return;
        }
        let shift =
            random.map_or(Duration::ZERO, |random| period / 10 * u32::try_from(random % 1024).unwrap_or(0) / 1024);
        self.regular = (self.regular + period + shift).max(now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn probe(success: i32, failure: i32) -> Probe {
        let text = json!({"tcpSocket": {"port": 1}, "successThreshold": success, "failureThreshold": failure});
        serde_json::from_value(text).expect("a probe")
    }

    fn all() -> Probes {
        Probes { startup: Some(probe(1, 3)), readiness: Some(probe(2, 3)), liveness: Some(probe(1, 2)) }
    }

    /// `S+` a startup success, `R-` a readiness failure, `L~` an eager no, `R!` certainty; answers with what turned.
    fn play(mut checks: Checks, probes: &Probes, answers: &str) -> String {
        let turned = answers.split(' ').filter_map(|answer| {
            let (purpose, outcome) = answer.split_at(1);
            let purpose = Purpose::ALL.into_iter().find(|p| p.word().starts_with(purpose)).expect("a purpose");
            let outcome = match outcome {
                "+" => Outcome::Success,
                "-" => Outcome::Failure,
                "~" => Outcome::NotYet,
                "!" => Outcome::Certain(false),
                _ => Outcome::Certain(true),
            };
            checks.take(purpose, outcome, probes).map(|turn| format!("{turn:?}"))
        });
        turned.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn answers_add_up_as_in_kubernetes() {
        let probes = all();
        let no_startup = Probes { startup: None, ..all() };
        let rows = [
            ("the startup probe gates the others", "R+ R+ L- L- S+ L-", "Started"),
            ("three failures in a row end the start", "S- S- S-", "Dead(Startup)"),
            ("eager questions never fail it", "S~ S~ S~ S~ S- S- S~ S+", "Started"),
            ("nothing is asked of the dead", "S- S- S- S+", "Dead(Startup)"),
            ("readiness wants two successes in a row", "S+ R+ R- R+ R+", "Started Ready"),
            ("and falls after three failures in a row", "S+ R+ R+ R- R- R+ R- R- R-", "Started Ready Unready"),
            ("being not ready is said once", "S+ R- R- R- R- R-", "Started Unready"),
            ("readiness never ends anything", "S+ R- R- R- R- R- L+ L+", "Started Unready"),
            ("liveness ends it after two failures in a row", "S+ L- L+ L- L-", "Started Dead(Liveness)"),
            ("what is certain needs no row", "S1 R1 R! R1 L!", "Started Ready Unready Ready Dead(Liveness)"),
        ];
        for (name, answers, turned) in rows {
            assert_eq!(play(Checks::default(), &probes, answers), turned, "{name}");
        }
        assert_eq!(play(Checks::default(), &no_startup, "R+ R+"), "Ready", "without a startup probe it has started");
        let known = Checks::new(true, true);
        assert_eq!(play(known.clone(), &probes, "S- S- S- R+ R- R- R-"), "Unready", "what was ready stays so at first");
        assert_eq!(play(known, &probes, "R+ R+ R+"), "");
    }

    #[test]
    fn questions_are_eager_at_first_and_regular_in_any_case() {
        let period = Duration::from_secs(10);
        let mut rhythm = Rhythm::new(Duration::ZERO);
        let (mut now, mut asked) = (Duration::ZERO, Vec::new());
        for _question in 0..12 {
            let (at, counts) = rhythm.next(now, true);
            now = now.max(at);
            asked.push((now.as_millis(), counts));
            rhythm.asked(counts, now, period, None);
        }
        let wanted = [
            (0, true),
            (100, false),
            (300, false),
            (700, false),
            (1500, false),
            (3100, false),
            (6300, false),
            (10000, true),
            (16400, false),
            (20000, true),
            (30000, true),
            (40000, true),
        ];
        assert_eq!(asked, wanted);
        assert_eq!(rhythm.next(now, false), (Duration::from_secs(50), true));
        rhythm.asked(true, Duration::from_secs(75), period, None);
        assert_eq!(rhythm.next(Duration::from_secs(75), false), (Duration::from_secs(75), true), "late, and not twice");
    }

    proptest! {
        /// Whatever is answered: nothing turns before it has started, nothing after it is dead, readiness alternates, and a
        /// death takes a full row of failures.
        #[test]
        fn turns_are_in_order(answers in prop::collection::vec((0..3_usize, 0..3_u8), 0..200), startup: bool) {
            let probes = Probes { startup: startup.then(|| probe(1, 3)), ..all() };
            let mut checks = Checks::default();
            let (mut started, mut ready, mut dead, mut row) = (!startup, None, false, [0; 3]);
            for (purpose, answer) in answers {
                let purpose = Purpose::ALL[purpose];
                let outcome = [Outcome::Success, Outcome::Failure, Outcome::NotYet][usize::from(answer)];
                let asked = checks.asks(purpose, &probes);
                match outcome {
                    _ if !asked => {}
                    Outcome::Failure => row[purpose as usize] += 1,
                    Outcome::Success => row[purpose as usize] = 0,
                    _ => {}
                }
                let turn = checks.take(purpose, outcome, &probes);
                prop_assert!(turn.is_none() || (asked && !dead));
                match turn {
                    Some(Turn::Started) => prop_assert!(!std::mem::replace(&mut started, true)),
                    Some(Turn::Ready) => prop_assert!(started && ready.replace(true) != Some(true)),
                    Some(Turn::Unready) => prop_assert!(started && ready.replace(false) != Some(false)),
                    Some(Turn::Dead(purpose)) => {
                        dead = true;
                        let threshold = probes.get(purpose).expect("it was asked").failure_threshold;
                        prop_assert_eq!(row[purpose as usize], threshold);
                    }
                    None => {}
                }
            }
        }
    }
}
