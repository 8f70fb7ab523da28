//! A server is killed at every write of the journal, one by one: with the write, before anybody knows of it, and as soon as all is done that
//! follows from it. Whatever the write was, the run comes out as it does undisturbed, and nothing is begun twice.
//!
//! For each write of the undisturbed history there is a world of its own, in which a life ends exactly with that one; the disk itself ends it
//! ([`LastWrite`]). Beside them is a world in which every life may do a single write.
//!
//! `WORKFLOW_JOBS=200` does so with that many jobs, `WORKFLOW_STEPS=40` with a row of that many steps, `WORKFLOW_EACH=7` with each seventh write only.

use appm::{
    drivers::sim::Process,
    store::{LastWrite, Told},
};

use super::*;

/// What is killed, and what it does before.
struct Story {
    workflow: Value,
    /// How a process ends that is the so-manieth of its step; `None`: not by itself.
    end_of: fn(&Process, u32) -> Option<End>,
    /// It is cancelled when so many processes have begun and nothing happens any more.
    cancelled_after: Option<usize>,
}

/// What ends a life.
#[derive(Clone, Copy, Debug)]
enum Death {
    Kill,
    /// The machine goes with it. Its keeper may know afterwards what had run.
    Power {
        forgotten: bool,
    },
}

/// What is the same however often the server is killed.
#[derive(Debug, PartialEq)]
struct Outcome {
    status: Value,
    /// Each step of which a process has ended by itself or with the power, and how many have.
    begun: Vec<String>,
    /// How many processes have begun, and how many Runs and Instances are there.
    left: (usize, usize, usize),
}

/// One world, and what its machine has done.
struct Life {
    world: World,
    /// Processes of a step, by job, cell and step.
    seen: BTreeMap<String, u32>,
}

/// What is of the run, and not of the server, the times and the people.
fn is_of_the_journal(key: &Key) -> bool {
    [Run::INFO.kind, Instance::INFO.kind, WorkflowRun::INFO.kind].contains(&key.kind.kind)
}

/// Takes out what may be another time: the times, and what the Runs are called (one that was made ahead is named by the one before it).
fn without_times_and_runs(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|name, _| !name.ends_with("Time") && name != "run");
            map.values_mut().for_each(without_times_and_runs);
        }
        Value::Array(values) => values.iter_mut().for_each(without_times_and_runs),
        _ => {}
    }
}

fn step_of(process: &Process) -> String {
    let of = |name: &str| process.env.get(name).map_or("", String::as_str);
    format!("{}/{}/{}", of("APPM_JOB"), of("CELL"), of("APPM_STEP"))
}

impl Life {
    async fn new(story: &Story) -> Self {
        let mut world = World::new();
        world.start().await;
        world.make_namespace().await;
        world.make(OperationVerb::Create, object("Workflow", "many", &story.workflow)).await;
        Self { world, seen: BTreeMap::new() }
    }

    fn run(&self) -> Option<Arc<appm::api::Object<WorkflowRun>>> {
        let run = self.world.store().get(&Key::of::<WorkflowRun>("default", "many-1"))?;
        Some(run.typed::<WorkflowRun>().expect("a run"))
    }

    /// Asks for something and does not wait: the answer may never come.
    fn ask(&mut self, verb: OperationVerb, spec: &Value) {
        let daemon = self.world.daemon.as_mut().expect("a daemon runs");
        let (client, run) = (daemon.client.clone(), object("WorkflowRun", "many-1", spec));
        daemon.tasks.push(tokio::spawn(async move {
            client.transact(Transaction::new("appm", vec![Operation::new(verb, run)])).await.expect("it is taken");
        }));
    }

    /// Ends one of the processes that end by themselves; whether there was one.
    fn end_one(&mut self, story: &Story) -> bool {
        for process in self.world.machine.running() {
            let of = step_of(&process);
            let before = self.seen.get(&of).copied().unwrap_or(0);
            if let Some(end) = (story.end_of)(&process, before) {
                self.world.machine.end(&process.key, end);
                self.seen.insert(of, before + 1);
                return true;
            }
        }
        false
    }

    /// Goes on until the run is over and all is quiet, or until this life's last write.
    async fn go(&mut self, story: &Story) {
        let (mut asked, mut cancelled, mut quiet) = (false, false, 0);
        for _ in 0..1_000_000 {
            if self.world.disk.has_ended() {
                // What follows from it is done, or what can be without it.
                return turns(60).await;
            }
            let before = self.world.store().revision();
            turns(1).await;
            let ended = self.end_one(story);
            quiet = if !ended && self.world.store().revision() == before { quiet + 1 } else { 0 };
            let run = self.run();
            if run.is_none() && !asked {
                self.ask(OperationVerb::Create, &json!({"workflow": "many"}));
                asked = true;
            }
            if quiet <= 40 {
                continue;
            }
            if run.as_ref().is_some_and(|run| run.status.is_over()) {
                return;
            }
            let due = story.cancelled_after.is_some_and(|after| self.world.machine.starts().len() >= after);
            if due && !cancelled && run.is_some_and(|run| run.spec.cancel.is_none()) {
                self.ask(OperationVerb::Apply, &json!({"workflow": "many", "cancel": "Stop"}));
                cancelled = true;
            }
            self.world.clock.advance(SignedDuration::from_millis(50));
        }
        panic!("it does not end: {:?}", self.run().map(|run| run.status.conditions.clone()));
    }

    /// The life ends, and another one begins.
    async fn die(&mut self, death: Death) {
        self.world.kill().await;
        if let Death::Power { forgotten } = death {
            for process in self.world.machine.running() {
                *self.seen.entry(step_of(&process)).or_default() += 1;
            }
            self.world.disk.crash();
            self.world.machine.reboot(forgotten);
            self.world.boots += 1;
        }
        self.world.start().await;
    }

    /// How it came out. Nothing is left, and nothing was begun twice.
    async fn outcome(mut self) -> Outcome {
        let machine = &self.world.machine;
        assert_eq!((machine.broken(), machine.running()), (Vec::new(), Vec::new()));
        assert!(machine.unacknowledged().is_empty(), "ends that nobody took");
        let starts = machine.starts();
        assert!(starts.values().all(|count| *count == 1), "something was begun twice: {starts:?}");
        let run = self.run().expect("it is over");
        let mut status = serde_json::to_value(&run.status).expect("it is JSON");
        without_times_and_runs(&mut status);
        let begun = self.seen.iter().map(|(step, times)| format!("{step} {times}")).collect();
        let there = |kind| self.world.store().list(kind, None).items.len();
        let left = (starts.len(), there(Run::INFO), there(Instance::INFO));
        self.world.kill().await;
        Outcome { status, begun, left }
    }
}

/// Does the story undisturbed.
async fn undisturbed(story: &Story) -> Outcome {
    let mut life = Life::new(story).await;
    life.go(story).await;
    life.outcome().await
}

/// Does the story in a world whose first life ends so. `None` if it was over before.
async fn with_one_death(story: &Story, after: u64, told: Told, death: Death) -> Option<Outcome> {
    let mut life = Life::new(story).await;
    life.world.disk.end_with(LastWrite { counts: is_of_the_journal, after, told });
    life.go(story).await;
    if !life.world.disk.has_ended() {
        life.world.kill().await;
        return None;
    }
    life.die(death).await;
    life.go(story).await;
    Some(life.outcome().await)
}

/// Does the story in a world each of whose lives ends with its first write; how many there were.
async fn with_a_life_for_each_write(story: &Story) -> (Outcome, u64) {
    let mut life = Life::new(story).await;
    for lives in 1.. {
        let told = if lives % 2 == 0 { Told::Yes } else { Told::No };
        life.world.disk.end_with(LastWrite { counts: is_of_the_journal, after: 1, told });
        life.go(story).await;
        if !life.world.disk.has_ended() {
            return (life.outcome().await, lives);
        }
        assert!(lives < 100_000, "it does not end");
        life.die(Death::Kill).await;
    }
    unreachable!("it has ended or panicked")
}

/// Each future on a runtime of its own: what a life that was cut off still holds goes with it.
fn alone<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Kills the server at every write of the story; gives how it comes out.
fn killed_at_every_write(name: &str, story: &Story) -> Outcome {
    let expected = alone(undisturbed(story));
    let (starts, runs, instances) = expected.left;
    assert_eq!((runs, instances), (starts, starts), "each that began is there, and nothing else");
    let each = setting("WORKFLOW_EACH", 1);
    let (mut writes, mut worlds) = (0, 0);
    'writes: for after in (1..).step_by(usize::try_from(each).expect("a number")) {
        // An unoptimised build takes the one or the other in turn.
        let both = [Told::No, Told::Yes];
        let told: &[Told] = if cfg!(debug_assertions) { &both[worlds % 2..][..1] } else { &both };
        for &told in told {
            let Some(outcome) = alone(with_one_death(story, after, told, Death::Kill)) else { break 'writes };
            assert!(outcome == expected, "killed at write {after}, {told:?}: {outcome:#?}\nundisturbed: {expected:#?}");
            worlds += 1;
        }
        writes = after;
    }
    let (outcome, lives) = alone(with_a_life_for_each_write(story));
    assert!(outcome == expected, "of {lives} lives: {outcome:#?}\nundisturbed: {expected:#?}");
    eprintln!("{name}: {writes} writes, a server killed at each in {worlds} worlds; and {lives} lives of one write");
    outcome
}

fn state<'a>(outcome: &'a Outcome, job: &str) -> &'a str {
    outcome.status["jobs"][job]["state"].as_str().unwrap_or_else(|| panic!("{job} of {:#?}", outcome.status))
}

#[test]
fn a_workflow_of_many_jobs_comes_out_the_same_whichever_write_its_server_is_killed_at() {
    let end_of = |process: &Process, _| Some(self::end_of(&process.env["APPM_JOB"]));
    let jobs = usize::try_from(setting("WORKFLOW_JOBS", 20)).expect("a number").next_multiple_of(COLUMNS);
    let outcome = killed_at_every_write("jobs", &Story { workflow: workflow(jobs), end_of, cancelled_after: None });
    assert_eq!(outcome.begun.len(), jobs);
    assert_eq!((state(&outcome, "j0006"), state(&outcome, "j0007")), ("Success", "Failure"));
}

#[test]
fn a_row_of_steps_comes_out_the_same_whichever_write_its_server_is_killed_at() {
    let end_of = |process: &Process, _| Some(end_in_row(&process.env["APPM_STEP"]));
    let length = usize::try_from(setting("WORKFLOW_STEPS", 16)).expect("a number");
    let outcome = killed_at_every_write("row", &Story { workflow: row(length), end_of, cancelled_after: None });
    assert_eq!((outcome.begun.len(), state(&outcome, "row")), (length * 5 / 6 + 1, "Failure"));
}

/// Of five cells at most three at a time. Two fail once, one fails for good; whatever becomes of it, each tidies up.
#[test]
fn a_matrix_with_repetitions_comes_out_the_same_whichever_write_its_server_is_killed_at() {
    let cell = json!({"CELL": "${{ matrix.n }}"});
    let workflow = json!({"jobs": {
        "prepare": {"steps": [{"run": "true"}]},
        "build": {
            "needs": "prepare", "env": cell,
            "strategy": {"fail-fast": false, "max-parallel": 3, "matrix": {"n": [1, 2, 3, 4, 5]}},
            "steps": [{"id": "try", "run": "true", "retry": {"max": 2, "interval": 1}}, {"id": "pack", "run": "true"}],
            "finally": [{"id": "tidy", "run": "true"}],
        },
        "publish": {"needs": "build", "steps": [{"run": "true"}]},
        "tell": {"needs": "publish", "if": "always()", "steps": [{"run": "true"}]},
    }});
    let end_of = |process: &Process, before| {
        let fails = match step_of(process).as_str() {
            "build/1/try" | "build/3/try" => before == 0,
            "build/4/try" => true,
            _ => false,
        };
        Some(End::Code(i32::from(fails)))
    };
    let outcome = killed_at_every_write("matrix", &Story { workflow, end_of, cancelled_after: None });
    let states = ["build (1)", "build (4)", "publish", "tell"].map(|job| state(&outcome, job));
    assert_eq!(states, ["Success", "Failure", "Skipped", "Success"]);
    let begun = ["build/1/try 2", "build/2/try 1", "build/4/try 3", "build/4/tidy 1"];
    assert!(begun.iter().all(|step| outcome.begun.iter().any(|begun| begun == step)), "{:?}", outcome.begun);
}

/// What runs when it is cancelled is stopped, what has not begun does not, and what is for the end is done.
#[test]
fn a_run_that_is_cancelled_comes_out_the_same_whichever_write_its_server_is_killed_at() {
    let job =
        |needs: Value| json!({"needs": needs, "steps": [{"run": "true"}], "finally": [{"id": "tidy", "run": "true"}]});
    let mut jobs = serde_json::Map::new();
    for n in 0..4 {
        jobs.insert(format!("first-{n}"), job(json!([])));
        jobs.insert(format!("held-{n}"), job(json!([format!("first-{n}")])));
        jobs.insert(format!("never-{n}"), job(json!([format!("held-{n}")])));
    }
    let end_of = |process: &Process, _| {
        let held = process.env["APPM_JOB"].starts_with("held") && process.env["APPM_STEP"] != "tidy";
        (!held).then_some(End::Code(0))
    };
    let story = Story { workflow: json!({"jobs": jobs}), end_of, cancelled_after: Some(12) };
    let outcome = killed_at_every_write("cancelled", &story);
    let states = ["first-0", "held-0", "never-0"].map(|job| state(&outcome, job));
    assert_eq!(states, ["Success", "Cancelled", "Cancelled"]);
    assert_eq!(outcome.begun.iter().filter(|step| step.contains("held-0//tidy")).count(), 1);
}

/// With the power goes what was not on disk, and every process. Of a row some have ended and are known so, at most one is lost and the row ends
/// with it, and nothing is begun twice.
#[test]
fn of_a_row_at_most_one_step_is_lost_whichever_write_the_power_fails_at() {
    let end_of = |_: &Process, _| Some(End::Code(0));
    let steps: Vec<Value> = (0..20).map(|n| json!({"id": format!("s{n}"), "run": "true"})).collect();
    let workflow = json!({"jobs": {"row": {"steps": steps}}});
    let story = Story { workflow, end_of, cancelled_after: None };
    let (mut writes, mut lost_in) = (0, 0);
    for after in 1.. {
        let death = Death::Power { forgotten: after % 2 == 0 };
        let told = if after % 3 == 0 { Told::Yes } else { Told::No };
        let Some(outcome) = alone(with_one_death(&story, after, told, death)) else { break };
        writes = after;
        let said = format!("power lost at write {after}, {told:?}: {outcome:#?}");
        assert!(outcome.begun.iter().all(|step| step.ends_with(" 1")), "a step began twice; {said}");
        let steps = outcome.status["jobs"]["row"]["steps"].as_array().expect("steps");
        let states: Vec<&str> = steps.iter().filter_map(|step| step["state"].as_str()).collect();
        let done = states.iter().take_while(|state| **state == "Success").count();
        let lost = steps.get(done).filter(|step| step["state"] == "Failure");
        assert!(lost.is_none_or(|step| step["reason"] == "Lost"), "{said}");
        let rest = &states[done + usize::from(lost.is_some())..];
        assert!(rest.iter().all(|state| *state == "Skipped"), "{said}");
        assert_eq!((lost.is_some(), done == 20), (done < 20, lost.is_none()), "{said}");
        assert!(
            (done..=done + 1).contains(&outcome.begun.len()),
            "what ended is known, and one more at most had begun; {said}"
        );
        lost_in += u32::from(lost.is_some());
    }
    eprintln!("power: {writes} writes, the power lost at each; a step was lost in {lost_in} of them");
    assert!(lost_in > 0 && u64::from(lost_in) < writes);
}
