//! What is fuzzed: everything that reads what somebody else wrote. Each target takes any bytes, and panics where a law
//! is broken. `cargo fuzz` drives them for long runs, `tests/it/fuzz` for a moment in every `cargo test`.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use appm::{
    admission::{Admission, Caller, Patch, Target, WriteOptions},
    api::{App, Event, GoDuration, Instance, Kind, Namespace, Node, Outcome, Quantity, Served, schema},
    auth::{self, Identity},
    cli, clock,
    exchange::{files::Files, import, report::Outcome as Imported},
    policy::powers::Host,
    policy::{
        certificate::{self, Certificate},
        expr::{Condition, Expression, Limits as Budget, Scope, Status, Template, Value as Made},
        fields::FieldSet,
        json_patch, manifest,
        merge::{compare, fields_of, merge, merge_patch},
        selector::{FieldSelector, LabelSelector},
        shape::Shape,
        steps,
    },
    server,
    store::{Limits, Memory, Store},
};
use serde_json::{Value, json};

/// What takes any bytes.
pub type Run = fn(&[u8]);

/// All of them, by name, which is also their corpus' directory.
pub const TARGETS: &[(&str, Run)] = &[
    ("manifest", manifest),
    ("body", body),
    ("label_selector", label_selector),
    ("field_selector", field_selector),
    ("json_patch", json_patch),
    ("merge_patch", merge_patches),
    ("apply", apply),
    ("managed_fields", managed_fields),
    ("jsonpath", jsonpath),
    ("protobuf", protobuf),
    ("request_line", request_line),
    ("web_socket", web_socket),
    ("message", message),
    ("credentials", credentials),
    ("quantity", quantity),
    ("duration", duration),
    ("admission", admission),
    ("certificate", certificate),
    ("issuer_token", issuer_token),
    ("expression", expression),
    ("step_output", step_output),
    ("import_systemd", import_systemd),
    ("import_supervisor", import_supervisor),
    ("import_pm2", import_pm2),
    ("import_compose", import_compose),
    ("import_kubernetes", import_kubernetes),
    ("import_procfile", import_procfile),
    ("import_crontab", import_crontab),
];

/// No input may grow beyond this.
const MUCH: usize = 64 << 20;

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// Several JSON values, one after another.
fn values<const N: usize>(data: &[u8]) -> Option<[Value; N]> {
    let stream = serde_json::Deserializer::from_slice(data).into_iter::<Value>();
    stream.take(N).collect::<Result<Vec<_>, _>>().ok()?.try_into().ok()
}

/// Numbers that are not whole are read to within their last digit only.
fn has_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(items) => items.iter().any(has_fraction),
        Value::Object(fields) => fields.values().any(has_fraction),
        _ => false,
    }
}

/// The CLI's reader of YAML and JSON files. What it read, printed as JSON, reads the same.
pub fn manifest(data: &[u8]) {
    let Some(text) = text(data) else { return };
    for document in manifest::read(text).documents {
        let value = document.value();
        let printed = value.to_string();
        assert!(printed.len() < MUCH, "{} bytes became {}", data.len(), printed.len());
        let again = manifest::read(&printed);
        assert!(again.faults.is_empty(), "{printed}: {:?}", again.faults);
        let is_list = value["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
        if !is_list && !has_fraction(&value) {
            assert_eq!(again.documents[0].value(), value);
        }
    }
}

/// The server's reader of bodies. The JSON that it takes is read as everybody reads it, and what was read reads back.
pub fn body(data: &[u8]) {
    let json = server::fuzzing::body(data, false);
    let plain = serde_json::from_slice::<Value>(data).ok();
    assert!(json.is_none() || json.as_ref().map(|(value, _)| value) == plain.as_ref());
    if let Some((value, doubled)) = server::fuzzing::body(data, true) {
        assert!(json.is_none_or(|read| read == (value.clone(), doubled)), "JSON is YAML, too");
        let printed = value.to_string();
        assert!(printed.len() < MUCH, "{} bytes became {}", data.len(), printed.len());
        let again = server::fuzzing::body(printed.as_bytes(), true).expect("what was printed can be read");
        assert!(again == (value.clone(), 0) || has_fraction(&value), "{printed}");
    }
}

/// Requirements are joined by "and"; spaces around them say nothing.
pub fn label_selector(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let Ok(selector) = LabelSelector::parse(text) else { return };
    assert_eq!(LabelSelector::parse(&format!(" {text}\t")).as_ref(), Ok(&selector), "{text:?}");
    let labels = [("app", "web"), ("tier", ""), ("n", "5"), ("x.y/z", "a_b")];
    let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    if !selector.is_empty() {
        let twice = LabelSelector::parse(&format!("{text},{text}")).expect("a list of what can be read");
        assert_eq!(twice.matches(&labels), selector.matches(&labels), "{text:?}");
    }
}

/// As for labels.
pub fn field_selector(data: &[u8]) {
    let Some(text) = text(data) else { return };
    for kind in [App::INFO, Instance::INFO, Event::INFO, Node::INFO] {
        let Ok(selector) = FieldSelector::parse(kind.stored_form(), text) else { continue };
        assert_eq!(FieldSelector::parse(kind.stored_form(), &format!("{text},")).as_ref(), Ok(&selector), "{text:?}");
    }
}

/// A patch gives the same again, and never much more than it was given; a replaced document is what replaced it.
pub fn json_patch(data: &[u8]) {
    let Some([target, patch]) = values(data) else { return };
    let (mut once, mut again) = (target.clone(), target.clone());
    let done = json_patch::apply(&mut once, &patch);
    assert_eq!(json_patch::apply(&mut again, &patch), done);
    assert_eq!(once, again);
    assert!(once.to_string().len() < MUCH, "{} bytes became much", data.len());
    let replace = json!([{"op": "replace", "path": "", "value": patch}, {"op": "test", "path": "", "value": patch}]);
    json_patch::apply(&mut once, &replace).expect("the whole document can be replaced");
    assert_eq!(once, patch);
}

/// Twice is once (RFC 7386), and a patch without nulls onto nothing is itself.
pub fn merge_patches(data: &[u8]) {
    let Some([mut target, patch]) = values(data) else { return };
    merge_patch(&mut target, &patch);
    let once = target.clone();
    merge_patch(&mut target, &patch);
    assert_eq!(target, once);
    let mut copy = json!({});
    if once.is_object() && !once.to_string().contains("null") {
        merge_patch(&mut copy, &once);
        assert_eq!(copy, once);
    }
}

fn shape() -> &'static Shape {
    static SHAPE: OnceLock<Arc<Shape>> = OnceLock::new();
    SHAPE.get_or_init(|| Shape::compile(&schema::of(Served { kind: App::INFO, view: None })))
}

/// The merge of server-side apply: what was applied is there, and applying it again changes nothing.
pub fn apply(data: &[u8]) {
    let Some([mut live, mut applied]) = values(data) else { return };
    let shape = shape();
    for value in [&mut live, &mut applied] {
        shape.drop_nulls(value);
        shape.take_unknown(value);
        if !value.is_object() || !shape.duplicates(value).is_empty() {
            return;
        }
    }
    let merged = merge(shape, &live, &applied);
    assert_eq!(merge(shape, &merged, &applied), merged);
    assert!(compare(shape, &merged, &merged).changed.is_empty());
    let fields = fields_of(shape, &applied);
    assert!(fields.difference(&fields_of(shape, &merged)).is_empty(), "something that was applied is not there");
    assert_eq!(field_set(&written(&fields)).as_ref(), Some(&fields));
}

fn field_set(fields_v1: &Value) -> Option<FieldSet> {
    serde_json::from_value(fields_v1.clone()).ok().map(FieldSet::from_fields_v1)
}

fn written(fields: &FieldSet) -> Value {
    serde_json::to_value(fields).expect("texts")
}

/// `fieldsV1` as clients send it reads back as it was written.
pub fn managed_fields(data: &[u8]) {
    let Some([fields]) = values(data) else { return };
    let Some(set) = field_set(&fields) else { return };
    let written = written(&set);
    assert_eq!(field_set(&written).as_ref(), Some(&set), "{written}");
    assert!(set.difference(&set).is_empty());
    assert_eq!(set.union(&set), set);
    let _ = set.paths();
}

/// The CLI's `-o jsonpath`: a path on the first line, an object after it.
pub fn jsonpath(data: &[u8]) {
    let Some((path, object)) = text(data).and_then(|text| text.split_once('\n')) else { return };
    let object = serde_json::from_str(object).unwrap_or_else(|_| json!({"a": [{"b": 1}, {"b": "x"}], "c.d": null}));
    let _ = cli::fuzzing::jsonpath(path, &object);
}

/// Bodies in protobuf. What is read is an object.
pub fn protobuf(data: &[u8]) {
    for body in [data.to_vec(), [b"k8s\0", data].concat()] {
        if let Some(object) = server::fuzzing::protobuf(&body) {
            assert!(object["kind"].is_string(), "{object}");
        }
    }
}

/// The path, the query and the continue token of a request.
pub fn request_line(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let (path, query) = text.split_once('?').unwrap_or((text, text));
    server::fuzzing::request_line(path, query);
}

/// What proves who somebody is. Nobody gets in with what the fuzzer makes.
pub fn credentials(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let good = auth::fuzzing::good_token();
    assert!(text == good || !auth::fuzzing::access_token(text), "{text}");
    assert!(auth::fuzzing::access_token(&good) && !auth::fuzzing::access_token(&format!("{good}{text} ")));
    assert!(!auth::fuzzing::code(text), "every step was used: {text}");
    if let Some((name, _)) = auth::fuzzing::basic(text) {
        assert!(!name.is_empty() && !name.contains(':'), "{name}");
    }
    auth::fuzzing::hash(text);
}

/// A token of an issuer, or its keys. Nothing but the token that it signed is believed, and no keys but its own make anything else good.
pub fn issuer_token(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let (issuer, keys, good) = auth::fuzzing::good_issuer_token();
    let believes = |token: &str, keys: &str| auth::fuzzing::issuer_token(token, keys.as_bytes(), &issuer, 0);
    assert!(believes(&good, &keys));
    assert!(text == good || !believes(text, &keys), "{text}");
    // Keys that somebody else wrote: whatever they are, they are read or not.
    believes(&good, text);
    if let Some((signed, signature)) = good.rsplit_once('.') {
        assert!(text == signature || !believes(&format!("{signed}.{text}"), &keys), "{text}");
    }
}

/// What can be read prints as it was written, and the values of sizes do not overflow.
pub fn quantity(data: &[u8]) {
    let Some(Ok(quantity)) = text(data).map(str::parse::<Quantity>) else { return };
    let again: Quantity = quantity.to_string().parse().expect("its own text");
    assert_eq!(again, quantity);
    assert!(quantity.units() >= quantity.milli() / 1000);
}

/// What can be read prints as something that reads the same.
pub fn duration(data: &[u8]) {
    let Some(Ok(duration)) = text(data).map(str::parse::<GoDuration>) else { return };
    assert_eq!(duration.to_string().parse(), Ok(duration), "{duration}");
}

/// What comes on a WebSocket after the handshake; how much of it at a time is said by the first byte. It is heard the same in whatever pieces it comes, is
/// never more than came, and takes no memory for what is only said to come.
pub fn web_socket(data: &[u8]) {
    let Some((at_a_time, frames)) = data.split_first() else { return };
    let heard = server::fuzzing::web_socket(frames, 1 + usize::from(*at_a_time));
    assert!(heard.messages.iter().map(Vec::len).sum::<usize>() <= frames.len());
    assert_ne!(heard.end, Some(1013), "more memory was taken than what came");
    assert_eq!(heard, server::fuzzing::web_socket(frames, 1 + frames.len()));
}

/// A message of App Mesh's clients, as it comes over TCP or a WebSocket. What was read stands in it.
pub fn message(data: &[u8]) {
    let Some((_, _, named, body)) = server::fuzzing::message(data) else { return };
    assert!(body.len() <= data.len() && named <= data.len().min(2000));
    assert!(body.is_empty() || data.windows(body.len()).any(|window| window == body));
}

struct Contexts;

impl Scope for Contexts {
    fn root(&self, name: &str) -> Option<Made> {
        let known = ["github", "needs", "inputs", "a"].contains(&name);
        known.then(|| json!({"a": [{"b": 1, "B": 2}, "x", null, [true]], "empty": "", "n": -0.5, "s": "[1]"}).into())
    }

    fn status(&self, which: Status, _: &[Arc<str>]) -> Option<bool> {
        Some(which != Status::Failure)
    }
}

/// Expressions, texts with them, and what stands after `if`. All of them end, twice the same, and brackets around one change nothing.
pub fn expression(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let budget = Budget { steps: 100_000, bytes: 1 << 20 };
    let value = |expression: &Expression| expression.evaluate(&Contexts, budget).map(|value| value.to_json());
    if let Ok(read) = Expression::parse(text) {
        let once = value(&read);
        assert_eq!(once, value(&read));
        for used in read.uses() {
            assert!(text[used.span.range()].len() >= used.root.len());
        }
        read.calls();
        if let Ok(again) = Expression::parse(&format!("({})", read.source())) {
            assert_eq!(value(&again).ok(), once.ok(), "{text:?}");
        }
    }
    if let Ok(template) = Template::parse(text) {
        let made = template.evaluate(&Contexts, budget);
        assert!(
            template.splices().next().is_some() || made.is_err() || made.is_ok_and(|made| &*made.to_text() == text)
        );
    }
    if let Ok(condition) = Condition::parse(text) {
        let holds = condition.holds(&Contexts, budget);
        let why = condition.explain_false(&Contexts, budget);
        assert_eq!(holds, why.map(|why| why.is_none()));
    }
}

/// What a step wrote, to its files and as its output. What was read as outputs reads the same written in the long form.
pub fn step_output(data: &[u8]) {
    let mut commands = steps::Commands::default();
    for line in data.split(|byte| *byte == b'\n') {
        let _ = commands.line(line);
    }
    let _ = (steps::env(data), steps::path(data), steps::summary(data));
    let Ok(outputs) = steps::outputs(data) else { return };
    let plain = |name: &str| !name.contains('<');
    let end = "no such line";
    if outputs.iter().all(|(name, value)| plain(name) && !value.contains(end)) {
        let written: String = outputs.iter().map(|(name, value)| format!("{name}<<{end}\n{value}\n{end}\n")).collect();
        assert_eq!(steps::outputs(written.as_bytes()).ok(), Some(outputs));
    }
}

/// A certificate of a stranger, in DER or PEM. What is read of it are names that somebody can have, and it is read the same again.
pub fn certificate(data: &[u8]) {
    let ders = certificate::ders(data);
    for der in ders.iter().map(Vec::as_slice).chain([data]) {
        let Ok(read) = Certificate::read(der) else { continue };
        let names = read.organizations.iter().chain(&read.common_name);
        assert!(names.clone().count() <= 65);
        assert!(
            names.into_iter().all(|name| !name.is_empty() && name.len() <= 256 && !name.chars().any(char::is_control))
        );
        let printed = certificate::ders(certificate::pem(der).as_bytes());
        assert_eq!(printed, [der]);
        assert_eq!(Certificate::read(&printed[0]), Ok(read));
    }
}

/// Bodies and patches through admission itself. Whatever is accepted can be read back, and applied again changes nothing.
pub fn admission(data: &[u8]) {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime needs nothing special")
    });
    let stream = serde_json::Deserializer::from_slice(data).into_iter::<Value>();
    let bodies: Vec<Value> = stream.take(6).map_while(Result::ok).collect();
    runtime.block_on(admit(bodies));
}

async fn admit(bodies: Vec<Value>) {
    let clock: clock::SharedClock = Arc::new(clock::Virtual::new("2026-01-01T00:00:00Z".parse().expect("a time"), 1));
    let store = Store::open(Memory::new().engine(), clock.clone(), Limits::default()).await.expect("memory opens");
    let admission = Admission::new(store, clock, Host::default());
    let caller = Caller::new(Identity::system("daemon"), "fuzz");
    let options = WriteOptions::default();
    let served = Served { kind: Namespace::INFO, view: None };
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}});
    admission.create(&caller, served, "", namespace, &options).await.expect("a namespace");
    let served = Served { kind: App::INFO, view: None };
    let target = Target { served, namespace: "default", name: "a", subresource: None };
    for (i, body) in bodies.into_iter().enumerate() {
        let is_apply = i % 2 == 0 && !body.is_array();
        let patch = match body {
            body if body.is_array() => Patch::Json(body),
            body if is_apply => Patch::Apply { object: body, force: true },
            body => Patch::Merge(body),
        };
        let Ok(done) = admission.patch(&caller, &target, patch.clone(), &options).await else { continue };
        let object = done.object.value();
        assert!(done.object.typed::<App>().is_some(), "{object}");
        for entry in object["metadata"]["managedFields"].as_array().into_iter().flatten() {
            assert!(field_set(&entry["fieldsV1"]).is_some(), "{entry}");
        }
        if is_apply {
            let again = admission.patch(&caller, &target, patch, &options).await.expect("what was accepted before");
            assert_eq!(again.outcome, Outcome::Unchanged, "{object} became {}", again.object.value());
        }
    }
}

/// Files of other programs: they are refused, or become manifests with a name and notes of one line each.
fn imported(data: &[u8], places: &[&str], read: impl Fn(&Path, &Files) -> Imported<Value>) {
    let Some(text) = text(data) else { return };
    let mut files = Files::none();
    places.iter().for_each(|place| files.give(*place, text));
    let notes: Vec<String> = match read(Path::new(places[0]), &files) {
        Ok(report) => {
            for part in &report.parts {
                let printed = part.made.to_string();
                assert!(part.made["metadata"]["name"].is_string() && printed.len() < MUCH, "{printed}");
            }
            report.all().map(ToString::to_string).collect()
        }
        Err(refusals) => {
            assert!(!refusals.is_empty(), "refused without a reason");
            refusals.iter().map(ToString::to_string).collect()
        }
    };
    assert!(notes.iter().all(|note| !note.contains(char::is_control)), "{notes:?}");
}

/// A service, and the timer that starts it.
pub fn import_systemd(data: &[u8]) {
    imported(data, &["/u/a.service", "/u/a.timer", "/u/a.service.d/b.conf"], |_, files| {
        import::systemd::read(&["/u".into()], &[], files)
    });
}

/// A configuration that includes itself.
pub fn import_supervisor(data: &[u8]) {
    imported(data, &["/s/a.conf", "/s/b.conf"], import::supervisor::read);
}

/// An ecosystem file.
pub fn import_pm2(data: &[u8]) {
    let asked = import::pm2::Asked { environment: Some("b".to_owned()), dir: "/p".into() };
    imported(data, &["/p/a"], |path, files| import::pm2::read(path, &asked, files));
}

/// A Compose file that is also its file of variables.
pub fn import_compose(data: &[u8]) {
    let asked = import::compose::Asked { dir: "/p".into(), profiles: vec!["*".to_owned()], ..Default::default() };
    imported(data, &["/p/a", "/p/b.env"], |path, files| import::compose::read(&[path.to_path_buf()], &asked, files));
}

/// Manifests of Kubernetes.
pub fn import_kubernetes(data: &[u8]) {
    imported(data, &["/k"], |path, files| import::kubernetes::read(&[path.to_path_buf()], files));
}

/// A Procfile that is also its file of variables.
pub fn import_procfile(data: &[u8]) {
    let asked = import::procfile::Asked { dir: "/p".into(), ..Default::default() };
    imported(data, &["/p/a", "/p/.env"], |path, files| import::procfile::read(path, &asked, files));
}

/// A crontab, of a user or of the system.
pub fn import_crontab(data: &[u8]) {
    let system = data.first().is_some_and(|byte| byte % 2 == 0);
    imported(data, &["/c"], |path, files| import::crontab::read(path, system, files));
}
