//! Power loss: the server runs with a shim between it and its files that writes down every write and every sync; then
//! everything that was not synced is thrown away (all of it, or any part of it), the machine "boots" with another boot
//! id, and a new server opens what is left.
//!
//! It must find every acknowledged change, hand out no revision a second time with other content, and start no attempt
//! twice. What clients saw and what Apps did stands in the same journal as the writes, so that the power can be cut
//! afterwards at any record of it. The last test proves that the check would notice a lie: with the syncs
//! left out it must fail.

mod disk;
mod rows;
mod runs;
mod shim;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use serde_json::{Value, json};

use self::disk::{Disk, Image, Record, mark, read_journal, write_image};
use crate::harness::{
    APPS, Api, Dice, INSTANCES, PATIENCE, SAY_START, World, app, app_path, look_away, parse_start, setting, wait_for,
};

/// The annotation that counts edits.
const EDIT: &str = "proof.appm.dev/edit";
/// What is watched, and later compared by revision.
const WATCHED: &[&str] = &[APPS, INSTANCES, "/api/v1/nodes", "/api/v1/namespaces"];

/// Says in the journal that it began.
const MARK_START: &str = r#"line="$APPM_INSTANCE_UID $APPM_ATTEMPT $$"
printf '@S 0 0 0 %d\n%s\n' "${#line}" "$line" >> "$PROOF_ROOT/journal"
"#;
/// Runs until it is ended.
const STEADY: &str = "exec sleep 100000\n";
/// Ends again and again.
const CRASHING: &str = "sleep 0.1; exit 3\n";

/// Compiles the shim into a directory.
fn build_shim(into: &Path) -> PathBuf {
    let shim = into.join("shim.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/powerloss/shim.c");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim).arg(source).status();
    assert!(built.expect("a C compiler is installed").success());
    shim
}

/// A world whose server runs over the shim.
struct Lab {
    world: World,
    seed: u64,
    boots: u32,
    /// The directory as it was when the present server was started.
    base: Disk,
}

impl Lab {
    fn new(seed: u64) -> Self {
        let mut world = World::new();
        let shim = build_shim(world.root());
        let text = |path: PathBuf| path.into_os_string().into_string().unwrap();
        world.set_env("LD_PRELOAD", text(shim));
        world.set_env("POWERLOSS_ROOT", text(world.data()));
        world.set_env("POWERLOSS_JOURNAL", text(world.root().join("journal")));
        world.set_env("POWERLOSS_BOOT_ID", text(world.root().join("boot_id")));
        let base = Disk::read(&world.data());
        Self { world, seed, boots: 0, base }
    }

    fn journal(&self) -> PathBuf {
        self.world.root().join("journal")
    }

    /// A new boot: another boot id, an empty journal, and a server. Fails if the server does not become ready.
    fn boot(&mut self) -> Result<(), String> {
        self.boots += 1;
        let id = format!("{:08x}-0000-4000-8000-{:012x}\n", self.seed as u32, self.boots);
        fs::write(self.world.root().join("boot_id"), id).unwrap();
        fs::write(self.journal(), b"").unwrap();
        self.base = Disk::read(&self.world.data());
        let lines = self.world.spawn();
        match lines.recv_timeout(PATIENCE) {
            Ok(line) if line.starts_with("ready ") => Ok(()),
            other => Err(format!("the server did not become ready: {other:?}")),
        }
    }

    /// Cuts the power. Returns what the journal says.
    fn cut(&mut self) -> Vec<Record> {
        self.world.kill_everything();
        read_journal(&self.journal())
    }

    /// The disk after the first `upto` records, of which syncs counted until `honest`.
    fn disk(&self, records: &[Record], upto: usize, honest: usize) -> Disk {
        let mut disk = self.base.clone();
        records[..upto].iter().enumerate().for_each(|(n, record)| disk.play(record, n < honest));
        disk
    }

    /// Puts an image in the place of the data directory, and the starts that had happened.
    fn restore(&mut self, image: &Image, starts: &[String]) {
        write_image(&self.world.data(), image);
        fs::write(self.world.root().join("starts"), starts.iter().map(|s| format!("{s}\n")).collect::<String>())
            .unwrap();
    }
}

/// Everything that the outside world knows at a moment.
#[derive(Clone, Default)]
struct Known {
    /// By App: the last acknowledged edit, and those that were asked for since.
    apps: BTreeMap<String, Vec<Edit>>,
    /// By list and revision: the objects that a watcher or writer saw at it.
    seen: BTreeMap<(String, u64), BTreeMap<String, Value>>,
    /// For each list and boot: everything between these revisions was seen.
    watched: Vec<Watched>,
    /// The start lines.
    starts: Vec<String>,
}

/// A watcher saw every change of a list after `from`, up to `upto`.
#[derive(Clone, Debug)]
struct Watched {
    list: String,
    from: u64,
    upto: u64,
}

/// One edit of an App, the first of a list being the acknowledged one.
#[derive(Clone, Debug)]
struct Edit {
    number: u64,
    exists: bool,
}

impl Known {
    /// Learns what the marks among the records say.
    fn learn(&mut self, records: &[Record]) {
        for record in records {
            match record.kind {
                b'I' => {
                    let (name, edit) = edit_of(record.text());
                    self.apps.entry(name).or_insert_with(|| vec![Edit { number: 0, exists: false }]).push(edit);
                }
                b'A' => {
                    let (name, edit) = edit_of(record.text());
                    self.apps.insert(name, vec![edit]);
                }
                b'B' => {
                    let (list, from) = record.text().split_once(' ').unwrap();
                    let from = from.parse().unwrap();
                    self.watched.push(Watched { list: list.to_owned(), from, upto: from });
                }
                b'V' => {
                    let (list, object) = record.text().split_once(' ').unwrap();
                    let object: Value = serde_json::from_str(object).unwrap();
                    let revision = revision(&object);
                    let watched = self.watched.iter_mut().rev().find(|w| w.list == list).expect("a B before each V");
                    // The newest revision may have more objects than were seen yet.
                    watched.upto = watched.upto.max(revision - 1);
                    self.seen.entry((list.to_owned(), revision)).or_default().insert(identity(&object), object);
                }
                b'S' => self.starts.push(record.text().to_owned()),
                _ => {}
            }
        }
    }

    fn newest(&self) -> u64 {
        self.seen.keys().map(|(_, revision)| *revision).max().unwrap_or(0)
    }
}

fn edit_of(text: &str) -> (String, Edit) {
    let words: Vec<_> = text.split(' ').collect();
    (words[0].to_owned(), Edit { number: words[1].parse().unwrap(), exists: words[2] == "true" })
}

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

fn identity(object: &Value) -> String {
    object["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// What of the present state contradicts what was known before. The server must be ready.
fn contradictions(world: &World, known: &Known) -> Result<(), String> {
    let api = world.api();
    for (name, edits) in &known.apps {
        let object = api.get(&app_path(name)).unwrap();
        let number = |o: &Value| o["metadata"]["annotations"][EDIT].as_str().unwrap().parse::<u64>().unwrap();
        let fits = |edit: &Edit| match &object {
            Some(object) => edit.exists && edit.number == number(object),
            None => !edit.exists,
        };
        // A deleted App is in sight until its instances are gone: its last edit shows, with a deletion time.
        let going = object.as_ref().is_some_and(|o| o["metadata"]["deletionTimestamp"].is_string());
        let deletion_fits = going && edits.iter().any(|e| !e.exists);
        if !deletion_fits && !edits.iter().any(fits) {
            return Err(format!("{name} is {:?}, and was acknowledged as {edits:?}", object.as_ref().map(number)));
        }
    }
    for list in WATCHED {
        for object in api.list(list).unwrap() {
            let revision = revision(&object);
            let at = known.seen.get(&((*list).to_owned(), revision));
            let before = at.and_then(|objects| objects.get(&identity(&object)));
            let watched = known.watched.iter().any(|w| w.list == *list && w.from < revision && revision <= w.upto);
            if before.map_or(watched, |before| *before != object) {
                return Err(format!("revision {revision} was handed out twice:\n{before:?}\n{object}"));
            }
        }
    }
    let fresh = app(world, &format!("after-{}", known.newest()), 0, STEADY);
    let answer = api.apply(&fresh).unwrap();
    let (given, newest) = (revision(&answer.json()), known.newest());
    if given <= newest {
        return Err(format!("revision {given} is given to a new object after {newest} was seen"));
    }
    Ok(())
}

/// Waits until every App runs again, which takes new attempts of everything. Panics if an attempt begins twice.
fn everything_runs_again(world: &World, known: &Known) {
    let api = world.api();
    wait_for("every App to run after the power loss", || {
        let running: BTreeSet<_> =
            world.processes().iter().filter_map(|p| p.variable("APPM_APP")).map(str::to_owned).collect();
        for app in api.list(APPS).map_err(|e| e.to_string())? {
            let name = app["metadata"]["name"].as_str().unwrap();
            let wanted = app["spec"]["replicas"] != 0 && app["metadata"]["deletionTimestamp"].is_null();
            let steady = !name.starts_with("crash");
            if wanted && steady && !running.contains(name) {
                return Err(format!("{name} does not run: {app}"));
            }
        }
        Ok(())
    });
    let starts = world.starts();
    assert!(starts.len() >= known.starts.len());
}

/// Appends a mark to the journal.
fn note(journal: &Path, kind: char, text: &str) {
    let mut file = OpenOptions::new().append(true).open(journal).unwrap();
    assert_eq!(file.write(&mark(kind, text)).unwrap(), mark(kind, text).len());
}

/// Edits Apps of its own until the power is cut, noting what it asks for and what is acknowledged.
fn edit(lab: &Lab, editor: u64, off: Arc<AtomicBool>) -> JoinHandle<()> {
    let (api, journal) = (lab.world.api(), lab.journal());
    let mut dice = Dice::new(lab.seed ^ u64::from(lab.boots) << 32 ^ editor);
    let mut number = u64::from(lab.boots) * 1_000_000;
    let templates: Vec<_> = ["steady", "crash", "churn"]
        .iter()
        .map(|kind| {
            let script = if *kind == "crash" { CRASHING } else { STEADY };
            app(&lab.world, &format!("{kind}-{editor}"), 1, &format!("{SAY_START}{MARK_START}{script}"))
        })
        .collect();
    thread::spawn(move || {
        while !off.load(Ordering::Relaxed) {
            let mut object = templates[dice.below(3) as usize].clone();
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            number += 1;
            let delete = name.starts_with("churn") && dice.below(2) == 0;
            note(&journal, 'I', &format!("{name} {number} {}", !delete));
            object["metadata"]["annotations"] = json!({EDIT: number.to_string()});
            let done = if delete {
                delete_and_wait(&api, &name)
            } else {
                api.apply(&object).is_ok_and(|answer| {
                    assert!(answer.is_ok(), "{} {}", answer.code, String::from_utf8_lossy(&answer.body));
                    true
                })
            };
            if done {
                note(&journal, 'A', &format!("{name} {number} {}", !delete));
            }
            dice.pause(10);
        }
    })
}

/// True if the deletion was acknowledged and is complete.
fn delete_and_wait(api: &Api, name: &str) -> bool {
    let Ok(answer) = api.ask("DELETE", &app_path(name), "", b"") else { return false };
    assert!(answer.is_ok() || answer.code == 404, "{answer:?}");
    loop {
        match api.get(&app_path(name)) {
            Ok(None) => return true,
            Ok(Some(_)) => look_away(),
            Err(_) => return false,
        }
    }
}

/// Notes every object of a list, and every change after it.
fn watch(lab: &Lab, list: &'static str) -> JoinHandle<()> {
    let (api, journal) = (lab.world.api(), lab.journal());
    thread::spawn(move || {
        let Ok(Some(now)) = api.get(list) else { return };
        let from = revision(&now);
        note(&journal, 'B', &format!("{list} {from}"));
        for object in now["items"].as_array().unwrap() {
            note(&journal, 'V', &format!("{list} {object}"));
        }
        let Ok(events) = api.watch(&format!("{list}?watch=true&resourceVersion={from}")) else { return };
        // The last state of a deleted object bears the revision of the deletion; it is not in any list again.
        for event in events.filter(|e| ["ADDED", "MODIFIED"].iter().any(|t| e["type"] == **t)) {
            note(&journal, 'V', &format!("{list} {}", event["object"]));
        }
    })
}

/// Boots, lets clients work for a while, and cuts the power.
fn work_until_the_power_fails(lab: &mut Lab, millis: u64) -> Vec<Record> {
    lab.boot().unwrap_or_else(|why| panic!("{why}\n{}", lab.world.stderr()));
    work(lab, millis)
}

fn work(lab: &mut Lab, millis: u64) -> Vec<Record> {
    let off = Arc::new(AtomicBool::new(false));
    let mut hands: Vec<_> = WATCHED.iter().map(|list| watch(lab, list)).collect();
    hands.extend((0..3).map(|editor| edit(lab, editor, Arc::clone(&off))));
    let mut dice = Dice::new(lab.seed ^ u64::from(lab.boots));
    thread::sleep(std::time::Duration::from_millis(millis));
    dice.pause(millis);
    // An App may have begun whose mark is not written yet: the journal ends with the last of everything.
    lab.world.kill_everything();
    off.store(true, Ordering::Relaxed);
    for hand in hands {
        hand.join().expect("clients see no wrong answer");
    }
    lab.cut()
}

/// What of an image must be as the real files are: everything but what needs no durability and is written around the shim.
fn compared(image: &Image) -> BTreeMap<&Path, &[u8]> {
    let all = image.iter().map(|(path, bytes)| (path.as_path(), bytes.as_slice()));
    all.filter(|(path, _)| !path.starts_with("instances") && !path.to_str().unwrap().ends_with("-shm")).collect()
}

/// The journal, played back whole, must give the real files: then the shim has seen everything that matters. Server and
/// keeper may each have been killed between one write and its record, so that much may differ and no more.
fn assert_nothing_escaped_the_shim(lab: &Lab, records: &[Record]) {
    let (played, real) = (lab.disk(records, records.len(), records.len()).live(), Disk::read(&lab.world.data()).live());
    let (played, real) = (compared(&played), compared(&real));
    let paths: BTreeSet<&Path> = played.keys().chain(real.keys()).copied().collect();
    let differing: Vec<&Path> = paths.into_iter().filter(|path| played.get(path) != real.get(path)).collect();
    assert!(differing.len() <= 2, "writes to {differing:?} escaped the shim");
    for path in differing {
        let pair = (played.get(path), real.get(path));
        let one_write = pair.0.zip(pair.1).is_none_or(|(a, b)| span_of_difference(a, b) <= LARGEST_WRITE);
        assert!(one_write, "writes to {} escaped the shim", path.display());
    }
}

/// A page of the database with the head of its frame in the log, and as much again for a record of the keeper.
const LARGEST_WRITE: usize = 8192;

/// From the first byte that differs to the last one.
fn span_of_difference(a: &[u8], b: &[u8]) -> usize {
    let same_head = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let rest = a.len().min(b.len()) - same_head;
    let same_tail = match a.len() == b.len() {
        true => a.iter().rev().zip(b.iter().rev()).take(rest).take_while(|(a, b)| a == b).count(),
        false => 0,
    };
    a.len().max(b.len()) - same_head - same_tail
}

#[test]
fn a_power_loss_takes_nothing_that_was_acknowledged() {
    let seed = setting("APPM_PROOF_SEED", 20_261_121);
    let rounds = setting("APPM_PROOF_ROUNDS", 3);
    eprintln!("powerloss: seed {seed}, {rounds} rounds");
    let mut dice = Dice::new(seed);
    let mut lab = Lab::new(seed);
    let mut known = Known::default();
    lab.boot().unwrap_or_else(|why| panic!("{why}\n{}", lab.world.stderr()));
    for round in 0..rounds {
        let records = work(&mut lab, 700);
        assert_nothing_escaped_the_shim(&lab, &records);
        known.learn(&records);
        // The first round loses all that was not synced; the later ones keep parts of it.
        let odds = round % 3;
        let image = lab.disk(&records, records.len(), records.len()).after_power_loss(&mut || dice.below(2) < odds);
        let starts = fs::read_to_string(lab.world.root().join("starts")).unwrap_or_default();
        lab.restore(&image, &starts.lines().map(str::to_owned).collect::<Vec<_>>());
        lab.boot().unwrap_or_else(|why| panic!("round {round}: {why}\n{}", lab.world.stderr()));
        contradictions(&lab.world, &known).unwrap_or_else(|why| panic!("round {round}: {why}"));
        everything_runs_again(&lab.world, &known);
    }
}

#[test]
fn the_power_may_fail_at_any_write() {
    let seed = setting("APPM_PROOF_SEED", 20_261_121) ^ 0xf00d;
    let points = setting("APPM_PROOF_POINTS", 6);
    eprintln!("powerloss: seed {seed}, {points} points");
    let mut dice = Dice::new(seed);
    let mut lab = Lab::new(seed);
    let records = work_until_the_power_fails(&mut lab, 1_000);
    let base = lab.base.clone();
    for point in 0..points {
        let upto = 1 + dice.below(records.len() as u64) as usize;
        lab.base = base.clone();
        let mut known = Known::default();
        known.learn(&records[..upto]);
        let image = lab.disk(&records, upto, upto).after_power_loss(&mut || dice.below(2) < point % 3);
        lab.restore(&image, &known.starts.clone());
        let said = format!("seed {seed}, point {point}, record {upto} of {}", records.len());
        lab.boot().unwrap_or_else(|why| panic!("{said}: {why}\n{}", lab.world.stderr()));
        contradictions(&lab.world, &known).unwrap_or_else(|why| panic!("{said}: {why}"));
        everything_runs_again(&lab.world, &known);
        lab.cut();
    }
}

#[test]
fn a_disk_that_ignores_syncs_is_found_out() {
    let mut lab = Lab::new(7);
    let records = work_until_the_power_fails(&mut lab, 500);
    let mut known = Known::default();
    known.learn(&records);
    assert!(known.apps.values().any(|edits| edits[0].number > 0), "something was acknowledged");
    let first = records.iter().position(|r| r.kind == b'A').unwrap();
    let image = lab.disk(&records, records.len(), first).after_power_loss(&mut || false);
    lab.restore(&image, &[]);
    let found = lab.boot().and_then(|()| contradictions(&lab.world, &known));
    assert!(found.is_err(), "the syncs after the first acknowledgement were left out, and nobody noticed");
}

#[test]
fn start_marks_of_the_journal_are_start_lines() {
    let record = mark('S', "uid 3 4711");
    let world = World::new();
    fs::write(world.root().join("journal"), [record.as_slice(), b"@S 0 0 0 99\ntorn"].concat()).unwrap();
    let records = read_journal(&world.root().join("journal"));
    assert_eq!(records.len(), 1);
    assert_eq!(parse_start(records[0].text()).attempt, 3);
}
