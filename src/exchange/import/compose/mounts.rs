//! What a service sees of the machine's files: volumes, directories, configs, secrets.

use std::path::Path;

use serde_json::{Value, json};

use super::{
    super::super::{report::brief, tree::text},
    Project,
    service::Service,
};

impl Service<'_> {
    pub(super) fn volumes(&mut self, value: &Value) {
        let list = value.as_array().cloned().unwrap_or_default();
        for (at, item) in list.iter().enumerate() {
            let key = format!("volumes[{at}]");
            let spot = self.spot(&key);
            let (kind, source, target, mode) = match item {
                Value::Object(_) => {
                    let word = |field: &str| text(&item[field]).unwrap_or_default();
                    let mode = if item["read_only"] == true { "ro" } else { "" };
                    (word("type"), word("source"), word("target"), mode.to_owned())
                }
                other => {
                    let whole = text(other).unwrap_or_default();
                    let mut parts = whole.split(':').map(str::to_owned);
                    let (first, second, third) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
                    match second {
                        Some(target) => (String::new(), first, target, third.unwrap_or_default()),
                        None => ("volume".to_owned(), String::new(), first, String::new()),
                    }
                }
            };
            self.strangers(&key, "mount", item);
            self.strangers(&format!("{key}.bind"), "bind", &item["bind"]);
            self.strangers(&format!("{key}.volume"), "volume", &item["volume"]);
            let whole = "a mount is a directory or a volume as it is";
            self.without(&format!("{key}.bind"), &item["bind"], &["propagation", "recursive", "selinux"], whole);
            self.without(&format!("{key}.volume"), &item["volume"], &["nocopy", "subpath", "labels"], whole);
            let is_path = source.starts_with(['/', '.', '~']);
            if kind == "tmpfs" || kind == "npipe" || kind == "cluster" || kind == "image" {
                self.draft.dropped(&spot, "volumes", "volumes and directories are what a container can see");
                continue;
            }
            if !target.starts_with('/') {
                self.refuse(&key, format!("`{}` is no absolute path in the container", brief(&target)));
                continue;
            }
            let source = match () {
                () if source.starts_with('~') => {
                    self.refuse(&key, "`~` is the home directory of whoever starts Compose: write the path");
                    continue;
                }
                () if is_path || kind == "bind" => super::super::plain_path(&self.project.asked.dir.join(&source)),
                () if source.is_empty() => {
                    self.draft.nearly(&spot, "volumes", "a volume without a name got one, and is kept");
                    format!("{}_{}{}", self.project.name, self.draft.name, target.replace('/', "_"))
                }
                () => volume_name(&source, self.project),
            };
            let read_only = mode.split(',').any(|option| option == "ro");
            let other: Vec<&str> = mode
                .split(',')
                .filter(|o| !matches!(*o, "ro" | "rw" | "" | "z" | "Z" | "cached" | "delegated" | "consistent"))
                .collect();
            let mut mount = json!({"source": &source, "target": target});
            if read_only {
                mount["readOnly"] = json!(true);
            }
            self.draft.push("container.mounts", mount);
            let there = Path::new(&source);
            let is_missing = source.starts_with('/') && !self.project.files.is_there(there);
            match other.is_empty() {
                true if is_missing => {
                    let remark =
                        format!("`{}` is not there now: make it; Compose makes an empty directory", brief(&source));
                    self.draft.nearly(&spot, "volumes", &remark);
                }
                true => self.draft.carried(&spot, "volumes"),
                false => self.draft.nearly(&spot, "volumes", &format!("without {}", other.join(","))),
            }
        }
    }

    /// Configs and secrets: files of this machine that the container sees.
    pub(super) fn files(&mut self, key: &str, value: &Value) {
        let list = value.as_array().cloned().unwrap_or_default();
        for (at, item) in list.iter().enumerate() {
            let path = format!("{key}[{at}]");
            let spot = self.spot(&path);
            let Some(source) = item.as_str().or(item["source"].as_str()) else {
                self.refuse(&path, "a name, or a mapping with `source`");
                continue;
            };
            self.strangers(&path, "file_mount", item);
            self.without(&path, item, &["uid", "gid", "mode"], "the file has its own owner and mode");
            let usual = if key == "secrets" { format!("/run/secrets/{source}") } else { format!("/{source}") };
            let target = match item["target"].as_str() {
                Some(target) if target.starts_with('/') => target.to_owned(),
                Some(target) => format!("/run/secrets/{target}"),
                None => usual,
            };
            match self.project.top[key][source]["file"].as_str() {
                Some(file) => {
                    let file = super::super::plain_path(&self.project.asked.dir.join(file));
                    self.draft.push("container.mounts", json!({"source": file, "target": target, "readOnly": true}));
                    self.draft.carried(&spot, key);
                }
                None => self.draft.dropped(&spot, source, "only those of a file are carried over, as a mount of it"),
            }
        }
    }
}

/// The engine's name of a volume.
fn volume_name(source: &str, project: &Project<'_>) -> String {
    let top = &project.top["volumes"][source];
    match top["name"].as_str() {
        Some(name) => name.to_owned(),
        None if top["external"] == true => source.to_owned(),
        None => format!("{}_{source}", project.name),
    }
}
