//! What of an Instance is news to somebody who was told everything before. Pure, and a matter of levels: whoever missed a change in between is
//! told of what it led to.

use crate::{
    api::{Condition, InstanceStatus},
    appmesh::state::{code, of_exit},
};

/// Something that happened to an Instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// An attempt was started.
    Start { attempt: u32, pid: i32 },
    /// An attempt has ended.
    Exit { attempt: u32, pid: i32, code: i32, error: String },
    /// It is well (0), or not (1).
    Health { now: i32, before: i32 },
}

/// What somebody was told of an Instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    started: u32,
    ended: u32,
    pid: i32,
    health: Option<i32>,
}

impl Told {
    /// Of one that is new: nothing. It is not well before it runs.
    pub(super) fn nothing() -> Self {
        Self { health: Some(1), ..Self::default() }
    }

    /// What is so when somebody begins to listen is no news.
    pub(super) fn all_of(status: &InstanceStatus) -> Self {
        let mut told = Self::default();
        told.hear(status);
        told
    }

    /// The number of the attempt that runs, as far as was told.
    pub(super) fn runs(&self) -> Option<u32> {
        (self.started > self.ended).then_some(self.started)
    }

    /// What is new, in the order in which it happened.
    pub(super) fn hear(&mut self, status: &InstanceStatus) -> Vec<News> {
        let mut news = Vec::new();
        if let Some(exit) = status.last_exit.as_ref().filter(|exit| exit.attempt > self.ended) {
            if exit.attempt > self.started && exit.start_time.is_some() {
                // It was over before its start was seen.
                self.pid = 0;
                news.push(News::Start { attempt: exit.attempt, pid: 0 });
            }
            self.started = self.started.max(exit.attempt);
            self.ended = exit.attempt;
            let error = if exit.is_success() { String::new() } else { of_exit(exit) };
            let code = code(exit.code, exit.signal.as_deref());
            news.push(News::Exit { attempt: exit.attempt, pid: self.pid, code, error });
        }
        if let Some(pid) = status.state.pid().filter(|_| status.attempt > self.started) {
            (self.started, self.pid) = (status.attempt, pid);
            news.push(News::Start { attempt: status.attempt, pid });
        }
        let now = i32::from(!Condition::holds(&status.conditions, "Ready"));
        if let Some(before) = self.health.replace(now).filter(|before| *before != now) {
            news.push(News::Health { now, before });
        }
        news
    }

    /// It is gone from the store: if its end was not told, nobody knows it.
    pub(super) fn gone(&mut self) -> Option<News> {
        let attempt = self.runs()?;
        self.ended = attempt;
        let error = "nobody saw how it ended".to_owned();
        Some(News::Exit { attempt, pid: self.pid, code: code(None, None), error })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(value: Value) -> InstanceStatus {
        serde_json::from_value(value).expect("a status")
    }

    fn runs(attempt: u32, pid: i32) -> Value {
        json!({"attempt": attempt, "state": {"running": {"pid": pid, "startTime": "2026-01-01T00:00:00.000000Z"}}})
    }

    fn ended(attempt: u32, code: i32) -> Value {
        json!({"attempt": attempt, "code": code, "startTime": "2026-01-01T00:00:00.000000Z"})
    }

    fn shown(news: Vec<News>) -> String {
        let one = |news| match news {
            News::Start { attempt, pid } => format!("start {attempt} ({pid})"),
            News::Exit { attempt, pid, code, .. } => format!("exit {attempt} ({pid}) {code}"),
            News::Health { now, before } => format!("health {before}->{now}"),
        };
        news.into_iter().map(one).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn each_start_and_each_end_is_told_once_and_in_order() {
        let mut told = Told::nothing();
        let mut hear = |value: &Value| shown(told.hear(&status(value.clone())));
        assert_eq!(hear(&json!({"attempt": 0, "state": {"waiting": {"reason": "Starting"}}})), "");
        assert_eq!(hear(&runs(1, 7)), "start 1 (7)");
        let mut ready = runs(1, 7);
        ready["conditions"] =
            json!([{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        assert_eq!(hear(&ready), "health 1->0");
        assert_eq!(hear(&ready), "");
        // Its end and the next start are seen at once.
        let mut again = runs(2, 8);
        again["lastExit"] = ended(1, 3);
        assert_eq!(hear(&again), "exit 1 (7) 3, start 2 (8), health 0->1");
        // One that was over before it was seen.
        let over = json!({"attempt": 3, "state": {"exited": {"reason": "Completed"}}, "lastExit": ended(3, 0)});
        assert_eq!(hear(&over), "start 3 (0), exit 3 (0) 0");
        assert_eq!(hear(&over), "");
    }

    #[test]
    fn what_is_so_at_first_is_no_news_and_what_comes_of_it_is() {
        let mut told = Told::all_of(&status(runs(4, 9)));
        assert_eq!(told.runs(), Some(4));
        assert_eq!(shown(told.hear(&status(runs(4, 9)))), "");
        assert_eq!(told.gone().map(|news| shown(vec![news])).as_deref(), Some("exit 4 (9) -200"));
        assert_eq!((told.runs(), told.gone()), (None, None));
        // What could not be started has no start, and an end.
        let refused = json!({"attempt": 5, "lastExit": {"attempt": 5, "code": 127, "message": "no such file"}});
        assert_eq!(shown(told.hear(&status(refused))), "exit 5 (9) 127");
    }
}
