//! What other programs are told to run, imported, applied and running.

mod real;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

use crate::harness::{World, wait_for};

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What a tool says that knows the form better than we do; it must be content.
#[track_caller]
fn judged(tool: &mut Command) -> Output {
    let judged = tool.output().unwrap_or_else(|error| panic!("{tool:?}: {error}"));
    assert!(judged.status.success(), "{tool:?}: {}", said(&judged));
    judged
}

/// Whether all that one value says is said by another one too.
fn says(all: &Value, some: &Value) -> Result<(), String> {
    match (all, some) {
        (Value::Object(all), Value::Object(some)) => some.iter().try_for_each(|(name, value)| {
            says(all.get(name).unwrap_or(&Value::Null), value).map_err(|why| format!("{name}.{why}"))
        }),
        (Value::Array(all), Value::Array(some)) if all.len() == some.len() => {
            all.iter().zip(some).try_for_each(|(all, some)| says(all, some))
        }
        (all, some) if all == some => Ok(()),
        (all, some) => Err(format!(" {some} became {all}")),
    }
}

/// The names of the running Apps, when as many instances are ready as they want.
fn ready(world: &World, names: &[&str]) {
    wait_for("the imported Apps to be ready", || {
        let apps = world.command(&["get", "apps", "-o", "json"]);
        let apps: Value = serde_json::from_slice(&apps.stdout).map_err(|e| e.to_string())?;
        let is_ready = |name: &&str| {
            let app = apps["items"].as_array()?.iter().find(|app| app["metadata"]["name"] == **name)?;
            let wanted = app["spec"]["replicas"].as_i64().unwrap_or(1);
            Some(app["status"]["readyReplicas"].as_i64() == Some(wanted))
        };
        let waits: Vec<_> = names.iter().filter(|name| is_ready(name) != Some(true)).collect();
        if waits.is_empty() { Ok(()) } else { Err(format!("{waits:?} of {apps}")) }
    });
}

#[test]
fn what_other_supervisors_run_is_imported_applied_and_running() {
    let mut world = World::new();
    world.start();
    let dir = world.root().join("files");
    fs::create_dir_all(dir.join("units")).unwrap();
    let write = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
    write("Procfile", "procfile-web: echo on $PORT $GREETING && exec sleep 600\nprocfile-worker: sleep 600\n");
    write(".env", "GREETING='two words'\n");
    write(
        "s.conf",
        "[supervisord]\nnodaemon=true\n[program:sup]\ncommand=sleep 60%(process_num)d\nnumprocs=2\nstopsignal=INT\n[include]\nfiles=more/*.conf\n",
    );
    fs::create_dir(dir.join("more")).unwrap();
    write("more/a.conf", "[program:sup-more]\ncommand=/bin/sh -c \"exec sleep 600\"\n");
    write(
        "units/unit-a.service",
        "[Service]\nEnvironment=T=600\nExecStart=/bin/sleep ${T}\nRestart=always\nPrivateTmp=yes\n",
    );
    write(
        "units/unit-b.service",
        "[Unit]\nAfter=unit-a.service\n[Service]\nExecStartPre=/bin/true\nExecStart=/bin/sleep 600\n",
    );
    write("units/tick.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n");
    write("units/tick.timer", "[Timer]\nOnCalendar=daily\n");
    write(
        "pm2.json",
        r#"[{"name": "pm2-app", "script": "sleep", "args": "600", "interpreter": "none", "instances": 2}]"#,
    );
    let path = |name: &str| dir.join(name).display().to_string();
    for (words, file) in [("procfile", "Procfile"), ("supervisor", "s.conf"), ("systemd", "units"), ("pm2", "pm2.json")]
    {
        let done = world.command(&["import", words, &path(file), "--apply"]);
        assert!(done.status.success(), "{words}: {}", said(&done));
    }
    ready(&world, &["procfile-web", "procfile-worker", "sup", "sup-more", "unit-a", "unit-b", "pm2-app"]);
    let schedules = world.command(&["get", "schedules", "-o", "name"]);
    assert_eq!(String::from_utf8_lossy(&schedules.stdout), "schedule.appm.dev/tick\n");
    wait_for("the output", || {
        let logs = world.command(&["logs", "procfile-web"]);
        let text = said(&logs);
        let is_told = text.starts_with("on ") && text.trim_end().ends_with("two words");
        if is_told { Ok(()) } else { Err(text) }
    });
    // The second time changes nothing.
    let again = world.command(&["import", "systemd", &path("units"), "--apply"]);
    assert_eq!(String::from_utf8_lossy(&again.stdout).matches("unchanged").count(), 3, "{}", said(&again));
}

#[test]
fn every_example_is_imported_and_would_be_applied() {
    let mut world = World::new();
    world.start();
    for (words, file) in [
        (&["import", "procfile"][..], "Procfile"),
        (&["import", "supervisor"], "supervisord.conf"),
        (&["import", "systemd"], "systemd"),
        (&["import", "pm2"], "ecosystem.json"),
        (&["import", "compose"], "compose.yaml"),
        (&["import", "kubernetes"], "kubernetes.yaml"),
        (&["import", "crontab"], "crontab"),
    ] {
        let file = Path::new("examples/import").join(file);
        let words: Vec<&str> = words.iter().copied().chain(file.to_str()).collect();
        let made = world.command(&words);
        assert!(made.status.success(), "{words:?}: {}", said(&made));
        let manifest = world.root().join("made.yaml");
        fs::write(&manifest, &made.stdout).unwrap();
        let tried = world.command(&["apply", "-f", manifest.to_str().unwrap(), "--dry-run=server"]);
        assert!(tried.status.success(), "{words:?}: {}", said(&tried));
    }
}

#[test]
fn a_home_of_app_mesh_becomes_apps_roles_and_users() {
    let mut world = World::new();
    world.start();
    let home = world.root().join("home");
    fs::create_dir_all(home.join("apps")).unwrap();
    fs::create_dir_all(home.join("security")).unwrap();
    let write = |name: &str, text: &str| fs::write(home.join(name), text).unwrap();
    write(
        "apps/ping.yaml",
        "name: ping\nowner: mesh\ncommand: sleep 600\npermission: 33\nbehavior: {exit: restart}\nsec_env: {A: v2:abc, B: plain}\n",
    );
    write("apps/hourly.yaml", "name: hourly\ncommand: date\nstart_interval_seconds: 3600\n");
    write(
        "security/security.yaml",
        "EncryptKey: true\nUsers:\n  ada: {email: a@example.org, group: dev, key: $pbkdf2$1, roles: [runner, view]}\nRoles:\n  runner: [app-run-sync]\n  view: [app-view]\n",
    );
    write("config.yaml", "Labels: {arch: x86}\nBaseConfig: {LogLevel: INFO}\n");
    let done = world.command(&["import", "appmesh", home.to_str().unwrap(), "--apply"]);
    assert!(done.status.success(), "{}", said(&done));
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    for word in ["ada.key", "sec_env.A", "Labels.arch", "app-mesh-view", "BaseConfig.LogLevel"] {
        assert!(told.contains(word), "{word} in {told}");
    }
    ready(&world, &["ping"]);
    let user = world.command(&["get", "user", "ada", "-o", "jsonpath={.spec.roles[*].name}"]);
    assert_eq!(String::from_utf8_lossy(&user.stdout).trim(), "runner app-mesh-view");
    let strict = world.command(&["import", "appmesh", home.to_str().unwrap(), "--strict"]);
    assert_eq!((strict.status.code(), strict.stdout.len()), (Some(1), 0));
}

#[test]
fn what_cannot_be_imported_changes_nothing_and_names_its_place() {
    let mut world = World::new();
    world.start();
    let file = world.root().join("Procfile");
    fs::write(&file, "good: sleep 1\nno process\nbad: echo 'x\n").unwrap();
    let done = world.command(&["import", "procfile", file.to_str().unwrap(), "--apply"]);
    assert_eq!(done.status.code(), Some(4));
    let told = said(&done);
    assert!(told.contains("Procfile:2: no process") && told.contains("Procfile:3: `bad`: a ' is not closed"), "{told}");
    let apps = world.command(&["get", "apps", "-o", "name"]);
    assert!(apps.stdout.is_empty(), "{}", said(&apps));
}

#[test]
fn an_import_changes_what_it_brought_and_nothing_of_others_unless_it_is_told_to() {
    let mut world = World::new();
    world.start();
    let file = world.root().join("Procfile");
    let import = |text: &str, more: &[&str]| {
        fs::write(&file, text).unwrap();
        let words = [&["import", "procfile", file.to_str().unwrap(), "--apply"][..], more].concat();
        world.command(&words)
    };
    let command = |app: &str| {
        let shown = world.command(&["get", "app", app, "-o", "jsonpath={.spec.process.command[1]}"]);
        String::from_utf8_lossy(&shown.stdout).trim().to_owned()
    };
    let mine = world.root().join("mine.yaml");
    let manifest = "apiVersion: appm.dev/v1\nkind: App\nmetadata: {name: mine}\nspec: {suspend: true, process: {command: [sleep, '1000']}}\n";
    fs::write(&mine, manifest).unwrap();
    let made = world.command(&["apply", "-f", mine.to_str().unwrap()]);
    assert!(made.status.success(), "{}", said(&made));

    for (text, wanted) in [("bring: sleep 2000\n", "2000"), ("bring: sleep 2001\n", "2001")] {
        let done = import(text, &[]);
        assert!(done.status.success(), "{}", said(&done));
        assert_eq!(command("bring"), wanted);
    }
    let refused = import("bring: sleep 2002\nmine: sleep 2002\n", &[]);
    let told = said(&refused);
    assert_eq!(refused.status.code(), Some(7), "{told}");
    assert!(told.contains("app.appm.dev/mine: nobody imported it") && told.contains("--take-over"), "{told}");
    assert_eq!((command("bring"), command("mine")), ("2001".to_owned(), "1000".to_owned()), "all or none");

    let conf = world.root().join("s.conf");
    fs::write(&conf, "[program:bring]\ncommand=sleep 3000\n").unwrap();
    let other = world.command(&["import", "supervisor", conf.to_str().unwrap(), "--apply"]);
    let told = said(&other);
    assert!(told.contains(&format!("app.appm.dev/bring: it was imported from procfile {}", file.display())), "{told}");

    let taken = import("bring: sleep 2002\nmine: sleep 2002\n", &["--take-over"]);
    assert!(taken.status.success(), "{}", said(&taken));
    assert_eq!((command("bring"), command("mine")), ("2002".to_owned(), "2002".to_owned()));
}

#[test]
fn of_what_nothing_can_be_made_is_no_success_and_what_is_too_large_is_not_sent() {
    let world = World::new();
    let socket = world.root().join("x.socket");
    fs::write(&socket, "[Socket]\nListenStream=80\n").unwrap();
    let done = world.command(&["import", "systemd", socket.to_str().unwrap()]);
    let told = said(&done);
    assert_eq!(done.status.code(), Some(4), "{told}");
    assert!(told.contains("nothing in it can be imported"), "{told}");

    // Who knows Kubernetes learns where its kinds go.
    let other = world.root().join("other.yaml");
    fs::write(&other, "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n").unwrap();
    let told = said(&world.command(&["apply", "-f", other.to_str().unwrap()]));
    assert!(told.contains("there is no kind `Deployment`") && told.contains("appm import kubernetes"), "{told}");

    // There is no server that could be asked.
    let large = world.root().join("large.yaml");
    let text = "x".repeat(33 << 20);
    let manifest = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: large}}\ndata: {{a: '{text}'}}\n");
    fs::write(&large, manifest).unwrap();
    let done = world.command(&["apply", "-f", large.to_str().unwrap()]);
    let told = said(&done);
    assert_eq!(done.status.code(), Some(4), "{told}");
    assert!(told.contains("large.yaml: 34 MiB") && told.contains("32 MiB are taken at once"), "{told}");
}

#[test]
fn what_is_exported_is_taken_by_systemd_itself_and_means_the_same_when_it_is_imported_again() {
    let world = World::new();
    let (units, first) = (world.root().join("units"), world.root().join("first.yaml"));
    let imported = world.command(&["import", "systemd", "examples/import/systemd"]);
    fs::write(&first, &imported.stdout).unwrap();
    let done = world.command(&["export", "systemd", "-f", first.to_str().unwrap(), "--dir", units.to_str().unwrap()]);
    assert!(done.status.success(), "{}", said(&done));
    let files: Vec<_> = fs::read_dir(&units).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 3, "{files:?}");
    let judged = judged(Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&files));
    assert!(judged.stderr.is_empty(), "{}", said(&judged));
    let specs = |yaml: &[u8]| -> Vec<String> {
        let text = String::from_utf8_lossy(yaml).into_owned();
        text.split("---\n").map(|document| document.split_once("spec:").unwrap().1.to_owned()).collect()
    };
    let again = world.command(&["import", "systemd", units.to_str().unwrap()]);
    let (mut before, mut after) = (specs(&imported.stdout), specs(&again.stdout));
    before.sort();
    after.sort();
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(&after) {
        let mut lines: Vec<&str> = before.lines().collect();
        lines.retain(|line| !after.lines().any(|other| other == *line));
        assert_eq!(lines, Vec::<&str>::new(), "{before}\n{after}");
    }
    let strict = world.command(&["export", "procfile", "-f", first.to_str().unwrap(), "--strict"]);
    assert_eq!(strict.status.code(), Some(1), "{}", said(&strict));
}

#[test]
fn containers_are_taken_by_compose_and_by_kubectl_as_they_are_meant() {
    let world = World::new();
    let export = |form: &str| {
        let dir = world.root().join(form);
        let words = ["export", form, "-f", "manifests/app-container.yaml", "--dir", dir.to_str().unwrap()];
        let done = world.command(&words);
        assert!(done.status.success(), "{}", said(&done));
        dir
    };
    let yaml = |text: &str| serde_saphyr::from_str::<Value>(text).expect("YAML");

    let file = export("compose").join("compose.yaml");
    let read = judged(Command::new("docker-compose").arg("-f").arg(&file).arg("config"));
    let cache = yaml(&String::from_utf8_lossy(&read.stdout))["services"]["cache"].clone();
    assert_eq!(
        (&cache["image"], &cache["pids_limit"], &cache["user"]),
        (&"redis:7".into(), &100.into(), &"999:999".into())
    );

    // Where kubectl changes a file by itself, it reads it by its own types: what it does not know is gone then.
    let text = fs::read_to_string(export("kubernetes").join("app-cache.yaml")).unwrap();
    let workload = text.split("---\n").find(|document| document.contains("kind: Deployment")).unwrap();
    let alone = world.root().join("deployment.yaml");
    fs::write(&alone, workload).unwrap();
    let read =
        judged(Command::new("kubectl").args(["set", "env", "--local", "-o", "json", "KEPT=1", "-f"]).arg(&alone));
    let read: Value = serde_json::from_slice(&read.stdout).expect("JSON");
    assert_eq!(says(&read, &yaml(workload)), Ok(()));
}
