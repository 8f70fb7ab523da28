//! A disk that forgets: what the journal of `tests/powerloss/shim.c` says about a directory, and what a power loss
//! would have left of it.
//!
//! The rules are POSIX', not those of a friendly file system: bytes are safe once their file was synced, names once their
//! directory was. Of what was not synced, a power loss keeps nothing, or any part: writes in any combination,
//! names up to some point (file systems keep the order of names).

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// One record of the journal.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// `W`, `T`, `O`, `M`, `R`, `L`, `U`, `Y` from the shim; anything else is a mark of the test's own.
    pub(super) kind: u8,
    inode: u64,
    offset: i64,
    /// Bytes, a path, or the text of a mark.
    pub(super) bytes: Vec<u8>,
}

impl Record {
    /// The bytes as text.
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).expect("paths and marks are text")
    }
}

/// A mark, as the shim would write it.
pub(super) fn mark(kind: char, text: &str) -> Vec<u8> {
    format!("@{kind} 0 0 0 {}\n{text}\n", text.len()).into_bytes()
}

/// Reads a journal. A torn last record (its writer was killed) ends it.
pub(super) fn read_journal(path: &Path) -> Vec<Record> {
    let all = fs::read(path).unwrap();
    let (mut records, mut rest) = (Vec::new(), &all[..]);
    while let Some((record, after)) = parse(rest) {
        records.push(record);
        rest = after;
    }
    assert!(rest.len() < 1 << 20, "the journal is broken {} bytes before its end", rest.len());
    records
}

fn parse(text: &[u8]) -> Option<(Record, &[u8])> {
    let end = text.iter().position(|b| *b == b'\n')?;
    let head = std::str::from_utf8(&text[..end]).ok()?.strip_prefix('@')?;
    let words: Vec<_> = head.split(' ').collect();
    let [kind, inode, offset, _, length] = words[..] else { return None };
    let length: usize = length.parse().ok()?;
    let bytes = text.get(end + 1..end + 1 + length)?.to_vec();
    let rest = text.get(end + 1 + length..)?.strip_prefix(b"\n")?;
    let record = Record { kind: kind.as_bytes()[0], inode: inode.parse().ok()?, offset: offset.parse().ok()?, bytes };
    Some((record, rest))
}

#[derive(Clone, Debug)]
enum FileOp {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

#[derive(Clone, Debug)]
enum NameOp {
    Add(String, usize),
    Remove(String),
    Move(String, String),
}

#[derive(Clone, Debug)]
enum Node {
    File { durable: Vec<u8>, pending: Vec<FileOp> },
    Directory { durable: BTreeMap<String, usize>, pending: Vec<NameOp>, live: BTreeMap<String, usize> },
}

/// The files of a directory tree, by path relative to its root.
pub(super) type Image = BTreeMap<PathBuf, Vec<u8>>;

/// The directory, as it is and as it is on the platters.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    root: PathBuf,
    nodes: Vec<Node>,
    inodes: HashMap<u64, usize>,
}

impl Disk {
    /// The directory as it stands now, all of it safe. It may be absent.
    pub(super) fn read(root: &Path) -> Self {
        let empty = Node::Directory { durable: BTreeMap::new(), pending: Vec::new(), live: BTreeMap::new() };
        let mut disk = Self { root: root.to_owned(), nodes: vec![empty], inodes: HashMap::new() };
        if root.exists() {
            disk.read_directory(root, 0);
        }
        disk
    }

    fn read_directory(&mut self, path: &Path, node: usize) {
        self.inodes.insert(fs::metadata(path).unwrap().ino(), node);
        let mut names = BTreeMap::new();
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            let (name, kind) = (entry.file_name().into_string().unwrap(), entry.file_type().unwrap());
            if kind.is_dir() {
                let child = self.add_directory();
                self.read_directory(&entry.path(), child);
                names.insert(name, child);
            } else if kind.is_file() {
                let child = self.nodes.len();
                self.nodes.push(Node::File { durable: fs::read(entry.path()).unwrap(), pending: Vec::new() });
                self.inodes.insert(entry.metadata().unwrap().ino(), child);
                names.insert(name, child);
            }
        }
        let durable = names.clone();
        self.nodes[node] = Node::Directory { durable, pending: Vec::new(), live: names };
    }

    fn add_directory(&mut self) -> usize {
        self.nodes.push(Node::Directory { durable: BTreeMap::new(), pending: Vec::new(), live: BTreeMap::new() });
        self.nodes.len() - 1
    }

    /// Does what a record says. With `syncs` false, a sync does nothing: the disk lies.
    pub(super) fn play(&mut self, record: &Record, syncs: bool) {
        match record.kind {
            b'W' => self.change(record, FileOp::Write(record.offset as usize, record.bytes.clone())),
            b'T' => self.change(record, FileOp::Truncate(record.offset as usize)),
            b'O' => {
                let node = self.nodes.len();
                self.nodes.push(Node::File { durable: Vec::new(), pending: Vec::new() });
                self.inodes.insert(record.inode, node);
                self.name(record.text(), node);
            }
            b'M' if Path::new(record.text()) == self.root => drop(self.inodes.insert(record.inode, 0)),
            b'M' => {
                let node = self.add_directory();
                self.inodes.insert(record.inode, node);
                self.name(record.text(), node);
            }
            b'R' => self.rename(record.text()),
            b'L' => {
                let (from, to) = record.text().split_once('\t').unwrap();
                if let Some(node) = self.find(Path::new(from)) {
                    self.name(to, node);
                }
            }
            b'U' => {
                let (directory, name) = self.place(record.text());
                self.rename_in(directory, NameOp::Remove(name));
            }
            b'Y' if syncs => self.sync(record.inode),
            _ => {}
        }
    }

    fn change(&mut self, record: &Record, op: FileOp) {
        let node = self.inodes.get(&record.inode).unwrap_or_else(|| panic!("a write to an unknown file: {record:?}"));
        let Node::File { pending, .. } = &mut self.nodes[*node] else { panic!("a write to a directory") };
        pending.push(op);
    }

    fn sync(&mut self, inode: u64) {
        let node = self.inodes.get(&inode).unwrap_or_else(|| panic!("a sync of the unknown inode {inode}"));
        match &mut self.nodes[*node] {
            Node::File { durable, pending } => pending.drain(..).for_each(|op| apply(durable, &op)),
            Node::Directory { durable, pending, .. } => pending.drain(..).for_each(|op| apply_name(durable, &op)),
        }
    }

    fn name(&mut self, path: &str, node: usize) {
        let (directory, name) = self.place(path);
        self.rename_in(directory, NameOp::Add(name, node));
    }

    fn rename(&mut self, both: &str) {
        let (from, to) = both.split_once('\t').unwrap();
        let ((from_directory, from_name), (to_directory, to_name)) = (self.place(from), self.place(to));
        if from_directory == to_directory {
            return self.rename_in(from_directory, NameOp::Move(from_name, to_name));
        }
        let Some(node) = self.find(Path::new(from)) else { return };
        self.rename_in(to_directory, NameOp::Add(to_name, node));
        self.rename_in(from_directory, NameOp::Remove(from_name));
    }

    fn rename_in(&mut self, directory: usize, op: NameOp) {
        let Node::Directory { pending, live, .. } = &mut self.nodes[directory] else { panic!("no directory") };
        apply_name(live, &op);
        pending.push(op);
    }

    /// The directory and the last name of a path.
    fn place(&self, path: &str) -> (usize, String) {
        let path = Path::new(path);
        let directory = self.find(path.parent().unwrap()).unwrap_or_else(|| panic!("no directory for {path:?}"));
        (directory, path.file_name().unwrap().to_str().unwrap().to_owned())
    }

    fn find(&self, path: &Path) -> Option<usize> {
        let inside = path.strip_prefix(&self.root).unwrap();
        inside.components().try_fold(0, |node, name| match &self.nodes[node] {
            Node::Directory { live, .. } => live.get(name.as_os_str().to_str()?).copied(),
            Node::File { .. } => None,
        })
    }

    /// The directory as a running program sees it.
    pub(super) fn live(&self) -> Image {
        let mut image = Image::new();
        self.collect(0, Path::new(""), &mut image, &mut |_| true);
        image
    }

    /// What a power loss leaves now. `keep` is asked of everything that was not synced.
    pub(super) fn after_power_loss(&self, keep: &mut dyn FnMut() -> bool) -> Image {
        let mut image = Image::new();
        self.collect(0, Path::new(""), &mut image, &mut |_| keep());
        image
    }

    fn collect(&self, node: usize, path: &Path, image: &mut Image, keep: &mut dyn FnMut(&Path) -> bool) {
        match &self.nodes[node] {
            Node::File { durable, pending } => {
                let mut bytes = durable.clone();
                pending.iter().filter(|_| keep(path)).for_each(|op| apply(&mut bytes, op));
                image.insert(path.to_owned(), bytes);
            }
            Node::Directory { durable, pending, .. } => {
                let mut names = durable.clone();
                pending.iter().take_while(|_| keep(path)).for_each(|op| apply_name(&mut names, op));
                names.iter().for_each(|(name, node)| self.collect(*node, &path.join(name), image, keep));
            }
        }
    }
}

fn apply(bytes: &mut Vec<u8>, op: &FileOp) {
    match op {
        FileOp::Truncate(size) => bytes.resize(*size, 0),
        FileOp::Write(offset, new) => {
            let end = offset + new.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*offset..end].copy_from_slice(new);
        }
    }
}

fn apply_name(names: &mut BTreeMap<String, usize>, op: &NameOp) {
    match op {
        NameOp::Add(name, node) => drop(names.insert(name.clone(), *node)),
        NameOp::Remove(name) => drop(names.remove(name)),
        NameOp::Move(from, to) => {
            if let Some(node) = names.remove(from) {
                names.insert(to.clone(), node);
            }
        }
    }
}

/// Puts an image where a directory was.
pub(super) fn write_image(root: &Path, image: &Image) {
    if root.exists() {
        fs::remove_dir_all(root).unwrap();
    }
    let private = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    fs::create_dir(root).unwrap();
    private(root, 0o700);
    for (path, bytes) in image {
        let path = root.join(path);
        let missing: Vec<_> = path.ancestors().skip(1).take_while(|p| !p.exists()).map(Path::to_owned).collect();
        for directory in missing.iter().rev() {
            fs::create_dir(directory).unwrap();
            private(directory, 0o700);
        }
        fs::write(&path, bytes).unwrap();
        private(&path, 0o600);
    }
}
