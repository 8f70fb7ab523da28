//! Files that nobody means well with.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::Value;

use super::{files, refusals};
use crate::exchange::{
    files::Files,
    import::{compose, kubernetes, pm2, procfile, supervisor, systemd},
    report::Outcome,
};

/// One of the readers on a text.
fn read(text: &str, reader: usize) -> Outcome<Value> {
    let given = |name: &str| files(&[(name, text)]);
    let dir = || PathBuf::from("/p");
    match reader {
        0 => procfile::read(Path::new("/p/f"), &procfile::Asked { dir: dir(), ..Default::default() }, &given("/p/f")),
        1 => supervisor::read(Path::new("/p/f"), &given("/p/f")),
        2 => systemd::read(&["/p/a.service".into()], &[], &given("/p/a.service")),
        3 => systemd::read(&[dir()], &[], &files(&[("/p/a.timer", text), ("/p/a.service", text)])),
        4 => compose::read(&["/p/f".into()], &compose::Asked { dir: dir(), ..Default::default() }, &given("/p/f")),
        5 => kubernetes::read(&["/p/f".into()], &given("/p/f")),
        _ => pm2::read(Path::new("/p/f"), &pm2::Asked { dir: dir(), ..Default::default() }, &given("/p/f")),
    }
}

#[test]
fn a_hundred_thousand_of_anything_is_refused_or_read_in_bounded_time() {
    let many = |one: &str| (0..100_000).map(|n| one.replace('N', &n.to_string())).collect::<String>();
    let told = |text: &str, reader: usize| refusals(read(text, reader)).concat();
    assert!(told(&many("pN: x\n"), 0).contains("100000 processes: at most 5000"));
    assert!(told(&many("[program:pN]\ncommand=x\n"), 1).contains("at most 5000"));
    assert!(told(&format!("services:\n{}", many("  sN: {image: x}\n")), 4).contains("100000 services: at most 5000"));
    assert!(told(&format!("[Service]\n{}", many("X=N\n")), 2).contains("more than 5000 entries"));
}

#[test]
fn what_a_file_says_ends_no_comment_and_runs_nothing() {
    let text = "services:\n  a:\n    image: x\n    \"x\\nkind: User\\u001b[31m\": 1\n";
    let report = read(text, 4).expect("good");
    assert!(report.all().all(|note| !note.to_string().contains(['\n', '\u{1b}'])), "{report:?}");
    let report = read("a: rm -rf $(pwd); `x`\n", 0).expect("good");
    assert_eq!(
        report.parts[0].made["spec"]["process"]["command"][2], "rm -rf $$(pwd); `x`",
        "for a shell of the App's, later"
    );
}

#[test]
fn only_regular_files_are_read() {
    for path in ["/dev/zero", "/proc/self/mem", "/nonexistent", "/"] {
        let told = refusals(supervisor::read(Path::new(path), &Files::of_disk()));
        assert!(told[0].contains("cannot be read"), "{told:?}");
    }
}

proptest! {
    #[test]
    fn whatever_is_read_is_read_or_refused(text in r#"([a-zA-Z]{1,9}|[\[\]=:;#%$(){}"'\\, \n.\-/0-9@*~!+|<>&]|\n\[Service\]\nExecStart=|\[Timer\]\nOnCalendar=|\nservices:\n  a: \{image: x, |kind: Pod\nspec: \{containers: \[\{|\{"apps": \[\{"script": |program:a\]\ncommand=){0,60}"#) {
        for report in (0..7).filter_map(|reader| read(&text, reader).ok()) {
            prop_assert!(report.parts.iter().all(|part| part.made["metadata"]["name"].is_string()));
        }
    }
}
