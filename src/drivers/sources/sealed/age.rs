//! Files encrypted by `age` (age-encryption.org/v1), for X25519 keys: opens them, and makes none.
//!
//! ```text
//! age-encryption.org/v1
//! -> X25519 SHARE          the file's key, once for each who may read it
//! WRAPPED KEY
//! --- MAC                  of all above
//! NONCE, then pieces of 64 KiB, each with its tag; the last one says that it is the last
//! ```
//! The crate `age` was looked at and left: it brings some ninety others (a second and a third implementation of curves, a pre-release of ML-KEM,
//! a framework for translations) to open a format that is five calls of the library that is here anyway.

use aws_lc_rs::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey},
    agreement::{self, PrivateKey, UnparsedPublicKey, X25519},
    hkdf::{HKDF_SHA256, Salt},
    hmac,
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};

const VERSION: &str = "age-encryption.org/v1";
const ARMOR: (&str, &str) = ("-----BEGIN AGE ENCRYPTED FILE-----", "-----END AGE ENCRYPTED FILE-----");
/// What a key begins with.
const HRP: &str = "age-secret-key-";
/// The longest head that is read.
const LONGEST_HEAD: usize = 64 << 10;
/// For so many at most is the file's key looked for.
const MOST_STANZAS: usize = 128;
const COLUMNS: usize = 64;
const PIECE: usize = 64 << 10;
const TAG: usize = 16;

/// Why a file cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// It is encrypted, and for none of these keys.
    NotForUs,
    /// It is no such file, or not as it was written.
    Damaged(&'static str),
}

/// A key that opens files.
pub(super) struct Identity {
    private: PrivateKey,
    public: [u8; 32],
}

impl Identity {
    /// `AGE-SECRET-KEY-1…`
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (hrp, bytes) = bech32::decode(text).ok()?;
        if hrp.to_lowercase() != HRP {
            return None;
        }
        let private = PrivateKey::from_private_key(&X25519, &bytes).ok()?;
        let public = private.compute_public_key().ok()?.as_ref().try_into().ok()?;
        Some(Self { private, public })
    }

    /// The file's key, out of a stanza that is for us.
    fn unwrap(&self, share: &[u8; 32], wrapped: &[u8]) -> Option<Vec<u8>> {
        let peer = UnparsedPublicKey::new(&X25519, share);
        let salt = [share.as_slice(), &self.public].concat();
        let derive = |shared: &[u8]| Ok(derived(&salt, shared, b"age-encryption.org/v1/X25519"));
        let key = agreement::agree(&self.private, peer, (), derive).ok()?;
        open(&key, [0; 12], wrapped).filter(|key| key.len() == 16)
    }
}

/// True for what begins as such a file does.
pub(super) fn is_age(bytes: &[u8]) -> bool {
    bytes.starts_with(VERSION.as_bytes()) || bytes.trim_ascii_start().starts_with(ARMOR.0.as_bytes())
}

/// What is in a file, armored or not.
pub(super) fn read(file: &[u8], identities: &[Identity]) -> Result<Vec<u8>, Closed> {
    match file.trim_ascii_start().starts_with(ARMOR.0.as_bytes()) {
        true => read_binary(&unarmored(file).ok_or(Closed::Damaged("its armor is not whole"))?, identities),
        false => read_binary(file, identities),
    }
}

fn unarmored(file: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(file).ok()?.trim().strip_prefix(ARMOR.0)?.strip_suffix(ARMOR.1)?;
    let lines: Vec<&str> = text.trim().lines().map(str::trim_end).collect();
    let (last, full) = lines.split_last()?;
    let whole = full.iter().all(|line| line.len() == COLUMNS) && (1..=COLUMNS).contains(&last.len());
    whole.then(|| STANDARD.decode(lines.concat()).ok()).flatten()
}

fn read_binary(file: &[u8], identities: &[Identity]) -> Result<Vec<u8>, Closed> {
    const NO_HEAD: Closed = Closed::Damaged("its head is not whole");
    let head = Head::read(file).ok_or(NO_HEAD)?;
    let wrapped = head.stanzas.iter().flat_map(|stanza| identities.iter().map(move |identity| (stanza, identity)));
    let key = wrapped.filter_map(|((share, wrapped), identity)| identity.unwrap(share, wrapped)).next();
    let key = key.ok_or(Closed::NotForUs)?;
    let signing = hmac::Key::new(hmac::HMAC_SHA256, &derived(&[], &key, b"header"));
    hmac::verify(&signing, head.signed, &head.mac).map_err(|_| Closed::Damaged("its head was changed"))?;
    let (nonce, body) = head.rest.split_at_checked(16).ok_or(Closed::Damaged("it ends too early"))?;
    pieces(&derived(nonce, &key, b"payload"), body)
}

struct Head<'a> {
    /// Shares and wrapped keys of all X25519 stanzas.
    stanzas: Vec<([u8; 32], Vec<u8>)>,
    signed: &'a [u8],
    mac: Vec<u8>,
    rest: &'a [u8],
}

impl<'a> Head<'a> {
    fn read(file: &'a [u8]) -> Option<Self> {
        let mut at = 0;
        let mut line = || {
            let rest = &file[at..file.len().min(LONGEST_HEAD)];
            let end = rest.iter().position(|byte| *byte == b'\n')?;
            let start = at;
            at += end + 1;
            Some((start, std::str::from_utf8(&rest[..end]).ok()?))
        };
        if line()?.1 != VERSION {
            return None;
        }
        let mut stanzas = Vec::new();
        loop {
            let (start, text) = line()?;
            if let Some(mac) = text.strip_prefix("--- ") {
                let mac = STANDARD_NO_PAD.decode(mac).ok()?;
                return Some(Self { stanzas, signed: &file[..start + 3], mac, rest: &file[at..] });
            }
            let mut words = text.strip_prefix("-> ")?.split(' ');
            let mut body = String::new();
            // A line that is not full ends it.
            loop {
                let (_, part) = line()?;
                body.push_str(part);
                match part.len() {
                    COLUMNS => {}
                    short if short < COLUMNS => break,
                    _ => return None,
                }
            }
            if words.next() == Some("X25519") && stanzas.len() < MOST_STANZAS {
                let share = STANDARD_NO_PAD.decode(words.next()?).ok()?.try_into().ok()?;
                stanzas.push((share, STANDARD_NO_PAD.decode(body).ok()?));
            }
        }
    }
}

fn pieces(key: &[u8; 32], body: &[u8]) -> Result<Vec<u8>, Closed> {
    const CHANGED: Closed = Closed::Damaged("it was changed, or it ends too early");
    let mut all = Vec::with_capacity(body.len());
    let count = body.len().div_ceil(PIECE + TAG).max(1);
    for (i, piece) in body.chunks(PIECE + TAG).enumerate() {
        let mut nonce = [0; 12];
        nonce[3..11].copy_from_slice(&(i as u64).to_be_bytes());
        nonce[11] = u8::from(i + 1 == count);
        let piece = open(key, nonce, piece).ok_or(CHANGED)?;
        // Only a file with nothing in it ends with nothing.
        if piece.is_empty() && i > 0 {
            return Err(CHANGED);
        }
        all.extend(piece);
    }
    if body.is_empty() { Err(CHANGED) } else { Ok(all) }
}

fn derived(salt: &[u8], secret: &[u8], info: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    let info = [info];
    let expanded = Salt::new(HKDF_SHA256, salt).extract(secret);
    expanded.expand(&info, HKDF_SHA256).and_then(|okm| okm.fill(&mut key)).expect("32 bytes are what it gives");
    key
}

fn open(key: &[u8; 32], nonce: [u8; 12], sealed: &[u8]) -> Option<Vec<u8>> {
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).ok()?);
    let mut bytes = sealed.to_vec();
    let length = key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut bytes).ok()?.len();
    bytes.truncate(length);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(key: &[u8; 32], text: &[u8]) -> Vec<u8> {
        let pieces: Vec<&[u8]> = if text.is_empty() { vec![text] } else { text.chunks(PIECE).collect() };
        let seal = |(i, piece): (usize, &&[u8])| {
            let mut nonce = [0; 12];
            nonce[3..11].copy_from_slice(&(i as u64).to_be_bytes());
            nonce[11] = u8::from(i + 1 == pieces.len());
            let mut bytes = piece.to_vec();
            let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).unwrap());
            key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut bytes).unwrap();
            bytes
        };
        pieces.iter().enumerate().flat_map(seal).collect()
    }

    #[test]
    fn a_long_file_is_opened_whole_or_not_at_all() {
        let key = [7; 32];
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 1] {
            let text: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let file = sealed(&key, &text);
            assert!(pieces(&key, &file) == Ok(text), "{length}");
            // Cut off where a piece ends, and pieces in another order.
            for end in (0..file.len()).step_by(PIECE + TAG) {
                assert!(pieces(&key, &file[..end]).is_err(), "{length} {end}");
            }
            if length > PIECE {
                let (first, rest) = file.split_at(PIECE + TAG);
                assert!(pieces(&key, &[rest, first].concat()).is_err(), "{length}");
            }
        }
        // A last piece with nothing in it is only that of a file with nothing in it.
        let mut odd = sealed(&key, &[1; PIECE + 1]);
        odd.truncate(PIECE + TAG);
        odd.extend(sealed(&key, &[]));
        assert!(pieces(&key, &odd).is_err());
    }
}
