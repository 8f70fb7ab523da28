//! What makes Pods: how many, when, and how they follow one another.

use serde_json::{Value, json};

use super::{
    super::super::{
        draft::Draft,
        names::Names,
        report::{Part, Refusal},
        tree::{entries, step},
    },
    super::words::KUBERNETES,
    Object, Services, metadata,
    pod::{self, Pod},
};
use crate::api::LONGEST_SCHEDULE_NAME;

/// What becomes of one workload: an App, a Run or a Schedule for each of its containers.
pub(super) fn parts(
    object: &Object,
    services: &Services<'_>,
    names: &mut Names,
) -> Result<Vec<Part<Value>>, Vec<Refusal>> {
    let (template, kind, longest) = match object.kind() {
        "Pod" => ("", "App", super::super::LONGEST_NAME),
        "Job" => ("spec.template", "Run", super::super::LONGEST_NAME),
        "CronJob" => ("spec.jobTemplate.spec.template", "Schedule", LONGEST_SCHEDULE_NAME),
        _ => ("spec.template", "App", super::super::LONGEST_NAME),
    };
    let inside = template.split('.').filter(|step| !step.is_empty()).fold(&object.value, |here, step| &here[step]);
    let containers = inside["spec"]["containers"].as_array().cloned().unwrap_or_default();
    let at = |field: &str| if template.is_empty() { field.to_owned() } else { format!("{template}.{field}") };
    if containers.is_empty() {
        let message = format!("{}/{} has no containers", object.kind(), object.name());
        return Err(vec![Refusal::new(&object.tree.spot(&at("spec")), message)]);
    }
    let mut parts = Vec::new();
    let several = containers.len() > 1;
    for (number, container) in containers.iter().enumerate() {
        let own = container["name"].as_str().unwrap_or("main");
        let wanted = if several { format!("{}-{own}", object.name()) } else { object.name().to_owned() };
        let mut draft = Draft::new(kind, &names.take(&wanted, longest));
        let here = object.tree.spot(&at(&format!("spec.containers[{number}]")));
        if several {
            draft.nearly(&here, own, "each container is an App of its own: they share neither network nor life");
        }
        if draft.name != wanted {
            draft.nearly(&here, own, &format!("its name became `{}`", draft.name));
        }
        metadata(object, &mut draft);
        draft.metadata.shift_remove("name");
        let pod = Pod { object, path: at("spec"), spec: &inside["spec"], form: kind, first: number == 0 };
        let mut made = Draft::new(kind, &draft.name);
        pod::fill(&pod, number, container, services, &mut made)?;
        draft.notes.append(&mut made.notes);
        match kind {
            "Schedule" => {
                cron_job(object, &mut draft, made.spec)?;
            }
            "Run" => {
                draft.spec = made.spec;
                job(object, "spec", &mut draft, "");
            }
            _ => {
                draft.spec = made.spec;
                replicas(object, &mut draft);
            }
        }
        if object.kind() != "Pod" {
            template_metadata(object, template, &inside["metadata"], &mut draft, kind);
        }
        parts.push(draft.done());
    }
    Ok(parts)
}

/// Labels of the template are the App's: its Instances have them.
fn template_metadata(object: &Object, template: &str, said: &Value, draft: &mut Draft, kind: &str) {
    for (key, value) in entries(said) {
        let spot = object.tree.spot(&format!("{template}.metadata.{key}"));
        match (key.as_str(), kind) {
            ("labels", "App") => {
                for (name, value) in entries(value) {
                    draft.label(name, value.as_str().unwrap_or_default());
                }
                draft.carried(&spot, "template labels");
            }
            ("name" | "creationTimestamp", _) => {}
            _ => draft.dropped(
                &spot,
                &format!("template {key}"),
                "what is made of it has labels and annotations of its own",
            ),
        }
    }
}

/// Deployment, StatefulSet, DaemonSet, ReplicaSet.
fn replicas(object: &Object, draft: &mut Draft) {
    if object.kind() == "Pod" {
        return;
    }
    for (key, value) in entries(&object.value["spec"]) {
        let spot = object.tree.spot(&step("spec", key));
        match key.as_str() {
            "template" | "selector" => draft.carried(&spot, key),
            "replicas" | "minReadySeconds" | "revisionHistoryLimit" | "progressDeadlineSeconds" | "paused" => {
                draft.set(&spot, key, key, value.clone());
            }
            "strategy" => draft.set(&spot, key, key, value.clone()),
            "updateStrategy" if value["type"] == "OnDelete" => {
                draft.put("paused", true);
                draft.nearly(&spot, key, "a changed template waits until `appm rollout resume`");
            }
            "updateStrategy" => {
                draft.put("strategy.rollingUpdate", json!({"maxSurge": 0, "maxUnavailable": 1}));
                draft.nearly(&spot, key, "one instance after another, without a partition");
            }
            "serviceName" => {
                draft.dropped(&spot, key, "instances have no host names; `$(APPM_ORDINAL)` is an instance's number")
            }
            "podManagementPolicy" if value == "Parallel" => draft.carried(&spot, key),
            "podManagementPolicy" => draft.dropped(&spot, key, "instances are started together"),
            "volumeClaimTemplates" => draft.nearly(&spot, key, "one volume of the engine that all instances share"),
            "persistentVolumeClaimRetentionPolicy" | "ordinals" => {
                draft.dropped(&spot, key, "volumes are the engine's, numbers begin with 0")
            }
            _ => draft.dropped(&spot, key, &KUBERNETES.stranger(&format!("{}Spec", object.kind()), key)),
        }
    }
    if object.kind() == "DaemonSet" {
        draft.nearly(&object.tree.spot("kind"), "DaemonSet", "one instance, on a node that has room; not one on each");
    }
    if object.kind() == "StatefulSet" && object.value["spec"]["podManagementPolicy"].is_null() {
        draft.nearly(&object.tree.spot("kind"), "StatefulSet", "instances are started together");
    }
}

fn job(object: &Object, path: &str, draft: &mut Draft, into: &str) {
    let spec = path.split('.').fold(&object.value, |here, step| &here[step]);
    for (key, value) in entries(spec) {
        let spot = object.tree.spot(&step(path, key));
        let field = if into.is_empty() { key.clone() } else { format!("{into}.{key}") };
        match key.as_str() {
            "template" | "selector" | "manualSelector" => draft.carried(&spot, key),
            "backoffLimit" | "activeDeadlineSeconds" | "ttlSecondsAfterFinished" | "suspend" => {
                draft.set(&spot, key, &field, value.clone())
            }
            "parallelism" | "completions" if value == 1 => draft.carried(&spot, key),
            "completionMode" if value == "NonIndexed" => draft.carried(&spot, key),
            "parallelism" | "completions" | "completionMode" => {
                draft.dropped(&spot, key, "a Run is one execution; a Workflow's matrix has many")
            }
            "backoffLimitPerIndex" | "maxFailedIndexes" | "successPolicy" | "scheduling" => {
                draft.dropped(&spot, key, "a Run is one execution; a Workflow's matrix has many")
            }
            "podFailurePolicy" => draft.dropped(&spot, key, "`backoffLimit` counts every failure"),
            "podReplacementPolicy" => draft.dropped(&spot, key, "an execution begins when the one before has ended"),
            "managedBy" => draft.dropped(&spot, key, "Runs are appm's own"),
            _ => draft.dropped(&spot, key, &KUBERNETES.stranger("JobSpec", key)),
        }
    }
    // A Job tries six times if nothing is said.
    if spec["backoffLimit"].is_null() {
        draft.put(&if into.is_empty() { "backoffLimit".to_owned() } else { format!("{into}.backoffLimit") }, 6);
    }
}

fn cron_job(object: &Object, draft: &mut Draft, run: Value) -> Result<(), Vec<Refusal>> {
    draft.put("cron", object.value["spec"]["schedule"].clone());
    for (key, value) in entries(&object.value["spec"]) {
        let spot = object.tree.spot(&step("spec", key));
        match key.as_str() {
            "schedule" => {
                let cron = value.as_str().unwrap_or_default();
                if let Err(why) = cron.parse::<crate::api::cron::Cron>() {
                    return Err(vec![Refusal::new(&spot, format!("schedule: `{cron}`: {why}"))]);
                }
                draft.carried(&spot, key);
            }
            "timeZone" | "concurrencyPolicy" | "suspend" | "startingDeadlineSeconds" => {
                draft.set(&spot, key, key, value.clone())
            }
            "successfulJobsHistoryLimit" => draft.set(&spot, key, "successfulRunsHistoryLimit", value.clone()),
            "failedJobsHistoryLimit" => draft.set(&spot, key, "failedRunsHistoryLimit", value.clone()),
            "jobTemplate" => draft.carried(&spot, key),
            _ => draft.dropped(&spot, key, &KUBERNETES.stranger("CronJobSpec", key)),
        }
    }
    draft.put("run", run);
    job(object, "spec.jobTemplate.spec", draft, "run");
    Ok(())
}
