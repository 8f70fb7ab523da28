//! Schedules and their Runs in the simulated world: whatever is killed, and however the clock is set, each nominal time has one Run, each attempt
//! is started once at most, and in the end every Run is over.

use appm::{
    api::{Run, Schedule, Uid},
    controllers::schedule::ScheduleController,
    runtime,
};
use jiff::{Timestamp, tz::TimeZone};
use tokio::sync::watch;

use super::*;

/// The parts of a daemon that the others of this world do without.
pub(super) fn parts(
    local: impl Fn(&str) -> SharedClient,
    clock: &SharedClock,
    recorder: &EventRecorder,
    shutdown: &CancellationToken,
) -> Vec<JoinHandle<()>> {
    let reporter = recorder.reporter("appm.dev/schedule", NODE);
    let schedules = ScheduleController::new(local("schedule"), clock.clone(), reporter, TimeZone::UTC);
    let ready = watch::channel(false).0;
    let schedules = runtime::run(Arc::new(schedules), local("schedule"), clock.clone(), ready, shutdown.clone());
    vec![tokio::spawn(schedules)]
}

/// Of everything that was ever seen: by which name it went.
#[derive(Default)]
struct Seen {
    runs: BTreeMap<String, Uid>,
    instances: BTreeMap<String, Uid>,
    last: BTreeMap<String, Timestamp>,
}

fn manifest(name: &str, when: &Value, policy: &str) -> Value {
    let mut spec = json!({
        "concurrencyPolicy": policy, "successfulRunsHistoryLimit": 10000, "failedRunsHistoryLimit": 10000,
        "run": {"process": {"command": ["run", "v0"]}, "terminationGracePeriodSeconds": 5, "backoffLimit": 1},
    });
    spec.as_object_mut().unwrap().extend(when.as_object().unwrap().clone());
    json!({
        "apiVersion": "appm.dev/v1", "kind": "Schedule", "metadata": {"namespace": "default", "name": name}, "spec": spec,
    })
}

impl World {
    async fn with_schedules(seed: u64) -> Self {
        let mut world = World::new(seed);
        world.timetable = true;
        world.start_daemon().await;
        let all = [
            manifest("grid", &json!({"every": {"interval": "20s"}}), "Allow"),
            manifest("cron", &json!({"cron": "*/25 * * * * *"}), "Forbid"),
            manifest("often", &json!({"every": {"interval": "15s"}, "jitter": "7s"}), "Replace"),
            manifest("once", &json!({"at": ["2026-11-21T08:01:00Z", "2026-11-21T08:03:00Z"]}), "Allow"),
        ];
        let operations = all.map(|schedule| Operation::new(OperationVerb::Apply, schedule)).to_vec();
        world.client().transact(Transaction::new("appm", operations)).await.unwrap();
        world
    }

    async fn scheduled_step(&mut self) {
        if self.daemon.is_none() {
            self.start_daemon().await;
        }
        match self.roll(14) {
            0..=6 => {
                let by = SignedDuration::from_millis(self.roll(20_000) as i64);
                self.note(format!("{by:?} pass"));
                self.clock.advance(by);
            }
            7 | 8 => self.crash(),
            9 => {
                self.note("the daemon is killed");
                self.kill_daemon().await;
            }
            10 => {
                self.note("the daemon is stopped");
                self.stop_daemon().await;
            }
            11 => {
                self.note("the power fails");
                self.kill_daemon().await;
                self.power_loss();
            }
            12 => {
                let by = [-3600, -40, -1, 1, 40, 86_400][self.roll(6) as usize];
                self.note(format!("the clock is set by {by} s"));
                self.clock.step(SignedDuration::from_secs(by));
            }
            _ => {
                self.note("the disk fails");
                self.disk.fail_next(1 + self.roll(3) as u32);
            }
        }
        let turns = self.roll(TURNS as u64 * 3) as usize;
        self.turn(turns).await;
    }

    /// At every moment: one Run for a name, which is a time's; one Instance for an attempt; one start for an Instance.
    fn look(&self, seen: &mut Seen) {
        if let Some(broken) = self.machine.broken().first() {
            self.fail(broken);
        }
        let mut started: BTreeMap<Uid, u32> = BTreeMap::new();
        for key in self.machine.starts().into_keys() {
            if let Some(other) = started.insert(key.uid.clone(), key.attempt) {
                self.fail(format!("{} was started as {other} and as {}", key.uid, key.attempt));
            }
        }
        if self.daemon.is_none() {
            return;
        }
        let same = |known: &mut BTreeMap<String, Uid>, name: &str, uid: &Uid| {
            if let Some(other) = known.insert(name.to_owned(), uid.clone()).filter(|other| other != uid) {
                self.fail(format!("{name} was {other} and is {uid}"));
            }
        };
        self.of_kind::<Run>().iter().for_each(|run| same(&mut seen.runs, &run.metadata.name, run.uid()));
        // One that was lost with the power before its start was durably meant is made again; of those that were started there is one.
        let instances = self.of_kind::<Instance>();
        let begun = instances.iter().filter(|instance| started.contains_key(instance.uid()));
        begun.for_each(|i| same(&mut seen.instances, &i.metadata.name, i.uid()));
        for schedule in self.of_kind::<Schedule>() {
            let (name, Some(last)) = (schedule.metadata.name.clone(), schedule.status.last_schedule_time) else {
                continue;
            };
            if let Some(before) = seen.last.insert(name.clone(), last.0).filter(|before| *before > last.0) {
                self.fail(format!("the last time of {name} went back from {before} to {}", last.0));
            }
            let run = format!("{name}-{}", last.0.as_second());
            if !seen.runs.contains_key(&run) {
                self.fail(format!("there never was a run {run}, and its time is done with"));
            }
        }
    }

    /// In the end each time that comes has its Run again, and every Run is over.
    async fn scheduled_audit(&mut self, seen: &mut Seen) {
        self.machine.set_faults(Faults::default());
        self.disk.fail_next(0);
        if self.daemon.is_none() {
            self.start_daemon().await;
        }
        self.note("the end");
        // No time before the last one comes again, so wait until the clock is past it.
        let last = seen.last.values().max().copied().unwrap_or(self.clock.now());
        let behind = last.duration_since(self.clock.now()).max(SignedDuration::ZERO);
        self.clock.advance(behind);
        for _ in 0..12 {
            self.clock.advance(SignedDuration::from_secs(5));
            self.turn(TURNS * 4).await;
            self.look(seen);
        }
        let grid = seen.last.get("grid").copied().unwrap_or(Timestamp::MIN);
        if self.clock.now().duration_since(grid) > SignedDuration::from_secs(25) {
            self.fail(format!("the last time of the grid was {grid}"));
        }
        for schedule in self.of_kind::<Schedule>() {
            let object = self.store().get(&schedule.key()).unwrap();
            let mut object = object.value();
            object["spec"]["suspend"] = json!(true);
            object["metadata"].as_object_mut().unwrap().shift_remove("resourceVersion");
            let pause = Transaction::new("appm", vec![Operation::new(OperationVerb::Update, object)]);
            self.client().transact(pause).await.unwrap();
        }
        for _ in 0..400 {
            for process in self.machine.running() {
                self.machine.end(&process.key, End::Code(0));
            }
            self.turn(TURNS).await;
            self.look(seen);
            if self.of_kind::<Run>().iter().all(|run| run.status.is_over()) {
                return;
            }
            let now = self.clock.now();
            let due = self.clock.next_due().unwrap_or(now);
            self.clock.advance(due.duration_since(now).max(SignedDuration::from_millis(1)));
        }
        let runs = self.of_kind::<Run>();
        let open = runs.iter().filter(|run| !run.status.is_over());
        let told: Vec<String> = open.map(|run| format!("{}: {:?}", run.metadata.name, run.status)).collect();
        self.fail(format!("not over: {told:?}"));
    }
}

fn scheduled(seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut world = World::with_schedules(seed).await;
        let mut seen = Seen::default();
        let steps = 15 + world.roll(30);
        for _ in 0..steps {
            world.scheduled_step().await;
            world.look(&mut seen);
        }
        world.scheduled_audit(&mut seen).await;
        world.kill_daemon().await;
    });
}

#[test]
fn each_time_has_one_run_and_each_attempt_one_start_whatever_happens() {
    if let Ok(seed) = std::env::var("WORLD_SEED") {
        return scheduled(seed.parse().expect("a number"));
    }
    let usual = if cfg!(debug_assertions) { 3 } else { 500 };
    let count: u64 = std::env::var("WORLD_SCHEDULES").map_or(usual, |n| n.parse().expect("a number"));
    for seed in 0..count {
        scheduled(seed);
    }
}

/// As many Schedules as would be noticed if each of them were late.
const MANY: usize = if cfg!(debug_assertions) { 40 } else { 1000 };
const INTERVAL: i64 = 20;

impl World {
    async fn with_many_schedules(seed: u64) -> Self {
        let mut world = World::new(seed);
        world.timetable = true;
        world.start_daemon().await;
        let grid = json!({"every": {"interval": format!("{INTERVAL}s")}});
        let mut all: Vec<Value> = (0..MANY).map(|n| manifest(&format!("s{n}"), &grid, "Allow")).collect();
        // What runs is another matter.
        all.iter_mut().for_each(|schedule| schedule["spec"]["run"]["suspend"] = json!(true));
        let operations = all.into_iter().map(|schedule| Operation::new(OperationVerb::Apply, schedule)).collect();
        world.client().transact(Transaction::new("appm", operations)).await.unwrap();
        world
    }

    /// The times of which there are Runs, and of how many Schedules each.
    fn times(&self) -> BTreeMap<i64, usize> {
        let mut times = BTreeMap::new();
        for run in self.of_kind::<Run>() {
            let (schedule, at) = run.metadata.name.rsplit_once('-').unwrap();
            assert_eq!(run.metadata.controller().unwrap().name, schedule);
            *times.entry(at.parse().unwrap()).or_default() += 1;
        }
        times
    }

    /// Kills the daemon, or does not, and lets everybody have their turn, until these times have their Runs, and no others.
    async fn has_runs_of(&mut self, expected: &BTreeSet<i64>) {
        if self.roll(3) == 0 {
            // In the middle of it.
            let turns = self.roll(200) as usize;
            self.turn(turns).await;
            self.kill_daemon().await;
            self.start_daemon().await;
        }
        let expected: BTreeMap<i64, usize> = expected.iter().map(|at| (*at, MANY)).collect();
        for _ in 0..400 {
            self.turn(TURNS).await;
            if self.times() == expected {
                // Nobody has more to say.
                return self.turn(TURNS * 2).await;
            }
        }
        self.fail(format!("there are runs of {:?}, not of {expected:?}", self.times()));
    }
}

/// The seam is the clock's own: what the kernel tells of a clock that was set arrives in the same way (`clock/steps.rs`).
#[test]
fn a_clock_put_back_an_hour_repeats_no_time_and_one_put_forward_a_day_makes_one_run_of_each_schedule() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut world = World::with_many_schedules(7).await;
        let mut expected = BTreeSet::new();
        let on = async |world: &mut World, expected: &mut BTreeSet<i64>, more: bool| {
            for _ in 0..5 {
                world.clock.advance(SignedDuration::from_secs(INTERVAL / 2));
                let now = world.clock.now().as_second();
                if more {
                    expected.insert(now - now.rem_euclid(INTERVAL));
                }
                world.has_runs_of(expected).await;
            }
        };
        // 08:00:00 itself was before they were made.
        world.clock.advance(SignedDuration::from_secs(INTERVAL));
        on(&mut world, &mut expected, true).await;
        world.note("back");
        world.clock.step(SignedDuration::from_hours(-1));
        world.has_runs_of(&expected).await;
        on(&mut world, &mut expected, false).await;
        world.note("forward");
        world.clock.step(SignedDuration::from_hours(24));
        on(&mut world, &mut expected, true).await;
        let times: Vec<_> = world.times().into_keys().collect();
        assert!(times.windows(2).filter(|pair| pair[1] - pair[0] > INTERVAL).count() == 1, "{times:?}");
        world.kill_daemon().await;
    });
}
