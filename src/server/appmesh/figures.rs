//! Figures under App Mesh's names, for dashboards that were made for it: beside our own, at `/appmesh/metrics`.

use std::{
    fmt,
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfHost {
    host: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfApp {
    host: String,
    application: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfBuild {
    host: String,
    version: &'static str,
}

type Gauges<L, N, A> = Family<L, Gauge<N, A>>;

/// A figure out of what an application shows of itself.
type Read = fn(&Value) -> Option<i64>;

/// A whole number of each application: its name, what it says, and how it is read.
const WHOLE: [(&str, &str, Read); 6] = [
    ("application_enabled", "whether it is turned on", |app| app["enabled"].as_bool().map(i64::from)),
    ("application_running", "whether a process of it runs", |app| Some(i64::from(app["pid"].is_u64()))),
    ("application_healthy", "whether it is well", |app| app["health"].as_i64().map(|health| i64::from(health == 0))),
    ("application_process_id", "its process", |app| app["pid"].as_i64()),
    ("application_process_resident_memory_bytes", "its memory", |app| app["memory"].as_i64()),
    ("application_process_open_fds", "its open files", |app| app["fd"].as_i64()),
];

/// The text, of applications as they are shown.
///
/// # Errors
/// None that happens: writing into memory.
pub(super) fn render(host: &str, scrapes: &AtomicU64, apps: &[Value]) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("appmesh");
    let of_host = || OfHost { host: host.to_owned() };
    let counted: Family<OfHost, Counter> = Family::default();
    counted.get_or_create(&of_host()).inc_by(scrapes.fetch_add(1, Ordering::Relaxed) + 1);
    registry.register("metrics_scrapes", "how often these figures were asked for", counted);
    let build: Gauges<OfBuild, i64, AtomicI64> = Family::default();
    build.get_or_create(&OfBuild { host: host.to_owned(), version: env!("CARGO_PKG_VERSION") }).set(1);
    registry.register("build_info", "which program this is", build);
    let own = [
        ("process_id", "the server", i64::from(std::process::id())),
        ("process_open_fds", "its open files", i64::try_from(crate::appmesh::open_files()).unwrap_or(i64::MAX)),
    ];
    for (name, help, value) in own {
        let gauge: Gauges<OfHost, i64, AtomicI64> = Family::default();
        gauge.get_or_create(&of_host()).set(value);
        registry.register(name, help, gauge);
    }
    let name = |app: &Value| app["name"].as_str().unwrap_or_default().to_owned();
    let of = |app: &Value| OfApp { host: host.to_owned(), application: name(app) };
    for (word, help, read) in WHOLE {
        let gauge: Gauges<OfApp, i64, AtomicI64> = Family::default();
        for app in apps {
            if let Some(value) = read(app) {
                gauge.get_or_create(&of(app)).set(value);
            }
        }
        registry.register(word, help, gauge);
    }
    let (cores, starts): (Gauges<OfApp, f64, AtomicU64>, Family<OfApp, Counter>) = Default::default();
    for app in apps {
        if let Some(percent) = app["cpu"].as_f64() {
            cores.get_or_create(&of(app)).set(percent / 100.0);
        }
        starts.get_or_create(&of(app)).inc_by(app["starts"].as_u64().unwrap_or_default());
    }
    registry.register("application_process_cpu_usage_cores", "the processors that it uses", cores);
    registry.register("application_process_starts", "how often it was started", starts);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_application_has_the_figures_that_it_shows() {
        let apps = [
            json!({"name": "web", "enabled": true, "health": 0, "pid": 7, "memory": 4096, "cpu": 150.0, "fd": 5, "starts": 3}),
            json!({"name": "off", "enabled": false, "health": 1, "starts": 0}),
        ];
        let scrapes = AtomicU64::new(4);
        let text = render("here", &scrapes, &apps).expect("text");
        for line in [
            "appmesh_metrics_scrapes_total{host=\"here\"} 5",
            "appmesh_application_process_cpu_usage_cores{host=\"here\",application=\"web\"} 1.5",
            "appmesh_application_process_starts_total{host=\"here\",application=\"web\"} 3",
            "appmesh_application_running{host=\"here\",application=\"off\"} 0",
            "appmesh_application_healthy{host=\"here\",application=\"off\"} 0",
            "appmesh_application_enabled{host=\"here\",application=\"web\"} 1",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        assert!(!text.contains("process_id{host=\"here\",application=\"off\"}"), "{text}");
    }
}
