//! One question to an instance: a command, a request, a connection.
//!
//! As a kubelet asks: a certificate is not verified, up to ten redirects are followed as long as they stay on the host (one that
//! leads elsewhere counts as an answer), a body is read up to 10 KiB, and no proxy comes between.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, Uri, body::Incoming, client::conn::http1, header, http::uri::Authority};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{
    agent::launch::port_variable,
    api::{ExecAction, HttpGetAction, Instance, IntOrString, Object, TcpSocketAction, UriScheme},
    client::http::unverified,
    drivers::{Driver, Exec, Executed, StartKey},
    policy::expand::expand,
};

/// Where engines publish ports.
const LOOPBACK: &str = "127.0.0.1";
/// How much of a body is read.
const BODY: usize = 10 << 10;
/// Redirects that are followed.
const REDIRECTS: usize = 10;
/// How much of what a command said is told.
const TOLD: usize = 512;

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::agent) enum Answer {
    /// It is as it should be.
    Yes,
    /// It is not, for this reason.
    No(String),
    /// Nobody could ask. Says nothing of the instance.
    Unknown(String),
}

/// Whom to ask, and where.
#[derive(Clone, Debug)]
pub(in crate::agent) struct Place {
    pub instance: Arc<Object<Instance>>,
    pub key: StartKey,
    /// The address that is its own, if it has one.
    pub own: Option<String>,
    /// That of this machine.
    pub address: String,
}

impl Place {
    /// Where a port is reached, given by its number or by its name in `ports`. That of a container is asked where it is
    /// published, which is on the loopback; any other at the container itself, as a kubelet asks a Pod.
    pub(super) fn target<'a>(&'a self, host: &'a str, port: &IntOrString) -> Result<(&'a str, u16), String> {
        let (port, published) = self.port(port)?;
        let own = self.own.as_deref().unwrap_or(&self.address);
        let default = if published.is_some() { LOOPBACK } else { own };
        Ok((if host.is_empty() { default } else { host }, published.unwrap_or(port)))
    }

    fn port(&self, port: &IntOrString) -> Result<(u16, Option<u16>), String> {
        let spec = &self.instance.spec;
        let named = match port {
            IntOrString::Int(number) => {
                let number = u16::try_from(*number).map_err(|_| format!("{number} is no port"))?;
                match spec.ports.iter().find(|port| port.container_port == number) {
                    Some(port) => port,
                    None => return Ok((number, None)),
                }
            }
            IntOrString::String(name) => spec
                .ports
                .iter()
                .find(|port| port.name == *name)
                .ok_or_else(|| format!("no port of the instance is called `{name}`"))?,
        };
        let published = named.host_port.filter(|port| *port > 0 && spec.container.is_some());
        Ok((named.container_port, published))
    }

    /// As in a Pod: from the values that stand in the spec, and the ports.
    pub(super) fn words(&self, words: &[String]) -> Vec<String> {
        let spec = &self.instance.spec;
        let ports = spec.ports.iter().map(|port| (port_variable(&port.name), port.container_port.to_string()));
        let first = spec.ports.first().map(|port| ("PORT".to_owned(), port.container_port.to_string()));
        let written = spec.env.iter().filter_map(|var| Some((var.name.clone(), var.value.clone()?)));
        let known: BTreeMap<String, String> = first.into_iter().chain(ports).chain(written).collect();
        words.iter().map(|word| expand(word, |name| known.get(name).map(String::as_str))).collect()
    }
}

/// Runs a command beside the instance.
pub(in crate::agent) async fn exec(
    driver: &dyn Driver,
    place: &Place,
    action: &ExecAction,
    timeout: Duration,
    once: Option<&str>,
) -> Answer {
    let exec = Exec { argv: place.words(&action.command), timeout, once: once.map(str::to_owned) };
    match driver.exec(&place.key, exec).await {
        Ok(Executed { timed_out: true, .. }) => Answer::No(format!("the command did not end within {timeout:?}")),
        Ok(Executed { code: Some(0), .. }) => Answer::Yes,
        Ok(Executed { code, output, .. }) => {
            let said = String::from_utf8_lossy(&output);
            let said = said.trim();
            let from = said.ceil_char_boundary(said.len().saturating_sub(TOLD));
            let how = code.map_or("ended by a signal".to_owned(), |code| format!("exit code {code}"));
            Answer::No(if said.is_empty() { how } else { said[from..].to_owned() })
        }
        Err(e) => Answer::Unknown(e.to_string()),
    }
}

/// The answer on a machine without a network.
fn simulated(answers: bool) -> Answer {
    if answers { Answer::Yes } else { Answer::No("it is still starting".to_owned()) }
}

/// Opens a connection, and closes it.
pub(in crate::agent) async fn tcp(driver: &dyn Driver, place: &Place, action: &TcpSocketAction) -> Answer {
    if let Some(answers) = driver.answers(&place.key) {
        return simulated(answers);
    }
    let (host, port) = match place.target(&action.host, &action.port) {
        Ok(target) => target,
        Err(why) => return Answer::No(why),
    };
    match TcpStream::connect((host, port)).await {
        Ok(_) => Answer::Yes,
        Err(e) => Answer::No(format!("cannot connect to {host}:{port}: {}", plain(&e))),
    }
}

/// Sends a request; 200 to 399 is a yes.
pub(in crate::agent) async fn http(driver: &dyn Driver, place: &Place, action: &HttpGetAction) -> Answer {
    if let Some(answers) = driver.answers(&place.key) {
        return simulated(answers);
    }
    let (host, port) = match place.target(&action.host, &action.port) {
        Ok(target) => target,
        Err(why) => return Answer::No(why),
    };
    let scheme = match action.scheme {
        UriScheme::Http => "http",
        UriScheme::Https => "https",
    };
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let path = if action.path.starts_with('/') { action.path.clone() } else { format!("/{}", action.path) };
    let url = format!("{scheme}://{host}:{port}{path}");
    match follow(&url, action).await {
        Ok(200..=399) => Answer::Yes,
        Ok(code) => Answer::No(format!("HTTP probe failed with statuscode: {code}")),
        Err(why) => Answer::No(format!("Get \"{url}\": {why}")),
    }
}

async fn follow(url: &str, action: &HttpGetAction) -> Result<u16, String> {
    let mut url: Uri = url.parse().map_err(|e| format!("{e}"))?;
    let first = url.host().map(str::to_owned);
    for _redirect in 0..=REDIRECTS {
        let answer = request(&url, action).await?;
        let next = redirect(&url, &answer);
        let code = answer.status().as_u16();
        drain(answer.into_body()).await;
        match next {
            Some(next) if next.host() == first.as_deref() => url = next,
            _ => return Ok(code),
        }
    }
    Err(format!("stopped after {REDIRECTS} redirects"))
}

/// Where an answer leads, if it leads somewhere.
fn redirect(from: &Uri, answer: &Response<Stream>) -> Option<Uri> {
    if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let place = answer.headers().get(header::LOCATION)?.to_str().ok()?;
    if place.contains("://") {
        return place.parse().ok();
    }
    let path = match place.strip_prefix("//") {
        Some(_) => return format!("{}:{place}", from.scheme_str()?).parse().ok(),
        None if place.starts_with('/') => place.to_owned(),
        None => format!("{}/{place}", from.path().rsplit_once('/').map_or("", |(parent, _)| parent)),
    };
    Uri::builder().scheme(from.scheme_str()?).authority(from.authority()?.as_str()).path_and_query(path).build().ok()
}

/// A body together with the connection that it comes from.
struct Stream {
    body: Incoming,
    connection: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
}

async fn drain(mut stream: Stream) {
    let mut left = BODY;
    let read = async {
        while let Some(Ok(frame)) = stream.body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    tokio::select! { () = read => {}, () = &mut stream.connection => {} }
}

async fn request(url: &Uri, action: &HttpGetAction) -> Result<Response<Stream>, String> {
    let authority = url.authority().ok_or("there is no host")?;
    let secure = url.scheme_str() == Some("https");
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let tcp = TcpStream::connect((host.as_str(), port)).await.map_err(|e| plain(&e))?;
    let message = message(url, authority, action)?;
    if secure {
        let name = ServerName::try_from(host).map_err(|e| e.to_string())?;
        let tls = TlsConnector::from(UNVERIFIED.clone()).connect(name, tcp).await.map_err(|e| e.to_string())?;
        exchange(tls, message).await
    } else {
        exchange(tcp, message).await
    }
}

fn message(url: &Uri, authority: &Authority, action: &HttpGetAction) -> Result<Request<Empty<Bytes>>, String> {
    let given = |name: &str| action.http_headers.iter().any(|header| header.name.eq_ignore_ascii_case(name));
    let mut message = Request::get(url.path_and_query().map_or("/", |path| path.as_str()));
    let agent = concat!("appm-probe/", env!("CARGO_PKG_VERSION"));
    for (name, value) in
        [("host", authority.as_str()), ("user-agent", agent), ("accept", "*/*"), ("connection", "close")]
    {
        if !given(name) {
            message = message.header(name, value);
        }
    }
    for header in action.http_headers.iter().filter(|header| !header.value.is_empty()) {
        message = message.header(&header.name, &header.value);
    }
    message.body(Empty::new()).map_err(|e| e.to_string())
}

async fn exchange<S>(stream: S, message: Request<Empty<Bytes>>) -> Result<Response<Stream>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let mut connection: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
        // What is wrong with it is told to whoever waits for the answer.
        let _ = connection.await;
    });
    let answer = sender.send_request(message);
    tokio::pin!(answer);
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        () = &mut connection => {
            connection = Box::pin(std::future::pending());
            answer.await
        }
    };
    let describe = |e: hyper::Error| std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
    Ok(answer.map_err(describe)?.map(|body| Stream { body, connection }))
}

/// Without the number that Rust puts behind it.
fn plain(e: &io::Error) -> String {
    let text = e.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// A probe asks whether something answers, not who.
static UNVERIFIED: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| Arc::new(unverified()));
