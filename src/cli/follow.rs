//! Watches that go on when the server ends them, as it does from time to time.

use futures::{Stream, StreamExt, stream, stream::BoxStream};
use serde_json::Value;

use crate::api::{Rev, Served};

use super::{
    context::{Context, Selection, Where},
    error::CliError,
};

/// The revision that an object, a list or a table shows.
pub(super) fn revision(object: &Value) -> Rev {
    let own = object["metadata"]["resourceVersion"].as_str();
    let of_row = || object["rows"][0]["object"]["metadata"]["resourceVersion"].as_str();
    own.filter(|t| !t.is_empty()).or_else(of_row).and_then(Rev::parse).unwrap_or_default()
}

type Events = BoxStream<'static, Result<(String, Value), CliError>>;

/// Every change since `from`, `(type, object)`, for as long as the server is there.
pub(super) fn changes<'a>(
    context: &'a Context,
    served: Served,
    place: Where<'a>,
    selection: Selection,
    from: Rev,
    accept: &'static str,
) -> impl Stream<Item = Result<(String, Value), CliError>> + Send + 'a {
    stream::unfold((None::<Events>, from, selection), move |(mut open, mut seen, selection)| async move {
        loop {
            let events = match &mut open {
                Some(events) => events,
                None => match context.watch(served, place, &selection, seen, accept).await {
                    Ok(events) => open.insert(events),
                    Err(error) => return Some((Err(error), (None, seen, selection))),
                },
            };
            match events.next().await {
                None => open = None,
                Some(Ok((change, object))) => {
                    seen = seen.max(revision(&object));
                    if change != "BOOKMARK" {
                        return Some((Ok((change, object)), (open, seen, selection)));
                    }
                }
                Some(Err(error)) => return Some((Err(error), (None, seen, selection))),
            }
        }
    })
}
