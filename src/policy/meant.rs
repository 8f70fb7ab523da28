//! What somebody meant who wrote something else: two letters swapped, one missing, a common beginning.

/// The closest of `known` to what somebody wrote, if any is close.
pub fn closest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_lowercase();
    let score = |word: &str| {
        let word = word.to_lowercase();
        let slips = strsim::osa_distance(&written, &word);
        let similar = strsim::jaro_winkler(&written, &word);
        (slips <= 1 + written.chars().count() / 5 || similar > 0.8).then_some(similar)
    };
    let close = known.into_iter().filter_map(|word| Some((score(word)?, word)));
    close.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, word)| word)
}

/// "did you mean `x`?", if anything is close.
pub fn did_you_mean<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    closest(written, known).map(|word| format!("did you mean `{word}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_words_are_suggested_and_far_ones_are_not() {
        assert_eq!(closest("ap", ["apps", "nodes"]), Some("apps"));
        assert_eq!(closest("instnaces", ["apps", "instances"]), Some("instances"));
        assert_eq!(closest("wbe", ["db", "web"]), Some("web"));
        assert_eq!(closest("zebra", ["apps", "nodes"]), None);
    }
}
