//! What an archive may hold, and what cannot be read as one.

use std::io::Read;

use jiff::Timestamp;

use super::*;

fn about() -> About {
    let created = Time("2026-11-22T08:00:00Z".parse::<Timestamp>().unwrap());
    About {
        format: FORMAT,
        appm: "0.1.0".to_owned(),
        created,
        node: "here".to_owned(),
        revision: Rev(7),
        objects: [("apps.appm.dev".to_owned(), 2)].into(),
        sealed_with: None,
        keys: false,
    }
}

fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = Writer::begin(Vec::new(), &about()).unwrap();
    for (name, text) in files {
        writer.add(name, text.len() as u64, &mut text.as_bytes()).unwrap();
    }
    writer.finish().unwrap()
}

#[derive(Default)]
struct Seen(BTreeMap<String, String>);

impl Visitor for Seen {
    fn about(&mut self, _: &About) -> io::Result<()> {
        Ok(())
    }

    fn file(&mut self, name: &str, _: u64, bytes: &mut dyn Read) -> io::Result<()> {
        let mut text = String::new();
        bytes.read_to_string(&mut text)?;
        self.0.insert(name.to_owned(), text);
        Ok(())
    }
}

fn refusal(bytes: &[u8]) -> String {
    read(&mut &*bytes, &mut Seen::default()).expect_err("is refused").to_string()
}

#[test]
fn what_was_written_is_read() {
    let bytes = archive(&[("appm.db", "data"), ("audit/000000000001.jsonl", "{}\n"), ("pki/ca.pem", "")]);
    let mut seen = Seen::default();
    assert_eq!(read(&mut bytes.as_slice(), &mut seen).unwrap(), about());
    assert_eq!(
        seen.0.keys().map(String::as_str).collect::<Vec<_>>(),
        ["appm.db", "audit/000000000001.jsonl", "pki/ca.pem"]
    );
    assert_eq!(seen.0["appm.db"], "data");
}

#[test]
fn a_file_that_shrinks_meanwhile_makes_no_backup() {
    let mut writer = Writer::begin(Vec::new(), &about()).unwrap();
    assert!(writer.add("appm.db", 5, &mut &b"data"[..]).unwrap_err().to_string().contains("became shorter"));
}

#[test]
fn nothing_may_be_put_where_it_does_not_belong() {
    for name in ["appm.sock", "keys/other", "pki/../x", "audit/.hidden", "pki/a/b", "keeper/state", "restore.ready"] {
        assert!(!is_known(name), "{name}");
        let bytes = archive(&[]);
        assert!(!bytes.is_empty());
    }
    // The builder itself refuses `..`; a name that is merely unknown is refused on reading.
    assert!(refusal(&archive(&[("appm.sock", "x")])).contains("nothing may be put at `appm.sock`"));
    assert!(refusal(&archive(&[("appm.db", "a"), ("appm.db", "b")])).contains("nothing may be put at `appm.db`"));
}

#[test]
fn an_archive_that_is_cut_off_anywhere_is_refused() {
    let bytes = archive(&[("appm.db", &"data".repeat(500)), ("pki/ca.pem", "x")]);
    // Behind the sums there are zeros only.
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    for length in (0..end).step_by(37) {
        let said = refusal(&bytes[..length]);
        assert!(said.contains("cut off") || said.contains("no backup") || said.contains("damaged"), "{length}: {said}");
    }
    assert!(refusal(b"").contains("empty"));
    assert!(refusal(&[b'x'; 4096]).contains("no backup"));
}

#[test]
fn an_archive_with_another_byte_is_refused() {
    let bytes = archive(&[("appm.db", &"data".repeat(500))]);
    let at = bytes.windows(4).position(|w| w == b"data").unwrap() + 700;
    let mut other = bytes.clone();
    other[at] ^= 1;
    assert!(refusal(&other).contains("`appm.db` is not what it was"));
}

#[test]
fn a_later_form_is_said_to_be_one() {
    let mut later = about();
    later.format = FORMAT + 1;
    later.appm = "9.0.0".to_owned();
    let bytes = Writer::begin(Vec::new(), &later).unwrap().finish().unwrap();
    assert!(refusal(&bytes).contains("made by appm 9.0.0"));
}
