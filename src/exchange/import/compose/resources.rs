//! What a service may use of the machine.

use serde_json::Value;

use super::{
    super::super::{
        quantity,
        tree::{entries, text},
    },
    super::words::COMPOSE,
    service::Service,
};

impl Service<'_> {
    pub(super) fn bytes(&mut self, key: &str, limit: &str, value: &Value) {
        match text(value).as_deref().and_then(quantity::bytes) {
            Some(size) => {
                let spot = self.spot(key);
                self.draft.set(&spot, key, &format!("resources.limits.{limit}"), size);
            }
            None => self.refuse(key, "no size such as 512m"),
        }
    }

    pub(super) fn request(&mut self, what: &str, key: &str, value: &Value) {
        match text(value).as_deref().and_then(quantity::bytes) {
            Some(size) => {
                let spot = self.spot(key);
                self.draft.set(&spot, key, &format!("resources.requests.{what}"), size);
            }
            None => self.refuse(key, "no size such as 512m"),
        }
    }

    pub(super) fn cpus(&mut self, key: &str, side: &str, value: &Value) {
        match text(value)
            .and_then(|number| number.parse::<f64>().ok())
            .filter(|number| (0.01..=10_000.0).contains(number))
        {
            Some(number) => {
                let spot = self.spot(key);
                let cores = quantity::cores((number * 1000.0).round() as u64);
                self.draft.set(&spot, key, &format!("resources.{side}.cpu"), cores);
            }
            None => self.refuse(key, "no number of cores"),
        }
    }

    pub(super) fn resources(&mut self, value: &Value) {
        for (side, ours) in [("limits", "limits"), ("reservations", "requests")] {
            for (key, amount) in entries(&value[side]) {
                let path = format!("deploy.resources.{side}.{key}");
                match key.as_str() {
                    "cpus" => self.cpus(&path, ours, amount),
                    "memory" if ours == "limits" => self.bytes(&path, "memory", amount),
                    "memory" => self.request("memory", &path, amount),
                    "pids" if ours == "limits" => {
                        let spot = self.spot(&path);
                        self.draft.set(&spot, &path, "resources.limits.pids", text(amount).unwrap_or_default());
                    }
                    "devices" | "generic_resources" if ours == "requests" => {
                        let spot = self.spot(&path);
                        self.draft.dropped(&spot, &path, "no devices are handed over");
                    }
                    _ => {
                        let spot = self.spot(&path);
                        self.draft.dropped(&spot, &path, &COMPOSE.stranger(side, key));
                    }
                }
            }
        }
    }
}
