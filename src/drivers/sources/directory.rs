//! Manifests in a directory and all below it. Blocks: for a thread that may.

use std::{
    collections::BTreeSet,
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};

use super::{LARGEST_FILE, ReadError, Room, Stamp, Tree, is_manifest, text_of};

/// A file that was changed less than this before it was read is read again the next time: the kernel's clock ticks in steps.
const UNSURE: SignedDuration = SignedDuration::from_secs(1);
/// So deep do directories go.
const DEEPEST: usize = 32;

/// Reads all manifests of a directory; of those that are as they were in `earlier`, only the date. Symbolic links are followed, as Kubernetes
/// puts ConfigMaps into directories by them.
///
/// # Errors
/// When any of it cannot be read, or changes while it is.
pub fn read(root: &Path, earlier: Option<&Tree>, now: Timestamp) -> Result<Tree, ReadError> {
    let mut found = Vec::new();
    walk(root, "", 0, &mut BTreeSet::new(), &mut found)?;
    let (mut tree, mut room) = (Tree::default(), Room::default());
    for (path, shown) in found {
        let before = fs::metadata(&path).map_err(|e| cannot(&shown, &e))?;
        if !before.is_file() {
            return Err(ReadError::new("NoFile", format!("{shown} is no file")));
        }
        room.take(&shown, before.len())?;
        let stamp = stamp(&before, now);
        let text = match earlier.and_then(|earlier| earlier.known(&shown, &stamp)) {
            Some(known) => known,
            None => {
                let (text, after) = contents(&path, &shown)?;
                if !same(&before, &after) {
                    return Err(ReadError::new("Changing", format!("{shown} changed while it was read")));
                }
                let text = text_of(&shown, text)?;
                // What says the same is the same: nobody need read it again.
                let known = earlier.and_then(|earlier| earlier.texts.get(&*shown)).filter(|known| **known == text);
                known.cloned().unwrap_or(text)
            }
        };
        tree.add(&shown, text, stamp);
    }
    tree.revision = match earlier {
        Some(earlier) if earlier.texts == tree.texts => earlier.revision.clone(),
        _ => format!("sha256:{}", tree.digest()),
    };
    Ok(tree)
}

fn cannot(shown: &str, error: &io::Error) -> ReadError {
    let shown = if shown.is_empty() { "the directory" } else { shown };
    let reason = match error.kind() {
        io::ErrorKind::NotFound => "NotFound",
        io::ErrorKind::PermissionDenied => "PermissionDenied",
        _ => "ReadFailed",
    };
    ReadError::new(reason, format!("{shown} cannot be read: {error}"))
}

/// Every manifest below a directory, with its path as people see it. `above`: the directories that this one is in.
fn walk(
    directory: &Path,
    shown: &str,
    depth: usize,
    above: &mut BTreeSet<(u64, u64)>,
    found: &mut Vec<(PathBuf, String)>,
) -> Result<(), ReadError> {
    let failed = |e: io::Error| cannot(shown, &e);
    let itself = fs::metadata(directory).map_err(failed)?;
    let identity = (itself.dev(), itself.ino());
    if depth > DEEPEST || !above.insert(identity) {
        return Err(ReadError::new("TooDeep", format!("{shown} is too deep, or in itself")));
    }
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with('.') {
            continue;
        }
        let shown = if shown.is_empty() { name.clone() } else { format!("{shown}/{name}") };
        let kind = entry.file_type().map_err(|e| cannot(&shown, &e))?;
        let is_directory = match kind.is_symlink() {
            true if is_manifest(&name) => false,
            // One that leads nowhere, and is no manifest by its name, is nobody's business.
            true => fs::metadata(entry.path()).is_ok_and(|to| to.is_dir()),
            false => kind.is_dir(),
        };
        if is_directory {
            walk(&entry.path(), &shown, depth + 1, above, found)?;
        } else if is_manifest(&name) {
            found.push((entry.path(), shown));
        }
    }
    above.remove(&identity);
    Ok(())
}

/// What is in a file, and what the kernel said of it then.
fn contents(path: &Path, shown: &str) -> Result<(Vec<u8>, Metadata), ReadError> {
    let failed = |e: io::Error| cannot(shown, &e);
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    // One byte more than is allowed: a file that grew meanwhile has changed.
    (&file).take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok((bytes, file.metadata().map_err(failed)?))
}

fn same(a: &Metadata, b: &Metadata) -> bool {
    let stamp =
        |of: &Metadata| (of.dev(), of.ino(), of.size(), of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec());
    stamp(a) == stamp(b)
}

fn stamp(of: &Metadata, now: Timestamp) -> Stamp {
    let time = |seconds: i64, nanos: i64| Timestamp::new(seconds, i32::try_from(nanos).unwrap_or(0)).ok();
    let (Some(modified), Some(changed)) = (time(of.mtime(), of.mtime_nsec()), time(of.ctime(), of.ctime_nsec())) else {
        return Stamp::Unsure;
    };
    if now.duration_since(changed) < UNSURE {
        return Stamp::Unsure;
    }
    Stamp::File { device: of.dev(), inode: of.ino(), size: of.size(), modified, changed }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, sync::Arc};

    use super::*;

    fn later() -> Timestamp {
        "2100-01-01T00:00:00Z".parse().unwrap()
    }

    fn paths(tree: &Tree) -> Vec<&str> {
        tree.texts.keys().map(|path| &**path).collect()
    }

    #[test]
    fn manifests_are_found_as_kubernetes_mounts_them_and_hidden_files_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("..2026_1")).unwrap();
        fs::write(root.join("..2026_1/web.yaml"), "web").unwrap();
        symlink("..2026_1", root.join("..data")).unwrap();
        symlink("..data/web.yaml", root.join("web.yaml")).unwrap();
        fs::create_dir_all(root.join("sub/.git")).unwrap();
        for name in ["sub/a.yml", "sub/.b.yaml.swp", "sub/.git/c.yaml", "notes.txt", "d.yaml~", "4913"] {
            fs::write(root.join(name), name).unwrap();
        }
        symlink("nowhere", root.join("gone")).unwrap();
        let tree = read(root, None, later()).unwrap();
        assert_eq!(paths(&tree), ["sub/a.yml", "web.yaml"]);
        symlink(root, root.join("sub/loop")).unwrap();
        assert_eq!(read(root, None, later()).unwrap_err().reason, "TooDeep");
    }

    #[test]
    fn what_did_not_change_is_not_read_again_and_what_cannot_be_read_makes_no_tree() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a.yaml"), dir.path().join("b.yaml"));
        fs::write(&a, "one").unwrap();
        fs::write(&b, "").unwrap();
        let first = read(dir.path(), None, later()).unwrap();
        assert_eq!(first.empty.iter().map(|path| &**path).collect::<Vec<_>>(), ["b.yaml"]);
        let again = read(dir.path(), Some(&first), later()).unwrap();
        assert_eq!(first.revision, again.revision);
        assert!(first.texts.iter().zip(&again.texts).all(|(a, b)| Arc::ptr_eq(a.1, b.1)));
        fs::write(&b, "two").unwrap();
        let changed = read(dir.path(), Some(&again), later()).unwrap();
        assert_ne!(again.revision, changed.revision);
        assert!(Arc::ptr_eq(&first.texts["a.yaml"], &changed.texts["a.yaml"]));
        fs::remove_file(&b).unwrap();
        symlink("nowhere", &b).unwrap();
        assert_eq!(read(dir.path(), Some(&changed), later()).unwrap_err().reason, "NotFound");
        fs::remove_file(&b).unwrap();
        fs::write(&b, [0xff, 0xfe]).unwrap();
        assert_eq!(read(dir.path(), None, later()).unwrap_err().reason, "NotText");
        assert_eq!(read(&dir.path().join("none"), None, later()).unwrap_err().reason, "NotFound");
    }

    #[test]
    fn a_file_that_was_changed_a_moment_ago_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.yaml"), "one").unwrap();
        let moment = fs::metadata(dir.path().join("a.yaml")).unwrap().ctime();
        let now = Timestamp::from_second(moment).unwrap();
        let tree = read(dir.path(), None, now).unwrap();
        assert_eq!(tree.stamps["a.yaml"], Stamp::Unsure);
        assert_eq!(tree.known("a.yaml", &Stamp::Unsure), None);
    }
}
