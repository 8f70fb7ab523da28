//! Files encrypted by SOPS for age keys: their structure can be read, their values cannot.
//!
//! A block `sops:` beside the values has the data key, encrypted for each who may read it, and a code (`mac`) over all values in their
//! order. A value is `ENC[AES256_GCM,data:…,iv:…,tag:…,type:…]` and bound to the names above it. So what somebody puts into another place,
//! adds or leaves out is noticed, whether it was encrypted or not.
//!
//! What comes of it is the same text with the values in their places, and empty lines for the block, so that whatever is wrong with it
//! is found in the line where it is written.

use aes_gcm::{
    AesGcm, KeyInit as _,
    aead::{Aead as _, Payload, array::typenum::U32},
    aes::Aes256,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha512};

use super::age::{self, Closed, Identity};
use crate::policy::manifest;

const BLOCK: &str = "sops";
const OPENING: &str = "ENC[AES256_GCM,";
/// What the code begins with where it is of encrypted values only, so that it is never taken for the other one.
const ENCRYPTED_ONLY: [u8; 32] = [
    0x8a, 0x3f, 0xd2, 0xad, 0x54, 0xce, 0x66, 0x52, 0x7b, 0x10, 0x34, 0xf3, 0xd1, 0x47, 0xbe, 0x0b, 0x0b, 0x97, 0x5b,
    0x3b, 0xf4, 0x4f, 0x72, 0xc6, 0xfd, 0xad, 0xec, 0x81, 0x76, 0xf2, 0x7d, 0x69,
];
/// SOPS takes random bytes, of which there are more than other uses of this cipher have.
type Cipher = AesGcm<Aes256, U32>;

/// True for a text that SOPS has encrypted.
pub(super) fn is_sops(text: &str) -> bool {
    text.contains(OPENING) && (text.lines().any(|line| line.starts_with("sops:")) || text.contains("\"sops\""))
}

/// The text with its values in their places. `documents` are those of the text, in order.
pub(super) fn read(text: &str, documents: Vec<Value>, identities: &[Identity]) -> Result<String, Closed> {
    let block = documents.iter().find_map(|document| document.get(BLOCK)).cloned().unwrap_or_default();
    let cipher =
        Cipher::new_from_slice(&data_key(&block, identities)?).map_err(|_| Closed::Damaged("its key is none"))?;
    let encrypted_only = block["mac_only_encrypted"] == true;
    let mut opening = Opening { cipher: &cipher, mac: Sha512::new(), encrypted_only, found: Vec::new() };
    if encrypted_only {
        opening.mac.update(ENCRYPTED_ONLY);
    }
    let mut opened = Vec::new();
    for mut document in documents {
        if let Some(all) = document.as_object_mut() {
            all.shift_remove(BLOCK);
        }
        opened.push(opening.value(document, &mut Vec::new())?);
    }
    let text_of = |name: &str| block[name].as_str().unwrap_or_default();
    let mac =
        decrypted(&cipher, text_of("mac"), text_of("lastmodified")).and_then(|(mac, _)| String::from_utf8(mac).ok());
    let found = hex::encode_upper(opening.mac.finalize());
    match mac
        .is_some_and(|mac| aws_lc_rs::constant_time::verify_slices_are_equal(mac.as_bytes(), found.as_bytes()).is_ok())
    {
        true => Ok(in_place(text, &opening.found, opened)),
        false => Err(Closed::Damaged("its values are not those that were encrypted: its `mac` is of others")),
    }
}

/// The key of all values, which is there once for each who may read them.
fn data_key(block: &Value, identities: &[Identity]) -> Result<Vec<u8>, Closed> {
    if block["key_groups"].is_array() {
        return Err(Closed::Damaged("its key is in several groups, which are not understood"));
    }
    let mut why = Closed::NotForUs;
    for wrapped in block["age"].as_array().into_iter().flatten().filter_map(|one| one["enc"].as_str()) {
        match age::read(wrapped.as_bytes(), identities) {
            Ok(key) => return Ok(key),
            Err(Closed::NotForUs) => {}
            Err(damaged) => why = damaged,
        }
    }
    Err(why)
}

struct Opening<'a> {
    cipher: &'a Cipher,
    mac: Sha512,
    encrypted_only: bool,
    /// What stands in the text, and what it is.
    found: Vec<(String, Value)>,
}

impl Opening<'_> {
    fn value(&mut self, value: Value, path: &mut Vec<String>) -> Result<Value, Closed> {
        Ok(match value {
            Value::Object(all) => {
                let mut opened = Map::new();
                for (name, value) in all {
                    path.push(name);
                    let value = self.value(value, path)?;
                    opened.extend(path.pop().map(|name| (name, value)));
                }
                Value::Object(opened)
            }
            // The place in a list is no part of a value's name.
            Value::Array(all) => all.into_iter().map(|value| self.value(value, path)).collect::<Result<_, _>>()?,
            Value::String(text) if text.starts_with(OPENING) => {
                const CHANGED: Closed =
                    Closed::Damaged("a value was changed, or stands in another place than it was encrypted for");
                let (bytes, kind) = decrypted(self.cipher, &text, &format!("{}:", path.join(":"))).ok_or(CHANGED)?;
                self.mac.update(&bytes);
                let value = typed(bytes, kind).ok_or(CHANGED)?;
                self.found.push((text, value.clone()));
                value
            }
            plain => {
                if !self.encrypted_only {
                    self.mac.update(shown(&plain));
                }
                plain
            }
        })
    }
}

/// A value as the code is made of it: as Python writes it.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) if number.is_f64() => number.as_f64().map(|n| n.to_string()).unwrap_or_default(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    }
}

/// The bytes of `ENC[…]`, and of which type they are.
fn decrypted<'t>(cipher: &Cipher, text: &'t str, bound_to: &str) -> Option<(Vec<u8>, &'t str)> {
    let inner = text.strip_prefix(OPENING)?.strip_suffix(']')?;
    let mut fields = inner.split(',').filter_map(|field| field.split_once(':'));
    let mut next = |name: &str| fields.next().filter(|(known, _)| *known == name).map(|(_, value)| value);
    let mut sealed = STANDARD.decode(next("data")?).ok()?;
    let nonce: [u8; 32] = STANDARD.decode(next("iv")?).ok()?.try_into().ok()?;
    sealed.extend(STANDARD.decode(next("tag")?).ok()?);
    let kind = next("type")?;
    let payload = Payload { msg: &sealed, aad: bound_to.as_bytes() };
    Some((cipher.decrypt(&nonce.into(), payload).ok()?, kind))
}

fn typed(bytes: Vec<u8>, kind: &str) -> Option<Value> {
    let text = String::from_utf8(bytes).ok()?;
    Some(match kind {
        "str" | "bytes" | "time" => Value::String(text),
        "int" => Value::Number(text.parse::<i64>().ok()?.into()),
        "float" => Value::Number(serde_json::Number::from_f64(text.parse().ok()?)?),
        "bool" => Value::Bool(text.eq_ignore_ascii_case("true")),
        _ => return None,
    })
}

/// The values where they are written, if that says the same; else all of it written anew.
fn in_place(text: &str, found: &[(String, Value)], opened: Vec<Value>) -> String {
    let mut placed = without_block(text);
    for (sealed, value) in found {
        let value = value.to_string();
        placed = match [format!("\"{sealed}\""), format!("'{sealed}'"), sealed.clone()]
            .iter()
            .find(|s| placed.contains(&**s))
        {
            Some(known) => placed.replacen(known, &value, 1),
            None => placed,
        };
    }
    match manifest::values(&placed) {
        Some(documents) if documents == opened => placed,
        _ => opened.iter().map(|document| format!("{document:#}\n")).collect::<Vec<_>>().join("---\n"),
    }
}

/// The text of YAML with empty lines for the block.
fn without_block(text: &str) -> String {
    let mut inside = false;
    let lines = text.split_inclusive('\n').map(|line| {
        let goes_on = inside && (line.starts_with([' ', '\t', '\r', '\n']) || line.starts_with('#'));
        inside = goes_on || line.starts_with("sops:");
        if inside { "\n" } else { line }
    });
    lines.collect()
}
