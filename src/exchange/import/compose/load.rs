//! The files of a project as one: files that go over one another, what they `include`, what their services `extend`.
//!
//! ```text
//! a file ──► its variables are put in ──► its paths begin at its own directory ──► what it includes beside it ──► what its services extend beneath them
//! ```
//!
//! Each place of what comes of it is known by its own file and line ([`Origin`]). How many files there are, how deep they lie in each other and how
//! much they say together is bounded: a small file can name a big one often.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    rc::Rc,
};

use serde_json::{Map, Value, json};

use super::super::super::{
    env_file,
    files::Files,
    report::{Fate, Refusal, Report, Spot, brief},
    tree::{Tree, entries, step, text, texts},
};
use super::{super::words::COMPOSE, interpolate, merge, top_level};

/// How deep files may include, and services extend, one another.
const DEEPEST: usize = 16;
/// The most times that a file is included or gone over.
const MOST_FILES: usize = 200;
/// The most values that all of it may have.
const MOST_VALUES: usize = 1 << 20;

/// Variables by name.
pub(super) type Variables = BTreeMap<String, String>;

/// What all files say together.
#[derive(Clone, Default)]
pub(super) struct Model {
    /// Services, volumes, networks, configs, secrets.
    pub(super) value: Value,
    /// Where each service is written.
    pub(super) origins: BTreeMap<String, Origin>,
    /// Where its services begin, in the first file.
    pub(super) start: Option<Spot>,
    /// Services that cannot be put together, each with the reasons in [`Loader::refusals`].
    pub(super) broken: BTreeSet<String>,
}

/// Where a service is written: by itself, and by what it extends and goes over.
#[derive(Clone, Default)]
pub(super) struct Origin(Vec<Layer>);

#[derive(Clone)]
struct Layer {
    tree: Rc<Tree>,
    path: String,
    keys: BTreeSet<String>,
}

impl Origin {
    fn new(tree: &Rc<Tree>, name: &str, body: &Value) -> Self {
        let keys = entries(body).map(|(key, _)| key.clone()).collect();
        Self(vec![Layer { tree: tree.clone(), path: step("services", name), keys }])
    }

    /// Where a setting of it stands; the whole of it, if the path is empty.
    pub(super) fn spot(&self, path: &str) -> Spot {
        let mine = |layer: &&Layer| {
            let key = match path.strip_prefix('[') {
                Some(rest) => rest.split(']').next(),
                None => path.split(['.', '[']).next(),
            };
            key.is_some_and(|key| layer.keys.contains(key))
        };
        let layer = self.0.iter().find(mine).or(self.0.first()).expect("every service is written somewhere");
        match path {
            "" => layer.tree.spot(&layer.path),
            path if path.starts_with('[') => layer.tree.spot(&format!("{}{path}", layer.path)),
            path => layer.tree.spot(&format!("{}.{path}", layer.path)),
        }
    }

    fn over(&self, base: &Self) -> Self {
        Self(self.0.iter().chain(&base.0).cloned().collect())
    }
}

/// One file while its services are put together.
struct Page<'a> {
    tree: Rc<Tree>,
    path: PathBuf,
    dir: &'a Path,
    variables: &'a Variables,
    model: Model,
    /// True if the variables and paths of its services are put in already.
    is_whole: bool,
}

/// Reads files of Compose.
pub(super) struct Loader<'a> {
    pub(super) files: &'a Files,
    pub(super) report: &'a mut Report<Value>,
    /// What is wrong with single services: the others are looked at, too.
    pub(super) refusals: Vec<Refusal>,
    trees: BTreeMap<PathBuf, Rc<Tree>>,
    read: usize,
    values: usize,
}

impl<'a> Loader<'a> {
    pub(super) fn new(files: &'a Files, report: &'a mut Report<Value>) -> Self {
        Self { files, report, refusals: Vec::new(), trees: BTreeMap::new(), read: 0, values: 0 }
    }

    /// Files over one another, with the paths in them from `dir`.
    pub(super) fn all(
        &mut self,
        paths: &[PathBuf],
        dir: &Path,
        variables: &Variables,
        chain: &mut Vec<PathBuf>,
    ) -> Result<Model, Vec<Refusal>> {
        let mut all: Option<Model> = None;
        for path in paths {
            let page = self.page(path, dir, variables, chain)?;
            all = Some(match all {
                None => page,
                Some(mut below) => {
                    below.value = merge::file(&below.value, &page.value);
                    for (name, origin) in page.origins {
                        let origin = below.origins.get(&name).map_or_else(|| origin.clone(), |base| origin.over(base));
                        below.origins.insert(name, origin);
                    }
                    below.broken.extend(page.broken);
                    self.weigh(&below.value, path)?;
                    below
                }
            });
        }
        Ok(all.unwrap_or_default())
    }

    fn page(
        &mut self,
        path: &Path,
        dir: &Path,
        variables: &Variables,
        chain: &mut Vec<PathBuf>,
    ) -> Result<Model, Vec<Refusal>> {
        let here = Spot::new(path, 0);
        self.read += 1;
        if self.read > MOST_FILES {
            return Err(vec![Refusal::new(&here, format!("more than {MOST_FILES} files are included"))]);
        }
        let tree = self.tree(path)?;
        let mut value = tree.value();
        super::super::too_many(entries(&value["services"]).count(), "services", &tree.spot("services"))?;
        self.weigh(&value, path)?;
        interpolate::all(&mut value, "", &tree, variables, self.report)?;
        let is_first = chain.is_empty();
        top_level(&value, &tree, is_first, self.report);
        for kind in ["services", "configs", "secrets"] {
            for (_, body) in value.get_mut(kind).and_then(Value::as_object_mut).into_iter().flatten() {
                match kind {
                    "services" => from(dir, body),
                    _ => rooted(dir, body.get_mut("file")),
                }
            }
        }
        let included = value.as_object_mut().and_then(|map| map.shift_remove("include")).unwrap_or_default();
        let own = |(name, body)| (String::clone(name), Origin::new(&tree, name, body));
        let origins = entries(&value["services"]).map(own).collect();
        let mut refusals = Vec::new();
        let start = Some(tree.spot("services"));
        // Of a path as it was typed: in the directory that all begins at.
        let whole = dir.join(path.file_name().unwrap_or_default());
        let whole = if path.is_absolute() { path.to_owned() } else { whole };
        let mut page = Page {
            tree: tree.clone(),
            path: whole.clone(),
            dir,
            variables,
            model: Model { value, origins, start, broken: BTreeSet::new() },
            is_whole: true,
        };
        chain.push(whole);
        for (at, item) in listed(&included).iter().enumerate() {
            let spot = tree.spot(&if included.is_array() { format!("include[{at}]") } else { "include".to_owned() });
            let done = self.include(item, &spot, &page, chain);
            refusals.extend(done.and_then(|model| beside(&mut page.model, model, &spot)).err().into_iter().flatten());
        }
        chain.pop();
        if !refusals.is_empty() {
            return Err(refusals);
        }
        let names: Vec<String> = entries(&page.model.value["services"]).map(|(name, _)| name.clone()).collect();
        let mut services = Map::new();
        for name in names {
            match self.extended(&name, &mut page, &mut Vec::new()) {
                Ok((body, origin)) => {
                    services.insert(name.clone(), body);
                    page.model.origins.insert(name, origin);
                }
                Err(more) => {
                    services.insert(name.clone(), page.model.value["services"][&name].clone());
                    page.model.broken.insert(name);
                    self.refusals.extend(more);
                }
            }
        }
        if !services.is_empty() {
            page.model.value["services"] = Value::Object(services);
        }
        Ok(page.model)
    }

    /// What one entry of `include` brings.
    fn include(
        &mut self,
        item: &Value,
        spot: &Spot,
        page: &Page<'_>,
        chain: &mut Vec<PathBuf>,
    ) -> Result<Model, Vec<Refusal>> {
        let refused = |why: String| Err(vec![Refusal::new(spot, why)]);
        let named = if item.is_string() { texts(item) } else { texts(&item["path"]) };
        if named.is_empty() {
            return refused("`include` is a list of paths, or of mappings with `path`".to_owned());
        }
        if let Some(far) = named.iter().find(|path| path.contains("://") || path.starts_with("git@")) {
            let why = "is no file of this machine: fetch it, or give what `docker compose config` prints";
            return refused(format!("`{}` {why}", brief(far)));
        }
        for (key, _) in entries(item).filter(|(key, _)| !COMPOSE.knows("include", key)) {
            let told = COMPOSE.stranger("include", key);
            self.report.note(spot, &format!("include.{key}"), Fate::Dropped, &told);
        }
        let paths: Vec<PathBuf> = named.iter().map(|path| below(page.dir, path)).collect();
        if let Some(again) = paths.iter().find(|path| chain.contains(path)) {
            let way: Vec<String> = chain.iter().chain([again]).map(|path| path.display().to_string()).collect();
            return refused(format!("`include` goes in a circle: {}", way.join(" → ")));
        }
        if chain.len() >= DEEPEST {
            return refused(format!("more than {DEEPEST} files include each other"));
        }
        let beside_it = || paths[0].parent().unwrap_or(Path::new("/")).to_owned();
        let dir = text(&item["project_directory"]).map_or_else(beside_it, |dir| below(page.dir, &dir));
        let env_files: Vec<PathBuf> = texts(&item["env_file"]).iter().map(|path| below(page.dir, path)).collect();
        let mut variables = self.variables(&env_files, &dir)?;
        // What is known outside goes before what the file brings.
        variables.extend(page.variables.clone());
        self.report.note(spot, "include", Fate::Carried, "");
        self.all(&paths, &dir, &variables, chain)
    }

    /// A service with what it extends beneath it, and where all of it is written.
    fn extended(
        &mut self,
        name: &str,
        page: &mut Page<'_>,
        chain: &mut Vec<(PathBuf, String)>,
    ) -> Result<(Value, Origin), Vec<Refusal>> {
        let mut body = page.model.value["services"][name].clone();
        let mut origin = page.model.origins.get(name).cloned();
        if !page.is_whole {
            interpolate::all(&mut body, &step("services", name), &page.tree, page.variables, self.report)?;
            from(page.dir, &mut body);
            origin = Some(Origin::new(&page.tree, name, &body));
        }
        let origin = origin.unwrap_or_else(|| Origin::new(&page.tree, name, &body));
        let extends = body.as_object_mut().and_then(|map| map.shift_remove("extends")).unwrap_or_default();
        let Some(base) = extends.as_str().or(extends["service"].as_str()) else { return Ok((body, origin)) };
        let spot = origin.spot("extends");
        self.report.note(&spot, "extends", Fate::Carried, "");
        for (key, _) in entries(&extends).filter(|(key, _)| !COMPOSE.knows("extends", key)) {
            self.report.note(&spot, &format!("extends.{key}"), Fate::Dropped, &COMPOSE.stranger("extends", key));
        }
        chain.push((page.path.clone(), name.to_owned()));
        let file = extends["file"].as_str().map(|file| below(page.dir, file)).filter(|file| *file != page.path);
        let next = (file.clone().unwrap_or_else(|| page.path.clone()), base.to_owned());
        let refused = |why: String| Err(vec![Refusal::new(&spot, why)]);
        if chain.contains(&next) {
            let way: Vec<&str> = chain.iter().chain([&next]).map(|(_, name)| name.as_str()).collect();
            return refused(format!("`extends` goes in a circle: {}", way.join(" → ")));
        }
        if chain.len() > DEEPEST {
            return refused(format!("more than {DEEPEST} services extend each other"));
        }
        let there = match &file {
            Some(file) => self.tree(file)?.value(),
            None => Value::Null,
        };
        let services = if file.is_some() { &there["services"] } else { &page.model.value["services"] };
        if services.get(base).is_none() {
            let of = file.map_or("this file".to_owned(), |file| format!("`{}`", file.display()));
            return refused(format!("it extends `{}`, which is no service of {of}", brief(base)));
        }
        let (below, base_origin) = match &file {
            None => self.extended(base, page, chain)?,
            Some(file) => {
                let mut other = Page {
                    tree: self.tree(file)?,
                    path: file.clone(),
                    dir: file.parent().unwrap_or(Path::new("/")),
                    variables: page.variables,
                    model: Model { value: there, ..Model::default() },
                    is_whole: false,
                };
                self.extended(base, &mut other, chain)?
            }
        };
        let whole = merge::service(&below, &body);
        self.weigh(&whole, &page.path)?;
        Ok((whole, origin.over(&base_origin)))
    }

    /// The variables of files, or of `.env` in a directory.
    pub(super) fn variables(&mut self, env_files: &[PathBuf], dir: &Path) -> Result<Variables, Vec<Refusal>> {
        let beside = dir.join(".env");
        let usual = if self.files.is_file(&beside) { vec![beside] } else { Vec::new() };
        let mut all = BTreeMap::new();
        for path in if env_files.is_empty() { &usual } else { env_files } {
            for variable in env_file::read(&super::super::text(path, self.files)?, &Spot::new(path, 0))? {
                self.report.note(&variable.spot, &variable.name, Fate::Carried, "");
                all.insert(variable.name, variable.value);
            }
        }
        Ok(all)
    }

    fn tree(&mut self, path: &Path) -> Result<Rc<Tree>, Vec<Refusal>> {
        if let Some(tree) = self.trees.get(path) {
            return Ok(tree.clone());
        }
        let mut trees = Tree::all(path, self.files)?;
        let whole = |trees: &Vec<Tree>| trees.len() == 1 && trees[0].value().is_object();
        if !whole(&trees) {
            return Err(vec![Refusal::new(&Spot::new(path, 0), "a Compose file is one mapping with `services:`")]);
        }
        let tree = Rc::new(trees.remove(0));
        self.trees.insert(path.to_owned(), tree.clone());
        Ok(tree)
    }

    /// Counts the values of what was put together.
    fn weigh(&mut self, value: &Value, path: &Path) -> Result<(), Vec<Refusal>> {
        self.values += weight(value);
        if self.values <= MOST_VALUES {
            return Ok(());
        }
        let why = format!("with what is included and extended there are more than {MOST_VALUES} values");
        Err(vec![Refusal::new(&Spot::new(path, 0), why)])
    }
}

/// What was included, beside what is there; nothing may be both.
fn beside(model: &mut Model, more: Model, spot: &Spot) -> Result<(), Vec<Refusal>> {
    let mut refusals = Vec::new();
    for kind in ["services", "volumes", "networks", "configs", "secrets"] {
        for (name, body) in entries(&more.value[kind]) {
            match model.value[kind].get(name) {
                Some(there) if there == body => {}
                Some(_) => {
                    let why = format!("`{kind}.{name}` is in this file and in what it includes, and is not the same");
                    refusals.push(Refusal::new(spot, why));
                }
                None => {
                    if !model.value[kind].is_object() {
                        model.value[kind] = json!({});
                    }
                    model.value[kind][name] = body.clone();
                }
            }
        }
    }
    model.broken.extend(more.broken);
    for (name, origin) in more.origins {
        model.origins.entry(name).or_insert(origin);
    }
    if refusals.is_empty() { Ok(()) } else { Err(refusals) }
}

fn weight(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(weight).sum::<usize>(),
        Value::Object(map) => 1 + map.values().map(weight).sum::<usize>(),
        _ => 1,
    }
}

fn listed(value: &Value) -> Vec<Value> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(list) => list.clone(),
        other => vec![other.clone()],
    }
}

/// A path from a directory.
fn below(dir: &Path, path: &str) -> PathBuf {
    PathBuf::from(super::super::plain_path(&dir.join(path)))
}

fn rooted(dir: &Path, path: Option<&mut Value>) {
    if let Some(Value::String(path)) = path {
        *path = below(dir, path).display().to_string();
    }
}

/// The paths in a service, from its file's directory.
fn from(dir: &Path, body: &mut Value) {
    let Some(body) = body.as_object_mut() else { return };
    match body.get_mut("env_file") {
        Some(Value::Array(list)) => {
            for item in list {
                rooted(dir, Some(item).filter(|item| item.is_string()));
            }
        }
        other => rooted(dir, other),
    }
    for item in body.get_mut("env_file").and_then(Value::as_array_mut).into_iter().flatten() {
        rooted(dir, item.get_mut("path"));
    }
    for item in body.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        if item.is_object() {
            let is_path =
                |source: &str| source.starts_with('.') || (item["type"] == "bind" && !source.starts_with('~'));
            if item["source"].as_str().is_some_and(is_path) {
                rooted(dir, item.get_mut("source"));
            }
        } else if let Some((source, rest)) = item.as_str().and_then(|text| text.split_once(':'))
            && source.starts_with('.')
        {
            *item = json!(format!("{}:{rest}", below(dir, source).display()));
        }
    }
}
