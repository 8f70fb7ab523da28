//! Files that a step of a workflow has kept, and that later steps fetch again: an archive for each, at
//! `artifacts/<workspace>/<instance>` of the data directory.
//!
//! Whoever works in a workspace may change it while it is read. So the kernel resolves every path from the workspace on (openat2, beneath
//! it), nothing but plain files is opened, and of those only what the workspace's owner could read. What is written
//! into it is a new file each time, so that nothing that somebody put into its place is written to. An archive is whole or not there; who
//! dies in the middle leaves something that the next one replaces.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File, Permissions},
    io::{self, BufReader, BufWriter, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            fs::{DirBuilderExt, MetadataExt, PermissionsExt},
        },
    },
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};
use sha2::{Digest, Sha256};

use super::{StartKey, WORKSPACES};
use crate::{
    api::{AnnotationLevel, FetchedArtifact, IfNoFiles, KeptArtifact, KeptFiles, RunStep, StepAnnotation, StepResult},
    policy::artifacts::{Entry, Packer, Search, unpack},
};

/// Where they are, in the data directory.
const ARTIFACTS: &str = "artifacts";
/// Files of one.
const MOST_FILES: usize = 10_000;
/// Names that are looked at for one.
const MOST_NAMES: usize = 200_000;
/// What one says of names that were left out.
const MOST_REMARKS: usize = 5;
/// Bytes of one file, of one artifact, of all of a run, and of all that there are.
const LARGEST_FILE: u64 = 1 << 30;
const LARGEST: u64 = 2 << 30;
const LARGEST_RUN: u64 = 4 << 30;
const LARGEST_ALL: u64 = 16 << 30;
/// So much is read or written at once.
const CHUNK: usize = 256 << 10;

/// Keeps and fetches what a step that has ended says. What cannot be done is told as its fault.
pub(super) fn carry(data_dir: &Path, key: &StartKey, step: &RunStep, result: &mut StepResult) {
    let done = Workspace::open(data_dir, step).and_then(|workspace| {
        if let Some(wanted) = &step.keep {
            keep(data_dir, key, step, &workspace, wanted, result)?;
        }
        for wanted in &step.fetch {
            workspace.fetch(data_dir, wanted)?;
        }
        if let [first, ..] = &step.fetch[..] {
            let whole = workspace.path.join(&first.directory);
            result.outputs.insert("download-path".to_owned(), whole.display().to_string());
        }
        Ok(())
    });
    if let Err(why) = done {
        result.fault = why;
    }
}

/// Opens an archive; its length.
///
/// # Errors
/// As `open`; a name that leads elsewhere is not found.
pub fn open_artifact(data_dir: &Path, file: &str) -> io::Result<(File, u64)> {
    let file = File::open(path_of(data_dir, file)?)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

/// Removes all that were kept of a workspace.
pub(super) fn remove(data_dir: &Path, workspace: &str) -> io::Result<()> {
    match fs::remove_dir_all(data_dir.join(ARTIFACTS).join(workspace)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Removes one that was kept. One that is not there is no error.
pub(super) fn remove_one(data_dir: &Path, file: &str) -> io::Result<()> {
    match path_of(data_dir, file).and_then(fs::remove_file) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn path_of(data_dir: &Path, file: &str) -> io::Result<PathBuf> {
    let plain = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    match file.split_once('/') {
        Some((run, name)) if plain(run) && plain(name) => Ok(data_dir.join(ARTIFACTS).join(run).join(name)),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

/// A directory in which a job works.
struct Workspace {
    path: PathBuf,
    dir: OwnedFd,
    /// To whom it belongs.
    owner: (u32, u32),
}

fn said(what: impl std::fmt::Display) -> impl FnOnce(io::Error) -> String {
    move |error| format!("{what}: {error}")
}

impl Workspace {
    fn open(data_dir: &Path, step: &RunStep) -> Result<Self, String> {
        let base = data_dir.join(WORKSPACES).join(&step.workspace);
        let path = match step.place.as_str() {
            "" => base.join("work"),
            place => base.join("places").join(place),
        };
        let opened = || {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let dir = rustix::fs::open(&path, flags, Mode::empty())?;
            let stat = rustix::fs::fstat(&dir)?;
            Ok((dir, (stat.st_uid, stat.st_gid)))
        };
        let (dir, owner) = opened().map_err(said("cannot open the workspace"))?;
        Ok(Self { path, dir, owner })
    }

    fn at(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.dir, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
    }

    /// A plain file, and what is to be known of it.
    fn file(&self, path: &Path) -> Result<(File, fs::Metadata), String> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(self.at(path, flags).map_err(|errno| match errno {
            Errno::XDEV => "it is a link that leads out of the workspace".to_owned(),
            Errno::NOENT | Errno::LOOP => "it is a link that leads nowhere".to_owned(),
            other => other.to_string(),
        })?);
        let metadata = file.metadata().map_err(|error| error.to_string())?;
        if !metadata.is_file() {
            return Err("it is no plain file".to_owned());
        }
        if metadata.uid() != self.owner.0 && metadata.mode() & 0o004 == 0 {
            return Err("it is not the step's to read".to_owned());
        }
        Ok((file, metadata))
    }

    /// The files that are meant, in the order of their names.
    fn found(&self, search: &Search, hidden: bool, left_out: &mut LeftOut) -> Result<Vec<String>, String> {
        let mut found = Vec::new();
        let mut names = 0;
        for place in search.places() {
            match self.kind(&place) {
                Some(FileType::Directory) => {
                    let mut below = vec![place];
                    while let Some(dir) = below.pop() {
                        for (path, kind) in self.names(&dir, left_out)? {
                            names += 1;
                            if names > MOST_NAMES {
                                return Err(format!("there are more than {MOST_NAMES} files to look at"));
                            }
                            let own = path.rsplit('/').next().unwrap_or_default();
                            match kind {
                                _ if own.starts_with('.') && !hidden => {}
                                FileType::Directory => below.push(path),
                                _ if search.takes(&path) => found.push(path),
                                _ => {}
                            }
                        }
                    }
                }
                Some(_) if search.takes(&place) => found.push(place),
                _ => {}
            }
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// What is there; of a link, what it leads to.
    fn kind(&self, path: &str) -> Option<FileType> {
        let opened = self.at(Path::new(path), OFlags::PATH).ok()?;
        let stat = rustix::fs::fstat(&opened).ok()?;
        Some(FileType::from_raw_mode(stat.st_mode))
    }

    fn names(&self, dir: &str, left_out: &mut LeftOut) -> Result<Vec<(String, FileType)>, String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let listed = self.at(Path::new(dir), flags).and_then(rustix::fs::Dir::new);
        let entries = match listed {
            Ok(entries) => entries,
            // It went meanwhile.
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
            Err(errno) => return Err(format!("cannot list `{dir}`: {errno}")),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|errno| format!("cannot list `{dir}`: {errno}"))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let Ok(name) = str::from_utf8(name) else {
                let shown = OsStr::from_bytes(name).to_string_lossy().into_owned();
                left_out.note(&joined(dir, &shown), "its name is no text");
                continue;
            };
            let path = joined(dir, name);
            let kind = match entry.file_type() {
                FileType::Unknown => {
                    let of = rustix::fs::statat(&self.dir, &path, AtFlags::SYMLINK_NOFOLLOW);
                    of.map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode))
                }
                kind => kind,
            };
            names.push((path, kind));
        }
        Ok(names)
    }

    /// Puts what is in an archive into a directory.
    fn fetch(&self, data_dir: &Path, wanted: &FetchedArtifact) -> Result<(), String> {
        let (file, _) = open_artifact(data_dir, &wanted.file).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => "the artifact went with the run that kept it".to_owned(),
            _ => format!("cannot read the artifact: {error}"),
        })?;
        let mut into: Option<(String, OwnedFd)> = None;
        let mut put = |entry: &Entry, bytes: &mut dyn Read| -> io::Result<()> {
            let path = joined(&wanted.directory, &entry.path);
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
            if into.as_ref().is_none_or(|(open, _)| open != parent) {
                into = Some((parent.to_owned(), self.directory(parent)?));
            }
            let dir = into.as_ref().map_or(self.dir.as_fd(), |(_, dir)| dir.as_fd());
            self.write(dir, name, entry, bytes)
                .map_err(|error| io::Error::new(error.kind(), format!("`{path}`: {error}")))
        };
        unpack(&mut BufReader::with_capacity(CHUNK, file), &mut put)
            .map_err(|error| format!("cannot fetch the artifact: {error}"))?;
        // So that it is there although it is empty.
        self.directory(&wanted.directory).map(drop).map_err(said(format!("cannot make `{}`", wanted.directory)))
    }

    /// A directory, made if it is not there.
    fn directory(&self, path: &str) -> io::Result<OwnedFd> {
        let mut dir = self.dir.try_clone()?;
        for step in path.split('/').filter(|step| !matches!(*step, "" | ".")) {
            let made = match rustix::fs::mkdirat(&dir, step, Mode::from_raw_mode(0o755)) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(errno) => return Err(errno.into()),
            };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            dir = rustix::fs::openat2(&dir, step, flags, Mode::empty(), resolve)?;
            if made {
                self.give(&dir, 0o755)?;
            }
        }
        Ok(dir)
    }

    fn give(&self, file: impl AsFd, mode: u32) -> io::Result<()> {
        let file = file.as_fd().try_clone_to_owned()?;
        let (uid, gid) = self.owner;
        let meta = rustix::fs::fstat(&file)?;
        if (meta.st_uid, meta.st_gid) != (uid, gid) {
            std::os::unix::fs::fchown(&file, Some(uid), Some(gid))?;
        }
        File::from(file).set_permissions(Permissions::from_mode(mode))
    }

    fn write(&self, dir: impl AsFd, name: &str, entry: &Entry, bytes: &mut dyn Read) -> io::Result<()> {
        match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
            Err(errno) if errno != Errno::NOENT => return Err(errno.into()),
            _ => {}
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(&dir, name, flags, Mode::RUSR | Mode::WUSR)?);
        match io::copy(bytes, &mut file)? == entry.size {
            true => {}
            false => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        file.set_modified(UNIX_EPOCH + Duration::from_secs(entry.modified))?;
        self.give(&file, if entry.executable { 0o755 } else { 0o644 })
    }
}

fn joined(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}

/// Names that are meant and cannot be kept.
#[derive(Default)]
struct LeftOut(Vec<String>, usize);

impl LeftOut {
    fn note(&mut self, path: &str, why: &str) {
        if self.0.len() < MOST_REMARKS {
            self.0.push(format!("`{path}` is left out: {why}"));
        } else {
            self.1 += 1;
        }
    }

    fn tell(self, result: &mut StepResult) {
        let more = (self.1 > 0).then(|| format!("{} more are left out", self.1));
        self.0.into_iter().chain(more).for_each(|message| warn(result, message));
    }
}

fn warn(result: &mut StepResult, message: String) {
    let level = AnnotationLevel::Warning;
    result.annotations.push(StepAnnotation { level, message, ..StepAnnotation::default() });
}

fn keep(
    data_dir: &Path,
    key: &StartKey,
    step: &RunStep,
    workspace: &Workspace,
    wanted: &KeptFiles,
    result: &mut StepResult,
) -> Result<(), String> {
    let search = Search::parse(&wanted.path)?;
    let mut left_out = LeftOut::default();
    let found = workspace.found(&search, wanted.include_hidden_files, &mut left_out)?;
    if found.len() > MOST_FILES {
        return Err(format!("{} files are too many for one artifact; at most {MOST_FILES}", found.len()));
    }
    let place = Place::make(data_dir, step, key).map_err(said("cannot keep files"))?;
    let base = search.base(|path| workspace.kind(path) == Some(FileType::RegularFile));
    let mut archive = Archive::begin(&place)?;
    for path in found {
        match workspace.file(Path::new(&path)) {
            Ok((file, metadata)) => {
                let name = path.strip_prefix(&base).unwrap_or(&path).trim_start_matches('/');
                archive.add(name, file, &metadata).map_err(|why| format!("`{path}`: {why}"))?;
            }
            Err(why) => left_out.note(&path, &why),
        }
    }
    left_out.tell(result);
    if archive.files == 0 {
        let message = format!("no file was found with `{}`", wanted.path.trim());
        match wanted.if_no_files_found {
            IfNoFiles::Error => return Err(message),
            IfNoFiles::Warn => warn(result, format!("{message}; nothing is kept")),
            IfNoFiles::Ignore => {}
        }
        return Ok(());
    }
    let kept = archive.finish().map_err(said("cannot keep files"))?;
    let digits = kept.digest.trim_start_matches("sha256:").to_owned();
    result.outputs.insert("artifact-digest".to_owned(), digits);
    result.outputs.insert("artifact-id".to_owned(), wanted.name.clone());
    result.artifact = Some(kept);
    Ok(())
}

/// Where an archive is to be, and how much room there is.
struct Place {
    /// Its name below the directory of all.
    file: String,
    dir: PathBuf,
    part: PathBuf,
    whole: PathBuf,
    /// Bytes, and whose limit that is.
    room: (u64, String),
}

impl Place {
    fn make(data_dir: &Path, step: &RunStep, key: &StartKey) -> io::Result<Self> {
        let all = data_dir.join(ARTIFACTS);
        let dir = all.join(&step.workspace);
        for (dir, above) in [(&all, data_dir), (&dir, all.as_path())] {
            match DirBuilder::new().mode(0o700).create(dir) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                Err(_) => {}
                Ok(()) => File::open(above)?.sync_all()?,
            }
        }
        let (part, whole) = (dir.join(format!("{}.part", key.uid)), dir.join(key.uid.as_str()));
        // Of an agent that died in the middle.
        for left in [&part, &whole] {
            match fs::remove_file(left) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        let in_run = size(&dir)?;
        let mut in_all = 0;
        for run in fs::read_dir(&all)? {
            in_all += size(&run?.path())?;
        }
        let gib = |bytes: u64| bytes >> 30;
        let limits = [
            (LARGEST, 0, "an artifact has at most"),
            (LARGEST_RUN, in_run, "all artifacts of a run have at most"),
            (LARGEST_ALL, in_all, "all artifacts of the node have at most"),
        ];
        let room = limits.map(|(most, used, whose)| (most.saturating_sub(used), format!("{whose} {} GiB", gib(most))));
        let room = room.into_iter().min().unwrap_or_default();
        let file = format!("{}/{}", step.workspace, key.uid);
        Ok(Self { file, dir, part, whole, room })
    }
}

/// Bytes of the files in a directory.
fn size(dir: &Path) -> io::Result<u64> {
    let mut all = 0;
    for entry in fs::read_dir(dir)? {
        // One that goes meanwhile has none.
        all += entry?.metadata().map_or(0, |metadata| metadata.len());
    }
    Ok(all)
}

/// An archive that is being written. It goes if it is never whole.
struct Archive<'a> {
    place: &'a Place,
    tar: Option<Packer<Measured<'a>>>,
    files: i32,
}

/// A file of limited size, and the digest of what is in it.
struct Measured<'a> {
    file: BufWriter<File>,
    hash: Sha256,
    size: u64,
    room: &'a (u64, String),
}

impl Write for Measured<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (room, whose) = self.room;
        if self.size + bytes.len() as u64 > *room {
            return Err(io::Error::other(whose.clone()));
        }
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl<'a> Archive<'a> {
    fn begin(place: &'a Place) -> Result<Self, String> {
        let file = File::create_new(&place.part).map_err(said("cannot keep files"))?;
        let file = BufWriter::with_capacity(CHUNK, file);
        let tar = Packer::begin(Measured { file, hash: Sha256::new(), size: 0, room: &place.room });
        Ok(Self { place, tar: Some(tar), files: 0 })
    }

    fn add(&mut self, name: &str, mut file: File, metadata: &fs::Metadata) -> Result<(), String> {
        let size = metadata.len();
        if size > LARGEST_FILE {
            return Err(format!("a file of an artifact has at most {} GiB", LARGEST_FILE >> 30));
        }
        let executable = metadata.mode() & 0o100 != 0;
        let modified = u64::try_from(metadata.mtime()).unwrap_or(0);
        let tar = self.tar.as_mut().ok_or("it is whole already")?;
        let entry = Entry { path: name.to_owned(), size, executable, modified };
        tar.add(&entry, &mut file).map_err(|error| error.to_string())?;
        self.files += 1;
        Ok(())
    }

    fn finish(mut self) -> io::Result<KeptArtifact> {
        let Measured { file, hash, size, .. } = self.tar.take().ok_or(io::ErrorKind::NotFound)?.finish()?;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        fs::rename(&self.place.part, &self.place.whole)?;
        File::open(&self.place.dir)?.sync_all()?;
        let digest = format!("sha256:{}", hex::encode(hash.finalize()));
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        let file = self.place.file.clone();
        Ok(KeptArtifact { files: self.files, size, digest, file })
    }
}

impl Drop for Archive<'_> {
    fn drop(&mut self) {
        // Gone by its name if it was whole.
        let _ = fs::remove_file(&self.place.part);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::api::Uid;

    const NAME: &str = "ws";

    struct World(tempfile::TempDir);

    impl World {
        fn new() -> Self {
            let world = Self(tempfile::tempdir().unwrap());
            fs::create_dir_all(world.work("")).unwrap();
            world
        }

        fn work(&self, path: &str) -> PathBuf {
            self.0.path().join("workspaces").join(NAME).join("work").join(path)
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.work(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn carry(&self, uid: &str, step: RunStep) -> StepResult {
            let key = StartKey { uid: Uid::from(uid), attempt: 1 };
            let mut result = StepResult::default();
            carry(self.0.path(), &key, &RunStep { workspace: NAME.to_owned(), ..step }, &mut result);
            result
        }

        fn keep(&self, uid: &str, path: &str) -> StepResult {
            let keep = KeptFiles { name: "dist".to_owned(), path: path.to_owned(), ..KeptFiles::default() };
            self.carry(uid, RunStep { keep: Some(keep), ..RunStep::default() })
        }

        fn fetch(&self, uid: &str, directory: &str) -> StepResult {
            let fetch = vec![FetchedArtifact { file: format!("{NAME}/{uid}"), directory: directory.to_owned() }];
            self.carry("other", RunStep { fetch, ..RunStep::default() })
        }
    }

    fn warnings(result: &StepResult) -> String {
        let told: Vec<&str> = result.annotations.iter().map(|annotation| annotation.message.as_str()).collect();
        told.join("\n")
    }

    #[test]
    fn what_was_kept_is_fetched_as_it_was_and_goes_with_its_workspace() {
        let world = World::new();
        world.write("out/a.txt", "a");
        world.write("out/deep/er/b", &"b".repeat(1000));
        world.write("out/.hidden", "h");
        fs::set_permissions(world.work("out/a.txt"), Permissions::from_mode(0o755)).unwrap();
        symlink("a.txt", world.work("out/link")).unwrap();
        let first = world.keep("one", "out");
        assert_eq!((first.fault.as_str(), first.artifact.clone().unwrap().files), ("", 3), "{first:?}");
        assert_eq!(world.keep("one", "out").artifact, first.artifact, "who comes after a crash does the same");
        world.write("back/a.txt", "older");
        assert_eq!(world.fetch("one", "back").fault, "");
        let read = |path: &str| fs::read_to_string(world.work(path)).unwrap();
        assert_eq!(
            (read("back/a.txt"), read("back/link"), read("back/deep/er/b").len()),
            ("a".into(), "a".into(), 1000)
        );
        let mode = |path: &str| world.work(path).metadata().unwrap().mode() & 0o777;
        assert_eq!((mode("back/a.txt"), mode("back/deep/er/b"), mode("back/deep")), (0o755, 0o644, 0o755));
        let (_, size) = open_artifact(world.0.path(), "ws/one").unwrap();
        assert_eq!(Some(size), first.artifact.map(|kept| kept.size.unsigned_abs()));
        world.keep("two", "out");
        remove_one(world.0.path(), "ws/one").unwrap();
        remove_one(world.0.path(), "ws/one").unwrap();
        remove_one(world.0.path(), "../ws").unwrap();
        assert!(open_artifact(world.0.path(), "ws/one").is_err() && open_artifact(world.0.path(), "ws/two").is_ok());
        remove(world.0.path(), NAME).unwrap();
        remove(world.0.path(), NAME).unwrap();
        assert_eq!(world.fetch("one", "back").fault, "the artifact went with the run that kept it");
        assert!(open_artifact(world.0.path(), "../x").is_err() && open_artifact(world.0.path(), "ws").is_err());
    }

    #[test]
    fn nothing_outside_of_the_workspace_is_kept_or_written() {
        let world = World::new();
        let secret = world.0.path().join("secret");
        fs::write(&secret, "s").unwrap();
        world.write("out/a", "a");
        symlink(&secret, world.work("out/absolute")).unwrap();
        symlink("../../../../secret", world.work("out/relative")).unwrap();
        symlink("/", world.work("out/root")).unwrap();
        symlink("nowhere", world.work("out/broken")).unwrap();
        let kept = world.keep("one", "out");
        assert_eq!(kept.artifact.as_ref().unwrap().files, 1, "{kept:?}");
        let told = warnings(&kept);
        for (name, why) in
            [("absolute", "leads out"), ("relative", "leads out"), ("root", "leads out"), ("broken", "nowhere")]
        {
            assert!(told.lines().any(|line| line.contains(name) && line.contains(why)), "{name}: {told}");
        }
        assert_eq!(warnings(&world.keep("two", "out/absolute")).lines().count(), 1);
        assert_eq!(
            warnings(&world.keep("two", "out/root/etc/passwd")),
            "no file was found with `out/root/etc/passwd`; nothing is kept"
        );

        let target = world.0.path().join("target");
        fs::create_dir(&target).unwrap();
        symlink(&target, world.work("away")).unwrap();
        assert!(world.fetch("one", "away").fault.contains("cannot fetch the artifact"));
        world.write("back/keep", "");
        symlink(&secret, world.work("back/a")).unwrap();
        assert_eq!(world.fetch("one", "back").fault, "");
        assert_eq!(fs::read_to_string(&secret).unwrap(), "s", "a link is replaced, not written through");
        assert!(fs::read_dir(target).unwrap().next().is_none());
    }

    #[test]
    fn what_is_too_large_is_refused_and_leaves_nothing() {
        let world = World::new();
        world.write("big", "");
        File::options().write(true).open(world.work("big")).unwrap().set_len(LARGEST_FILE + 1).unwrap();
        assert_eq!(world.keep("one", "big").fault, "`big`: a file of an artifact has at most 1 GiB");
        let used = world.0.path().join("artifacts/other/x");
        fs::create_dir_all(used.parent().unwrap()).unwrap();
        File::create(&used).unwrap().set_len(LARGEST_ALL - 2000).unwrap();
        world.write("small", &"x".repeat(1500));
        assert_eq!(world.keep("one", "small").fault, "`small`: all artifacts of the node have at most 16 GiB");
        fs::remove_file(used).unwrap();
        assert_eq!(world.keep("one", "small").fault, "");
        let left = fs::read_dir(world.0.path().join("artifacts/ws")).unwrap().count();
        assert_eq!(left, 1);
    }
}
