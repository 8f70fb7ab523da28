//! A workflow of many jobs in a simulated world, whose server is killed after commit upon commit: nothing is lost, nothing is begun twice,
//! and what comes out is what comes out undisturbed. Store, admission, controllers and agent are the real ones.
//!
//! Here it is killed after a few writes, again and again; [`every_write`] does so at every single one.
//!
//! `WORKFLOW_JOBS=200 WORKFLOW_WRITES=1 cargo test --test it workflow_world` kills the server of so many jobs after each write.

mod every_write;

use std::{collections::BTreeMap, sync::Arc};

use appm::{
    admission::{Admission, LocalClient},
    agent::{Agent, AgentConfig, Drivers, Signals, node::NodeFacts},
    api::{
        Instance, JobStatus, Key, Kind, NodeInfo, Operation, OperationVerb, Run, Transaction, WorkState, WorkflowRun,
        WorkflowRunStatus,
    },
    auth::{Identity, Proof},
    client::SharedClient,
    clock::{SharedClock, Virtual},
    controllers::{Turns, run, workflow::WorkflowRunController},
    drivers::{
        End,
        sim::{Faults, Machine},
    },
    policy::powers::Host,
    runtime::{self, EventRecorder},
    store::{Limits, Memory, Store},
};
use jiff::SignedDuration;
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::harness::setting;

const NODE: &str = "sim";
/// An unoptimised build is twenty times slower.
const JOBS: u64 = if cfg!(debug_assertions) { 80 } else { 200 };
const COLUMNS: usize = 10;

struct Daemon {
    store: Arc<Store>,
    client: SharedClient,
    tasks: Vec<JoinHandle<()>>,
}

struct World {
    clock: Virtual,
    disk: Memory,
    machine: Machine,
    daemon: Option<Daemon>,
    /// How often the machine was started.
    boots: u32,
}

/// How many jobs there are.
fn jobs() -> usize {
    usize::try_from(setting("WORKFLOW_JOBS", JOBS)).expect("a number of jobs").next_multiple_of(COLUMNS)
}

/// Each job needs two of the row before it, and is one step.
fn workflow(count: usize) -> Value {
    let mut jobs = serde_json::Map::new();
    for row in 0..count / COLUMNS {
        for at in 0..COLUMNS {
            let needs = |at: usize| format!("j{:02}{:02}", row - 1, at % COLUMNS);
            let needs: Vec<String> = if row == 0 { Vec::new() } else { vec![needs(at), needs(at + 1)] };
            // What fails takes no more with it than this.
            let job = json!({"needs": needs, "if": "!cancelled()", "steps": [{"run": "true"}]});
            jobs.insert(format!("j{row:02}{at:02}"), job);
        }
    }
    json!({"jobs": jobs})
}

/// Steps in a row. A third of the way one may fail, and one towards the end may not.
fn row(length: usize) -> Value {
    let mut steps: Vec<Value> = (0..length).map(|n| json!({"id": format!("s{n}"), "run": "true"})).collect();
    steps[length / 3] = json!({"id": "forgiven", "run": "true", "continue-on-error": true});
    steps[length * 5 / 6]["id"] = json!("fails");
    json!({"jobs": {"row": {"steps": steps}}})
}

/// How the steps of a row end.
fn end_in_row(step: &str) -> End {
    End::Code(i32::from(["forgiven", "fails"].contains(&step)))
}

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    let meta = json!({"name": name, "namespace": "default"});
    json!({"apiVersion": "appm.dev/v1", "kind": kind, "metadata": meta, "spec": spec})
}

/// How the step of a job ends: one in twenty-three fails.
fn end_of(job: &str) -> End {
    let number: usize = job[1..].parse().expect("a number");
    End::Code(i32::from(number % 23 == 7))
}

impl World {
    fn new() -> Self {
        let start = "2026-11-21T08:00:00Z".parse().unwrap();
        let clock = Virtual::new(start, 7);
        let machine = Machine::new(Arc::new(clock.clone()), Faults::default());
        Self { clock, disk: Memory::new(), machine, daemon: None, boots: 1 }
    }

    /// Starts a server that has neither controllers nor an agent.
    async fn open(&mut self) -> Admission {
        let clock: SharedClock = Arc::new(self.clock.clone());
        let store = Store::open(self.disk.engine(), clock.clone(), Limits::default()).await.expect("the store opens");
        let admission = Admission::new(store.clone(), clock, Host::default());
        let client: SharedClient = Arc::new(LocalClient::new(admission.clone(), Identity::admin(Proof::Peer), "appm"));
        self.daemon = Some(Daemon { store, client, tasks: Vec::new() });
        admission
    }

    async fn start(&mut self) {
        let clock: SharedClock = Arc::new(self.clock.clone());
        let admission = self.open().await;
        let local = |part: &str| -> SharedClient {
            Arc::new(LocalClient::new(admission.clone(), Identity::system(part), &format!("appm-{part}")))
        };
        let shutdown = CancellationToken::new();
        let recorder = EventRecorder::new(local("events"), clock.clone());
        let reporter = |component| recorder.reporter(component, NODE);
        let ready = || watch::channel(false).0;
        let steps = run::Steps::default();
        let reporter_of_workflows = reporter("appm.dev/workflow");
        let workflows = Arc::new(WorkflowRunController::new(local("workflow"), reporter_of_workflows, steps.clone()));
        let info = NodeInfo { boot_id: format!("boot-{}", self.boots), ..NodeInfo::default() };
        let node = NodeFacts { name: NODE.to_owned(), info, capacity: BTreeMap::new() };
        let config = AgentConfig {
            node,
            address: "127.0.0.1".to_owned(),
            account: |_| None,
            machine: None,
            broker: None,
            socket: None,
        };
        let containers = Machine::new(Arc::new(self.clock.clone()), Faults::default()).driver();
        let drivers = Drivers { process: self.machine.driver(), container: containers };
        let agent = Agent::new(config, local("agent"), drivers, clock.clone(), reporter("appm.dev/agent"))
            .handing_over(steps.clone());
        let signals = Signals { ready: ready(), shutdown: shutdown.clone(), drain: CancellationToken::new() };
        let runs = run::run(
            local("run"),
            clock.clone(),
            (Turns::default(), steps.clone()),
            reporter("appm.dev/run"),
            ready(),
            shutdown.clone(),
        );
        let workflows = runtime::run(workflows, local("workflow"), clock.clone(), ready(), shutdown.clone());
        let daemon = self.daemon.as_mut().expect("it is open");
        daemon.tasks = vec![tokio::spawn(runs), tokio::spawn(workflows), tokio::spawn(agent.run(signals))];
    }

    async fn kill(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.tasks.iter().for_each(JoinHandle::abort);
        }
        turns(5).await;
    }

    fn store(&self) -> &Store {
        &self.daemon.as_ref().expect("a daemon runs").store
    }

    async fn make(&self, verb: OperationVerb, object: Value) {
        self.make_all(verb, vec![object]).await;
    }

    async fn make_namespace(&self) {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}});
        self.make(OperationVerb::Apply, namespace).await;
    }

    async fn make_all(&self, verb: OperationVerb, objects: Vec<Value>) {
        let client = &self.daemon.as_ref().expect("a daemon runs").client;
        let operations = objects.into_iter().map(|object| Operation::new(verb, object)).collect();
        client.transact(Transaction::new("appm", operations)).await.expect("it is taken");
    }

    fn status(&self) -> WorkflowRunStatus {
        let run = self.store().get(&Key::of::<WorkflowRun>("default", "many-1")).expect("it is there");
        run.typed::<WorkflowRun>().expect("a run").status.clone()
    }

    /// Starts a server and begins a run of that Workflow.
    async fn begin(&mut self, workflow: Value) {
        self.start().await;
        self.make_namespace().await;
        self.make(OperationVerb::Create, object("Workflow", "many", &workflow)).await;
        self.make(OperationVerb::Create, object("WorkflowRun", "many-1", &json!({"workflow": "many"}))).await;
    }

    /// Does a job of so many steps, each of which ends at once; how many transactions that took.
    async fn chain(&mut self, steps: usize) -> u64 {
        let steps = vec![json!({"run": "true"}); steps];
        self.begin(json!({"jobs": {"chain": {"steps": steps}}})).await;
        let before = self.store().revision();
        for _ in 0..100_000 {
            turns(2).await;
            for process in self.machine.running() {
                self.machine.end(&process.key, End::Code(0));
            }
            if self.status().is_over() {
                break;
            }
        }
        assert_eq!(self.status().jobs["chain"].state, WorkState::Success);
        turns(100).await;
        let after = self.store().revision();
        self.kill().await;
        after.0 - before.0
    }

    /// Does the workflow. The server is killed after one write of its life, after two of the next, and so on up to seven, or always after as
    /// many as are asked for.
    async fn go(&mut self, workflow: Value, end_of: fn(&str, &str) -> End) -> WorkflowRunStatus {
        self.begin(workflow).await;
        let (mut begun_at, mut lives, mut quiet) = (self.store().revision(), 1, 0);
        // Asked for every write, it looks as often as it can, and lets one step end at a time.
        let asked = setting("WORKFLOW_WRITES", 0);
        let (pause, most) = if asked == 0 { (2, 5) } else { (1, 1) };
        let mut writes_seen = 0;
        for _ in 0..1_000_000 {
            let before = self.store().revision();
            turns(pause).await;
            for process in self.machine.running().into_iter().take(most) {
                self.machine.end(&process.key, end_of(&process.env["APPM_JOB"], &process.env["APPM_STEP"]));
                quiet = 0;
            }
            writes_seen += u64::from(self.store().revision() != before);
            quiet = if self.store().revision() == before { quiet + 1 } else { 0 };
            if quiet > 40 {
                if self.status().is_over() {
                    break;
                }
                self.clock.advance(SignedDuration::from_millis(50));
            }
            let writes = if asked == 0 { 1 + lives % 7 } else { asked };
            // Before these an agent writes of itself that it is there.
            if self.store().revision().0 > begun_at.0 + writes {
                self.kill().await;
                self.start().await;
                lives += 1;
                begun_at = self.store().revision();
            }
        }
        let status = self.status();
        assert!(status.is_over(), "it does not end: {:?}", status.conditions);
        assert_eq!(self.machine.broken(), Vec::<String>::new());
        let begun = |job: &JobStatus| job.steps.iter().filter(|step| !step.run.is_empty()).count();
        let steps: usize = status.jobs.values().map(begun).sum();
        eprintln!("{steps} steps, {lives} lives of the server, {writes_seen} moments with writes");
        assert!(lives > steps as u64 / 20, "the server was killed {lives} times only");
        let starts = self.machine.starts();
        turns(100).await;
        let runs = self.store().list(Run::INFO, None).items.len();
        let instances = self.store().list(Instance::INFO, None).items.len();
        assert!(starts.values().all(|count| *count == 1), "something was begun twice");
        assert_eq!((runs, instances, starts.len()), (steps, steps, steps));
        self.kill().await;
        status
    }
}

async fn turns(times: usize) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_workflow_of_many_jobs_comes_out_the_same_whenever_its_server_is_killed() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let status = World::new().go(workflow(jobs()), |job, _| end_of(job)).await;
        assert_eq!(status.jobs.len(), jobs());
        for (job, cell) in status.jobs {
            let expected = if end_of(&job) == End::Code(0) { WorkState::Success } else { WorkState::Failure };
            assert_eq!(cell.state, expected, "{job}");
        }
    });
}

/// Steps in a row, made ahead of their turn. One fails and is forgiven, one fails for good.
#[test]
fn a_row_of_steps_comes_out_the_same_whenever_its_server_is_killed() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let status = World::new().go(row(40), |_, step| end_in_row(step)).await;
        let row = &status.jobs["row"];
        let states: Vec<WorkState> = row.steps.iter().map(|step| step.state).collect();
        let expected = (0..40).map(|n| match n {
            13 | 33 => WorkState::Failure,
            34.. => WorkState::Skipped,
            _ => WorkState::Success,
        });
        assert_eq!(states, expected.collect::<Vec<_>>());
        assert_eq!(row.state, WorkState::Failure);
    });
}

/// The end of a step may be written down before the next one is there, and the server be killed before that one was begun.
#[test]
fn rows_go_on_after_a_server_that_was_killed_before_it_began_their_next_step() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut world = World::new();
        world.start().await;
        world.make_namespace().await;
        let step = |name: String, after: String| {
            let step = json!({"workspace": "w", "after": after});
            let process = json!({"command": ["true"]});
            let spec = json!({"nodeName": NODE, "revision": "r", "once": true, "restartPolicy": "Never", "process": process, "step": step});
            object("Instance", &name, &spec)
        };
        // Whoever comes first in the agent's eyes: it goes by uids.
        let firsts = (0..16).map(|n| step(format!("first-{n}"), String::new()));
        let nexts: Vec<Value> = (0..16).map(|n| step(format!("next-{n}"), format!("first-{n}"))).collect();
        world.make_all(OperationVerb::Create, firsts.collect()).await;
        turns(2000).await;
        assert_eq!(world.machine.running().len(), 16);
        world.machine.running().iter().for_each(|process| world.machine.end(&process.key, End::Code(0)));
        turns(2000).await;
        world.kill().await;
        world.open().await;
        world.make_all(OperationVerb::Create, nexts).await;
        world.kill().await;
        world.start().await;
        turns(2000).await;
        let started = world.machine.starts();
        assert_eq!((started.len(), world.machine.running().len()), (32, 16));
        assert!(started.values().all(|count| *count == 1));
        world.kill().await;
    });
}

#[test]
fn a_step_is_one_transaction_and_a_few_are_made_ahead_together() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let few = World::new().chain(2).await;
        let more = World::new().chain(66).await - few;
        assert!((64..=64 + 12).contains(&more), "64 steps took {more}");
    });
}

#[test]
fn what_is_kept_for_so_many_days_goes_when_they_are_over_and_so_does_a_run() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let keep = |name: &str, days: i32| {
            let with = json!({"name": name, "path": "out", "retention-days": days});
            json!({"id": name, "uses": "actions/upload-artifact@v4", "with": with})
        };
        let steps = [keep("short", 1), keep("long", 2), keep("always", 0)];
        let mut world = World::new();
        world.begin(json!({"runs_retention_days": 3, "jobs": {"j": {"steps": steps}}})).await;
        for _ in 0..10_000 {
            turns(2).await;
            world.machine.running().iter().for_each(|process| world.machine.end(&process.key, End::Code(0)));
            if world.status().is_over() {
                break;
            }
        }
        assert_eq!(world.status().jobs["j"].state, WorkState::Success, "{:?}", world.status());
        let kept = |world: &World| world.machine.kept().len();
        let mut seen = Vec::new();
        for hours in [0, 23, 2, 22, 2, 22] {
            world.clock.advance(SignedDuration::from_hours(hours));
            turns(2000).await;
            seen.push(kept(&world));
            // What was to be done while nobody was there is done by the next.
            world.kill().await;
            world.clock.advance(SignedDuration::from_mins(1));
            world.start().await;
            turns(2000).await;
        }
        assert_eq!(seen, [3, 3, 2, 2, 1, 1]);
        let key = Key::of::<WorkflowRun>("default", "many-1");
        assert!(world.store().get(&key).is_some());
        world.clock.advance(SignedDuration::from_hours(3));
        turns(2000).await;
        assert!(world.store().get(&key).is_none(), "its days are over");
        world.kill().await;
    });
}
