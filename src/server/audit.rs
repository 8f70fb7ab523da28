//! What of a request goes into the audit log, and `/audit`, where the log is read.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use hyper::Method;
use jiff::SignedDuration;

use super::{
    backup,
    documents::not_allowed,
    handle::Peer,
    metrics::RequestLabels,
    past,
    path::{self, Target},
    query::Params,
    respond::{self, Answer, BodyError},
    state::State,
};
use crate::{
    api::Status,
    audit::{Audit, Begun, Decision, Filter, Level, Record},
    auth::{Attributes, Authority, Identity, Proof},
    client::http::percent_decode,
};

/// So much of a name is recorded that somebody says to have.
const LONGEST: usize = 253;

/// The paths that are answered here.
pub(super) const PATHS: [&str; 2] = ["audit", "audit/verify"];

/// One request, as the audit log sees it.
pub(super) struct Observed<'s> {
    audit: Option<&'s Arc<Audit>>,
    draft: Record,
    reads: bool,
    /// Another server answers it.
    passed_on: bool,
    begun: Option<Begun<'s>>,
    /// Who asks, as soon as that is proved.
    who: Option<Identity>,
    authority: &'s Authority,
}

/// Paths that are no resources and that a rule is asked for; the others answer everybody who is let in.
const RULED: [&str; 8] =
    ["/audit", "/audit/verify", "/backup", "/log-level", "/metrics", "/sealing", "/sealing/rotate", "/stop"];

impl<'s> Observed<'s> {
    /// A request has come in; nobody knows yet from whom.
    pub(super) fn new(state: &'s State, peer: &Peer, request_id: &str, method: &Method, path: &str) -> Self {
        let source = match peer {
            Peer::Remote { source, .. } => source.ip().to_string(),
            Peer::Local(_) => "socket".to_owned(),
        };
        let (request_id, verb) = (request_id.to_owned(), method.as_str().to_lowercase());
        let mut draft = Record { request_id, source, verb, ..Record::default() };
        let path = percent_decode(path, false);
        match path::parse(&path) {
            Some(Target::Resource(resource)) => {
                draft.group = resource.group.to_owned();
                draft.resource = resource.plural.to_owned();
                draft.subresource = resource.subresource.to_owned();
                draft.namespace = resource.namespace.to_owned();
                draft.name = resource.name.to_owned();
                let verb = match (method, resource.name.is_empty()) {
                    (&Method::POST, _) => "create",
                    (&Method::PUT, _) => "update",
                    (&Method::PATCH, _) => "patch",
                    (&Method::DELETE, true) => "deletecollection",
                    (&Method::DELETE, false) => "delete",
                    (_, true) => "list",
                    (_, false) => "get",
                };
                verb.clone_into(&mut draft.verb);
            }
            _ => path.as_ref().clone_into(&mut draft.path),
        }
        let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        let (audit, authority) = (state.audit.as_ref(), &**state.admission.authority());
        Self { audit, draft, reads, passed_on: false, begun: None, who: None, authority }
    }

    /// Who asks, as far as that is known.
    pub(super) fn who(&self) -> Option<&Identity> {
        self.who.as_ref()
    }

    /// It is known who asks.
    pub(super) fn is(&mut self, who: &Identity) {
        self.who = Some(who.clone());
        who.name.clone_into(&mut self.draft.user);
        self.draft.groups.clone_from(&who.groups);
        self.draft.proof = match &who.proof {
            Proof::Part => "part of appm".to_owned(),
            Proof::Peer => "peer of the socket".to_owned(),
            Proof::OwnToken => "the server's own token".to_owned(),
            Proof::Token(name) => format!("token {name}"),
            Proof::Session(name) => format!("session {name}"),
            Proof::Password(_) => "password".to_owned(),
            Proof::Certificate => "certificate".to_owned(),
            Proof::Oidc(subject) => format!("token of {} for {}", subject.issuer, subject.subject),
            Proof::Impersonated(by) => format!("impersonated by {by}"),
        };
    }

    /// Somebody says who they are, and what comes of it is what the request is about.
    pub(super) fn claims(&mut self, name: &str, proof: &str) {
        let bounded = |text: &str| text.chars().take(LONGEST).collect();
        (self.draft.user, self.draft.proof) = (bounded(name), bounded(proof));
    }

    /// It is passed on to another server, which alone can tell who asks.
    pub(super) fn passes_on(&mut self, to: &str) {
        self.passed_on = true;
        self.draft.note = format!("passed on to {to}");
    }

    /// What allows the request, or why nothing does.
    fn rule(&self, refused: bool) -> String {
        let Record { verb, group, resource, subresource, namespace, name, path, .. } = &self.draft;
        let what = match (resource.as_str(), path.as_str()) {
            ("", path) if RULED.contains(&path) => Attributes { verb, path, ..Attributes::default() },
            // Everybody who is let in may ask; of a transaction each operation has its own.
            ("" | "transactions", _) => return String::new(),
            (resource, _) if resource.ends_with("reviews") => return String::new(),
            (resource, _) => {
                // Who may read or change the object, may its past.
                let subresource = if subresource == past::HISTORY { "" } else { subresource };
                Attributes { verb, group, resource, subresource, namespace, name, path: "" }
            }
        };
        let Some(who) = &self.who else { return String::new() };
        let reason = self.authority.reason(who, &what);
        // The request as such is allowed: what it would do is not.
        let in_general = refused && self.authority.may(who, &what).is_ok();
        if in_general { format!("{reason}, but not this") } else { reason }
    }

    /// It may change something: from now on the store's writer can tell whose change it is.
    pub(super) fn begin(&mut self) {
        if let Some(audit) = self.audit.filter(|_| !self.reads) {
            self.begun = Some(audit.begin(self.draft.clone()));
        }
    }

    /// It is answered.
    pub(super) async fn end(mut self, labels: &RequestLabels, code: u16, refusal: Option<&Status>) {
        let Some(audit) = self.audit else { return };
        let denied = matches!(code, 401 | 403);
        let recorded = self.begun.as_ref().is_some_and(Begun::is_recorded);
        let asks = self.draft.resource.ends_with("reviews");
        let path = self.draft.path.trim_matches('/');
        let secret = self.draft.resource == "secrets" || PATHS.contains(&path) || path == backup::PATH;
        let made = recorded && code < 400;
        // Whoever is turned away at the door for knocking too often does not fill the log with it.
        let knocks = self.who.is_none() && code == 429;
        let changes = !(self.reads || asks || made || knocks || self.draft.user.is_empty() && !self.passed_on);
        let all = audit.level() == Level::Reads && !self.draft.user.is_empty() && !recorded;
        if !(changes || denied || secret && !recorded || all) {
            return;
        }
        if !self.draft.resource.is_empty() {
            labels.verb.clone_into(&mut self.draft.verb);
        }
        self.draft.code = code;
        self.draft.rule = self.rule(code == 403);
        if denied {
            self.draft.decision = Decision::Deny;
            if !self.passed_on {
                refusal.map(|status| status.message.as_str()).unwrap_or_default().clone_into(&mut self.draft.note);
            }
            // Of a transaction the operation that was refused.
            if let Some(status) =
                refusal.filter(|status| self.draft.resource == "transactions" && !status.details.kind.is_empty())
            {
                self.draft.group.clone_from(&status.details.group);
                self.draft.resource.clone_from(&status.details.kind);
                self.draft.name.clone_from(&status.details.name);
            }
        }
        drop(self.begun);
        audit.note(self.draft).await;
    }
}

/// Answers `/audit` and `/audit/verify`.
pub(super) async fn answer(
    state: &State,
    path: &str,
    method: &Method,
    params: &Params,
    who: &Identity,
) -> Result<Answer, Status> {
    let asked = format!("/{path}");
    state.admission.authority().must(who, &Attributes { verb: "get", path: &asked, ..Attributes::default() })?;
    if *method != Method::GET {
        return Err(not_allowed());
    }
    let audit = state.audit.clone().ok_or_else(Status::no_route)?;
    audit.flush().await;
    let unreadable = |error: std::io::Error| {
        tracing::error!(%error, "the audit log cannot be read");
        Status::internal("the audit log cannot be read")
    };
    if path == PATHS[1] {
        let anchor = state.store.anchored();
        let verdict = tokio::task::spawn_blocking(move || audit.verify(anchor)).await;
        let verdict = verdict.map_err(|e| Status::internal(e.to_string()))?.map_err(unreadable)?;
        return Ok(respond::ok(&serde_json::to_value(verdict).map_err(|e| Status::internal(e.to_string()))?));
    }
    let (filter, tail) = filter(state, params)?;
    let found = tokio::task::spawn_blocking(move || audit.read(filter, tail)).await;
    let (found, follower) = found.map_err(|e| Status::internal(e.to_string()))?.map_err(unreadable)?;
    let lines = |lines: Vec<String>| Bytes::from(lines.into_iter().map(|line| line + "\n").collect::<String>());
    let first = stream::once(std::future::ready(Ok(lines(found))));
    let with_trouble = |mut answer: Answer| {
        respond::warn(
            &mut answer,
            &trouble(state)
                .map(|why| format!("{why}; changes are refused until it can"))
                .into_iter()
                .collect::<Vec<_>>(),
        );
        answer
    };
    if !params.flag("follow")? {
        return Ok(with_trouble(respond::streamed(LINES, first.boxed())));
    }
    let rest = stream::unfold(follower, move |mut follower| async move {
        let next = follower.next().await;
        match next {
            Ok(found) if found.is_empty() => None,
            Ok(found) => Some((Ok(lines(found)), follower)),
            Err(error) => Some((Err(BodyError::from(error)), follower)),
        }
    });
    let until = state.stopping.clone().cancelled_owned();
    Ok(with_trouble(respond::streamed(LINES, first.chain(rest).take_until(until).boxed())))
}

const LINES: &str = "application/jsonl";

fn filter(state: &State, params: &Params) -> Result<(Filter, usize), Status> {
    let text = |name: &str| params.get(name).to_owned();
    let number = |name: &str| match params.get(name) {
        "" => Ok(None),
        text => text.parse::<u32>().map(Some).map_err(|_| Status::bad_request(format!("{name} is no number"))),
    };
    let since = number("sinceSeconds")?;
    let since = since.and_then(|s| state.clock.now().checked_sub(SignedDuration::from_secs(s.into())).ok());
    let filter = Filter {
        user: text("user"),
        verb: text("verb"),
        resource: text("resource"),
        namespace: text("inNamespace"),
        name: text("object"),
        request_id: text("requestId"),
        since,
        denied: params.flag("denied")?,
    };
    Ok((filter, number("tailLines")?.map_or(usize::MAX, |tail| tail as usize)))
}

/// Why the log cannot be written, for `/readyz`.
pub(super) fn trouble(state: &State) -> Option<String> {
    state.audit.as_ref().and_then(|audit| audit.trouble())
}
