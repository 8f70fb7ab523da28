//! Field paths as Kubernetes prints them, taken apart.

/// The steps of `spec.env[2].name`, `metadata.labels[a.b/c]`: names and numbers alike as text, because a path does not
/// say whether `[75]` is an item or a key.
pub(super) fn steps(path: &str) -> Vec<String> {
    let mut steps = Vec::new();
    let mut rest = path.trim_start_matches('.');
    while !rest.is_empty() {
        let (step, tail) = match rest.strip_prefix('[') {
            Some(inside) => inside.split_once(']').unwrap_or((inside, "")),
            None => rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len())),
        };
        if !step.is_empty() {
            steps.push(step.to_owned());
        }
        rest = tail.strip_prefix('.').unwrap_or(tail);
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart_as_they_are_printed() {
        for (path, expected) in [
            ("", vec![]),
            ("spec", vec!["spec"]),
            ("spec.env[2].name", vec!["spec", "env", "2", "name"]),
            (".spec.replicas", vec!["spec", "replicas"]),
            ("metadata.labels[a.b/c]", vec!["metadata", "labels", "a.b/c"]),
            ("spec.restart.exitCodes[75]", vec!["spec", "restart", "exitCodes", "75"]),
            ("a[0][1].b", vec!["a", "0", "1", "b"]),
            ("a[b", vec!["a", "b"]),
        ] {
            assert_eq!(steps(path), expected, "{path}");
        }
    }
}
