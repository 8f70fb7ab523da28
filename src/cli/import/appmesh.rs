//! App Mesh's words, as the server itself understands them.

use crate::{
    appmesh::import::{self, Imported},
    exchange::import::appmesh::{Made, Words},
};

/// What the importer is given.
pub(super) const WORDS: Words = Words {
    application: |json| import::application(json).map(taken_apart),
    role: |name, permissions| import::role(name, permissions).map(taken_apart),
    user: |name, said| taken_apart(import::user(name, said)),
};

fn taken_apart(imported: Imported) -> Made {
    (imported.objects, imported.approximated, imported.dropped)
}
