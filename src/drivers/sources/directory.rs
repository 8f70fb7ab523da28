//! Manifests in a directory and all below it. Blocks: for a thread that may.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};

use super::{Keys, LARGEST_FILE, ReadError, Room, Stamp, Tree};

/// A file that was changed less than this before it was read is read again the next time: the kernel's clock ticks in steps.
const UNSURE: SignedDuration = SignedDuration::from_secs(1);
/// So deep do directories go.
const DEEPEST: usize = 32;

/// Reads all manifests of a directory; of those that are as they were in `earlier`, only the date. Symbolic links are followed, as Kubernetes
/// puts ConfigMaps into directories by them.
///
/// # Errors
/// When any of it cannot be read, or changes while it is.
pub fn read(root: &Path, keys: &Keys, earlier: Option<&Tree>, now: Timestamp) -> Result<Tree, ReadError> {
    let earlier = Tree::opened_by(earlier, keys);
    let mut found = Found { keys, manifests: Vec::new(), linked: false, above: BTreeSet::new() };
    found.walk(root, "", 0)?;
    let tree = Tree { linked: found.linked, ..Tree::of(keys) };
    let mut reading = Reading { tree, keys, room: Room::default(), earlier, now };
    for (path, shown) in found.manifests {
        reading.add(&path, &shown)?;
    }
    reading.end()
}

/// Reads files of a directory anew of which somebody knows that nothing else has changed since `earlier` was read. Nothing if that
/// cannot be told of them, and all of it has to be read: a file that is not there may have left alone, or with the directory.
///
/// # Errors
/// When any of them cannot be read, or changes while it is.
pub fn read_again(
    root: &Path,
    keys: &Keys,
    earlier: &Tree,
    files: &BTreeSet<PathBuf>,
    now: Timestamp,
) -> Result<Option<Tree>, ReadError> {
    // A link brings files that are not there by their own name.
    let is_link = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|itself| itself.is_symlink());
    if earlier.linked || earlier.keys != keys.name() || files.iter().any(is_link) {
        return Ok(None);
    }
    let mut named = BTreeMap::new();
    for path in files {
        let Some(shown) = path.strip_prefix(root).ok().and_then(Path::to_str) else { return Ok(None) };
        if path.file_name().and_then(OsStr::to_str).is_some_and(|name| keys.takes(name)) {
            named.insert(shown, path);
        }
    }
    let mut reading = Reading { tree: earlier.clone(), keys, room: Room::default(), earlier: Some(earlier), now };
    for shown in named.keys() {
        reading.tree.remove(shown);
    }
    for (path, text) in &reading.tree.texts {
        reading.room.take(path, text.len() as u64)?;
    }
    for (shown, path) in named {
        reading.add(path, shown)?;
    }
    reading.end().map(Some)
}

/// A tree that is being read.
struct Reading<'a> {
    tree: Tree,
    keys: &'a Keys,
    room: Room,
    earlier: Option<&'a Tree>,
    now: Timestamp,
}

impl Reading<'_> {
    /// Reads a file, or takes it from what was read earlier.
    fn add(&mut self, path: &Path, shown: &str) -> Result<(), ReadError> {
        let before = fs::metadata(path).map_err(|e| cannot(shown, &e))?;
        if !before.is_file() {
            return Err(ReadError::new("NoFile", format!("{shown} is no file")));
        }
        self.room.take(shown, before.len())?;
        let stamp = stamp(&before, self.now);
        let content = match self.earlier.and_then(|earlier| earlier.known(shown, &stamp)) {
            Some(known) => Ok(known),
            None => {
                let (text, after) = contents(path, shown)?;
                if !same(&before, &after) {
                    return Err(ReadError::new("Changing", format!("{shown} changed while it was read")));
                }
                let content = self.keys.open(shown, text);
                // What says the same is the same: nobody need read it again.
                let known = self.earlier.and_then(|earlier| earlier.content(shown));
                known.filter(|known| content.as_ref().is_ok_and(|content| content == known)).map_or(content, Ok)
            }
        };
        self.tree.add(shown, content, stamp);
        Ok(())
    }

    fn end(self) -> Result<Tree, ReadError> {
        let mut tree = self.tree.whole()?;
        match self.earlier {
            Some(earlier) if earlier.texts == tree.texts => {
                tree.revision.clone_from(&earlier.revision);
                tree.digests.clone_from(&earlier.digests);
            }
            _ => tree.revision = format!("sha256:{}", tree.digest(self.earlier)),
        }
        Ok(tree)
    }
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

/// Every manifest below a directory.
struct Found<'a> {
    /// Which files are manifests, they say.
    keys: &'a Keys,
    /// With its path as people see it.
    manifests: Vec<(PathBuf, String)>,
    /// Some are there by symbolic links.
    linked: bool,
    /// The directories that the one which is walked through is in, and itself.
    above: BTreeSet<(u64, u64)>,
}

impl Found<'_> {
    fn walk(&mut self, directory: &Path, shown: &str, depth: usize) -> Result<(), ReadError> {
        let failed = |e: io::Error| cannot(shown, &e);
        let itself = fs::metadata(directory).map_err(failed)?;
        let identity = (itself.dev(), itself.ino());
        if depth > DEEPEST || !self.above.insert(identity) {
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
                true if self.keys.takes(&name) => false,
                // One that leads nowhere, and is no manifest by its name, is nobody's business.
                true => fs::metadata(entry.path()).is_ok_and(|to| to.is_dir()),
                false => kind.is_dir(),
            };
            let counts = is_directory || self.keys.takes(&name);
            self.linked |= kind.is_symlink() && counts;
            if is_directory {
                self.walk(&entry.path(), &shown, depth + 1)?;
            } else if counts {
                self.manifests.push((entry.path(), shown));
            }
        }
        self.above.remove(&identity);
        Ok(())
    }
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
        let tree = read(root, &Keys::default(), None, later()).unwrap();
        assert_eq!(paths(&tree), ["sub/a.yml", "web.yaml"]);
        symlink(root, root.join("sub/loop")).unwrap();
        assert_eq!(read(root, &Keys::default(), None, later()).unwrap_err().reason, "TooDeep");
    }

    #[test]
    fn what_did_not_change_is_not_read_again_and_what_cannot_be_read_makes_no_tree() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a.yaml"), dir.path().join("b.yaml"));
        fs::write(&a, "one").unwrap();
        fs::write(&b, "").unwrap();
        let first = read(dir.path(), &Keys::default(), None, later()).unwrap();
        assert_eq!(first.empty.iter().map(|path| &**path).collect::<Vec<_>>(), ["b.yaml"]);
        let again = read(dir.path(), &Keys::default(), Some(&first), later()).unwrap();
        assert_eq!(first.revision, again.revision);
        assert!(first.texts.iter().zip(&again.texts).all(|(a, b)| Arc::ptr_eq(a.1, b.1)));
        fs::write(&b, "two").unwrap();
        let changed = read(dir.path(), &Keys::default(), Some(&again), later()).unwrap();
        assert_ne!(again.revision, changed.revision);
        assert!(Arc::ptr_eq(&first.texts["a.yaml"], &changed.texts["a.yaml"]));
        fs::remove_file(&b).unwrap();
        symlink("nowhere", &b).unwrap();
        assert_eq!(read(dir.path(), &Keys::default(), Some(&changed), later()).unwrap_err().reason, "NotFound");
        fs::remove_file(&b).unwrap();
        fs::write(&b, [0xff, 0xfe]).unwrap();
        assert_eq!(read(dir.path(), &Keys::default(), None, later()).unwrap_err().reason, "NotText");
        assert_eq!(read(&dir.path().join("none"), &Keys::default(), None, later()).unwrap_err().reason, "NotFound");
    }

    #[test]
    fn of_files_that_are_named_only_those_are_read_and_of_a_link_or_one_that_left_all_is() {
        let dir = tempfile::tempdir().unwrap();
        let (root, at) = (dir.path(), |name: &str| dir.path().join(name));
        for name in ["a.yaml", "b.yaml", "c.yaml"] {
            fs::write(at(name), name).unwrap();
        }
        let first = read(root, &Keys::default(), None, later()).unwrap();
        for name in ["a.yaml", "b.yaml", "d.yaml", "a.yaml~"] {
            fs::write(at(name), format!("{name} again")).unwrap();
        }
        let again = |files: &[&str]| {
            let files = files.iter().map(|name| at(name)).collect();
            read_again(root, &Keys::default(), &first, &files, later()).unwrap_or(None)
        };
        let tree = again(&["a.yaml", "d.yaml", "a.yaml~"]).unwrap();
        let texts: Vec<(&str, &str)> = tree.texts.iter().map(|(path, text)| (&**path, &**text)).collect();
        let expected =
            [("a.yaml", "a.yaml again"), ("b.yaml", "b.yaml"), ("c.yaml", "c.yaml"), ("d.yaml", "d.yaml again")];
        assert_eq!(texts, expected);
        // What is read at once and what is read by and by has the same name.
        let all = again(&["a.yaml", "b.yaml", "d.yaml"]).unwrap();
        assert_eq!(all.revision, read(root, &Keys::default(), None, later()).unwrap().revision);
        assert_eq!(
            all.revision,
            read_again(root, &Keys::default(), &tree, &[at("b.yaml")].into(), later()).unwrap().unwrap().revision
        );
        symlink("d.yaml", at("e.yaml")).unwrap();
        fs::remove_file(at("c.yaml")).unwrap();
        for odd in ["c.yaml", "e.yaml", "/elsewhere.yaml"] {
            assert!(again(&["a.yaml", odd]).is_none(), "{odd}");
        }
        let linked = read(root, &Keys::default(), None, later()).unwrap();
        assert_eq!(
            read_again(root, &Keys::default(), &linked, &[at("a.yaml")].into(), later())
                .unwrap()
                .map(|tree| tree.revision),
            None
        );
    }

    #[test]
    fn a_file_that_was_changed_a_moment_ago_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.yaml"), "one").unwrap();
        let moment = fs::metadata(dir.path().join("a.yaml")).unwrap().ctime();
        let now = Timestamp::from_second(moment).unwrap();
        let tree = read(dir.path(), &Keys::default(), None, now).unwrap();
        assert_eq!(tree.stamps["a.yaml"], Stamp::Unsure);
        assert_eq!(tree.known("a.yaml", &Stamp::Unsure), None);
    }
}
