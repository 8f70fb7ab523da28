//! The second factor: codes of an authenticator app (RFC 6238: SHA-1, 6 digits, 30 s), and recovery codes.
//!
//! A code is good in its own step and the ones beside it, once: the step of the last code that was used is kept, and it and all
//! before it are refused. Recovery codes are good once each.

use aws_lc_rs::hmac;
use jiff::Timestamp;

use super::secret;
use crate::api::{SecretValue, Totp};

const STEP: i64 = 30;
/// Steps before and after the present one whose codes are taken: clocks differ, and typing takes time.
const BESIDE: u64 = 1;
/// How many recovery codes there are.
const RECOVERY_CODES: usize = 10;
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// A new authenticator, unconfirmed.
pub(super) fn enrol() -> Totp {
    Totp { secret: SecretValue::of(&secret::random::<20>()), confirmed: false, last_step: 0, recovery: Vec::new() }
}

/// What an authenticator app reads from a QR code.
pub(super) fn uri(totp: &Totp, user: &str) -> String {
    let secret = base32(&totp.secret.bytes().unwrap_or_default());
    let user: String = user.bytes().map(escaped).collect();
    format!("otpauth://totp/appm:{user}?secret={secret}&issuer=appm&algorithm=SHA1&digits=6&period=30")
}

/// The secret as people type it.
pub(super) fn typed(totp: &Totp) -> String {
    base32(&totp.secret.bytes().unwrap_or_default())
}

fn escaped(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    }
}

/// The authenticator after a code was used; `None` if the code is wrong or was used before.
pub(super) fn used(totp: &Totp, given: &str, now: Timestamp) -> Option<Totp> {
    let given: String = given.chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
    if given.len() == 6 && given.bytes().all(|b| b.is_ascii_digit()) {
        let secret = totp.secret.bytes()?;
        let present = u64::try_from(now.as_second() / STEP).ok()?;
        let steps = present.saturating_sub(BESIDE)..=present + BESIDE;
        // All are compared, whichever fits: how long it takes tells nothing.
        let fits = steps.filter(|step| *step > totp.last_step).filter(|step| same(&code(&secret, *step), &given));
        return fits.max().map(|step| Totp { last_step: step, ..totp.clone() });
    }
    let given = given.to_ascii_uppercase();
    let place = totp.recovery.iter().position(|kept| secret::is(&given, kept))?;
    let mut after = totp.clone();
    after.recovery.remove(place);
    Some(after)
}

fn same(a: &str, b: &str) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a.as_bytes(), b.as_bytes()).is_ok()
}

/// New recovery codes: what the user gets, and what is kept.
pub(super) fn recovery() -> (Vec<String>, Vec<SecretValue>) {
    let codes = (0..RECOVERY_CODES).map(|_| base32(&secret::random::<10>()));
    codes
        .map(|code| {
            let groups: Vec<&str> = (0..4).map(|i| &code[4 * i..4 * i + 4]).collect();
            (groups.join("-").to_ascii_lowercase(), secret::kept(&code))
        })
        .unzip()
}

/// HOTP (RFC 4226) of a step.
fn code(secret: &[u8], step: u64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let at = usize::from(tag[19] & 15);
    let number = u32::from_be_bytes([tag[at] & 0x7f, tag[at + 1], tag[at + 2], tag[at + 3]]);
    format!("{:06}", number % 1_000_000)
}

/// The code of an authenticator now, as its app shows it; for tests.
#[cfg(test)]
pub(crate) fn shown(typed: &str, now: Timestamp) -> Option<String> {
    let mut bits = Vec::new();
    let (mut held, mut count) = (0u32, 0);
    for letter in typed.bytes() {
        let value = BASE32.iter().position(|known| *known == letter)?;
        held = (held << 5) | u32::try_from(value).ok()?;
        count += 5;
        if count >= 8 {
            count -= 8;
            bits.push((held >> count & 0xff) as u8);
        }
    }
    Some(code(&bits, u64::try_from(now.as_second() / STEP).ok()?))
}

/// RFC 4648, without padding.
fn base32(bytes: &[u8]) -> String {
    let (mut text, mut bits, mut held) = (String::new(), 0u32, 0);
    for byte in bytes {
        bits = (bits << 8) | u32::from(*byte);
        held += 8;
        while held >= 5 {
            held -= 5;
            text.push(char::from(BASE32[(bits >> held & 31) as usize]));
        }
    }
    if held > 0 {
        text.push(char::from(BASE32[(bits << (5 - held) & 31) as usize]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn known() -> Totp {
        Totp { secret: SecretValue::of(b"12345678901234567890"), confirmed: true, last_step: 0, recovery: Vec::new() }
    }

    #[test]
    fn the_vectors_of_rfc_6238_hold() {
        for (second, expected) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(code(b"12345678901234567890", second / 30), expected, "{second}");
            let now = at(i64::try_from(second).expect("small"));
            assert!(used(&known(), expected, now).is_some(), "{second}");
        }
    }

    #[test]
    fn the_vectors_of_rfc_4648_hold() {
        for (bytes, text) in
            [("", ""), ("f", "MY"), ("fo", "MZXQ"), ("foo", "MZXW6"), ("foob", "MZXW6YQ"), ("foobar", "MZXW6YTBOI")]
        {
            assert_eq!(base32(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn a_code_is_good_once_and_not_before_or_after_its_time() {
        let (totp, now) = (known(), 1_000_000_000);
        let step = 1_000_000_000 / 30;
        for (away, good) in [(-2i64, false), (-1, true), (0, true), (1, true), (2, false)] {
            let code = code(b"12345678901234567890", (step + away).unsigned_abs());
            assert_eq!(used(&totp, &code, at(now)).is_some(), good, "{away}");
        }
        let present = code(b"12345678901234567890", step.unsigned_abs());
        let after = used(&totp, &present, at(now)).expect("good");
        assert_eq!(used(&after, &present, at(now)), None, "it was used");
        let before = code(b"12345678901234567890", (step - 1).unsigned_abs());
        assert_eq!(used(&after, &before, at(now)), None, "one after it was used");
        for odd in ["", "12345", "1234567", "abcdef", "-1", "０５０４７１"] {
            assert_eq!(used(&totp, odd, at(now)), None, "{odd}");
        }
    }

    #[test]
    fn each_recovery_code_is_good_once() {
        let (codes, kept) = recovery();
        assert_eq!((codes.len(), kept.len()), (10, 10));
        let totp = Totp { recovery: kept, ..known() };
        let after = used(&totp, &codes[3], at(0)).expect("good");
        assert_eq!(after.recovery.len(), 9);
        assert_eq!(used(&after, &codes[3], at(0)), None);
        assert!(used(&after, &codes[4].to_uppercase().replace('-', ""), at(0)).is_some(), "as people type it");
        assert_eq!(used(&totp, "aaaa-aaaa-aaaa-aaaa", at(0)), None);
    }

    #[test]
    fn an_authenticator_app_can_read_the_uri() {
        let uri = uri(&known(), "ada@example.org");
        assert_eq!(
            uri,
            "otpauth://totp/appm:ada%40example.org?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=appm&algorithm=SHA1&digits=6&period=30"
        );
    }
}
