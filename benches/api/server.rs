//! A server in a directory of its own, ended with all its processes when it goes out of scope.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Instant,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tempfile::TempDir;

use crate::{Options, line::Line};

/// Where the server is, and with which token it is asked.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) token: String,
    roots: Arc<RootCertStore>,
}

impl Address {
    /// TLS for one protocol.
    pub(crate) fn tls(&self, protocol: &[u8]) -> Arc<ClientConfig> {
        let mut config = ClientConfig::builder().with_root_certificates(self.roots.clone()).with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    }
}

pub(crate) struct Server {
    pub(crate) address: Address,
    pub(crate) dir: TempDir,
    exe: std::path::PathBuf,
    process: Child,
}

impl Server {
    pub(crate) fn start(options: &Options) -> Self {
        let dir = match &options.dir {
            Some(parent) => TempDir::with_prefix_in("appm-bench-", parent).unwrap(),
            None => TempDir::with_prefix("appm-bench-").unwrap(),
        };
        let (process, host) = spawn(&options.exe, dir.path());
        let address = address(host, dir.path());
        Self { address, dir, exe: options.exe.clone(), process }
    }

    /// Kills the server and starts it again on the same data; gives the seconds until it was ready.
    pub(crate) fn restart(&mut self) -> f64 {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let begin = Instant::now();
        let (process, host) = spawn(&self.exe, self.dir.path());
        self.process = process;
        self.address = address(host, self.dir.path());
        begin.elapsed().as_secs_f64()
    }

    pub(crate) async fn line(&self) -> Line {
        Line::open(&self.address).await
    }

    /// The server's own share of memory, in bytes.
    pub(crate) fn memory(&self) -> f64 {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.process.id())).unwrap();
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
    }

    /// The seconds of processor time that the server has used.
    pub(crate) fn cpu(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        ticks / 100.0
    }
}

fn spawn(exe: &Path, dir: &Path) -> (Child, String) {
    let errors = fs::File::create(dir.join("errors")).unwrap();
    let mut process = Command::new(exe)
        .args(["server", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .unwrap();
    let mut output = BufReader::new(process.stdout.take().unwrap()).lines();
    let host = output.find_map(|line| line.unwrap().strip_prefix("ready https://").map(str::to_owned));
    match host {
        Some(host) => (process, host),
        None => panic!("the server did not become ready:\n{}", fs::read_to_string(dir.join("errors")).unwrap()),
    }
}

fn address(host: String, dir: &Path) -> Address {
    let kubeconfig = fs::read_to_string(dir.join("kubeconfig")).unwrap();
    let token = kubeconfig.lines().find_map(|line| line.trim().strip_prefix("token: ")).unwrap().to_owned();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(dir.join("pki/ca.pem")).unwrap()).unwrap();
    Address { host, token, roots: Arc::new(roots) }
}

impl Drop for Server {
    fn drop(&mut self) {
        let dir = self.dir.path();
        let stopped = Command::new(&self.exe)
            .args(["server", "stop", "--apps", "--data-dir"])
            .arg(dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !stopped.is_ok_and(|status| status.success()) {
            eprintln!("the server in {} did not stop; it is killed", dir.display());
            // What matters is that it has ended.
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}

/// Thousands of connections need as many files; the server inherits the limit.
pub(crate) fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}
