//! What our containers are called and labelled, and how they are known again.
//!
//! The name carries the start key, so that an engine itself refuses to make the same attempt twice. The labels say which
//! data directory made it: two appm on one engine never touch each other's, and nobody's else.

use std::collections::{BTreeMap, HashMap};

use crate::{
    api::Uid,
    drivers::{LogLimits, StartKey},
};

/// Which data directory made it.
pub(super) const NODE: &str = "appm.dev/node-id";
const UID: &str = "appm.dev/uid";
const ATTEMPT: &str = "appm.dev/attempt";

/// How much of its output is kept, for whoever finds it again.
pub(super) const LOGS: &str = "appm.dev/logs";

/// Limits as a label says them: bytes and files, and `r` if secrets are taken out.
pub(super) fn write_limits(limits: LogLimits) -> String {
    format!("{}x{}{}", limits.max_size, limits.max_files, if limits.redact { "r" } else { "" })
}

/// The limits that a label says.
pub(super) fn read_limits(labels: &HashMap<String, String>) -> Option<LogLimits> {
    let (size, files) = labels.get(LOGS)?.split_once('x')?;
    let (files, redact) = files.strip_suffix('r').map_or((files, false), |files| (files, true));
    Some(LogLimits { max_size: size.parse().ok()?, max_files: files.parse().ok()?, redact })
}

/// The name of an attempt's container.
pub(super) fn container_name(key: &StartKey) -> String {
    format!("appm-{}-{}", key.uid, key.attempt)
}

/// All its labels: whose it is, and what people want to read.
pub(super) fn labels(key: &StartKey, node: &str, told: &BTreeMap<String, String>) -> HashMap<String, String> {
    let own = [(NODE, node.to_owned()), (UID, key.uid.to_string()), (ATTEMPT, key.attempt.to_string())];
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
    told.clone().into_iter().chain(own).collect()
}

/// The attempt that a container is; `None` if it is not one of ours.
pub(super) fn key_of(labels: &HashMap<String, String>, node: &str) -> Option<StartKey> {
    if labels.get(NODE).map(String::as_str) != Some(node) {
        return None;
    }
    let attempt = labels.get(ATTEMPT)?.parse().ok()?;
    Some(StartKey { uid: labels.get(UID)?.as_str().into(), attempt })
}

/// What an engine is asked to show: ours, or those of one Instance.
pub(super) fn filters(node: &str, uid: Option<&Uid>) -> HashMap<String, Vec<String>> {
    let mut wanted = vec![format!("{NODE}={node}")];
    wanted.extend(uid.map(|uid| format!("{UID}={uid}")));
    HashMap::from([("label".to_owned(), wanted)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_known_again_by_its_labels_and_only_by_whoever_made_it() {
        let key = StartKey { uid: "0b5c".into(), attempt: 3 };
        // What people are told never hides whose it is.
        let told = BTreeMap::from([("appm.dev/app".to_owned(), "web".to_owned()), (UID.to_owned(), "x".to_owned())]);
        let all = labels(&key, "aa", &told);
        assert_eq!(container_name(&key), "appm-0b5c-3");
        assert_eq!(all["appm.dev/app"], "web");
        assert_eq!(key_of(&all, "aa"), Some(key));
        assert_eq!(key_of(&all, "bb"), None);
        assert_eq!(key_of(&HashMap::new(), "aa"), None);
        let limits = LogLimits { max_size: 10 << 20, max_files: 5, redact: false };
        assert_eq!(read_limits(&HashMap::from([(LOGS.to_owned(), write_limits(limits))])), Some(limits));
    }
}
