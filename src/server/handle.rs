//! One request from its head to its answer: request id, authentication, routing, and what is counted.

use std::{
    convert::Infallible,
    fmt,
    net::{IpAddr, SocketAddr},
    panic::AssertUnwindSafe,
    sync::Arc,
};

use futures::FutureExt;
use hyper::{Method, Request, header};

use super::{
    appmesh, artifacts,
    audit::{self, Observed},
    backup,
    body::Lent,
    bounds::Source,
    call::Call,
    delete,
    documents::{self, not_allowed},
    grants::Grant,
    hosts, issuer, login, logs,
    metrics::RequestLabels,
    past,
    path::{self, Resource, Target},
    processes,
    query::Params,
    read,
    respond::{self, Answer},
    reviews, sealing,
    state::State,
    stdin, tasks, transactions,
    turn::Turns,
    verbosity, watch, webhook, write,
};
use crate::{
    api::{GROUP, Reason, Served, Status, Subresource, VERSION},
    auth::{self, AUTHENTICATED, Attributes, Identity, Proof, certificate::ClientCertificate},
    client::http::percent_decode,
};

/// How a connection came in.
#[derive(Clone, Debug)]
pub(super) enum Peer {
    /// Over TLS: each request brings its credentials.
    Remote {
        /// Where it came from.
        source: SocketAddr,
        /// To which of our addresses.
        at: IpAddr,
        /// What it showed in the handshake.
        certificate: Option<Arc<ClientCertificate>>,
    },
    /// Over the Unix socket: the kernel has said who it is.
    Local(Identity),
}

impl Peer {
    /// The address that it came to.
    pub(super) fn at(&self) -> Option<IpAddr> {
        match self {
            Peer::Remote { at, .. } => Some(*at),
            Peer::Local(_) => None,
        }
    }

    /// Whom its connections are counted for.
    pub(super) fn source(&self) -> Option<Source> {
        match self {
            Peer::Remote { source, .. } => Some(source.ip().into()),
            Peer::Local(_) => None,
        }
    }

    /// Whether the connection itself proves who asks.
    pub(super) fn is_ambient(&self) -> bool {
        matches!(self, Peer::Local(_) | Peer::Remote { certificate: Some(_), .. })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Remote { source, .. } => source.fmt(f),
            Peer::Local(_) => f.write_str("the socket"),
        }
    }
}

/// Answers one request, unless it was not `let_in`. Whatever happens inside, the client gets an answer.
pub(super) async fn answer(
    state: Arc<State>,
    peer: Peer,
    request: Request<Lent>,
    let_in: Result<(), Status>,
    turns: &Turns,
) -> Result<Answer, Infallible> {
    let started = state.clock.now();
    let request_id = request_id(&state, &request);
    let uri = request.uri().clone();
    let host = request.headers().get(header::HOST).cloned();
    let from = peer.clone();
    let mut labels = RequestLabels { verb: request.method().as_str().to_lowercase(), resource: String::new(), code: 0 };
    // Boxed, so that a watch, whose answer is given by the place that this future has, does not hold it for hours.
    let mut observed = Observed::new(&state, &peer, &request_id, request.method(), uri.path());
    let routed = Box::pin(async {
        let_in?;
        route(&state, peer, request, &request_id, &mut labels, &mut observed).await
    });
    let attempt = AssertUnwindSafe(routed).catch_unwind().await;
    let outcome = attempt.unwrap_or_else(|_| {
        tracing::error!(request_id, "a request panicked");
        Err(Status::internal(format!("an internal error occurred; the log knows it as {request_id}")))
    });
    if let Some(who) = observed.who() {
        turns.are(&who.name);
    }
    let code = outcome.as_ref().map_or_else(|status| status.reason.code(), |answer| answer.status().as_u16());
    observed.end(&labels, code, outcome.as_ref().err()).await;
    let mut answer = outcome.unwrap_or_else(|status| {
        tracing::debug!(request_id, %from, reason = ?status.reason, message = status.message, "request refused");
        let mut answer = respond::failure(&status);
        if status.is(Reason::MethodNotAllowed) {
            respond::header(&mut answer, "allow", &methods(uri.path()));
        }
        if status.is(Reason::Unauthorized) {
            let challenge = issuer::challenge(appmesh::addressed_by(&uri, host.as_ref()));
            respond::header(&mut answer, "www-authenticate", &challenge);
        }
        answer
    });
    for name in ["x-request-id", "audit-id"] {
        respond::header(&mut answer, name, &request_id);
    }
    respond::header(&mut answer, "cache-control", "no-cache, private");
    respond::guard(&mut answer, state.tls.shown().is_the_hosts_own_site(state.port));
    labels.code = answer.status().as_u16();
    let took = state.clock.now().duration_since(started).try_into().unwrap_or_default();
    state.metrics.answered(labels, took);
    Ok(answer)
}

/// The client's own id if it is a plain one, else a new one.
fn request_id(state: &State, request: &Request<Lent>) -> String {
    let given = request.headers().get("x-request-id").and_then(|v| v.to_str().ok()).unwrap_or_default();
    let plain =
        (1..=64).contains(&given.len()) && given.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if plain { given.to_owned() } else { crate::clock::new_uid(&*state.clock).to_string() }
}

async fn route(
    state: &Arc<State>,
    peer: Peer,
    request: Request<Lent>,
    request_id: &str,
    labels: &mut RequestLabels,
    observed: &mut Observed<'_>,
) -> Result<Answer, Status> {
    let (mut head, body) = request.into_parts();
    state.tls.shown().hosts.admit(&head, peer.at())?;
    hosts::same_site(&head, peer.is_ambient())?;
    let from = login::from(&peer, &head.headers);
    if let Some(grant) = head.extensions.get::<Grant>().cloned()
        && appmesh::ws::is_wanted(&head)
    {
        return appmesh::ws::accept(state, &peer, (&mut head, &grant), &from, observed).await;
    }
    let url = percent_decode(head.uri.path(), false);
    let params = Params::parse(head.uri.query());
    let target = path::parse(&url);
    if let Some(Target::Document(path)) = target
        && let Some(answer) = documents::open(state, path, &params)
    {
        return Ok(answer);
    }
    if let Some(Target::Document(path)) = target
        && appmesh::serves(path)
    {
        let asked = appmesh::Asked { path, params, head: &head, from, request_id };
        return Ok(appmesh::answer(state, &peer, asked, body, observed).await);
    }
    if let Some(Target::Document(path)) = target
        && issuer::serves(path)
    {
        return issuer::answer(state, path, &head, &from, body, observed).await;
    }
    if let Some(Target::Document(path)) = target
        && login::is_open(path)
    {
        return login::open(state, path, &head.method, &from, body, observed).await;
    }
    if let Some(Target::Resource(resource)) = &target
        && webhook::serves(resource)
    {
        return webhook::answer(state, &peer, resource, (&head.method, &head.headers), body, labels).await;
    }
    let who = known(state, &peer, &head.headers, &from, observed).await?;
    match target {
        None => Err(Status::no_route()),
        Some(Target::Document(path)) if login::serves(path) => {
            login::answer(state, path, &head.method, &who, &from, body).await
        }
        Some(Target::Document(verbosity::PATH)) => verbosity::answer(state, &head.method, &params, &who),
        Some(Target::Document("stop")) => stop(state, &head.method, &params, &who),
        Some(Target::Document(path)) if audit::PATHS.contains(&path) => {
            audit::answer(state, path, &head.method, &params, &who).await
        }
        Some(Target::Document(backup::PATH)) => backup::answer(state, &head.method, &who).await,
        Some(Target::Document(path)) if sealing::PATHS.contains(&path) => {
            sealing::answer(state, path, &head.method, &params, &who).await
        }
        Some(Target::Document(path)) => {
            if path == "metrics" {
                let what = Attributes { verb: "get", path: "/metrics", ..Attributes::default() };
                state.admission.authority().must(&who, &what)?;
            }
            documents::answer(state, path, &head.method, &head.headers)
        }
        Some(Target::Resource(resource)) => {
            let request_id = request_id.to_owned();
            let call = Call {
                method: head.method,
                params,
                headers: head.headers,
                who,
                request_id,
                body,
                state: state.clone(),
                taken: Default::default(),
            };
            objects(state, call, &resource, labels).await
        }
    }
}

/// Who asks, or in whose name, if they may ask so often.
pub(super) async fn known(
    state: &State,
    peer: &Peer,
    headers: &hyper::HeaderMap,
    from: &auth::From,
    observed: &mut Observed<'_>,
) -> Result<Identity, Status> {
    let who = authenticate(state, peer, headers, from, observed).await?;
    observed.is(&who);
    // Whoever speaks as somebody else asks on their own account.
    if let Some(per_second) = state.admission.limit_of(&who, |limits| limits.requests_per_second) {
        state.turnstile.ask(&who.name, per_second)?;
    }
    let who = impersonate(state, who, headers)?;
    observed.is(&who);
    observed.begin();
    Ok(who)
}

/// `POST /stop?apps=true`: the daemon ends, and with `apps` every process before it. Answered at once; the caller waits
/// for the connection or the lock to go.
fn stop(state: &State, method: &Method, params: &Params, who: &Identity) -> Result<Answer, Status> {
    let what = Attributes { verb: "post", path: "/stop", ..Attributes::default() };
    state.admission.authority().must(who, &what)?;
    if method != Method::POST {
        return Err(not_allowed());
    }
    let apps = params.flag("apps")?;
    tracing::info!(user = who.name, apps, "asked to stop");
    (state.stop)(apps);
    Ok(respond::ok(&serde_json::json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})))
}

/// Who asks: the one place where credentials become an identity.
async fn authenticate(
    state: &State,
    peer: &Peer,
    headers: &hyper::HeaderMap,
    from: &auth::From,
    observed: &mut Observed<'_>,
) -> Result<Identity, Status> {
    let authority = state.admission.authority();
    let shown = match peer {
        Peer::Local(identity) => {
            authority.still(identity)?;
            return Ok(identity.clone());
        }
        Peer::Remote { certificate, .. } => certificate,
    };
    // As in Kubernetes, a certificate comes before a token.
    if let Some(identity) = shown.as_ref().and_then(|certificate| certificate.identity(authority, state.clock.now())) {
        return Ok(identity);
    }
    if let Some(certificate) = shown {
        observed.claims(&certificate.user, "certificate");
    }
    let refused = || Status::new(Reason::Unauthorized, "Unauthorized");
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    // Two of them, and two parts of a system may each go by another one.
    let (Some(given), None) = (given.next(), given.next()) else { return Err(refused()) };
    let (scheme, value) = given.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(refused)?;
    let value = value.trim();
    match scheme.to_ascii_lowercase().as_str() {
        "bearer" if state.token.matches(value) => Ok(Identity::admin(Proof::OwnToken)),
        "bearer" => {
            let token = auth::token_name(value).map_or("a token".to_owned(), |name| format!("token {name}"));
            observed.claims("", &token);
            state.authenticator.bearer(value, from).await
        }
        "basic" => {
            let name = auth::parse_basic(value).map(|(name, _)| name).unwrap_or_default();
            observed.claims(&name, "password");
            state.authenticator.basic(value, from).await
        }
        _ => Err(refused()),
    }
}

/// Whom the caller wants to be (`kubectl --as`): for those who have the verb `impersonate` on the resources `users` and
/// `groups` of that name. Without groups of its own, the request has those of the User of that name.
fn impersonate(state: &State, who: Identity, headers: &hyper::HeaderMap) -> Result<Identity, Status> {
    let all = |name: &str| headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).map(str::to_owned);
    let odd = headers.keys().find(|name| {
        name.as_str().starts_with("impersonate-") && !["impersonate-user", "impersonate-group"].contains(&name.as_str())
    });
    if let Some(odd) = odd {
        return Err(Status::bad_request(format!("the header `{odd}` is not supported")));
    }
    let (names, groups): (Vec<String>, Vec<String>) =
        (all("impersonate-user").collect(), all("impersonate-group").collect());
    let [name] = names.as_slice() else {
        return match (names.is_empty(), groups.is_empty()) {
            (true, true) => Ok(who),
            _ => Err(Status::bad_request("`Impersonate-Group` goes with one `Impersonate-User`")),
        };
    };
    let authority = state.admission.authority();
    let asked = std::iter::once(("users", name)).chain(groups.iter().map(|group| ("groups", group)));
    for (resource, name) in asked {
        authority.must(&who, &Attributes { verb: "impersonate", resource, name, ..Attributes::default() })?;
    }
    let proof = Proof::Impersonated(who.name.clone());
    let (expires, scope) = (who.expires, who.scope.clone());
    let known = groups.is_empty().then(|| authority.user(name, proof.clone())).flatten();
    let as_named = known.unwrap_or_else(|| {
        let plain = Identity::of(name, proof);
        Identity { groups: groups.into_iter().chain([AUTHENTICATED.to_owned()]).collect(), ..plain }
    });
    Ok(Identity { expires, scope, ..as_named })
}

/// The methods that make sense on a path.
fn methods(path: &str) -> String {
    let words: &[&str] = match path::parse(&percent_decode(path, false)) {
        Some(Target::Document("stop" | "sealing/rotate")) => &["create"],
        Some(Target::Document(verbosity::PATH)) => &["get", "create"],
        Some(Target::Document(path)) if login::serves(path) && path.starts_with("auth/") => &["create"],
        Some(Target::Resource(resource)) => match resource.served() {
            None if resource.plural == "transactions" => &["get", "create"],
            None => &["create"],
            Some(_) if resource.subresource == Subresource::Stdin.word() || webhook::serves(&resource) => &["create"],
            Some(_) if resource.watched || resource.subresource == "log" => &["get"],
            Some(_) if resource.subresource == "task" && resource.below.is_empty() => &["get", "create"],
            Some(_) if resource.subresource == "task" => &["get", "delete"],
            Some(_) if resource.subresource == past::HISTORY && resource.below.is_empty() => &["get"],
            Some(_) if resource.subresource == past::HISTORY => &["update", "delete"],
            Some(served) => {
                let (one, there) = (!resource.name.is_empty(), served.verbs().words());
                let everywhere = served.kind.is_namespaced() && resource.namespace.is_empty();
                let of = |words: &'static [&'static str]| words.iter().copied().filter(|word| there.contains(word));
                return spelt(match (one, resource.subresource) {
                    (true, "") => of(&["get", "update", "patch", "delete"]),
                    (true, _) => of(&["get", "update", "patch"]),
                    (false, _) if everywhere => of(&["list"]),
                    (false, _) => of(&["list", "create", "deletecollection"]),
                });
            }
        },
        _ => &["get"],
    };
    spelt(words.iter().copied())
}

/// Verbs as methods.
fn spelt(verbs: impl Iterator<Item = &'static str>) -> String {
    let methods: Vec<&str> = verbs
        .map(|verb| match verb {
            "create" => "POST",
            "update" => "PUT",
            "patch" => "PATCH",
            "delete" | "deletecollection" => "DELETE",
            _ => "GET, HEAD",
        })
        .collect();
    methods.join(", ")
}

/// What a request does, in the words of authorization.
fn verb(call: &Call, resource: &Resource<'_>) -> Result<&'static str, Status> {
    let one = !resource.name.is_empty();
    if resource.watched {
        let reads = matches!(call.method, Method::GET | Method::HEAD);
        return if reads && resource.subresource.is_empty() { Ok("watch") } else { Err(not_allowed()) };
    }
    Ok(match (&call.method, one) {
        (&Method::GET | &Method::HEAD, true) => "get",
        (&Method::GET | &Method::HEAD, false) if call.params.flag("watch")? => "watch",
        (&Method::GET | &Method::HEAD, false) => "list",
        (&Method::POST, false) => "create",
        (&Method::POST, true) if resource.subresource == Subresource::Stdin.word() => "create",
        (&Method::PUT, true) => "update",
        (&Method::PATCH, true) => "patch",
        (&Method::DELETE, true) => "delete",
        (&Method::DELETE, false) => "deletecollection",
        _ => return Err(not_allowed()),
    })
}

async fn objects(
    state: &Arc<State>,
    mut call: Call,
    resource: &Resource<'_>,
    labels: &mut RequestLabels,
) -> Result<Answer, Status> {
    if (resource.group, resource.version, resource.plural) == (GROUP, VERSION, "transactions") {
        let reads = matches!(call.method, Method::GET | Method::HEAD);
        if reads && resource.namespace.is_empty() && resource.subresource.is_empty() {
            return past::transactions(state, &call, resource, labels).await;
        }
        return virtual_create(state, &mut call, resource, labels).await;
    }
    if reviews::serves(resource.group, resource.version, resource.plural) {
        return virtual_create(state, &mut call, resource, labels).await;
    }
    let served = resource.served().ok_or_else(Status::no_route)?;
    if resource.subresource == Subresource::Task.word() && served.has(Subresource::Task) {
        return tasks::answer(state, call, resource, labels).await;
    }
    if resource.subresource == past::HISTORY && !resource.watched {
        return past::history(state, call, served, resource, labels).await;
    }
    let verb = verb(&call, resource)?;
    verb.clone_into(&mut labels.verb);
    labels.resource = match resource.subresource {
        "" => resource.plural.to_owned(),
        part => format!("{}/{part}", resource.plural),
    };
    let parts = [
        Subresource::Status,
        Subresource::Scale,
        Subresource::Finalize,
        Subresource::Log,
        Subresource::Processes,
        Subresource::Stdin,
        Subresource::Artifacts,
    ];
    match parts.into_iter().find(|part| part.word() == resource.subresource) {
        None if resource.subresource.is_empty() && !served.verbs().allow(verb) => Err(not_allowed()),
        None if resource.subresource.is_empty() => whole(state, call, served, resource, verb).await,
        Some(Subresource::Log) if served.has(Subresource::Log) => {
            logs::read(state, &call, served, resource, verb).await
        }
        Some(Subresource::Processes) if served.has(Subresource::Processes) => {
            processes::read(state, &call, served, resource, verb).await
        }
        Some(Subresource::Artifacts) if served.has(Subresource::Artifacts) => {
            artifacts::read(state, &call, served, resource, verb).await
        }
        Some(Subresource::Stdin) if served.has(Subresource::Stdin) => {
            stdin::feed(state, call, served, resource, verb).await
        }
        Some(subresource) if served.has(subresource) => part(state, call, served, resource, verb, subresource).await,
        _ => Err(Status::no_route()),
    }
}

async fn virtual_create(
    state: &State,
    call: &mut Call,
    resource: &Resource<'_>,
    labels: &mut RequestLabels,
) -> Result<Answer, Status> {
    "create".clone_into(&mut labels.verb);
    resource.plural.clone_into(&mut labels.resource);
    if !resource.name.is_empty() || !resource.namespace.is_empty() {
        return Err(Status::no_route());
    }
    if call.method != Method::POST {
        return Err(not_allowed());
    }
    if resource.plural == "transactions" {
        return transactions::transact(state, call).await;
    }
    let body = call.parsed(super::body::OBJECT_LIMIT).await?.map(|p| p.value).unwrap_or_else(|| serde_json::json!({}));
    let answer = reviews::answer(resource.plural, state.admission.authority(), &call.who, body)?;
    respond::encoded(hyper::StatusCode::CREATED, answer.to_string().into(), call.form()?.encoding)
}

async fn whole(
    state: &Arc<State>,
    mut call: Call,
    served: Served,
    resource: &Resource<'_>,
    verb: &str,
) -> Result<Answer, Status> {
    let target = write::target(served, resource, None);
    let everywhere = served.kind.is_namespaced() && resource.namespace.is_empty();
    match verb {
        "get" if past::is_asked(&call.params) => past::get(state, &call, served, resource).await,
        "list" if past::is_asked(&call.params) => past::list(state, &call, served, resource).await,
        "get" | "list" => {
            if served.view.is_some_and(|view| view.measured) {
                // Whoever may not read it makes nobody look.
                match verb {
                    "get" => drop(state.admission.get_part(&call.caller(), served, "", &resource.key(served))?),
                    _ => {
                        let query = read::selection(&call, served, resource);
                        drop(state.admission.viewer(&call.caller(), verb, served, &query)?);
                    }
                }
                (state.look)().await;
            }
            match verb {
                "get" => read::get(state, &call, served, resource).await,
                _ => read::list(state, &call, served, resource).await,
            }
        }
        "watch" => watch::watch(state, &call, served, resource).await,
        // What is made or deleted must be in a namespace.
        _ if everywhere => Err(not_allowed()),
        "create" => write::create(state, &mut call, target).await,
        "update" => write::update(state, &mut call, target).await,
        "patch" => write::patch(state, &mut call, target).await,
        "delete" => delete::one(state, &mut call, target).await,
        _ => delete::collection(state, &mut call, served, resource).await,
    }
}

async fn part(
    state: &Arc<State>,
    mut call: Call,
    served: Served,
    resource: &Resource<'_>,
    verb: &str,
    subresource: Subresource,
) -> Result<Answer, Status> {
    let target = write::target(served, resource, Some(subresource));
    match (verb, subresource) {
        ("get", Subresource::Status) => read::get(state, &call, served, resource).await,
        ("get", Subresource::Scale) => write::get_scale(state, &call, target, resource),
        ("update", _) => write::update(state, &mut call, target).await,
        ("patch", Subresource::Status | Subresource::Scale) => write::patch(state, &mut call, target).await,
        _ => Err(not_allowed()),
    }
}
