//! Why something is as it is: facts in, a chain of links out, newest first, from what is observed back to the change and its author.
//!
//! ```text
//!  observed ◄─ exit, its last words ◄─ condition, event ◄─ what appm decided ◄─ the change that it answered to ◄─ the Source
//! ```
//!
//! The chain invents nothing: each link is taken from one fact, and says from which. What could not be read is a link, too.

mod links;

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::api::{History, Rev, Version, VersionChange};

/// So many links of one sort are told.
const MOST: usize = 6;

/// What could be found out about an object.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// `app/web`.
    pub subject: String,
    /// The object, `null` if it is not there.
    pub object: Value,
    /// What it owns: an App's and a Run's Instances, a Schedule's Runs, and what these own.
    pub members: Vec<Value>,
    /// Who owns it, the nearest first.
    pub owners: Vec<Value>,
    /// Events about any of them.
    pub events: Vec<Value>,
    /// Histories, by `app/web`: of the subject first, of its owners, of some members.
    pub histories: Vec<(String, History)>,
    /// The Source that has applied it.
    pub source: Option<Value>,
    /// What could not be read, and why not, in words.
    pub unreadable: Vec<String>,
}

/// What sort of fact a link stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Sort {
    /// How it is now.
    Observed,
    /// A process ended.
    Exit,
    /// A condition of a status.
    Condition,
    /// An Event.
    Event,
    /// What a part of appm did, with its reason.
    Decision,
    /// What somebody changed.
    Change,
    /// Where the change was declared.
    Source,
    /// What could not be read.
    Unreadable,
}

/// One link of the chain.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// What it stands on.
    pub sort: Sort,
    /// When, in RFC 3339; absent where that has no time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// What it is about: `app/web`, `instance/web-abc-0`.
    pub about: String,
    /// A sentence.
    pub text: String,
    /// Lines below it: the last words of a process, the fields of a change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
    /// Who did it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Through what.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub manager: String,
    /// The revision of a change or decision.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// The reason that was given with a change or a decision.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub because: String,
    /// The revision that a decision answered to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cause: String,
    /// The request, as the audit log has it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    /// Since when it has been so, where it tells of trouble.
    #[serde(skip)]
    pub(super) trouble: Option<Timestamp>,
}

impl Link {
    fn new(sort: Sort, time: Option<Timestamp>, about: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            sort,
            time,
            about: about.into(),
            text: text.into(),
            lines: Vec::new(),
            user: String::new(),
            manager: String::new(),
            revision: String::new(),
            because: String::new(),
            cause: String::new(),
            request_id: String::new(),
            trouble: None,
        }
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    /// `app/web`.
    pub subject: String,
    /// The field that was asked about; empty: the object as a whole.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// One sentence or two.
    pub summary: String,
    /// The revision of the change that it comes from, as far as that can be told.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub origin: String,
    /// The chain, newest first; what is observed is at its head, what could not be read at its end.
    pub links: Vec<Link>,
}

/// The field that was asked about is none; with those that there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownField {
    /// The names that are understood.
    pub known: Vec<String>,
}

/// Makes the chain.
///
/// # Errors
/// When `field` names nothing of the object.
pub fn why(facts: &Facts, field: Option<&str>) -> Result<Why, UnknownField> {
    let about = field.map(|field| Asked::of(facts, field)).transpose()?;
    let mut links = links::exits(facts);
    links.extend(links::conditions(facts));
    links.extend(links::events(facts));
    links.extend(links::versions(facts));
    links.extend(links::source(facts));
    match &about {
        Some(asked) => links.retain(|link| asked.concerns(link)),
        // What is as it should be explains no trouble.
        None if links.iter().any(|link| link.trouble.is_some()) => {
            links.retain(|link| link.sort != Sort::Condition || link.trouble.is_some());
        }
        None => {}
    }
    // Of the same moment, what is observed stands above what caused it.
    links.sort_by(|a, b| b.time.cmp(&a.time).then(a.sort.cmp(&b.sort)));
    let origin = origin(facts, &links);
    keep_most(&mut links, origin.as_deref());
    let observed = match &about {
        Some(asked) => asked.observed(facts),
        None => links::observed(facts),
    };
    let summary = summary(&observed, &links, origin.as_deref());
    links.splice(0..0, observed);
    links.extend(facts.unreadable.iter().map(|what| Link::new(Sort::Unreadable, None, &facts.subject, what)));
    let field = field.unwrap_or_default().to_owned();
    Ok(Why { subject: facts.subject.clone(), field, summary, origin: origin.unwrap_or_default(), links })
}

/// Some of each sort, the newest; and the origin, however old.
fn keep_most(links: &mut Vec<Link>, origin: Option<&str>) {
    let mut seen = std::collections::BTreeMap::<Sort, usize>::new();
    links.retain(|link| {
        let count = seen.entry(link.sort).or_default();
        *count += 1;
        *count <= MOST || (link.sort == Sort::Change && origin == Some(link.revision.as_str()))
    });
}

/// The change that what is observed comes from. Where a process failed: the one that appm answered to when it made its Instance. Else
/// the newest before the trouble began; where there is none, or the object is gone, the newest of all.
fn origin(facts: &Facts, links: &[Link]) -> Option<String> {
    let changes = || links.iter().filter(|link| link.sort == Sort::Change);
    let newest = changes().next();
    let failed = links.iter().find(|link| link.sort == Sort::Exit && link.trouble.is_some());
    let decided = failed.and_then(|exit| {
        links
            .iter()
            .rev()
            .find(|link| link.sort == Sort::Decision && link.about == exit.about && !link.cause.is_empty())
    });
    let answered = decided.and_then(|decision| {
        let cause = Rev::parse(&decision.cause)?;
        changes().find(|link| Rev::parse(&link.revision).is_some_and(|revision| revision <= cause))
    });
    let began = links.iter().filter_map(|link| link.trouble).min();
    let before = began.and_then(|began| {
        // Kubernetes' times are whole seconds.
        changes().find(|link| link.time.is_none_or(|at| at.as_second() <= began.as_second()))
    });
    let found = if facts.object.is_null() { newest } else { answered.or(before).or(newest) };
    found.map(|link| link.revision.clone())
}

fn summary(observed: &[Link], links: &[Link], origin: Option<&str>) -> String {
    let mut text = observed.iter().map(|link| link.text.clone()).collect::<Vec<_>>().join(". ");
    let exit = links.iter().find(|link| link.sort == Sort::Exit);
    if let Some(exit) = exit {
        text += &format!(". {} {}", exit.about, exit.text);
    }
    let change = links.iter().find(|link| link.sort == Sort::Change && origin == Some(link.revision.as_str()));
    if let Some(change) = change {
        let who = if change.user.is_empty() { "somebody" } else { &change.user };
        text +=
            &format!(". It goes back to {who}, who {} ({}, revision {})", change.text, change.about, change.revision);
    }
    text
}

/// A field that was asked about.
enum Asked {
    /// Restarts, exits, attempts.
    Runs,
    /// A condition.
    Condition(String),
    /// Part of what is wished: its path.
    Wished(String),
    /// Part of the status: its name.
    Status(String),
}

/// Words for what processes do.
const RUNS: [&str; 5] = ["restarts", "attempt", "exit", "lastExit", "consecutiveRestarts"];

impl Asked {
    fn of(facts: &Facts, field: &str) -> Result<Self, UnknownField> {
        let plain = field.trim_start_matches('.');
        let bare = plain.strip_prefix("status.").unwrap_or(plain);
        let condition = bare.strip_prefix("conditions.").unwrap_or(bare);
        if RUNS.iter().any(|word| word.eq_ignore_ascii_case(bare)) {
            return Ok(Asked::Runs);
        }
        let conditions = links::condition_types(&facts.object);
        if let Some(found) = conditions.iter().find(|kind| kind.eq_ignore_ascii_case(condition)) {
            return Ok(Asked::Condition(found.clone()));
        }
        let status = fields_of(&facts.object["status"]);
        if let Some(found) = status.iter().find(|name| name.eq_ignore_ascii_case(bare)) {
            return Ok(Asked::Status(found.clone()));
        }
        let wished = wished_paths(facts);
        if wished.iter().any(|path| is_part(path, plain)) {
            return Ok(Asked::Wished(plain.to_owned()));
        }
        let restarts = (!facts.members.is_empty()).then(|| "restarts".to_owned());
        let known: BTreeSet<String> = restarts.into_iter().chain(conditions).chain(status).chain(wished).collect();
        Err(UnknownField { known: known.into_iter().collect() })
    }

    fn concerns(&self, link: &Link) -> bool {
        match (self, link.sort) {
            (_, Sort::Change | Sort::Source | Sort::Unreadable) if !matches!(self, Asked::Wished(_)) => true,
            (Asked::Runs, Sort::Exit | Sort::Event | Sort::Decision) => true,
            (Asked::Runs, _) => false,
            (Asked::Condition(kind), Sort::Condition) => link.text.starts_with(&format!("{kind} ")),
            (Asked::Condition(_) | Asked::Status(_), _) => true,
            (Asked::Wished(path), Sort::Change | Sort::Decision) => {
                let mut told = link.lines.iter().filter_map(|line| line.split(' ').next());
                link.lines.is_empty() || told.any(|of| is_part(of, path))
            }
            (Asked::Wished(_), Sort::Source) => true,
            (Asked::Wished(_), _) => false,
        }
    }

    fn observed(&self, facts: &Facts) -> Vec<Link> {
        let text = match self {
            Asked::Runs => links::restarts(facts),
            Asked::Condition(kind) => links::condition_text(&facts.object, kind),
            Asked::Status(name) => format!("status.{name} is {}", links::short(&facts.object["status"][name])),
            Asked::Wished(path) => links::wished(&facts.object, path),
        };
        vec![Link::new(Sort::Observed, None, &facts.subject, text)]
    }
}

fn fields_of(object: &Value) -> Vec<String> {
    object.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

/// What can be asked about of what is wished: the fields of the spec, and whatever was changed.
fn wished_paths(facts: &Facts) -> Vec<String> {
    let spec = fields_of(&facts.object["spec"]).into_iter().map(|name| format!("spec.{name}"));
    let told = facts.histories.iter().take(1).flat_map(|(_, history)| &history.items);
    let changed = told.flat_map(|version: &Version| version.fields.iter().map(|field| field.path.clone()));
    spec.chain(changed).collect()
}

/// Whether a path and what was asked about meet: one is within the other, with or without `spec.` before it.
fn is_part(path: &str, asked: &str) -> bool {
    let within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    [asked.to_owned(), format!("spec.{asked}")].iter().any(|asked| within(path, asked) || within(asked, path))
}

/// True for changes that somebody asked for, as against what appm did by itself.
fn is_somebodys(version: &Version) -> bool {
    !version.by.request_id.is_empty() || (!version.by.user.is_empty() && !version.by.user.starts_with("system:"))
}

/// True for versions in which nothing but ownership changed.
fn is_silent(version: &Version) -> bool {
    version.change == VersionChange::Changed && version.changed_fields == 0
}

#[cfg(test)]
mod tests;
