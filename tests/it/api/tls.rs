//! TLS as clients see it: versions, certificates that change while the server runs, client certificates, and which hosts are answered.

use std::{
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use appm::{
    clock::{Clock, Virtual},
    policy::certificate::Certificate,
};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;

/// Believes everybody, and remembers whom.
#[derive(Debug, Default)]
struct Anybody(Mutex<Vec<CertificateDer<'static>>>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap() = [leaf].into_iter().chain(rest).map(|c| c.clone().into_owned()).collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

pub(super) const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12, &rustls::version::TLS13];

pub(super) async fn connected(
    address: SocketAddr,
    name: &str,
    config: ClientConfig,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

pub(super) fn builder(
    versions: &[&'static SupportedProtocolVersion],
) -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(default_provider())).with_protocol_versions(versions).unwrap()
}

/// The certificates that the server shows to who asks for `name`.
async fn shown(api: &Api, name: &str) -> Vec<CertificateDer<'static>> {
    let anybody = Arc::new(Anybody::default());
    let config = builder(BOTH).dangerous().with_custom_certificate_verifier(anybody.clone()).with_no_client_auth();
    connected(api.server.address, name, config).await.unwrap();
    anybody.0.lock().unwrap().clone()
}

/// Polls until `is` holds.
async fn until(what: &str, is: impl AsyncFn() -> bool) {
    let patience = async {
        while !is().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), patience).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// An authority of somebody else.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) pem: String,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate and its key, in PEM.
    pub(super) fn signs(&self, user: &str, group: &str, hosts: &[&str]) -> (String, String) {
        let hosts: Vec<String> = hosts.iter().map(|h| (*h).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, user);
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// Replaces a file as `certbot` and `kubelet` do: by renaming.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("beside");
    std::fs::write(&beside, text).unwrap();
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(&beside, path).unwrap();
}

/// An answer over TLS: its status line, and everything.
async fn ask(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A server that says no to a certificate breaks off instead.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

pub(super) fn trusting(api: &Api) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let pem = std::fs::read(api.dir.path().join("pki/ca.pem")).unwrap();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).map(Result::unwrap));
    roots
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken_and_nothing_older() {
    let api = Api::start().await;
    for version in BOTH {
        let config = builder(&[version]).with_root_certificates(trusting(&api)).with_no_client_auth();
        let stream = connected(api.server.address, "localhost", config).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
    }
    // A greeting of TLS 1.1 that offers AES with SHA-1, and no more.
    let hello = [&[3, 2][..], &[7; 32], &[0], &[0, 4, 0xc0, 0x13, 0, 0x2f], &[1, 0], &[0, 0]].concat();
    let length = u8::try_from(hello.len()).unwrap();
    let record = [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &hello].concat();
    let mut stream = TcpStream::connect(api.server.address).await.unwrap();
    stream.write_all(&record).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    // An alert, fatal, and no ServerHello (22).
    assert_eq!(answer.first(), Some(&21), "{answer:?}");
    assert_eq!(answer.get(5), Some(&2), "{answer:?}");
    api.server.stop().await;
}

#[tokio::test]
async fn the_certificate_is_renewed_while_the_server_runs() {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let clock = Virtual::new(start, 1);
    let api = Api::configured(Limits::default(), Arc::new(clock.clone()), |_| {}).await;
    let ends = |chain: &[CertificateDer<'_>]| Certificate::read(&chain[0]).unwrap().expires;
    let first = shown(&api, "localhost").await;
    let kubeconfig = || std::fs::read_to_string(api.dir.path().join("kubeconfig")).unwrap();
    let trusted = kubeconfig();
    until("somebody waits for the day", async || clock.next_due().is_some_and(|at| at > clock.now())).await;

    clock.advance(SignedDuration::from_hours(24 * 300));
    until("a new certificate", async || ends(&shown(&api, "localhost").await) > ends(&first)).await;
    assert_eq!(kubeconfig(), trusted);

    // After eight years the authority is another one, which the old one vouches for.
    clock.advance(SignedDuration::from_hours(24 * 365 * 8));
    until("a chain to the old authority", async || shown(&api, "localhost").await.len() == 2).await;
    until("a kubeconfig with both", async || kubeconfig() != trusted).await;
    assert_eq!(api.get("/ca.pem").await.text().matches("BEGIN").count(), 2);
    api.server.stop().await;
}

#[tokio::test]
async fn a_certificate_that_was_brought_is_shown_and_replaced_when_its_files_are() {
    let dir = tempfile::tempdir().unwrap();
    let (path, key_path) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    let authority = Authority::new("theirs");
    let bring = |host: &str| {
        let (certificate, key) = authority.signs("web", "it", &[host]);
        replace(&path, &certificate);
        replace(&key_path, &key);
    };
    bring("a.example");
    let api = Api::configured(Limits::default(), Arc::new(System), |config| {
        config.tls.brought = Some((path.clone(), key_path.clone()));
    })
    .await;
    let hosts = async |name: &str| Certificate::read(&shown(&api, name).await[0]).unwrap().hosts;
    assert_eq!(hosts("a.example").await, ["a.example"]);
    // Whoever trusts appm's own authority asks by another name, as the kubeconfig says.
    let kubeconfig = std::fs::read_to_string(api.dir.path().join("kubeconfig")).unwrap();
    assert!(kubeconfig.contains("tls-server-name: appm.localhost"), "{kubeconfig}");
    assert!(hosts("appm.localhost").await.contains(&"appm.localhost".to_owned()));
    // And its names are names of the server.
    let answered = async |host: &str| api.send(Method::GET, "/healthz", &[("host", host)], "").await.code;
    assert_eq!((answered("a.example").await, answered("b.example").await), (200, 421));

    bring("b.example");
    until("the new certificate", async || hosts("a.example").await == ["b.example"]).await;

    replace(&path, "no certificate");
    let faults = async || api.get("/metrics").await.text().contains("appm_certificate_faults 1");
    until("the fault is shown", faults).await;
    assert_eq!(hosts("b.example").await, ["b.example"]);

    bring("c.example");
    until("the certificate after that", async || hosts("a.example").await == ["c.example"]).await;
    assert_eq!((answered("a.example").await, answered("c.example").await), (421, 200));
    api.server.stop().await;
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_named_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let (path, key_path) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    let refusal = async || {
        let clock: SharedClock = Arc::new(System);
        let store = Store::open(Memory::new().engine(), clock.clone(), Limits::default()).await.unwrap();
        let data = tempfile::tempdir().unwrap();
        let config = ServerConfig {
            verbosity: Default::default(),
            oidc: Vec::new(),
            data_dir: data.path().to_owned(),
            listen: "127.0.0.1:0".parse().unwrap(),
            frames: None,
            wss: None,
            files: dir.path().join("files"),
            hostname: "test-host".to_owned(),
            tls: TlsSettings { brought: Some((path.clone(), key_path.clone())), ..TlsSettings::default() },
            peers: Vec::new(),
            bounds: Bounds::default(),
        };
        let on = Foundation {
            audit: None,
            admission: Admission::new(store, clock.clone(), Host::default()),
            clock,
            logs: fake_logs(),
            output: Arc::new(|_, _| Box::pin(async { Ok(None) })),
            notices: Arc::new(|| Err(std::io::Error::other("there is no output"))),
            readiness: Arc::new(Readiness::new()),
            stop: Arc::new(|_| {}),
            look: Arc::new(|| Box::pin(async {})),
            processes: Arc::new(|_| Box::pin(async { None })),
            feed: Arc::new(|_, _| Box::pin(async { Ok(0) })),
        };
        let error = server::start(config, on).await.err().unwrap();
        std::error::Error::source(&error).unwrap().to_string().replace(&dir.path().display().to_string(), "DIR")
    };
    let (certificate, key) = Authority::new("theirs").signs("web", "it", &["a.example"]);
    let (_, other_key) = Authority::new("theirs").signs("web", "it", &["a.example"]);
    let mut said = Vec::new();
    for (certificate, key, mode) in [
        (&*certificate, &*key, 0o644),
        ("nothing", &*key, 0o600),
        (&*certificate, "nothing", 0o600),
        (&*certificate, &*other_key, 0o600),
    ] {
        replace(&path, certificate);
        replace(&key_path, key);
        std::fs::set_permissions(&key_path, std::fs::Permissions::from_mode(mode)).unwrap();
        said.push(refusal().await);
    }
    insta::assert_snapshot!(said.join("\n"), @r"
    cannot use `DIR/tls.key`: everybody on this machine may read it; `chmod 600` it
    cannot use `DIR/tls.crt`: there is no certificate in it
    cannot use `DIR/tls.key`: there is no private key in it: no items found
    cannot use `DIR/tls.key`: it is not the key of the certificate in `DIR/tls.crt`
    ");
}

#[tokio::test]
async fn a_client_certificate_says_who_one_is() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let client_ca: PathBuf = dir.path().join("clients.pem");
    replace(&client_ca, &ours.pem);
    let api = Api::configured(Limits::default(), Arc::new(System), |config| {
        config.tls.client_ca = Some(client_ca.clone());
    })
    .await;
    let review = r#"{"kind":"SelfSubjectReview","apiVersion":"authentication.k8s.io/v1"}"#;
    let request = format!(
        "POST /apis/authentication.k8s.io/v1/selfsubjectreviews HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{review}",
        review.len()
    );
    let who = async |shown: Option<(String, String)>| {
        let config = builder(BOTH).with_root_certificates(trusting(&api));
        let config = match shown {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
                let key = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).unwrap();
                match config.with_client_auth_cert(vec![certificate], PrivateKeyDer::Pkcs8(key)) {
                    Ok(config) => config,
                    Err(_) => return "no certificate of that key".to_owned(),
                }
            }
        };
        match connected(api.server.address, "localhost", config).await {
            Ok(mut stream) => ask(&mut stream, &request).await,
            Err(_) => String::new(),
        }
    };
    let early = who(Some(ours.signs("alice", "system:masters", &[]))).await;
    assert!(early.starts_with("HTTP/1.1 401"), "nobody is let in whom no User stands for: {early}");
    for name in ["alice", "bob"] {
        api.post("/apis/appm.dev/v1/users", &json!({"metadata": {"name": name}})).await.expect(201);
    }
    let alice = who(Some(ours.signs("alice", "system:masters", &[]))).await;
    assert!(alice.contains(r#""username":"alice""#) && !alice.contains("masters"), "{alice}");
    let nobody = who(None).await;
    assert!(nobody.starts_with("HTTP/1.1 401"), "{nobody}");
    // Whatever is changed in it, it is another one, or none.
    let (pem, key) = ours.signs("alice", "builders", &[]);
    let good = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec();
    for at in (0..good.len()).step_by(good.len() / 40) {
        let mut changed = good.clone();
        changed[at] ^= 1 << (at % 8);
        let said = who(Some((appm::policy::certificate::pem(&changed), key.clone()))).await;
        assert!(!said.contains("alice") && !said.starts_with("HTTP/1.1 5"), "{at}: {said}");
    }
    // appm's own parts do not come this way.
    let part = who(Some(ours.signs("system:appm:agent", "system:masters", &[]))).await;
    assert!(part.starts_with("HTTP/1.1 401"), "{part}");
    // Of an authority that nobody named: no conversation.
    assert_eq!(who(Some(theirs.signs("alice", "system:masters", &[]))).await, "");

    // Whoever came by a certificate goes with its authority, whatever they are in the middle of.
    let client = |authority: &Authority, user: &str| {
        let (certificate, key) = authority.signs(user, "devs", &[]);
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).unwrap());
        builder(BOTH).with_root_certificates(trusting(&api)).with_client_auth_cert(vec![certificate], key).unwrap()
    };
    let watching = async |config: ClientConfig| {
        let mut stream = connected(api.server.address, "localhost", config).await.unwrap();
        let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n");
        stream.write_all(format!("{head}content-length: {}\r\n\r\n{review}", review.len()).as_bytes()).await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 201");
        stream
    };
    let mut taken_away = watching(client(&ours, "alice")).await;
    replace(&client_ca, &format!("{}{}", ours.pem, theirs.pem));
    let both = async || who(Some(theirs.signs("bob", "devs", &[]))).await.contains("bob");
    until("both authorities are asked for", both).await;
    let mut kept = watching(client(&theirs, "bob")).await;

    replace(&client_ca, &theirs.pem);
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(60), taken_away.read_to_end(&mut rest)).await;
    drop(ended.expect("it ends"));
    kept.write_all(request.as_bytes()).await.unwrap();
    let mut rest = Vec::new();
    kept.read_to_end(&mut rest).await.unwrap();
    assert!(String::from_utf8_lossy(&rest).contains("HTTP/1.1 201"), "the other authority is there still");
    let trusted = async || who(Some(theirs.signs("bob", "system:masters", &[]))).await.contains("bob");
    until("the other authority is asked for", trusted).await;
    assert_eq!(who(Some(ours.signs("alice", "system:masters", &[]))).await, "");
    api.server.stop().await;
}

#[tokio::test]
async fn requests_for_other_hosts_are_not_answered_at_any_door() {
    let api = Api::configured(Limits::default(), Arc::new(System), |config| {
        config.tls.names = vec!["san.example".to_owned()];
        config.tls.allowed_hosts = vec!["*.proxy.example".to_owned()];
    })
    .await;
    for (host, code) in [
        ("localhost", 200),
        ("test-host:6060", 200),
        ("san.example", 200),
        ("a.proxy.example", 200),
        ("evil.example", 421),
    ] {
        let config = builder(BOTH).with_root_certificates(trusting(&api)).with_no_client_auth();
        let mut stream = connected(api.server.address, "san.example", config).await.unwrap();
        let request = format!("GET /healthz HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let answer = ask(&mut stream, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code}")), "{host}: {answer}");
        let mut local = tokio::net::UnixStream::connect(api.socket()).await.unwrap();
        let answer = ask(&mut local, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code}")), "{host}: {answer}");
    }
    api.server.stop().await;
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing_and_is_shown_nothing() {
    let api = Api::start().await;
    let json = ("content-type", "application/json");
    let from = |origin| [json, ("host", "localhost:6060"), ("origin", origin)];
    let post = async |origin, name: &str| api.send(Method::POST, APPS, &from(origin), app(name).to_string()).await.code;
    assert_eq!(post("https://evil.example", "a").await, 403);
    assert_eq!(post("http://localhost:3000", "a").await, 403);
    assert_eq!(post("https://localhost:6060", "a").await, 201);
    let preflight =
        [("host", "localhost"), ("origin", "https://evil.example"), ("access-control-request-method", "PUT")];
    let preflight = api.send(Method::OPTIONS, APPS, &preflight, "").await.expect(403);
    for answer in [preflight, api.get(APPS).await, api.get("/docs").await, api.get("/nothing").await] {
        let header = |name: &str| answer.headers.get(name).map_or("", |v| v.to_str().unwrap());
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("x-frame-options"), "DENY");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert!(header("content-security-policy").starts_with("default-src 'none'"));
        assert!(header("content-security-policy").contains("frame-ancestors 'none'"));
        assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("access-control-")));
        assert_eq!(header("strict-transport-security"), "");
    }
    api.server.stop().await;
}
