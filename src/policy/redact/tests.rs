//! What is found, what is held back, and that neither depends on how a stream is cut.

use std::fmt::Write;

use proptest::prelude::*;

use super::*;

fn redactor(values: &[&str]) -> Redactor {
    Redactor::new(values.iter().map(|value| value.as_bytes())).expect("there is something to look for")
}

fn shown(values: &[&str], text: &str) -> String {
    String::from_utf8(redactor(values).redacted(text.as_bytes())).unwrap()
}

#[test]
fn a_value_is_found_as_people_and_programs_write_it() {
    let secret = "pa\"ss/wö&rd'<1>$x y";
    for (text, expected) in [
        ("is pa\"ss/wö&rd'<1>$x y.", "is ***."),
        // python3 -c 'import base64; …' of the value, of `a` and of `ab` before it, and something behind.
        ("cGEic3Mvd8O2JnJkJzwxPiR4IHk=", "***="),
        ("YXBhInNzL3fDtiZyZCc8MT4keCB5Lg==", "YX***Lg=="),
        ("YWJwYSJzcy93w7YmcmQnPDE+JHggeS4=", "YWJ***S4="),
        ("YWJwYSJzcy93w7YmcmQnPDE-JHggeS4", "YWJ***S4"),
        ("pa%22ss%2Fw%C3%B6%26rd%27%3C1%3E%24x%20y", "***"),
        ("pa%22ss%2fw%c3%b6%26rd%27%3c1%3e%24x%20y", "***"),
        ("pa%22ss%2Fw%C3%B6%26rd%27%3C1%3E%24x+y", "***"),
        ("pa%22ss%2Fw%C3%B6%26rd'%3C1%3E%24x%20y", "***"),
        ("pa%22ss/w%C3%B6%26rd%27%3C1%3E%24x%20y", "***"),
        (r#"{"p":"pa\"ss/wö&rd'<1>$x y"}"#, r#"{"p":"***"}"#),
        (r#"{"p":"pa\"ss\/wö&rd'<1>$x y"}"#, r#"{"p":"***"}"#),
        (r#"{"p":"pa\"ss/w\u00f6&rd'<1>$x y"}"#, r#"{"p":"***"}"#),
        (r#"{"p":"pa\"ss/wö\u0026rd'\u003c1\u003e$x y"}"#, r#"{"p":"***"}"#),
        ("<p>pa\"ss/wö&amp;rd'&lt;1&gt;$x y</p>", "<p>***</p>"),
        ("<p a=\"pa&quot;ss/wö&amp;rd&apos;&lt;1&gt;$x y\">", "<p a=\"***\">"),
        ("<p a=\"pa&#34;ss/wö&amp;rd&#39;&lt;1&gt;$x y\">", "<p a=\"***\">"),
        (r#"'pa"ss/wö&rd'\''<1>$x y'"#, "'***'"),
        (r#"'pa"ss/wö&rd'"'"'<1>$x y'"#, "'***'"),
        (r#""pa\"ss/wö&rd'<1>\$x y""#, r#""***""#),
        (r#"pa\"ss/wö\&rd\'\<1\>\$x\ y"#, "***"),
    ] {
        assert_eq!(shown(&[secret], text), expected, "{text}");
    }
    let hex: String = secret.bytes().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    });
    assert_eq!(shown(&[secret], &format!("<{hex}>")), "<***>");
    assert_eq!(shown(&[secret], &format!("<{}>", hex.to_uppercase())), "<***>");
}

#[test]
fn lines_of_a_value_are_found_each_and_short_ones_are_not_looked_for() {
    let key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\nabc\nkqhkiG9w0BAQEF\n-----END KEY-----\n";
    let text = "-----BEGIN KEY-----\r\n  MIIEvQIBADANBg\r\nabc\n\"kqhkiG9w0BAQEF\\n";
    assert_eq!(shown(&[key], text), "-----BEGIN KEY-----\r\n  ***\r\nabc\n\"***\\n");
    assert!(Redactor::new([&b"abc"[..], b"", b"\n"]).is_none());
    assert_eq!(shown(&["four\n"], "a four-in-hand"), "a ***-in-hand");
}

#[test]
fn of_values_that_overlap_every_byte_is_covered() {
    for (values, text, expected) in [
        (&["abcdef", "defghi"][..], "xabcdefghix", "x***x"),
        (&["abcd", "abcdefgh"], "abcdefgh abcdefg abcd", "*** ***efg ***"),
        (&["bcde", "abcdefgh"], "abcdefgx abcdefgh", "a***fgx ***"),
        (&["aaaa"], "aaaaaaa aaa.", "*** aaa."),
        (&["secret"], "secretsecret", "***"),
    ] {
        assert_eq!(shown(values, text), expected, "{values:?}");
    }
}

/// Gives a stream in pieces; between two of them nothing may come for a while.
fn in_pieces(redactor: &Redactor, pieces: &[(Vec<u8>, bool)]) -> (Vec<u8>, usize) {
    let (mut kept, mut given, mut out, mut most) = (Vec::new(), 0, Vec::new(), 0);
    for (piece, pause) in pieces {
        kept.extend_from_slice(piece);
        for end in [Some(End::Open), pause.then_some(End::Pause)].into_iter().flatten() {
            let done = redactor.redact(&kept, given, end, &mut out);
            kept.drain(..done.consumed);
            given = done.given;
        }
        most = most.max(kept.len());
    }
    redactor.redact(&kept, given, End::Over, &mut out);
    (out, most)
}

#[test]
fn what_cannot_be_the_beginning_of_a_secret_is_given_out_at_once_and_the_rest_after_a_while() {
    let redactor = redactor(&["correct-horse", "battery-staple"]);
    let mut out = Vec::new();
    assert_eq!(redactor.redact(b"Password: ", 0, End::Open, &mut out), Done { consumed: 10, given: 0 });
    assert_eq!(out, b"Password: ");
    // `c` may be the beginning of one.
    let done = redactor.redact(b"abc", 0, End::Open, &mut out);
    assert_eq!((done, out.as_slice()), (Done { consumed: 2, given: 0 }, &b"Password: ab"[..]));
    let done = redactor.redact(b"cor", 0, End::Pause, &mut out);
    assert_eq!((done, out.as_slice()), (Done { consumed: 0, given: 3 }, &b"Password: abcor"[..]));
    // The rest of it is no less secret for coming late.
    let done = redactor.redact(b"correct-horse!", 3, End::Open, &mut out);
    assert_eq!((done, out.as_slice()), (Done { consumed: 14, given: 0 }, &b"Password: abcor***!"[..]));
    // The better part of a secret is not shown, whatever comes of it.
    let late = |rest: &str| [(b"battery-s".to_vec(), true), (b"ta".to_vec(), true), (rest.as_bytes().to_vec(), false)];
    assert_eq!(in_pieces(&redactor, &late("tion")).0, b"***tion");
    assert_eq!(in_pieces(&redactor, &late("ple.")).0, b"***.");
    assert_eq!(in_pieces(&redactor, &[(b"battery-sta".to_vec(), false)]).0, b"***");
    assert_eq!(in_pieces(&redactor, &[(b"bat".to_vec(), false)]).0, b"bat");
}

proptest! {
    #[test]
    fn however_a_stream_is_cut_the_same_comes_out(
        values in prop::collection::vec("[ab/\"]{4,9}", 1..4),
        pieces in prop::collection::vec("[ab/\"\\\\%27Y=]{0,12}", 0..12),
    ) {
        let Some(redactor) = Redactor::new(values.iter().map(|value| value.as_bytes())) else { return Ok(()) };
        let whole = redactor.redacted(pieces.concat().as_bytes());
        let pieces: Vec<_> = pieces.into_iter().map(|piece| (piece.into_bytes(), false)).collect();
        let (out, most) = in_pieces(&redactor, &pieces);
        // Neighbours may have a mask each where the cut was between them.
        let joined = |out: &[u8]| String::from_utf8_lossy(out).replace("******", "***").replace("******", "***");
        prop_assert_eq!(joined(&out), joined(&whole));
        prop_assert!(most < forms::LONGEST);
    }

    #[test]
    fn no_value_survives_wherever_it_stands_and_whatever_is_around_it(
        values in prop::collection::vec(prop::collection::vec(prop::num::u8::ANY, 4..200), 1..6),
        around in prop::collection::vec(prop::collection::vec(prop::num::u8::ANY, 0..90), 7),
        cuts in prop::collection::vec((1usize..300, prop::bool::ANY), 1..20),
    ) {
        let Some(redactor) = Redactor::new(values.iter().map(Vec::as_slice)) else { return Ok(()) };
        let mut text = around[0].clone();
        for (value, rest) in values.iter().zip(&around[1..]) {
            text.extend_from_slice(value);
            text.extend_from_slice(rest);
        }
        let mut pieces = Vec::new();
        let (mut left, mut cuts) = (text.as_slice(), cuts.iter().cycle());
        while !left.is_empty() {
            let (cut, _) = cuts.next().unwrap();
            let (piece, rest) = left.split_at((*cut).min(left.len()));
            pieces.push((piece.to_vec(), false));
            left = rest;
        }
        let out = in_pieces(&redactor, &pieces).0;
        for value in &values {
            for line in value.split(|b| *b == b'\n').filter(|line| line.len() >= 12) {
                prop_assert!(!out.windows(line.len()).any(|window| window == line));
            }
        }
    }
}
