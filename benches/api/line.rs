//! One HTTP/1.1 connection over TLS that is kept, as plain as can be: the less this side costs, the more of the machine is
//! the server's.

use std::time::Instant;

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::server::Address;

pub(crate) const JSON: &str = "application/json";
pub(crate) const MERGE: &str = "application/merge-patch+json";
pub(crate) const APPLY: &str = "application/apply-patch+yaml";

pub(crate) struct Line {
    stream: TlsStream<TcpStream>,
    head: String,
    out: Vec<u8>,
    buffer: Vec<u8>,
}

/// An answer; its body is in the line's buffer.
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
    /// When the first byte of it came.
    pub(crate) began: Instant,
}

impl Answer<'_> {
    /// The body of an answer that is as it should be.
    pub(crate) fn sound(&self) -> &[u8] {
        assert!((200..300).contains(&self.status), "{}: {}", self.status, String::from_utf8_lossy(self.body));
        self.body
    }
}

pub(crate) async fn connect(address: &Address, protocol: &[u8]) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(&address.host).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(address.tls(protocol)).connect(name, stream).await.unwrap()
}

impl Line {
    pub(crate) async fn open(address: &Address) -> Self {
        let stream = connect(address, b"http/1.1").await;
        let head =
            format!("Host: {}\r\nAuthorization: Bearer {}\r\nUser-Agent: bench\r\n", address.host, address.token);
        Self { stream, head, out: Vec::new(), buffer: Vec::new() }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer<'_> {
        self.ask("GET", path, "", b"").await
    }

    /// One request and its whole answer.
    pub(crate) async fn ask(&mut self, method: &str, path: &str, media: &str, body: &[u8]) -> Answer<'_> {
        self.send(method, path, media, body).await;
        self.buffer.clear();
        let mut began = None;
        loop {
            let read = self.stream.read_buf(&mut self.buffer).await.unwrap();
            assert!(read > 0, "the server hung up");
            let began = *began.get_or_insert_with(Instant::now);
            let Some(end) = end_of_head(&self.buffer) else { continue };
            let (status, length) = parse(&self.buffer[..end]);
            self.buffer.reserve((end + length).saturating_sub(self.buffer.len()));
            while self.buffer.len() < end + length {
                let read = self.stream.read_buf(&mut self.buffer).await.unwrap();
                assert!(read > 0, "the server hung up");
            }
            return Answer { status, body: &self.buffer[end..end + length], began };
        }
    }

    async fn send(&mut self, method: &str, path: &str, media: &str, body: &[u8]) {
        self.out.clear();
        self.out.extend_from_slice(format!("{method} {path} HTTP/1.1\r\n{}", self.head).as_bytes());
        if !media.is_empty() {
            self.out
                .extend_from_slice(format!("Content-Type: {media}\r\nContent-Length: {}\r\n", body.len()).as_bytes());
        }
        self.out.extend_from_slice(b"\r\n");
        self.out.extend_from_slice(body);
        self.stream.write_all(&self.out).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Asks for something that does not end; what comes after the head is read piece by piece.
    pub(crate) async fn follow(mut self, path: &str) -> Followed {
        self.send("GET", path, "", b"").await;
        loop {
            let read = self.stream.read_buf(&mut self.buffer).await.unwrap();
            assert!(read > 0, "the server hung up");
            if let Some(end) = end_of_head(&self.buffer) {
                assert!(self.buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&self.buffer));
                self.buffer.drain(..end);
                return Followed(self);
            }
        }
    }
}

/// A body without an end.
pub(crate) struct Followed(Line);

impl Followed {
    /// Waits for bytes and gives them; none at the end.
    pub(crate) async fn piece(&mut self) -> &[u8] {
        self.0.buffer.clear();
        self.0.stream.read_buf(&mut self.0.buffer).await.unwrap();
        &self.0.buffer
    }
}

fn end_of_head(buffer: &[u8]) -> Option<usize> {
    buffer.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// Status and length of the body.
fn parse(head: &[u8]) -> (u16, usize) {
    let head = std::str::from_utf8(head).unwrap();
    let status = head[9..12].parse().unwrap();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then(|| value.parse().unwrap())
    });
    (status, length.unwrap_or_else(|| panic!("an answer without a length:\n{head}")))
}
