//! When a service is well, when it is restarted, and how it is rolled out.

use serde_json::{Value, json};

use super::{
    super::super::{
        quantity,
        report::{Spot, brief},
        tree::{entries, text, texts},
    },
    super::words::COMPOSE,
    service::Service,
};

impl Service<'_> {
    pub(super) fn healthcheck(&mut self, value: &Value) {
        let spot = self.spot("healthcheck");
        self.strangers("healthcheck", "healthcheck", value);
        let test = match &value["test"] {
            Value::String(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
            other => texts(other),
        };
        if value["disable"] == true || test.first().is_some_and(|word| word == "NONE") {
            return self.draft.dropped(
                &spot,
                "healthcheck",
                "the image's own check counts where there is no `readinessProbe`",
            );
        }
        let command = match test.split_first() {
            Some((word, rest)) if word == "CMD" && !rest.is_empty() => rest.to_vec(),
            Some((word, [line])) if word == "CMD-SHELL" => vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()],
            None => {
                return self.draft.dropped(
                    &spot,
                    "healthcheck",
                    "without `test`; the image's own check counts as it is",
                );
            }
            _ => {
                return self
                    .refuse("healthcheck", "`test` is a text, or a list that begins with CMD, CMD-SHELL or NONE");
            }
        };
        let mut probe = json!({"exec": {"command": command}});
        for (key, field) in [("interval", "periodSeconds"), ("timeout", "timeoutSeconds"), ("start_interval", "")] {
            let Some(said) = value.get(key) else { continue };
            match text(said).as_deref().and_then(quantity::duration) {
                Some(millis) if !field.is_empty() => probe[field] = json!(quantity::seconds(millis).clamp(1, 86400)),
                Some(_) => {
                    self.draft.dropped(&spot, "healthcheck.start_interval", "a `startupProbe` has a period of its own")
                }
                None => return self.refuse("healthcheck", format!("`{key}` is no duration such as 10s")),
            }
        }
        if value["interval"].is_null() {
            probe["periodSeconds"] = json!(30);
        }
        if value["timeout"].is_null() {
            probe["timeoutSeconds"] = json!(30);
        }
        if let Some(retries) = value["retries"].as_u64() {
            probe["failureThreshold"] = json!(retries.clamp(1, 1_000_000));
        }
        self.draft.put("readinessProbe", probe);
        if value.get("start_period").is_some() {
            self.draft.nearly(
                &spot,
                "healthcheck.start_period",
                "an App that is not ready is not ended: it has as long as it needs",
            );
        }
        self.draft.carried(&spot, "healthcheck");
    }

    pub(super) fn deploy(&mut self, value: &Value) {
        self.strangers("deploy", "deploy", value);
        for (key, body) in entries(value).filter(|(key, _)| COMPOSE.knows("deploy", key)) {
            let path = format!("deploy.{key}");
            let spot = self.spot(&path);
            match key.as_str() {
                "replicas" => self.draft.set(&spot, &path, "replicas", body.clone()),
                "resources" => self.resources(body),
                "restart_policy" => self.deployed_restart(body, &spot),
                "labels" => self.draft.dropped(&spot, &path, "of Docker Swarm; `labels` of the service are the App's"),
                "mode" if body == "replicated" => self.draft.carried(&spot, &path),
                "mode" => self.draft.nearly(&spot, &path, "`replicas` instances, on nodes that have room"),
                "update_config" => {
                    let parallel = body["parallelism"].as_u64().unwrap_or(1).max(1);
                    let surge = body["order"] == "start-first";
                    let (most_more, most_less) = if surge { (parallel, 0) } else { (0, parallel) };
                    self.draft
                        .put("strategy.rollingUpdate", json!({"maxSurge": most_more, "maxUnavailable": most_less}));
                    if body["failure_action"] == "rollback" {
                        self.draft.put("strategy.autoRollback", true);
                    }
                    self.draft.nearly(&spot, &path, "parallelism, order and rollback are those of a rollout");
                    self.strangers(&path, "update_config", body);
                    let rest = ["delay", "monitor", "max_failure_ratio"];
                    self.without(
                        &path,
                        body,
                        &rest,
                        "a rollout goes on when an instance is ready for `minReadySeconds`",
                    );
                }
                "placement" => self.draft.dropped(&spot, &path, "`nodeSelector` names labels of nodes"),
                "rollback_config" => self.draft.dropped(&spot, &path, "a rollback is a rollout like any other"),
                _ => self.draft.dropped(&spot, &path, "each instance has an address and ports of its own"),
            }
        }
    }

    pub(super) fn deployed_restart(&mut self, value: &Value, spot: &Spot) {
        match value["condition"].as_str() {
            Some("none") => self.draft.put("restartPolicy", "Never"),
            Some("on-failure") => self.draft.put("restartPolicy", "OnFailure"),
            _ => {}
        }
        if let Some(millis) = text(&value["delay"]).as_deref().and_then(quantity::duration) {
            self.draft.put("restart.backoff.initial", quantity::go(millis));
        }
        if let Some(millis) = text(&value["window"]).as_deref().and_then(quantity::duration) {
            self.draft.put("restart.backoff.resetAfter", quantity::go(millis));
        }
        self.strangers("deploy.restart_policy", "restart_policy", value);
        if let Some(most) = value["max_attempts"].as_u64().filter(|most| *most > 0) {
            self.draft.put("restart.maxRestarts", most.min(1_000_000));
        }
        self.draft.nearly(spot, "deploy.restart_policy", "restarts back off, up to `restart.backoff.max`");
    }

    /// What happens after an exit: nothing, if nothing is said.
    pub(super) fn restart_policy(&mut self, body: &Value) {
        if !body["deploy"]["restart_policy"].is_null() {
            return;
        }
        let spot = self.spot("restart");
        match text(&body["restart"]).unwrap_or_default().as_str() {
            "always" | "unless-stopped" => {}
            "" | "no" | "false" => self.draft.put("restartPolicy", "Never"),
            other => match other.strip_prefix("on-failure") {
                Some(most) => {
                    self.draft.put("restartPolicy", "OnFailure");
                    if let Some(most) =
                        most.strip_prefix(':').and_then(|most| most.parse::<u32>().ok()).filter(|n| *n > 0)
                    {
                        self.draft.put("restart.maxRestarts", most.min(1_000_000));
                        self.draft.nearly(&spot, "restart", "counts restarts without a stable run between them");
                    }
                }
                None => self.refuse("restart", format!("`{}` is no policy", brief(other))),
            },
        }
    }
}
