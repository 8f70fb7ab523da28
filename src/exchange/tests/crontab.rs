//! Crontabs.

use std::path::Path;

use serde_json::{Value, json};

use super::{assert_valid, files, made, refusals, with_fate};
use crate::exchange::{
    import::crontab,
    report::{Fate, Outcome},
};

fn read(text: &str, system: bool) -> Outcome<Value> {
    crontab::read(Path::new("/c"), system, &files(&[("/c", text)]))
}

#[test]
fn each_line_becomes_a_schedule() {
    let text = "\
# Edit this file
MAILTO=ops@example.com
PATH=/usr/local/bin:/usr/bin

# every night
30 2 * * 1-5 /opt/backup.sh --full
CRON_TZ=Europe/Berlin
SHELL=/bin/bash
RANDOM_DELAY=5
*/5 * * * * cd /srv && ./poll $(date)
0 0 1 * * mail -s \"100\\% done\" me%first%second
@reboot /opt/start
0 0 31 2 * never
@daily /opt/backup.sh
";
    let report = read(text, false).expect("good");
    assert_valid(&report);
    let env = json!([{"name": "PATH", "value": "/usr/local/bin:/usr/bin"}]);
    let backup = made(&report, "backup-sh");
    assert_eq!(backup["metadata"]["annotations"], json!({"kubernetes.io/description": "every night"}));
    assert_eq!(
        backup["spec"],
        json!({
            "cron": "30 2 * * 1-5", "startingDeadlineSeconds": 60,
            "run": {"process": {"command": ["/bin/sh", "-c", "/opt/backup.sh --full"]}, "env": env},
        })
    );
    assert_eq!(
        made(&report, "poll")["spec"],
        json!({
            "cron": "*/5 * * * *", "timeZone": "Europe/Berlin", "startingDeadlineSeconds": 60, "jitter": "5m",
            "run": {"process": {"command": ["/bin/bash", "-c", "cd /srv && ./poll $$(date)"]}, "env": env},
        })
    );
    let mail = &made(&report, "mail")["spec"]["run"];
    assert_eq!(mail["process"]["command"][2], "mail -s \"100% done\" me");
    assert_eq!(mail["stdin"], "first\nsecond\n");
    assert_eq!(made(&report, "backup-sh-2")["spec"]["cron"], "@daily");
    assert_eq!(with_fate(&report, Fate::Dropped), ["/c:2 MAILTO", "/c:12 @reboot", "/c:13 0 0 31 2 *"]);
    assert_eq!(with_fate(&report, Fate::Approximated), ["/c:9 RANDOM_DELAY"]);
}

#[test]
fn a_crontab_of_the_system_names_the_user() {
    let text = "# *  *  *  *  * user-name command\n17 * * * * root cd / && run-parts --report /etc/cron.hourly\n\
        25 6 * * * root test -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.daily; }\n";
    let report = read(text, true).expect("good");
    assert_eq!(made(&report, "run-parts-2")["spec"]["cron"], "25 6 * * *");
    assert_eq!(made(&report, "run-parts")["metadata"]["annotations"], Value::Null);
    let process = &made(&report, "run-parts")["spec"]["run"]["process"];
    assert_eq!(
        *process,
        json!({"command": ["/bin/sh", "-c", "cd / && run-parts --report /etc/cron.hourly"], "user": "root"})
    );
}

#[test]
fn what_cannot_be_read_is_told_with_its_line() {
    let told = refusals(read("* * * * * ok\nwhat is this\n61 * * * * x\n", false));
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("/c:2: no line of a crontab"), "{told:?}");
    assert!(told[1].starts_with("/c:3: `61 * * * *`: "), "{told:?}");
    assert_eq!(refusals(read("# nothing\n", false)), ["/c: there is no line in it that runs something"]);
}
