//! Tasks in App Mesh's words: `run_task` and `cancel_task` of callers, `fetch_task` and `send_task_result` of processes.

use std::time::Duration;

use super::{Call, Content, Reply, Route, Sdk, caller};
use crate::{
    admission::TaskOrder,
    api::{Status, TASK_HEADER, TASK_PART_HEADER},
    auth::Identity,
    broker::{FetchError, GiveError, Superseded, Worker},
};

/// The header by which a process says that it takes its next task in the answer to its result: `true`.
const TASK_NEXT_HEADER: &str = "x-appm-task-next";
/// How long a caller waits that says nothing, or nonsense.
const PATIENCE: Duration = Duration::from_secs(300);

impl Sdk {
    pub(super) async fn run_task(&self, app: &str, who: &Identity, call: Call) -> Result<Reply, Status> {
        if self.is_engine(app) {
            return Ok(self.ask_engine(who, &call).await);
        }
        let seconds = call.query("timeout").parse().ok().filter(|seconds| *seconds > 0);
        let timeout = Some(seconds.map_or(PATIENCE, Duration::from_secs));
        let caller = caller(who, &call);
        let order = TaskOrder { payload: call.body, timeout, ..TaskOrder::default() };
        let done = self.admission.do_task(&caller, &Self::app(app)?, order).await?;
        let reply = Reply { content: Content::Bytes(done.result), ..Reply::empty(200) };
        Ok(reply.with(TASK_HEADER, done.task))
    }

    /// What no process has yet stays in line, as in App Mesh.
    pub(super) fn cancel_task(&self, app: &str, who: &Identity, call: &Call) -> Result<Reply, Status> {
        let cancelled = self.admission.cancel_working_tasks(&caller(who, call), &Self::app(app)?)?;
        Ok(Reply::empty(if cancelled > 0 { 200 } else { 208 }))
    }

    pub(super) async fn fetch_task(&self, app: &str, call: &Call) -> Reply {
        match self.worker(app, call) {
            Ok(worker) => self.next_task(&worker, call).await,
            Err(Superseded) => superseded(),
        }
    }

    async fn next_task(&self, worker: &Worker, call: &Call) -> Reply {
        match self.admission.broker().fetch(worker, call.connection).await {
            Ok(task) => {
                let name = task.name();
                Reply { content: Content::Task(task), ..Reply::empty(200) }.with(TASK_HEADER, name)
            }
            Err(FetchError::Superseded) => superseded(),
            Err(FetchError::Nothing) => Reply::message(504, "there is no task; ask again"),
        }
    }

    pub(super) async fn give_task(&self, app: &str, mut call: Call) -> Reply {
        let Ok(worker) = self.worker(app, &call) else { return superseded() };
        let (named, body) = (call.header(TASK_HEADER).to_owned(), std::mem::take(&mut call.body));
        let is = |name: &'static str| match call.header(name) {
            "" => Ok(false),
            "true" => Ok(true),
            _ => Err(format!("the header {name} is `true`, or not there")),
        };
        let (is_part, wants_next) = match (is(TASK_PART_HEADER), is(TASK_NEXT_HEADER)) {
            (Ok(true), Ok(true)) => {
                let message = format!("{TASK_NEXT_HEADER} goes with a result, and not with a part of one");
                return Reply::message(400, &message);
            }
            (Ok(is_part), Ok(wants_next)) => (is_part, wants_next),
            (Err(wrong), _) | (_, Err(wrong)) => return Reply::message(400, &wrong),
        };
        let broker = self.admission.broker();
        let given = match is_part {
            false => broker.give(&worker, Some(&named), call.connection, body),
            true => broker.give_part(&worker, Some(&named), call.connection, body).await,
        };
        match given {
            Ok(()) if wants_next => self.next_task(&worker, &call).await,
            Ok(()) => Reply::empty(200),
            Err(GiveError::NobodyWaits) => Reply::message(417, "no message request from client waiting for response"),
            Err(GiveError::WhichOne) => {
                let message = format!("the process has several tasks: say which one by the header {TASK_HEADER}");
                Reply::message(400, &message)
            }
            Err(GiveError::TooMuch) => Reply::message(413, "the parts are more than a result may be"),
            Err(GiveError::Slow) => {
                Reply::message(503, "the caller has not taken in what was given before").with("retry-after", "1")
            }
        }
    }

    /// What a process is told that is none of ours, before anything is taken in of what it sends.
    pub fn turned_away(&self, route: &Route, call: &Call) -> Option<Reply> {
        let Route::GiveTask(app) = route else { return None };
        self.worker(app, call).err().map(|Superseded| superseded())
    }

    fn worker(&self, app: &str, call: &Call) -> Result<Worker, Superseded> {
        let key = match call.query("process_key") {
            "" => call.header("x-appmesh-process-key"),
            key => key,
        };
        self.admission.broker().worker(app, key)
    }
}

fn superseded() -> Reply {
    Reply::message(412, "the process key is not that of a process that runs")
}
