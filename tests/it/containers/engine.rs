//! A Docker Engine or a Podman of a test's own.

use std::{
    fs::{self, File},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::sys::signal::Signal;

use crate::harness::{signal, wait_for};

/// A busybox, and nothing else.
pub(super) const IMAGE: &str = "localhost/busybox";

/// Which program an engine is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Brand {
    Docker,
    Podman,
}

/// An engine in a temporary directory; ended with the test.
pub(super) struct Engine {
    dir: tempfile::TempDir,
    brand: Brand,
    flags: Vec<String>,
    child: Option<Child>,
}

fn missing(brand: Brand) -> Option<&'static str> {
    let is_there = |program: &str| {
        let dirs = ["/usr/local/bin", "/usr/bin", "/usr/sbin", "/bin", "/sbin"];
        dirs.into_iter().any(|dir| Path::new(dir).join(program).exists())
    };
    if !nix::unistd::geteuid().is_root() {
        return Some("root");
    }
    let programs: &[_] = match brand {
        Brand::Docker => &["dockerd", "docker", "runc", "busybox"],
        Brand::Podman => &["podman", "conmon", "runc", "busybox"],
    };
    programs.iter().find(|program| !is_there(program)).copied()
}

impl Engine {
    /// Starts a Docker Engine, with an image. `None` where that cannot be done.
    pub(super) fn start(flags: &[&str]) -> Option<Self> {
        Self::start_brand(Brand::Docker, flags)
    }

    /// Starts Podman's service, with an image. `None` where that cannot be done.
    pub(super) fn start_podman() -> Option<Self> {
        Self::start_brand(Brand::Podman, &[])
    }

    fn start_brand(brand: Brand, flags: &[&str]) -> Option<Self> {
        if let Some(what) = missing(brand) {
            assert!(std::env::var_os("CI").is_none(), "containers are tested in CI, and `{what}` is missing");
            eprintln!("SKIPPED: containers are not tested, because `{what}` is missing");
            return None;
        }
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let mut engine = Self { dir: tempfile::tempdir().unwrap(), brand, flags, child: None };
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
        self.client(&words);
    }

    /// Where it listens.
    fn host(&self) -> String {
        format!("unix://{}", self.dir.path().join("engine.sock").display())
    }

    pub(super) fn is_podman(&self) -> bool {
        self.brand == Brand::Podman
    }

    /// How a server is told where it listens, and that no other engine of this machine is meant.
    pub(super) fn variables(&self) -> [(&'static str, String); 2] {
        let nowhere = format!("unix://{}", self.dir.path().join("nobody.sock").display());
        match self.brand {
            Brand::Docker => [("DOCKER_HOST", self.host()), ("CONTAINER_HOST", nowhere)],
            Brand::Podman => [("DOCKER_HOST", nowhere), ("CONTAINER_HOST", self.host())],
        }
    }

    /// Podman, with everything in the temporary directory.
    fn podman(&self, program: &str) -> Command {
        let dir = self.dir.path();
        // Podman asks for more open files than a machine may give to a container in a container.
        let conf = dir.join("containers.conf");
        fs::write(&conf, "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n").unwrap();
        let mut command = Command::new(program);
        if program != "podman" {
            command.args(["60", "podman"]);
        }
        for (flag, value) in [("--root", "data"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
            command.arg(flag).arg(dir.join(value));
        }
        command.args(["--cgroup-manager=cgroupfs", "--events-backend=file", "--runtime=runc"]);
        // Its helper leaves a file in the working directory when a container runs out of memory.
        command.env("CONTAINERS_CONF", conf).env_remove("CONTAINER_HOST").current_dir(dir);
        command
    }

    /// Starts it again where it was.
    pub(super) fn again(&mut self) {
        let dir = self.dir.path();
        let host = self.host();
        let mut program = match self.brand {
            Brand::Docker => {
                let mut program = Command::new("dockerd");
                for (flag, value) in [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")] {
                    program.arg(flag).arg(dir.join(value));
                }
                program.args(["--host", &host, "--bridge=none", "--iptables=false", "--ip6tables=false"]);
                program
            }
            Brand::Podman => {
                let mut program = self.podman("podman");
                program.args(["system", "service", "--time=0", &host]);
                program
            }
        };
        let log = File::options().create(true).append(true).open(dir.join("log")).unwrap();
        let child = program
            .args(&self.flags)
            .env_remove("DOCKER_HOST")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        wait_for("the engine to answer", || match self.run(&["version"]) {
            (true, _) if UnixStream::connect(dir.join("engine.sock")).is_ok() => Ok(()),
            (_, said) => Err(format!("{said}\n{}", fs::read_to_string(self.dir.path().join("log")).unwrap())),
        });
    }

    /// Ends it, as a service manager does.
    pub(super) fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        signal(child.id(), Signal::SIGTERM);
        wait_for("the engine to end", || child.try_wait().unwrap().ok_or_else(|| "it runs".to_owned()));
    }

    /// Makes a network on a bridge of its own, with a few addresses that no other test has.
    pub(super) fn network(&self, name: &str) {
        // 198.18.0.0/15 is for tests (RFC 2544).
        let number = std::process::id() % (1 << 13);
        let subnet = format!("198.{}.{}.{}/28", 18 + (number >> 12), number >> 4 & 255, (number & 15) << 4);
        self.client(&["network", "create", "--driver=bridge", "--subnet", &subnet, name]);
    }

    /// Runs a command of the client; returns what it said, or panics with it.
    pub(super) fn client(&self, args: &[&str]) -> String {
        let (ok, said) = self.run(args);
        assert!(ok, "{args:?}: {said}");
        said
    }

    /// Runs a command of the client; returns whether it went well, and what it said.
    pub(super) fn run(&self, args: &[&str]) -> (bool, String) {
        // An engine that hangs fails the test, not the hour.
        let mut client = match self.brand {
            Brand::Docker => {
                let mut client = Command::new("timeout");
                client.args(["60", "docker", "--host", &self.host()]);
                client
            }
            Brand::Podman => self.podman("timeout"),
        };
        let output = client.args(args).output().unwrap();
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
        // With `live-restore` Docker leaves its directory mounted on itself, and Podman does what it mounts in it. Otherwise
        // there is nothing to undo.
        for mounted in ["data/overlay", "data"] {
            let _ = nix::mount::umount2(&self.dir.path().join(mounted), nix::mount::MntFlags::MNT_DETACH);
        }
    }
}
