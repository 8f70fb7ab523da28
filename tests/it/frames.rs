//! A client of App Mesh's wire, over TLS: its frames, its WebSocket (by a library that the server does not use), and HTTP for comparison. It shares no
//! code with the server.

use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::{Map, Value};
use tungstenite::{Message, WebSocket, client::IntoClientRequest};

use crate::harness::PATIENCE;

/// A connection over TLS.
pub(crate) type Stream = StreamOwned<ClientConnection, TcpStream>;

const MAGIC: u32 = 0x07c7_07f8;

/// A connection to a server whose authority is in this file.
pub(crate) fn connect(address: SocketAddr, ca: &Path) -> Stream {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    tcp.set_nodelay(true).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), tcp)
}

/// What came: an answer, or an event.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) uri: String,
    pub(crate) code: u64,
    pub(crate) headers: Map<String, Value>,
    pub(crate) body: Vec<u8>,
}

impl Frame {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(Value::as_str).unwrap_or_default()
    }
}

/// Opens a WebSocket, or says with what code that was refused.
pub(crate) fn upgrade(
    (address, ca): (SocketAddr, &Path),
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<WebSocket<Stream>, (u16, String)> {
    let mut request = format!("wss://localhost:{}{path}", address.port()).into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    match tungstenite::client(request, connect(address, ca)) {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
            let shown = answer.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
            Err((answer.status().as_u16(), shown.unwrap_or_default()))
        }
        Err(error) => panic!("{error}"),
    }
}

/// What parts messages.
enum Carrier {
    Frames(Box<Stream>),
    WebSocket(Box<WebSocket<Stream>>),
}

impl Carrier {
    fn tcp(&self) -> &TcpStream {
        match self {
            Carrier::Frames(stream) => stream.get_ref(),
            Carrier::WebSocket(socket) => socket.get_ref().get_ref(),
        }
    }
}

/// A connection that speaks messages.
pub(crate) struct Frames {
    carrier: Carrier,
    token: String,
    /// `X-Target-Host`, if it is not empty.
    pub(crate) target: String,
}

impl Frames {
    pub(crate) fn connect(address: SocketAddr, ca: &Path) -> Self {
        Self { carrier: Carrier::Frames(Box::new(connect(address, ca))), token: String::new(), target: String::new() }
    }

    /// Over a WebSocket, opened with these headers.
    pub(crate) fn web_socket(at: (SocketAddr, &Path), headers: &[(&'static str, &str)]) -> Self {
        let headers = [headers, &[("sec-websocket-protocol", "appmesh-ws")]].concat();
        let socket = upgrade(at, "/", &headers).unwrap();
        Self { carrier: Carrier::WebSocket(Box::new(socket)), token: String::new(), target: String::new() }
    }

    /// Why the server has closed its WebSocket.
    pub(crate) fn reason(&mut self) -> (u16, String) {
        let Carrier::WebSocket(socket) = &mut self.carrier else { panic!("it is none") };
        loop {
            match socket.read().unwrap() {
                Message::Close(Some(frame)) => return (frame.code.into(), frame.reason.to_string()),
                Message::Close(None) => return (0, String::new()),
                _ => {}
            }
        }
    }

    /// Another message than those of App Mesh.
    pub(crate) fn say(&mut self, message: Message) {
        let Carrier::WebSocket(socket) = &mut self.carrier else { panic!("it is none") };
        socket.send(message).unwrap();
    }

    /// Writes bytes under the WebSocket, as they are.
    pub(crate) fn write_under(&mut self, bytes: &[u8]) {
        let Carrier::WebSocket(socket) = &mut self.carrier else { panic!("it is none") };
        socket.get_mut().write_all(bytes).unwrap();
        socket.get_mut().flush().unwrap();
    }

    /// Logs in; every later call is made so.
    pub(crate) fn login(&mut self, user: &str, password: &str) -> Frame {
        let basic = format!("Basic {}", base64(&format!("{user}:{password}")));
        let answer = self.ask("POST", "/appmesh/login", &[("Authorization", &basic)], &[], b"");
        if answer.code == 200 {
            self.token = answer.json()["access_token"].as_str().unwrap().to_owned();
        }
        answer
    }

    /// One call, and the next frame that comes.
    pub(crate) fn ask(
        &mut self,
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
        query: &[(&str, &str)],
        body: &[u8],
    ) -> Frame {
        self.send(method, uri, headers, query, body);
        self.next().unwrap()
    }

    pub(crate) fn send(
        &mut self,
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
        query: &[(&str, &str)],
        body: &[u8],
    ) {
        let mut headers = headers.to_vec();
        if !self.token.is_empty() {
            headers.push(("Authorization", &self.token));
        }
        if !self.target.is_empty() {
            headers.push(("X-Target-Host", &self.target));
        }
        let mut out = vec![0x86];
        for (name, value) in [("uuid", "u-1"), ("request_uri", uri), ("http_method", method)] {
            text(&mut out, name);
            text(&mut out, value);
        }
        for (name, pairs) in [("headers", headers.as_slice()), ("query", query)] {
            text(&mut out, name);
            out.push(0xde);
            out.extend(u16::try_from(pairs.len()).unwrap().to_be_bytes());
            for (name, value) in pairs {
                text(&mut out, name);
                text(&mut out, value);
            }
        }
        text(&mut out, "body");
        out.push(0xc6);
        out.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        out.extend(body);
        self.block(&out);
    }

    /// Sends bytes of a file, or with none its end.
    pub(crate) fn block(&mut self, bytes: &[u8]) {
        let stream = match &mut self.carrier {
            Carrier::Frames(stream) => stream,
            Carrier::WebSocket(socket) => return socket.send(Message::binary(bytes.to_vec())).unwrap(),
        };
        let mut out = MAGIC.to_be_bytes().to_vec();
        out.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
        out.extend(bytes);
        stream.write_all(&out).unwrap();
        stream.flush().unwrap();
    }

    /// True if the server has closed its side, whatever it had still to send.
    pub(crate) fn is_closed(&self) -> bool {
        let tcp = self.carrier.tcp();
        let (own, other) = (tcp.local_addr().unwrap().port(), tcp.peer_addr().unwrap().port());
        let ends = (format!(":{other:04X}"), format!(":{own:04X}"));
        let sockets = fs::read_to_string("/proc/self/net/tcp").unwrap();
        let established = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|words| {
            words.len() > 3 && words[1].ends_with(&ends.0) && words[2].ends_with(&ends.1) && words[3] == "01"
        });
        !established
    }

    /// The bytes of the next frame, whatever they are.
    pub(crate) fn raw(&mut self) -> io::Result<Vec<u8>> {
        let stream = match &mut self.carrier {
            Carrier::Frames(stream) => stream,
            Carrier::WebSocket(socket) => loop {
                match socket.read() {
                    Ok(Message::Binary(bytes)) => return Ok(bytes.to_vec()),
                    Ok(Message::Close(_)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(_) => {}
                    Err(error) => return Err(io::Error::other(error)),
                }
            },
        };
        let mut head = [0; 8];
        stream.read_exact(&mut head)?;
        let word = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
        assert_eq!(word(0), MAGIC);
        let mut bytes = vec![0; word(4) as usize];
        stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// The next answer or event.
    pub(crate) fn next(&mut self) -> io::Result<Frame> {
        let bytes = self.raw()?;
        let mut reader = Reader(&bytes);
        let mut frame = Frame { uri: String::new(), code: 0, headers: Map::new(), body: Vec::new() };
        for _ in 0..reader.map() {
            match reader.text().as_str() {
                "request_uri" => frame.uri = reader.text(),
                "http_status" => frame.code = reader.number(),
                "body" => frame.body = reader.bytes(),
                "headers" => {
                    for _ in 0..reader.map() {
                        let name = reader.text();
                        frame.headers.insert(name, reader.text().into());
                    }
                }
                _ => drop(reader.text()),
            }
        }
        Ok(frame)
    }
}

/// As much of MessagePack as the server writes.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self, length: usize) -> &[u8] {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn long(&mut self, width: usize) -> u64 {
        self.take(width).iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn map(&mut self) -> u64 {
        match self.long(1) {
            head @ 0x80..=0x8f => head & 0x0f,
            0xde => self.long(2),
            head => panic!("no map: {head:x}"),
        }
    }

    fn number(&mut self) -> u64 {
        assert_eq!(self.long(1), 0xcd);
        self.long(2)
    }

    fn bytes(&mut self) -> Vec<u8> {
        let head = self.long(1);
        assert!(matches!(head, 0xc6 | 0xdb), "no text and no bytes: {head:x}");
        let length = usize::try_from(self.long(4)).unwrap();
        self.take(length).to_vec()
    }

    fn text(&mut self) -> String {
        String::from_utf8(self.bytes()).unwrap()
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(0xda);
    out.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
    out.extend(text.as_bytes());
}

fn base64(text: &str) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letter = |bits: u32| char::from(LETTERS[(bits & 63) as usize]);
    let of = |three: &[u8]| {
        let bits = (0..3).fold(0u32, |bits, i| bits << 8 | u32::from(three.get(i).copied().unwrap_or(0)));
        let all = [letter(bits >> 18), letter(bits >> 12), letter(bits >> 6), letter(bits)];
        all.into_iter().take(three.len() + 1).chain(std::iter::repeat_n('=', 3 - three.len())).collect::<String>()
    };
    text.as_bytes().chunks(3).map(of).collect()
}

/// One request over HTTPS: the code, the head in lower case, and the body.
pub(crate) fn https(
    (address, ca): (SocketAddr, &Path),
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> (u16, String, Vec<u8>) {
    let mut stream = connect(address, ca);
    let is_host = |header: &&(&str, &str)| header.0.eq_ignore_ascii_case("host");
    let host = headers.iter().find(is_host).map_or("localhost", |(_, host)| host);
    let mut head =
        format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}", body.len());
    for (name, value) in headers.iter().filter(|header| !is_host(header)) {
        head += &format!("\r\n{name}: {value}");
    }
    stream.write_all(format!("{head}\r\n\r\n").as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut whole = Vec::new();
    stream.read_to_end(&mut whole).unwrap();
    let end = whole.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&whole[..end]).to_lowercase();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    (code, head, whole.split_off(end + 4))
}

/// `user:password` as a header has it.
pub(crate) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64(&format!("{user}:{password}")))
}
