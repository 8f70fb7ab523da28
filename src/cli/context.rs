//! What every client command works with: the server, the namespace, the screen.

use futures::stream::BoxStream;
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    api::{Kind, KindInfo, Object, Plan, Reason, Rev, Served, Status, Transaction, TransactionResult},
    client::http::{Answer, HttpClient, Request, RequestError, object_path, path_of, query_string},
    clock::{Clock, System},
};

use super::{
    error::{CliError, did_you_mean},
    output,
    screen::{self, Screen},
    settings::Global,
};

/// The server, the namespace, the screen.
pub(super) struct Context {
    pub(super) client: HttpClient,
    pub(super) screen: Screen,
    pub(super) global: Global,
}

/// Which objects of a kind, as flags say it.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct Selection {
    /// Only objects with these labels: `a=b`, `a!=b`, `a in (b,c)`, `a`, `!a`, joined by commas; may be given several times
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub(super) selector: Vec<String>,
    /// Only objects with these fields: `metadata.name=web`, `spec.nodeName=host`
    #[arg(long, value_name = "FIELDS", default_value = "", hide_default_value = true)]
    pub(super) field_selector: String,
}

impl Selection {
    pub(super) fn by_labels(selector: impl Into<String>) -> Self {
        Self { selector: vec![selector.into()], field_selector: String::new() }
    }

    pub(super) fn by_fields(field_selector: impl Into<String>) -> Self {
        Self { selector: Vec::new(), field_selector: field_selector.into() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.labels().is_empty() && self.field_selector.is_empty()
    }

    fn options(&self) -> Vec<(&'static str, String)> {
        let all = [("labelSelector", self.labels()), ("fieldSelector", self.field_selector.clone())];
        all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
    }

    /// What the labels have to be, all of it.
    fn labels(&self) -> String {
        self.selector.join(",")
    }
}

/// One namespace or all; `-A`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Where<'a> {
    Namespace(&'a str),
    Everywhere,
}

impl<'a> Where<'a> {
    pub(super) fn name(self) -> Option<&'a str> {
        match self {
            Where::Namespace(name) => Some(name),
            Where::Everywhere => None,
        }
    }
}

impl Context {
    pub(super) fn new(global: &Global) -> Result<Self, CliError> {
        let (client, namespace) = global.client()?;
        let client = match global.acting()? {
            Some(acting) => client.acting_as(acting),
            None => client,
        };
        let mut global = global.clone();
        global.namespace = global.namespace.or(namespace);
        Ok(Self { client, screen: Screen::of_stdout(global.color), global })
    }

    /// The namespace that is meant where none is written.
    pub(super) fn namespace(&self) -> &str {
        self.global.namespace.as_deref().unwrap_or("default")
    }

    /// `-A` or the namespace.
    pub(super) fn place(&self, everywhere: bool) -> Where<'_> {
        if everywhere { Where::Everywhere } else { Where::Namespace(self.namespace()) }
    }

    pub(super) fn now(&self) -> Timestamp {
        System.now()
    }

    /// Calls the server, and passes its warnings on.
    pub(super) async fn call(&self, request: Request) -> Result<Answer, CliError> {
        let answer = self.client.call(request).await?;
        Ok(self.heard(answer))
    }

    /// Passes the server's warnings on.
    pub(super) fn heard(&self, answer: Answer) -> Answer {
        self.warn(&answer.warnings);
        answer
    }

    /// Shows the server's warnings.
    pub(super) fn warn(&self, warnings: &[String]) {
        for warning in warnings {
            let warning = screen::harmless(warning);
            screen::remark(format_args!("{} {warning}", self.screen.paint(screen::WARN, "warning:")));
        }
    }

    /// The path of a list, with what selects in it.
    pub(super) fn list_path(
        &self,
        served: Served,
        place: Where<'_>,
        selection: &Selection,
        more: &[(&'static str, String)],
    ) -> String {
        let mut options = selection.options();
        options.extend_from_slice(more);
        crate::client::http::served_path(served, place.name(), None) + &query_string(&options)
    }

    /// A list: its revision, and the objects.
    pub(super) async fn list(
        &self,
        served: Served,
        place: Where<'_>,
        selection: &Selection,
    ) -> Result<(Rev, Vec<Value>), CliError> {
        let request = Request::get(self.list_path(served, place, selection, &[]));
        let mut list = self.call(request).await?.json()?;
        let revision = Rev::parse(list["metadata"]["resourceVersion"].as_str().unwrap_or_default()).unwrap_or_default();
        match list["items"].take() {
            Value::Array(items) => Ok((revision, items)),
            _ => Ok((revision, Vec::new())),
        }
    }

    /// A list of typed objects; what this binary cannot read is left out.
    pub(super) async fn typed<K: Kind>(
        &self,
        place: Where<'_>,
        selection: &Selection,
    ) -> Result<Vec<Object<K>>, CliError> {
        let (_, items) = self.list(Served { kind: K::INFO, view: None }, place, selection).await?;
        Ok(items.into_iter().filter_map(|item| serde_json::from_value(item).ok()).collect())
    }

    /// The changes of a list since `from`: `(type, object)`.
    pub(super) async fn watch(
        &self,
        served: Served,
        place: Where<'_>,
        selection: &Selection,
        from: Rev,
        accept: &'static str,
    ) -> Result<BoxStream<'static, Result<(String, Value), RequestError>>, RequestError> {
        use futures::StreamExt;
        let more = [("watch", "true".to_owned()), ("resourceVersion", from.to_string())];
        let request = Request::get(self.list_path(served, place, selection, &more)).accept(accept);
        let lines = self.client.lines(request).await?;
        let event = |line: Result<bytes::Bytes, RequestError>| {
            let line = line?;
            let mut event: Value = serde_json::from_slice(&line).map_err(|e| RequestError::Broken(Box::new(e)))?;
            let (change, object) = (event["type"].as_str().unwrap_or_default().to_owned(), event["object"].take());
            match change.as_str() {
                "ERROR" => Err(RequestError::Refused(Status::from_json(&object, 500))),
                _ => Ok((change, object)),
            }
        };
        Ok(lines.map(event).boxed())
    }

    /// One object.
    ///
    /// # Errors
    /// Not there: with the name that was meant, if one is close.
    pub(super) async fn get(&self, served: Served, namespace: &str, name: &str) -> Result<Value, CliError> {
        let path = crate::client::http::served_path(served, Some(namespace), Some(name));
        match self.client.call(Request::get(path)).await {
            Ok(answer) => Ok(answer.json()?),
            Err(RequestError::Refused(status)) if status.is(Reason::NotFound) => {
                Err(self.absent(served, namespace, name).await)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The error for an object that is not there.
    pub(super) async fn absent(&self, served: Served, namespace: &str, name: &str) -> CliError {
        let inside = if served.kind.is_namespaced() { format!(" in namespace `{namespace}`") } else { String::new() };
        let message = format!("there is no {} `{name}`{inside}", served.singular());
        let error = CliError::new(super::error::Exit::NotFound, message);
        let there = self.list(served, Where::Namespace(namespace), &Selection::default()).await;
        let names: Vec<String> = there.map(|(_, items)| items.iter().map(name_of).collect()).unwrap_or_default();
        error.maybe_help(did_you_mean(name, names.iter().map(String::as_str)))
    }

    /// Several changes, all or nothing.
    pub(super) async fn transact(
        &self,
        transaction: &Transaction,
    ) -> Result<Result<TransactionResult, Status>, CliError> {
        let body = serde_json::to_value(transaction).expect("transactions are plain data");
        match self.client.call(Request::post("/apis/appm.dev/v1/transactions", &body)).await {
            Ok(answer) => {
                let result: TransactionResult =
                    serde_json::from_value(answer.json()?).map_err(|e| RequestError::Broken(Box::new(e)))?;
                for of in &result.results {
                    let name = output::name_line(&of.object);
                    let said: Vec<String> = of.warnings.iter().map(|text| format!("{name}: {text}")).collect();
                    self.warn(&said);
                }
                Ok(Ok(result))
            }
            Err(RequestError::Refused(status)) => Ok(Err(status)),
            Err(error) => Err(error.into()),
        }
    }

    /// What several changes would do.
    pub(super) async fn plan(&self, transaction: &Transaction) -> Result<Result<Plan, Status>, CliError> {
        let body = serde_json::to_value(transaction).expect("transactions are plain data");
        match self.client.call(Request::post("/apis/appm.dev/v1/transactions?plan", &body)).await {
            Ok(answer) => {
                let plan = serde_json::from_value(answer.json()?).map_err(|e| RequestError::Broken(Box::new(e)))?;
                Ok(Ok(plan))
            }
            Err(RequestError::Refused(status)) => Ok(Err(status)),
            Err(error) => Err(error.into()),
        }
    }

    /// Changes some fields of an object.
    pub(super) async fn patch(
        &self,
        served: Served,
        namespace: &str,
        name: &str,
        part: &str,
        patch: &Value,
    ) -> Result<Value, CliError> {
        let key = crate::api::Key::new(served.kind, namespace, name);
        let path = format!("{}{part}?fieldManager=appm-cli", object_path(&key));
        match self.client.call(Request::merge_patch(path, patch)).await {
            Ok(answer) => Ok(answer.json()?),
            Err(RequestError::Refused(status)) if status.is(Reason::NotFound) => {
                Err(self.absent(served, namespace, name).await)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// An object's name.
pub(super) fn name_of(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

/// An object's namespace; empty for cluster-scoped kinds.
pub(super) fn namespace_of(object: &Value) -> String {
    object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned()
}

/// The kind `K`, in its stored form.
pub(super) fn served<K: Kind>() -> Served {
    Served { kind: K::INFO, view: None }
}

/// The path of an instance's processes.
pub(super) fn instance_processes_path(namespace: &str, name: &str) -> String {
    path_of(crate::api::Instance::INFO, Some(namespace), Some(name)) + "/processes"
}

/// The path of an object's output.
pub(super) fn log_path(kind: &'static KindInfo, namespace: &str, name: &str, options: &[(&str, String)]) -> String {
    path_of(kind, Some(namespace), Some(name)) + "/log" + &query_string(options)
}
