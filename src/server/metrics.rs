//! `/metrics`, in OpenMetrics' text form.

use std::{
    fmt,
    sync::atomic::{AtomicI64, AtomicU64},
    time::Duration,
};

use jiff::Timestamp;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

/// Content type of the answer.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a request was, with few enough values.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    /// `get`, `list`, `watch`…
    pub verb: String,
    /// `apps`, `apps/status`; empty for documents.
    pub resource: String,
    /// HTTP status code.
    pub code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerbLabels {
    verb: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabels {
    /// `own` or `brought`.
    certificate: &'static str,
}

/// Counters that the server keeps, and gauges that are read when somebody asks.
pub(super) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter<u64, AtomicU64>>,
    seconds: Family<VerbLabels, Histogram>,
    /// Open watches.
    pub watchers: Gauge<i64, AtomicI64>,
    /// Events sent to watchers.
    pub events: Counter<u64, AtomicU64>,
    objects: Family<KindLabels, Gauge<i64, AtomicI64>>,
    instances: Family<StateLabels, Gauge<i64, AtomicI64>>,
    revision: Gauge<i64, AtomicI64>,
    certificates: Family<CertificateLabels, Gauge<i64, AtomicI64>>,
    certificate_faults: Gauge<i64, AtomicI64>,
    /// How often App Mesh's own figures were asked for.
    pub app_mesh_scrapes: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("appm");
        let requests = Family::default();
        registry.register("requests", "requests answered", requests.clone());
        let seconds: Family<VerbLabels, Histogram> =
            Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.0005, 4.0, 9)));
        registry.register("request_seconds", "time until the answer's head, without watches", seconds.clone());
        let watchers = Gauge::default();
        registry.register("watchers", "open watches", watchers.clone());
        let events = Counter::default();
        registry.register("watch_events", "events sent to watchers", events.clone());
        let objects = Family::default();
        registry.register("objects", "stored objects", objects.clone());
        let instances = Family::default();
        registry.register("instances", "instances by state", instances.clone());
        let revision = Gauge::default();
        registry.register("store_revision", "the store's revision", revision.clone());
        let certificates = Family::default();
        registry.register("certificate_expiry_seconds", "when a certificate ends, in Unix time", certificates.clone());
        let faults = Gauge::default();
        registry.register("certificate_faults", "certificates and keys in files that cannot be used", faults.clone());
        Self {
            registry,
            requests,
            seconds,
            watchers,
            events,
            objects,
            instances,
            revision,
            certificates,
            certificate_faults: faults,
            app_mesh_scrapes: AtomicU64::new(0),
        }
    }
}

/// What the store holds at this moment.
#[derive(Default)]
pub(super) struct Census {
    /// The store's revision.
    pub revision: u64,
    /// Objects of each kind.
    pub objects: Vec<(&'static str, usize)>,
    /// Instances in each state.
    pub instances: Vec<(String, usize)>,
}

impl Metrics {
    /// Notes a request that was answered.
    pub(super) fn answered(&self, labels: RequestLabels, took: Duration) {
        if labels.verb != "watch" {
            self.seconds.get_or_create(&VerbLabels { verb: labels.verb.clone() }).observe(took.as_secs_f64());
        }
        self.requests.get_or_create(&labels).inc();
    }

    /// Notes when the certificates end, our own and the one that was brought, and how many cannot be used.
    pub(super) fn certificates(&self, (own, brought): (Timestamp, Option<Timestamp>), faults: usize) {
        self.certificates.clear();
        for (certificate, ends) in [("own", Some(own)), ("brought", brought)] {
            if let Some(ends) = ends {
                self.certificates.get_or_create(&CertificateLabels { certificate }).set(ends.as_second());
            }
        }
        self.certificate_faults.set(faults as i64);
    }

    /// The text.
    pub(super) fn render(&self, census: Census) -> Result<String, fmt::Error> {
        self.revision.set(i64::try_from(census.revision).unwrap_or(i64::MAX));
        for (kind, count) in census.objects {
            self.objects.get_or_create(&KindLabels { kind }).set(count as i64);
        }
        self.instances.clear();
        for (state, count) in census.instances {
            self.instances.get_or_create(&StateLabels { state }).set(count as i64);
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_what_was_counted() {
        let metrics = Metrics::default();
        let labels = RequestLabels { verb: "get".into(), resource: "apps".into(), code: 200 };
        metrics.answered(labels, Duration::from_millis(2));
        let census = Census { revision: 7, objects: vec![("App", 3)], instances: vec![("running".to_owned(), 2)] };
        let text = metrics.render(census).expect("text");
        for line in [
            "appm_requests_total{verb=\"get\",resource=\"apps\",code=\"200\"} 1",
            "appm_objects{kind=\"App\"} 3",
            "appm_instances{state=\"running\"} 2",
            "appm_store_revision 7",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
