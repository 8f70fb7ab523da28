//! What is foretold is what happens: a random fleet, a random change, the plan of it; then the change is made, and what was done to the machine is
//! compared: each action, on which instance, in which order, at which moment.
//!
//! `WORLD_SEED=7 cargo test --test it forecast` repeats a failure, `WORLD_FORECASTS=10000` runs as many.

use std::time::Duration;

use appm::{
    admission::{Caller, Quotas},
    api::{Plan, PlannedAction, PlannedVerb},
    daemon::{
        forecast::{Observatory, Readiness, Record, forecaster},
        simulated::Stillness,
    },
};

use super::*;

/// When nothing was done for so long, nothing more is.
const REST: SignedDuration = SignedDuration::from_secs(150);

/// A world that is looked at only when nothing goes on in it by itself.
struct Stage {
    world: World,
    stillness: Stillness,
    /// What was declared last, by name.
    fleet: BTreeMap<String, Value>,
}

impl Stage {
    async fn new(seed: u64, stillness: Stillness) -> Self {
        let mut world = World::new(seed);
        world.machine.set_faults(Faults::default());
        world.start_daemon().await;
        let daemon = world.daemon.as_ref().expect("it was just started");
        daemon.admission.use_forecaster(forecaster(Observatory {
            store: daemon.store.clone(),
            clock: Arc::new(world.clock.clone()),
            host: Host::default(),
            quotas: Quotas::default(),
            node: world.node(),
            ports: || Ports::new(20000..=20999, |_| true),
            // As this world is.
            readiness: Readiness::AtOnce,
            patience: Duration::from_secs(600),
        }));
        Self { world, stillness, fleet: BTreeMap::new() }
    }

    fn roll(&self, sides: u64) -> u64 {
        self.world.roll(sides)
    }

    fn one_in(&self, sides: u64) -> bool {
        self.roll(sides) == 0
    }

    /// Lets time pass until `end`, from one thing that is due to the next.
    async fn pass(&self, end: jiff::Timestamp, record: Option<&Record>) {
        loop {
            self.stillness.wait().await;
            if let Some(record) = record {
                record.look(self.world.clock.now());
            }
            let now = self.world.clock.now();
            match self.world.clock.next_due().filter(|due| *due <= end) {
                Some(due) => self.world.clock.advance(due.duration_since(now)),
                None => return self.world.clock.advance(end.duration_since(now)),
            }
        }
    }

    /// A new App.
    fn app(&self, name: &str) -> Value {
        let mut app = json!({
            "apiVersion": "appm.dev/v1", "kind": "App",
            "metadata": {"namespace": "default", "name": name, "annotations": {}},
            "spec": {
                "replicas": 1 + self.roll(4),
                "process": {"command": ["run", "v0"]},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            },
        });
        for _ in 0..self.roll(4) {
            self.change(name, &mut app);
        }
        app
    }

    /// Changes one thing of an App.
    fn change(&self, name: &str, app: &mut Value) {
        let spec = &mut app["spec"];
        match self.roll(17) {
            0..=2 => spec["replicas"] = json!(self.roll(5)),
            3..=5 => spec["process"]["command"][1] = json!(format!("v{}", self.roll(100))),
            6 => spec["suspend"] = json!(spec["suspend"] != true),
            7 => app["metadata"]["annotations"]["appm.dev/restartedAt"] = json!(format!("r{}", self.roll(1000))),
            8 => {
                let (surge, unavailable) = (self.roll(3), self.roll(3));
                let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable };
                spec["strategy"]["rollingUpdate"] = json!({"maxSurge": surge, "maxUnavailable": unavailable});
            }
            9 => spec["strategy"] = json!({"type": if self.one_in(2) { "Recreate" } else { "RollingUpdate" }}),
            10 => spec["minReadySeconds"] = json!(self.roll(20)),
            11 => spec["ports"] = if self.one_in(3) { json!([]) } else { json!([{"name": "http"}]) },
            12 => spec["terminationGracePeriodSeconds"] = json!(self.roll(20)),
            13 => {
                let probe = json!({"exec": {"command": ["ask"]}, "periodSeconds": 1 + self.roll(9), "initialDelaySeconds": self.roll(6)});
                spec["readinessProbe"] = if self.one_in(4) { Value::Null } else { probe };
            }
            14 => {
                let hook = json!({"preStop": {"sleep": {"seconds": 1 + self.roll(4)}}});
                spec["lifecycle"] = if self.one_in(4) { json!({}) } else { hook };
            }
            15 => spec["resources"] = json!({"limits": {"memory": format!("{}Mi", 64 + self.roll(4) * 64)}}),
            // Only on those before it in the alphabet: no circles.
            _ => {
                let earlier: Vec<&String> = self.fleet.keys().filter(|other| other.as_str() < name).collect();
                if !earlier.is_empty() {
                    let other = earlier[self.roll(earlier.len() as u64) as usize];
                    spec["dependsOn"] = json!([{"app": other}]);
                }
            }
        }
    }

    /// Some changes of the fleet.
    fn changes(&mut self) -> Vec<Operation> {
        let mut all = Vec::new();
        let mut touched = BTreeSet::new();
        for _ in 0..1 + self.roll(3) {
            let name = ["a", "b", "c", "d"][self.roll(4) as usize].to_owned();
            if !touched.insert(name.clone()) {
                continue;
            }
            match self.fleet.get(&name).cloned() {
                Some(app) if self.one_in(6) => {
                    self.fleet.remove(&name);
                    all.push(Operation::new(OperationVerb::Delete, app));
                }
                Some(mut app) => {
                    for _ in 0..1 + self.roll(2) {
                        self.change(&name, &mut app);
                    }
                    self.fleet.insert(name, app.clone());
                    all.push(Operation::new(OperationVerb::Apply, app));
                }
                None => {
                    let app = self.app(&name);
                    self.fleet.insert(name, app.clone());
                    all.push(Operation::new(OperationVerb::Apply, app));
                }
            }
        }
        all
    }

    async fn plan(&self, operations: &[Operation]) -> Plan {
        let admission = self.world.daemon.as_ref().expect("it runs").admission.clone();
        let caller = Caller::new(Identity::admin(Proof::Peer), "appm");
        let planned = admission.plan(&caller, Transaction::new("appm", operations.to_vec())).await;
        planned.unwrap_or_else(|status| self.world.fail(format!("it is not planned: {status}")))
    }

    async fn done(&self, operations: &[Operation], plan: &Plan) -> Vec<PlannedAction> {
        let record = Record::new(self.world.store(), self.world.clock.now());
        self.world.machine.watched_by(record.witness(self.world.clock.clone()));
        record.begin(&self.world.clock);
        let transaction = Transaction { plan_hash: plan.hash.clone(), ..Transaction::new("appm", operations.to_vec()) };
        if let Err(status) = self.world.client().transact(transaction).await {
            self.world.fail(format!("it is not done: {status}"));
        }
        let longest = plan.actions.iter().map(|action| action.after_seconds).fold(0.0, f64::max);
        let end = self.world.clock.now() + SignedDuration::try_from_secs_f64(longest).expect("an hour at most") + REST;
        self.pass(end, Some(&record)).await;
        record.told().0
    }
}

/// What counts of actions, one a line. Which of several instances of an App comes first at one moment goes by their uids, which are chance: what is
/// done at each moment to which App is compared in its order, and to which instances as a set.
fn listed(actions: &[PlannedAction]) -> String {
    let mut moments: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    let mut all = String::new();
    let alike = |a: &PlannedAction, b: &PlannedAction| {
        a.after_seconds.to_bits() == b.after_seconds.to_bits() && a.verb == b.verb && a.owner == b.owner
    };
    for together in actions.chunk_by(alike) {
        let mut reasons: Vec<&str> = together.iter().map(|action| action.because.as_str()).collect();
        reasons.sort_unstable();
        for because in reasons {
            let PlannedAction { after_seconds, verb, owner, .. } = &together[0];
            writeln!(all, "  {after_seconds:>8} {verb:?} {owner}: {because}").unwrap();
        }
    }
    for action in actions {
        let PlannedAction { after_seconds, verb, instance, attempt, .. } = action;
        let moment = moments.entry((after_seconds * 1000.0).round() as u64).or_default();
        moment.push(format!("{verb:?} {instance}/{attempt}"));
    }
    for (moment, mut instances) in moments {
        instances.sort_unstable();
        writeln!(all, "  {moment:>8} ms: {}", instances.join(", ")).unwrap();
    }
    all
}

/// How many actions of each kind were compared.
type Counts = BTreeMap<PlannedVerb, u64>;

fn scenario(seed: u64, counts: &mut Counts) {
    let (runtime, stillness) = Stillness::runtime().expect("there is room for a runtime");
    runtime.block_on(async {
        let mut stage = Stage::new(seed, stillness).await;
        let first: Vec<Operation> = (0..3).flat_map(|_| stage.changes()).collect();
        for operation in first {
            stage.world.client().transact(Transaction::new("appm", vec![operation])).await.expect("a fleet");
        }
        // In the middle of something, or at rest.
        let before = if stage.one_in(4) { SignedDuration::from_millis(stage.roll(8000) as i64) } else { REST };
        stage.pass(stage.world.clock.now() + before, None).await;
        for _ in 0..2 {
            let fleet = stage.fleet.clone();
            let operations = stage.changes();
            let plan = stage.plan(&operations).await;
            let actual = stage.done(&operations, &plan).await;
            let (foretold, happened) = (listed(&plan.actions), listed(&actual));
            if foretold != happened {
                let sent: Vec<String> = operations.iter().map(|o| format!("{:?} {}", o.verb, o.object)).collect();
                stage.world.fail(format!(
                    "foretold:\n{foretold}happened:\n{happened}fleet: {fleet:#?}\nsent:\n{}\n{}",
                    sent.join("\n"),
                    plan.incomplete
                ));
            }
            for action in &plan.actions {
                *counts.entry(action.verb).or_default() += 1;
            }
        }
        stage.world.kill_daemon().await;
    });
}

#[test]
fn what_is_foretold_is_what_happens() {
    let mut counts = Counts::new();
    if let Ok(seed) = std::env::var("WORLD_SEED") {
        return scenario(seed.parse().expect("a number"), &mut counts);
    }
    // Two changes in each.
    let usual = if cfg!(debug_assertions) { 100 } else { 2000 };
    let count: u64 =
        std::env::var("WORLD_FORECASTS").map_or(usual, |n| n.parse::<u64>().expect("a number").div_ceil(2));
    for seed in 0..count {
        scenario(seed, &mut counts);
    }
    eprintln!("{} changes, in which {counts:?}", count * 2);
    if count >= usual {
        let all =
            [PlannedVerb::Start, PlannedVerb::Stop, PlannedVerb::Restart, PlannedVerb::Replace, PlannedVerb::Resize];
        assert!(all.iter().all(|verb| counts.contains_key(verb)), "{counts:?}");
    }
}

#[test]
fn a_plan_tells_what_becomes_of_an_app_and_for_how_long_it_is_away() {
    let (runtime, stillness) = Stillness::runtime().expect("there is room for a runtime");
    runtime.block_on(async {
        let mut stage = Stage::new(1, stillness).await;
        let web = |command: &str| {
            json!({"apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"namespace": "default", "name": "web"}, "spec": {
                "strategy": {"type": "Recreate"}, "process": {"command": [command]},
                "lifecycle": {"preStop": {"sleep": {"seconds": 3}}},
            }})
        };
        let apply = |object| vec![Operation::new(OperationVerb::Apply, object)];
        let made = stage.plan(&apply(web("a"))).await;
        assert_eq!((made.summary.created, made.summary.starts, made.apps[0].ready_after), (1, 1, 1), "{made:#?}");
        assert!(stage.world.of_kind::<App>().is_empty(), "nothing was made");
        assert!(stage.world.machine.running().is_empty(), "and nothing was started");
        stage.done(&apply(web("a")), &made).await;

        let again = stage.plan(&apply(web("a"))).await;
        assert!(again.changes_nothing() && again.actions.is_empty(), "{again:#?}");

        let other = stage.plan(&apply(web("b"))).await;
        assert_eq!(other.actions[0].after_seconds, 3.0, "after its hook");
        let verbs: Vec<PlannedVerb> = other.actions.iter().map(|action| action.verb).collect();
        assert_eq!(verbs, [PlannedVerb::Stop, PlannedVerb::Replace], "{other:#?}");
        assert_eq!((other.summary.replacements, other.summary.stops), (1, 0));
        let app = &other.apps[0];
        assert_eq!((app.ready_before, app.ready_at_least, app.ready_after), (1, 0, 1));
        assert!(app.unavailable_seconds >= 3.0 && app.unavailable_seconds < 6.0, "{app:?}");
        stage.fleet.clear();
        stage.world.kill_daemon().await;
    });
}
