//! Tasks in App Mesh's words: `run_task` and `cancel_task` of callers, `fetch_task` and `send_task_result` of processes.

use std::time::Duration;

use super::{Call, Content, Reply, Sdk, caller};
use crate::{
    admission::TaskOrder,
    api::{Status, TASK_HEADER, TASK_PART_HEADER},
    auth::Identity,
    broker::{FetchError, GiveError, Superseded, Worker},
};

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

    pub(super) async fn fetch_task(&self, app: &str, call: &Call) -> Result<Reply, Status> {
        let Ok(worker) = self.worker(app, call) else { return Ok(superseded()) };
        Ok(match self.admission.broker().fetch(&worker, call.connection).await {
            Ok(task) => {
                let name = task.name();
                Reply { content: Content::Task(task), ..Reply::empty(200) }.with(TASK_HEADER, name)
            }
            Err(FetchError::Superseded) => superseded(),
            Err(FetchError::Nothing) => Reply::message(504, "there is no task; ask again"),
        })
    }

    pub(super) async fn give_task(&self, app: &str, call: Call) -> Reply {
        let Ok(worker) = self.worker(app, &call) else { return superseded() };
        let named = call.header(TASK_HEADER).to_owned();
        let broker = self.admission.broker();
        let given = match call.header(TASK_PART_HEADER) {
            "" => broker.give(&worker, Some(&named), call.connection, call.body),
            "true" => broker.give_part(&worker, Some(&named), call.connection, call.body).await,
            _ => return Reply::message(400, &format!("the header {TASK_PART_HEADER} is `true`, or not there")),
        };
        match given {
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
