//! A running appm in a temporary directory: the real binary, spoken to over its Unix socket, killed at will.
//!
//! Whatever was started under a [`World`] is ended with it: every process whose command line, environment or working
//! directory names the world's directory. Waits are bounded and look at levels, never at events.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a level.
const LOOK: Duration = Duration::from_millis(10);

/// Every file below a directory that contains one of the texts.
pub(crate) fn files_with(dir: &Path, texts: &[&str], found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap().filter_map(Result::ok) {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files_with(&path, texts, found);
        } else if kind.is_file() {
            let bytes = fs::read(&path).unwrap_or_default();
            if texts.iter().any(|text| bytes.windows(text.len()).any(|w| w == text.as_bytes())) {
                found.push(path.display().to_string());
            }
        }
    }
}

/// Looks until `look` finds something; panics with the last thing `look` said when patience ends.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if Instant::now() > deadline => panic!("gave up waiting for {what}: {seen}"),
            Err(_) => thread::sleep(LOOK),
        }
    }
}

/// The pause between two looks at a level that nobody announces.
pub(crate) fn look_away() {
    thread::sleep(LOOK);
}

/// A temporary directory with an appm in it.
pub(crate) struct World {
    root: tempfile::TempDir,
    server: Option<Child>,
    env: Vec<(String, String)>,
}

impl World {
    /// An empty directory; nothing runs yet.
    pub(crate) fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap(), server: None, env: Vec::new() }
    }

    /// Sets a variable in the environment of servers started from now on.
    pub(crate) fn set_env(&mut self, name: &str, value: impl Into<String>) {
        self.env.retain(|(n, _)| n != name);
        self.env.push((name.to_owned(), value.into()));
    }

    /// Leaves a variable out of the environment of servers started from now on.
    pub(crate) fn unset_env(&mut self, name: &str) {
        self.env.retain(|(n, _)| n != name);
    }

    /// The directory that holds everything, the data directory included.
    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.root().join("data")
    }

    /// A client of the Unix socket.
    pub(crate) fn api(&self) -> Api {
        Api { socket: self.data().join("appm.sock") }
    }

    /// Starts a server and does not wait for it. The receiver gets the lines of its standard output.
    pub(crate) fn spawn(&mut self) -> mpsc::Receiver<String> {
        self.spawn_through(&[])
    }

    /// Starts a server by a program that becomes it, and waits for its `ready` line.
    pub(crate) fn start_through(&mut self, program: &[&str]) -> String {
        let lines = self.spawn_through(program);
        self.await_ready(&lines)
    }

    fn spawn_through(&mut self, program: &[&str]) -> mpsc::Receiver<String> {
        assert!(self.server.is_none(), "one server at a time");
        let err = OpenOptions::new().create(true).append(true).open(self.root().join("server.err")).unwrap();
        let mut words = program.iter().chain(&[env!("CARGO_BIN_EXE_appm")]);
        let mut child = Command::new(words.next().expect("one is there"))
            .args(words)
            .args(["server", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(self.data())
            .envs(self.env.iter().map(|(n, v)| (n, v)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(err)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        self.server = Some(child);
        let (tell, told) = mpsc::channel();
        thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(tell.send(line))));
        told
    }

    /// Starts a server and waits for its `ready` line. Returns the address.
    pub(crate) fn start(&mut self) -> String {
        let lines = self.spawn();
        self.await_ready(&lines)
    }

    /// Waits for the `ready` line of a server that was [spawned](Self::spawn).
    pub(crate) fn await_ready(&self, lines: &mpsc::Receiver<String>) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some(address) = line.strip_prefix("ready ") {
                        return address.to_owned();
                    }
                }
                Err(error) => panic!("the server did not become ready ({error}); it said:\n{}", self.stderr()),
            }
        }
    }

    /// What servers of this world have written to their standard error.
    pub(crate) fn stderr(&self) -> String {
        fs::read(self.root().join("server.err")).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    /// `kill -9` of the server, which is then gone.
    pub(crate) fn kill_server(&mut self) {
        let mut server = self.server.take().expect("a server runs");
        server.kill().unwrap();
        server.wait().unwrap();
    }

    /// SIGTERM to the server; waits until it is gone and returns its exit code.
    pub(crate) fn terminate_server(&mut self) -> Option<i32> {
        let mut server = self.server.take().expect("a server runs");
        signal(server.id(), Signal::SIGTERM);
        let status = wait_for("the server to end", || server.try_wait().unwrap().ok_or_else(|| "runs".to_owned()));
        status.code()
    }

    /// Runs `appm ARGS` against this world's server, in the project's directory.
    pub(crate) fn command(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_appm"));
        command.arg("--data-dir").arg(self.data()).args(args).env("PROOF_ROOT", self.root());
        command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap()
    }

    /// Every process that belongs to this world.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let name = self.root().as_os_str().as_encoded_bytes();
        let names_us = |bytes: &[u8]| bytes.windows(name.len()).any(|w| w == name);
        let pids = fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| *pid != std::process::id())
            .filter_map(|pid| {
                let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                let (command, environ) = (read("cmdline"), read("environ"));
                let directory = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
                let ours = names_us(&command) || names_us(&environ) || directory.starts_with(self.root());
                ours.then(|| Process {
                    pid,
                    words: command.split(|b| *b == 0).map(|w| String::from_utf8_lossy(w).into_owned()).collect(),
                    environ: environ.split(|b| *b == 0).map(|w| String::from_utf8_lossy(w).into_owned()).collect(),
                })
            })
            .collect()
    }

    /// The pid of appm's own hidden process `role` (`keeper`, `logger`), if it runs.
    pub(crate) fn own_process(&self, role: &str) -> Option<u32> {
        self.processes().into_iter().find(|p| p.words.get(1).is_some_and(|w| w == role)).map(|p| p.pid)
    }

    /// `kill -9` of everything that belongs to this world, as a power cut does.
    pub(crate) fn kill_everything(&mut self) {
        if let Some(mut server) = self.server.take() {
            drop(server.kill());
            drop(server.wait());
        }
        wait_for("everything to end", || {
            let left = self.processes();
            left.iter().for_each(|p| signal(p.pid, Signal::SIGKILL));
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
    }
}

/// Removes what a keeper that was killed leaves in memory.
pub(crate) fn forget_memory(data: &Path) {
    if let Ok(dir) = fs::read_link(data.join("keeper/memory")) {
        drop(fs::remove_dir_all(dir));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            let said = self.stderr();
            let tail: Vec<_> = said.lines().rev().take(40).collect();
            eprintln!("the server said last:");
            tail.iter().rev().for_each(|line| eprintln!("  {line}"));
            eprintln!("these processes were left:");
            self.processes().iter().for_each(|p| eprintln!("  {} {:?}", p.pid, p.words));
        }
        if let Some(mut server) = self.server.take() {
            drop(server.kill());
            drop(server.wait());
        }
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let left = self.processes();
            if left.is_empty() {
                return forget_memory(&self.data());
            }
            left.iter().for_each(|p| signal(p.pid, Signal::SIGKILL));
            thread::sleep(LOOK);
        }
    }
}

/// A process of a world.
#[derive(Debug)]
pub(crate) struct Process {
    /// Its id.
    pub(crate) pid: u32,
    /// Its command line.
    pub(crate) words: Vec<String>,
    environ: Vec<String>,
}

impl Process {
    /// The value of a variable of its environment.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.environ.iter().find_map(|v| v.strip_prefix(name)?.strip_prefix('='))
    }
}

/// Sends a signal; a process that is gone is no error.
pub(crate) fn signal(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal);
}

/// An answer of the API.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The HTTP status code.
    pub(crate) code: u16,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// True for 2xx.
    pub(crate) fn is_ok(&self) -> bool {
        (200..300).contains(&self.code)
    }
}

/// A blocking client of the Unix socket; one connection for each request.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    socket: PathBuf,
}

impl Api {
    /// One request. An error means that no whole answer came: whatever was asked may or may not have been done.
    pub(crate) fn ask(&self, method: &str, path: &str, media: &str, body: &[u8]) -> io::Result<Answer> {
        let (code, mut reader) = self.open(method, path, media, body)?;
        let mut body = Vec::new();
        reader.read_to_end(&mut body)?;
        Ok(Answer { code, body })
    }

    /// The same, with a line of the head that the caller writes.
    pub(crate) fn ask_with(&self, method: &str, path: &str, line: &str, body: &[u8]) -> io::Result<Answer> {
        let (code, mut reader) = self.open_with(method, path, line, body)?;
        let mut body = Vec::new();
        reader.read_to_end(&mut body)?;
        Ok(Answer { code, body })
    }

    /// One request: the code of the answer, and its body as it comes.
    pub(crate) fn open(
        &self,
        method: &str,
        path: &str,
        media: &str,
        body: &[u8],
    ) -> io::Result<(u16, Box<dyn BufRead + Send>)> {
        let line = if media.is_empty() { String::new() } else { format!("Content-Type: {media}") };
        self.open_with(method, path, &line, body)
    }

    /// The same, with a line of the head that the caller writes.
    pub(crate) fn open_with(
        &self,
        method: &str,
        path: &str,
        line: &str,
        body: &[u8],
    ) -> io::Result<(u16, Box<dyn BufRead + Send>)> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        if !line.is_empty() {
            write!(head, "{line}\r\n").unwrap();
        }
        write!(head, "Content-Length: {}\r\n\r\n", body.len()).unwrap();
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut reader = BufReader::new(stream);
        let status = read_line(&mut reader)?;
        let code = status.split(' ').nth(1).and_then(|c| c.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        let (mut length, mut chunked) = (None, false);
        loop {
            let line = read_line(&mut reader)?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse::<u64>().ok(),
                "transfer-encoding" => chunked = value.trim().eq_ignore_ascii_case("chunked"),
                _ => {}
            }
        }
        let left = length.unwrap_or(0);
        Ok((code, Box::new(BufReader::new(Body { reader, left, chunked, done: !chunked && left == 0 }))))
    }

    /// Gets a path; `None` for 404. Panics on any other refusal.
    pub(crate) fn get(&self, path: &str) -> io::Result<Option<Value>> {
        let answer = self.ask("GET", path, "", b"")?;
        match answer.code {
            200 => Ok(Some(answer.json())),
            404 => Ok(None),
            code => panic!("GET {path}: {code} {}", String::from_utf8_lossy(&answer.body)),
        }
    }

    /// The items of a list.
    pub(crate) fn list(&self, path: &str) -> io::Result<Vec<Value>> {
        let list = self.get(path)?.unwrap_or_else(|| panic!("there is no {path}"));
        Ok(list["items"].as_array().cloned().unwrap_or_else(|| panic!("{path} is no list: {list}")))
    }

    /// Server-side apply of an App in the namespace `default`.
    pub(crate) fn apply(&self, app: &Value) -> io::Result<Answer> {
        let name = app["metadata"]["name"].as_str().unwrap();
        let path = format!("{}?fieldManager=proof&force=true", app_path(name));
        self.ask("PATCH", &path, "application/apply-patch+yaml", app.to_string().as_bytes())
    }

    /// The events of a watch, as they come; ends when the server does.
    pub(crate) fn watch(&self, path: &str) -> io::Result<impl Iterator<Item = Value> + Send + use<>> {
        let (code, reader) = self.open("GET", path, "", b"")?;
        assert_eq!(code, 200, "watch of {path}");
        Ok(reader.lines().map_while(Result::ok).map(|line| serde_json::from_str(&line).unwrap()))
    }
}

/// Where an App of the namespace `default` is served.
pub(crate) fn app_path(name: &str) -> String {
    format!("{APPS}/{name}")
}

/// Where the Apps of the namespace `default` are served.
pub(crate) const APPS: &str = "/apis/appm.dev/v1/namespaces/default/apps";
/// Where the Instances of the namespace `default` are served.
pub(crate) const INSTANCES: &str = "/apis/appm.dev/v1/namespaces/default/instances";

/// An App that runs a script, with this world's directory in `PROOF_ROOT`.
pub(crate) fn app(world: &World, name: &str, replicas: u32, script: &str) -> Value {
    json!({
        "apiVersion": "appm.dev/v1", "kind": "App",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "process": {"script": script},
            "env": [{"name": "PROOF_ROOT", "value": world.root().to_str().unwrap()}],
            "restart": {"backoff": {"initial": "100ms", "max": "300ms"}},
            "terminationGracePeriodSeconds": 10,
            "logs": {"maxSize": "64Mi", "maxFiles": 1000},
        },
    })
}

fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    line.strip_suffix("\r\n").map(str::to_owned).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// The body of an answer; ends only where the server said that it ends.
struct Body {
    reader: BufReader<UnixStream>,
    left: u64,
    chunked: bool,
    done: bool,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.done {
            return Ok(0);
        }
        if self.chunked && self.left == 0 {
            let size = read_line(&mut self.reader)?;
            let size = size.split(';').next().unwrap_or_default();
            self.left = u64::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
            if self.left == 0 {
                read_line(&mut self.reader)?;
                self.done = true;
                return Ok(0);
            }
        }
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let got = self.reader.read(&mut buffer[..want])?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= got as u64;
        if self.left == 0 {
            if self.chunked {
                read_line(&mut self.reader)?;
            } else {
                self.done = true;
            }
        }
        Ok(got)
    }
}

/// One line of the file `starts` of a world: an attempt that began.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StartLine {
    /// The Instance.
    pub(crate) uid: String,
    /// Its attempt.
    pub(crate) attempt: u64,
    /// The process.
    pub(crate) pid: u32,
}

/// The line that every script of these tests begins with.
pub(crate) const SAY_START: &str = r#"echo "$APPM_INSTANCE_UID $APPM_ATTEMPT $$" >> "$PROOF_ROOT/starts"
"#;

impl World {
    /// Every attempt that began. Panics if one began twice.
    pub(crate) fn starts(&self) -> Vec<StartLine> {
        let text = fs::read_to_string(self.root().join("starts")).unwrap_or_default();
        let starts: Vec<_> = text.lines().map(parse_start).collect();
        let mut seen = BTreeSet::new();
        for start in &starts {
            assert!(seen.insert((&start.uid, start.attempt)), "{} attempt {} began twice", start.uid, start.attempt);
        }
        starts
    }

    /// Everything that an attempt of an Instance wrote to its standard output, from the log files, oldest first.
    pub(crate) fn output(&self, uid: &str, attempt: u64) -> Vec<u8> {
        let directory = self.data().join("instances").join(uid).join("logs");
        let mut files: Vec<(u64, PathBuf)> = fs::read_dir(&directory)
            .map(|entries| entries.filter_map(|e| numbered(&e.ok()?.path(), attempt)).collect())
            .unwrap_or_default();
        files.sort();
        let mut all = Vec::new();
        for (_, file) in files {
            File::open(file).unwrap().read_to_end(&mut all).unwrap();
        }
        all
    }
}

/// `<attempt>.<seq>.out` of that attempt: its seq.
fn numbered(path: &Path, attempt: u64) -> Option<(u64, PathBuf)> {
    let name = path.file_name()?.to_str()?;
    let seq = name.strip_prefix(&format!("{attempt}."))?.strip_suffix(".out")?.parse().ok()?;
    Some((seq, path.to_owned()))
}

/// Reads a line that [`SAY_START`] wrote.
pub(crate) fn parse_start(line: &str) -> StartLine {
    let words: Vec<_> = line.split(' ').collect();
    let [uid, attempt, pid] = words[..] else { panic!("a torn start line: {line:?}") };
    StartLine { uid: uid.to_owned(), attempt: attempt.parse().unwrap(), pid: pid.parse().unwrap() }
}

/// Seeded chance (splitmix64), the same on every machine and in every release.
pub(crate) struct Dice(u64);

impl Dice {
    /// The sequence of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    /// A pause of less than `millis` milliseconds: a random moment, not a wait for anything.
    pub(crate) fn pause(&mut self, millis: u64) {
        thread::sleep(Duration::from_millis(self.below(millis)));
    }
}

/// A number from the environment, for longer runs than the test's own.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |v| v.parse().unwrap_or_else(|_| panic!("{name}={v} is no number")))
}

/// The code that an authenticator app shows now for a secret in base32 (RFC 6238).
pub(crate) fn totp(secret: &str) -> String {
    let mut bits = secret.bytes().filter(|b| *b != b'=' && *b != b' ').flat_map(|byte| {
        let value = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".iter().position(|known| *known == byte).unwrap();
        (0..5).rev().map(move |bit| u8::from(value >> bit & 1 == 1))
    });
    let mut key = Vec::new();
    loop {
        let byte: Vec<u8> = bits.by_ref().take(8).collect();
        if byte.len() < 8 {
            break;
        }
        key.push(byte.iter().fold(0, |all, bit| all << 1 | bit));
    }
    let step = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() / 30;
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key);
    let mac = aws_lc_rs::hmac::sign(&key, &step.to_be_bytes());
    let at = usize::from(mac.as_ref()[19] & 15);
    let number = u32::from_be_bytes(mac.as_ref()[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}
