//! `appm role`: what may be done, and by whom, without a manifest. The same can be declared as a Role.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::{
    api::{Kind, Role, Subresource},
    client::http::{Request, percent_encode},
};

use super::{
    change::{self, Found, WriteArgs},
    context::{Context, Selection, Where, name_of, served},
    error::{CliError, Exit},
    output::{self, OutputArgs},
    resources, screen,
    table::{Table, cut},
};

/// Add roles, and say who has them
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm role add deployer --verb get,list,patch --resource apps,apps/scale -n team
  appm role allow deployer --verb get --resource instances/log -n team    one more rule
  appm role bind deployer --user ada --group devs
  appm role bind view --group everybody -n team                          a built-in role, in one namespace
  appm role list                                                         what they allow, and who has them
  appm auth can-i --list --as ada")]
pub(super) struct RoleArgs {
    #[command(subcommand)]
    command: RoleCommand,
}

#[derive(Subcommand, Debug)]
enum RoleCommand {
    /// Add a role with one rule
    Add(RuleArgs),
    /// Add a rule to a role that is there
    Allow(RuleArgs),
    /// List roles: what they allow, and who has them
    #[command(visible_alias = "ls")]
    List(OutputArgs),
    /// Show roles, a line for each rule
    Get {
        /// Their names
        #[arg(required = true, value_name = "NAME", add = super::complete::roles())]
        names: Vec<String>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Give users and groups a role
    Bind(SubjectArgs),
    /// Take a role from users and groups
    Unbind(SubjectArgs),
    /// Remove roles; whoever had them has them no more
    #[command(visible_alias = "remove")]
    Rm {
        /// Their names
        #[arg(required = true, value_name = "NAME", add = super::complete::roles())]
        names: Vec<String>,
    },
}

#[derive(Args, Debug)]
struct RuleArgs {
    /// The role
    #[arg(add = super::complete::roles())]
    name: String,
    /// Verbs, with commas between them; * is every one
    #[arg(long = "verb", value_name = "VERBS", value_delimiter = ',', required = true)]
    verbs: Vec<String>,
    /// Resources or parts of them (instances/log), with commas between them; * is every one
    #[arg(
        long = "resource",
        value_name = "RESOURCES",
        value_delimiter = ',',
        required_unless_present = "paths",
        conflicts_with = "paths",
        add = super::complete::resources()
    )]
    resources: Vec<String>,
    /// Only objects of these names
    #[arg(long = "resource-name", value_name = "NAMES", value_delimiter = ',', conflicts_with = "paths")]
    resource_names: Vec<String>,
    /// Paths that are no resources: /metrics
    #[arg(long = "path", value_name = "PATHS", value_delimiter = ',')]
    paths: Vec<String>,
    /// Only what the user owns, and what others share
    #[arg(long, conflicts_with = "paths")]
    owned: bool,
    /// Everywhere, and not only in the namespace that is meant otherwise (-n)
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    #[command(flatten)]
    write: WriteArgs,
}

#[derive(Args, Debug)]
struct SubjectArgs {
    /// The role
    #[arg(add = super::complete::roles())]
    name: String,
    /// Users, with commas between them
    #[arg(
        long = "user",
        value_name = "NAMES",
        value_delimiter = ',',
        required_unless_present = "groups",
        add = super::complete::users()
    )]
    users: Vec<String>,
    /// Groups, with commas between them
    #[arg(long = "group", value_name = "NAMES", value_delimiter = ',')]
    groups: Vec<String>,
    #[command(flatten)]
    write: WriteArgs,
}

pub(super) async fn run(args: RoleArgs, context: &Context) -> Result<(), CliError> {
    match args.command {
        RoleCommand::Add(args) => add(&args, context).await,
        RoleCommand::Allow(args) => allow(&args, context).await,
        RoleCommand::List(output) => list(&output, context).await,
        RoleCommand::Get { names, output } => get(&names, &output, context).await,
        RoleCommand::Bind(args) => bind(&args, true, context).await,
        RoleCommand::Unbind(args) => bind(&args, false, context).await,
        RoleCommand::Rm { names } => {
            for name in &names {
                context.call(Request::delete(path(name), &json!({}))).await?;
                screen::line(format_args!("role/{name} removed"))?;
            }
            Ok(())
        }
    }
}

fn path(name: &str) -> String {
    format!("/apis/appm.dev/v1/roles/{}", percent_encode(name))
}

/// The rules that the flags say: one for each API group.
fn rules(args: &RuleArgs, namespace: Option<&str>) -> Result<Vec<Value>, CliError> {
    if !args.paths.is_empty() {
        return Ok(vec![json!({"verbs": args.verbs, "nonResourceURLs": args.paths})]);
    }
    let mut by_group: Vec<(String, Vec<String>)> = Vec::new();
    for word in &args.resources {
        let (group, resource) = pattern(word)?;
        match by_group.iter_mut().find(|(known, _)| *known == group) {
            Some((_, resources)) => resources.push(resource),
            None => by_group.push((group, vec![resource])),
        }
    }
    let rule = |(group, resources): (String, Vec<String>)| {
        let mut rule = json!({"apiGroups": [group], "resources": resources, "verbs": args.verbs});
        if !args.resource_names.is_empty() {
            rule["resourceNames"] = json!(args.resource_names);
        }
        if let Some(namespace) = namespace.filter(|_| !args.all_namespaces) {
            rule["namespaces"] = json!([namespace]);
        }
        if args.owned {
            rule["owned"] = true.into();
        }
        rule
    };
    Ok(by_group.into_iter().map(rule).collect())
}

/// API group and resource of `apps`, `app`, `instances/log`, `hostpowers` and `*`.
pub(super) fn pattern(word: &str) -> Result<(String, String), CliError> {
    /// What has no kind: verbs of their own are about it.
    const OTHERS: [(&str, &str); 2] = [("hostpowers", "appm.dev"), ("groups", "")];
    let (name, part) = word.split_once('/').map_or((word, ""), |(name, part)| (name, part));
    let known = [
        Subresource::Status,
        Subresource::Scale,
        Subresource::Log,
        Subresource::Finalize,
        Subresource::Stdin,
        Subresource::Artifacts,
    ]
    .map(Subresource::word);
    if !(part.is_empty() || part == "*" || known.contains(&part) || part == "exec") {
        return Err(CliError::usage(format!("there is no part `{part}` of a resource")));
    }
    let (group, plural) = match OTHERS.iter().find(|(other, _)| *other == name) {
        _ if name == "*" => ("*", "*"),
        Some((other, group)) => (*group, *other),
        None => {
            let served = resources::resource(name)?;
            (served.group(), served.plural())
        }
    };
    let resource = if part.is_empty() { plural.to_owned() } else { format!("{plural}/{part}") };
    Ok((group.to_owned(), resource))
}

async fn add(args: &RuleArgs, context: &Context) -> Result<(), CliError> {
    let role = json!({
        "apiVersion": Role::INFO.api_version(), "kind": Role::INFO.kind, "metadata": {"name": args.name},
        "spec": {"rules": rules(args, context.global.namespace.as_deref())?},
    });
    let path = format!("/apis/appm.dev/v1/roles{}", args.write.query());
    let made = context.call(Request::post(path, &role)).await?.json()?;
    args.write.told(&Found { served: served::<Role>(), object: role }, "added", made)
}

async fn allow(args: &RuleArgs, context: &Context) -> Result<(), CliError> {
    let more = rules(args, context.global.namespace.as_deref())?;
    let mut found = find(&args.name, context).await?;
    let done = change::modify(context, &mut found, &args.write, |role| {
        let mut rules = role["spec"]["rules"].as_array().cloned().unwrap_or_default();
        rules.extend(more.iter().filter(|rule| !rules.contains(rule)).cloned().collect::<Vec<_>>());
        Ok(changed("rules", &role["spec"]["rules"], rules))
    });
    let done = done.await?;
    tell_done(done, &found, &args.write)
}

async fn find(name: &str, context: &Context) -> Result<Found, CliError> {
    Ok(Found { served: served::<Role>(), object: context.get(served::<Role>(), "", name).await? })
}

/// The merge patch that makes a list of the spec another one; empty if it is that already.
fn changed(field: &str, before: &Value, after: Vec<Value>) -> Value {
    let same = before.as_array().map_or(after.is_empty(), |before| *before == after);
    if same { json!({}) } else { json!({"spec": {field: after}}) }
}

async fn bind(args: &SubjectArgs, give: bool, context: &Context) -> Result<(), CliError> {
    let namespace = context.global.namespace.as_deref();
    let of = |kind: &'static str, names: &'_ [String]| {
        names.iter().map(|name| json!({"kind": kind, "name": name})).collect::<Vec<_>>()
    };
    let named = [of("User", &args.users), of("Group", &args.groups)].concat();
    let same = |a: &Value, b: &Value| a["kind"] == b["kind"] && a["name"] == b["name"];
    let mut found = find(&args.name, context).await?;
    let done = change::modify(context, &mut found, &args.write, |role| {
        let mut subjects = role["spec"]["subjects"].as_array().cloned().unwrap_or_default();
        for subject in &named {
            let place = subjects.iter().position(|known| same(known, subject));
            match (give, place) {
                (true, Some(place)) => widen(&mut subjects[place], namespace),
                (true, None) => {
                    let mut subject = subject.clone();
                    if let Some(namespace) = namespace {
                        subject["namespaces"] = json!([namespace]);
                    }
                    subjects.push(subject);
                }
                (false, Some(place)) => {
                    if narrowed_to_nothing(&mut subjects[place], namespace)? {
                        subjects.remove(place);
                    }
                }
                (false, None) => {}
            }
        }
        Ok(changed("subjects", &role["spec"]["subjects"], subjects))
    });
    let done = done.await?;
    tell_done(done, &found, &args.write)
}

/// Lets a subject have the role in a namespace more, or everywhere.
fn widen(subject: &mut Value, namespace: Option<&str>) {
    let Some(fields) = subject.as_object_mut() else { return };
    let Some(namespace) = namespace else {
        fields.remove("namespaces");
        return;
    };
    // Whoever has it everywhere has it there, too.
    if let Some(Value::Array(namespaces)) = fields.get_mut("namespaces")
        && !namespaces.iter().any(|known| known == namespace)
    {
        namespaces.push(namespace.into());
    }
}

/// Takes the role from a subject in a namespace; true if nothing is left of it.
fn narrowed_to_nothing(subject: &mut Value, namespace: Option<&str>) -> Result<bool, CliError> {
    let Some(namespace) = namespace else { return Ok(true) };
    let whole =
        format!("{} has it everywhere, not in `{namespace}` alone", subject["name"].as_str().unwrap_or_default());
    match subject["namespaces"].as_array_mut() {
        Some(namespaces) => {
            namespaces.retain(|known| known != namespace);
            Ok(namespaces.is_empty())
        }
        None => {
            Err(CliError::new(Exit::Conflict, whole).help("take it away without -n, and give it where it is to stay"))
        }
    }
}

fn tell_done(done: Option<Value>, found: &Found, write: &WriteArgs) -> Result<(), CliError> {
    match done {
        Some(now) => write.told(found, "changed", now),
        None => write.told(found, "unchanged", found.object.clone()),
    }
}

/// Of a rule in a list; `appm role get` shows it whole.
const WIDEST: usize = 60;

async fn list(args: &OutputArgs, context: &Context) -> Result<(), CliError> {
    let (_, roles) = context.list(served::<Role>(), Where::Everywhere, &Selection::default()).await?;
    if !args.output.is_table() {
        return output::objects(&args.output, roles, true);
    }
    let mut table = Table::new(["NAME", "ALLOWS", "SUBJECTS"]);
    for role in &roles {
        let rules: Vec<String> = list_of(&role["spec"]["rules"]).map(sentence).collect();
        let shown = match rules.as_slice() {
            [] => "nothing".to_owned(),
            [rule] => cut(rule, WIDEST),
            [rule, more @ ..] => format!("{}; {} more", cut(rule, WIDEST), more.len()),
        };
        table.add([name_of(role), shown, subjects(role)]);
    }
    Ok(screen::print(table.render(&context.screen, true))?)
}

async fn get(names: &[String], args: &OutputArgs, context: &Context) -> Result<(), CliError> {
    let mut roles = Vec::new();
    for name in names {
        roles.push(context.get(served::<Role>(), "", name).await?);
    }
    if !args.output.is_table() {
        return output::objects(&args.output, roles, false);
    }
    let mut table = Table::new(["NAME", "ALLOWS", "SUBJECTS"]);
    for role in &roles {
        let (name, mut subjects) = (name_of(role), subjects(role));
        let rules: Vec<String> = list_of(&role["spec"]["rules"]).map(sentence).collect();
        let rules = if rules.is_empty() { vec!["nothing".to_owned()] } else { rules };
        for rule in rules {
            table.add([name.as_str(), &rule, &std::mem::take(&mut subjects)]);
        }
    }
    Ok(screen::print(table.render(&context.screen, true))?)
}

fn list_of(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn words(list: &Value) -> String {
    list_of(list).filter_map(Value::as_str).collect::<Vec<_>>().join(",")
}

/// `get,list apps.appm.dev in team`
fn sentence(rule: &Value) -> String {
    let verbs = words(&rule["verbs"]);
    if rule["nonResourceURLs"].is_array() {
        return format!("{verbs} {}", words(&rule["nonResourceURLs"]));
    }
    let groups: Vec<&str> = list_of(&rule["apiGroups"]).filter_map(Value::as_str).collect();
    let of = |resource: &str| match groups.as_slice() {
        [] | ["" | "*"] => resource.to_owned(),
        [group] => format!("{resource}.{group}"),
        groups => format!("{resource}.{{{}}}", groups.join(",")),
    };
    let resources = list_of(&rule["resources"]).filter_map(Value::as_str).map(of).collect::<Vec<_>>().join(",");
    let mut text = format!("{verbs} {resources}");
    for (field, word) in [("resourceNames", " named "), ("namespaces", " in ")] {
        if !words(&rule[field]).is_empty() {
            text += &format!("{word}{}", words(&rule[field]));
        }
    }
    if rule["owned"] == true {
        text += " (own)";
    }
    text
}

/// `user:ada,group:devs (team)`
fn subjects(role: &Value) -> String {
    let all = list_of(&role["spec"]["subjects"]).map(|subject| {
        let text = |field: &str| subject[field].as_str().unwrap_or_default();
        let place = words(&subject["namespaces"]);
        let place = if place.is_empty() { place } else { format!(" ({place})") };
        format!("{}:{}{place}", text("kind").to_lowercase(), text("name"))
    });
    all.collect::<Vec<_>>().join(",")
}
