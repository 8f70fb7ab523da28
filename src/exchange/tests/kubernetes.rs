//! Manifests of Kubernetes.

use serde_json::{Value, json};

use super::{assert_valid, files, made, refusals, with_fate};
use crate::exchange::{
    import::kubernetes,
    report::{Fate, Outcome},
};

fn read(text: &str) -> Outcome<Value> {
    kubernetes::read(&["/k.yaml".into()], &files(&[("/k.yaml", text)]))
}

const SHOP: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop, labels: {tier: front}}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 5
      serviceAccountName: web
      containers:
        - name: web
          image: nginx:1.27
          ports: [{containerPort: 80, name: http}]
          env: [{name: A, value: b}, {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]
          envFrom: [{configMapRef: {name: web}}]
          resources: {limits: {memory: 64Mi, ephemeral-storage: 1Gi}, requests: {cpu: 100m}}
          readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 2}
          volumeMounts: [{name: tmp, mountPath: /tmp}, {name: conf, mountPath: /etc/conf}]
          securityContext: {runAsUser: 101, runAsGroup: 102, readOnlyRootFilesystem: true}
      volumes: [{name: tmp, emptyDir: {}}, {name: conf, configMap: {name: web}}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: http, nodePort: 30080}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: web, namespace: shop, uid: x}
data: {KEY: value}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec:
  schedule: "30 2 * * *"
  timeZone: Europe/Berlin
  concurrencyPolicy: Forbid
  successfulJobsHistoryLimit: 1
  jobTemplate:
    spec:
      backoffLimit: 2
      template: {spec: {restartPolicy: OnFailure, containers: [{name: x, image: busybox, command: [date]}]}}
---
apiVersion: v1
kind: Pod
metadata: {name: two}
spec: {containers: [{name: a, image: a}, {name: b, image: b}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
"#;

#[test]
fn workloads_become_apps_and_schedules() {
    let report = read(SHOP).expect("good");
    assert_valid(&report);
    let kinds: Vec<String> = report
        .parts
        .iter()
        .map(|p| format!("{}/{}", p.made["kind"], p.made["metadata"]["name"]).replace('"', ""))
        .collect();
    assert_eq!(kinds, ["App/web", "ConfigMap/web", "Schedule/nightly", "App/two-a", "App/two-b"]);
    let web = &report.parts[0].made;
    assert_eq!(web["metadata"], json!({"name": "web", "namespace": "shop", "labels": {"tier": "front", "app": "web"}}));
    assert_eq!(
        web["spec"],
        json!({
            "container": {
                "image": "nginx:1.27", "mounts": [{"source": "web-tmp", "target": "/tmp"}],
                "user": "101:102", "readOnlyRootFilesystem": true,
            },
            "ports": [{"name": "http", "containerPort": 80, "hostPort": 30080}],
            "env": [{"name": "A", "value": "b"}, {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
            "envFrom": [{"configMapRef": {"name": "web"}}],
            "resources": {"limits": {"memory": "64Mi"}, "requests": {"cpu": "100m"}},
            "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 2},
            "terminationGracePeriodSeconds": 5,
            "replicas": 3,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        })
    );
    assert_eq!(
        made(&report, "nightly")["spec"],
        json!({
            "cron": "30 2 * * *", "timeZone": "Europe/Berlin", "concurrencyPolicy": "Forbid", "successfulRunsHistoryLimit": 1,
            "run": {"container": {"image": "busybox", "command": ["date"]}, "backoffLimit": 2},
        })
    );
    let dropped = with_fate(&report, Fate::Dropped);
    for setting in ["Ingress/web", "volumeMounts", "serviceAccountName", "limits.ephemeral-storage"] {
        assert!(dropped.iter().any(|note| note.ends_with(setting)), "{setting} of {dropped:?}");
    }
}

#[test]
fn what_cannot_be_read_is_told_with_its_line() {
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {}\n---\napiVersion: batch/v1\nkind: CronJob\nmetadata: {name: b}\nspec:\n  schedule: often\n  jobTemplate: {spec: {template: {spec: {containers: [{name: x}]}}}}\n";
    let told = refusals(read(text));
    assert!(told[0].starts_with("/k.yaml:4: Deployment/a has no containers"), "{told:?}");
    assert!(told[1].starts_with("/k.yaml:11: a container has an `image`"), "{told:?}");
    assert_eq!(refusals(read("a: [")).len(), 1);
}
