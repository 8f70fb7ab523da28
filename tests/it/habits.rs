//! What App Mesh's people type does here what it does there.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::harness::{World, wait_for};

/// What a command said, and its exit code.
struct Said {
    out: String,
    err: String,
    code: Option<i32>,
}

impl Said {
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self.out
    }

    #[track_caller]
    fn json(self) -> Value {
        serde_json::from_str(&self.ok()).expect("JSON")
    }

    #[track_caller]
    fn fails(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        self.err
    }
}

/// `appm ARGS` in the project's directory, with a text on stdin.
fn fed(world: &World, args: &[&str], stdin: &str) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_appm"));
    command.arg("--data-dir").arg(world.data()).args(args).current_dir(env!("CARGO_MANIFEST_DIR"));
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command");
    // A command that reads nothing may be over before it was sent.
    let _ = child.stdin.take().expect("a pipe").write_all(stdin.as_bytes());
    let done = child.wait_with_output().expect("its end");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Said { out: text(done.stdout), err: text(done.stderr), code: done.status.code() }
}

/// `appm LINE`, split at blanks.
fn appm(world: &World, line: &str) -> Said {
    fed(world, &line.split(' ').collect::<Vec<_>>(), "")
}

fn world() -> World {
    let mut world = World::new();
    world.start();
    world
}

#[test]
fn app_mesh_s_options_declare_what_its_clients_would() {
    let world = world();
    let options = ["-i", "3600", "-z", "TOKEN=quite-secret", "-Q", "standby", "-d", "the time"];
    let made = fed(&world, &[&["add", "-a", "tick", "-c", "date | cat"][..], &options].concat(), "").ok();
    assert!(made.contains("start_interval_seconds: \"3600\"") && !made.contains("quite-secret"), "{made}");
    let schedule = || appm(&world, "get schedule tick -o json").json();
    assert_eq!(schedule()["metadata"]["annotations"]["kubernetes.io/description"], "the time");
    assert!(appm(&world, "get secret tick-sec-env").ok().contains("tick-sec-env"));
    // What runs by time is a line of `ls`, and so is what has not run yet: this one waits for a leap year.
    fed(&world, &["add", "-a", "seldom", "-Y", "0 0 0 29 2 *", "-c", "date | cat"], "").ok();
    let listed = appm(&world, "ls -a seldom -j").json();
    assert_eq!(
        (&listed[0]["kind"], &listed[0]["command"], &listed[0]["pid"]),
        (&json!("Schedule"), &json!("\"date | cat\""), &Value::Null)
    );
    assert!(appm(&world, "ls -a seldom -f").fails(1).contains("nothing yet"));
    appm(&world, "ls -a nobody").fails(3);
    appm(&world, "disable -a tick").ok();
    assert_eq!(schedule()["spec"]["suspend"], true);
    appm(&world, "enable -a tick").ok();
    assert_ne!(schedule()["spec"]["suspend"], true);

    let whole = r#"{"name": "other", "command": "sleep 100", "env": {"A": "b"}}"#;
    fed(&world, &["reg", "-a", "web", "-D", "std", "-R", "5"], whole).ok();
    let spec = appm(&world, "get app web -o json").json()["spec"].clone();
    assert_eq!(
        (&spec["process"]["command"], &spec["terminationGracePeriodSeconds"]),
        (&json!(["sleep", "100"]), &json!(5))
    );

    assert!(appm(&world, "add -a x -i soon -- true").fails(4).contains("soon"));
    appm(&world, "add -a x -i 5 --replicas 2 -- true").fails(2);
    appm(&world, "add -a x -i 5 -n other -- true").fails(2);
    let said = appm(&world, "unreg -a tick -a web -a nobody");
    assert!(said.err.contains("no application nobody"), "{}", said.err);
    assert_eq!(said.ok(), "application tick removed\napplication web removed\n");
}

#[test]
fn what_is_listed_can_be_looked_into() {
    let world = world();
    fed(&world, &["add", "-a", "web", "-c", "echo start; sleep 100 & wait"], "").ok();
    wait_for("its processes", || {
        let tree = appm(&world, "ls -a web -P").ok();
        if tree.contains("└─ sleep") { Ok(()) } else { Err(tree) }
    });
    wait_for("its output", || {
        let said = appm(&world, "ls -a web -o").ok();
        if said == "start\n" { Ok(()) } else { Err(said) }
    });
    let missing = appm(&world, "ls -a web -o -i 1").fails(3);
    assert!(missing.contains("nothing is kept"), "{missing}");
    appm(&world, "restart web").ok();
    wait_for("what it printed before", || {
        let said = appm(&world, "ls -a web -o -i 1");
        if said.code == Some(0) && said.out == "start\n" { Ok(()) } else { Err(said.err) }
    });
    // Alone it cuts nothing, with a value it chooses.
    assert!(appm(&world, "ls -l").ok().contains("web"));
    assert!(!appm(&world, "ls -l tier=front").ok().contains("web"));
    appm(&world, "ls -a web -i 1").fails(2);
}

#[test]
fn an_application_is_found_by_the_name_that_app_mesh_gives_it() {
    let world = world();
    fed(&world, &["add", "-a", "My_App", "-c", "sleep 100", "-d", "as there"], "").ok();
    assert!(appm(&world, "ls -a My_App").ok().contains("sleep 100"));
    assert!(appm(&world, "restart My_App").ok().contains("restarted"));
    assert!(appm(&world, "stop My_App").ok().contains("stopped"));
    let missing = appm(&world, "ls -a No_App").fails(3);
    assert!(missing.contains("there is no app `No_App`"), "{missing}");
}

#[test]
fn what_app_mesh_says_of_a_run_is_said_of_ours() {
    let world = world();
    fed(&world, &["add", "-a", "web", "-c", "echo of the app"], "").ok();
    assert_eq!(appm(&world, "run -a web").ok(), "of the app\n");
    assert_eq!(appm(&world, "run -a job -c cat -m words").ok(), "words");
    assert!(appm(&world, "get run job -o name").ok().contains("/job"));
    assert!(appm(&world, "run -c sleep=100 -T 0").fails(2).contains("--lifetime"));
    fed(&world, &["run", "-c", "sleep 100", "-T", "1"], "").fails(124);
    // A command that is taken for an App's name, and an App's name that is mistyped.
    let command = appm(&world, "run ls").fails(4);
    assert!(command.contains("there is no app `ls`") && command.contains("appm run -c 'ls'"), "{command}");
    let mistyped = appm(&world, "run wbe").fails(4);
    assert!(mistyped.contains("did you mean `web`?"), "{mistyped}");
}

#[test]
fn the_machine_has_labels_settings_and_files() {
    let world = world();
    let labels = appm(&world, "label -a -l zone=west -l tier=one").ok();
    assert!(labels.contains("tier=one\n") && labels.contains("zone=west\n"), "{labels}");
    assert!(!appm(&world, "label -d -l zone").ok().contains("zone"));
    assert!(appm(&world, "label --view").ok().contains("tier=one\n"));
    appm(&world, "label -a").fails(2);
    assert!(appm(&world, "config").json()["BaseConfig"].is_object());
    assert!(appm(&world, "resource").json()["host_name"].as_str().is_some_and(|name| !name.is_empty()));

    let at = |name: &str| world.root().join(name).display().to_string();
    let (sent, fetched) = (at("sent"), at("fetched"));
    let bytes: Vec<u8> = (0..700_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(&sent, &bytes).expect("a file");
    fed(&world, &["file", "put", "-l", &sent, "-r", "name with blanks"], "").ok();
    fed(&world, &["file", "get", "name with blanks", "-l", &fetched], "").ok();
    assert!(fs::read(&fetched).expect("the file") == bytes, "it is another file");
    fed(&world, &["file", "get", "name with blanks", "-l", &fetched], "").fails(7);
    fed(&world, &["file", "put", &sent, "-r", "../above"], "").fails(6);
    let nowhere = fed(&world, &["file", "put", &sent, "-r", "2026/report"], "").fails(3);
    assert!(nowhere.contains("there is no directory `2026`"), "{nowhere}");
}

#[test]
fn commands_run_in_this_directory_and_are_forgotten() {
    let world = world();
    assert_eq!(appm(&world, "exec pwd").ok().trim(), env!("CARGO_MANIFEST_DIR"));
    let said = fed(&world, &["exec", "-e", "A=b", "echo $A; exit 7"], "");
    assert_eq!((said.out.as_str(), said.code), ("b\n", Some(7)), "{}", said.err);
    assert!(appm(&world, "exec web -- sh").fails(2).contains("appm run web"));
    let said = fed(&world, &["shell"], "cd /usr\npwd\nfalse\ncd nowhere\nsh -c 'exit 5'\n");
    assert_eq!((said.out.as_str(), said.code), ("/usr\n", Some(5)), "{}", said.err);
    assert!(said.err.contains("nowhere"), "{}", said.err);
    assert_eq!(appm(&world, "get runs -o json").json()["items"], json!([]), "a Run stays");
}
