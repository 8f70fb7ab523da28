//! A fleet of manifests under a random editor: after each change the store is what a model says, which knows files only.
//!
//! The editor writes in place and by renaming, in halves, truncates, deletes, renames files and directories, moves objects from file to file, swaps
//! links as Kubernetes does, breaks manifests and declares objects twice; and the server is killed between. `SOURCES_SEED` and
//! `SOURCES_STEPS` make other and longer runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use super::{appm, config, configs, said, synced};
use crate::harness::{Dice, setting, wait_for};

/// What is in a file.
#[derive(Clone, Debug, PartialEq)]
enum Contents {
    Objects(BTreeMap<String, String>),
    /// What nobody can read.
    Broken,
    /// Nothing: somebody may be about to write it.
    Nothing,
}

impl Contents {
    fn text(&self) -> String {
        match self {
            Self::Objects(objects) if objects.is_empty() => "# nothing any more\n".to_owned(),
            Self::Objects(objects) => {
                let all: Vec<String> = objects.iter().map(|(name, value)| config(name, value)).collect();
                all.join("---\n")
            }
            Self::Broken => config("x", "1") + "spec: [\n",
            Self::Nothing => String::new(),
        }
    }
}

/// The directory as the editor means it, and the store as it has to become of it.
struct Model {
    files: BTreeMap<String, Contents>,
    store: BTreeMap<String, String>,
}

impl Model {
    /// Nothing if no fleet can be made of the files.
    fn declared(&self) -> Option<BTreeMap<String, String>> {
        let mut all = BTreeMap::new();
        for contents in self.files.values() {
            match contents {
                Contents::Broken => return None,
                Contents::Nothing => {}
                Contents::Objects(objects) => {
                    for (name, value) in objects {
                        if all.insert(name.clone(), value.clone()).is_some() {
                            return None;
                        }
                    }
                }
            }
        }
        Some(all)
    }

    /// What the store has to be now, and what the Source has to say.
    fn settle(&mut self) -> &'static str {
        let Some(declared) = self.declared() else { return "InvalidManifest" };
        if !self.files.values().any(|contents| *contents == Contents::Nothing) {
            self.store.clear();
        }
        self.store.extend(declared);
        "Applied"
    }
}

/// Somebody who changes files, one change at a time.
struct Editor {
    dir: PathBuf,
    dice: Dice,
    model: Model,
    step: u64,
}

impl Editor {
    fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    fn some_file(&mut self) -> String {
        let files = ["p.yaml", "q.yaml", "sub/r.yaml", "sub/s.yml", "other/t.yaml"];
        files[self.dice.below(files.len() as u64) as usize].to_owned()
    }

    fn there(&mut self) -> Option<String> {
        let files: Vec<String> =
            self.model.files.keys().filter(|file| *file != "keep.yaml" && *file != "link.yaml").cloned().collect();
        let at = self.dice.below(files.len().max(1) as u64) as usize;
        files.get(at).cloned()
    }

    /// Objects of the file's own, so that they are rarely declared twice by mistake.
    fn objects(&mut self, file: &str) -> BTreeMap<String, String> {
        let own = file.trim_end_matches(".yaml").trim_end_matches(".yml").replace('/', "-");
        let count = 1 + self.dice.below(3);
        (0..count).map(|_| (format!("{own}-{}", self.dice.below(4)), self.step.to_string())).collect()
    }

    /// By a file beside it that is renamed, or in place and in halves: never so that somebody who looks early would have to apply what the
    /// model does not.
    fn write(&mut self, file: &str, contents: Contents) {
        let (path, text) = (self.path(file), contents.text());
        let was_good = self.model.declared().is_some();
        self.model.files.insert(file.to_owned(), contents);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if was_good && self.model.declared().is_some() && self.dice.below(2) == 0 {
            let mut to = fs::File::create(&path).unwrap();
            let (one, two) = text.as_bytes().split_at(text.len() / 2);
            to.write_all(one).unwrap();
            self.dice.pause(60);
            to.write_all(two).unwrap();
            return;
        }
        let aside = ["swp", "yaml~", "4913"][self.dice.below(3) as usize];
        let aside = path.with_file_name(format!("{}{aside}", if self.dice.below(2) == 0 { "." } else { "x-" }));
        fs::write(&aside, text).unwrap();
        fs::rename(aside, path).unwrap();
    }

    /// As Kubernetes mounts a ConfigMap: a directory of another name, and one link that is put elsewhere.
    fn swap(&mut self) {
        let objects = self.objects("link.yaml");
        let (version, contents) = (format!("..{}", self.step), Contents::Objects(objects));
        fs::create_dir(self.path(&version)).unwrap();
        fs::write(self.path(&version).join("link.yaml"), contents.text()).unwrap();
        symlink(&version, self.path("..new")).unwrap();
        fs::rename(self.path("..new"), self.path("..data")).unwrap();
        if self.model.files.insert("link.yaml".to_owned(), contents).is_none() {
            symlink("..data/link.yaml", self.path("link.yaml")).unwrap();
        }
    }

    /// What was changed, for whoever reads a failure.
    fn change(&mut self) -> String {
        let (file, there) = (self.some_file(), self.there());
        match (self.dice.below(12), there) {
            (0, Some(there)) => {
                fs::remove_file(self.path(&there)).unwrap();
                self.model.files.remove(&there);
                format!("{there} is deleted")
            }
            (1, Some(there)) => {
                fs::write(self.path(&there), "").unwrap();
                self.model.files.insert(there.clone(), Contents::Nothing);
                format!("{there} is truncated")
            }
            (2, _) => {
                self.write(&file, Contents::Broken);
                format!("{file} is broken")
            }
            (3, Some(there)) if there != file => {
                fs::create_dir_all(self.path(&file).parent().unwrap()).unwrap();
                fs::rename(self.path(&there), self.path(&file)).unwrap();
                let contents = self.model.files.remove(&there).unwrap();
                self.model.files.insert(file.clone(), contents);
                format!("{there} is renamed to {file}")
            }
            (4, Some(there)) if there != file => {
                let contents = self.model.files[&there].clone();
                self.write(&file, contents);
                format!("{file} is a copy of {there}")
            }
            (5, _) => {
                self.swap();
                "the link leads elsewhere".to_owned()
            }
            (6, _) if self.model.files.remove("link.yaml").is_some() => {
                fs::remove_file(self.path("link.yaml")).unwrap();
                "the link is gone".to_owned()
            }
            (7, _) if self.path("sub").exists() => self.move_directory(),
            _ => {
                let objects = self.objects(&file);
                self.write(&file, Contents::Objects(objects));
                format!("{file} is written")
            }
        }
    }

    /// All of it at once, to where there is nothing.
    fn move_directory(&mut self) -> String {
        drop(fs::remove_dir_all(self.path("other")));
        self.model.files.retain(|file, _| !file.starts_with("other/"));
        fs::rename(self.path("sub"), self.path("other")).unwrap();
        let moved = std::mem::take(&mut self.model.files).into_iter();
        let renamed = |file: String| file.strip_prefix("sub/").map_or(file.clone(), |rest| format!("other/{rest}"));
        self.model.files = moved.map(|(file, contents)| (renamed(file), contents)).collect();
        "sub is renamed to other".to_owned()
    }

    /// The files that are there are the ones that are meant.
    fn audit(&self) {
        fn gather(root: &Path, dir: &Path, found: &mut BTreeSet<String>) {
            for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
                let name = entry.file_name().into_string().unwrap();
                let is_manifest = name.ends_with(".yaml") || name.ends_with(".yml");
                match entry.path().is_dir() {
                    _ if name.starts_with('.') => {}
                    true => gather(root, &entry.path(), found),
                    false if is_manifest => {
                        let path = entry.path();
                        assert!(found.insert(path.strip_prefix(root).unwrap().display().to_string()));
                    }
                    false => {}
                }
            }
        }
        let mut found = BTreeSet::new();
        gather(&self.dir, &self.dir, &mut found);
        assert_eq!(found, self.model.files.keys().cloned().collect());
    }
}

#[test]
fn a_fleet_under_a_random_editor_is_what_the_editor_means_after_each_step_through_kill_9() {
    let seed = setting("SOURCES_SEED", 1);
    // Something is always there: an empty directory deletes nothing.
    let (mut world, dir) = synced(&[("keep.yaml", &config("keep", "1"))]);
    appm(&world, &["patch", "source", "sync-dir", "-p", r#"{"spec": {"maxPrunePercent": 100, "interval": "1h"}}"#]);
    let keep = Contents::Objects(BTreeMap::from([("keep".to_owned(), "1".to_owned())]));
    let model = Model { files: BTreeMap::from([("keep.yaml".to_owned(), keep)]), store: BTreeMap::new() };
    let mut editor = Editor { dir, dice: Dice::new(seed), model, step: 0 };
    for step in 0..setting("SOURCES_STEPS", 40) {
        editor.step = step;
        let change = editor.change();
        if editor.dice.below(10) == 0 {
            world.kill_server();
            world.start();
        }
        let reason = editor.model.settle();
        let expected = &editor.model.store;
        wait_for(&format!("step {step} of seed {seed}: {change}"), || {
            let (found, (why, message)) = (configs(&world), said(&world, "sync-dir", "Ready"));
            match found == *expected && why == reason {
                true => Ok(()),
                false => Err(format!("{found:?} and not {expected:?}; {why} and not {reason}: {message}")),
            }
        });
    }
    editor.audit();
}
