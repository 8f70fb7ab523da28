//! An issuer of OpenID Connect in the test process: TLS, a description, keys, and everything that it can do wrong.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use appm::auth::OidcIssuer;
use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
        RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio_rustls::{TlsAcceptor, rustls};

/// Whom its tokens are for.
pub(super) const AUDIENCE: &str = "appm";
const DESCRIPTION: &str = "/.well-known/openid-configuration";

/// An answer that is not the usual one.
#[derive(Clone)]
pub(super) enum Odd {
    Status(u16, &'static str),
    Body(Vec<u8>),
}

#[derive(Default)]
struct State {
    keys: Vec<Value>,
    odd: BTreeMap<&'static str, Odd>,
    asked: Vec<String>,
}

/// An issuer that answers.
pub(super) struct Issuer {
    pub(super) url: String,
    dir: tempfile::TempDir,
    state: Arc<Mutex<State>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A key that signs.
pub(super) enum Signer {
    Rsa(&'static str, Box<RsaKeyPair>),
    Ec(&'static str, EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

pub(super) fn text(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    /// One for each algorithm that is believed.
    pub(super) fn all() -> Vec<Self> {
        let rsa = || Box::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
        let ec = |how| EcdsaKeyPair::generate(how).unwrap();
        vec![
            Self::Rsa("RS256", rsa()),
            Self::Rsa("PS256", rsa()),
            Self::Ec("ES256", ec(&ECDSA_P256_SHA256_FIXED_SIGNING)),
            Self::Ec("ES384", ec(&ECDSA_P384_SHA384_FIXED_SIGNING)),
            Self::ed(1),
        ]
    }

    pub(super) fn ed(seed: u8) -> Self {
        Self::Ed(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }

    pub(super) fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(algorithm, _) | Self::Ec(algorithm, _) => algorithm,
            Self::Ed(_) => "EdDSA",
        }
    }

    /// Its public half, under a name.
    pub(super) fn jwk(&self, kid: &str) -> Value {
        match self {
            Self::Rsa(_, pair) => {
                let public = pair.public_key();
                let number = |bytes: &[u8]| text(bytes);
                json!({"kty": "RSA", "kid": kid, "use": "sig",
                    "n": number(public.modulus().big_endian_without_leading_zero()),
                    "e": number(public.exponent().big_endian_without_leading_zero())})
            }
            Self::Ec(algorithm, pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = if *algorithm == "ES256" { "P-256" } else { "P-384" };
                json!({"kty": "EC", "crv": curve, "kid": kid, "alg": algorithm, "x": text(x), "y": text(y)})
            }
            Self::Ed(pair) => json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": text(pair.public_key())}),
        }
    }

    /// A token with this header and these claims, whatever they say.
    pub(super) fn token(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", text(header.to_string()), text(claims.to_string()));
        let random = SystemRandom::new();
        let signature = match self {
            Self::Rsa(algorithm, pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let how: &'static dyn aws_lc_rs::signature::RsaEncoding =
                    if *algorithm == "RS256" { &RSA_PKCS1_SHA256 } else { &RSA_PSS_SHA256 };
                pair.sign(how, &random, signed.as_bytes(), &mut signature).unwrap();
                signature
            }
            Self::Ec(_, pair) => pair.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec(),
            Self::Ed(pair) => pair.sign(signed.as_bytes()).as_ref().to_vec(),
        };
        format!("{signed}.{}", text(signature))
    }

    /// A token with the header that a token of this key has.
    pub(super) fn sign(&self, kid: &str, claims: &Value) -> String {
        self.token(&json!({"alg": self.algorithm(), "typ": "JWT", "kid": kid}), claims)
    }
}

impl Issuer {
    pub(super) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        std::fs::write(dir.path().join("ca.pem"), made.cert.pem()).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/realm", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let (ours, issuer) = (state.clone(), url.clone());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, state, issuer) = (acceptor.clone(), ours.clone(), issuer.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let answer = service_fn(|request| answer(&state, &issuer, request));
                    let http = hyper::server::conn::http1::Builder::new();
                    drop(http.serve_connection(TokioIo::new(stream), answer).await);
                });
            }
        });
        Self { url, dir, state, task }
    }

    /// It ends; nobody answers at its address.
    pub(super) fn stop(&self) {
        self.task.abort();
    }

    pub(super) fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Has these keys from now on.
    pub(super) fn has(&self, keys: Vec<Value>) {
        self.state.lock().unwrap().keys = keys;
    }

    /// Answers oddly at a path (`keys`, or the description) from now on.
    pub(super) fn odd(&self, path: &'static str, odd: Option<Odd>) {
        let odds = &mut self.state.lock().unwrap().odd;
        match odd {
            Some(odd) => drop(odds.insert(path, odd)),
            None => drop(odds.remove(path)),
        }
    }

    /// How often its keys were asked for.
    pub(super) fn asked(&self) -> usize {
        self.state.lock().unwrap().asked.iter().filter(|path| path.ends_with("/keys")).count()
    }

    /// As a server is told of it.
    pub(super) fn settings(&self) -> OidcIssuer {
        let settings = json!({
            "issuer": self.url, "audiences": [AUDIENCE], "usernamePrefix": "sso:", "groupsClaim": "groups",
            "groupsPrefix": "sso:", "caFile": self.ca_file(), "requiredClaims": {"tier": "staff"},
        });
        serde_json::from_value(settings).unwrap()
    }

    /// What a good token says.
    pub(super) fn claims(&self, now: i64) -> Value {
        json!({
            "iss": self.url, "aud": AUDIENCE, "sub": "1234", "exp": now + 600, "iat": now, "tier": "staff",
            "groups": ["devs", "ops"],
        })
    }
}

async fn answer(
    state: &Mutex<State>,
    issuer: &str,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let path = request.uri().path().to_owned();
    let (odd, keys) = {
        let mut state = state.lock().unwrap();
        state.asked.push(path.clone());
        let odd = state.odd.iter().find(|(known, _)| path.ends_with(*known)).map(|(_, odd)| odd.clone());
        (odd, json!({"keys": state.keys}))
    };
    let tag = format!("\"{}\"", text(keys.to_string().as_bytes()).len());
    let plain = |body: Vec<u8>| Response::builder().header("etag", &tag).body(Full::new(Bytes::from(body))).unwrap();
    Ok(match odd {
        Some(Odd::Status(code, location)) => {
            Response::builder().status(code).header("location", location).body(Full::default()).unwrap()
        }
        Some(Odd::Body(body)) => plain(body),
        None if path.ends_with(DESCRIPTION) => {
            plain(json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys")}).to_string().into_bytes())
        }
        None if request.headers().get("if-none-match").is_some_and(|known| *known == *tag) => {
            Response::builder().status(304).body(Full::default()).unwrap()
        }
        None => plain(keys.to_string().into_bytes()),
    })
}
