//! An ecosystem file of PM2, as JSON or YAML; what a `.config.js` exports has been printed as JSON by node.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{
    super::{
        draft::{Draft, literal},
        files::Files,
        names::Names,
        quantity,
        report::{Fate, Outcome, Part, Refusal, Report, Spot, brief},
        tree::{Tree, entries, step, text, texts},
    },
    LONGEST_NAME,
    words::PM2,
};

/// What the command line says beside the file.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// `env_NAME` counts, too.
    pub environment: Option<String>,
    /// The directory of the file, absolute.
    pub dir: PathBuf,
}

/// Reads an ecosystem file.
///
/// # Errors
/// Everything that cannot be read.
pub fn read(path: &Path, asked: &Asked, files: &Files) -> Outcome<Value> {
    let whole = super::text(path, files)?;
    // A list, or a single App, will do for a mapping with `apps`.
    let is_list = whole.trim_start().starts_with('[');
    let shown = if is_list { format!("{{\"apps\": {whole}}}") } else { whole };
    let trees = Tree::of_text(&shown, &Spot::new(path, 0))?;
    let [tree] = &trees[..] else {
        return Err(vec![Refusal::new(&Spot::new(path, 0), "an ecosystem file is one mapping with `apps`")]);
    };
    let value = tree.value();
    let mut report = Report::default();
    let (apps, at) = match value.get("apps") {
        Some(Value::Array(apps)) => (apps.clone(), "apps"),
        Some(app @ Value::Object(_)) => (vec![app.clone()], ""),
        _ if value.get("script").is_some() => (vec![value.clone()], ""),
        _ => return Err(vec![Refusal::new(&tree.spot("apps"), "there are no `apps` in it")]),
    };
    super::too_many(apps.len(), "apps", &tree.spot("apps"))?;
    if value.get("apps").is_some() {
        for (key, _) in entries(&value).filter(|(key, _)| *key != "apps") {
            let remark = match key.as_str() {
                "deploy" => "nothing is deployed over ssh; a Source follows a git repository".to_owned(),
                _ => PM2.stranger("file", key),
            };
            report.note(&tree.spot(key), key, Fate::Dropped, &remark);
        }
    }
    let (mut names, mut refusals) = (Names::default(), Vec::new());
    for (number, app) in apps.iter().enumerate() {
        let path = match (at, value.get("apps")) {
            ("apps", _) => format!("apps[{number}]"),
            (_, Some(_)) => "apps".to_owned(),
            _ => String::new(),
        };
        match one(app, &path, tree, asked, &mut names) {
            Ok(part) => report.parts.push(part),
            Err(more) => refusals.extend(more),
        }
    }
    if refusals.is_empty() { Ok(report) } else { Err(refusals) }
}

fn one(app: &Value, path: &str, tree: &Tree, asked: &Asked, names: &mut Names) -> Result<Part<Value>, Vec<Refusal>> {
    let spot = |key: &str| tree.spot(&step(path, key));
    let Some(script) = app["script"].as_str().or(app["exec"].as_str()) else {
        return Err(vec![Refusal::new(&tree.spot(path), "an app has a `script`")]);
    };
    let file = Path::new(script).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let wanted = app["name"].as_str().map_or(file, str::to_owned);
    let mut draft = Draft::new("App", &names.take(&wanted, LONGEST_NAME));
    if draft.name != wanted {
        draft.nearly(&spot("name"), "name", &format!("its name became `{}`", draft.name));
    }
    let mut refusals = Vec::new();
    match command(app, script) {
        Ok(words) => draft.put("process.command", words),
        Err(why) => refusals.push(Refusal::new(&spot("args"), why)),
    }
    let cwd = app["cwd"].as_str().map_or(asked.dir.clone(), |cwd| asked.dir.join(cwd));
    draft.put("process.workingDir", super::plain_path(&cwd));
    // PM2 asks by SIGINT, and kills after 1.6 s.
    draft.put("stopSignal", "SIGINT");
    for (key, value) in entries(app) {
        let spot = spot(key);
        if let Err(why) = setting(key, value, &spot, asked, &mut draft) {
            refusals.push(Refusal::new(&spot, format!("`{key}` of `{wanted}`: {why}")));
        }
    }
    // What an environment of that name says goes before what all say.
    if let Some(name) = &asked.environment {
        let key = format!("env_{name}");
        for (name, value) in entries(&app[&key]) {
            draft.env(name, &text(value).unwrap_or_default());
        }
    }
    if refusals.is_empty() { Ok(draft.done()) } else { Err(refusals) }
}

/// What PM2 would run: an interpreter by the script's ending, or none.
fn command(app: &Value, script: &str) -> Result<Vec<String>, String> {
    let split = |value: &Value| match value {
        Value::String(line) => shlex::split(line).ok_or_else(|| format!("a quote of `{}` is not closed", brief(line))),
        other => Ok(texts(other)),
    };
    let interpreter = text(&app["exec_interpreter"]).or_else(|| text(&app["interpreter"]));
    let usual = || match Path::new(script).extension().and_then(|e| e.to_str()) {
        Some("js" | "mjs" | "cjs") => "node",
        Some("ts" | "tsx") => "bun",
        Some("py") => "python3",
        Some("sh") => "bash",
        Some("rb") => "ruby",
        Some("php") => "php",
        Some("pl") => "perl",
        _ => "none",
    };
    let interpreter = interpreter.unwrap_or_else(|| usual().to_owned());
    let mut words = Vec::new();
    if interpreter != "none" {
        words.push(interpreter);
        for key in ["interpreter_args", "interpreterArgs", "node_args"] {
            words.extend(split(&app[key])?);
        }
    }
    words.push(script.to_owned());
    words.extend(split(&app["args"])?);
    Ok(words.iter().map(|word| literal(word)).collect())
}

fn setting(key: &str, value: &Value, spot: &Spot, asked: &Asked, draft: &mut Draft) -> Result<(), String> {
    let millis = || match value {
        Value::Number(number) => number.as_u64().ok_or("no number of milliseconds".to_owned()),
        other => other
            .as_str()
            .and_then(|t| t.parse().ok().or_else(|| quantity::duration(t)))
            .ok_or("no time such as 500 or 10s".to_owned()),
    };
    let number = || value.as_u64().or_else(|| value.as_str()?.parse().ok()).ok_or("no number".to_owned());
    match key {
        "name" | "script" | "exec" | "args" | "interpreter" | "exec_interpreter" | "interpreter_args"
        | "interpreterArgs" | "node_args" | "cwd" => draft.carried(spot, key),
        "name_prefix" => draft.nearly(spot, key, "names are as they are written: write it into `name`"),
        "port" => {
            draft.push("ports", json!({"name": "http", "containerPort": number()?}));
            draft.nearly(spot, key, "`$PORT` of the process, and an endpoint that others are told of");
        }
        "instances" => match value.as_i64().or_else(|| value.as_str()?.parse().ok()) {
            Some(count) if (1..=10_000).contains(&count) => draft.set(spot, key, "replicas", count),
            _ => draft.nearly(
                spot,
                key,
                "one for each core is not known beforehand: one, until `replicas` says how many",
            ),
        },
        "exec_mode" if value.as_str().is_some_and(|mode| mode.starts_with("cluster")) => {
            draft.nearly(spot, key, "instances do not share a port: give each one of its own (`ports`, `$PORT`)");
        }
        "exec_mode" => draft.carried(spot, key),
        "env" => {
            for (name, value) in entries(value) {
                draft.env(name, &text(value).unwrap_or_default());
            }
            draft.carried(spot, key);
        }
        _ if key.starts_with("env_") => match asked.environment.as_deref() == key.strip_prefix("env_") {
            true => draft.carried(spot, key),
            false => draft.dropped(spot, key, "`--env NAME` takes it"),
        },
        "max_memory_restart" => match text(value).as_deref().and_then(quantity::bytes) {
            Some(size) => {
                draft.put("resources.limits.memory", size);
                draft.nearly(
                    spot,
                    key,
                    "a limit that the kernel keeps: beyond it the instance is ended and started again",
                );
            }
            None => return Err("no size such as 300M".to_owned()),
        },
        "autorestart" if value == false => draft.set(spot, key, "restartPolicy", "Never"),
        "autorestart" => draft.carried(spot, key),
        "max_restarts" => {
            draft.put("restart.maxRestarts", number()?.min(1_000_000));
            draft.nearly(spot, key, "counts restarts without a stable run (`resetAfter`) between them");
        }
        "min_uptime" => draft.set(spot, key, "restart.backoff.resetAfter", quantity::go(millis()?)),
        "restart_delay" => {
            let pause = quantity::go(millis()?);
            draft.put("restart.backoff.initial", pause.clone());
            draft.put("restart.backoff.max", pause);
            draft.nearly(spot, key, "the first restart after a stable run is immediate");
        }
        "exp_backoff_restart_delay" => {
            draft.put("restart.backoff.initial", quantity::go(millis()?));
            draft.nearly(spot, key, "the pause doubles, up to `max`");
        }
        "kill_timeout" => {
            draft.set(spot, key, "terminationGracePeriodSeconds", quantity::seconds(millis()?).min(86400))
        }
        "stop_exit_codes" => {
            for code in texts(value) {
                draft.spec["restart"]["exitCodes"][code] = json!("Stop");
            }
            draft.carried(spot, key);
        }
        "uid" | "user" | "username" => draft.set(spot, key, "process.user", text(value)),
        "gid" => draft.set(spot, key, "process.group", text(value)),
        "namespace" => {
            draft.label("pm2-namespace", &super::super::names::label(value.as_str().unwrap_or_default(), 63));
            draft.nearly(spot, key, "a label; `-n` puts all into a namespace");
        }
        "cron_restart" | "cron" => draft.dropped(spot, key, "a Schedule can run `appm restart` for it"),
        "watch" if *value == json!(false) => draft.carried(spot, key),
        "watch" | "ignore_watch" | "watch_delay" | "watch_options" => {
            draft.dropped(spot, key, "files are not watched; `appm restart` restarts one instance after another");
        }
        "disable_logs" if *value == json!(true) => {
            draft.nearly(spot, key, "output is kept all the same, within `logs`")
        }
        "out_file" | "out" | "out_log" | "output" | "error_file" | "error" | "err" | "err_file" | "err_log"
        | "log_file" | "log" | "merge_logs" | "combine_logs" | "log_date_format" | "time" | "log_type"
        | "disable_logs" | "write" => draft.nearly(spot, key, "`appm logs` has the output, with its times"),
        "pid_file" | "pid" => draft.nearly(spot, key, "`appm get instances` has the number of each process"),
        "wait_ready" | "listen_timeout" | "shutdown_with_message" => {
            draft.dropped(spot, key, "messages of node's are not understood; a `readinessProbe` says when it is ready");
        }
        "instance_var" | "increment_var" => draft.dropped(spot, key, "an instance's number is `$(APPM_ORDINAL)`"),
        "treekill" if *value == json!(false) => {
            draft.nearly(spot, key, "whatever an instance leaves behind is killed with it")
        }
        "treekill" | "kill_retry_time" => draft.carried(spot, key),
        "autostart" if *value == json!(false) => draft.set(spot, key, "suspend", true),
        "autostart" => draft.carried(spot, key),
        "source_map_support" | "disable_source_map_support" => {
            draft.dropped(spot, key, "node's own: `node_args: --enable-source-maps`");
        }
        "filter_env" => draft.carried(spot, key),
        "append_env_to_name" => {
            draft.dropped(spot, key, "names are as they are written; `-n` puts all into a namespace")
        }
        "post_update" | "install_url" => {
            draft.dropped(spot, key, "nothing is built; a Workflow can, before it applies")
        }
        "vizion" => draft.dropped(spot, key, "a Source knows the revision of what it applied"),
        "pmx" | "automation" | "trace" | "disable_trace" | "deep_monitoring" | "event_loop_inspector" | "v8" | "io" => {
            draft.dropped(spot, key, "of PM2's own monitoring, which looks into node; `appm top` shows what it takes");
        }
        "force" | "windowsHide" | "execute_command" => draft.dropped(spot, key, "of PM2's own command line"),
        _ => draft.dropped(spot, key, &PM2.stranger("app", key)),
    }
    Ok(())
}
