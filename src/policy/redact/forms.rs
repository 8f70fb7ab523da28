//! A secret value as it may be written: raw, and in the usual encodings. Each form is a text to look for.

use std::collections::BTreeSet;

/// Shorter texts are not looked for: they are in everything.
pub const SHORTEST: usize = 4;
/// Longer texts are looked for piece by piece, so that never more than this is held back.
pub const LONGEST: usize = 128;
/// Of larger values only the lines and base64 are looked for: nobody escapes these.
const LARGE: usize = 64 << 10;
/// Where PEM and MIME break lines of base64.
const WIDTHS: [usize; 2] = [64, 76];

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Adds every text that gives a value away.
pub(super) fn add(value: &[u8], all: &mut BTreeSet<Vec<u8>>) {
    let mut put = |text: Vec<u8>| put_pieces(&text, all);
    let whole = trim(value);
    for line in lines(whole) {
        put(line.to_vec());
        if whole.len() <= LARGE {
            escaped(line).into_iter().for_each(&mut put);
        }
    }
    if whole.len() < SHORTEST {
        return;
    }
    for alphabet in [STANDARD, URL] {
        let text = base64_alone(whole, alphabet);
        for width in WIDTHS.into_iter().filter(|width| text.len() > *width) {
            text.chunks(width).for_each(|line| put(line.to_vec()));
        }
        put(text);
        for shift in 0..3 {
            put(base64_within(whole, shift, alphabet));
        }
    }
    if whole.len() <= LARGE {
        put(hex(whole, b"0123456789abcdef"));
        put(hex(whole, b"0123456789ABCDEF"));
    }
}

/// Without the line break at the end that a file has.
fn trim(value: &[u8]) -> &[u8] {
    let end = value.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |at| at + 1);
    &value[..end]
}

/// What says only that there is a key is no secret.
fn lines(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b'\n').map(trim).filter(|line| !line.starts_with(b"-----"))
}

fn put_pieces(text: &[u8], all: &mut BTreeSet<Vec<u8>>) {
    if text.len() < SHORTEST {
        return;
    }
    if text.len() <= LONGEST {
        all.insert(text.to_vec());
        return;
    }
    // Equal pieces: none is so short that it would be found elsewhere.
    let pieces = text.len().div_ceil(LONGEST);
    text.chunks(text.len().div_ceil(pieces)).for_each(|piece| {
        all.insert(piece.to_vec());
    });
}

/// The ways to write a line so that a parser gives it back. Most lines have none that differs.
fn escaped(line: &[u8]) -> Vec<Vec<u8>> {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let component = |byte: u8| unreserved(byte) || b"!*'()".contains(&byte);
    let path = |byte: u8| unreserved(byte) || byte == b'/';
    let mut forms = vec![
        percent(line, unreserved, true, false),
        percent(line, unreserved, false, false),
        percent(line, unreserved, true, true),
        percent(line, component, true, false),
        percent(line, path, true, false),
    ];
    for style in [Json::Plain, Json::Slash, Json::Ascii, Json::Html] {
        forms.push(json(line, style));
    }
    for style in XML {
        forms.push(replaced(line, |byte| style.iter().find(|(of, _)| *of == byte).map(|(_, by)| *by)));
    }
    forms.push(replaced(line, |byte| (byte == b'\'').then_some(r"'\''")));
    forms.push(replaced(line, |byte| (byte == b'\'').then_some(r#"'"'"'"#)));
    forms.push(shell(line, |byte| b"\\\"$`".contains(&byte)));
    forms.push(shell(line, |byte| b"\\\"$`!".contains(&byte)));
    forms.push(shell(line, |byte| byte == b'\\' || byte == b'\''));
    // As `printf %q` and shlex do it, with a backslash before whatever could mean something.
    forms.push(shell(line, |byte| byte.is_ascii() && !byte.is_ascii_alphanumeric() && !b"-_./:=@%+,".contains(&byte)));
    forms.push(shell(line, |byte| byte.is_ascii() && !byte.is_ascii_alphanumeric() && !b"-_./:=@%+".contains(&byte)));
    forms
}

fn percent(line: &[u8], stays: impl Fn(u8) -> bool, upper: bool, plus: bool) -> Vec<u8> {
    let digits = if upper { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
    let mut text = Vec::with_capacity(line.len());
    for byte in line {
        match byte {
            b' ' if plus => text.push(b'+'),
            byte if stays(*byte) => text.push(*byte),
            byte => text.extend([b'%', digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]),
        }
    }
    text
}

/// How writers of JSON differ.
#[derive(Clone, Copy, PartialEq)]
enum Json {
    Plain,
    /// `\/`
    Slash,
    /// What is not ASCII as `\u00e4`.
    Ascii,
    /// `<`, `>` and `&` as `\u003c`.
    Html,
}

fn json(line: &[u8], style: Json) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(line) else { return Vec::new() };
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '/' if style == Json::Slash => out.push_str("\\/"),
            '<' | '>' | '&' if style == Json::Html => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c if style == Json::Ascii && !c.is_ascii() => {
                c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
            }
            c => out.push(c),
        }
    }
    out.into_bytes()
}

/// How writers of XML and HTML differ.
const XML: [&[(u8, &str)]; 5] = [
    &[(b'&', "&amp;"), (b'<', "&lt;"), (b'>', "&gt;")],
    &[(b'&', "&amp;"), (b'<', "&lt;"), (b'>', "&gt;"), (b'"', "&quot;")],
    &[(b'&', "&amp;"), (b'<', "&lt;"), (b'>', "&gt;"), (b'"', "&quot;"), (b'\'', "&apos;")],
    &[(b'&', "&amp;"), (b'<', "&lt;"), (b'>', "&gt;"), (b'"', "&#34;"), (b'\'', "&#39;")],
    &[(b'&', "&amp;"), (b'<', "&lt;"), (b'>', "&gt;"), (b'"', "&quot;"), (b'\'', "&#x27;")],
];

fn replaced<'a>(line: &[u8], by: impl Fn(u8) -> Option<&'a str>) -> Vec<u8> {
    let mut text = Vec::with_capacity(line.len());
    for byte in line {
        match by(*byte) {
            Some(word) => text.extend_from_slice(word.as_bytes()),
            None => text.push(*byte),
        }
    }
    text
}

fn shell(line: &[u8], is_special: impl Fn(u8) -> bool) -> Vec<u8> {
    line.iter().flat_map(|byte| is_special(*byte).then_some(b'\\').into_iter().chain([*byte])).collect()
}

fn hex(value: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    value.iter().flat_map(|byte| [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]).collect()
}

fn sextet(value: &[u8], bit: usize) -> usize {
    let (at, offset) = (bit / 8, bit % 8);
    let two = u16::from(value[at]) << 8 | u16::from(value.get(at + 1).copied().unwrap_or(0));
    usize::from(two >> (10 - offset) & 63)
}

/// Encoded by itself, without the padding: the last character is of the value alone.
fn base64_alone(value: &[u8], alphabet: &[u8; 64]) -> Vec<u8> {
    (0..value.len() * 8).step_by(6).map(|bit| alphabet[sextet(value, bit)]).collect()
}

/// The characters that are the value's alone where so many bytes (of three) stand before it.
fn base64_within(value: &[u8], shift: usize, alphabet: &[u8; 64]) -> Vec<u8> {
    let skipped = (6 - shift * 8 % 6) % 6;
    (skipped..)
        .step_by(6)
        .take_while(|bit| bit + 6 <= value.len() * 8)
        .map(|bit| alphabet[sextet(value, bit)])
        .collect()
}
