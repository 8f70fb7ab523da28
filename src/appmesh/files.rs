//! Files up and down, below one directory and nowhere else.
//!
//! The kernel resolves every path (openat2): nothing leads out of the directory, no `..` and no absolute path, and no symbolic link is followed,
//! whoever changes what meanwhile. What comes up has no name before it is whole, so whatever is killed leaves nothing; nothing that is there is replaced. Where the file system
//! has no files without names, it is written beside its place, and what a server that was killed has left there goes with the next attempt.

use std::{
    ffi::{OsStr, OsString},
    fs::{File, Metadata},
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::{Component, Path, PathBuf},
};

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use nix::unistd::{Group, User};
use rustix::{
    fs::{Dir, FlockOperation, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Uid},
    io::Errno,
};

use super::{Call, Content, NAMESPACE, Reply, Route, Sdk, multipart::Multipart, permission};
use crate::{
    api::{GROUP, Reason, Status},
    auth::{self, Identity, May},
    client::http::percent_decode,
    clock,
    drivers::file_pieces,
    policy::powers,
};

/// The longest file.
pub const LARGEST_FILE: u64 = 4 << 30;
const PATH: &str = "x-file-path";

/// What comes up, piece by piece.
pub type Upload = BoxStream<'static, Result<Bytes, Status>>;

/// The directory.
#[derive(Debug)]
struct Files {
    root: PathBuf,
    dir: OwnedFd,
}

impl Files {
    /// Opens the directory, which is made if it is not there.
    fn open(root: &Path) -> io::Result<Self> {
        if !root.is_dir() {
            std::fs::create_dir_all(root)?;
            std::fs::set_permissions(root, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        }
        let root = root.canonicalize()?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(&root, flags, Mode::empty())?;
        Ok(Self { root, dir })
    }

    /// A path of a client, below the directory: it says it from there on, or whole.
    fn below(&self, path: &str) -> Result<PathBuf, Status> {
        let outside = || {
            let message = format!("`{path}` is not below the directory for files, `{}`", self.root.display());
            Status::new(Reason::Forbidden, message)
        };
        if path.is_empty() || path.contains('\0') {
            return Err(Status::bad_request("the header X-File-Path does not name a file"));
        }
        let path = Path::new(path);
        let path = if path.is_absolute() { path.strip_prefix(&self.root).map_err(|_| outside())? } else { path };
        let steps = path.components().filter(|step| *step != Component::CurDir);
        let plain: PathBuf = steps.clone().collect();
        if steps.clone().any(|step| !matches!(step, Component::Normal(_))) {
            return Err(outside());
        }
        if plain.file_name().is_none() {
            return Err(Status::bad_request("the header X-File-Path does not name a file"));
        }
        Ok(plain)
    }

    fn at(&self, below: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.dir, below, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
    }

    fn read(&self, path: &str) -> Result<(File, Metadata), Status> {
        let below = self.below(path)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(self.at(&below, flags).map_err(|errno| refused(errno, path))?);
        let metadata = file.metadata().map_err(|_| Status::internal("the file cannot be looked at"))?;
        match metadata.is_file() {
            true => Ok((file, metadata)),
            false => Err(Status::bad_request(format!("`{path}` is no file"))),
        }
    }

    /// A file that gets its name when it is whole.
    fn create(&self, path: &str, suffix: &str) -> Result<Part, Status> {
        let below = self.below(path)?;
        let name = below.file_name().expect("looked at above").to_owned();
        let parent = below.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let dir = self.at(parent, OFlags::PATH | OFlags::DIRECTORY).map_err(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR => {
                let message =
                    format!("there is no directory `{}` below that for files: none is made", parent.display());
                Status::new(Reason::NotFound, message)
            }
            errno => refused(errno, path),
        })?;
        if rustix::fs::statat(&dir, &name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Err(there());
        }
        let (flags, mode) = (OFlags::WRONLY | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR);
        let (file, part) = match rustix::fs::openat(&dir, ".", flags | OFlags::TMPFILE, mode) {
            // What file systems and kernels say that have none.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let (file, part) = beside(&dir, &name, suffix).map_err(|errno| refused(errno, path))?;
                (file, Some(part))
            }
            made => (made.map_err(|errno| refused(errno, path))?, None),
        };
        Ok(Part { dir, name, part, file: File::from(file), length: 0, is_whole: false })
    }
}

/// A file that must have a name: one beside its place, locked as long as somebody writes to it. What a server that was killed has left there of the
/// same file goes.
fn beside(dir: &OwnedFd, name: &OsStr, suffix: &str) -> Result<(OwnedFd, OsString), Errno> {
    let mut part = OsString::from(".");
    part.push(name);
    part.push(format!(".{suffix}.part"));
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    loop {
        sweep(dir, name)?;
        let file = rustix::fs::openat(dir, &part, flags, Mode::RUSR | Mode::WUSR)?;
        let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
        // Somebody else may have swept it away before it was locked.
        if locked != Err(Errno::WOULDBLOCK) && rustix::fs::fstat(&file)?.st_nlink > 0 {
            return Ok((file, part));
        }
    }
}

/// Removes what was written of a file by nobody who is still there.
fn sweep(dir: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    for entry in Dir::new(rustix::fs::openat(dir, ".", flags | OFlags::DIRECTORY, Mode::empty())?)? {
        let entry = entry?;
        let found = entry.file_name();
        let suffix = found.to_bytes().strip_prefix(b".").and_then(|rest| rest.strip_prefix(name.as_bytes()));
        let suffix = suffix.and_then(|rest| rest.strip_prefix(b".")?.strip_suffix(b".part"));
        if suffix.is_none_or(|suffix| suffix.is_empty() || !suffix.iter().all(u8::is_ascii_alphanumeric)) {
            continue;
        }
        let left = rustix::fs::openat(dir, found, flags | OFlags::NOFOLLOW | OFlags::NONBLOCK, Mode::empty());
        let Ok(left) = left else { continue };
        if rustix::fs::flock(&left, FlockOperation::NonBlockingLockExclusive).is_ok() {
            // Somebody may have removed it.
            let _ = rustix::fs::unlinkat(dir, found, rustix::fs::AtFlags::empty());
        }
    }
    Ok(())
}

fn there() -> Status {
    Status::new(Reason::Forbidden, "file already exist")
}

fn refused(errno: Errno, path: &str) -> Status {
    match errno {
        Errno::NOENT | Errno::NOTDIR => Status::new(Reason::NotFound, format!("file not found: `{path}`")),
        Errno::LOOP | Errno::XDEV | Errno::ACCESS | Errno::PERM => {
            Status::new(Reason::Forbidden, format!("`{path}` cannot be reached below the directory for files"))
        }
        Errno::EXIST => there(),
        other => {
            tracing::warn!(error = %io::Error::from(other), path, "a file cannot be used");
            Status::internal("the file cannot be used")
        }
    }
}

/// A file that is not whole yet. It goes if it never is.
#[derive(Debug)]
struct Part {
    dir: OwnedFd,
    name: OsString,
    /// What it is called until then, if it must have a name.
    part: Option<OsString>,
    file: File,
    length: u64,
    is_whole: bool,
}

impl Part {
    fn add(mut self, piece: &Bytes) -> Result<Self, Status> {
        self.length += piece.len() as u64;
        if self.length > LARGEST_FILE {
            return Err(Status::too_large(format!("a file has at most {LARGEST_FILE} bytes")));
        }
        self.file.write_all(piece).map_err(|error| {
            tracing::warn!(%error, "a file cannot be written");
            Status::internal("the file cannot be written")
        })?;
        Ok(self)
    }

    /// Gives it its name, unless there is one of that name.
    fn name(&self) -> Result<(), Errno> {
        match &self.part {
            Some(part) => rustix::fs::renameat_with(&self.dir, part, &self.dir, &self.name, RenameFlags::NOREPLACE),
            None => {
                let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                rustix::fs::linkat(rustix::fs::CWD, own, &self.dir, &self.name, rustix::fs::AtFlags::SYMLINK_FOLLOW)
            }
        }
    }

    /// Makes it what it is to be.
    fn finish(mut self, attributes: &Attributes) -> Result<(), Status> {
        // What whoever runs the server may not set stays its own.
        let owner = attributes.user.map(Uid::from_raw);
        let group = attributes.group.map(Gid::from_raw);
        let _ = rustix::fs::fchown(self.file.as_fd(), owner, group);
        let mode = Mode::from_raw_mode(attributes.mode.unwrap_or(0o644));
        let named = rustix::fs::fchmod(self.file.as_fd(), mode)
            .and_then(|()| rustix::fs::fsync(self.file.as_fd()))
            .and_then(|()| self.name());
        named.map_err(|errno| refused(errno, &self.name.to_string_lossy()))?;
        self.is_whole = true;
        // Its name is on the disk before anybody is told that it has it.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.dir, ".", flags, Mode::empty()).and_then(rustix::fs::fsync) {
            // A directory that may be written and not read is synced by nobody.
            Ok(()) | Err(Errno::ACCESS) => Ok(()),
            Err(errno) => {
                tracing::warn!(error = %io::Error::from(errno), "the directory of a file cannot be synced");
                Err(Status::internal("the file cannot be used"))
            }
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(part) = self.part.as_ref().filter(|_| !self.is_whole) {
            // Somebody may have removed it.
            let _ = rustix::fs::unlinkat(&self.dir, part, rustix::fs::AtFlags::empty());
        }
    }
}

/// What a client wants a file to be.
#[derive(Debug, Default, PartialEq, Eq)]
struct Attributes {
    mode: Option<u32>,
    user: Option<u32>,
    group: Option<u32>,
}

impl Attributes {
    fn of(call: &Call) -> Self {
        let named = |header: &str, find: &dyn Fn(&str) -> Option<u32>| match call.header(header) {
            "" => None,
            text => text.parse().ok().or_else(|| find(text)),
        };
        let user = |name: &str| Some(User::from_name(name).ok()??.uid.as_raw());
        let group = |name: &str| Some(Group::from_name(name).ok()??.gid.as_raw());
        let mode = call.header("x-file-mode").parse::<u32>().ok().map(|mode| mode & 0o777);
        Self { mode, user: named("x-file-user", &user), group: named("x-file-group", &group) }
    }
}

impl Sdk {
    pub(super) async fn download(&self, who: &Identity, call: &Call) -> Result<Reply, Status> {
        self.admission.authority().must(who, &permission::attributes("get", "/appmesh/file"))?;
        let path = call.header(PATH).to_owned();
        let root = self.here.files.clone();
        let found = blocking(move || {
            let files = opened(&root)?;
            match files.read(&path) {
                // Newer clients write it as in a URL.
                Err(status) if status.is(Reason::NotFound) && unquoted(&path) != path => files.read(&unquoted(&path)),
                found => found,
            }
        });
        let (file, metadata) = found.await?;
        let length = metadata.len();
        let content = Content::Stream { length, pieces: file_pieces(file, length) };
        Ok(Reply { content, ..Reply::empty(200) }
            .with("content-disposition", "attachment")
            .with("x-file-mode", (metadata.mode() & 0o777).to_string())
            .with("x-file-user", metadata.uid().to_string())
            .with("x-file-group", metadata.gid().to_string()))
    }

    /// What of these they may give a file: the owner that their processes have, and those whom they have a host power for. Any other one is passed
    /// over, as one is that whoever runs the server may not set: clients send along what the file was on their machine.
    fn permitted(&self, who: &Identity, wanted: Attributes) -> Attributes {
        let authority = self.admission.authority();
        let runs_as = authority.exec_user(&who.name).and_then(|name| User::from_name(&name).ok()?);
        let may_use = |power: String| {
            let what = auth::Attributes {
                verb: "use",
                group: GROUP,
                resource: powers::RESOURCE,
                namespace: NAMESPACE,
                name: &power,
                ..auth::Attributes::default()
            };
            matches!(authority.may(who, &what), Ok(May::Always))
        };
        let user = wanted.user.filter(|user| {
            let named = User::from_uid((*user).into()).ok().flatten().map_or(user.to_string(), |user| user.name);
            runs_as.as_ref().is_some_and(|own| own.uid.as_raw() == *user) || may_use(format!("user:{named}"))
        });
        let group = wanted.group.filter(|group| {
            let named = Group::from_gid((*group).into()).ok().flatten().map_or(group.to_string(), |group| group.name);
            runs_as.as_ref().is_some_and(|own| own.gid.as_raw() == *group) || may_use(format!("group:{named}"))
        });
        Attributes { user, group, ..wanted }
    }

    /// Whether a file would come down, or be taken in: asked by clients whose transport has other ways for the file itself. What it is like is in
    /// the reply's headers.
    ///
    /// # Errors
    /// See [`Reply::refusal`].
    pub async fn would_send(&self, route: &Route, who: &Identity, call: &Call) -> Result<Reply, Status> {
        if *route == Route::Download {
            return Ok(Reply { content: Content::Nothing, ..self.download(who, call).await? });
        }
        self.may_upload(who)?;
        let path = unquoted(call.header(PATH));
        let (root, suffix) = (self.here.files.clone(), clock::name_suffix(&*self.clock));
        blocking(move || opened(&root)?.create(&path, &suffix).map(drop)).await?;
        Ok(Reply::empty(200))
    }

    fn may_upload(&self, who: &Identity) -> Result<(), Status> {
        self.admission.authority().must(who, &permission::attributes("post", "/appmesh/file"))
    }

    /// Takes a file in, and says by `ready` when it may come.
    ///
    /// # Errors
    /// See [`Reply::refusal`]; nothing is left of it then.
    pub async fn upload(
        &self,
        who: &Identity,
        call: &Call,
        mut upload: Upload,
        ready: impl FnOnce() + Send,
    ) -> Result<Reply, Status> {
        self.may_upload(who)?;
        let mut form = Multipart::of(call.header("content-type")).map_err(Status::bad_request)?;
        let path = unquoted(call.header(PATH));
        let (root, suffix) = (self.here.files.clone(), clock::name_suffix(&*self.clock));
        let mut part = blocking(move || opened(&root)?.create(&path, &suffix)).await?;
        ready();
        while let Some(piece) = upload.next().await {
            let piece = piece?;
            let pieces = match &mut form {
                None => vec![piece],
                Some(form) => form.push(&piece).map_err(Status::bad_request)?,
            };
            part = blocking(move || pieces.iter().try_fold(part, Part::add)).await?;
        }
        if form.is_some_and(|form| !form.is_whole()) {
            return Err(Status::bad_request("the form has no part `file`, or breaks off in it"));
        }
        let attributes = self.permitted(who, Attributes::of(call));
        blocking(move || part.finish(&attributes)).await?;
        Ok(Reply::empty(200))
    }
}

/// A path as clients write it: newer ones as in a URL.
fn unquoted(path: &str) -> String {
    percent_decode(path, false).into_owned()
}

fn opened(root: &Path) -> Result<Files, Status> {
    Files::open(root).map_err(|error| {
        tracing::error!(%error, root = %root.display(), "the directory for files cannot be used");
        Status::internal("the directory for files cannot be used")
    })
}

/// Files block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Status> + Send + 'static) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Status::internal("the work on a file broke off")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> (tempfile::TempDir, Files) {
        let dir = tempfile::tempdir().expect("a directory");
        let files = Files::open(&dir.path().join("files")).expect("opened");
        (dir, files)
    }

    fn put(files: &Files, path: &str, text: &'static str) -> Result<(), Status> {
        let part = files.create(path, "x")?.add(&Bytes::from_static(text.as_bytes()))?;
        part.finish(&Attributes { mode: Some(0o640), ..Attributes::default() })
    }

    fn code(result: Result<impl Sized, Status>) -> u16 {
        result.err().map_or(200, |status| status.reason.code())
    }

    #[test]
    fn nothing_leads_out_of_the_directory() {
        let (dir, files) = directory();
        std::fs::write(dir.path().join("secret"), "secret").expect("written");
        std::fs::create_dir(files.root.join("sub")).expect("made");
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, files.root.join(name)).expect("linked");
        link("..", "up");
        link("../secret", "out");
        link("/etc", "etc");
        link("sub", "inside");
        std::fs::write(files.root.join("sub/there"), "there").expect("written");
        let absolute = dir.path().join("secret").display().to_string();
        for path in [
            "../secret",
            "sub/../../secret",
            "/etc/passwd",
            &absolute,
            "up/secret",
            "out",
            "etc/passwd",
            "inside/there",
        ] {
            assert_eq!(code(files.read(path)), 403, "{path}");
        }
        for path in ["../new", "/tmp/new", "up/new", "etc/new", "inside/new", "out"] {
            assert_eq!(code(put(&files, path, "x")), 403, "{path}");
        }
        for path in ["", ".", "a\0b"] {
            assert_eq!(code(files.read(path)), 400, "{path}");
        }
        assert_eq!(
            (code(files.read("sub")), code(files.read("absent")), code(put(&files, "no/dir", "x"))),
            (400, 404, 404)
        );
        assert!(!dir.path().join("new").exists());
    }

    #[test]
    fn a_file_has_its_name_when_it_is_whole_and_replaces_nothing() {
        let (_dir, files) = directory();
        assert_eq!(code(put(&files, "a b", "text")), 200);
        let whole = files.root.join("a b");
        let metadata = std::fs::metadata(&whole).expect("there");
        assert_eq!((metadata.len(), metadata.mode() & 0o777), (4, 0o640));
        assert_eq!((code(put(&files, "a b", "other")), code(files.read(&whole.display().to_string()))), (403, 200));
        let part = files.create("half", "y").expect("made").add(&Bytes::from_static(b"half")).expect("written");
        // Somebody was faster.
        std::fs::write(files.root.join("half"), "mine").expect("written");
        assert_eq!(code(part.finish(&Attributes::default())), 403);
        drop(files.create("never", "z").expect("made"));
        let mut names: Vec<_> =
            std::fs::read_dir(&files.root).expect("read").map(|e| e.expect("one").file_name()).collect();
        names.sort();
        assert_eq!(names, ["a b", "half"]);
    }

    #[test]
    fn where_files_must_have_names_what_nobody_writes_to_any_more_goes_with_the_next_attempt() {
        let (_dir, files) = directory();
        let names = || {
            let all = std::fs::read_dir(&files.root).expect("read").map(|entry| entry.expect("one").file_name());
            let mut names: Vec<_> = all.map(|name| name.into_string().expect("text")).collect();
            names.sort();
            names
        };
        for left in [".a.b.dead1.part", ".a.b..part", ".a.b.c.d.part", ".other.dead2.part", "a.b.dead3.part"] {
            std::fs::write(files.root.join(left), "half").expect("written");
        }
        let (name, others) =
            (OsStr::new("a.b"), [".a.b..part", ".a.b.c.d.part", ".other.dead2.part", "a.b.dead3.part"]);
        let (first, part) = beside(&files.dir, name, "x1").expect("made");
        let (second, _) = beside(&files.dir, name, "x2").expect("made");
        assert_eq!(part, ".a.b.x1.part");
        let mut expected = [&[".a.b.x1.part", ".a.b.x2.part"][..], &others].concat();
        expected.sort_unstable();
        assert_eq!(names(), expected, "both are written to");
        drop((first, second));
        let _third = beside(&files.dir, name, "x3").expect("made");
        let mut expected = [&[".a.b.x3.part"][..], &others].concat();
        expected.sort_unstable();
        assert_eq!(names(), expected);
    }

    #[test]
    fn paths_are_written_as_in_a_url() {
        assert_eq!(unquoted("/a%20b/%C3%A9%"), "/a b/é%");
        assert_eq!(unquoted("%ff"), "%ff");
    }
}
