//! Texts with expressions judged, one at a time.

use std::ops::RangeInclusive;

use serde_json::Value;

use super::{
    check::Finding,
    contexts::{Setting, written},
};
use crate::{
    api::{FieldPath, Flag, IntOrString, Problem, Violation},
    policy::expr::{Condition, Expression, Fault, Kind, Template},
};

/// More is not told.
const MOST_FOUND: usize = 100;

/// What was found so far.
#[derive(Default)]
pub(super) struct Judge {
    pub(super) found: Vec<Finding>,
}

impl Judge {
    /// Something that is wrong with a field.
    pub(super) fn say(&mut self, at: &FieldPath, problem: Problem, message: impl Into<String>) {
        self.push(at, problem, message.into(), None);
    }

    fn push(&mut self, at: &FieldPath, problem: Problem, message: String, offset: Option<usize>) {
        if self.found.len() < MOST_FOUND {
            self.found.push(Finding { violation: Violation::new(at.clone(), problem, message), offset });
        }
    }

    fn fault(&mut self, at: &FieldPath, fault: Fault) {
        self.push(at, Problem::Invalid, fault.message, Some(fault.offset));
    }

    /// A text with expressions in it.
    pub(super) fn text(&mut self, setting: Setting<'_>, at: &FieldPath, text: &str) {
        self.template(setting, at, text);
    }

    fn template(&mut self, setting: Setting<'_>, at: &FieldPath, text: &str) -> Option<Template> {
        if !text.contains("${{") {
            return None;
        }
        match Template::parse(text) {
            Ok(template) => {
                template.splices().for_each(|splice| self.expression(setting, at, &splice.expression));
                Some(template)
            }
            Err(fault) => {
                self.fault(at, fault);
                None
            }
        }
    }

    /// Each text within a value.
    pub(super) fn within(&mut self, setting: Setting<'_>, at: &FieldPath, value: &Value) {
        match value {
            Value::String(text) => self.text(setting, at, text),
            Value::Array(list) => {
                list.iter().enumerate().for_each(|(i, value)| self.within(setting, &at.index(i), value));
            }
            Value::Object(map) => {
                map.iter().for_each(|(name, value)| self.within(setting, &at.field(name), value));
            }
            _ => {}
        }
    }

    /// What stands after `if`.
    pub(super) fn condition(&mut self, setting: Setting<'_>, at: &FieldPath, text: &str) {
        match Condition::parse(text) {
            Ok(condition) => condition.expression().into_iter().for_each(|e| self.expression(setting, at, e)),
            Err(fault) => self.fault(at, fault),
        }
    }

    /// A text that is run as code.
    pub(super) fn command(&mut self, setting: Setting<'_>, at: &FieldPath, text: &str) {
        let Some(template) = self.template(setting, at, text) else { return };
        for splice in template.splices() {
            let Some(read) = splice.expression.comes_out().into_iter().find(|read| setting.is_untrusted(read)) else {
                continue;
            };
            let (read, name) = (written(&read), variable_for(&written(&read)));
            let spliced = &text[splice.span.start..splice.span.end];
            let message = format!(
                "what others wrote into `{read}` would be run as part of the command; pass it through \
                 `env: {{{name}: {spliced}}}` and write \"${name}\""
            );
            self.push(at, Problem::Forbidden, message, Some(splice.span.start));
        }
    }

    fn expression(&mut self, setting: Setting<'_>, at: &FieldPath, expression: &Expression) {
        for read in expression.uses() {
            if let Err(why) = setting.check_use(&read) {
                self.push(at, Problem::Invalid, format!("`{}`: {why}", written(&read)), Some(read.span.start));
            }
        }
        for call in expression.calls() {
            if let Err(why) = setting.check_call(&call) {
                self.push(at, Problem::Invalid, why, Some(call.span.start));
            }
        }
        for (read, text) in expression.compared() {
            if let Some(why) = setting.never(&read, &text) {
                self.push(at, Problem::Invalid, why, Some(read.span.start));
            }
        }
    }

    /// `true`, `false` or an expression that is one.
    pub(super) fn flag(&mut self, setting: Setting<'_>, at: &FieldPath, flag: Option<&Flag>) {
        let Some(Flag::Expression(text)) = flag.filter(|flag| flag.known().is_none()) else { return };
        self.typed(setting, at, text, Kind::Bool, "true, false");
    }

    /// A number or an expression that is one.
    pub(super) fn number(
        &mut self,
        setting: Setting<'_>,
        at: &FieldPath,
        number: Option<&IntOrString>,
        range: RangeInclusive<i32>,
    ) {
        let number = match number {
            None => return,
            Some(IntOrString::Int(number)) => *number,
            Some(IntOrString::String(text)) => match text.trim().parse() {
                Ok(number) => number,
                Err(_) => return self.typed(setting, at, text, Kind::Number, "a whole number"),
            },
        };
        if !range.contains(&number) {
            let message = format!("{number} is not within {} to {}", range.start(), range.end());
            self.say(at, Problem::Invalid, message);
        }
    }

    /// A text that must be one lone expression, of a type.
    fn typed(&mut self, setting: Setting<'_>, at: &FieldPath, text: &str, kind: Kind, words: &str) {
        if !text.contains("${{") {
            return self.say(at, Problem::Invalid, format!("`{text}` must be {words} or an expression in ${{{{ }}}}"));
        }
        let Some(template) = self.template(setting, at, text) else { return };
        // A text that says it is taken for it, so that only what can never say it is wrong.
        let never = match template.lone().map(Expression::kind) {
            None => true,
            Some(found) => found.is_some_and(|found| found != kind && found != Kind::String),
        };
        if never {
            self.say(at, Problem::Invalid, format!("`{text}` must be {words} or one expression that is so"));
        }
    }
}

/// `inputs.dry_run` → `DRY_RUN`
fn variable_for(read: &str) -> String {
    let last = read.rsplit('.').find(|part| *part != "*").unwrap_or("VALUE");
    last.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}
