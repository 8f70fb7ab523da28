//! What makes a Run a step of a workflow, and what such a Run leaves behind for the steps after it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Stands for the workspace in the script and the variables of a step, until the keeper puts the path in its place: which one that is only the
/// machine knows. Of characters that nobody writes.
pub const WORKSPACE_MARK: &str = "\u{f0a70}workspace\u{f0a71}";
/// Stands for the directory of what a run needs for a while.
pub const TEMP_MARK: &str = "\u{f0a70}temp\u{f0a71}";
/// Stands for the machine's name.
pub const MACHINE_MARK: &str = "\u{f0a70}machine\u{f0a71}";

/// What makes it a step of a workflow: where it works, and what is read when it has ended. Written by the server's own
/// controller of workflows alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunStep {
    /// The directory that the steps of a run share, by name.
    #[schemars(regex(pattern = r"^[a-z0-9][-a-z0-9]{0,63}$"))]
    pub workspace: String,
    /// A directory in it that is this job's own; empty: the workspace itself. Made if it is not there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = r"^([a-z0-9][-a-z0-9]{0,63})?$"))]
    pub place: String,
    /// The working directory within that; default: there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096))]
    pub directory: String,
    /// What runs the process's `script`: a program and its arguments, `{0}` for the script's file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub interpreter: Vec<String>,
    /// What it prints on standard output is wanted, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stdout: bool,
    /// Commands in what it prints (`::error file=a.rs,line=3::no`, `::add-mask::`) are read, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub commands: bool,
    /// Files of the workspace that are kept when it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<KeptFiles>,
    /// Artifacts that are put into the workspace when it has ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub fetch: Vec<FetchedArtifact>,
    /// The instance of the step before, of one that was written down ahead: it is started as soon as that one has succeeded and has set
    /// nothing for those after it, and otherwise never.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub after: String,
}

/// Files that are kept together, as an artifact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeptFiles {
    /// Under this name.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// Which, a line each: a file, a directory, either with `*`, `**`, `?` and `[…]`; what comes behind `!` is taken out again.
    #[schemars(length(min = 1, max = 65536))]
    pub path: String,
    /// What becomes of the step if there are none.
    #[serde(default)]
    pub if_no_files_found: IfNoFiles,
    /// Files and directories that begin with a dot, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub include_hidden_files: bool,
    /// In the place of an artifact that has the name already.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overwrite: bool,
    /// Nobody reads it after so many days; default: as long as the run is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub retention_days: Option<i32>,
}

/// What becomes of a step that finds nothing to keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IfNoFiles {
    /// It points that out, and succeeds.
    #[default]
    Warn,
    /// It fails.
    Error,
    /// Nothing.
    Ignore,
}

/// An artifact that is put into the workspace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FetchedArtifact {
    /// Where it is kept.
    #[schemars(regex(pattern = r"^[a-z0-9][-a-z0-9]{0,63}/[a-z0-9][-a-z0-9]{0,63}$"))]
    pub file: String,
    /// The directory of the workspace; empty: the workspace itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096))]
    pub directory: String,
}

impl RunStep {
    /// True if what it prints is asked for, which is complete only when its end was acknowledged.
    pub fn reads_output(&self) -> bool {
        self.stdout || self.commands
    }
}

/// What a step left behind, as its files said when it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepResult {
    /// What it wrote to `$GITHUB_OUTPUT`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, String>,
    /// What it wrote to `$GITHUB_ENV`: for the steps after it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// What it wrote to `$GITHUB_PATH`: for the steps after it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<String>,
    /// What it wrote to `$GITHUB_STEP_SUMMARY`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub summary: String,
    /// What it printed on standard output, if that was wanted: the first MiB.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stdout: String,
    /// What it pointed out: ten of each level at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<StepAnnotation>,
    /// What was kept of its files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<KeptArtifact>,
    /// Why what it wrote to one of the files cannot be read, or files cannot be kept or fetched; the step has failed then.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fault: String,
}

impl StepResult {
    /// True if a step after it is as it was foreseen: nothing went wrong, and nothing was set for it.
    pub fn sets_nothing(&self) -> bool {
        self.fault.is_empty() && self.env.is_empty() && self.path.is_empty()
    }
}

/// Files that are kept: a tar archive of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeptArtifact {
    /// How many files.
    pub files: i32,
    /// Bytes of the archive.
    pub size: i64,
    /// Of the archive: `sha256:` and 64 digits.
    pub digest: String,
    /// Where it is, below `artifacts` of the data directory.
    pub file: String,
}

/// Something that a step pointed out (`::error file=src/a.rs,line=3::it does not compile`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepAnnotation {
    /// How grave it is.
    pub level: AnnotationLevel,
    /// What it says.
    pub message: String,
    /// Its title.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// The file that it is about.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// The line there, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The column there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}

/// The weight of what a step pointed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum AnnotationLevel {
    /// Something to know.
    #[default]
    Notice,
    /// Something to look at.
    Warning,
    /// Something to mend.
    Error,
}

impl AnnotationLevel {
    /// As commands say it.
    pub fn word(self) -> &'static str {
        match self {
            AnnotationLevel::Notice => "notice",
            AnnotationLevel::Warning => "warning",
            AnnotationLevel::Error => "error",
        }
    }
}
