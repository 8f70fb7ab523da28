//! `appm edit`: objects in an editor, for as long as it takes to get them right.
//!
//! ```text
//! fetch ──► editor ──► read ──► patch by what differs
//!             ▲          │ mistakes                │ refused
//!             └──────────┴── as comments on top ◄──┘      saved without a change: the file is kept, and the command ends
//! ```

use std::{
    fs,
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use clap::Args;
use serde_json::{Value, json};

use crate::{
    api::{Reason, Status},
    client::http::{Request, RequestError},
    policy::manifest,
};

use super::{
    change::{DryRun, Found, Objects, WriteArgs, merge_patch},
    context::{Context, name_of, namespace_of},
    error::{CliError, Exit},
    output::{self, Format, without_managed_fields},
    screen,
    settings::environment,
};

/// What is edited as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Language {
    Yaml,
    Json,
}

/// Edit objects in an editor
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm edit app web
  appm edit app/web app/db
  appm edit app web -o json                  as JSON
  EDITOR='code --wait' appm edit app web

The editor is the first of APPM_EDITOR, KUBE_EDITOR, VISUAL and EDITOR that is set, else vi. Mistakes are shown as comments in
the same file, and the editor opens again; save without a change to give up.")]
pub(super) struct EditArgs {
    /// `app web`, `app/web`, or `apps` with -l or --all
    #[arg(value_name = "RESOURCE", add = super::complete::resources())]
    words: Vec<String>,
    #[command(flatten)]
    objects: Objects,
    /// Show the patch that was sent
    #[arg(long)]
    output_patch: bool,
    #[command(flatten)]
    write: WriteArgs,
}

pub(super) async fn run(args: EditArgs, context: &Context) -> Result<(), CliError> {
    let mut objects = args.objects.find(&args.words, context).await?;
    if objects.is_empty() {
        screen::remark("nothing to edit");
        return Ok(());
    }
    for found in &mut objects {
        found.object = without_managed_fields(std::mem::take(&mut found.object));
    }
    let language = if args.write.output.output == Format::Json { Language::Json } else { Language::Yaml };
    let draft = Draft::new(if language == Language::Json { "json" } else { "yaml" })?;
    let mut text = written(&objects, language);
    let mut wrong: Vec<String> = Vec::new();
    loop {
        draft.write(&(head(&wrong) + &text))?;
        draft.open()?;
        let edited = without_head(&draft.read()?);
        if edited.trim().is_empty() || edited == text {
            if wrong.is_empty() {
                draft.remove();
                screen::remark("edit cancelled, no change was made");
                return Ok(());
            }
            let mut error = CliError::new(Exit::InvalidInput, "the edit was given up; nothing more was changed");
            error.details = wrong;
            return Err(error.help(format!("what was written is in {}", draft.path.display())));
        }
        text = edited;
        wrong = match read(&text, &objects) {
            Ok(wanted) => match send(&args, context, &mut objects, wanted).await {
                Ok(()) => {
                    draft.remove();
                    return Ok(());
                }
                Err(Refused::Mistakes(mistakes)) => mistakes,
                Err(Refused::Final(error)) => {
                    return Err(error.help(format!("what was written is in {}", draft.path.display())));
                }
            },
            Err(mistakes) => mistakes,
        };
    }
}

const HEAD: &str = "\
# Edit below. Lines that begin with '#' are left out, an empty file gives up.
";

/// The comments on top.
fn head(wrong: &[String]) -> String {
    let mut head = HEAD.to_owned();
    if !wrong.is_empty() {
        head += "#\n# This was refused; save it without a change to give up:\n";
        wrong.iter().flat_map(|one| one.lines()).for_each(|line| head += &format!("#   {line}\n"));
    }
    head + "#\n"
}

fn without_head(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect()
}

fn written(objects: &[Found], language: Language) -> String {
    let document = match objects {
        [one] => one.object.clone(),
        several => {
            let items: Vec<&Value> = several.iter().map(|found| &found.object).collect();
            json!({"apiVersion": "v1", "kind": "List", "items": items})
        }
    };
    match language {
        Language::Yaml => output::yaml(&document),
        Language::Json => serde_json::to_string_pretty(&document).expect("JSON prints") + "\n",
    }
}

/// The edited objects, in the order in which they were given out; none for one that was taken out.
///
/// # Errors
/// With everything that is wrong with the text.
fn read(text: &str, objects: &[Found]) -> Result<Vec<Option<Value>>, Vec<String>> {
    let read = manifest::read(text);
    let mut wrong: Vec<String> =
        read.faults.iter().map(|fault| format!("line {}: {}", fault.place.line, fault.message)).collect();
    let mut wanted = vec![None; objects.len()];
    let who =
        |object: &Value| (object["apiVersion"].clone(), object["kind"].clone(), namespace_of(object), name_of(object));
    for document in &read.documents {
        let value = document.value();
        match objects.iter().position(|found| who(&found.object) == who(&value)) {
            Some(index) => wanted[index] = Some(value),
            None => wrong.push(format!(
                "line {}: apiVersion, kind, name and namespace of an object cannot be changed",
                document.start().line
            )),
        }
    }
    if wrong.is_empty() { Ok(wanted) } else { Err(wrong) }
}

/// Why a change was not made.
enum Refused {
    /// The author can mend it.
    Mistakes(Vec<String>),
    Final(CliError),
}

impl From<CliError> for Refused {
    fn from(error: CliError) -> Self {
        Refused::Final(error)
    }
}

async fn send(
    args: &EditArgs,
    context: &Context,
    objects: &mut [Found],
    wanted: Vec<Option<Value>>,
) -> Result<(), Refused> {
    for (found, wanted) in objects.iter_mut().zip(wanted) {
        let Some(patch) = wanted.and_then(|wanted| merge_patch(&found.object, &wanted)) else { continue };
        let now = send_one(args, context, found, &patch).await?;
        if args.output_patch {
            screen::line(format_args!("Patch: {patch}")).map_err(CliError::from)?;
        }
        let was = std::mem::replace(&mut found.object, without_managed_fields(now.clone()));
        let same = was["metadata"]["resourceVersion"] == now["metadata"]["resourceVersion"];
        let dry = if args.write.dry_run == DryRun::Server { " (dry run)" } else { "" };
        let word = if same { "edited (no change)" } else { "edited" };
        screen::line(format_args!("{} {word}{dry}", found.qualified())).map_err(CliError::from)?;
    }
    Ok(())
}

async fn send_one(args: &EditArgs, context: &Context, found: &Found, patch: &Value) -> Result<Value, Refused> {
    let mut revision = found.object["metadata"]["resourceVersion"].clone();
    loop {
        let mut patch = patch.clone();
        if !patch["metadata"].is_object() {
            patch["metadata"] = json!({});
        }
        patch["metadata"]["resourceVersion"] = revision;
        match context.client.call(Request::merge_patch(found.path() + &args.write.query(), &patch)).await {
            Ok(answer) => return Ok(context.heard(answer).json().map_err(CliError::from)?),
            Err(RequestError::Refused(status)) if status.is(Reason::Conflict) => {
                let (namespace, name) = (namespace_of(&found.object), name_of(&found.object));
                let now = without_managed_fields(context.get(found.served, &namespace, &name).await?);
                if said(&now) != said(&found.object) {
                    let message = format!("{} was changed by somebody else meanwhile", found.qualified());
                    return Err(Refused::Final(CliError::new(Exit::Conflict, message)));
                }
                revision = now["metadata"]["resourceVersion"].clone();
            }
            Err(RequestError::Refused(status)) if status.is(Reason::Invalid) || status.is(Reason::BadRequest) => {
                return Err(Refused::Mistakes(mistakes(&status)));
            }
            Err(error) => return Err(CliError::from(error).into()),
        }
    }
}

/// What people say of an object: not what the server and the controllers write into it all the time.
fn said(object: &Value) -> Value {
    let mut said = object.clone();
    if let Some(map) = said.as_object_mut() {
        map.shift_remove("status");
    }
    if let Some(metadata) = said["metadata"].as_object_mut() {
        metadata.shift_remove("resourceVersion");
    }
    said
}

fn mistakes(status: &Status) -> Vec<String> {
    let error = CliError::from(status.clone());
    std::iter::once(error.message).chain(error.details).collect()
}

/// The file that is edited. Nobody else may read it: it may hold a Secret.
struct Draft {
    path: PathBuf,
}

impl Draft {
    fn new(extension: &str) -> Result<Self, CliError> {
        let folder = environment("TMPDIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
        for number in 0..1000 {
            let path = folder.join(format!("appm-edit-{}-{number}.{extension}", std::process::id()));
            match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(_) => return Ok(Self { path }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(CliError::io(&format!("cannot write {}", path.display()), &error)),
            }
        }
        Err(CliError::failed(format!("{} is full of drafts", folder.display())))
    }

    fn write(&self, text: &str) -> Result<(), CliError> {
        let written = fs::OpenOptions::new().write(true).truncate(true).create(true).mode(0o600).open(&self.path);
        let written = written.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|e| CliError::io(&format!("cannot write {}", self.path.display()), &e))
    }

    fn read(&self) -> Result<String, CliError> {
        let text = fs::read_to_string(&self.path);
        text.map_err(|e| CliError::io(&format!("cannot read {}", self.path.display()), &e))
    }

    fn remove(&self) {
        // What stays is a file in a folder that is emptied anyway.
        let _ = fs::remove_file(&self.path);
    }

    /// Runs the editor to its end.
    fn open(&self) -> Result<(), CliError> {
        let names = ["APPM_EDITOR", "KUBE_EDITOR", "VISUAL", "EDITOR"];
        let editor = names.into_iter().find_map(environment).unwrap_or_else(|| "vi".to_owned());
        run_editor(&editor, &self.path)
    }
}

/// By a shell, because editors are given with arguments: `code --wait`.
fn run_editor(editor: &str, path: &Path) -> Result<(), CliError> {
    let ended = Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("editor").arg(path).status();
    let help = "set EDITOR to an editor that is there, for example EDITOR=nano";
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(CliError::failed(format!("the editor `{editor}` failed: {status}")).help(help)),
        Err(error) => Err(CliError::io("cannot run the editor", &error).help(help)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::App;

    fn found(name: &str) -> Found {
        let object = json!({"apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": name, "namespace": "default"}, "spec": {"replicas": 1}});
        Found { served: super::super::context::served::<App>(), object }
    }

    #[test]
    fn what_is_given_out_reads_back_as_the_same() {
        for language in [Language::Yaml, Language::Json] {
            for objects in [vec![found("a")], vec![found("a"), found("b")]] {
                let text = without_head(&(head(&["no".to_owned()]) + &written(&objects, language)));
                let wanted = read(&text, &objects).expect("sound");
                assert!(objects.iter().zip(wanted).all(|(found, read)| Some(&found.object) == read.as_ref()));
            }
        }
    }

    #[test]
    fn an_object_cannot_become_another_one() {
        let objects = [found("a")];
        let text = written(&objects, Language::Yaml).replace("name: a", "name: b");
        assert!(read(&text, &objects).expect_err("another name")[0].contains("cannot be changed"));
        assert!(read("a: [", &objects).is_err());
        assert_eq!(read("", &objects), Ok(vec![None]));
    }
}
