//! The operations that are not about stored objects: transactions, reviews, discovery, health, figures.

use serde_json::{Value, json};
use utoipa::openapi::{HttpMethod, path::PathItemBuilder};

use super::{
    answers, login,
    objects::Path,
    operation::{Described, JSON, Shape, form},
};
use crate::api::GROUP;

const TRANSACTION: &str = "Transaction";
const REVIEW: &str = "Review";
const DISCOVERY: &str = "Discovery";
const SERVER: &str = "Server";

/// The tags.
pub(super) fn tags() -> [Value; 5] {
    [
        (TRANSACTION, "Several changes in one revision: all of them or none."),
        (REVIEW, "Who am I, and what may I do? Nothing is stored."),
        (DISCOVERY, "What this server serves, and how it is described."),
        (login::TAG, "What proves who one is: passwords, tokens, second factors."),
        (SERVER, "The server itself: health, version, figures."),
    ]
    .map(|(name, description)| json!({"name": name, "description": description}))
}

/// All of them.
pub(super) fn all() -> Vec<Path> {
    let transactions = format!("/apis/{GROUP}/v1/transactions");
    let mut all = vec![
        (transactions.clone(), post(transact()).operation(HttpMethod::Get, past_transactions().build())),
        (format!("{transactions}/{{revision}}"), get(past_transaction())),
    ];
    all.push((format!("/apis/{GROUP}/v1/namespaces/{{namespace}}/sources/{{name}}/webhook"), post(webhook())));
    all.extend(
        REVIEWS.iter().map(|(group, plural, kind)| (format!("/apis/{group}/v1/{plural}"), post(review(group, kind)))),
    );
    all.extend(discovery().into_iter().chain(server()).map(|(path, operation)| (path.to_owned(), get(operation))));
    all.push(("/sealing/rotate".to_owned(), post(rotate())));
    let [read, change] = log_level();
    all.push(("/log-level".to_owned(), get(read).operation(HttpMethod::Post, change.build())));
    let (posted, read) = login::all();
    all.extend(posted.into_iter().map(|(path, operation)| (path.to_owned(), post(operation))));
    all.extend(read.into_iter().map(|(path, operation)| (path.to_owned(), get(operation))));
    all.push(("/stop".to_owned(), post(stop())));
    all
}

fn get(operation: Described) -> PathItemBuilder {
    PathItemBuilder::new().operation(HttpMethod::Get, operation.build())
}

fn post(operation: Described) -> PathItemBuilder {
    PathItemBuilder::new().operation(HttpMethod::Post, operation.build())
}

fn transact() -> Described {
    let sent = ["application/json", "application/yaml"].map(|form_of| form(form_of, Shape::of("Transaction")));
    Described::new(TRANSACTION, "createTransaction", "Do several changes, all or nothing")
        .description(
            "The operations are done in order, in one revision, or not at all. The violations of all of them come back at \
             once, each with `operations[i].object` before its field. With `plan` nothing is changed, and the answer is a Plan.",
        )
        .takes(&["fieldManager", "dryRun", "plan"])
        .body("What to do.", &sent, true)
        .answers(
            200,
            "What each operation did; with `plan`, what they would do.",
            &[form(JSON, Shape::of("TransactionResult")), form("application/json;as=Plan", Shape::of("Plan"))],
        )
        .refuses(answers::WRITE)
}

fn webhook() -> Described {
    Described::new("Source", "callSourceWebhook", "Let a Source look whether there is something new")
        .public()
        .description(
            "For git servers. The body is whatever they send; it is signed with the entry `token` of the Secret that the Source's \
             `spec.webhook.secretRef` names: `X-Hub-Signature-256` (GitHub), `X-Gitea-Signature` (Gitea), or the token itself in \
             `X-Gitlab-Token` (GitLab). A Source that there is not and a wrong signature have the same answer.",
        )
        .takes(&["namespace", "name"])
        .body("What the git server says; it is not read.", &[form(JSON, Shape::of("WebhookBody"))], false)
        .answers(202, "The Source looks.", &[form(JSON, Shape::of("Status"))])
        .refuses(answers::OPEN_LOGIN)
}

fn past_transactions() -> Described {
    Described::new(TRANSACTION, "listTransactions", "List what I changed, newest first")
        .description(
            "One's own requests that changed what the history remembers, each with the first fifty objects that it changed. At most a \
             hundred are told at once; `metadata.continue` goes on.",
        )
        .takes(&["limit", "continue"])
        .answers(200, "The transactions.", &[form(JSON, Shape::of("PastTransactionList"))])
        .refuses(answers::READ)
}

fn past_transaction() -> Described {
    Described::new(TRANSACTION, "readTransaction", "Read one of my transactions, with all that it changed")
        .takes(&["revision"])
        .answers(200, "The transaction.", &[form(JSON, Shape::of("PastTransactionInfo"))])
        .refuses(answers::READ)
}

const REVIEWS: &[(&str, &str, &str)] = &[
    ("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview"),
    ("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    ("authorization.k8s.io", "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
];

fn review(group: &str, kind: &str) -> Described {
    let summary = match kind {
        "SelfSubjectReview" => "Ask who I am",
        "SelfSubjectAccessReview" => "Ask whether I may do something",
        _ => "Ask for everything that I may do",
    };
    let forms = || ["application/json", "application/yaml"].map(|form_of| form(form_of, Shape::of(kind)));
    Described::new(REVIEW, &format!("create{kind}"), summary)
        .about("post", group, "v1", kind)
        .body("The question.", &forms(), true)
        .answers(201, "The question with its answer in `status`.", &forms())
        .refuses(answers::REVIEW)
}

fn discovery() -> Vec<(&'static str, Described)> {
    let operation = |id, summary| Described::new(DISCOVERY, id, summary);
    let json = |shape| [form(JSON, Shape::of(shape))];
    let aggregated = |shape| {
        [
            form(JSON, Shape::of(shape)),
            form(
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
                Shape::of("APIGroupDiscoveryList"),
            ),
        ]
    };
    vec![
        (
            "/",
            operation("listPaths", "List the paths of documents")
                .answers(200, "The paths.", &json("RootPaths"))
                .refuses(answers::DOCUMENT),
        ),
        (
            "/api",
            operation("getCoreVersions", "List the versions of the core group")
                .answers(
                    200,
                    "The versions; or all their resources, if that form is asked for.",
                    &aggregated("APIVersions"),
                )
                .refuses(answers::DOCUMENT),
        ),
        (
            "/api/v1",
            operation("listCoreV1Resources", "List the resources of the core group")
                .answers(200, "The resources.", &json("APIResourceList"))
                .refuses(answers::DOCUMENT),
        ),
        (
            "/apis",
            operation("listGroups", "List the API groups")
                .answers(
                    200,
                    "The groups; or all their resources, if that form is asked for.",
                    &aggregated("APIGroupList"),
                )
                .refuses(answers::DOCUMENT),
        ),
        (
            "/apis/{group}",
            operation("readGroup", "Read an API group")
                .takes(&["group"])
                .answers(200, "The group with its versions.", &json("APIGroup"))
                .refuses(answers::SOME_DOCUMENT),
        ),
        (
            "/apis/{group}/{version}",
            operation("listResources", "List the resources of a version of an API group")
                .takes(&["group", "version"])
                .answers(200, "The resources.", &json("APIResourceList"))
                .refuses(answers::SOME_DOCUMENT),
        ),
        (
            "/openapi/v2",
            operation("getSwagger", "Read this API's description in Swagger 2, for older kubectl")
                .answers(200, "The document.", &json("OpenAPIDocument"))
                .refuses(answers::DOCUMENT),
        ),
        (
            "/openapi/v3",
            operation("listOpenAPIPaths", "List where the description of each group is, for kubectl")
                .answers(200, "The paths.", &json("OpenAPIPaths"))
                .refuses(answers::DOCUMENT),
        ),
        (
            "/openapi/v3/api/v1",
            operation("getCoreV1OpenAPI", "Read the description of the core group, for kubectl")
                .answers_with(200, "The document, in OpenAPI 3.0.", &json("OpenAPIDocument"), &["ETag"])
                .answers(304, "The document is the one that `If-None-Match` names.", &[])
                .refuses(answers::SOME_DOCUMENT),
        ),
        (
            "/openapi/v3/apis/{group}/{version}",
            operation("getGroupOpenAPI", "Read the description of one group, for kubectl")
                .takes(&["group", "version"])
                .answers_with(200, "The document, in OpenAPI 3.0.", &json("OpenAPIDocument"), &["ETag"])
                .answers(304, "The document is the one that `If-None-Match` names.", &[])
                .refuses(answers::SOME_DOCUMENT),
        ),
        (
            "/openapi.json",
            operation("getOpenAPI", "Read this document").public().answers(
                200,
                "The document, in OpenAPI 3.1.",
                &json("OpenAPIDocument"),
            ),
        ),
        (
            "/openapi-3.0.json",
            operation("getOpenAPI30", "Read this document in OpenAPI 3.0, for generators that want it")
                .public()
                .answers(200, "The document, in OpenAPI 3.0.", &json("OpenAPIDocument")),
        ),
    ]
}

fn server() -> Vec<(&'static str, Described)> {
    let operation = |id, summary| Described::new(SERVER, id, summary);
    let text = || [form("text/plain", Shape::Text)];
    vec![
        (
            "/ca.pem",
            operation("getAuthority", "Read the certificates that clients of this server trust")
                .public()
                .description(
                    "The server's own authority, and for its last two years the next one, too. Whoever trusts the old one takes the new \
                     one from here in time. A certificate that was brought does not descend from it.",
                )
                .answers(200, "Certificates in PEM.", &[form("application/x-pem-file", Shape::Text)]),
        ),
        (
            "/docs",
            operation("getConsole", "The API console, for browsers").public().answers(
                200,
                "A page that shows this document and tries it out.",
                &[form("text/html", Shape::Text)],
            ),
        ),
        (
            "/healthz",
            operation("getHealth", "Is the server alive?").public().takes(&["verbose"]).answers(200, "It is.", &text()),
        ),
        (
            "/livez",
            operation("getLiveness", "Is the server alive?").public().takes(&["verbose"]).answers(
                200,
                "It is.",
                &text(),
            ),
        ),
        (
            "/readyz",
            operation("getReadiness", "Is everything loaded, and was it reconciled once?")
                .public()
                .takes(&["verbose"])
                .answers(200, "It is.", &text())
                .answers(503, "Not yet.", &text()),
        ),
        (
            "/version",
            operation("getVersion", "Read the server's version").public().answers(
                200,
                "The version, in Kubernetes' shape.",
                &[form(JSON, Shape::of("Version"))],
            ),
        ),
        (
            "/audit",
            operation("readAudit", "Read who did what")
                .takes(&[
                    "user",
                    "verb",
                    "resource",
                    "inNamespace",
                    "object",
                    "requestId",
                    "sinceSeconds",
                    "denied",
                    "tailLines",
                    "follow",
                ])
                .answers(
                    200,
                    "Records, one JSON object a line, oldest first.",
                    &[form("application/jsonl", Shape::Text)],
                )
                .refuses(answers::AUDIT),
        ),
        (
            "/audit/verify",
            operation("verifyAudit", "Check that the audit log is what was written")
                .answers(200, "What was found.", &[form(JSON, Shape::of("AuditVerdict"))])
                .refuses(answers::SOME_DOCUMENT),
        ),
        (
            "/sealing",
            operation("getSealing", "Read with which keys Secrets are sealed")
                .answers(200, "Their names, never the keys.", &[form(JSON, Shape::of("Sealing"))])
                .refuses(answers::SOME_DOCUMENT),
        ),
        (
            "/backup",
            operation("getBackup", "Make a backup of the store")
                .description(
                    "One consistent copy of the database with the audit log, as a tar archive that begins with `backup.json` \
                     and ends with `SHA256SUMS`: without the latter it was cut off. Secrets are sealed in it, and the keys are \
                     not: `appm backup` adds them where it may read them.",
                )
                .answers(200, "The archive.", &[form("application/x-tar", Shape::Text)])
                .refuses(answers::BACKUP),
        ),
        (
            "/metrics",
            operation("getMetrics", "Read the server's figures")
                .answers(
                    200,
                    "Figures in OpenMetrics' text form.",
                    &[form("application/openmetrics-text", Shape::Text)],
                )
                .refuses(answers::DOCUMENT),
        ),
    ]
}

fn rotate() -> Described {
    Described::new(SERVER, "rotateKeys", "Seal Secrets with a new key")
        .description(
            "The data keys are encrypted with a new key. With `dataKeys` they are replaced too, and what is stored is \
             encrypted anew in the background. Nothing stops meanwhile.",
        )
        .takes(&["dataKeys"])
        .answers(200, "The new key is in use.", &[form(JSON, Shape::of("Sealing"))])
        .refuses(answers::ROTATE)
}

fn log_level() -> [Described; 2] {
    let level =
        |described: Described| described.answers(200, "How much is logged.", &[form(JSON, Shape::of("LogLevel"))]);
    let read = Described::new(SERVER, "getLogLevel", "Read how much the server logs").refuses(answers::SOME_DOCUMENT);
    let change = Described::new(SERVER, "setLogLevel", "Change how much the server logs")
        .description("Until it is changed again or the server ends; the next one begins with `APPM_LOG`.")
        .takes(&["level"])
        .refuses(answers::STOP);
    [level(read), level(change)]
}

fn stop() -> Described {
    Described::new(SERVER, "stopServer", "Stop the server")
        .description(
            "Answered at once; the server ends when what it is doing is done. Apps go on running unless `apps` is set.",
        )
        .takes(&["apps"])
        .answers(200, "It will stop.", &[form(JSON, Shape::of("Status"))])
        .refuses(answers::STOP)
}
