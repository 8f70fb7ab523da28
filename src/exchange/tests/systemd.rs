//! Units of systemd.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{assert_valid, files, made, refusals, with_fate};
use crate::exchange::{
    files::Files,
    import::systemd,
    report::{Fate, Outcome},
};

fn read(units: &[&str], all: &Files) -> Outcome<Value> {
    let units: Vec<PathBuf> = units.iter().map(PathBuf::from).collect();
    systemd::read(&units, &["/etc/systemd/system".into(), "/usr/lib/systemd/system".into()], all)
}

const WEB: &str = "\
[Unit]
Description=The shop
After=network.target db.service
Requires=db.service
StartLimitBurst=5

[Service]
Type=notify
# A comment
Environment=A=1 \"B=two words\"
Environment=OPTS='--fast --loud'
EnvironmentFile=-/etc/default/web
ExecStartPre=-/usr/bin/warm up
ExecStart=/usr/bin/web --conf ${A} \\
    ; not a command
    $OPTS %p 100%% $$HOME
ExecStop=/usr/bin/web stop
Restart=on-failure
RestartSec=2s
SuccessExitStatus=143 SIGUSR1
User=www
UMask=0027
LimitNOFILE=1024:65536
MemoryMax=512M
CPUQuota=150%
WatchdogSec=30
PrivateTmp=yes
TimeoutStopSec=1min 30s
[Install]
WantedBy=multi-user.target
";

#[test]
fn a_service_with_its_drop_ins_becomes_an_app() {
    let all = files(&[
        ("/usr/lib/systemd/system/web.service", WEB),
        ("/usr/lib/systemd/system/db.service", "[Service]\nExecStart=/usr/bin/db\n"),
        ("/etc/systemd/system/web.service.d/10-more.conf", "[Service]\nUser=other\nExecStop=\n"),
        ("/etc/default/web", "C=3\n"),
    ]);
    let report = read(&["web.service", "db"], &all).expect("good");
    assert_valid(&report);
    let web = made(&report, "web");
    assert_eq!(web["metadata"]["annotations"], json!({"kubernetes.io/description": "The shop"}));
    assert_eq!(
        web["spec"],
        json!({
            "env": [
                {"name": "A", "value": "1"}, {"name": "B", "value": "two words"},
                {"name": "OPTS", "value": "--fast --loud"}, {"name": "C", "value": "3"},
            ],
            "process": {
                "command": [
                    "/bin/sh", "-e", "-c",
                    "/usr/bin/warm up || true\nexec /usr/bin/web --conf \"${A}\" --fast --loud web '100%' '$HOME'",
                ],
                "user": "other", "umask": "027", "rlimits": {"nofile": "1024:65536"},
            },
            "restartPolicy": "OnFailure",
            "restart": {
                "maxRestarts": 5, "backoff": {"initial": "2s", "max": "2s"},
                "exitCodes": {"143": "Stop", "SIGUSR1": "Stop"},
            },
            "readinessProbe": {"notify": {}},
            "resources": {"limits": {"memory": "512Mi", "cpu": "1500m"}},
            "livenessProbe": {"notify": {"watchdog": "30s"}},
            "terminationGracePeriodSeconds": 90,
            "dependsOn": [{"app": "db", "condition": "Started"}],
        })
    );
    assert_eq!(made(&report, "db")["spec"], json!({"process": {"command": ["/usr/bin/db"]}, "restartPolicy": "Never"}));
    assert_eq!(with_fate(&report, Fate::Dropped), ["/usr/lib/systemd/system/web.service:27 PrivateTmp"]);
}

#[test]
fn a_timer_becomes_a_schedule_of_what_its_service_runs() {
    let all = files(&[
        (
            "/u/backup.service",
            "[Service]\nType=oneshot\nExecStart=/usr/bin/dump all\nExecStart=/usr/bin/sync-away\nNice=10\n",
        ),
        (
            "/u/backup.timer",
            "[Timer]\nOnCalendar=Mon..Fri 02:30\nPersistent=true\nRandomizedDelaySec=5m\n[Install]\nWantedBy=timers.target\n",
        ),
        ("/u/poll.service", "[Service]\nExecStart=/usr/bin/poll\n"),
        ("/u/poll.timer", "[Timer]\nOnBootSec=1min\nOnUnitActiveSec=15min\n"),
        ("/u/web.socket", "[Socket]\nListenStream=80\n"),
    ]);
    let report = read(&["/u"], &all).expect("good");
    assert_valid(&report);
    assert_eq!(
        made(&report, "backup")["spec"],
        json!({
            "cron": "30 2 * * 1-5", "concurrencyPolicy": "Forbid", "jitter": "5m",
            "run": {"process": {"command": ["/bin/sh", "-e", "-c", "/usr/bin/dump all\n/usr/bin/sync-away"], "nice": 10}},
        })
    );
    let poll = &made(&report, "poll")["spec"];
    assert_eq!((&poll["every"], &poll["startingDeadlineSeconds"]), (&json!({"interval": "15m"}), &json!(60)));
    assert_eq!(report.parts.len(), 2);
    assert!(with_fate(&report, Fate::Dropped).contains(&"/u/web.socket web.socket".to_owned()));
}

#[test]
fn instances_of_templates_know_their_name() {
    let all = files(&[
        ("/u/w@.service", "[Service]\nExecStart=/usr/bin/w --queue %i --path %f\nUser=%p\n"),
        ("/u/w@.service.d/x.conf", "[Service]\nNice=5\n"),
        ("/u/multi-user.target.wants/w@mail-out.service", ""),
        ("/u/other@.service", "[Service]\nExecStart=/bin/true\n"),
    ]);
    for units in [&["/u"][..], &["/u/w@mail-out.service"]] {
        let report = read(units, &all).expect("good");
        let spec = &made(&report, "w-mail-out")["spec"];
        assert_eq!(spec["process"]["command"], json!(["/usr/bin/w", "--queue", "mail-out", "--path", "/mail/out"]));
        assert_eq!((&spec["process"]["user"], &spec["process"]["nice"]), (&json!("w"), &json!(5)));
    }
}

#[test]
fn what_cannot_run_is_told_with_its_line() {
    let all = files(&[
        ("/u/a.service", "[Service]\nExecStart=\"/bin/x\nUser=a\n"),
        ("/u/b.service", "[Service]\nUser=b\n"),
        ("/u/c.service", "[Service]\nExecStart=/bin/c %H\nTimeoutStopSec=soon\n"),
        ("/u/d.timer", "[Timer]\nOnCalendar=2027-01-01\n"),
        ("/u/e.service", "what is this\n"),
    ]);
    let mut told = refusals(read(&["/u", "nope"], &all));
    told.sort();
    assert_eq!(
        told,
        [
            "/u/a.service:2: ExecStart: a \" is not closed",
            "/u/c.service:2: ExecStart: `%H` is known when the unit runs only; write what it stands for, or `%%` for a percent sign",
            "/u/c.service:3: TimeoutStopSec: `soon` is no time span",
            "/u/d.timer: it starts `d.service`, which is not among the units and lies beside none of them: name its file, too",
            "/u/e.service:1: `what is this` is no entry: `key=value` is one",
            "nope: there is no such unit; looked for nope.service, /etc/systemd/system/nope.service, /usr/lib/systemd/system/nope.service",
        ]
    );
}

#[test]
fn a_service_that_runs_nothing_because_a_setting_is_misspelt_says_so() {
    let all = files(&[("/etc/systemd/system/odd.service", "[Service]\nExecStrat=/bin/true\nX-Ours=1\nNice=5\n")]);
    let report = read(&["odd"], &all).expect("nothing in it is wrong by itself");
    let notes: Vec<_> = report.notes.iter().map(|note| (note.setting.as_str(), note.remark.as_str())).collect();
    assert_eq!(
        notes,
        [
            ("odd.service", "it has no `ExecStart`: there is nothing to run"),
            ("ExecStrat", "no setting of systemd's that is known; did you mean `ExecStart`?"),
        ]
    );
}

#[test]
fn what_a_timer_starts_comes_with_it_and_what_is_set_nowhere_leaves_nothing() {
    let all = files(&[
        ("/u/d.timer", "[Timer]\nOnCalendar=daily\n"),
        ("/u/d.service", "[Service]\nType=oneshot\nExecStart=/bin/x $EXTRA --a=${NO} $HOME -f\n"),
    ]);
    for named in ["/u/d.timer", "d.timer"] {
        let report = systemd::read(&[named.into()], &["/u".into()], &all).expect("good");
        assert_eq!(report.parts.len(), 1);
        assert_eq!(made(&report, "d")["spec"]["run"]["process"]["command"], json!(["/bin/x", "--a=", "$(HOME)", "-f"]));
        let told: Vec<String> = report.all().map(ToString::to_string).collect();
        assert!(told.iter().any(|note| note.contains("`$EXTRA` is set nowhere in the unit")), "{told:?}");
        assert!(told.iter().any(|note| note.contains("`$(HOME)` is set by systemd and not here")), "{told:?}");
    }
}
