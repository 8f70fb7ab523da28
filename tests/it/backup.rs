//! A backup is of one moment and can be put back anywhere; a restore happens whole or not at all, wherever it is killed; an
//! export applies elsewhere; whatever is damaged is found.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use serde_json::{Value, json};

use crate::harness::{World, app, app_path, wait_for};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn config_map(world: &World, name: &str, value: &str) {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": value}});
    let answer = world.api().ask("POST", CONFIG_MAPS, "application/json", object.to_string().as_bytes()).unwrap();
    assert_eq!(answer.code, 201);
}

fn secret(world: &World) {
    let object =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "geheim"}});
    let path = "/api/v1/namespaces/default/secrets";
    assert_eq!(world.api().ask("POST", path, "application/json", object.to_string().as_bytes()).unwrap().code, 201);
}

fn done(output: &Output) -> String {
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    said
}

fn refused(output: &Output, code: i32, with: &str) {
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(with), "{said}");
}

fn backup(world: &World, more: &[&str]) -> PathBuf {
    let file = world.root().join("backup.tar");
    done(&world.command(&[&["backup", file.to_str().unwrap()], more].concat()));
    file
}

fn restore(world: &World, file: &Path, more: &[&str]) -> Output {
    world.command(&[&["restore", file.to_str().unwrap()], more].concat())
}

#[test]
fn a_backup_made_while_others_write_is_of_one_moment_and_stands_again_elsewhere() {
    let mut world = World::new();
    world.start();
    secret(&world);
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writer = {
        let (stop, written, api) = (stop.clone(), written.clone(), world.api());
        thread::spawn(move || {
            // Each change is of two objects that say the same: a backup never has one of them without the other.
            for round in 1_u64.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let apply = |name: &str| {
                    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"},
                        "data": {"round": round.to_string()}});
                    json!({"verb": "Apply", "object": object})
                };
                let body = json!({"operations": [apply("left"), apply("right")]});
                let path = "/apis/appm.dev/v1/transactions?fieldManager=test";
                let answer = api.ask("POST", path, "application/json", body.to_string().as_bytes()).unwrap();
                assert!(answer.is_ok(), "{}", answer.json());
                written.store(round, Ordering::SeqCst);
            }
        })
    };
    wait_for("some changes", || match written.load(Ordering::SeqCst) {
        few @ 0..20 => Err(few.to_string()),
        _ => Ok(()),
    });
    let before = written.load(Ordering::SeqCst);
    let revision = world.api().get(CONFIG_MAPS).unwrap().unwrap()["metadata"]["resourceVersion"].clone();
    let file = backup(&world, &[]);
    let after = written.load(Ordering::SeqCst) + 1;
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();

    let looked = done(&world.command(&["restore", "--dry-run", file.to_str().unwrap()]));
    assert!(looked.contains("whole") && looked.contains("2 configmaps") && looked.contains("with keys"), "{looked}");
    let listed = Command::new("tar").arg("tf").arg(&file).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.starts_with("backup.json\nappm.db\naudit/") && listed.ends_with("SHA256SUMS\n"), "{listed}");

    let mut other = World::new();
    done(&restore(&other, &file, &[]));
    other.start();
    let round = |name: &str| -> u64 {
        let object = other.api().get(&format!("{CONFIG_MAPS}/{name}")).unwrap().unwrap();
        object["data"]["round"].as_str().unwrap().parse().unwrap()
    };
    assert_eq!(round("left"), round("right"));
    assert!((before..=after).contains(&round("left")), "{before} <= {} <= {after}", round("left"));
    let secret = other.api().get("/api/v1/namespaces/default/secrets/s").unwrap().unwrap();
    assert_eq!(secret["data"]["a"], "Z2VoZWlt");
    assert!(done(&other.command(&["audit", "verify"])).contains("whole"));
    // What was seen before cannot be resumed from, and no revision is handed out twice.
    let watched = format!("{CONFIG_MAPS}?watch=true&resourceVersion={}", revision.as_str().unwrap());
    let first = other.api().watch(&watched).unwrap().next().unwrap();
    assert_eq!((&first["type"], &first["object"]["code"]), (&json!("ERROR"), &json!(410)), "{first}");
    config_map(&other, "new", "x");
    let new = other.api().get(&format!("{CONFIG_MAPS}/new")).unwrap().unwrap();
    let new: u64 = new["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    assert!(new > 1_000_000_000, "{new}");
}

#[test]
fn what_runs_goes_on_through_a_restore_and_what_the_backup_does_not_know_ends() {
    let mut world = World::new();
    world.start();
    assert!(world.api().apply(&app(&world, "kept", 1, "sleep 1000")).unwrap().is_ok());
    let pid_of = |world: &World, name: &str| {
        wait_for("the process", || {
            let list = world.api().list("/apis/appm.dev/v1/namespaces/default/instances").unwrap();
            let of = |i: &&Value| i["metadata"]["labels"]["appm.dev/app"] == name;
            list.iter()
                .find(of)
                .and_then(|i| i["status"]["state"]["running"]["pid"].as_u64())
                .ok_or_else(|| format!("{list:?}"))
        })
    };
    let pid = pid_of(&world, "kept");
    let file = backup(&world, &[]);
    assert!(world.api().apply(&app(&world, "later", 1, "sleep 2000")).unwrap().is_ok());
    let later = pid_of(&world, "later");

    refused(&restore(&world, &file, &[]), 1, "in use by process");
    world.terminate_server();
    refused(&restore(&world, &file, &[]), 7, "--force");
    let said = done(&restore(&world, &file, &["--force"]));
    assert!(said.contains("before-restore-"), "{said}");
    world.start();
    assert_eq!(pid_of(&world, "kept"), pid);
    assert!(world.api().get(&app_path("later")).unwrap().is_none());
    wait_for("the end of what nobody knows", || match Path::new(&format!("/proc/{later}")).exists() {
        true => Err(later.to_string()),
        false => Ok(()),
    });
    let audit = done(&world.command(&["audit", "--object", "later"]));
    assert!(audit.contains("apps/later"), "what was done is in the log, also what the store does not know: {audit}");
}

#[test]
fn without_its_key_a_backup_is_not_restored_and_with_it_it_is() {
    let mut world = World::new();
    world.start();
    secret(&world);
    let file = backup(&world, &["--no-keys"]);
    let other = World::new();
    refused(&restore(&other, &file, &[]), 4, "--seal-key-file");
    assert!(!other.data().join("appm.db").exists() && !other.data().join("restore.part").exists());
    let key = world.data().join("keys/seal.key");
    done(&restore(&other, &file, &["--seal-key-file", key.to_str().unwrap()]));
    assert!(other.data().join("appm.db").exists());

    let whole = fs::read(&file).unwrap();
    let part = world.root().join("part.tar");
    fs::write(&part, &whole[..whole.len() / 2]).unwrap();
    refused(&restore(&World::new(), &part, &[]), 4, "cut off");
    fs::write(&part, b"something else").unwrap();
    refused(&restore(&World::new(), &part, &[]), 4, "no backup");
}

#[test]
fn a_backup_can_be_made_without_a_server_and_by_whoever_may() {
    let mut world = World::new();
    world.start();
    config_map(&world, "here", "x");
    let user = json!({"apiVersion": "appm.dev/v1", "kind": "User", "metadata": {"name": "ann"}, "spec": {"roles": [{"name": "edit"}]}});
    let path = "/apis/appm.dev/v1/users";
    assert!(world.api().ask("POST", path, "application/json", user.to_string().as_bytes()).unwrap().is_ok());
    let file = world.root().join("b.tar");
    refused(&world.command(&["--as", "ann", "backup", file.to_str().unwrap()]), 6, "/backup");
    assert!(!file.exists());
    done(&world.command(&["backup", file.to_str().unwrap()]));
    let audit = done(&world.command(&["audit", "-o", "json", "--tail", "0"]));
    let reads = audit.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let reads: Vec<_> =
        reads.filter(|record| record["path"] == "/backup").map(|record| record["code"].clone()).collect();
    assert_eq!(reads, [json!(403), json!(200)]);

    world.terminate_server();
    let said = done(&world.command(&["backup", file.to_str().unwrap()]));
    assert!(said.contains("objects at revision"), "{said}");
    let mut other = World::new();
    done(&restore(&other, &file, &[]));
    other.start();
    assert!(other.api().get(&format!("{CONFIG_MAPS}/here")).unwrap().is_some());
}

#[test]
fn a_restore_that_is_killed_anywhere_has_happened_or_not() {
    let mut world = World::new();
    world.start();
    config_map(&world, "old", "x");
    let old = backup(&world, &[]);
    let old = fs::rename(&old, world.root().join("old.tar")).map(|()| world.root().join("old.tar")).unwrap();
    world.api().ask("DELETE", &format!("{CONFIG_MAPS}/old"), "", b"").unwrap();
    config_map(&world, "new", "x");
    let new = backup(&world, &[]);
    world.terminate_server();
    let begun = Instant::now();
    done(&restore(&world, &old, &["--force"]));
    let whole = begun.elapsed();

    const ROUNDS: u32 = 8;
    let (mut happened, mut there) = (0, "old");
    for round in 0..ROUNDS {
        let (file, then) = if there == "old" { (&new, "new") } else { (&old, "old") };
        let mut child = Command::new(env!("CARGO_BIN_EXE_appm"))
            .arg("--data-dir")
            .arg(world.data())
            .args(["restore", "--force", file.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(whole * (round + 1) / ROUNDS);
        let _ = child.kill();
        child.wait().unwrap();
        world.start();
        let list = world.api().list(CONFIG_MAPS).unwrap();
        let names: Vec<&str> = list.iter().filter_map(|c| c["metadata"]["name"].as_str()).collect();
        assert!(names == [there] || names == [then], "round {round}: {names:?}");
        if names == [then] {
            happened += 1;
            there = then;
        }
        assert!(!world.data().join("restore.ready").exists() && !world.data().join("restore.part").exists());
        let said = done(&world.command(&["doctor", "--deep"]));
        assert!(said.contains("stored objects:"), "{said}");
        world.terminate_server();
    }
    eprintln!("{happened} of {ROUNDS} restores had happened when they were killed");
}

#[test]
fn an_export_applies_elsewhere_and_comes_out_the_same() {
    let mut world = World::new();
    world.start();
    for manifests in ["manifests/quickstart", "manifests/team.yaml", "manifests/secret.yaml", "manifests/schedule.yaml"]
    {
        done(&world.command(&["apply", "-f", manifests]));
    }
    let dir = world.root().join("out");
    let said = done(&world.command(&["export", "all", "--secrets", "--dir", dir.to_str().unwrap()]));
    assert!(said.contains("objects in"), "{said}");
    let text = done(&world.command(&["export", "all"]));
    assert!(text.contains("Secrets left out") || text.contains("Secret left out"), "{text}");
    for word in ["uid:", "resourceVersion", "managedFields", "creationTimestamp", "status:", "appm.dev/owner"] {
        assert!(!text.contains(word), "`{word}` in {text}");
    }

    let mut other = World::new();
    other.start();
    done(&other.command(&["apply", "-R", "-f", dir.to_str().unwrap()]));
    let again = other.root().join("out");
    done(&other.command(&["export", "all", "--secrets", "--dir", again.to_str().unwrap()]));
    let differ = Command::new("diff").arg("-r").arg(&dir).arg(&again).output().unwrap();
    assert!(differ.status.success(), "{}", String::from_utf8_lossy(&differ.stdout));
    refused(&world.command(&["export", "instances"]), 2, "made by appm itself");
    refused(&world.command(&["export", "app", "absent"]), 3, "absent");
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_and_named() {
    use sqlx::Connection;
    let mut world = World::new();
    world.start();
    config_map(&world, "spoilt", "x");
    secret(&world);
    let said = done(&world.command(&["doctor", "--deep"]));
    assert!(said.contains("read, and") && said.contains("whole"), "{said}");
    world.terminate_server();
    let file = format!("sqlite://{}", world.data().join("appm.db").display());
    let mut database = sqlx::SqliteConnection::connect(&file).await.unwrap();
    for change in [
        "UPDATE object SET body = CAST('{\"kind\":' AS BLOB) WHERE kind = 'configmaps'",
        "UPDATE object SET body = zeroblob(64) WHERE kind = 'secrets'",
    ] {
        sqlx::query(change).execute(&mut database).await.unwrap();
    }
    database.close().await.unwrap();
    let log = fs::read_dir(world.data().join("audit")).unwrap().next().unwrap().unwrap().path();
    let text = fs::read_to_string(&log).unwrap().replacen("\"spoilt\"", "\"another\"", 1);
    fs::write(&log, text).unwrap();
    let output = world.command(&["doctor", "--deep"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("configmaps") && said.contains("default/spoilt"), "{said}");
    assert!(said.contains("secrets") && said.contains("default/s"), "{said}");
    assert!(said.contains("audit log: 000000000001.jsonl:"), "{said}");
}
