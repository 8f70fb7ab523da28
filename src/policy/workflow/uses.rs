//! `uses`: of GitHub's actions those two that keep files with the run and fetch them again. The rest are programs of others.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{api::IfNoFiles, policy::artifacts::Search};

/// The name of an artifact that has none.
const UNNAMED: &str = "artifact";
/// Days that one may be kept.
const MOST_DAYS: i32 = 3650;

/// An action that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Keeps files.
    Upload,
    /// Fetches what was kept.
    Download,
}

/// Files that are to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Under this name.
    pub name: String,
    /// Which, line by line.
    pub path: String,
    /// What becomes of the step if there are none.
    pub absent: IfNoFiles,
    /// Names that begin with a dot, too.
    pub hidden: bool,
    /// In the place of one that has the name.
    pub overwrite: bool,
    /// For so many days.
    pub days: Option<i32>,
}

/// What is to be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download {
    /// Which: this one, or those with such names.
    pub which: Which,
    /// Where to.
    pub path: String,
    /// Several into the same directory, instead of one for each.
    pub merge: bool,
}

/// Which artifacts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// This one.
    Named(String),
    /// All with such names.
    Like(String),
}

/// What is wrong: the field of `with`, if it is one, and why.
pub type Wrong = (Option<String>, String);

impl Action {
    /// `actions/upload-artifact@v4`.
    ///
    /// # Errors
    /// What to do instead.
    pub fn parse(uses: &str) -> Result<Self, String> {
        match uses.split('@').next().unwrap_or_default() {
            "actions/upload-artifact" => Ok(Action::Upload),
            "actions/download-artifact" => Ok(Action::Download),
            "actions/checkout" => Err(format!(
                "`{uses}` is done by no program here: let `appm workflow import github` make a command of it"
            )),
            _ => Err(format!(
                "`{uses}` is not run here: of actions there are actions/upload-artifact and actions/download-artifact; write what \
                 it does as `run`"
            )),
        }
    }

    fn fields(self) -> &'static [&'static str] {
        match self {
            Action::Upload => {
                &["name", "path", "if-no-files-found", "retention-days", "include-hidden-files", "overwrite"]
            }
            Action::Download => &["name", "path", "pattern", "merge-multiple"],
        }
    }

    /// Everything that is wrong with `with`, as far as it is known before the run.
    pub fn check(self, with: &BTreeMap<String, Value>) -> Vec<Wrong> {
        let known = self.fields();
        let unknown = with.keys().filter(|field| !known.contains(&field.as_str())).map(|field| {
            let all: Vec<String> = known.iter().map(|word| format!("`{word}`")).collect();
            (Some(field.clone()), format!("there is no `{field}` here; there is {}", all.join(", ")))
        });
        let mut found: Vec<Wrong> = unknown.collect();
        let open = |value: &Value| value.as_str().is_some_and(|text| text.contains("${{"));
        let mut settled = with.clone();
        for (field, value) in &mut settled {
            if open(value) {
                // Any that is good.
                *value = Value::from(match field.as_str() {
                    "retention-days" => "1",
                    "if-no-files-found" => "warn",
                    "include-hidden-files" | "overwrite" | "merge-multiple" => "true",
                    _ => "x",
                });
            }
        }
        found.extend(match self {
            Action::Upload => Upload::read(&settled).err(),
            Action::Download => Download::read(&settled).err(),
        });
        found
    }
}

impl Upload {
    /// Reads `with`, all expressions put in.
    ///
    /// # Errors
    /// What is wrong with which field.
    pub fn read(with: &BTreeMap<String, Value>) -> Result<Self, Wrong> {
        let given = Given(with);
        let name = given.text("name")?.unwrap_or_else(|| UNNAMED.to_owned());
        check_name(&name).map_err(|why| (Some("name".to_owned()), why))?;
        let path = given.text("path")?.ok_or((None, "`with: {path: …}` says which files are kept".to_owned()))?;
        Search::parse(&path).map_err(|why| (Some("path".to_owned()), why))?;
        let absent = match given.text("if-no-files-found")?.as_deref() {
            None | Some("warn") => IfNoFiles::Warn,
            Some("error") => IfNoFiles::Error,
            Some("ignore") => IfNoFiles::Ignore,
            Some(other) => {
                let why = format!("`{other}` is none of `warn`, `error`, `ignore`");
                return Err((Some("if-no-files-found".to_owned()), why));
            }
        };
        let days = match given.text("retention-days")?.map(|days| days.parse::<i32>()) {
            None | Some(Ok(0)) => None,
            Some(Ok(days)) if (1..=MOST_DAYS).contains(&days) => Some(days),
            Some(_) => {
                let why = format!("it is a number of days, at most {MOST_DAYS}; 0 for as long as the run");
                return Err((Some("retention-days".to_owned()), why));
            }
        };
        let (hidden, overwrite) = (given.flag("include-hidden-files")?, given.flag("overwrite")?);
        Ok(Self { name, path, absent, hidden, overwrite, days })
    }
}

impl Download {
    /// Reads `with`, all expressions put in.
    ///
    /// # Errors
    /// What is wrong with which field.
    pub fn read(with: &BTreeMap<String, Value>) -> Result<Self, Wrong> {
        let given = Given(with);
        let which = match (given.text("name")?, given.text("pattern")?) {
            (Some(name), None) => {
                check_name(&name).map_err(|why| (Some("name".to_owned()), why))?;
                Which::Named(name)
            }
            (None, pattern) => Which::Like(pattern.unwrap_or_else(|| "*".to_owned())),
            (Some(_), Some(_)) => {
                return Err((Some("pattern".to_owned()), "set either `name` or `pattern`, not both".to_owned()));
            }
        };
        let path = given.text("path")?.unwrap_or_default();
        let path = if path.is_empty() { ".".to_owned() } else { path };
        Search::parse(&path).map_err(|why| (Some("path".to_owned()), why))?;
        Ok(Self { which, path, merge: given.flag("merge-multiple")? })
    }
}

/// As GitHub has it: what would be a path, or is none on some system, is no name.
fn check_name(name: &str) -> Result<(), String> {
    let bad = |c: char| c.is_control() || "\":<>|*?\\/".contains(c);
    match name.is_empty() || name.len() > 255 || name.contains(bad) || matches!(name, "." | "..") {
        true => {
            Err(format!("`{name}` is no name of an artifact: at most 255 letters, without any of \" : < > | * ? \\ /"))
        }
        false => Ok(()),
    }
}

struct Given<'a>(&'a BTreeMap<String, Value>);

impl Given<'_> {
    fn text(&self, field: &str) -> Result<Option<String>, Wrong> {
        Ok(match self.0.get(field) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => Some(value.to_string()),
            Some(_) => return Err((Some(field.to_owned()), "it is one value".to_owned())),
        })
    }

    fn flag(&self, field: &str) -> Result<bool, Wrong> {
        match self.text(field)?.as_deref() {
            None | Some("false" | "") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err((Some(field.to_owned()), "it is true or false".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wrong(uses: &str, with: &Value) -> String {
        let with = serde_json::from_value(with.clone()).unwrap();
        let found = Action::parse(uses).unwrap().check(&with);
        let shown = |(field, why): Wrong| format!("{}: {why}", field.unwrap_or_default());
        found.into_iter().map(shown).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn what_is_wrong_with_an_artifact_is_said_by_field() {
        let (upload, download) = ("actions/upload-artifact@v4", "actions/download-artifact");
        for (uses, with, words) in [
            (upload, json!({"path": "out"}), ""),
            (
                upload,
                json!({"name": "${{ matrix.os }}", "path": "${{ env.X }}", "retention-days": "${{ inputs.n }}"}),
                "",
            ),
            (upload, json!({}), ": `with: {path: …}` says which files are kept"),
            (upload, json!({"path": "../x"}), "path: `../x` leads out of the workspace"),
            (
                upload,
                json!({"path": "x", "if-no-files-found": "fail"}),
                "if-no-files-found: `fail` is none of `warn`, `error`, `ignore`",
            ),
            (
                upload,
                json!({"path": "x", "retention-days": -1}),
                "retention-days: it is a number of days, at most 3650; 0 for as long as the run",
            ),
            (upload, json!({"path": "x", "overwrite": "maybe"}), "overwrite: it is true or false"),
            (upload, json!({"path": ["x"]}), "path: it is one value"),
            (download, json!({}), ""),
            (download, json!({"name": "a", "pattern": "b"}), "pattern: set either `name` or `pattern`, not both"),
            (download, json!({"path": "/tmp"}), "path: `/tmp` is to be said from the workspace on"),
            (
                download,
                json!({"token": 1}),
                "token: there is no `token` here; there is `name`, `path`, `pattern`, `merge-multiple`",
            ),
        ] {
            assert_eq!(wrong(uses, &with), words, "{with}");
        }
        for name in ["", "a/b", "..", "a:b", "a\nb"] {
            assert!(
                wrong(upload, &json!({"name": name, "path": "x"})).contains("is no name of an artifact"),
                "{name:?}"
            );
        }
        assert!(Action::parse("docker/build-push-action@v5").unwrap_err().contains("write what it does as `run`"));
    }
}
