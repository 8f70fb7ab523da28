//! Files of which a generator knows what they mean: they become that App, and what is written of it says the same again.

use std::path::Path;

use proptest::{prelude::*, sample::select};
use serde_json::{Map, Value, json};

use super::files;
use crate::exchange::{
    export,
    import::{compose, kubernetes, pm2, supervisor},
};

/// What people write into commands and variables.
fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9/._=-]{1,12}|[a-z '\"$%{}()|&<>*~!?#,:\\\\-]{1,10}x|[A-Z]{2} ü\t€"
}

fn words() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(text(), 1..4)
}

fn variables() -> impl Strategy<Value = Vec<(String, String)>> {
    proptest::collection::btree_map("[A-Z][A-Z0-9_]{0,6}", text(), 0..4).prop_map(|all| all.into_iter().collect())
}

/// The same, for quotes in which there are no escapes.
fn quotable() -> impl Strategy<Value = Vec<(String, String)>> {
    variables().prop_map(|all| all.into_iter().map(|(name, value)| (name, value.replace('"', "'"))).collect())
}

/// Words that appm leaves as they are.
fn literals(words: &[String]) -> Vec<String> {
    words.iter().map(|word| literal(word)).collect()
}

fn literal(word: &str) -> String {
    crate::exchange::draft::literal(word)
}

fn env(variables: &[(String, String)]) -> Vec<Value> {
    variables.iter().map(|(name, value)| json!({"name": name, "value": literal(value)})).collect()
}

/// Fields of a mapping that say something.
fn some(fields: Value) -> Value {
    let says = |value: &Value| {
        !(value.is_null()
            || value.as_array().is_some_and(Vec::is_empty)
            || value.as_object().is_some_and(Map::is_empty))
    };
    let fields = fields.as_object().expect("a mapping").clone();
    Value::Object(fields.into_iter().filter(|(_, value)| says(value)).collect())
}

/// Whether all fields of one mapping stand in another as they are.
fn agree(all: &Value, some: &Value) -> Result<(), String> {
    let differs = |(name, value): (&String, &Value)| {
        (all[name] != *value).then(|| format!("{name}: {value} became {}", all[name]))
    };
    some.as_object().expect("a mapping").iter().find_map(differs).map_or(Ok(()), Err)
}

proptest! {
    #[test]
    fn what_was_a_compose_file_is_an_equivalent_one_again(
        words in words(), variables in variables(), port in 1..60000u16, memory in 1..4000u64, user in "[0-9]{1,4}(:[0-9]{1,4})?",
        restart in select(vec!["no", "always", "on-failure"]), grace in 0..600u32, check in proptest::option::of(words()),
        condition in select(vec!["service_started", "service_healthy", "service_completed_successfully"]), replicas in 2..9,
    ) {
        let dollars = |text: &str| text.replace('$', "$$");
        let service = some(json!({
            "image": "registry.example/x:1", "user": user, "restart": restart, "stop_grace_period": format!("{grace}s"),
            "command": words.iter().map(|word| dollars(word)).collect::<Vec<_>>(),
            "environment": variables.iter().map(|(name, value)| (name.clone(), json!(dollars(value)))).collect::<Map<_, _>>(),
            "ports": [format!("127.0.0.1:{port}:80"), "127.0.0.1::53/udp"], "volumes": ["data:/data", "/:/host:ro"],
            "depends_on": {"b": {"condition": condition}},
            "deploy": {"replicas": replicas, "resources": {"limits": {"memory": format!("{}", memory << 20), "cpus": "0.5"}}},
            "cap_add": ["NET_ADMIN"], "read_only": true, "working_dir": "/srv", "stop_signal": "SIGINT",
            "healthcheck": check.map(|words| {
                let test: Vec<String> = std::iter::once("CMD".to_owned()).chain(words.iter().map(|w| dollars(w))).collect();
                json!({"test": test, "interval": "7s", "timeout": "3s", "retries": 4})
            }),
        }));
        let file = json!({"name": "p", "services": {"a": service, "b": {"image": "y", "restart": "always"}}, "volumes": {"data": {"name": "data"}}});
        let read = |text: &str| {
            let asked = compose::Asked { dir: "/p".into(), ..Default::default() };
            compose::read(&["/p/c".into()], &asked, &files(&[("/p/c", text)])).expect("good")
        };
        let first = read(&file.to_string());
        super::assert_valid(&first);
        let objects: Vec<Value> = first.parts.iter().map(|part| part.made.clone()).collect();
        let written = export::compose::write(&objects).parts.remove(0).made.text;
        let said: Value = serde_saphyr::from_str(&written).expect("YAML");
        prop_assert_eq!(agree(&said["services"]["a"], &service), Ok(()));
        let again: Vec<Value> = read(&written).parts.iter().map(|part| part.made.clone()).collect();
        for (again, first) in again.iter().zip(&objects) {
            prop_assert_eq!(agree(&again["spec"], &first["spec"]), Ok(()));
        }
    }

    #[test]
    fn what_was_a_manifest_of_kubernetes_is_an_equivalent_one_again(
        words in words(), variables in variables(), port in 1..60000u16, memory in 1..4000u64, replicas in 0..9i64, grace in 0..600,
        user in 0..9999u32, seconds in 1..99,
    ) {
        let container = json!({
            "name": "web", "image": "registry.example/x:1", "args": words, "workingDir": "/srv",
            "env": variables.iter().map(|(name, value)| json!({"name": name, "value": value})).collect::<Vec<_>>(),
            "resources": {"limits": {"memory": format!("{memory}Mi"), "cpu": "250m"}},
            "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": seconds},
            "securityContext": {"runAsUser": user, "readOnlyRootFilesystem": true},
            "volumeMounts": [{"name": "host", "mountPath": "/host", "readOnly": true}],
            "ports": [{"name": "http", "containerPort": port}],
        });
        let container = some(container);
        let pod = json!({
            "containers": [container], "volumes": [{"name": "host", "hostPath": {"path": "/srv/x"}}],
            "terminationGracePeriodSeconds": grace,
        });
        let file = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {"replicas": replicas, "minReadySeconds": 3, "selector": {"matchLabels": {"app": "web"}},
                     "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod}},
        });
        let read = |text: &str| kubernetes::read(&["/k".into()], &files(&[("/k", text)])).expect("good");
        let first = read(&file.to_string());
        super::assert_valid(&first);
        let objects: Vec<Value> = first.parts.iter().map(|part| part.made.clone()).collect();
        let written = export::kubernetes::write(&objects).parts.remove(0).made.text;
        let said: Vec<Value> = written.split("---\n").map(|text| serde_saphyr::from_str(text).expect("YAML")).collect();
        let said = said.iter().find(|object| object["kind"] == "Deployment").expect("a Deployment");
        prop_assert_eq!(agree(&said["spec"], &json!({"replicas": replicas, "minReadySeconds": 3})), Ok(()));
        let said = &said["spec"]["template"]["spec"];
        prop_assert_eq!(agree(said, &json!({"terminationGracePeriodSeconds": grace})), Ok(()));
        let fields: Map<String, Value> = container.as_object().expect("a mapping").clone().into_iter()
            .filter(|(name, _)| !["volumeMounts", "ports", "securityContext"].contains(&name.as_str())).collect();
        prop_assert_eq!(agree(&said["containers"][0], &Value::Object(fields)), Ok(()));
        let again = read(&written);
        prop_assert_eq!(agree(&again.parts[0].made["spec"], &objects[0]["spec"]), Ok(()));
    }

    #[test]
    fn a_configuration_of_supervisor_becomes_what_it_means(
        words in words(), variables in quotable(), count in 1..9usize, grace in 0..600u32, codes in proptest::collection::btree_set(1..255u8, 1..4),
        autorestart in select(vec![("true", Value::Null), ("false", json!("Never")), ("unexpected", json!("OnFailure"))]),
        signal in select(vec!["TERM", "INT", "SIGQUIT"]), started in any::<bool>(),
    ) {
        // A `;` with a blank before it would begin a comment.
        let percent = |text: &str| text.replace('%', "%%");
        let line = percent(&shlex::try_join(words.iter().map(String::as_str)).expect("no NUL"));
        let pairs: Vec<String> = variables.iter()
            .map(|(name, value)| format!("{name}=\"{}\"", percent(value)))
            .collect();
        let codes: Vec<String> = codes.iter().map(u8::to_string).collect();
        let text = format!(
            "[program:a]\ncommand=/bin/x {line}\nenvironment={}\nnumprocs={count}\nprocess_name=%(process_num)d\nstopwaitsecs={grace}\n\
             autorestart={}\nexitcodes=0,{}\nstopsignal={signal}\nautostart={started}\nuser=www\n",
            pairs.join(","), autorestart.0, codes.join(","),
        );
        let report = supervisor::read(Path::new("/s"), &files(&[("/s", &text)])).unwrap_or_else(|e| panic!("{e:?} of {text}"));
        super::assert_valid(&report);
        let command: Vec<String> = std::iter::once("/bin/x".to_owned()).chain(literals(&words)).collect();
        let stops: Map<String, Value> = codes.into_iter().map(|code| (code, json!("Stop"))).collect();
        let name = signal.trim_start_matches("SIG");
        let meant = some(json!({
            "process": {"command": command, "user": "www"}, "env": env(&variables), "stopSignal": format!("SIG{name}"),
            "replicas": if count > 1 { json!(count) } else { Value::Null }, "terminationGracePeriodSeconds": grace,
            "restart": {"exitCodes": stops}, "restartPolicy": autorestart.1, "suspend": if started { Value::Null } else { json!(true) },
        }));
        prop_assert_eq!(&report.parts[0].made["spec"], &meant, "{}", text);
    }

    #[test]
    fn an_ecosystem_of_pm2_becomes_what_it_means(
        words in words(), variables in variables(), count in 1..9u32, timeout in 0..99u64, memory in 1..4000u64,
        script in select(vec![("a.js", "node"), ("b.py", "python3"), ("c.sh", "bash")]), restarts in any::<bool>(),
    ) {
        let env_of = |all: &[(String, String)]| all.iter().map(|(name, value)| (name.clone(), json!(value))).collect::<Map<_, _>>();
        let file = json!({"apps": [{
            "name": "a", "script": script.0, "args": words, "cwd": "/srv", "instances": count, "env": env_of(&variables),
            "kill_timeout": timeout * 1000, "max_memory_restart": format!("{memory}M"), "autorestart": restarts, "uid": "www",
        }]});
        let asked = pm2::Asked { dir: "/p".into(), ..Default::default() };
        let report = pm2::read(Path::new("/e"), &asked, &files(&[("/e", &file.to_string())])).expect("good");
        super::assert_valid(&report);
        let command: Vec<String> = [script.1, script.0].map(str::to_owned).into_iter().chain(literals(&words)).collect();
        let meant = some(json!({
            "process": {"command": command, "workingDir": "/srv", "user": "www"}, "env": env(&variables), "stopSignal": "SIGINT",
            "replicas": count, "terminationGracePeriodSeconds": timeout, "resources": {"limits": {"memory": format!("{memory}Mi")}},
            "restartPolicy": if restarts { Value::Null } else { json!("Never") },
        }));
        prop_assert_eq!(&report.parts[0].made["spec"], &meant);
    }
}
