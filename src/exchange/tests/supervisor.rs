//! Supervisor's configuration.

use std::path::Path;

use serde_json::json;

use super::{assert_valid, files, made, refusals, with_fate};
use crate::exchange::{import::supervisor, report::Fate};

#[test]
fn programs_groups_and_includes_become_apps() {
    let all = files(&[
        (
            "/etc/supervisord.conf",
            "[supervisord]\nlogfile=/var/log/s.log ; a comment\nenvironment=LANG=\"C.UTF-8\"\n\
             [include]\nfiles = conf.d/*.conf\n[group:shop]\nprograms=web,worker\n",
        ),
        (
            "/etc/conf.d/web.conf",
            "[program:web]\ncommand=/srv/bin/web --port 80%(process_num)02d 'two words' $(x)\nprocess_name=%(program_name)s_%(process_num)02d\n\
             numprocs=2\nautorestart=true\nexitcodes=0,2\nstopsignal=INT\nstopwaitsecs=5\nuser=www\ndirectory=/srv\numask=22\n\
             environment=A=\"1,2\",B='x',\n    C=3\nstdout_logfile_maxbytes=5MB\nstdout_logfile_backups=9\nsurprise=1\n",
        ),
        (
            "/etc/conf.d/worker.conf",
            "[program:worker]\ncommand: worker --of %(group_name)s -n %(process_num)d\nnumprocs=3\nautostart=false\n",
        ),
    ]);
    let report = supervisor::read(Path::new("/etc/supervisord.conf"), &all).expect("good");
    assert_valid(&report);
    let web = made(&report, "web-1");
    assert_eq!(web["metadata"]["labels"], json!({"group": "shop"}));
    assert_eq!(
        web["spec"],
        json!({
            "process": {
                "command": ["/srv/bin/web", "--port", "8001", "two words", "$$(x)"],
                "user": "www", "workingDir": "/srv", "umask": "022",
            },
            "env": [
                {"name": "LANG", "value": "C.UTF-8"}, {"name": "A", "value": "1,2"},
                {"name": "B", "value": "x"}, {"name": "C", "value": "3"},
            ],
            "restart": {"exitCodes": {"2": "Stop"}},
            "stopSignal": "SIGINT",
            "terminationGracePeriodSeconds": 5,
            "logs": {"maxFiles": 10, "maxSize": "5Mi"},
        })
    );
    let worker = made(&report, "worker");
    assert_eq!(
        worker["spec"],
        json!({
            "process": {"command": ["worker", "--of", "shop", "-n", "$(APPM_ORDINAL)"]},
            "replicas": 3, "env": [{"name": "LANG", "value": "C.UTF-8"}], "restartPolicy": "OnFailure", "suspend": true,
        })
    );
    let dropped = with_fate(&report, Fate::Dropped);
    assert!(dropped.contains(&"/etc/supervisord.conf:2 [supervisord] logfile".to_owned()), "{dropped:?}");
    assert!(dropped.contains(&"/etc/conf.d/web.conf:16 surprise".to_owned()), "{dropped:?}");
}

#[test]
fn what_cannot_be_read_is_told_with_its_line() {
    let told = |text: &str| refusals(supervisor::read(Path::new("s.conf"), &files(&[("s.conf", text)])));
    assert_eq!(told("[program:a]\n"), ["s.conf:1: `a` has no `command`"]);
    assert_eq!(
        told("x=1\n[program:a]\ncommand=a 'b\nnumprocs=many\n"),
        ["s.conf:1: `x` stands before the first section"]
    );
    assert_eq!(
        told("[program:a]\ncommand=a 'b\n[program:b]\ncommand=b\nnumprocs=many\n[program:c]\ncommand=c %(nope)s\n"),
        [
            "s.conf:2: `a`: the command `a 'b` is empty, or a quote of it is not closed",
            "s.conf:5: `numprocs` of `b` is a number, not `many`",
            "s.conf:7: `command` of `c`: `%(nope)s` is no expansion; `%%` is a percent sign",
        ]
    );
    assert_eq!(
        told("[program:a]\ncommand=a\nnumprocs=100000\n"),
        ["s.conf:3: `a`: 100000 processes; at most 5000 are imported"]
    );
}

#[test]
fn includes_that_include_each_other_come_to_an_end() {
    let all = files(&[
        ("/a.conf", "[include]\nfiles=*.conf\n[program:a]\ncommand=a\n"),
        ("/b.conf", "[include]\nfiles=a.conf b.conf\n[program:b]\ncommand=b\n"),
    ]);
    let report = supervisor::read(Path::new("/a.conf"), &all).expect("good");
    assert_eq!(report.parts.len(), 2);
    assert_eq!(with_fate(&report, Fate::Dropped), ["/b.conf:2 files"]);
}
