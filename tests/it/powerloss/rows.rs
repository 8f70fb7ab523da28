//! Steps in a row and the loss of power: some have ended and are known so, at most one is lost, and none is begun twice.

use super::*;
use crate::workflows::{WORKFLOW_RUNS, WORKFLOWS, make, over};

const STEPS: usize = 16;

/// Says which step it is, in the journal and to the test.
const SAYS: &str = r#"printf '@S 0 0 0 %d\n%s\n' "${#APPM_STEP}" "$APPM_STEP" >> "$PROOF_ROOT/journal"
echo "$APPM_STEP" >> "$PROOF_ROOT/begun"
"#;

#[test]
fn of_a_row_of_steps_at_most_one_is_lost_and_none_begins_twice_whatever_write_the_power_fails_at() {
    let seed = setting("APPM_PROOF_SEED", 20_261_123);
    let points = setting("APPM_PROOF_POINTS", 4);
    eprintln!("powerloss: seed {seed}, {points} points");
    let mut dice = Dice::new(seed);
    let mut lab = Lab::new(seed);
    lab.boot().unwrap_or_else(|why| panic!("{why}\n{}", lab.world.stderr()));
    let steps: Vec<Value> = (0..STEPS).map(|n| json!({"id": format!("s{n}"), "run": SAYS})).collect();
    let spec = json!({"env": {"PROOF_ROOT": lab.world.root()}, "jobs": {"row": {"steps": steps}}});
    let api = lab.world.api();
    make(&api, WORKFLOWS, "Workflow", "row", &spec);
    make(&api, WORKFLOW_RUNS, "WorkflowRun", "row-1", &json!({"workflow": "row"}));
    note(&lab.journal(), 'A', "row-1");
    assert_eq!(over(&api, "row-1").0, "Success");
    let records = lab.cut();
    let base = lab.base.clone();
    let acknowledged = records.iter().position(|record| record.kind == b'A').expect("it was acknowledged");
    for point in 0..points {
        let upto = acknowledged + 1 + dice.below((records.len() - acknowledged) as u64) as usize;
        lab.base = base.clone();
        let image = lab.disk(&records, upto, upto).after_power_loss(&mut || dice.below(2) < point % 3);
        lab.restore(&image, &[]);
        fs::write(lab.world.root().join("begun"), "").unwrap();
        lab.boot().unwrap_or_else(|why| panic!("{why}\n{}", lab.world.stderr()));
        let (reason, status) = over(&lab.world.api(), "row-1");
        let said = format!("seed {seed}, point {point}, record {upto} of {}: {reason} {status}", records.len());
        let again = fs::read_to_string(lab.world.root().join("begun")).unwrap();
        let row = status["jobs"]["row"]["steps"].as_array().expect("steps");
        let mut lost = 0;
        assert_eq!(row.len(), STEPS, "{said}");
        for (n, step) in row.iter().enumerate() {
            let id = format!("s{n}");
            let before = records[..upto].iter().filter(|record| record.kind == b'S' && record.text() == id).count();
            let after = again.lines().filter(|step| *step == id).count();
            match (step["state"].as_str(), step["reason"].as_str()) {
                (Some("Success"), _) => assert_eq!((before + after, lost), (1, 0), "{id}; {said}"),
                (Some("Failure"), Some("Lost")) => {
                    lost += 1;
                    assert_eq!((before <= 1, after), (true, 0), "{id}; {said}");
                }
                (Some("Skipped"), _) => assert_eq!((before + after, lost), (0, 1), "{id}; {said}"),
                _ => panic!("{id}; {said}"),
            }
        }
        assert_eq!(reason, if lost == 0 { "Success" } else { "Failure" }, "{said}");
        assert!(lost <= 1, "{said}");
        lab.cut();
    }
}
