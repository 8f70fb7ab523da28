//! As much of MessagePack as App Mesh's frames need: a map of texts, bytes, numbers, and maps of texts. A crate for it would weigh more
//! than this, and would copy the body.

use std::ops::Range;

use bytes::Bytes;

/// A request, as a frame says it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::server) struct Request {
    pub uuid: String,
    pub uri: String,
    pub method: String,
    pub body: Bytes,
    pub headers: Vec<(String, String)>,
    pub query: Vec<(String, String)>,
}

/// Values within values that are passed over.
const DEEPEST: usize = 16;
/// Headers, or parameters, of a request: each takes many times its bytes.
const MOST: usize = 1000;

impl Request {
    /// Reads a frame; the body is a part of it. `None` for what is no request.
    pub(in crate::server) fn read(frame: &Bytes) -> Option<Self> {
        let mut reader = Reader { bytes: frame, place: 0 };
        let mut request = Self::default();
        for _ in 0..reader.map()? {
            match reader.text()?.as_str() {
                "uuid" => request.uuid = reader.text()?,
                "request_uri" => request.uri = reader.text()?,
                "http_method" => request.method = reader.text()?,
                "body" => request.body = frame.slice(reader.span()?),
                "headers" => request.headers = reader.texts()?,
                "query" => request.query = reader.texts()?,
                _ => reader.pass(0)?,
            }
        }
        Some(request)
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    place: usize,
}

impl Reader<'_> {
    fn take(&mut self, length: usize) -> Option<Range<usize>> {
        let end = self.place.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        let range = self.place..end;
        self.place = end;
        Some(range)
    }

    fn byte(&mut self) -> Option<u8> {
        let range = self.take(1)?;
        Some(self.bytes[range.start])
    }

    /// A number of so many bytes, the highest first.
    fn number(&mut self, width: usize) -> Option<usize> {
        let range = self.take(width)?;
        Some(self.bytes[range].iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    fn map(&mut self) -> Option<usize> {
        match self.byte()? {
            head @ 0x80..=0x8f => Some(usize::from(head & 0x0f)),
            0xde => self.number(2),
            0xdf => self.number(4),
            0xc0 => Some(0),
            _ => None,
        }
    }

    /// Where a text or bytes stand.
    fn span(&mut self) -> Option<Range<usize>> {
        let length = match self.byte()? {
            head @ 0xa0..=0xbf => usize::from(head & 0x1f),
            0xc4 | 0xd9 => self.number(1)?,
            0xc5 | 0xda => self.number(2)?,
            0xc6 | 0xdb => self.number(4)?,
            0xc0 => 0,
            _ => return None,
        };
        self.take(length)
    }

    /// A text, or a number as one: parameters are often numbers.
    fn text(&mut self) -> Option<String> {
        let before = self.place;
        if let Some(span) = self.span() {
            return String::from_utf8(self.bytes[span].to_vec()).ok();
        }
        self.place = before;
        Some(match self.byte()? {
            number @ 0..=0x7f => number.to_string(),
            negative @ 0xe0..=0xff => negative.cast_signed().to_string(),
            0xc2 => "false".to_owned(),
            0xc3 => "true".to_owned(),
            width @ 0xcc..=0xcf => self.number(1 << (width - 0xcc))?.to_string(),
            0xd0 => (self.number(1)? as u8).cast_signed().to_string(),
            0xd1 => (self.number(2)? as u16).cast_signed().to_string(),
            0xd2 => (self.number(4)? as u32).cast_signed().to_string(),
            0xd3 => (self.number(8)? as u64).cast_signed().to_string(),
            _ => return None,
        })
    }

    fn texts(&mut self) -> Option<Vec<(String, String)>> {
        let length = self.map().filter(|length| *length <= MOST)?;
        // No more than there can be.
        let mut all = Vec::with_capacity(length.min(64));
        for _ in 0..length {
            all.push((self.text()?, self.text()?));
        }
        Some(all)
    }

    /// Passes a value over.
    fn pass(&mut self, depth: usize) -> Option<()> {
        if depth > DEEPEST {
            return None;
        }
        let before = self.place;
        let head = self.byte()?;
        let values = match head {
            0x80..=0x8f => usize::from(head & 0x0f) * 2,
            0x90..=0x9f => usize::from(head & 0x0f),
            0xde => self.number(2)?.checked_mul(2)?,
            0xdf => self.number(4)?.checked_mul(2)?,
            0xdc => self.number(2)?,
            0xdd => self.number(4)?,
            0xca => return self.take(4).map(drop),
            0xcb => return self.take(8).map(drop),
            _ => {
                self.place = before;
                return self.text().map(drop);
            }
        };
        (0..values).try_for_each(|_| self.pass(depth + 1))
    }
}

/// The beginning of a frame's content; so many bytes of the body come after it.
pub(super) fn head(uuid: &str, uri: &str, code: u16, kind: &str, headers: &[(String, String)], body: usize) -> Vec<u8> {
    let mut out = vec![0x86];
    for (name, value) in [("uuid", uuid), ("request_uri", uri), ("body_msg_type", kind)] {
        text(&mut out, name);
        text(&mut out, value);
    }
    text(&mut out, "http_status");
    out.push(0xcd);
    out.extend(code.to_be_bytes());
    text(&mut out, "headers");
    out.push(0xde);
    out.extend(u16::try_from(headers.len()).unwrap_or(u16::MAX).to_be_bytes());
    for (name, value) in headers.iter().take(usize::from(u16::MAX)) {
        text(&mut out, name);
        text(&mut out, value);
    }
    text(&mut out, "body");
    out.push(0xc6);
    out.extend(u32::try_from(body).unwrap_or(u32::MAX).to_be_bytes());
    out
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(0xdb);
    out.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_is_read_as_pythons_client_packs_it() {
        // msgpack.packb({"uuid": "u", "request_uri": "/a", "http_method": "GET", "client_addr": "h", "body": b"xyz",
        //   "headers": {"A": "b"}, "query": {"timeout": 300, "n": -1, "f": 1.5}}) without the last one, which is no text.
        let frame =
            b"\x87\xa4uuid\xa1u\xabrequest_uri\xa2/a\xabhttp_method\xa3GET\xabclient_addr\xa1h\xa4body\xc4\x03xyz\
            \xa7headers\x81\xa1A\xa1b\xa5query\x82\xa7timeout\xcd\x01,\xa1n\xff";
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = Request {
            uuid: "u".to_owned(),
            uri: "/a".to_owned(),
            method: "GET".to_owned(),
            body: Bytes::from_static(b"xyz"),
            headers: vec![pair("A", "b")],
            query: vec![pair("timeout", "300"), pair("n", "-1")],
        };
        assert_eq!(Request::read(&Bytes::from_static(frame)), Some(expected));
        for cut in 0..frame.len() {
            assert_eq!(Request::read(&Bytes::copy_from_slice(&frame[..cut])), None, "{cut}");
        }
    }

    #[test]
    fn what_claims_to_be_longer_than_it_is_takes_no_memory() {
        for frame in
            [&b"\xdf\xff\xff\xff\xff"[..], b"\x81\xa4body\xc6\xff\xff\xff\xff", b"\x81\xa7headers\xdf\xff\xff\xff\xff"]
        {
            assert_eq!(Request::read(&Bytes::copy_from_slice(frame)), None);
        }
        let deep = [b"\x81\xa1x".to_vec(), vec![0x91; 1000], vec![0x01]].concat();
        assert_eq!(Request::read(&deep.into()), None);
    }

    #[test]
    fn nobody_sends_headers_by_the_thousand() {
        let headers = |count: u16| {
            let length = [&[0xde][..], &count.to_be_bytes()].concat();
            [&b"\x81\xa7headers"[..], &length, &[1, 2].repeat(count.into())].concat()
        };
        let read = |count| Request::read(&headers(count).into()).map(|request| request.headers.len());
        assert_eq!((read(1000), read(1001), read(60_000)), (Some(1000), None, None));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(frame in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Request::read(&frame.into());
        }
    }

    #[test]
    fn an_answer_is_what_clients_unpack() {
        let out = head("u", "/a", 200, "text/plain", &[("X-Exit-Code".to_owned(), "3".to_owned())], 2);
        let mut reader = Reader { bytes: &out, place: 0 };
        let mut found = Vec::new();
        for _ in 0..reader.map().expect("a map") {
            let name = reader.text().expect("a name");
            match name.as_str() {
                "headers" => found.push(format!("{name}={:?}", reader.texts().expect("headers"))),
                "body" => break,
                _ => found.push(format!("{name}={}", reader.text().expect("a value"))),
            }
        }
        assert_eq!(
            found.join(" "),
            "uuid=u request_uri=/a body_msg_type=text/plain http_status=200 headers=[(\"X-Exit-Code\", \"3\")]"
        );
        assert_eq!(&out[out.len() - 5..], b"\xc6\0\0\0\x02");
    }
}
