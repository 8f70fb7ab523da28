//! A moment of fuzzing in every run: each target of `fuzz/` on its corpus and on what chance makes of it.
//!
//! `cargo fuzz` (docs/testing.md) searches for longer and better, guided by coverage; this keeps the targets alive, needs
//! nothing but stable Rust, and finds what is easy to find. `APPM_FUZZ_SECONDS` is for each target, `APPM_FUZZ_TARGET` picks one,
//! `APPM_SEED` begins elsewhere.

use std::{
    fs, panic,
    path::Path,
    time::{Duration, Instant},
};

use crate::harness::{Dice, setting};

#[path = "../../../fuzz/src/targets.rs"]
#[allow(unreachable_pub, reason = "a crate of its own has it, too")]
mod targets;

/// Longer inputs are cut.
const LONGEST: usize = 16 << 10;
/// No input of that length may take longer, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the languages that are read here are made of.
const WORDS: &[&str] = &[
    "{}",
    "[]",
    "null",
    "true",
    "0",
    "-1",
    "1e400",
    "9223372036854775808",
    "0.1",
    "\"\"",
    "\"a\"",
    "\\u0000",
    "\\ud800",
    "é",
    "\u{feff}",
    "{\"op\":\"copy\",\"from\":\"\",\"path\":\"/a\"}",
    "{\"op\":\"move\",\"from\":\"/a\",\"path\":\"/b\"}",
    "/-",
    "~1",
    "~0",
    "f:spec",
    "k:{\"name\":\"A\"}",
    "v:1",
    "i:0",
    "\".\"",
    "metadata",
    "finalizers",
    "managedFields",
    "env",
    "name",
    "value",
    "&a ",
    "*a ",
    "<<: ",
    "- ",
    "? ",
    ": ",
    "---\n",
    "...\n",
    "|\n",
    ">-\n",
    "!!str ",
    "# ",
    "\n  ",
    "\t",
    "%YAML 1.2\n",
    "'",
    " in ",
    " notin ",
    "(",
    ")",
    ",",
    "=",
    "==",
    "!=",
    "!",
    ">",
    "<",
    "metadata.name",
    "\\,",
    "{.",
    "}",
    "[*]",
    "[?(@.a==\"x\")]",
    "[-1]",
    "..",
    "$",
    "@",
    "continue=",
    "limit=",
    "watch=",
    "resourceVersion=",
    "%",
    "%zz",
    "+",
    "&",
    "/apis/appm.dev/v1/namespaces/",
    "/status",
    "Ki",
    "m",
    "e18",
    "h",
    "µs",
    ".5",
    "k8s\0",
    "\u{1}",
    "\u{7f}",
];

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut files: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn below(dice: &mut Dice, bound: usize) -> usize {
    dice.below(bound.max(1) as u64) as usize
}

/// One small change.
fn mutate(dice: &mut Dice, bytes: &mut Vec<u8>, other: &[u8]) {
    let (length, at) = (bytes.len(), below(dice, bytes.len() + 1));
    let end = at + below(dice, (length - at).min(64) + 1);
    match dice.below(8) {
        0 if at < length => bytes[at] ^= 1 << dice.below(8),
        1 => bytes.insert(at, dice.below(256) as u8),
        2 => drop(bytes.drain(at..end)),
        3 => {
            let again = bytes[at..end].repeat(1 + below(dice, 8));
            bytes.splice(end..end, again);
        }
        4 => {
            let from = below(dice, other.len());
            let to = from + below(dice, other.len() - from + 1);
            bytes.splice(at..end, other[from..to].iter().copied());
        }
        5 => bytes.truncate(at),
        _ => drop(bytes.splice(at..end, WORDS[below(dice, WORDS.len())].bytes())),
    }
}

/// Runs a target on one input; what it says when it fails names the input.
fn try_one(name: &str, target: fn(&[u8]), input: &[u8]) {
    let begin = Instant::now();
    let failed = panic::catch_unwind(|| target(input)).is_err();
    let took = begin.elapsed();
    assert!(!failed && took < PATIENCE, "{name} after {took:?} on b\"{}\"", input.escape_ascii());
}

fn fuzz(name: &str, target: fn(&[u8]), time: Duration) -> u64 {
    let mut dice = Dice::new(setting("APPM_SEED", 1));
    let mut pool = corpus(name);
    pool.iter().for_each(|input| try_one(name, target, input));
    let (begin, mut runs) = (Instant::now(), 0);
    while begin.elapsed() < time {
        let mut input = pool[below(&mut dice, pool.len())].clone();
        for _ in 0..=dice.below(4) {
            let other = pool[below(&mut dice, pool.len())].clone();
            mutate(&mut dice, &mut input, &other);
        }
        input.truncate(LONGEST);
        try_one(name, target, &input);
        runs += 1;
        if dice.below(50) == 0 {
            let place = below(&mut dice, 64);
            match pool.get_mut(place) {
                Some(old) => *old = input,
                None => pool.push(input),
            }
        }
    }
    runs
}

#[test]
fn whatever_is_read_from_others_is_read_or_refused() {
    let time = Duration::from_secs(setting("APPM_FUZZ_SECONDS", 1));
    let only = std::env::var("APPM_FUZZ_TARGET").ok();
    for (name, target) in targets::TARGETS.iter().filter(|(name, _)| only.as_deref().is_none_or(|only| only == *name)) {
        let runs = fuzz(name, *target, time);
        eprintln!("{name}: {runs} runs");
    }
}
