//! Files that a process finds when it starts: entries of ConfigMaps and Secrets.
//!
//! They are written by the child itself, between its release and its program: as the process's own user, from its working
//! directory on. So nothing can be written that the user may not write; and as no step of the way follows a symbolic
//! link, nobody who may write on the way (the process of the attempt before, say) can turn root's hand elsewhere.
//! Each is written beside its place and renamed into it: a reader sees the old one or the new one.
//! Of a secret only a link is put into its place; the file itself stays in memory (see [`mod@super::memory`]).

use std::{
    ffi::{CStr, CString},
    os::fd::OwnedFd,
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, fchmod, mkdirat, openat, renameat, symlinkat, unlinkat},
    io::{Errno, write},
};

use crate::drivers::{StartFile, StartKey};

/// A file, in the form in which system calls want it.
#[derive(Debug)]
pub(super) struct PreparedFile {
    from: &'static CStr,
    /// The directories on the way; made if they are missing.
    dirs: Vec<CString>,
    name: CString,
    /// Under which it is written at first; of this Instance alone, since several may share a working directory.
    temporary: CString,
    mode: Mode,
    content: Vec<u8>,
    memory: Option<InMemory>,
}

/// Where the content of a secret file lies.
#[derive(Debug)]
struct InMemory {
    dir: CString,
    name: CString,
    /// Both together: what the link says.
    path: CString,
}

impl InMemory {
    fn new(dir: &CStr, index: usize) -> Option<InMemory> {
        let path = CString::new(format!("{}/{index}", dir.to_str().ok()?)).ok()?;
        Some(InMemory { dir: dir.to_owned(), name: CString::new(index.to_string()).ok()?, path })
    }
}

/// All files of a start; the secret ones in that directory in memory, if there is one.
pub(super) fn prepare_all(
    key: &StartKey,
    files: &[StartFile],
    memory: Option<&CStr>,
) -> Result<Vec<PreparedFile>, String> {
    let all = files.iter().enumerate().map(|(index, file)| {
        let memory = memory.filter(|_| file.secret).and_then(|dir| InMemory::new(dir, index));
        Ok(PreparedFile { memory, ..prepare(key, index, file)? })
    });
    all.collect()
}

/// Everything but the system calls. The error is a sentence for the manifest's author.
fn prepare(key: &StartKey, index: usize, file: &StartFile) -> Result<PreparedFile, String> {
    let wrong = |why: &str| format!("spec.files: `{}` {why}", file.path.replace('\0', "␀"));
    let (from, path) = match file.path.strip_prefix('/') {
        Some(path) => (c"/", path),
        None => (c".", file.path.as_str()),
    };
    let words = path.split('/').filter(|word| !word.is_empty() && *word != ".");
    let mut dirs =
        words.map(CString::new).collect::<Result<Vec<_>, _>>().map_err(|_| wrong("holds a NUL character"))?;
    if dirs.iter().any(|word| word.as_c_str() == c"..") {
        return Err(wrong("leads out of its directory by `..`"));
    }
    let name = dirs.pop().filter(|_| !path.ends_with('/')).ok_or_else(|| wrong("is not the name of a file"))?;
    let content = file.content.bytes().ok_or_else(|| wrong("has a content that is not in base64"))?;
    let temporary = CString::new(format!(".appm-{}-{index}", key.uid)).map_err(|_| wrong("cannot be written"))?;
    Ok(PreparedFile { from, dirs, name, temporary, mode: Mode::from_raw_mode(file.mode), content, memory: None })
}

/// Writes the file. Nothing but system calls, on memory prepared before: called between fork and exec.
pub(super) fn put(file: &PreparedFile) -> Result<(), Errno> {
    let dir = enter(file)?;
    // Left by a child that was killed while it wrote.
    let _ = unlinkat(&dir, &file.temporary, AtFlags::empty());
    let made = match &file.memory {
        None => fill(&dir, file),
        Some(memory) => remember(memory, file).and_then(|()| symlinkat(&memory.path, &dir, &file.temporary)),
    };
    let done = made.and_then(|()| renameat(&dir, &file.temporary, &dir, &file.name));
    if done.is_err() {
        let _ = unlinkat(&dir, &file.temporary, AtFlags::empty());
    }
    done
}

/// The directory that the file belongs into, step by step.
fn enter(file: &PreparedFile) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut dir = openat(CWD, file.from, flags, Mode::empty())?;
    for word in &file.dirs {
        dir = match openat(&dir, word, flags, Mode::empty()) {
            Err(Errno::NOENT) => {
                match mkdirat(&dir, word, Mode::from_raw_mode(0o777)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(e) => return Err(e),
                }
                openat(&dir, word, flags, Mode::empty())?
            }
            outcome => outcome?,
        };
    }
    Ok(dir)
}

/// Writes the content into memory.
fn remember(memory: &InMemory, file: &PreparedFile) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = openat(CWD, &memory.dir, flags, Mode::empty())?;
    let _ = unlinkat(&dir, &file.temporary, AtFlags::empty());
    let done = fill(&dir, file).and_then(|()| renameat(&dir, &file.temporary, &dir, &memory.name));
    if done.is_err() {
        let _ = unlinkat(&dir, &file.temporary, AtFlags::empty());
    }
    done
}

fn fill(dir: &OwnedFd, file: &PreparedFile) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let new = openat(dir, &file.temporary, flags, Mode::from_raw_mode(0o600))?;
    // Whatever the umask says.
    fchmod(&new, file.mode)?;
    let mut rest = file.content.as_slice();
    while !rest.is_empty() {
        match write(&new, rest) {
            Ok(length) => rest = &rest[length..],
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Why a file could not be written, for the manifest's author.
pub(super) fn explain(path: &str, errno: i32, why: &str) -> String {
    match Errno::from_raw_os_error(errno) {
        Errno::NOTDIR | Errno::LOOP => {
            format!(
                "spec.files: `{path}` cannot be written: a part of the way is not a directory (links are not followed)"
            )
        }
        _ => format!("spec.files: `{path}` cannot be written: {why}"),
    }
}
