//! Runs and the loss of power: what was begun is not begun again, and whether it was is never guessed.

use super::*;

const RUNS: &str = "/apis/appm.dev/v1/namespaces/default/runs";

/// Says who it is, in the journal and to the test, and works a moment.
const ONCE: &str = r#"
printf '@S 0 0 0 %d\n%s\n' "${#APPM_INSTANCE}" "$APPM_INSTANCE" >> "$PROOF_ROOT/journal"
echo "$APPM_INSTANCE" >> "$PROOF_ROOT/begun"
sleep 0.05
"#;

/// Makes Runs until the power fails. The journal says which were acknowledged.
fn make_runs(lab: &Lab, count: usize) {
    let api = lab.world.api();
    let env = json!([{"name": "PROOF_ROOT", "value": lab.world.root()}]);
    for n in 0..count {
        let name = format!("job-{n}");
        let run = json!({
            "apiVersion": "appm.dev/v1", "kind": "Run", "metadata": {"name": name},
            "spec": {"process": {"script": ONCE}, "env": env},
        });
        let answer = api.ask("POST", RUNS, "application/json", run.to_string().as_bytes()).unwrap();
        assert!(answer.is_ok(), "{answer:?}");
        note(&lab.journal(), 'A', &name);
        look_away();
    }
}

/// Waits until every Run is over. Name, and the reason of its end.
fn over(world: &World) -> BTreeMap<String, String> {
    wait_for("every run to be over", || {
        let mut ended = BTreeMap::new();
        for run in world.api().list(RUNS).map_err(|e| e.to_string())? {
            let conditions = run["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let end = conditions.iter().find(|c| c["type"] != "Running" && c["status"] == "True");
            let reason = end.and_then(|c| c["reason"].as_str()).ok_or_else(|| run.to_string())?;
            ended.insert(run["metadata"]["name"].as_str().unwrap().to_owned(), reason.to_owned());
        }
        Ok(ended)
    })
}

#[test]
fn a_run_is_begun_once_whatever_write_the_power_fails_at() {
    let seed = setting("APPM_PROOF_SEED", 20_261_122);
    let points = setting("APPM_PROOF_POINTS", 5);
    eprintln!("powerloss: seed {seed}, {points} points");
    let mut dice = Dice::new(seed);
    let mut lab = Lab::new(seed);
    lab.boot().unwrap_or_else(|why| panic!("{why}\n{}", lab.world.stderr()));
    make_runs(&lab, 12);
    let records = lab.cut();
    let base = lab.base.clone();
    for point in 0..points {
        let upto = 1 + dice.below(records.len() as u64) as usize;
        lab.base = base.clone();
        let image = lab.disk(&records, upto, upto).after_power_loss(&mut || dice.below(2) < point % 3);
        lab.restore(&image, &[]);
        fs::write(lab.world.root().join("begun"), "").unwrap();
        lab.boot().unwrap_or_else(|why| panic!("{why}\n{}", lab.world.stderr()));
        let ended = over(&lab.world);
        let marked = |kind: u8| records[..upto].iter().filter(move |r| r.kind == kind).map(|r| r.text().to_owned());
        let again = fs::read_to_string(lab.world.root().join("begun")).unwrap();
        for name in marked(b'A') {
            let said = format!("seed {seed}, point {point}, record {upto}: {name} of {ended:?}");
            let instance = format!("{name}-a1");
            let before = marked(b'S').filter(|begun| *begun == instance).count();
            let after = again.lines().filter(|begun| *begun == instance).count();
            let reason = ended.get(&name).unwrap_or_else(|| panic!("{said}: acknowledged, and gone"));
            match reason.as_str() {
                "ExitZero" => assert_eq!(before + after, 1, "{said}"),
                "Lost" => assert_eq!((before <= 1, after), (true, 0), "{said}"),
                other => panic!("{said}: {other}"),
            }
        }
        lab.cut();
    }
}
