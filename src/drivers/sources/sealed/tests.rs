//! `fixtures/` was made with age 1.1.1 and, after SOPS' documentation, by a program of its own in another language, which reads files
//! that SOPS 3.9 has made.

use serde_json::{Value, json};

use super::*;

const KEY_FILE: &str = include_str!("fixtures/key.txt");
const OTHER_FILE: &str = include_str!("fixtures/other.txt");
const SECRET: &str = include_str!("fixtures/secret.sops.yaml");
const APP: &str = include_str!("fixtures/app.sops.json");
const WHOLE: &str = include_str!("fixtures/whole.yaml.age");
const BINARY: &[u8] = include_bytes!("fixtures/binary.yaml.age");
const FOREIGN: &str = include_str!("fixtures/foreign.yaml.age");
const PLAIN: &str =
    "apiVersion: v1\nkind: Secret\nmetadata: {name: whole}\nstringData: {password: correct-horse-battery}\n";

fn keys() -> Keys {
    Keys::read("age", [("keys.txt", KEY_FILE.as_bytes().to_vec())].into_iter()).expect("a key")
}

fn opened(path: &str, bytes: impl Into<Vec<u8>>) -> Result<String, String> {
    keys().open(path, bytes.into()).map(|content| content.text.to_string()).map_err(|e| {
        assert_eq!(e.reason, "DecryptionFailed");
        e.message
    })
}

#[test]
fn whole_files_are_opened_armored_or_not_by_whoever_has_one_of_their_keys() {
    assert_eq!(opened("whole.yaml.age", WHOLE).unwrap(), PLAIN);
    assert_eq!(opened("binary.yaml.age", BINARY).unwrap(), PLAIN);
    // As editors and Windows leave it, and under a name that does not tell.
    assert_eq!(opened("whole.yaml", format!("\n{}\n\n", WHOLE.replace('\n', "\r\n"))).unwrap(), PLAIN);
    let both = [("old", OTHER_FILE.as_bytes().to_vec()), ("new", KEY_FILE.as_bytes().to_vec())];
    let both = Keys::read("age", both.into_iter()).expect("two keys");
    for file in [WHOLE, FOREIGN] {
        assert_eq!(&*both.open("x.age", file.into()).expect("one of them opens it").text, PLAIN);
    }
}

#[test]
fn what_is_for_others_changed_or_cut_off_anywhere_is_refused_and_nothing_of_it_is_told() {
    let told = opened("x.age", FOREIGN).unwrap_err();
    assert!(told.starts_with("x.age cannot be decrypted: it is encrypted for none of the keys"), "{told}");
    for at in 0..BINARY.len() {
        let mut changed = BINARY.to_vec();
        changed[at] ^= 1;
        let told = opened("x.age", changed).unwrap_err();
        assert!(!told.contains("correct-horse"), "{told}");
        opened("x.age", &BINARY[..at]).unwrap_err();
    }
    opened("x.age", [BINARY, b"x"].concat()).unwrap_err();
    for text in
        ["", "age-encryption.org/v1\n", "age-encryption.org/v1\n-> X25519\n", "-----BEGIN AGE ENCRYPTED FILE-----"]
    {
        opened("x.age", text).unwrap_err();
    }
}

#[test]
fn values_of_sops_stand_in_their_lines_and_the_block_is_gone() {
    let text = opened("db.yaml", SECRET).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines[7], lines[8]), (r#"    password: "correct horse\nbattery \"staple\"""#, r#"    user: "ada""#));
    let second = SECRET.lines().position(|line| line.starts_with("kind: ConfigMap")).unwrap();
    assert_eq!(lines[second], "kind: ConfigMap");
    let documents = documents_of(&text);
    assert_eq!(documents[0]["stringData"]["password"], "correct horse\nbattery \"staple\"");
    assert_eq!(documents[1]["data"], json!({"port": "5432", "mode": "plain"}));
    assert!(documents.iter().all(|document| document["sops"].is_null()));
    let app = documents_of(&opened("app.json", APP).unwrap());
    let process = json!({"command": ["serve", "--ratio=0.5", ""]});
    assert_eq!(app[0]["spec"], json!({"replicas": 3, "suspend": true, "process": process, "ratio": 0.25}));
    // Where a value is written over several lines, all is written anew.
    let line = SECRET.lines().find(|line| line.contains(" password: ")).unwrap();
    let folded = format!("{}\"", line.replace(": ENC", ": \"ENC").replace(",iv:", ",iv:\\\n      "));
    let folded = SECRET.replace(line, &folded);
    assert_eq!(documents_of(&opened("db.yaml", folded).unwrap()), documents);
}

fn documents_of(text: &str) -> Vec<Value> {
    manifest::values(text).unwrap_or_else(|| panic!("{text}"))
}

#[test]
fn what_somebody_changed_moved_added_or_left_out_in_a_file_of_sops_is_noticed() {
    let value = |name: &str| SECRET.lines().find(|line| line.contains(name)).unwrap().to_owned();
    let (password, user) = (value(" password: "), value(" user: "));
    for (what, changed) in [
        ("a plain value", SECRET.replace("mode: plain", "mode: other")),
        ("another document", SECRET.replacen("kind: Secret", "kind: ConfigMap", 1)),
        ("one value less", SECRET.replace(&format!("{user}\n"), "")),
        ("one value more", SECRET.replace("mode: plain", "mode: plain\n    more: plain")),
        ("an encrypted value made plain", SECRET.replace(&user, "    user: ada2")),
        ("another name", SECRET.replace(" user: ", " login: ")),
        ("values changed for each other", {
            let (p, u) = (password.split_once(": ").unwrap().1, user.split_once(": ").unwrap().1);
            SECRET.replace(p, "@").replace(u, p).replace('@', u)
        }),
        ("another time", SECRET.replace("2026-11-22T19:00:00Z", "2026-11-22T19:00:01Z")),
        ("no code", SECRET.replace("    mac: ", "    mac_: ")),
        ("the other sort of code", SECRET.replace("    version: ", "    mac_only_encrypted: true\n    version: ")),
    ] {
        let told = opened("db.yaml", changed).expect_err(what);
        assert!(!told.contains("ada") && !told.contains("correct"), "{told}");
    }
    opened("app.json", APP.replace("\"mac_only_encrypted\": true,", "")).unwrap_err();
    // What is not encrypted may be changed there: that is what it is for.
    opened("app.json", APP.replace("\"web\"", "\"shop\"")).unwrap();
}

#[test]
fn without_a_key_what_is_encrypted_is_refused_and_files_that_are_no_manifests_are_passed_over() {
    let none = Keys::default();
    for (path, text) in [("x.yaml.age", WHOLE), ("x.yaml", SECRET), ("x.json", APP)] {
        let told = none.open(path, text.into()).unwrap_err().message;
        assert!(told.contains("`spec.secrets.age.keySecret` names no secret with a key"), "{told}");
    }
    let names = ["a.yaml", "a.json.age", "a.age", "a.txt", ".a.yaml.age", "a.age.txt"];
    assert_eq!(names.map(|name| none.takes(name)), [true, true, false, false, false, false]);
    assert_eq!(names.map(|name| keys().takes(name)), [true, true, true, false, false, false]);
    let plain = none.open("x.yaml", b"# sops:\na: ENC[AES256_GCM,\n".to_vec()).unwrap();
    assert_eq!(plain.sealed, None);
}

#[test]
fn keys_are_those_that_age_keygen_makes() {
    for (entry, says) in [
        ("nothing", "there is no line `AGE-SECRET-KEY-1…` in the secret `age`"),
        ("# x\nAGE-SECRET-KEY-1XYZ\n", "line 2 of `keys.txt` in the secret `age` is no key"),
    ] {
        let wrong = Keys::read("age", [("keys.txt", entry.into())].into_iter()).err().unwrap();
        assert!(wrong.message.contains(says), "{wrong}");
    }
    assert_ne!(keys().name(), Keys::read("age", [("x", OTHER_FILE.into())].into_iter()).unwrap().name());
}
