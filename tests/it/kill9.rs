//! `kill -9` of the server, the logger and the keeper at random moments, and an audit of everything afterwards.
//!
//! An editor applies, scales, deletes and touches Apps through the API without a pause, and tries each edit again until
//! it is acknowledged; meanwhile the server is killed and started again. Some Apps must not notice; some crash by
//! themselves with known codes. In the end everything is suspended, so that nothing moves, and every start, exit and
//! line is accounted for. `APPM_PROOF_KILLS` and `APPM_PROOF_SEED` make longer and other runs (`bench/soak`).

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{
    APPS, Answer, Api, Dice, INSTANCES, SAY_START, World, app, app_path, parse_start, setting, signal, wait_for,
};

/// Writes numbered lines until it is asked to end, and then how many they were.
const STEADY: &str = r#"
n=0 stop=
trap 'stop=1' TERM
while [ -z "$stop" ]; do
  for i in 1 2 3 4 5 6 7 8 9 10; do n=$((n+1)); echo "line $n"; done
  sleep 0.1 || :
done
echo "$APPM_INSTANCE_UID $APPM_ATTEMPT $n" >> "$PROOF_ROOT/ends"
"#;

/// Writes [`CRASH_LINES`] lines and exits with a code that follows from the attempt.
const CRASHING: &str = r#"
for n in 1 2 3 4 5; do echo "line $n"; done
sleep 0.2
exit $((APPM_ATTEMPT % 5 + 3))
"#;
const CRASH_LINES: u64 = 5;

fn crash_code(attempt: u64) -> u64 {
    attempt % 5 + 3
}

/// The annotation that counts the editor's edits of an App.
const EDIT: &str = "proof.appm.dev/edit";

/// How an App of the editor behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nature {
    /// Must never be restarted.
    Steady,
    /// Exits by itself again and again.
    Crashing,
    /// Runs steadily, and is scaled, deleted and made again.
    Churning,
}

/// What the editor was told to be true of an App.
#[derive(Clone, Debug)]
struct Acknowledged {
    nature: Nature,
    edit: u64,
    replicas: u32,
    exists: bool,
    suspend: bool,
}

/// Changes Apps, one at a time, each change until it is acknowledged.
struct Editor {
    api: Api,
    dice: Dice,
    template: BTreeMap<String, Value>,
    apps: BTreeMap<String, Acknowledged>,
    edits: u64,
}

/// Asks until a whole answer comes that is not a plea for patience.
fn insist(what: &str, mut ask: impl FnMut() -> io::Result<Answer>) -> Answer {
    wait_for(what, || match ask() {
        Ok(answer) if [429, 503, 504].contains(&answer.code) => Err(format!("{answer:?}")),
        Ok(answer) => Ok(answer),
        Err(error) => Err(error.to_string()),
    })
}

impl Editor {
    fn new(world: &World, seed: u64) -> Self {
        let mut editor = Self {
            api: world.api(),
            dice: Dice::new(seed),
            template: BTreeMap::new(),
            apps: BTreeMap::new(),
            edits: 0,
        };
        for (nature, name, count, replicas) in
            [(Nature::Steady, "steady", 3, 2), (Nature::Crashing, "crash", 3, 1), (Nature::Churning, "churn", 3, 1)]
        {
            let script = if nature == Nature::Crashing { CRASHING } else { STEADY };
            for n in 0..count {
                let name = format!("{name}-{n}");
                editor.template.insert(name.clone(), app(world, &name, 0, &format!("{SAY_START}{script}")));
                let fresh = Acknowledged { nature, edit: 0, replicas, exists: false, suspend: false };
                editor.apps.insert(name, fresh);
            }
        }
        editor
    }

    /// Makes `known` true of the App.
    fn apply(&mut self, name: &str, mut known: Acknowledged) {
        self.edits += 1;
        (known.edit, known.exists) = (self.edits, true);
        let mut object = self.template[name].clone();
        object["metadata"]["annotations"] = json!({EDIT: known.edit.to_string()});
        object["spec"]["replicas"] = known.replicas.into();
        object["spec"]["suspend"] = known.suspend.into();
        let answer = insist(&format!("apply of {name}"), || self.api.apply(&object));
        assert!(answer.is_ok(), "apply of {name}: {} {}", answer.code, String::from_utf8_lossy(&answer.body));
        self.apps.insert(name.to_owned(), known);
    }

    fn delete(&mut self, name: &str) {
        let answer = insist("delete", || self.api.ask("DELETE", &app_path(name), "", b""));
        assert!(answer.is_ok() || answer.code == 404, "delete of {name}: {answer:?}");
        wait_for("the deleted App to be gone", || match self.api.get(&app_path(name)) {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        self.apps.get_mut(name).unwrap().exists = false;
    }

    /// Panics unless the App is as it was acknowledged.
    fn check(&self, name: &str) {
        let known = &self.apps[name];
        let answer = insist("get", || self.api.ask("GET", &app_path(name), "", b""));
        if !known.exists {
            assert_eq!(answer.code, 404, "{name} was deleted");
            return;
        }
        assert_eq!(answer.code, 200, "{name} was acknowledged: {}", String::from_utf8_lossy(&answer.body));
        let object = answer.json();
        assert_eq!(object["metadata"]["annotations"][EDIT], known.edit.to_string(), "the last edit of {name}");
        assert_eq!(object["spec"]["replicas"], known.replicas, "the replicas of {name}");
    }

    /// Every App that is never deleted, once.
    fn begin(&mut self) {
        for (name, known) in self.apps.clone() {
            self.apply(&name, known);
        }
    }

    fn step(&mut self) {
        let names: Vec<_> = self.apps.keys().cloned().collect();
        let name = &names[self.dice.below(names.len() as u64) as usize];
        self.check(name);
        let mut known = self.apps[name].clone();
        match known.nature {
            Nature::Churning if known.exists && self.dice.below(4) == 0 => self.delete(name),
            Nature::Churning => {
                known.replicas = self.dice.below(4) as u32;
                self.apply(name, known);
            }
            Nature::Steady | Nature::Crashing => self.apply(name, known),
        }
        self.dice.pause(30);
    }

    fn suspend_everything(&mut self) {
        for (name, mut known) in self.apps.clone() {
            if known.exists {
                known.suspend = true;
                self.apply(&name, known);
            }
        }
    }
}

/// What the audit needs of an Instance.
struct Seen {
    name: String,
    app: String,
    uid: String,
    status: Value,
}

fn instances(api: &Api) -> Vec<Seen> {
    let items = insist("list", || api.ask("GET", INSTANCES, "", b"")).json();
    let seen = |item: &Value| Seen {
        name: item["metadata"]["name"].as_str().unwrap().to_owned(),
        app: item["metadata"]["labels"]["appm.dev/app"].as_str().unwrap().to_owned(),
        uid: item["metadata"]["uid"].as_str().unwrap().to_owned(),
        status: item["status"].clone(),
    };
    items["items"].as_array().unwrap().iter().map(seen).collect()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// Waits until each App has exactly its instances, and none of them is on its way.
fn converged(editor: &Editor) -> Vec<Seen> {
    wait_for("the Apps to converge", || {
        let all = instances(&editor.api);
        for (name, known) in &editor.apps {
            let mine: Vec<_> = all.iter().filter(|i| i.app == *name).collect();
            let want = if known.exists { known.replicas as usize } else { 0 };
            if mine.len() != want {
                return Err(format!("{name} has {} instances of {want}", mine.len()));
            }
            for instance in mine {
                let state = &instance.status["state"];
                let still = match (known.suspend, known.nature) {
                    (true, _) => state["exited"].is_object(),
                    (false, Nature::Crashing) => instance.status["attempt"].is_u64(),
                    (false, _) => state["running"].is_object(),
                };
                if !still {
                    return Err(format!("{} is {state}", instance.name));
                }
            }
        }
        Ok(all)
    })
}

/// How many numbered lines of an attempt are kept: panics unless they are 1, 2, 3… without a gap. What follows the last
/// line end must be the beginning of the next line: it is on its way.
fn lines(world: &World, instance: &Seen, attempt: u64) -> u64 {
    let output = world.output(&instance.uid, attempt);
    let text = String::from_utf8(output).expect("what the script wrote");
    let mut count = 0;
    for line in text.split_inclusive('\n') {
        let expected = format!("line {}\n", count + 1);
        let whose = format!("the output of {} attempt {attempt}", instance.name);
        if line.ends_with('\n') {
            assert_eq!(line, expected, "{whose}");
            count += 1;
        } else {
            assert!(expected.starts_with(line), "{whose}: {line:?} after line {count}");
        }
    }
    count
}

/// Everything that must hold of an App's instance when nothing moves any more.
fn audit_instance(world: &World, nature: Nature, instance: &Seen, ends: &BTreeMap<(String, u64), u64>) {
    let Seen { name, uid, status, .. } = instance;
    let starts: Vec<_> = world.starts().into_iter().filter(|s| s.uid == *uid).collect();
    let attempts = number(&status["attempt"]);
    let exit = &status["lastExit"];
    assert!(starts.iter().all(|s| s.attempt <= attempts), "{name} began attempts beyond its status {status}");
    assert_eq!(number(&exit["attempt"]), attempts, "the exit of the last attempt of {name} is known: {status}");
    // The stop signal may come before the script's first line; nothing else may end an attempt so early.
    let unheard: Vec<_> = (1..=attempts).filter(|a| !starts.iter().any(|s| s.attempt == *a)).collect();
    let asked_to_end = exit["signal"] == "SIGTERM";
    assert!(
        unheard.is_empty() || unheard == [attempts] && asked_to_end,
        "attempts {unheard:?} of {name} never began: {status}"
    );
    if exit["code"].is_u64() && nature == Nature::Crashing {
        assert_eq!(exit["code"], crash_code(attempts), "the exit code of {name} attempt {attempts}");
    }
    if nature == Nature::Steady {
        assert_eq!((attempts, number(&status["restarts"])), (1, 0), "{name} was restarted: {status}");
    }
    if nature == Nature::Crashing {
        // A restart that was decided, and not begun because of the suspension, counts.
        let restarts = number(&status["restarts"]);
        assert!((attempts - 1..=attempts).contains(&restarts), "{name} has {attempts} attempts, {restarts} restarts");
    }
    for attempt in 1..=attempts {
        let last = attempt == attempts;
        let whole = match nature {
            Nature::Crashing if !last || exit["code"].is_u64() => Some(CRASH_LINES),
            _ => ends.get(&(uid.clone(), attempt)).copied(),
        };
        match whole {
            Some(whole) => wait_for(&format!("the last line of {name} attempt {attempt}"), || {
                let have = lines(world, instance, attempt);
                assert!(have <= whole, "{name} attempt {attempt} wrote {whole} lines, and {have} are kept");
                if have == whole { Ok(()) } else { Err(format!("{have} of {whole} lines")) }
            }),
            None => drop(lines(world, instance, attempt)),
        }
    }
}

/// How many lines each attempt says that it wrote.
fn ends(world: &World) -> BTreeMap<(String, u64), u64> {
    let text = std::fs::read_to_string(world.root().join("ends")).unwrap_or_default();
    text.lines()
        .map(|line| {
            let end = parse_start(line);
            ((end.uid, end.attempt), u64::from(end.pid))
        })
        .collect()
}

#[test]
fn killing_the_server_and_the_logger_at_random_moments_loses_nothing_and_restarts_nothing() {
    let (kills, seed) = (setting("APPM_PROOF_KILLS", 20), setting("APPM_PROOF_SEED", 20_261_121));
    eprintln!("kill9: seed {seed}, {kills} kills");
    let mut dice = Dice::new(seed);
    let mut world = World::new();
    world.start();
    let mut editor = Editor::new(&world, seed ^ 1);
    editor.begin();
    let steady_pids = steady_pids(&editor);

    let stop = Arc::new(AtomicBool::new(false));
    let editing = thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            while !stop.load(Ordering::Relaxed) {
                editor.step();
            }
            editor
        }
    });
    for kill in 0..kills {
        // Most kills hit a server that serves, some hit one that is still starting.
        if dice.below(5) > 0 {
            dice.pause(400);
        }
        if kill % 4 == 3 {
            world.own_process("logger").into_iter().for_each(|pid| signal(pid, Signal::SIGKILL));
        }
        assert!(!editing.is_finished(), "the editor gave up");
        world.kill_server();
        let lines = world.spawn();
        if dice.below(5) > 0 {
            world.await_ready(&lines);
        } else {
            dice.pause(300);
        }
    }
    stop.store(true, Ordering::Relaxed);
    let mut editor = editing.join().expect("the editor found what was acknowledged");

    converged(&editor);
    assert_eq!(steady_pids, self::steady_pids(&editor), "a steady App runs in another process than before");
    editor.apps.keys().for_each(|name| editor.check(name));
    editor.suspend_everything();
    let all = converged(&editor);
    let ends = ends(&world);
    for instance in &all {
        audit_instance(&world, editor.apps[&instance.app].nature, instance, &ends);
    }
    let alive = world.processes().into_iter().filter(|p| p.variable("APPM_INSTANCE_UID").is_some()).count();
    assert_eq!(alive, 0, "everything is suspended, and yet {alive} processes of Apps run");
    one_log_over_the_api_is_the_file(&world, &editor, &all);
    eprintln!("kill9: {} starts, {} instances, {} edits", world.starts().len(), all.len(), editor.edits);
}

/// The processes of the steady Apps, by instance.
fn steady_pids(editor: &Editor) -> BTreeMap<String, u64> {
    let steady = converged(editor).into_iter().filter(|i| editor.apps[&i.app].nature == Nature::Steady);
    steady.map(|i| (i.name, number(&i.status["state"]["running"]["pid"]))).collect()
}

fn one_log_over_the_api_is_the_file(world: &World, editor: &Editor, all: &[Seen]) {
    let instance = all.iter().find(|i| i.app == "steady-0").unwrap();
    let answer = editor.api.ask("GET", &format!("{INSTANCES}/{}/log", instance.name), "", b"").unwrap();
    assert_eq!(answer.code, 200);
    assert!(answer.body == world.output(&instance.uid, 1), "the log over the API differs from the file");
}

#[test]
fn killing_the_keeper_leaves_its_processes_running_and_says_that_their_exits_are_lost() {
    let mut world = World::new();
    world.start();
    let api = world.api();
    let answer = api.apply(&app(&world, "orphan", 1, &format!("{SAY_START}{STEADY}"))).unwrap();
    assert!(answer.is_ok(), "{answer:?}");
    let state = |what: &str, want: &dyn Fn(&Value) -> bool| {
        wait_for(what, || {
            let instance = instances(&api).into_iter().next().ok_or("no instance")?;
            if want(&instance.status) { Ok(instance) } else { Err(instance.status.to_string()) }
        })
    };
    let first = state("the process", &|s| s["state"]["running"].is_object());
    let pid = number(&first.status["state"]["running"]["pid"]);
    wait_for("some lines", || if lines(&world, &first, 1) > 10 { Ok(()) } else { Err("few lines".to_owned()) });

    let keeper = world.own_process("keeper").expect("a keeper runs");
    signal(keeper, Signal::SIGKILL);
    let adopted = state("the adoption", &|s| s["state"]["running"]["adopted"] == true);
    assert_eq!((number(&adopted.status["attempt"]), number(&adopted.status["state"]["running"]["pid"])), (1, pid));
    let before = lines(&world, &first, 1);
    wait_for("lines after the adoption", || {
        if lines(&world, &first, 1) > before { Ok(()) } else { Err(format!("still {before}")) }
    });

    signal(u32::try_from(pid).unwrap(), Signal::SIGKILL);
    let second = state("the next attempt", &|s| s["attempt"] == 2 && s["state"]["running"].is_object());
    assert_eq!(second.status["lastExit"]["lost"], true, "{}", second.status);
    assert_eq!(second.status["lastExit"]["attempt"], 1);
    wait_for("two starts", || if world.starts().len() == 2 { Ok(()) } else { Err("one".to_owned()) });
    world.terminate_server();
}

#[test]
fn terminating_the_server_leaves_apps_running_and_the_next_one_finds_them() {
    let mut world = World::new();
    world.start();
    let api = world.api();
    let answer = api.apply(&app(&world, "stays", 2, &format!("{SAY_START}{STEADY}"))).unwrap();
    assert!(answer.is_ok(), "{answer:?}");
    wait_for("two starts", || if world.starts().len() == 2 { Ok(()) } else { Err(format!("{:?}", world.starts())) });
    assert_eq!(world.terminate_server(), Some(0));
    let alive = world.processes().into_iter().filter(|p| p.variable("APPM_ATTEMPT").is_some()).count();
    assert!(alive >= 2, "the Apps ended with the server");
    world.start();
    wait_for("two running instances", || {
        let apps = world.api().list(APPS).map_err(|e| e.to_string())?;
        if apps[0]["status"]["readyReplicas"] == 2 { Ok(()) } else { Err(apps[0]["status"].to_string()) }
    });
    assert_eq!(world.starts().len(), 2, "the next server started them again");
}

#[test]
fn stopping_the_server_with_its_apps_ends_everything() {
    let mut world = World::new();
    world.start();
    let answer = world.api().apply(&app(&world, "ends", 2, &format!("{SAY_START}{STEADY}"))).unwrap();
    assert!(answer.is_ok(), "{answer:?}");
    wait_for("two starts", || if world.starts().len() == 2 { Ok(()) } else { Err(format!("{:?}", world.starts())) });
    let said = world.command(&["server", "stop", "--apps"]);
    assert!(said.status.success(), "{said:?}");
    wait_for("everything to end", || {
        let left = world.processes();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}
