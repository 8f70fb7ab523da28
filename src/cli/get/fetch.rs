//! What `get` asks the server for: lists, objects by name, and what becomes of them.

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use crate::{
    api::{Reason, Served},
    client::http::{Request, RequestError, query_string, served_path},
};

use super::{
    super::{
        context::{Context, Selection, Where},
        error::CliError,
        follow, manifests,
        output::Format,
        resources::{self, Target},
    },
    GetArgs, then,
};

/// A resource; which objects of it, or none: all; and where.
pub(super) struct Wanted {
    pub(super) served: Served,
    pub(super) names: Vec<String>,
    /// Of a manifest; otherwise the namespace of the command line.
    namespace: Option<String>,
}

impl Wanted {
    fn place<'a>(&'a self, args: &GetArgs, context: &'a Context) -> Where<'a> {
        match &self.namespace {
            Some(namespace) => Where::Namespace(namespace),
            None => context.place(args.all_namespaces && self.names.is_empty()),
        }
    }
}

/// What the words or the manifests name.
pub(super) fn wanted(args: &GetArgs, context: &Context) -> Result<Vec<Wanted>, CliError> {
    if args.filename.is_empty() {
        let wanted = |Target { served, names }| Wanted { served, names, namespace: None };
        return Ok(resources::targets(&args.words)?.into_iter().map(wanted).collect());
    }
    let manifests = manifests::read(&args.filename, args.recursive, context.global.namespace.as_deref())?;
    let manifests = manifests.sound(context, "nothing was fetched")?;
    let same =
        |a: &manifests::Declared, b: &manifests::Declared| a.served.kind == b.served.kind && a.namespace == b.namespace;
    let wanted = |group: &[manifests::Declared]| Wanted {
        served: group[0].served,
        names: group.iter().map(|o| o.name.clone()).collect(),
        namespace: Some(group[0].namespace.clone()),
    };
    Ok(manifests.objects.chunk_by(same).map(wanted).collect())
}

/// Query parameters beside those that select.
fn options(args: &GetArgs) -> Vec<(&'static str, String)> {
    let table = matches!(args.output.output, Format::Table | Format::Wide);
    // What is sorted by must be there.
    let whole = table && args.sort_by.is_some();
    whole.then(|| ("includeObject", "Object".to_owned())).into_iter().chain(args.then.options()).collect()
}

/// Fetches a list or each object; an absent object is told at the end, not at once.
pub(super) async fn fetch(
    args: &GetArgs,
    context: &Context,
    wanted: &Wanted,
    accept: &'static str,
) -> Result<(Vec<Value>, Vec<CliError>), CliError> {
    let place = wanted.place(args, context);
    if wanted.names.is_empty() {
        return Ok((vec![list(args, context, wanted.served, place, accept).await?], Vec::new()));
    }
    let (mut found, mut absent) = (Vec::new(), Vec::new());
    let part = args.subresource.as_ref().map(|part| format!("/{part}")).unwrap_or_default();
    for name in &wanted.names {
        let path = served_path(wanted.served, place.name(), Some(name)) + &part + &query_string(&options(args));
        match context.client.call(Request::get(path).accept(accept)).await {
            Ok(answer) => found.push(answer.json()?),
            Err(RequestError::Refused(status)) if status.is(Reason::NotFound) && args.then.is_asked() => {
                if !args.ignore_not_found {
                    absent.push(then::absent(wanted.served, name));
                }
            }
            Err(RequestError::Refused(status)) if status.is(Reason::NotFound) && part.is_empty() => {
                if !args.ignore_not_found {
                    absent.push(context.absent(wanted.served, place.name().unwrap_or_default(), name).await);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok((found, absent))
}

/// A list, page by page if that is wanted, as if it came at once.
async fn list(
    args: &GetArgs,
    context: &Context,
    served: Served,
    place: Where<'_>,
    accept: &'static str,
) -> Result<Value, CliError> {
    let mut whole = Value::Null;
    let mut next = String::new();
    loop {
        let mut options = options(args);
        if args.chunk_size > 0 {
            options.push(("limit", args.chunk_size.to_string()));
        }
        if !next.is_empty() {
            options.push(("continue", next));
        }
        let request = Request::get(context.list_path(served, place, &args.selection, &options)).accept(accept);
        let answer = context.client.call(request).await?;
        // What is said with every page of the past is said by the columns, or not asked for.
        let mut page = if args.then.is_asked() { answer } else { context.heard(answer) }.json()?;
        next = page["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
        if whole.is_null() {
            whole = page;
        } else {
            for field in ["items", "rows"] {
                if let (Some(all), Value::Array(more)) = (whole[field].as_array_mut(), page[field].take()) {
                    all.extend(more);
                }
            }
        }
        if next.is_empty() {
            return Ok(whole);
        }
    }
}

type Changes<'a> = stream::BoxStream<'a, Result<(usize, String, Value), CliError>>;

/// Changes of everything wanted since it was fetched: index, kind of change, object.
pub(super) async fn changes<'a>(
    args: &'a GetArgs,
    context: &'a Context,
    wanted: &'a [Wanted],
    from: Vec<follow::Start>,
    accept: &'static str,
) -> Result<Changes<'a>, CliError> {
    let mut streams = Vec::new();
    let mut starts = from.into_iter();
    for (index, one) in wanted.iter().enumerate() {
        let place = one.place(args, context);
        let mut selections: Vec<Selection> =
            one.names.iter().map(|name| Selection::by_fields(format!("metadata.name={name}"))).collect();
        if selections.is_empty() {
            selections.push(args.selection.clone());
        }
        for selection in selections {
            let start = starts.next().unwrap_or_default();
            let stream = follow::changes(context, one.served, place, selection, start, accept);
            streams.push(stream.map_ok(move |(change, object)| (index, change, object)).boxed());
        }
    }
    Ok(stream::select_all(streams).boxed())
}
