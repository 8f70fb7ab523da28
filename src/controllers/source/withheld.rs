//! What is wrong with a file, as it may be told: of one that was encrypted only where.

use crate::{drivers::sources::Tree, policy::fleet::Misplaced};

/// What is wrong, and where. Whoever may not read an encrypted file may read the status of its Source.
pub(super) fn told(wrong: &Misplaced, tree: Option<&Tree>) -> String {
    match tree {
        Some(tree) if tree.is_sealed(&wrong.file) => {
            format!(
                "{}:{}: what is wrong there is not shown, because the file is encrypted",
                wrong.file, wrong.fault.place
            )
        }
        _ => wrong.to_string(),
    }
}
