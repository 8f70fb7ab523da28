//! Repositories behind ssh and https, as they are in the world: a real sshd, and git's own server behind TLS.

use std::{
    fs,
    io::Write as _,
    net::{TcpListener, TcpStream},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, header, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio_rustls::{TlsAcceptor, rustls};

use super::{Repository, SOURCES, config, configs, pairs, sync};
use crate::{
    harness::{World, files_with},
    manifests::appm,
};

const SSHD: &str = "/usr/sbin/sshd";

/// Declares the Secret `git`, with these entries and no others.
fn secret(world: &World, entries: &[(&str, &str)]) {
    let data: serde_json::Map<String, Value> =
        entries.iter().map(|(name, value)| ((*name).to_owned(), json!(STANDARD.encode(value)))).collect();
    let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "git"}, "data": data});
    fs::write(world.root().join("secret.json"), object.to_string()).unwrap();
    appm(world, &["apply", "-f", &world.root().join("secret.json").display().to_string()]);
}

/// What the Source says of a look that goes wrong.
fn refused(world: &World, reason: &str, words: &str) {
    let told = sync(world, "fleet").unwrap_err();
    assert!(told.contains(reason) && told.contains(words), "not {reason}, {words}: {told}");
    assert_eq!(configs(world), pairs(&[]), "{told}");
}

fn key(path: &Path) -> String {
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status();
    assert!(made.is_ok_and(|status| status.success()), "ssh-keygen is missing: install openssh-client");
    fs::read_to_string(path.with_extension("pub")).unwrap().split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// An sshd that lets in who has one key: a process for each connection, which ends with it.
struct Sshd {
    port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sshd {
    fn new(dir: &Path) -> Self {
        assert!(Path::new(SSHD).exists(), "{SSHD} is missing: install openssh-server (tests/run does)");
        if nix::unistd::geteuid().is_root() {
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let settings = format!(
            "HostKey {dir}/host\nAuthorizedKeysFile {dir}/authorized\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nPidFile none\nSetEnv PATH={path}\n",
            dir = dir.display(),
            path = std::env::var("PATH").unwrap(),
        );
        fs::write(dir.join("sshd_config"), settings).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (stop, dir) = (stop.clone(), dir.to_owned());
            move || {
                let mut children: Vec<Child> = Vec::new();
                for stream in listener.incoming() {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    children.push(serve(stream.unwrap(), &dir));
                }
                for mut child in children {
                    drop(child.kill());
                    child.wait().unwrap();
                }
            }
        });
        Self { port, stop, thread: Some(thread) }
    }
}

fn serve(stream: TcpStream, dir: &Path) -> Child {
    let other = stream.try_clone().unwrap();
    let mut sshd = Command::new(SSHD);
    sshd.arg("-i").arg("-f").arg(dir.join("sshd_config")).arg("-E").arg(dir.join("log"));
    sshd.stdin(OwnedFd::from(stream)).stdout(OwnedFd::from(other)).stderr(Stdio::null()).spawn().unwrap()
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // It waits for a connection.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        drop(self.thread.take().unwrap().join());
    }
}

#[test]
fn over_ssh_no_host_is_spoken_to_that_is_not_known_and_nobody_elses_key_is_shown() {
    let mut world = World::new();
    world.start();
    let repository = Repository::new(world.root().join("fleet"));
    repository.commit(&[("a.yaml", Some(&config("a", "1")))]);
    let dir = world.root().join("ssh");
    fs::create_dir(&dir).unwrap();
    let host = key(&dir.join("host"));
    let (ours, theirs) = (key(&dir.join("ours")), key(&dir.join("theirs")));
    fs::write(dir.join("authorized"), format!("{ours}\n")).unwrap();
    let sshd = Sshd::new(&dir);
    let who = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
    let url = format!("ssh://{who}@127.0.0.1:{}{}", sshd.port, repository.0.display());
    let at = format!("[127.0.0.1]:{}", sshd.port);
    let private = |name: &str| fs::read_to_string(dir.join(name)).unwrap();

    appm(&world, &["source", "add", "fleet", "--git", &url, "--secret", "git", "--interval", "1h"]);
    refused(&world, "NoSecret", "there is no secret `git`");
    secret(&world, &[("ssh-privatekey", &private("ours"))]);
    refused(&world, "HostKeyRefused", "`ssh-keyscan HOST` prints what belongs there");
    secret(&world, &[("ssh-privatekey", &private("ours")), ("known_hosts", &format!("example.org {host}\n"))]);
    refused(&world, "HostKeyRefused", "has no key of its host");
    secret(&world, &[("ssh-privatekey", &private("ours")), ("known_hosts", &format!("{at} {theirs}\n"))]);
    refused(&world, "HostKeyRefused", "another key than the secret's `known_hosts` says");
    // Whoever the server runs as may have a key that would do: it is not the Source's.
    let known = format!("{at} {host}\n");
    secret(&world, &[("known_hosts", &known)]);
    refused(&world, "AuthenticationFailed", "there is no `ssh-privatekey`");
    secret(&world, &[("known_hosts", &known), ("ssh-privatekey", &private("theirs"))]);
    refused(&world, "AuthenticationFailed", "does not let in whoever has");
    secret(&world, &[("known_hosts", &known), ("ssh-privatekey", "no key")]);
    refused(&world, "AuthenticationFailed", "without a passphrase");
    // Without a line's end, as a Secret is often made.
    secret(&world, &[("known_hosts", known.trim_end()), ("ssh-privatekey", private("ours").trim_end())]);
    let told = sync(&world, "fleet").unwrap_or_else(|told| {
        panic!("{told}; sshd: {}", fs::read_to_string(dir.join("log")).unwrap_or_default());
    });
    assert!(told.contains(&repository.git(&["rev-parse", "HEAD"])), "{told}");
    assert_eq!(configs(&world), pairs(&[("a", "1")]));
}

/// git's own server behind TLS and a password, with an authority of its own.
struct Https {
    url: String,
    ca: String,
    asked: Arc<Mutex<Vec<String>>>,
    _runtime: tokio::runtime::Runtime,
}

const PASSWORD: &str = "correct-horse-battery-staple";

impl Https {
    fn new(projects: PathBuf) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![made.cert.der().clone()], key)
                .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let ours = asked.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, projects, asked) = (acceptor.clone(), projects.clone(), ours.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let answer = service_fn(|request| answer(&projects, &asked, request));
                    let http = hyper::server::conn::http1::Builder::new();
                    drop(http.serve_connection(TokioIo::new(stream), answer).await);
                });
            }
        });
        Self { url, ca: made.cert.pem(), asked, _runtime: runtime }
    }
}

/// `/moved/…` leads to `/elsewhere/…`; all else is git's, for who has the password.
async fn answer(
    projects: &Path,
    asked: &Mutex<Vec<String>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let (head, body) = request.into_parts();
    let text = |name: header::HeaderName| {
        head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let shown = text(header::AUTHORIZATION);
    asked.lock().unwrap().push(format!("{} {shown}", head.uri.path()));
    let plain = |status: u16, name: header::HeaderName, value: &str| {
        Ok(Response::builder().status(status).header(name, value).body(Full::default()).unwrap())
    };
    if let Some(rest) = head.uri.path().strip_prefix("/moved") {
        let to = format!("/elsewhere{rest}?{}", head.uri.query().unwrap_or_default());
        return plain(302, header::LOCATION, &to);
    }
    if shown != format!("Basic {}", STANDARD.encode(format!("ann:{PASSWORD}"))) {
        return plain(401, header::WWW_AUTHENTICATE, "Basic realm=\"git\"");
    }
    let body = body.collect().await.unwrap().to_bytes();
    let mut git = Command::new("git");
    git.arg("http-backend").stdin(Stdio::piped()).stdout(Stdio::piped());
    git.env("GIT_PROJECT_ROOT", projects).env("GIT_HTTP_EXPORT_ALL", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    git.env("REQUEST_METHOD", head.method.as_str()).env("PATH_INFO", head.uri.path()).env("REMOTE_USER", "ann");
    git.env("QUERY_STRING", head.uri.query().unwrap_or_default()).env("CONTENT_LENGTH", body.len().to_string());
    git.env("CONTENT_TYPE", text(header::CONTENT_TYPE)).env("HTTP_CONTENT_ENCODING", text(header::CONTENT_ENCODING));
    git.env("GIT_PROTOCOL", text(header::HeaderName::from_static("git-protocol")));
    let run = move || {
        let mut child = git.spawn().unwrap();
        child.stdin.take().unwrap().write_all(&body).unwrap();
        child.wait_with_output().unwrap().stdout
    };
    let said = tokio::task::spawn_blocking(run).await.unwrap();
    let end = said.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let mut response = Response::builder();
    for (name, value) in String::from_utf8_lossy(&said[..end]).lines().filter_map(|line| line.split_once(": ")) {
        response = match name {
            "Status" => response.status(&value[..3]),
            name => response.header(name, value),
        };
    }
    Ok(response.body(Full::from(said[end + 4..].to_vec())).unwrap())
}

#[test]
fn over_https_a_password_is_shown_to_whom_the_authority_vouches_for_and_to_nobody_else() {
    let mut world = World::new();
    world.start();
    let repository = Repository::new(world.root().join("fleet"));
    repository.commit(&[("a.yaml", Some(&config("a", "1")))]);
    let server = Https::new(world.root().to_owned());
    let asked = |words: &str| server.asked.lock().unwrap().iter().filter(|line| line.contains(words)).count();
    let add = |path: &str| {
        let url = format!("{}/{path}", server.url);
        appm(&world, &["source", "add", "fleet", "--git", &url, "--secret", "git", "--interval", "1h"]);
    };
    let shown = |password: &str| STANDARD.encode(format!("ann:{password}"));
    secret(&world, &[("username", "ann"), ("password", PASSWORD)]);
    add("fleet/.git");
    refused(&world, "CertificateRefused", "put its certificate into `ca.crt`");
    assert_eq!(asked(""), 0, "whoever nobody vouches for is shown nothing");
    secret(&world, &[("ca.crt", &server.ca)]);
    refused(&world, "AuthenticationFailed", "it asks for a password");
    secret(&world, &[("ca.crt", &server.ca), ("password", PASSWORD)]);
    refused(&world, "AuthenticationFailed", "the secret has `password`, but no `username`");
    let wrong = "the-wrong-password-of-ann";
    secret(&world, &[("ca.crt", &server.ca), ("username", "ann"), ("password", wrong)]);
    refused(&world, "AuthenticationFailed", "`username` and `password` of the secret are not accepted");
    secret(&world, &[("ca.crt", &server.ca), ("username", "ann"), ("password", PASSWORD)]);
    sync(&world, "fleet").unwrap();
    assert_eq!(configs(&world), pairs(&[("a", "1")]));
    repository.commit(&[("a.yaml", Some(&config("a", "2")))]);
    sync(&world, "fleet").unwrap();
    assert_eq!(configs(&world), pairs(&[("a", "2")]));
    // Who is sent elsewhere does not go there, and what is not there is not found; both leave everything as it was.
    add("moved/fleet/.git");
    sync(&world, "fleet").unwrap_err();
    assert!(asked("/moved") > 0);
    assert_eq!(asked("/elsewhere"), 0);
    add("nothing/.git");
    let told = sync(&world, "fleet").unwrap_err();
    assert!(told.contains("NotFound"), "{told}");
    assert_eq!(configs(&world), pairs(&[("a", "2")]));
    // Nothing that anybody reads, and no file, has a password in it.
    let mut said = world.stderr();
    for path in [SOURCES, "/api/v1/namespaces/default/events"] {
        said += &Value::from(world.api().list(path).unwrap()).to_string();
    }
    let secrets = [wrong.to_owned(), shown(wrong), PASSWORD.to_owned(), shown(PASSWORD)];
    let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
    assert!(secrets.iter().all(|secret| !said.contains(secret)), "{said}");
    let mut found = Vec::new();
    files_with(&world.data(), &secrets, &mut found);
    assert_eq!(found, [""; 0]);
}
