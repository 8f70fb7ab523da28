//! What an application has written: from a place on, of this start or of one before, at once or when it has ended.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use serde_json::json;

use super::{Call, Reply, Sdk, caller, definition::Of, find::Found};
use crate::{
    admission::Caller,
    api::{Instance, Key, Kind, Object, Run, Status, StoredObject, Subresource},
    auth::Identity,
    logger::notices::Notices,
};

/// How much is given at once if nothing is said, and at most.
const MOST: usize = 3 << 20;
const LEAST: usize = 1024;
/// How long a caller may wait in one request. More can be asked for again.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Which part of an Instance's output is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Of which start.
    pub start: Start,
    /// From which place on; `None`: nothing of what there is, but where it ends.
    pub from: Option<u64>,
    /// At most so many bytes.
    pub most: usize,
    /// It has ended: what it wrote last is waited for.
    pub ended: bool,
}

/// A start of an Instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// So many starts ago; 0 is the last.
    Ago(usize),
    /// The one with this number.
    Attempt(u32),
}

/// A part of an Instance's output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The place after them.
    pub next: u64,
}

/// Whose output somebody waits for. Given by the daemon.
pub type NoticeSource = Arc<dyn Fn() -> std::io::Result<Notices> + Send + Sync>;

/// Reads the output of an Instance; `None`: of that start nothing is kept. Given by the daemon.
pub type OutputSource =
    Arc<dyn Fn(Arc<Object<Instance>>, Wanted) -> BoxFuture<'static, Result<Option<Written>, Status>> + Send + Sync>;

impl Sdk {
    pub(super) async fn output(&self, name: &str, who: &Identity, call: &Call) -> Result<Reply, Status> {
        let caller = caller(who, call);
        let mut found = self.find(&caller, name)?;
        self.may_read(&caller, &found)?;
        let asked = call.query("process_uuid").to_owned();
        let is_asked = |found: &Found| asked.is_empty() || found.process().as_deref() == Some(&*asked);
        if !is_asked(&found) {
            return Ok(Reply::empty(417));
        }
        let patience = call.number("timeout").map_or(Duration::ZERO, Duration::from_secs).min(LONGEST);
        let kind = if found.of == Of::App { Instance::INFO } else { Run::INFO };
        let look = || match self.find(&caller, name) {
            Ok(now) if is_asked(&now) && !now.is_over() => None,
            Ok(now) => Some(Some(now)),
            Err(_) => Some(None),
        };
        match self.until(kind, patience, look).await {
            Some(Some(now)) if is_asked(&now) => found = now,
            Some(_) => return Ok(Reply::empty(417)),
            None => {}
        }
        let most = call.number("stdout_maxsize").and_then(|most| usize::try_from(most).ok());
        let most = most.filter(|most| (LEAST..=MOST).contains(most)).unwrap_or(MOST);
        let from = call.number("stdout_position").unwrap_or(0);
        let ago = call.number("stdout_index").and_then(|ago| usize::try_from(ago).ok()).unwrap_or(0);
        let exit = found.exit_code().filter(|_| ago == 0);
        let ended = exit.is_some();
        let Some(instance) = found.instance else {
            return Ok(if ago == 0 { Reply::text(200, "") } else { Reply::empty(417) });
        };
        let Some(written) =
            (self.output)(instance, Wanted { start: Start::Ago(ago), from: Some(from), most, ended }).await?
        else {
            return Ok(Reply::empty(417));
        };
        // What is more than was asked for comes first; the end is told with the last of it.
        let more = written.bytes.len() >= most;
        let reply = shown(call, ago, written.bytes);
        let reply = if written.next > 0 { reply.with("x-output-position", written.next.to_string()) } else { reply };
        Ok(match exit.filter(|_| !more) {
            Some(code) => reply.with("x-exit-code", code.to_string()),
            None => reply,
        })
    }

    pub(super) fn may_read(&self, caller: &Caller, found: &Found) -> Result<(), Status> {
        let log = Subresource::Log.word();
        let part = |kind: &'static crate::api::KindInfo, key: &Key| -> Result<Arc<StoredObject>, Status> {
            self.admission.get_part(caller, kind.stored_form(), log, key)
        };
        match (&found.run, &found.instance) {
            (Some(run), _) => part(Run::INFO, &run.key()).map(drop),
            (None, Some(instance)) => part(Instance::INFO, &instance.key()).map(drop),
            (None, None) => Ok(()),
        }
    }
}

/// The text itself, or in the form for dashboards that was asked for.
fn shown(call: &Call, index: usize, bytes: Vec<u8>) -> Reply {
    let text = || String::from_utf8_lossy(&bytes).into_owned();
    match (call.flag("html"), call.flag("json")) {
        (true, _) => Reply::html(format!(
            "<!DOCTYPE html><html><head><meta charset=\"utf-8\"></head><body><pre>{}</pre></body></html>\n",
            text().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
        )),
        (_, true) => {
            let text = text();
            let lines: Vec<_> = text.lines().map(|line| json!({"index": index, "stdout": line})).collect();
            Reply::json(200, json!(lines))
        }
        _ => Reply::text(200, bytes),
    }
}
