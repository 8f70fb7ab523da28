//! A Docker Engine of a test's own.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::sys::signal::Signal;

use crate::harness::{signal, wait_for};

/// A busybox, and nothing else.
pub(super) const IMAGE: &str = "localhost/busybox";

/// A `dockerd` in a temporary directory; ended with the test.
pub(super) struct Engine {
    dir: tempfile::TempDir,
    flags: Vec<String>,
    child: Option<Child>,
}

fn missing() -> Option<&'static str> {
    let is_there = |program: &str| {
        let dirs = ["/usr/local/bin", "/usr/bin", "/usr/sbin", "/bin", "/sbin"];
        dirs.into_iter().any(|dir| Path::new(dir).join(program).exists())
    };
    if !nix::unistd::geteuid().is_root() {
        return Some("root");
    }
    ["dockerd", "docker", "runc", "busybox"].into_iter().find(|program| !is_there(program))
}

impl Engine {
    /// Starts one, with an image. `None` where that cannot be done.
    pub(super) fn start(flags: &[&str]) -> Option<Self> {
        if let Some(what) = missing() {
            assert!(std::env::var_os("CI").is_none(), "containers are tested in CI, and `{what}` is missing");
            eprintln!("SKIPPED: containers are not tested, because `{what}` is missing");
            return None;
        }
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let mut engine = Self { dir: tempfile::tempdir().unwrap(), flags, child: None };
        engine.again();
        let root = engine.root();
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::create_dir_all(root.join("tmp")).unwrap();
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
        fs::copy(busybox.unwrap(), root.join("bin/busybox")).unwrap();
        let packed = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(engine.tar()).arg(".").status().unwrap();
        assert!(packed.success());
        engine.import(IMAGE, &[]);
        Some(engine)
    }

    /// What its images consist of, as files.
    fn root(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    /// And packed.
    pub(super) fn tar(&self) -> PathBuf {
        self.dir.path().join("image.tar")
    }

    /// Makes another image of the same files, with lines of a Dockerfile.
    pub(super) fn import(&self, image: &str, lines: &[&str]) {
        let tar = self.tar().display().to_string();
        let mut words = vec!["import", "-c", "ENV PATH=/bin"];
        lines.iter().for_each(|line| words.extend(["-c", line]));
        words.extend([&*tar, image]);
        self.docker(&words);
    }

    /// Where it listens.
    pub(super) fn host(&self) -> String {
        format!("unix://{}", self.dir.path().join("docker.sock").display())
    }

    /// Starts it again where it was.
    pub(super) fn again(&mut self) {
        let dir = self.dir.path();
        let log = File::options().create(true).append(true).open(dir.join("log")).unwrap();
        let child = Command::new("dockerd")
            .arg("--data-root")
            .arg(dir.join("data"))
            .arg("--exec-root")
            .arg(dir.join("exec"))
            .arg("--pidfile")
            .arg(dir.join("pid"))
            .args(["--host", &self.host(), "--bridge=none", "--iptables=false", "--ip6tables=false"])
            .args(&self.flags)
            .env_remove("DOCKER_HOST")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        wait_for("dockerd to answer", || match self.run(&["version"]) {
            (true, _) => Ok(()),
            (false, said) => Err(format!("{said}\n{}", fs::read_to_string(self.dir.path().join("log")).unwrap())),
        });
    }

    /// Ends it, as a service manager does.
    pub(super) fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        signal(child.id(), Signal::SIGTERM);
        wait_for("dockerd to end", || child.try_wait().unwrap().ok_or_else(|| "it runs".to_owned()));
    }

    /// Makes a network on a bridge of its own, with a few addresses that no other test has.
    pub(super) fn network(&self, name: &str) {
        // 198.18.0.0/15 is for tests (RFC 2544).
        let number = std::process::id() % (1 << 13);
        let subnet = format!("198.{}.{}.{}/28", 18 + (number >> 12), number >> 4 & 255, (number & 15) << 4);
        self.docker(&["network", "create", "--driver=bridge", "--subnet", &subnet, name]);
    }

    /// Runs a command of the client; returns what it said, or panics with it.
    pub(super) fn docker(&self, args: &[&str]) -> String {
        let (ok, said) = self.run(args);
        assert!(ok, "docker {args:?}: {said}");
        said
    }

    fn run(&self, args: &[&str]) -> (bool, String) {
        // An engine that hangs fails the test, not the hour.
        let client = Command::new("timeout").args(["60", "docker", "--host", &self.host()]).args(args).output();
        let output = client.unwrap();
        let said = if output.status.success() { &output.stdout } else { &output.stderr };
        (output.status.success(), String::from_utf8_lossy(said).trim().to_owned())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.child.is_some() {
            // Nothing of a test that failed half-way stays either.
            let (_, left) = self.run(&["ps", "-aq"]);
            for container in left.split_whitespace() {
                self.run(&["rm", "-f", container]);
            }
            // A bridge outlives its engine.
            self.run(&["network", "prune", "-f"]);
        }
        self.stop();
        // With `live-restore` it leaves its directory mounted on itself. Otherwise there is nothing to undo.
        let data = self.dir.path().join("data");
        let _ = nix::mount::umount2(&data, nix::mount::MntFlags::MNT_DETACH);
    }
}
