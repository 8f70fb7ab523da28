//! A process that takes tasks: it asks, gets, gives.

use std::collections::HashMap;

use futures::FutureExt;
use serde::Deserialize;
use serde_json::json;

use super::{
    Event, Lane,
    frame::{Frame, Said, Told},
};
use crate::{
    api::{Reason, Status},
    broker::{Delivery, FetchError, GiveError, Superseded, Worker},
};

/// Most tasks that a process may ask for at a time on a connection. What its App says bounds it besides.
const MOST_SLOTS: u32 = 256;

/// What a process says of itself.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    app: String,
    key: String,
    #[serde(default = "one")]
    slots: u32,
}

fn one() -> u32 {
    1
}

/// What a process says of what it gives.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    /// The task, if it came on another connection.
    #[serde(default)]
    task: String,
    #[serde(default)]
    message: String,
}

/// The process at the other end, and what it has.
#[derive(Debug, Default)]
pub(super) struct Works {
    /// App and key.
    by: Option<(String, String)>,
    /// The tasks by the numbers that they went by.
    has: HashMap<u32, String>,
    last: u32,
    /// It was told that there is nothing more for it.
    superseded: bool,
}

impl Lane {
    /// The process, if it is one yet.
    fn worker(&self) -> Result<Worker, Status> {
        let unknown = || Status::bad_request("who gives has said by `WORK` who it is");
        let (app, key) = self.works.by.as_ref().ok_or_else(unknown)?;
        self.state.admission.broker().worker(app, key).map_err(|Superseded| superseded())
    }

    pub(super) fn work(&mut self, frame: &Frame) -> Result<(), Status> {
        let Head { app, key, slots } = frame.head()?;
        if self.works.by.is_some() {
            return Err(Status::bad_request("the connection works already"));
        }
        if !(1..=MOST_SLOTS).contains(&slots) {
            return Err(Status::bad_request(format!("slots: between 1 and {MOST_SLOTS}")));
        }
        self.works.by = Some((app, key));
        self.worker().inspect_err(|_| self.works.by = None)?;
        (0..slots).for_each(|_| self.ask());
        Ok(())
    }

    /// Asks for one more task.
    fn ask(&mut self) {
        let Some((app, key)) = self.works.by.clone().filter(|_| !self.works.superseded) else { return };
        let (broker, over) = (self.state.admission.broker().clone(), self.over.clone());
        let question = async move {
            loop {
                let Ok(worker) = broker.worker(&app, &key) else { return Event::Fetched(Err(FetchError::Superseded)) };
                match broker.fetch(&worker.told(over.clone()), None).await {
                    // It is asked again at once, by whoever the key names by then.
                    Err(FetchError::Nothing) => {}
                    fetched => return Event::Fetched(fetched),
                }
            }
        };
        self.events.push(question.boxed());
    }

    pub(super) fn fetched(&mut self, fetched: Result<Delivery, FetchError>) {
        match fetched {
            Ok(task) => {
                let (name, task) = (task.name(), task.begun());
                self.works.last = self.works.last.wrapping_add(1);
                self.out.put(Told::Task, self.works.last, &json!({"task": name}), task.left(), task);
                self.works.has.insert(self.works.last, name);
            }
            // Once is enough, however many slots there are. What it has it may still give.
            Err(_) if !std::mem::replace(&mut self.works.superseded, true) => self.refuse(0, &superseded()),
            Err(_) => {}
        }
    }

    /// A task that the process has is over.
    pub(super) fn over(&mut self, task: &str, why: &str) {
        if let Some(number) = self.works.has.iter().find_map(|(number, name)| (name == task).then_some(*number)) {
            self.out.put(Told::Gone, number, &json!({"message": why}), 0, std::iter::empty());
        }
    }

    pub(super) fn give(&mut self, frame: Frame) -> Result<(), Status> {
        let Given { task, message } = frame.head()?;
        let number = frame.number;
        let had = self.works.has.get(&number).cloned().filter(|_| task.is_empty());
        let is_over = frame.said != Said::Part;
        if is_over && had.is_some() {
            self.works.has.remove(&number);
        }
        let name = had.clone().unwrap_or(task);
        let given = self.given(&name, &message, frame);
        if let Err(gone) = given {
            self.out.put(Told::Gone, number, &json!({"message": gone.message}), 0, std::iter::empty());
        }
        if is_over && had.is_some() {
            self.ask();
        }
        Ok(())
    }

    fn given(&mut self, name: &str, message: &str, frame: Frame) -> Result<(), Status> {
        let nobody = || Status::new(Reason::Conflict, "nobody waits for it");
        if name.is_empty() {
            return Err(nobody());
        }
        let worker = self.worker()?;
        let broker = self.state.admission.broker().clone();
        let given = match frame.said {
            Said::Part => {
                let (number, name, part) = (frame.number, name.to_owned(), frame.body?);
                let giving = async move { broker.give_part(&worker, Some(&name), None, part).await };
                self.giving = Some(giving.map(move |given| Some((number, told(given.err()?)))).boxed());
                return Ok(());
            }
            Said::Fail => broker.fail(&worker, Some(name), None, message),
            _ => match frame.body {
                Ok(result) => broker.give(&worker, Some(name), None, result),
                // Its caller is told, in place of what there was no room for.
                Err(full) => broker.fail(&worker, Some(name), None, &full.message),
            },
        };
        given.map_err(told)
    }
}

fn superseded() -> Status {
    Status::new(Reason::Expired, "the process key is not that of a process that runs")
}

/// Why it is not taken, for the process.
fn told(error: GiveError) -> Status {
    let message = match error {
        GiveError::NobodyWaits | GiveError::WhichOne => "nobody waits for it",
        GiveError::TooMuch => "the parts are more than a result may be",
        GiveError::Slow => "the caller has not taken in what was given before",
    };
    Status::new(Reason::Conflict, message)
}
