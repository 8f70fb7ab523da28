//! Events within their bounds, on a clock that the tests move.

use serde_json::json;

use super::*;
use crate::{
    admission::{Admission, LocalClient},
    api::Transaction,
    auth::Identity,
    clock::{Clock, Virtual},
    policy::powers::Host,
    store::{Limits, Memory, Store},
};

struct World {
    clock: Virtual,
    client: SharedClient,
    reporter: Reporter,
}

/// A recorder over a store in memory, running beside the test.
async fn with_recorder(test: impl AsyncFnOnce(&World)) {
    let clock = Virtual::new("2026-01-01T00:00:00Z".parse().expect("a time"), 1);
    let shared: SharedClock = Arc::new(clock.clone());
    let store = Store::open(Memory::new().engine(), shared.clone(), Limits::default()).await.expect("opens");
    let admission = Admission::new(store, shared.clone(), Host::default());
    let client: SharedClient = Arc::new(LocalClient::new(admission, Identity::system("events"), "events"));
    let recorder = EventRecorder::new(client.clone(), shared);
    let world = World { clock, client, reporter: recorder.reporter("appm.dev/test", "here") };
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}});
    world.write(vec![Operation::new(OperationVerb::Create, namespace)]).await;
    let shutdown = CancellationToken::new();
    let test = async {
        turns().await;
        test(&world).await;
        shutdown.cancel();
    };
    tokio::join!(test, recorder.run(shutdown.clone()));
}

/// Everybody gets their turn, often enough for whatever follows from what was done.
async fn turns() {
    for _ in 0..2_000 {
        tokio::task::yield_now().await;
    }
}

impl World {
    async fn write(&self, operations: Vec<Operation>) {
        self.client.transact(Transaction::new("test", operations)).await.expect("done");
    }

    /// Events as a client writes them.
    async fn tell(&self, numbers: std::ops::Range<u32>) {
        let operations = numbers.map(|i| {
            let event = json!({
                "apiVersion": "v1", "kind": "Event", "metadata": {"name": format!("e{i:04}"), "namespace": "default"},
                "involvedObject": {"kind": "App", "namespace": "default", "name": "web", "uid": "u1"},
                "reason": "Said", "source": {"component": "robot"},
                // Nobody can make an event that never goes.
                "lastTimestamp": "2036-01-01T00:00:00Z",
            });
            Operation::new(OperationVerb::Create, event)
        });
        self.write(operations.collect()).await;
        turns().await;
    }

    async fn names(&self) -> Vec<String> {
        let listing = self.client.list(Event::INFO, &Query::default()).await.expect("listed");
        listing.items.iter().map(|object| object.key.name.to_string()).collect()
    }

    async fn pass(&self, minutes: i64) {
        for _ in 0..minutes {
            self.clock.advance(SignedDuration::from_mins(1));
            turns().await;
        }
    }
}

#[tokio::test]
async fn what_clients_tell_goes_an_hour_after_it_was_told_last() {
    with_recorder(async |world| {
        world.tell(0..2).await;
        world.pass(50).await;
        assert_eq!(world.names().await, ["e0000", "e0001"]);
        let again = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e0001", "namespace": "default"},
            "involvedObject": {"kind": "App", "namespace": "default", "name": "web", "uid": "u1"}, "count": 2});
        world.write(vec![Operation::new(OperationVerb::Update, again)]).await;
        turns().await;
        world.pass(16).await;
        assert_eq!(world.names().await, ["e0001"]);
        world.pass(50).await;
        assert_eq!(world.names().await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn an_object_keeps_its_newest_events_of_ours_and_of_others() {
    with_recorder(async |world| {
        for start in (0..600).step_by(100) {
            world.tell(start..start + 100).await;
            world.clock.advance(SignedDuration::from_secs(1));
        }
        turns().await;
        let names = world.names().await;
        assert_eq!((names.len(), names[0].as_str()), (PER_OBJECT_OTHERS, "e0100"));
        let about = ObjectReference {
            uid: "u2".to_owned(),
            name: "db".to_owned(),
            namespace: "default".to_owned(),
            ..ObjectReference::default()
        };
        for i in 0..30 {
            let at = world.clock.now() + SignedDuration::from_secs(i);
            world.reporter.record(about.clone(), EventType::Normal, "Said", format!("{i}"), at);
        }
        // The recorder waits for company first.
        turns().await;
        world.pass(1).await;
        let ours = world.names().await.iter().filter(|name| name.starts_with("db.")).count();
        assert_eq!(ours, PER_OBJECT);
    })
    .await;
}
