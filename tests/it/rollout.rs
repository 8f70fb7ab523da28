//! Rollouts of real processes: bounds, pauses, deadlines, the way back, `kill -9` in the middle, and not one request lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::harness::{Api, INSTANCES, SAY_START, World, app, app_path, wait_for};

/// An App that says which version it is and runs until it is ended.
fn steady(world: &World, replicas: u32, version: &str) -> Value {
    app(world, "web", replicas, &format!("{SAY_START}# {version}\nexec sleep 1000"))
}

/// Its template as one that ends at once.
fn broken(world: &World, replicas: u32) -> Value {
    app(world, "web", replicas, "exit 3")
}

fn with(mut app: Value, spec: Value) -> Value {
    for (field, value) in spec.as_object().unwrap() {
        app["spec"][field] = value.clone();
    }
    app
}

fn apply(api: &Api, app: &Value) {
    let answer = api.apply(app).unwrap();
    assert!(answer.is_ok(), "{}", String::from_utf8_lossy(&answer.body));
}

/// `appm LINE`: its exit code, and what it said.
fn appm(world: &World, line: &str) -> (i32, String) {
    let output = world.command(&line.split(' ').collect::<Vec<_>>());
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), said.into_owned())
}

#[track_caller]
fn ok(world: &World, line: &str) -> String {
    let (code, said) = appm(world, line);
    assert_eq!(code, 0, "{line}: {said}");
    said
}

fn status(api: &Api) -> Value {
    api.get(&app_path("web")).unwrap().unwrap()["status"].take()
}

/// Waits until no instance but those of the present template is left.
fn only_new(api: &Api) {
    wait_for("the old instances to go", || {
        let revision = status(api)["updateRevision"].clone();
        let left = api.list(INSTANCES).unwrap();
        match left.iter().all(|i| i["spec"]["revision"] == revision) {
            true => Ok(()),
            false => Err(format!("{left:?}")),
        }
    });
}

/// How many instances are there, and how many of them are ready, commit by commit.
type Counts = Arc<Mutex<Vec<(usize, usize)>>>;

/// What is true of the instances after each commit, as a watch tells it: how many are there, and how many are ready.
fn watched(api: &Api, stop: &Arc<AtomicBool>) -> (Counts, thread::JoinHandle<()>) {
    let seen = Counts::default();
    let (events, told, stop) = (api.watch(&format!("{INSTANCES}?watch=true")).unwrap(), seen.clone(), stop.clone());
    let watcher = thread::spawn(move || {
        let mut there: BTreeMap<String, bool> = BTreeMap::new();
        let (mut last, mut first) = (Value::Null, Value::Null);
        for event in events {
            let object = &event["object"];
            if first.is_null() {
                first = object["spec"]["revision"].clone();
            }
            let revision = &object["metadata"]["resourceVersion"];
            // The watch begins with what is there, one by one; the rollout begins with the first new instance.
            if last != *revision && there.keys().any(|name| !name.starts_with(first.as_str().unwrap())) {
                told.lock().unwrap().push((there.len(), there.values().filter(|ready| **ready).count()));
            }
            last = revision.clone();
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            let going = event["type"] == "DELETED" || !object["metadata"]["deletionTimestamp"].is_null();
            let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let ready = conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
            match going {
                true => there.remove(&name),
                false => there.insert(name, ready),
            };
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
    });
    (seen, watcher)
}

#[test]
fn a_rolling_update_stays_within_its_bounds() {
    let mut world = World::new();
    world.start();
    let api = world.api();
    let rolling = json!({"strategy": {"rollingUpdate": {"maxSurge": "30%", "maxUnavailable": "25%"}}});
    apply(&api, &with(steady(&world, 4, "1"), rolling.clone()));
    ok(&world, "rollout status web --timeout 60s");
    let stop = Arc::new(AtomicBool::new(false));
    let (seen, watcher) = watched(&api, &stop);
    apply(&api, &with(steady(&world, 4, "2"), rolling));
    let said = ok(&world, "rollout status web --timeout 60s");
    assert!(said.contains("successfully rolled out"), "{said}");
    only_new(&api);
    stop.store(true, Ordering::Relaxed);
    ok(&world, "annotate instances --all a=b");
    watcher.join().unwrap();
    let seen = seen.lock().unwrap();
    let (most, fewest) = (seen.iter().map(|s| s.0).max().unwrap(), seen.iter().map(|s| s.1).min().unwrap());
    assert!(most == 6, "30 % of 4 are 2 more, and no more than those: {seen:?}");
    assert!(fewest >= 3, "25 % of 4 may be missing: {seen:?}");
    assert_eq!(world.starts().len(), 8, "each instance began once");
}

#[test]
fn a_rollout_is_paused_taken_back_and_told_of() {
    let mut world = World::new();
    world.start();
    let api = world.api();
    let mut first = steady(&world, 2, "1");
    first["metadata"]["annotations"] = json!({"kubernetes.io/change-cause": "the first"});
    apply(&api, &first);
    ok(&world, "rollout status web --timeout 60s");

    ok(&world, "rollout pause web");
    let mut second = steady(&world, 3, "2");
    second["metadata"]["annotations"] = json!({"kubernetes.io/change-cause": "the second"});
    apply(&api, &second);
    wait_for("the App to be scaled", || match status(&api)["readyReplicas"].as_i64() {
        Some(3) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(status(&api)["updatedReplicas"], 0, "the new template waits");
    assert_eq!(appm(&world, "rollout undo web").0, 1, "nothing to take back while it is paused");
    assert_eq!(appm(&world, "restart web").0, 1);
    // On a loaded machine 100 ms may be over before anything was asked.
    wait_for("status to say that it is paused", || match appm(&world, "rollout status web --timeout 100ms") {
        (124, said) if said.contains("it is paused") => Ok(()),
        other => Err(format!("{other:?}")),
    });

    ok(&world, "rollout resume web");
    ok(&world, "rollout status web --timeout 60s");
    let history = ok(&world, "rollout history web");
    let rows: Vec<Vec<&str>> = history.lines().skip(1).map(|l| l.split_whitespace().collect()).collect();
    assert_eq!((rows.len(), rows[0][0], rows[1][0], rows[1][5]), (2, "1", "2", "second"), "{history}");
    assert!(ok(&world, "rollout history web --revision=1").contains("# 1"));

    ok(&world, "rollout undo web --dry-run");
    assert_eq!(api.get(&app_path("web")).unwrap().unwrap()["spec"]["process"], second["spec"]["process"]);
    ok(&world, "rollout undo web --to-revision=1");
    ok(&world, "rollout status web --timeout 60s");
    let app = api.get(&app_path("web")).unwrap().unwrap();
    assert_eq!(app["spec"]["process"], first["spec"]["process"]);
    assert_eq!(app["spec"]["replicas"], 3, "only the template goes back");
    let history = ok(&world, "rollout history web");
    assert!(history.contains("the first") && history.lines().last().unwrap().starts_with('3'), "{history}");
    assert_eq!(appm(&world, "rollout undo web --to-revision=1").0, 3, "it has another number now");
}

#[test]
fn a_rollout_that_does_not_arrive_is_told_of_and_goes_back_if_asked() {
    let mut world = World::new();
    world.start();
    let api = world.api();
    let soon = json!({"progressDeadlineSeconds": 2});
    apply(&api, &with(steady(&world, 2, "1"), soon.clone()));
    ok(&world, "rollout status web --timeout 60s");
    let before: BTreeSet<_> = world.starts().into_iter().collect();

    apply(&api, &with(broken(&world, 2), soon.clone()));
    let (code, said) = appm(&world, "rollout status web --timeout 60s");
    assert_eq!((code, said.contains("exceeded its progress deadline")), (1, true), "{said}");
    assert_eq!(status(&api)["availableReplicas"], 2, "those that serve were not touched");

    // From now on it goes back by itself.
    let back = json!({"progressDeadlineSeconds": 2, "strategy": {"autoRollback": true}});
    apply(&api, &with(broken(&world, 2), back.clone()));
    wait_for("the App to go back", || {
        let app = api.get(&app_path("web")).unwrap().unwrap();
        match app["spec"]["process"] == steady(&world, 2, "1")["spec"]["process"] {
            true => Ok(()),
            false => Err(format!("{}", app["status"])),
        }
    });
    let (code, said) = appm(&world, "rollout status web --timeout 60s");
    assert_eq!((code, said.contains("was rolled back")), (1, true), "{said}");
    only_new(&api);
    assert_eq!(before, world.starts().into_iter().collect(), "what served all the time was not started again");
    wait_for("people to be told", || match ok(&world, "describe app web") {
        said if said.contains("RolledBack") && said.contains("Rolled back to revision") => Ok(()),
        said => Err(said),
    });

    // Whoever applies the failed template again is told of the conflict; whoever insists is not fought.
    let path = format!("{}?fieldManager=proof", app_path("web"));
    let failed = with(broken(&world, 2), back);
    let answer = api.ask("PATCH", &path, "application/apply-patch+yaml", failed.to_string().as_bytes()).unwrap();
    assert_eq!(answer.code, 409);
    apply(&api, &failed);
    wait_for("the App to be held", || match ok(&world, "get app web -o jsonpath={.status.conditions[*].reason}") {
        said if said.contains("RolledBack RolledBack") => Ok(()),
        said => Err(said),
    });
    assert_eq!(status(&api)["readyReplicas"], 2);
    assert_eq!(api.get(&app_path("web")).unwrap().unwrap()["spec"]["process"], failed["spec"]["process"]);

    // Another template is rolled out as ever.
    apply(&api, &with(steady(&world, 2, "2"), soon));
    ok(&world, "rollout status web --timeout 60s");
}

#[test]
fn a_server_that_is_killed_in_the_middle_of_a_rollout_ends_it_afterwards() {
    let mut world = World::new();
    world.start();
    let api = world.api();
    apply(&api, &steady(&world, 4, "1"));
    ok(&world, "rollout status web --timeout 60s");
    for version in ["2", "3"] {
        apply(&api, &steady(&world, 4, version));
        wait_for("the rollout to be on its way", || match status(&api)["updatedReplicas"].as_i64() {
            Some(1..4) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        world.kill_server();
        world.start();
        ok(&world, "rollout status web --timeout 60s");
        only_new(&api);
    }
    // `starts` panics if one began twice.
    assert_eq!(world.starts().len(), 12);
}

/// Answers each connection with its version, a moment after it was asked, and knows nothing of signals.
const WEB: &str = r#"import os, socket, sys, threading, time
server = socket.create_server(("127.0.0.1", int(os.environ["PORT"])), backlog=128)
def serve(peer):
    peer.recv(10)
    time.sleep(0.005)
    peer.sendall(sys.argv[1].encode())
    peer.close()
while True:
    threading.Thread(target=serve, args=(server.accept()[0],)).start()
"#;

/// Asks whoever is ready by the App's status; what was answered.
fn ask(api: &Api, turn: usize) -> Result<String, String> {
    let status = status(api);
    let ready: Vec<&Value> =
        status["endpoints"].as_array().into_iter().flatten().filter(|e| e["ready"] == true).collect();
    let one = ready.get(turn % ready.len().max(1)).ok_or("nobody is ready")?;
    let address = format!("{}:{}", one["address"].as_str().unwrap(), one["ports"][0]["port"]);
    let said = |error: std::io::Error| format!("{address}: {error}");
    let mut stream = TcpStream::connect(&address).map_err(said)?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"hello").map_err(said)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(said)?;
    if answer.is_empty() { Err(format!("{address} said nothing")) } else { Ok(answer) }
}

#[test]
fn whoever_follows_the_endpoints_loses_no_request_while_an_app_is_rolled_and_restarted() {
    let mut world = World::new();
    world.start();
    let api = world.api();
    let web = |version: &str| {
        let process = json!({"command": ["python3", "-c", WEB, version]});
        let probe = json!({"tcpSocket": {"port": "http"}, "periodSeconds": 1});
        let mut app = with(app(&world, "web", 2, ""), json!({"ports": [{"name": "http"}], "readinessProbe": probe}));
        app["spec"]["process"] = process;
        app
    };
    apply(&api, &web("v1"));
    ok(&world, "rollout status web --timeout 60s");
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let lost: Vec<String> = thread::scope(|scope| {
        let client = |first: usize| {
            let (api, stop, asked) = (&api, &stop, &asked);
            move || {
                let mut lost = Vec::new();
                for turn in first.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    lost.extend(ask(api, turn).err());
                    asked.fetch_add(1, Ordering::Relaxed);
                }
                lost
            }
        };
        let clients: Vec<_> = (0..3).map(|n| scope.spawn(client(n))).collect();
        apply(&api, &web("v2"));
        ok(&world, "rollout status web --timeout 60s");
        ok(&world, "rollout restart web");
        ok(&world, "rollout status web --timeout 60s");
        let restarted = |i: &Value| i["status"]["restartedAt"].is_string();
        assert!(api.list(INSTANCES).unwrap().iter().all(restarted), "told when the last one is back");
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    assert_eq!(lost, [""; 0], "of {} requests", asked.load(Ordering::Relaxed));
    assert!(asked.load(Ordering::Relaxed) > 100);
    let answer = wait_for("the new version to answer", || ask(&api, 0));
    assert_eq!(answer, "v2");
}
