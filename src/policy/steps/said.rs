//! What a step said in its output, put together; and what of all that it left nobody may see.

use std::collections::BTreeMap;

use super::{
    commands::{Annotation, Command, Commands, Level},
    files::MOST_NAMES,
    masks::MOST,
};
use crate::{
    api::{AnnotationLevel, StepAnnotation, StepResult},
    policy::redact::MASK,
};

/// Annotations of one level, as in GitHub.
const MOST_OF_A_LEVEL: usize = 10;
/// Bytes of a message.
const LONGEST_MESSAGE: usize = 1024;
/// What a step said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// What it pointed out.
    pub annotations: Vec<StepAnnotation>,
    /// What is not to be shown.
    pub masks: Vec<String>,
    /// It asked for more than that.
    pub is_too_much: bool,
    /// What it told by the older way.
    pub outputs: BTreeMap<String, String>,
    /// The first thing that it may not say: the step fails by it.
    pub refused: Option<String>,
}

/// Reads a step's output line by line.
#[derive(Debug, Default)]
pub struct Listener {
    commands: Commands,
    said: Said,
}

impl Listener {
    /// Takes a line, without its end.
    pub fn line(&mut self, line: &[u8]) {
        let said = &mut self.said;
        match self.commands.line(line) {
            Some(Command::Annotate(annotation)) => note(&mut said.annotations, told(annotation)),
            Some(Command::AddMask(value)) if said.masks.len() < MOST => said.masks.push(value),
            Some(Command::AddMask(_)) => said.is_too_much = true,
            Some(Command::SetOutput { name, value }) if said.outputs.len() < MOST_NAMES => {
                said.outputs.insert(name, value);
            }
            Some(Command::Refused(why)) => drop(said.refused.get_or_insert(why)),
            _ => {}
        }
    }

    /// All of it.
    pub fn end(self) -> Said {
        self.said
    }
}

impl Said {
    /// Whether a value that it asked to have hidden was, before this was read.
    pub fn is_masked(&self) -> bool {
        self.masks.iter().any(|value| is_hidden(value))
    }

    /// Puts it to what the step wrote to its files. What stands in a file counts before what was said.
    pub fn join(self, result: &mut StepResult) {
        self.annotations.into_iter().for_each(|annotation| note(&mut result.annotations, annotation));
        if self.is_too_much {
            let message = format!("`add-mask` is done for the first {MOST} values: what it asked for later is shown");
            note(&mut result.annotations, warning(message));
        }
        for (name, value) in self.outputs {
            if is_hidden(&value) {
                // It was taken out before this was read.
                note(&mut result.annotations, warning(left_out(&name)));
            } else {
                result.outputs.entry(name).or_insert(value);
            }
        }
        if let Some(why) = self.refused.filter(|_| result.fault.is_empty()) {
            result.fault = why;
        }
    }
}

/// Whether something was taken out of it before it was read.
fn is_hidden(value: &str) -> bool {
    value.as_bytes().windows(MASK.len()).any(|part| part == MASK)
}

/// Adds an annotation, if there is room for one of its level.
fn note(annotations: &mut Vec<StepAnnotation>, annotation: StepAnnotation) {
    if annotations.iter().filter(|known| known.level == annotation.level).count() < MOST_OF_A_LEVEL {
        annotations.push(annotation);
    }
}

fn told(annotation: Annotation) -> StepAnnotation {
    let Annotation { level, message, title, file, line, column, .. } = annotation;
    let level = match level {
        Level::Notice => AnnotationLevel::Notice,
        Level::Warning => AnnotationLevel::Warning,
        Level::Error => AnnotationLevel::Error,
    };
    let [message, title, file] = [Some(message), title, file].map(|text| shortened(text.unwrap_or_default()));
    StepAnnotation { level, message, title, file, line, column }
}

fn shortened(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(LONGEST_MESSAGE));
    text
}

fn warning(message: String) -> StepAnnotation {
    StepAnnotation { level: AnnotationLevel::Warning, message, ..StepAnnotation::default() }
}

fn left_out(output: &str) -> String {
    format!("the output `{output}` is left out: it holds a secret value")
}

/// Takes what nobody may see out of what a step left: outputs, variables and directories with such a value in them are left out, and it
/// is said which; in texts that people read `covered` puts something else in its place.
pub fn cover(result: &mut StepResult, covered: impl Fn(&str) -> String) {
    let hides = |text: &str| covered(text) != text;
    let (outputs, env, path) = (&mut result.outputs, &mut result.env, &mut result.path);
    let mut told: Vec<String> = Vec::new();
    outputs.retain(|name, value| {
        let shown = !hides(value) && !hides(name);
        if !shown {
            told.push(left_out(&covered(name)));
        }
        shown
    });
    env.retain(|name, value| {
        let shown = !hides(value) && !hides(name);
        if !shown {
            let name = covered(name);
            told.push(format!("the variable `{name}` is not passed on: it holds a secret value; use `sec_env`"));
        }
        shown
    });
    let before = path.len();
    path.retain(|directory| !hides(directory));
    if path.len() < before {
        told.push("a directory is not added to PATH: it holds a secret value".to_owned());
    }
    for text in [&mut result.summary, &mut result.stdout, &mut result.fault] {
        *text = covered(text);
    }
    for annotation in &mut result.annotations {
        for text in [&mut annotation.message, &mut annotation.title, &mut annotation.file] {
            *text = covered(text);
        }
    }
    told.into_iter().for_each(|message| note(&mut result.annotations, warning(message)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(lines: &[&str]) -> Said {
        let mut listener = Listener::default();
        lines.iter().for_each(|line| listener.line(line.as_bytes()));
        listener.end()
    }

    #[test]
    fn commands_are_put_together_and_bounded() {
        let mut lines = vec!["::error file=a.rs,line=3,col=7,title=Oh::no", "plain", "::set-output name=a::1"];
        lines.extend(["::warning::again"; 30]);
        lines.extend(["::add-mask::hunter2", "::set-env name=A::b", "::add-path::/x"]);
        let said = said(&lines);
        assert_eq!(said.annotations.len(), 1 + MOST_OF_A_LEVEL);
        let first = &said.annotations[0];
        assert_eq!(
            (first.file.as_str(), first.line, first.column, first.title.as_str()),
            ("a.rs", Some(3), Some(7), "Oh")
        );
        assert_eq!((said.masks.as_slice(), said.outputs["a"].as_str()), (&["hunter2".to_owned()][..], "1"));
        let mut result = StepResult { outputs: [("a".to_owned(), "2".to_owned())].into(), ..StepResult::default() };
        said.join(&mut result);
        assert_eq!(result.outputs["a"], "2", "what stands in the file counts");
        assert!(result.fault.starts_with("`set-env` is not done"), "{}", result.fault);
        let long = format!("::notice::{}", "ä".repeat(5000));
        assert!(self::said(&[&long]).annotations[0].message.len() <= LONGEST_MESSAGE);
    }

    #[test]
    fn nothing_that_is_read_later_holds_a_secret_value() {
        let text = |text: &str| text.to_owned();
        let mut result = StepResult {
            outputs: [(text("token"), text("x hunter2")), (text("digest"), text("abc"))].into(),
            env: [(text("T"), text("hunter2")), (text("N"), text("7"))].into(),
            path: vec![text("/opt/hunter2"), text("/opt/bin")],
            summary: text("used hunter2"),
            stdout: text("hunter2\n"),
            annotations: vec![StepAnnotation { message: text("bad hunter2"), ..StepAnnotation::default() }],
            fault: text("no hunter2"),
            ..StepResult::default()
        };
        cover(&mut result, |text| text.replace("hunter2", "***"));
        assert_eq!(result.outputs.keys().collect::<Vec<_>>(), ["digest"]);
        assert_eq!(result.env.keys().collect::<Vec<_>>(), ["N"]);
        assert_eq!((result.path.as_slice(), result.summary.as_str()), (&[text("/opt/bin")][..], "used ***"));
        let told: Vec<&str> = result.annotations.iter().map(|annotation| annotation.message.as_str()).collect();
        assert_eq!(told[0], "bad ***");
        assert!(told[1].starts_with("the output `token` is left out"), "{told:?}");
        assert!(!format!("{result:?}").contains("hunter2"));
    }
}
