//! `appm why`: from what is observed back to the change and the person.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::Value;

use crate::{
    api::{APP_LABEL, App, Instance, Key, Kind, Run, Schedule, Served, Source, kinds, source_of},
    client::http::Request,
    policy::why::{self, Facts, Link, Sort, Why},
};

use super::{
    ages,
    context::{Context, Selection, Where, log_path, name_of, served},
    error::{CliError, did_you_mean},
    events,
    output::{self, OutputArgs},
    past::One,
    screen,
};

/// So many versions of an object are looked at.
const VERSIONS: usize = 20;
/// The history of so many members is looked at.
const MEMBERS: usize = 3;
/// So many of the last lines of an output are shown.
const LINES: usize = 8;
/// So many owners are asked for theirs.
const STEPS: usize = 4;

/// Explain why something is as it is: newest first, back to the change and who made it
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm why app/web                       its instances, how they ended, what they said last, what changed, and who did it
  appm why app/web --field restarts
  appm why app/web --field spec.replicas
  appm why schedule/nightly              why it did not fire
  appm why run/report-x2 -o json         for programs

It is put together from what you may read: status, conditions, events, the last words of processes, the history, and the Source.
What you may not read is said at the end. A word that is no resource is the name of an App.")]
pub(super) struct WhyArgs {
    /// `app/web`, `app web`, or the name of an App
    #[arg(value_name = "RESOURCE", required = true, add = super::complete::resources())]
    words: Vec<String>,
    /// What of it: restarts, a condition (Ready), a field (spec.replicas, readyReplicas)
    #[arg(long, value_name = "FIELD")]
    field: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: WhyArgs, context: &Context) -> Result<(), CliError> {
    let one = match args.words.as_slice() {
        [word] if !word.contains('/') && kinds::find_by_word(word).is_none() => {
            One { served: served::<App>(), namespace: context.namespace().to_owned(), name: word.clone() }
        }
        words => One::of(words, context)?,
    };
    let facts = gather(context, &one).await?;
    let why = why::why(&facts, args.field.as_deref()).map_err(|unknown| {
        let field = args.field.as_deref().unwrap_or_default();
        let error = CliError::usage(format!("{} has no field `{field}`", facts.subject));
        let known = format!("there are {}", unknown.known.join(", "));
        error.help(known).maybe_help(did_you_mean(field, unknown.known.iter().map(String::as_str)))
    })?;
    if args.output.output.is_table() {
        return show(context, &why);
    }
    output::value(&args.output.output, &serde_json::to_value(&why).expect("plain data"))
}

/// Everything that may be read and has to do with it.
async fn gather(context: &Context, one: &One) -> Result<Facts, CliError> {
    let mut facts = Facts { subject: format!("{}/{}", one.served.singular(), one.name), ..Facts::default() };
    facts.object = one.live(context).await?.unwrap_or_default();
    match one.history(context, "", VERSIONS).await {
        Ok(history) => facts.histories.push((facts.subject.clone(), history)),
        Err(error) if facts.object.is_null() => return Err(error),
        // Events, say, have no history.
        Err(error) => facts.unreadable.push(format!("its history: {}", error.message)),
    }
    members(context, one, &mut facts).await;
    last_words(context, one, &mut facts).await;
    owners(context, one, &mut facts).await;
    events_about(context, one, &mut facts).await;
    source(context, &mut facts).await;
    Ok(facts)
}

/// What it owns, and what these own; and how some of them came to be.
async fn members(context: &Context, one: &One, facts: &mut Facts) {
    let kinds: &[Served] = match one.served.kind {
        kind if kind == App::INFO => {
            let labels = Selection::by_labels(format!("{APP_LABEL}={}", one.name));
            listed(context, one, served::<Instance>(), &labels, facts).await;
            &[]
        }
        kind if kind == Run::INFO => &[served::<Instance>()],
        kind if kind == Schedule::INFO => &[served::<Run>()],
        kind if kind.kind == "WorkflowRun" => &[served::<Run>()],
        _ => &[],
    };
    for kind in kinds {
        listed(context, one, *kind, &Selection::default(), facts).await;
    }
    let owner = uid_of(&facts.object);
    facts.members.retain(|member| owned_by(member, &owner));
    // The latest first.
    facts
        .members
        .sort_by_key(|member| std::cmp::Reverse(member["metadata"]["creationTimestamp"].as_str().map(str::to_owned)));
    facts.members.truncate(50);
    for member in facts.members.iter().take(MEMBERS) {
        let Some(member) = one_of(member) else { continue };
        if let Ok(history) = member.history(context, "", 5).await {
            facts.histories.push((format!("{}/{}", member.served.singular(), member.name), history));
        }
    }
}

/// What those that failed said last, where their status does not tell: the end of their output, as `logs` shows it.
async fn last_words(context: &Context, one: &One, facts: &mut Facts) {
    let Facts { object, members, unreadable, .. } = facts;
    let all = std::iter::once(object).chain(members).filter(|object| object["kind"] == Instance::INFO.kind);
    let failed = all.filter(|instance| {
        let exit = &instance["status"]["lastExit"];
        !exit.is_null() && exit["code"] != 0 && exit["message"].as_str().unwrap_or_default().is_empty()
    });
    for instance in failed.take(MEMBERS) {
        let status = &instance["status"];
        let mut options = vec![("tailLines", LINES.to_string())];
        // If another attempt has begun since, it has an output of its own.
        options.extend((status["attempt"] != status["lastExit"]["attempt"]).then(|| ("previous", "true".to_owned())));
        let name = name_of(instance);
        let path = log_path(Instance::INFO, &one.namespace, &name, &options);
        match context.client.call(Request::get(path).accept("*/*")).await {
            Ok(answer) => {
                let text = String::from_utf8_lossy(&answer.body).trim_end().to_owned();
                instance["status"]["lastExit"]["message"] = text.into();
            }
            Err(error) => unreadable.push(format!("the output of instance/{name}: {}", CliError::from(error).message)),
        }
    }
}

async fn listed(context: &Context, one: &One, of: Served, selection: &Selection, facts: &mut Facts) {
    match context.list(of, Where::Namespace(&one.namespace), selection).await {
        Ok((_, items)) => facts.members.extend(items.into_iter().map(|mut item| {
            // Members of lists do not say what they are.
            item["apiVersion"] = of.api_version().into();
            item["kind"] = of.name().into();
            item
        })),
        Err(error) => facts.unreadable.push(format!("its {}: {}", of.plural(), error.message)),
    }
}

fn uid_of(object: &Value) -> String {
    object["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
}

fn owned_by(object: &Value, uid: &str) -> bool {
    let owners = object["metadata"]["ownerReferences"].as_array();
    owners.into_iter().flatten().any(|owner| owner["uid"] == uid)
}

fn one_of(object: &Value) -> Option<One> {
    let served = kinds::find_served(object["apiVersion"].as_str()?, object["kind"].as_str()?)?;
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
    Some(One { served, namespace, name: name_of(object) })
}

/// Who owns it, step by step, and what was changed of them.
async fn owners(context: &Context, one: &One, facts: &mut Facts) {
    let mut object = facts.object.clone();
    for _ in 0..STEPS {
        let owners = object["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
        let Some(owner) = owners.into_iter().find(|owner| owner["controller"] == true) else { return };
        let text = |field: &str| owner[field].as_str().unwrap_or_default().to_owned();
        let Some(served) = kinds::find_served(&text("apiVersion"), &text("kind")) else { return };
        let above = One { served, namespace: one.namespace.clone(), name: text("name") };
        let told = format!("{}/{}", served.singular(), above.name);
        match above.history(context, "", VERSIONS).await {
            Ok(history) => facts.histories.push((told.clone(), history)),
            Err(error) => facts.unreadable.push(format!("the history of {told}: {}", error.message)),
        }
        match above.live(context).await {
            Ok(Some(found)) => object = found,
            Ok(None) => return,
            Err(error) => {
                facts.unreadable.push(format!("{told}: {}", error.message));
                return;
            }
        }
        facts.owners.push(object.clone());
    }
}

async fn events_about(context: &Context, one: &One, facts: &mut Facts) {
    let all = std::iter::once(&facts.object).chain(&facts.members).chain(&facts.owners);
    let about: BTreeSet<String> = all.map(uid_of).filter(|uid| !uid.is_empty()).collect();
    let place = if one.namespace.is_empty() { Where::Everywhere } else { Where::Namespace(&one.namespace) };
    let found = events::list(context, place, |event| {
        let object = &event["involvedObject"];
        let named = object["name"] == one.name.as_str() && object["kind"] == one.served.name();
        object["uid"].as_str().is_some_and(|uid| about.contains(uid)) || named
    });
    match found.await {
        Ok(mut found) => {
            found.reverse();
            facts.events = found;
        }
        Err(error) => facts.unreadable.push(format!("events: {}", error.message)),
    }
}

/// The Source that has applied it, or what owns it.
async fn source(context: &Context, facts: &mut Facts) {
    let all = std::iter::once(&facts.object).chain(&facts.owners);
    let mut found = all.filter_map(|object| source_of(&serde_json::from_value(object["metadata"].clone()).ok()?));
    let Some(Key { namespace, name, .. }) = found.next() else { return };
    let one = One { served: served::<Source>(), namespace: namespace.to_string(), name: name.to_string() };
    match one.live(context).await {
        Ok(found) => facts.source = found,
        Err(error) => facts.unreadable.push(format!("source/{name} in {namespace}: {}", error.message)),
    }
}

fn show(context: &Context, why: &Why) -> Result<(), CliError> {
    screen::line(context.screen.paint(screen::BOLD, &screen::harmless(&why.summary)))?;
    for link in why.links.iter().filter(|link| link.sort != Sort::Observed) {
        let age = link.time.map_or_else(|| "-".to_owned(), |at| ages::age(at, context.now()));
        screen::line(format_args!("{age:>7}  {}", sentence(context, why, link)))?;
        for line in &link.lines {
            // A change of one field has said it already.
            if link.lines.len() > 1 || !link.text.contains(line.as_str()) {
                screen::line(format_args!(
                    "         {} {}",
                    context.screen.paint(screen::DIM, "│"),
                    screen::harmless(line)
                ))?;
            }
        }
    }
    Ok(())
}

fn sentence(context: &Context, why: &Why, link: &Link) -> String {
    let text = match link.sort {
        Sort::Change | Sort::Decision => {
            let of = if link.text.contains(&link.about) { String::new() } else { format!(" of {}", link.about) };
            let after = if link.cause.is_empty() { String::new() } else { format!(", answering to {}", link.cause) };
            let because = if link.because.is_empty() { String::new() } else { format!(": {}", link.because) };
            let (who, text) = (who(&link.user, &link.manager), &link.text);
            format!("{who} {text}{of} (revision {}{after}){because}", link.revision)
        }
        Sort::Unreadable => format!("not known: {}", link.text),
        _ => format!("{}: {}", link.about, link.text),
    };
    let text = screen::harmless(&text);
    let style = match link.sort {
        Sort::Change if link.revision == why.origin => screen::BOLD,
        Sort::Exit => screen::BAD,
        Sort::Unreadable => screen::WARN,
        _ => return text,
    };
    context.screen.paint(style, &text)
}

/// `ann through kubectl`, or which part of appm.
fn who(user: &str, manager: &str) -> String {
    let user = if user.is_empty() { "somebody" } else { user };
    match (user.strip_prefix("system:appm:"), manager) {
        (Some(part), _) => format!("appm ({part})"),
        (None, "") => user.to_owned(),
        (None, manager) => format!("{user} through {manager}"),
    }
}
