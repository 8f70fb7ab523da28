//! How a service is reached: ports, networks, names.

use serde_json::{Value, json};

use super::{
    super::super::{
        draft::Draft,
        report::brief,
        tree::{entries, step, text, texts},
    },
    service::Service,
};

impl Service<'_> {
    pub(super) fn ports(&mut self, value: &Value) {
        let list = value.as_array().cloned().unwrap_or_default();
        for (at, item) in list.iter().enumerate() {
            let key = format!("ports[{at}]");
            let spot = self.spot(&key);
            self.strangers(&key, "port", item);
            let made = match item {
                Value::Object(_) => {
                    let target = text(&item["target"]).unwrap_or_default();
                    let protocol = text(&item["protocol"]).unwrap_or_else(|| "tcp".to_owned());
                    port(&text(&item["published"]).unwrap_or_default(), &target, &protocol)
                }
                other => short_port(&text(other).unwrap_or_default()),
            };
            let Some(ports) = made else {
                self.refuse(&key, "no port such as 8080:80, 127.0.0.1:8080:80/udp or 9000-9003");
                continue;
            };
            let address = item["host_ip"].as_str().map(str::to_owned);
            let address =
                address.or_else(|| item.as_str().and_then(|text| text.rsplitn(3, ':').nth(2)).map(str::to_owned));
            match address.as_deref() {
                Some("127.0.0.1" | "::1" | "[::1]" | "localhost") => self.draft.carried(&spot, "ports"),
                _ => self.draft.nearly(
                    &spot,
                    "ports",
                    "published on 127.0.0.1 only: whom to let in is a gateway's to say",
                ),
            }
            for (host, container, protocol) in ports {
                let taken = |draft: &Draft, name: &str| {
                    draft.get("ports").as_array().is_some_and(|all| all.iter().any(|port| port["name"] == name))
                };
                let suffix = if protocol == "UDP" { "-udp" } else { "" };
                let mut name = format!("p{container}{suffix}");
                let mut number = 2;
                while taken(&self.draft, &name) {
                    name = format!("p{container}{suffix}-{number}");
                    number += 1;
                }
                let mut made = json!({"name": name, "containerPort": container, "hostPort": host});
                if protocol == "UDP" {
                    made["protocol"] = json!("UDP");
                }
                self.draft.push("ports", made);
            }
        }
    }

    pub(super) fn network_mode(&mut self, value: &Value) {
        let spot = self.spot("network_mode");
        match value.as_str().unwrap_or_default() {
            mode @ ("host" | "none" | "bridge") => self.draft.set(&spot, "network_mode", "container.network", mode),
            mode => self.draft.dropped(
                &spot,
                "network_mode",
                &format!("`{}`: an App shares no network with a single container", brief(mode)),
            ),
        }
    }

    pub(super) fn networks(&mut self, value: &Value) {
        let names: Vec<String> = match value {
            Value::Array(_) => texts(value),
            other => entries(other).map(|(name, _)| name.clone()).collect(),
        };
        let spot = self.spot("networks");
        let Some(first) = names.first() else { return self.draft.carried(&spot, "networks") };
        for (name, how) in entries(value) {
            let path = step("networks", name);
            self.strangers(&path, "network", how);
            let own = ["ipv4_address", "ipv6_address", "link_local_ips", "mac_address", "interface_name"];
            self.without(&path, how, &own, "addresses and names of interfaces are the engine's");
            let options = ["driver_opts", "priority", "gw_priority"];
            self.without(&path, how, &options, "an App is in one network, as it is");
            let others = texts(&how["aliases"]).into_iter().filter(|alias| *alias != self.draft.name).count();
            if others > 0 {
                self.without(&path, how, &["aliases"], "an App is found by its own name");
            }
        }
        self.draft.put("container.network", self.project.network(first));
        let more = if names.len() > 1 { "; an App is in one network only" } else { "" };
        let made = self.project.network(first);
        let remark = format!(
            "have it there before the first start: `docker network create {made}`; others are found in it by their Apps' names{more}"
        );
        self.draft.nearly(&spot, "networks", &remark);
    }

    /// Whoever names no network is in the project's own, where the others are found by name, if there are any.
    pub(super) fn default_network(&mut self) {
        if self.project.is_shared {
            self.draft.put("container.network", self.project.network("default"));
        }
    }
}

/// `8080:80/udp`, `127.0.0.1:80:80`, `3000-3005`, `80`.
fn short_port(text: &str) -> Option<Vec<(u16, u16, &'static str)>> {
    let (rest, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let mut parts = rest.rsplitn(3, ':');
    let container = parts.next()?;
    port(parts.next().unwrap_or_default(), container, protocol)
}

/// A port, or as many as two ranges of the same length have; without a published one the engine allocates.
fn port(published: &str, target: &str, protocol: &str) -> Option<Vec<(u16, u16, &'static str)>> {
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" | "" => "TCP",
        "udp" => "UDP",
        _ => return None,
    };
    let range = |text: &str| -> Option<(u16, u16)> {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        Some((from.parse().ok()?, to.parse().ok()?)).filter(|(from, to)| from <= to)
    };
    let (from, to) = range(target)?;
    if to - from > 1000 {
        return None;
    }
    match published {
        "" => Some((from..=to).map(|port| (0, port, protocol)).collect()),
        published => {
            let (first, last) = range(published)?;
            // Any of a range will do for a single port: the first does.
            (last - first == to - from || from == to)
                .then(|| (from..=to).map(|port| (first + (port - from), port, protocol)).collect())
        }
    }
}
