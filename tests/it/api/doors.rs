//! Every way in: one and the same request, by each credential and each version of HTTP.

use appm::api::kinds;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioExecutor;
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    login,
    tls::{self, Authority},
    *,
};

/// Who there is: what they are in the tests, their role, their groups, and the account that they have on every Linux machine, which is
/// the name of their User.
const PEOPLE: [(&str, Option<&str>, &[&str], &str); 8] = [
    ("admin", Some("admin"), &[], "daemon"),
    ("edit", Some("edit"), &[], "bin"),
    ("operator", Some("operator"), &[], "sys"),
    ("view", Some("view"), &[], "games"),
    ("member", Some("member"), &["devs"], "man"),
    ("mate", Some("member"), &["devs"], "lp"),
    ("other", Some("member"), &[], "mail"),
    ("nobody", None, &[], "news"),
];

/// The name of somebody's User.
pub(super) fn user(who: &str) -> &'static str {
    PEOPLE.iter().find(|(name, ..)| *name == who).unwrap().3
}

fn password(who: &str) -> String {
    format!("correct horse of {who}")
}

/// A way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Credential {
    /// The owner of the socket speaks as somebody else.
    Impersonated,
    /// The kernel says whose account it is.
    Account,
    /// User name and password with each request.
    Password,
    /// An access token of a session.
    Session,
    /// A long-lived token.
    Token,
    /// In the handshake.
    Certificate,
}

/// A way in, in a version of HTTP: 1 or 2.
pub(super) type Door = (Credential, u8);

/// All doors, the one that the others are compared with among them. Only root connects from other accounts.
pub(super) fn doors() -> Vec<Door> {
    use Credential::{Account, Certificate, Impersonated, Password, Session, Token};
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("not root: nobody comes by the socket from another account");
    }
    // The one that comes first alternates: whoever takes every second door takes each credential, and both versions.
    [(Impersonated, 2), (Account, 1), (Password, 2), (Session, 1), (Token, 2), (Certificate, 1)]
        .into_iter()
        .filter(|(credential, _)| root || *credential != Account)
        .flat_map(|(credential, version)| [(credential, version), (credential, 3 - version)])
        .collect()
}

/// A server with people, and what each of them shows.
pub(super) struct House {
    pub(super) api: Api,
    authority: Authority,
    /// By who it is: access token and long-lived token.
    tokens: Vec<(&'static str, String, String)>,
    _dir: tempfile::TempDir,
}

/// Roles and people, who have no credentials.
pub(super) async fn people(api: &Api) {
    roles(api).await;
    for (_, role, groups, user) in PEOPLE {
        let roles: Vec<Value> = role.into_iter().map(|name| json!({ "name": name })).collect();
        let user = json!({"metadata": {"name": user}, "spec": {"groups": groups, "roles": roles}});
        api.post("/apis/appm.dev/v1/users", &user).await.expect(201);
    }
}

async fn roles(api: &Api) {
    let part = Caller::new(Identity::system("bootstrap"), "appm-bootstrap");
    for role in appm::auth::built_in_roles() {
        let served = kinds::find_by_word("roles").unwrap();
        let role = json!({"metadata": {"name": role.metadata.name}, "spec": role.spec});
        api.admission.create(&part, served, "", role, &WriteOptions::default()).await.unwrap();
    }
}

impl House {
    /// A server whose people have every credential.
    pub(super) async fn open() -> Self {
        let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new("clients"));
        let client_ca = dir.path().join("clients.pem");
        std::fs::write(&client_ca, &authority.pem).unwrap();
        let api = Api::configured(Limits::default(), Arc::new(System), |config| {
            config.tls.client_ca = Some(client_ca);
        })
        .await;
        people(&api).await;
        let mut tokens = Vec::new();
        for (who, .., user) in PEOPLE {
            let path = format!("/apis/appm.dev/v1/users/{user}");
            let patch = json!({"spec": {"password": {"plain": password(who)}}});
            api.patch(&path, "application/merge-patch+json", patch.to_string()).await.expect(200);
            let ask = json!({"username": user, "password": password(who)});
            let granted = api.post("/auth/v1/login", &ask).await.expect(200).json();
            let access = granted["accessToken"].as_str().unwrap().to_owned();
            let issued = login::post(&api, Some(&access), "/auth/v1/tokens", json!({})).await.unwrap();
            tokens.push((who, access, issued["token"].as_str().unwrap().to_owned()));
        }
        // For those who come from other accounts.
        for (path, mode) in [(api.dir.path().to_owned(), 0o711), (api.socket(), 0o666)] {
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        }
        Self { api, authority, tokens, _dir: dir }
    }

    /// Somebody's long-lived token.
    pub(super) fn token(&self, who: &str) -> &str {
        &self.tokens.iter().find(|(name, ..)| *name == who).unwrap().2
    }

    /// Somebody at a door.
    pub(super) fn guest(&self, who: &'static str, door: Door) -> Guest<'_> {
        Guest { house: self, who, door, sender: None, tls: None }
    }
}

/// Somebody who has come in by a door. Connections are kept, as clients do.
pub(super) struct Guest<'h> {
    house: &'h House,
    who: &'static str,
    door: Door,
    sender: Option<Sender>,
    /// One for all connections: a handshake is not made twice.
    tls: Option<ClientConfig>,
}

enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

impl Guest<'_> {
    /// The code of the answer.
    pub(super) async fn code(&mut self, method: &Method, path: &str, body: &str) -> u16 {
        let answer = self.send(method, path, body).await;
        let code = answer.status().as_u16();
        if path.contains("watch=true") {
            // It would go on: only the head is wanted.
            self.sender.take_if(|sender| matches!(sender, Sender::One(_)));
        } else {
            answer.into_body().collect().await.unwrap();
        }
        code
    }

    /// The answer.
    pub(super) async fn reply(&mut self, method: &Method, path: &str, body: &str) -> Reply {
        let (head, body) = self.send(method, path, body).await.into_parts();
        Reply { code: head.status.as_u16(), headers: head.headers, body: body.collect().await.unwrap().to_bytes() }
    }

    /// The answer; its body is still to be read. Whoever is told to come again, because the machine is busy, does.
    pub(super) async fn send(&mut self, method: &Method, path: &str, body: &str) -> Response<Incoming> {
        let patient = async {
            loop {
                let answer = self.send_once(method, path, body).await;
                if !matches!(answer.status().as_u16(), 408 | 429) {
                    return answer;
                }
                eprintln!("{} by {:?}: {method} {path}: {}", self.who, self.door, answer.status());
                // What is not read to its end ends the connection.
                answer.into_body().collect().await.unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), patient).await.expect("an answer within a minute")
    }

    async fn send_once(&mut self, method: &Method, path: &str, body: &str) -> Response<Incoming> {
        let request = self.request(method, path, body);
        let mut sender = match self.sender.take() {
            Some(sender) => sender,
            None => self.connect().await,
        };
        let answer = match &mut sender {
            Sender::One(sender) => {
                sender.ready().await.unwrap();
                sender.send_request(request).await
            }
            Sender::Two(sender) => {
                sender.ready().await.unwrap();
                sender.send_request(request).await
            }
        };
        let answer = answer.unwrap_or_else(|e| panic!("{} by {:?}: {method} {path}: {e}", self.who, self.door));
        let closes = answer.headers().get("connection").is_some_and(|value| value == "close");
        self.sender = Some(sender).filter(|_| !closes);
        answer
    }

    fn request(&self, method: &Method, path: &str, body: &str) -> hyper::Request<Full<Bytes>> {
        let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let request = hyper::Request::builder().method(method).header("content-type", kind);
        let request = match self.door.1 {
            1 => request.uri(path).header("host", "localhost"),
            _ => request.uri(format!("https://localhost{path}")),
        };
        let (_, access, token) = self.house.tokens.iter().find(|(who, ..)| *who == self.who).unwrap();
        let request = match self.door.0 {
            Credential::Impersonated => request.header("impersonate-user", user(self.who)),
            Credential::Password => {
                let shown = BASE64_STANDARD.encode(format!("{}:{}", user(self.who), password(self.who)));
                request.header("authorization", format!("Basic {shown}"))
            }
            Credential::Session => request.header("authorization", format!("Bearer {access}")),
            Credential::Token => request.header("authorization", format!("Bearer {token}")),
            Credential::Account | Credential::Certificate => request,
        };
        request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()
    }

    async fn connect(&mut self) -> Sender {
        let api = &self.house.api;
        match self.door.0 {
            Credential::Impersonated => self.speak(tokio::net::UnixStream::connect(api.socket()).await.unwrap()).await,
            Credential::Account => {
                let stream = connect_as(user(self.who), &api.socket());
                self.speak(tokio::net::UnixStream::from_std(stream).unwrap()).await
            }
            _ => {
                let config = self.tls.get_or_insert_with(|| self.house.config(self.who, self.door)).clone();
                self.speak(tls::connected(api.server.address, "localhost", config).await.unwrap()).await
            }
        }
    }

    async fn speak(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Sender {
        let io = TokioIo::new(stream);
        if self.door.1 == 1 {
            let (sender, connection) = http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            return Sender::One(sender);
        }
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        Sender::Two(sender)
    }
}

impl House {
    fn config(&self, who: &str, (credential, version): Door) -> ClientConfig {
        let trusting = tls::builder(tls::BOTH).with_root_certificates(tls::trusting(&self.api));
        let mut config = match credential {
            Credential::Certificate => {
                let (certificate, key) = self.authority.signs(user(who), "people", &[]);
                let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
                let key = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).unwrap();
                trusting.with_client_auth_cert(vec![certificate], PrivateKeyDer::Pkcs8(key)).unwrap()
            }
            _ => trusting.with_no_client_auth(),
        };
        config.alpn_protocols = vec![if version == 1 { b"http/1.1".to_vec() } else { b"h2".to_vec() }];
        config
    }
}

/// A connection of a thread that has become somebody else: the kernel tells the server of who connected.
fn connect_as(account: &str, socket: &std::path::Path) -> std::os::unix::net::UnixStream {
    let account = nix::unistd::User::from_name(account).unwrap().unwrap_or_else(|| panic!("no account `{account}`"));
    std::thread::scope(|scope| {
        let become_and_connect = || {
            // Of this thread alone, and it ends with it.
            rustix::thread::set_thread_uid(rustix::fs::Uid::from_raw(account.uid.as_raw())).unwrap();
            let stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
            stream.set_nonblocking(true).unwrap();
            stream
        };
        scope.spawn(become_and_connect).join().unwrap()
    })
}
