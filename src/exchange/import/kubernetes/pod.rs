//! A Pod and one of its containers.

use serde_json::{Value, json};

use super::{
    super::super::{
        draft::Draft,
        report::Refusal,
        tree::{entries, step},
    },
    super::words::KUBERNETES,
    Object, Services, published,
};

/// Where the Pod's spec stands, and what is made of it.
pub(super) struct Pod<'a> {
    pub(super) object: &'a Object,
    pub(super) path: String,
    pub(super) spec: &'a Value,
    /// App, Run or Schedule.
    pub(super) form: &'a str,
    /// What the Pod says is told once.
    pub(super) first: bool,
}

/// What one container becomes.
pub(super) fn fill(
    pod: &Pod<'_>,
    number: usize,
    container: &Value,
    services: &Services<'_>,
    draft: &mut Draft,
) -> Result<(), Vec<Refusal>> {
    let mut refusals = Vec::new();
    let path = format!("{}.containers[{number}]", pod.path);
    if container["image"].as_str().is_none() {
        let spot = pod.object.tree.spot(&path);
        refusals.push(Refusal::new(&spot, "a container has an `image`"));
    }
    for (key, value) in entries(container) {
        let spot = pod.object.tree.spot(&step(&path, key));
        match key.as_str() {
            "name" => draft.carried(&spot, key),
            "image" | "command" | "args" | "workingDir" | "imagePullPolicy" => {
                draft.set(&spot, key, &format!("container.{key}"), value.clone());
            }
            "env" | "envFrom" => {
                draft.put(key, value.clone());
                draft.carried(&spot, key);
            }
            "resources" => resources(pod, &step(&path, key), value, draft),
            "ports" => ports(pod, &step(&path, key), value, services, draft),
            "livenessProbe" | "readinessProbe" | "startupProbe" if pod.form == "App" => {
                probe(pod, &step(&path, key), key, value, draft);
            }
            "lifecycle" if pod.form == "App" => lifecycle(pod, &step(&path, key), value, draft),
            "livenessProbe" | "readinessProbe" | "startupProbe" | "lifecycle" => {
                draft.dropped(&spot, key, "what runs to its end has no probes and hooks");
            }
            "volumeMounts" => mounts(pod, &step(&path, key), value, draft),
            "securityContext" => security(pod, &step(&path, key), value, draft),
            "terminationMessagePolicy" if value == "FallbackToLogsOnError" && pod.form == "App" => {
                draft.set(&spot, key, key, value.clone());
            }
            "terminationMessagePath" | "terminationMessagePolicy" => {
                draft.dropped(
                    &spot,
                    key,
                    "`terminationMessagePolicy: FallbackToLogsOnError` takes the end of the output",
                );
            }
            "tty" | "stdin" | "stdinOnce" => draft.dropped(&spot, key, "a container reads nothing and has no terminal"),
            "restartPolicy" | "restartPolicyRules" => {
                draft.dropped(&spot, key, "`restartPolicy` and `restart.exitCodes` are the App's");
            }
            "resizePolicy" => draft.dropped(&spot, key, "limits are changed while a container runs, where they can be"),
            "volumeDevices" => draft.dropped(&spot, key, "no devices are handed over"),
            _ => draft.dropped(&spot, key, &KUBERNETES.stranger("Container", key)),
        }
    }
    of_pod(pod, draft);
    if refusals.is_empty() { Ok(()) } else { Err(refusals) }
}

/// A probe is the same here, but for gRPC.
fn probe(pod: &Pod<'_>, path: &str, key: &str, value: &Value, draft: &mut Draft) {
    let spot = pod.object.tree.spot(path);
    if !value["grpc"].is_null() {
        return draft.dropped(&spot, key, "no probe speaks gRPC; `exec` of grpc_health_probe does");
    }
    let mut kept = value.clone();
    for (field, _) in entries(value) {
        let spot = pod.object.tree.spot(&step(path, field));
        let known = KUBERNETES.knows("Probe", field);
        let why = match field.as_str() {
            "terminationGracePeriodSeconds" => "the App's own counts for every end",
            _ if known => continue,
            _ => &KUBERNETES.stranger("Probe", field),
        };
        draft.dropped(&spot, &format!("{key}.{field}"), why);
        kept.as_object_mut().map(|probe| probe.shift_remove(field));
    }
    draft.set(&spot, key, key, kept);
}

/// Hooks are the same here; the signal to stop is the App's.
fn lifecycle(pod: &Pod<'_>, path: &str, value: &Value, draft: &mut Draft) {
    for (field, said) in entries(value) {
        let spot = pod.object.tree.spot(&step(path, field));
        let setting = format!("lifecycle.{field}");
        match field.as_str() {
            "postStart" | "preStop" => draft.set(&spot, &setting, &setting, said.clone()),
            "stopSignal" => draft.set(&spot, &setting, "stopSignal", said.clone()),
            _ => draft.dropped(&spot, &setting, &KUBERNETES.stranger("Lifecycle", field)),
        }
    }
}

fn resources(pod: &Pod<'_>, path: &str, value: &Value, draft: &mut Draft) {
    for side in ["limits", "requests"] {
        for (name, amount) in entries(&value[side]) {
            let spot = pod.object.tree.spot(&step(&format!("{path}.{side}"), name));
            let amount = super::super::super::tree::text(amount).unwrap_or_default();
            match name.as_str() {
                "cpu" | "memory" => {
                    draft.set(&spot, &format!("{side}.{name}"), &format!("resources.{side}.{name}"), amount)
                }
                _ => draft.dropped(&spot, &format!("{side}.{name}"), "memory and cpu are counted"),
            }
        }
    }
}

/// Ports of the container; what a Service selects is published.
fn ports(pod: &Pod<'_>, path: &str, value: &Value, services: &Services<'_>, draft: &mut Draft) {
    let published = published(pod.object, services);
    for (at, port) in value.as_array().into_iter().flatten().enumerate() {
        let spot = pod.object.tree.spot(&format!("{path}[{at}]"));
        let number = &port["containerPort"];
        let name = port["name"].as_str().map_or_else(|| format!("p{number}"), str::to_owned);
        if pod.form != "App" {
            draft.dropped(&spot, "ports", "what runs to its end has no ports");
            continue;
        }
        for (field, _) in entries(port) {
            let spot = pod.object.tree.spot(&step(&format!("{path}[{at}]"), field));
            let setting = format!("ports.{field}");
            match field.as_str() {
                "hostIP" => {
                    draft.dropped(&spot, &setting, "published on 127.0.0.1: whom to let in is a gateway's to say")
                }
                _ if KUBERNETES.knows("ContainerPort", field) => {}
                _ => draft.dropped(&spot, &setting, &KUBERNETES.stranger("ContainerPort", field)),
            }
        }
        let mut made = json!({"name": name, "containerPort": number});
        if port["protocol"] == "UDP" {
            made["protocol"] = json!("UDP");
        }
        let of_service = published.iter().find(|(target, _)| target == number || *target == name.as_str());
        match (port["hostPort"].as_u64(), of_service) {
            (Some(host), _) => made["hostPort"] = json!(host),
            (None, Some((_, host))) => made["hostPort"] = host.clone(),
            (None, None) => {}
        }
        match port["protocol"] == "SCTP" {
            true => draft.dropped(&spot, "ports", "TCP and UDP only"),
            false => {
                draft.push("ports", made);
                draft.carried(&spot, "ports");
            }
        }
    }
}

fn mounts(pod: &Pod<'_>, path: &str, value: &Value, draft: &mut Draft) {
    let volumes = pod.spec["volumes"].as_array().cloned().unwrap_or_default();
    let claims = pod.object.value["spec"]["volumeClaimTemplates"].as_array().cloned().unwrap_or_default();
    for (at, mount) in value.as_array().into_iter().flatten().enumerate() {
        let spot = pod.object.tree.spot(&format!("{path}[{at}]"));
        let name = mount["name"].as_str().unwrap_or_default();
        let target = mount["mountPath"].as_str().unwrap_or_default();
        let volume = volumes.iter().find(|volume| volume["name"] == name);
        let claimed = claims.iter().any(|claim| claim["metadata"]["name"] == name);
        let own = format!("{}-{name}", draft.name);
        let (source, remark) = match volume {
            Some(volume) if volume["hostPath"]["path"].is_string() => {
                (volume["hostPath"]["path"].as_str().unwrap_or_default().to_owned(), "")
            }
            Some(volume) if volume["persistentVolumeClaim"]["claimName"].is_string() => {
                (volume["persistentVolumeClaim"]["claimName"].as_str().unwrap_or_default().to_owned(), "")
            }
            Some(volume) if volume["emptyDir"].is_object() => {
                (own, "a volume of the engine, which outlives the instance")
            }
            Some(volume)
                if !volume["configMap"].is_null() || !volume["secret"].is_null() || !volume["projected"].is_null() =>
            {
                draft.dropped(&spot, "volumeMounts", "ConfigMaps and Secrets are no files of a container: give them by `env` or `envFrom`, or mount a file of this machine");
                continue;
            }
            None if claimed => (own, ""),
            Some(_) => {
                draft.dropped(&spot, "volumeMounts", "a volume of a kind that there is none of on this machine");
                continue;
            }
            None => {
                draft.dropped(&spot, "volumeMounts", &format!("there is no volume `{name}`"));
                continue;
            }
        };
        if !mount["subPath"].is_null() || !mount["subPathExpr"].is_null() {
            draft.dropped(&spot, "volumeMounts", "a part of a volume cannot be mounted");
            continue;
        }
        for (field, _) in entries(mount) {
            let spot = pod.object.tree.spot(&step(&format!("{path}[{at}]"), field));
            match field.as_str() {
                "name" | "mountPath" | "readOnly" | "subPath" | "subPathExpr" => {}
                _ if KUBERNETES.knows("VolumeMount", field) => {
                    draft.dropped(
                        &spot,
                        &format!("volumeMounts.{field}"),
                        "a mount is a directory or a volume as it is",
                    );
                }
                _ => draft.dropped(&spot, &format!("volumeMounts.{field}"), &KUBERNETES.stranger("VolumeMount", field)),
            }
        }
        let mut made = json!({"source": source, "target": target});
        if mount["readOnly"] == true {
            made["readOnly"] = json!(true);
        }
        draft.push("container.mounts", made);
        match remark.is_empty() {
            true => draft.carried(&spot, "volumeMounts"),
            false => draft.nearly(&spot, "volumeMounts", remark),
        }
    }
}

/// What a container, or its Pod, may do.
fn security(pod: &Pod<'_>, path: &str, value: &Value, draft: &mut Draft) {
    for (key, said) in entries(value) {
        let spot = pod.object.tree.spot(&step(path, key));
        match key.as_str() {
            "runAsUser" | "runAsGroup" => {
                let both = |field: &str| value[field].as_i64().or(pod.spec["securityContext"][field].as_i64());
                let user = both("runAsUser").unwrap_or(0);
                let made = both("runAsGroup").map_or(user.to_string(), |group| format!("{user}:{group}"));
                draft.set(&spot, key, "container.user", made);
            }
            "privileged" => draft.set(&spot, key, "container.privileged", said.clone()),
            "readOnlyRootFilesystem" => draft.set(&spot, key, "container.readOnlyRootFilesystem", said.clone()),
            "capabilities" => draft.set(&spot, key, "container.capabilities", said.clone()),
            "runAsNonRoot" => draft.dropped(&spot, key, "`container.user` says who; the image's user is not looked at"),
            "fsGroup" | "fsGroupChangePolicy" => draft.dropped(&spot, key, "a volume belongs to whom it belongs to"),
            "supplementalGroups" | "supplementalGroupsPolicy" => {
                draft.dropped(&spot, key, "a container has the groups that its image gives its user");
            }
            "windowsOptions" => draft.dropped(&spot, key, "there are no containers of Windows"),
            _ if KUBERNETES.knows("SecurityContext", key) || KUBERNETES.knows("PodSecurityContext", key) => {
                draft.dropped(&spot, key, "a container is confined as the engine does");
            }
            _ => draft.dropped(&spot, key, &KUBERNETES.stranger("SecurityContext", key)),
        }
    }
}

/// What the Pod says for all its containers.
fn of_pod(pod: &Pod<'_>, draft: &mut Draft) {
    for (key, value) in entries(pod.spec) {
        let path = step(&pod.path, key);
        let spot = pod.object.tree.spot(&path);
        let carried_notes = draft.notes.len();
        match key.as_str() {
            "containers" | "volumes" => {}
            "restartPolicy" if pod.form == "App" => {
                draft.set(&spot, key, key, value.clone());
            }
            "restartPolicy" => draft.carried(&spot, key),
            "terminationGracePeriodSeconds" | "nodeSelector" => draft.set(&spot, key, key, value.clone()),
            "imagePullSecrets" => draft.set(&spot, key, "container.imagePullSecrets", value.clone()),
            "hostNetwork" if value == true => draft.set(&spot, key, "container.network", "host"),
            "securityContext" => security(pod, &path, value, draft),
            "activeDeadlineSeconds" if pod.form == "Run" => draft.set(&spot, key, key, value.clone()),
            "initContainers" => {
                draft.dropped(
                    &spot,
                    key,
                    "make each a Run, or an App that ends, and wait for it by `dependsOn: {condition: Complete}`",
                );
            }
            "serviceAccountName" | "serviceAccount" | "automountServiceAccountToken" => {
                draft.dropped(&spot, key, "what an App may do here is its owner's");
            }
            "affinity"
            | "tolerations"
            | "topologySpreadConstraints"
            | "priorityClassName"
            | "priority"
            | "schedulerName"
            | "nodeName"
            | "runtimeClassName"
            | "preemptionPolicy" => {
                draft.dropped(&spot, key, "`nodeSelector` names labels of nodes");
            }
            "dnsPolicy" | "dnsConfig" | "hostAliases" | "hostname" | "hostnameOverride" | "subdomain"
            | "setHostnameAsFQDN" | "enableServiceLinks" => {
                draft.dropped(&spot, key, "names are resolved as the engine does");
            }
            "hostPID" | "hostIPC" | "hostUsers" | "shareProcessNamespace" | "hostNetwork" if *value == json!(false) => {
                draft.carried(&spot, key)
            }
            "hostPID" | "hostIPC" | "hostUsers" | "shareProcessNamespace" => {
                draft.dropped(&spot, key, "a container is confined as the engine does");
            }
            "activeDeadlineSeconds" => draft.dropped(&spot, key, "an App runs on; a Run has `activeDeadlineSeconds`"),
            "ephemeralContainers" => draft.dropped(&spot, key, "`appm exec` runs something in an instance"),
            "resources" | "resourceClaims" | "overhead" => {
                draft.dropped(&spot, key, "`resources` are each container's; there are no devices");
            }
            "os" | "readinessGates" | "schedulingGates" | "schedulingGroup" | "evictionResponders" => {
                draft.dropped(&spot, key, "an instance is started where its node has room, and is ready by its probe");
            }
            _ => draft.dropped(&spot, key, &KUBERNETES.stranger("PodSpec", key)),
        }
        // Several Apps of one Pod do not say the same several times.
        if !pod.first {
            draft.notes.truncate(carried_notes);
        }
    }
}
