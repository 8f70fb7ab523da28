//! `GET …/instances/NAME/log`, `GET …/pods/NAME/log` and `GET …/runs/NAME/log`: what an instance wrote, with the parameters of a Pod's log.
//!
//! The reader of log files belongs to the logger; the daemon hands it in as a [`LogSource`]. Which attempt is meant is
//! decided here, as a kubelet does: the present one, or (while the next is waited for) the one that ended last; with
//! `previous` the one that ended before the present one. Whoever follows an instance goes on through its restarts; a
//! Pod's log ends with the Pod.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use futures::{
    StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use jiff::{SignedDuration, Timestamp};

use super::{
    call::Call,
    documents::not_allowed,
    path::Resource,
    query::Params,
    respond::{self, Answer, BodyError},
    run_log,
    state::State,
    wait,
};
use crate::{
    api::{
        FieldPath, Instance, InstanceStatus, Key, Kind, Object, Problem, Reason, Run, Served, Status, StoredObject,
        Uid, Violation, container_name,
    },
    store::Store,
};

/// Which output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogStream {
    /// Both, in the order in which they were written.
    #[default]
    All,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What of an instance's output is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Of which attempt.
    pub attempt: u32,
    /// Go on with what is written later, and with the attempts after this one.
    pub follow: bool,
    /// Each line begins with its time.
    pub timestamps: bool,
    /// At most so many lines from the end.
    pub tail: Option<u64>,
    /// Nothing older.
    pub since: Option<Timestamp>,
    /// At most so many bytes.
    pub limit_bytes: Option<u64>,
    /// Which output.
    pub stream: LogStream,
}

/// Output, piece by piece as it comes.
pub type LogPieces = BoxStream<'static, io::Result<Bytes>>;

/// Resolves when no more output is to be waited for.
pub type LogEnd = BoxFuture<'static, ()>;

/// Opens the output of an instance, up to the end if there is one. Given by the daemon.
pub type LogSource = Arc<
    dyn Fn(Arc<Object<Instance>>, LogQuery, Option<LogEnd>) -> BoxFuture<'static, Result<LogPieces, Status>>
        + Send
        + Sync,
>;

/// Answers with what an instance wrote.
pub(super) async fn read(
    state: &Arc<State>,
    call: &Call,
    served: Served,
    resource: &Resource<'_>,
    verb: &str,
) -> Result<Answer, Status> {
    if verb != "get" {
        return Err(not_allowed());
    }
    let asked = Asked::parse(&call.params, resource.name, state.clock.now())?;
    let key = resource.key(served);
    let object = state.admission.get_part(&call.caller(), served, resource.subresource, &key)?;
    let limit = asked.query.limit_bytes;
    let share = asked.query.follow.then(|| state.watch_of(&call.who)).transpose()?;
    let pieces = match key.kind == Run::INFO {
        true => {
            let run = object.typed::<Run>().ok_or_else(|| Status::internal("the run cannot be read"))?;
            run_log::open(state, key, &run, asked.query, asked.previous).await?
        }
        false => of_instance(state, key, served, &object, asked).await?,
    };
    let pieces = limited(pieces, limit);
    let (stopping, revoked) = (state.stopping.clone(), super::watch::revoked(state, &call.who));
    let cut = Arc::new(OnceLock::new());
    let told = cut.clone();
    let end = async move {
        tokio::select! { () = stopping.cancelled() => {}, _ = revoked => drop(told.set(())) }
    };
    let pieces = pieces.map(move |piece| {
        // Held as long as output may come.
        let _held = &share;
        piece.map_err(BodyError::from)
    });
    // Broken off, so that nobody takes it for the end of the log.
    let broken = stream::iter([()]).filter_map(move |()| {
        let cut = cut
            .get()
            .map(|()| Err(BodyError::from("what proved who you are has ended, or what you may do has changed")));
        async move { cut }
    });
    let pieces = pieces.take_until(Box::pin(end)).chain(broken);
    Ok(respond::streamed("text/plain; charset=utf-8", pieces.boxed()))
}

async fn of_instance(
    state: &Arc<State>,
    key: Key,
    served: Served,
    object: &StoredObject,
    asked: Asked,
) -> Result<LogPieces, Status> {
    let instance = object.typed::<Instance>().ok_or_else(|| Status::internal("the instance cannot be read"))?;
    let attempt = asked.attempt(served, &instance)?;
    // Whoever follows goes on through restarts, those that happened since then included: it may have lost its connection.
    let from_then = asked.query.follow && asked.query.since.is_some() && served.view.is_none() && !asked.previous;
    let query = LogQuery { attempt: if from_then { 1 } else { attempt }, ..asked.query };
    let end = (query.follow && served.view.is_some())
        .then(|| -> LogEnd { Box::pin(ended(state.store.clone(), key, instance.uid().clone())) });
    (state.logs)(instance, query, end).await
}

/// What the parameters say.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    container: String,
    previous: bool,
    /// Without the attempt, which only the instance tells.
    query: LogQuery,
}

impl Asked {
    /// Reads the parameters of the log of `name`.
    ///
    /// # Errors
    /// 400 for one that cannot be understood, 422 for one that makes no sense.
    fn parse(params: &Params, name: &str, now: Timestamp) -> Result<Self, Status> {
        let mut wrong = Vec::new();
        let mut number = |field: &str, least: i64, bound: &str| {
            let value = signed(params, field)?;
            if let Some(value) = value.filter(|n| *n < least) {
                let message = format!("{value}: must be greater than {bound}");
                wrong.push(Violation::new(FieldPath::of(field), Problem::Invalid, message));
            }
            Ok::<_, Status>(value)
        };
        let tail = number("tailLines", 0, "or equal to 0")?;
        let limit_bytes = number("limitBytes", 1, "0")?;
        let seconds = number("sinceSeconds", 1, "0")?;
        let time: Option<Timestamp> = match params.get("sinceTime") {
            "" => None,
            text => Some(text.parse().map_err(|_| Status::bad_request("sinceTime must be an RFC 3339 time"))?),
        };
        if seconds.is_some() && time.is_some() {
            let message = "at most one of `sinceTime` or `sinceSeconds` may be specified";
            wrong.push(Violation::new(FieldPath::root(), Problem::Forbidden, message));
        }
        let stream = match params.get("stream") {
            "" | "All" | "all" => LogStream::All,
            "Stdout" | "stdout" => LogStream::Stdout,
            "Stderr" | "stderr" => LogStream::Stderr,
            other => {
                return Err(Status::bad_request(format!("stream must be All, Stdout or Stderr (got \"{other}\")")));
            }
        };
        if !wrong.is_empty() {
            return Err(invalid(name, &wrong));
        }
        let back = |s| now.checked_sub(SignedDuration::from_secs(s)).unwrap_or(Timestamp::MIN);
        let query = LogQuery {
            attempt: 0,
            follow: params.flag("follow")?,
            timestamps: params.flag("timestamps")?,
            tail: tail.and_then(|n| u64::try_from(n).ok()),
            since: seconds.map(back).or(time),
            limit_bytes: limit_bytes.and_then(|n| u64::try_from(n).ok()),
            stream,
        };
        // Accepted from kubectl, and without meaning: nothing is fetched from elsewhere.
        params.flag("insecureSkipTLSVerifyBackend")?;
        Ok(Self { container: params.get("container").to_owned(), previous: params.flag("previous")?, query })
    }

    /// Which attempt's output is meant.
    ///
    /// # Errors
    /// 400 if there is none.
    fn attempt(&self, served: Served, instance: &Object<Instance>) -> Result<u32, Status> {
        let (name, only) = (&instance.metadata.name, container_name(&instance.metadata));
        let is_pod = served.view.is_some();
        if is_pod && !self.container.is_empty() && self.container != only {
            let message = format!("container {} is not valid for pod {name}", self.container);
            return Err(Status::bad_request(message));
        }
        let status = &instance.status;
        match (self.previous, previous(status), present(status)) {
            (true, Some(attempt), _) => Ok(attempt),
            (true, None, _) if is_pod => {
                let message = format!("previous terminated container \"{only}\" in pod \"{name}\" not found");
                Err(Status::bad_request(message))
            }
            (true, None, _) => Err(Status::bad_request(format!(
                "previous attempt of instance \"{name}\" not found: it was started {} time(s)",
                status.attempt
            ))),
            (false, _, 0) if is_pod => {
                let message = format!("container \"{only}\" in pod \"{name}\" is waiting to start: ContainerCreating");
                Err(Status::bad_request(message))
            }
            (false, _, present) => Ok(present),
        }
    }
}

/// The attempt that runs; if none does, the one that ended last.
fn present(status: &InstanceStatus) -> u32 {
    match (&status.last_exit, status.state.pid()) {
        (Some(exit), None) => exit.attempt,
        _ => status.attempt,
    }
}

/// The attempt that ended last; for an instance that will not start again, the one before it.
fn previous(status: &InstanceStatus) -> Option<u32> {
    let last = status.last_exit.as_ref()?.attempt;
    if status.state.exited.is_none() { Some(last) } else { last.checked_sub(1).filter(|before| *before > 0) }
}

fn signed(params: &Params, name: &str) -> Result<Option<i64>, Status> {
    match params.get(name) {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            Status::bad_request(format!("the query parameter `{name}` must be a number (got \"{text}\")"))
        }),
    }
}

/// 422 in Kubernetes' words: what is invalid are the options.
fn invalid(name: &str, violations: &[Violation]) -> Status {
    let all: Vec<String> = violations.iter().map(ToString::to_string).collect();
    let mut status = Status::new(Reason::Invalid, format!("PodLogOptions \"{name}\" is invalid: {}", all.join(", ")));
    "PodLogOptions".clone_into(&mut status.details.kind);
    name.clone_into(&mut status.details.name);
    status.details.causes = violations.iter().map(Into::into).collect();
    status
}

/// Waits until the instance has ended for good, or is gone.
pub(super) async fn ended(store: Arc<Store>, key: Key, uid: Uid) {
    let over = || match store.get(&key).and_then(|object| object.typed::<Instance>()) {
        Some(instance) => (instance.uid() != &uid || instance.status.state.exited.is_some()).then_some(()),
        None => Some(()),
    };
    wait::until(&store, &key, over).await.unwrap_or_default();
}

/// Ends a stream after so many bytes.
pub(super) fn limited(pieces: LogPieces, limit: Option<u64>) -> LogPieces {
    let Some(limit) = limit else { return pieces };
    let whole = usize::try_from(limit).unwrap_or(usize::MAX);
    let cut = |left: &mut usize, piece: io::Result<Bytes>| {
        let piece = piece.map(|bytes| bytes.slice(..bytes.len().min(*left)));
        let go_on = *left > 0;
        *left -= piece.as_ref().map_or(0, Bytes::len);
        futures::future::ready(go_on.then_some(piece))
    };
    pieces.scan(whole, cut).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Exit, Exited, InstanceState, MicroTime, Running};

    #[tokio::test]
    async fn the_limit_is_exact() {
        let pieces = futures::stream::iter(["abc", "def"].map(|p| Ok(Bytes::from(p)))).boxed();
        let all: Vec<_> = limited(pieces, Some(4)).map(|p| p.expect("no error")).collect().await;
        assert_eq!(all.concat(), b"abcd");
    }

    #[test]
    fn the_parameters_are_those_of_a_pods_log() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().expect("time");
        let read = |text| Asked::parse(&Params::parse(Some(text)), "web-1-0", now);
        let all = read("follow=true&tailLines=5&sinceSeconds=30&previous=1&timestamps=true&limitBytes=9&stream=Stderr");
        let query = LogQuery {
            attempt: 0,
            follow: true,
            timestamps: true,
            tail: Some(5),
            since: Some("2026-01-01T00:00:30Z".parse().expect("time")),
            limit_bytes: Some(9),
            stream: LogStream::Stderr,
        };
        assert_eq!(all, Ok(Asked { container: String::new(), previous: true, query }));
        for (text, code, message) in [
            ("tailLines=x", 400, "the query parameter `tailLines` must be a number (got \"x\")"),
            ("stream=x", 400, "stream must be All, Stdout or Stderr (got \"x\")"),
            ("sinceTime=yesterday", 400, "sinceTime must be an RFC 3339 time"),
            (
                "tailLines=-1",
                422,
                "PodLogOptions \"web-1-0\" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                "limitBytes=0",
                422,
                "PodLogOptions \"web-1-0\" is invalid: limitBytes: Invalid value: 0: must be greater than 0",
            ),
        ] {
            let refused = read(text).expect_err(text);
            assert_eq!((refused.reason.code(), refused.message.as_str()), (code, message));
        }
        let both = read("sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z").expect_err("refused");
        assert_eq!(both.reason.code(), 422);
        assert!(read("tailLines=0&insecureSkipTLSVerifyBackend=true").is_ok());
    }

    #[test]
    fn the_attempt_is_the_one_that_a_kubelet_would_choose() {
        let exit = |attempt| Some(Exit { attempt, code: Some(1), ..Exit::default() });
        let running = || InstanceState {
            running: Some(Running { pid: 1, start_time: MicroTime(Timestamp::UNIX_EPOCH), adopted: false }),
            ..InstanceState::default()
        };
        let exited = || InstanceState {
            exited: Some(Exited { reason: "Failed".to_owned(), message: String::new() }),
            ..InstanceState::default()
        };
        for (attempt, state, last_exit, expected) in [
            (0, InstanceState::default(), None, (0, None)),
            (1, running(), None, (1, None)),
            (2, running(), exit(1), (2, Some(1))),
            // It waits for the third start; a reboot has used up a number that nothing was started under.
            (2, InstanceState::default(), exit(2), (2, Some(2))),
            (3, InstanceState::default(), exit(2), (2, Some(2))),
            (2, exited(), exit(2), (2, Some(1))),
            (1, exited(), exit(1), (1, None)),
        ] {
            let status = InstanceStatus { attempt, state, last_exit, ..InstanceStatus::default() };
            assert_eq!((present(&status), previous(&status)), expected, "{status:?}");
        }
    }
}
