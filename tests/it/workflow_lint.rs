//! Workflow files of the shapes that are found in the wild: lint takes them, or refuses them for the right reason, at the right line.
//!
//! A line of `workflow_lint/*.yaml` that is wrong says after `#!` a part of what is said of it, once for each mistake.

use std::{collections::BTreeMap, fs, path::Path};

use crate::harness::World;

/// Mistakes by file and line.
type Mistakes = BTreeMap<(String, usize), Vec<String>>;

fn expected(name: &str, text: &str) -> Mistakes {
    let lines = text.lines().enumerate().filter(|(_, line)| line.contains("#!"));
    let all = lines.map(|(at, line)| {
        let said = line.split("#!").skip(1).map(|said| said.trim().to_owned()).collect();
        ((name.to_owned(), at + 1), said)
    });
    all.collect()
}

/// `FILE:LINE:COLUMN: …`
fn told(said: &str) -> Mistakes {
    let mut all = Mistakes::new();
    for line in said.lines() {
        let mut parts = line.splitn(4, ':');
        let (Some(file), Some(Ok(at)), Some(Ok(_)), Some(message)) =
            (parts.next(), parts.next().map(str::parse), parts.next().map(str::parse::<usize>), parts.next())
        else {
            continue;
        };
        let name = Path::new(file).file_name().unwrap_or_default().to_string_lossy().into_owned();
        all.entry((name, at)).or_default().push(message.to_owned());
    }
    all
}

#[test]
fn files_as_people_write_them_are_taken_or_refused_for_the_right_reason() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/workflow_lint");
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut args = vec!["workflow".to_owned(), "lint".to_owned()];
    args.extend(files.iter().map(|path| path.display().to_string()));
    let world = World::new();
    let output = world.command(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let mut told = told(&said);
    let texts =
        files.iter().map(|path| (path.file_name().unwrap().to_string_lossy(), fs::read_to_string(path).unwrap()));
    for ((file, line), wanted) in texts.flat_map(|(name, text)| expected(&name, &text)) {
        let mut found = told.remove(&(file.clone(), line)).unwrap_or_default();
        for want in wanted {
            let at = found.iter().position(|message| message.contains(&want));
            let at = at.unwrap_or_else(|| panic!("{file}:{line}: {want:?} is not said; said was {found:#?}"));
            found.remove(at);
        }
        assert!(found.is_empty(), "{file}:{line}: {found:#?}");
    }
    assert!(told.is_empty(), "{told:#?}");
}
