//! `/metrics`: what the other roles count, as text for Prometheus (OpenMetrics 1.0). Every counter
//! is exact; nothing is sampled. Labels come from the configuration and from closed sets.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::messages::{Row, State};
use crate::{kernel_metrics, latency_metrics};

/// Content type of the answer.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Upper bounds of the buckets of a latency, in seconds, as the gateway counts them.
const BUCKETS_S: [f64; 15] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0,
];

/// A family that is made of rows: name of the rows, name and help of the family, kind.
struct Family {
    rows: &'static str,
    name: &'static str,
    help: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    /// A gauge in microseconds that is shown in seconds.
    Micros,
    Histogram,
}

const FAMILIES: [Family; 11] = [
    family("calls", "moat_calls", "Answers by route and class of their status.", Kind::Counter),
    family("call", "moat_call_seconds", "Time until an answer's head is ready.", Kind::Histogram),
    family("refused", "moat_refused", "Refusals by stage and code.", Kind::Counter),
    family("upstream_tries", "moat_upstream_tries", "Calls given to an endpoint.", Kind::Counter),
    family(
        "upstream_failed",
        "moat_upstream_failed",
        "Those that failed or were left unknown.",
        Kind::Counter,
    ),
    family("upstream_in_flight", "moat_upstream_in_flight", "Calls under way.", Kind::Gauge),
    family(
        "upstream_latency_us",
        "moat_upstream_latency_seconds",
        "Latency, smoothed, as endpoints are chosen by it.",
        Kind::Micros,
    ),
    family(
        "upstream_connections",
        "moat_upstream_connections",
        "Connections to an endpoint.",
        Kind::Gauge,
    ),
    family(
        "upstream_breaker",
        "moat_upstream_breaker",
        "0 closed, 1 half-open, 2 open.",
        Kind::Gauge,
    ),
    family(
        "certificate_left_s",
        "moat_tls_certificate_expiry_seconds",
        "Time until a certificate that callers are shown ends.",
        Kind::Gauge,
    ),
    family(
        "upstream_well",
        "moat_upstream_well",
        "0 if a health check or an ejection speaks against an endpoint.",
        Kind::Gauge,
    ),
];

const fn family(rows: &'static str, name: &'static str, help: &'static str, kind: Kind) -> Family {
    Family { rows, name, help, kind }
}

/// Numbers of a role's status, with their families.
const OF_GATEWAY: [(&str, &str, &str, Kind); 9] = [
    ("connections", "moat_connections", "Open connections of callers.", Kind::Gauge),
    ("calls", "moat_calls_begun", "Calls begun.", Kind::Counter),
    ("refused", "moat_calls_refused", "Calls and connections refused.", Kind::Counter),
    ("withheld", "moat_withheld", "Answers withheld for want of a record.", Kind::Counter),
    ("records", "moat_audit_records", "Records made durable.", Kind::Counter),
    ("turned_away", "moat_connections_turned_away", "Connections closed unheard.", Kind::Counter),
    ("cut", "moat_connections_cut", "Connections of callers no longer let in.", Kind::Counter),
    ("stalled", "moat_workers_stalled", "Workers that stand still.", Kind::Gauge),
    ("pressure", "moat_overload_pressure", "0 to 3000; above 0 calls are refused.", Kind::Gauge),
];
const OF_AUDITOR: [(&str, &str, &str, Kind); 6] = [
    ("seq", "moat_audit_next_record", "Number of the next record.", Kind::Gauge),
    ("open_intents", "moat_audit_open_intents", "Intents without outcome.", Kind::Gauge),
    ("waiting", "moat_audit_waiting", "Records that wait to be written.", Kind::Gauge),
    ("frames", "moat_audit_frames", "Group commits.", Kind::Counter),
    ("failures", "moat_audit_failures", "Writes that failed.", Kind::Counter),
    ("last_sync_us", "moat_audit_sync_seconds", "Time of the last write.", Kind::Micros),
];

/// Everything as text.
pub(crate) fn text(state: &State, rows: &[Row], latency: &str) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    let snapshot = Snapshot { state: state.clone(), rows: rows.to_vec() };
    registry.register_collector(Box::new(snapshot));
    let mut out = String::new();
    text::encode_registry(&mut out, &registry)?;
    out.push_str(&kernel_metrics::text(state));
    out.push_str(&latency_metrics::text(latency));
    text::encode_eof(&mut out)?;
    Ok(out)
}

#[derive(Debug)]
struct Snapshot {
    state: State,
    rows: Vec<Row>,
}

type Labels = Vec<(String, String)>;

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for family in &FAMILIES {
            let rows = self.rows.iter().filter(|row| row.name == family.rows);
            let rows: Vec<(Labels, &Row)> = rows.map(|row| (row.labels.clone(), row)).collect();
            let write = |row: &&Row, metric: MetricEncoder<'_>| of_row(row, family.kind, metric);
            put(&mut encoder, (family.name, family.help, family.kind), &rows, write)?;
        }
        self.of_roles(&mut encoder)?;
        let number =
            |value: &u64, metric: MetricEncoder<'_>| of_number(*value, Kind::Gauge, metric);
        let state = &self.state;
        let generation = ("moat_config_generation", "Generation in force.", Kind::Gauge);
        put(&mut encoder, generation, &[(Labels::new(), state.generation)], number)?;
        let good = u64::from(state.last_refusal.is_none());
        let reload = (
            "moat_config_last_reload_successful",
            "Whether the last reload was taken.",
            Kind::Gauge,
        );
        put(&mut encoder, reload, &[(Labels::new(), good)], number)?;
        let info = vec![
            ("digest".to_owned(), state.digest.clone()),
            ("version".to_owned(), state.version.clone()),
        ];
        let config = ("moat_config", "What is in force; always 1.", Kind::Gauge);
        put(&mut encoder, config, &[(info, 1)], number)
    }
}

impl Snapshot {
    fn of_roles(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let statuses = [
            (&self.state.gateway, OF_GATEWAY.as_slice()),
            (&self.state.auditor, OF_AUDITOR.as_slice()),
        ];
        for (status, numbers) in statuses {
            for (key, name, help, kind) in numbers {
                let Some(value) = status.get(*key).and_then(serde_json::Value::as_u64) else {
                    continue;
                };
                let write =
                    |value: &u64, metric: MetricEncoder<'_>| of_number(*value, *kind, metric);
                put(encoder, (name, help, *kind), &[(Labels::new(), value)], write)?;
            }
        }
        let label = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        let roles = &self.state.roles;
        let gauge = |value: &u64, metric: MetricEncoder<'_>| of_number(*value, Kind::Gauge, metric);
        let up = roles.iter().map(|role| (label("role", &role.name), u64::from(role.pid > 0)));
        put(encoder, ("moat_role_up", "Whether a role runs.", Kind::Gauge), &collect(up), gauge)?;
        let restarts = roles.iter().map(|role| (label("role", &role.name), role.restarts));
        let counter =
            |value: &u64, metric: MetricEncoder<'_>| of_number(*value, Kind::Counter, metric);
        let family = ("moat_role_restarts", "How often a role was started again.", Kind::Counter);
        put(encoder, family, &collect(restarts), counter)?;
        let conditions = self.state.conditions.iter();
        let ready = conditions.map(|c| (label("condition", &c.name), u64::from(c.holds)));
        let family = ("moat_ready", "Conditions of readiness.", Kind::Gauge);
        put(encoder, family, &collect(ready), gauge)
    }
}

fn collect(values: impl Iterator<Item = (Labels, u64)>) -> Vec<(Labels, u64)> {
    values.collect()
}

/// One family with its values, each with its labels.
fn put<T>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help, kind): (&str, &str, Kind),
    values: &[(Labels, T)],
    write: impl Fn(&T, MetricEncoder<'_>) -> Result<(), fmt::Error>,
) -> Result<(), fmt::Error> {
    if values.is_empty() {
        return Ok(());
    }
    let of = match kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge | Kind::Micros => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
    };
    let mut metric = encoder.encode_descriptor(name, help, None, of)?;
    if let [(labels, value)] = values
        && labels.is_empty()
    {
        return write(value, metric);
    }
    for (labels, value) in values {
        write(value, metric.encode_family(labels)?)?;
    }
    Ok(())
}

fn of_row(row: &Row, kind: Kind, mut metric: MetricEncoder<'_>) -> Result<(), fmt::Error> {
    let Some(histogram) = &row.histogram else { return of_number(row.value, kind, metric) };
    let bounds = BUCKETS_S.into_iter().chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds.zip(histogram.counts.iter().copied()).collect();
    let count = histogram.counts.iter().sum();
    let sum = seconds(histogram.sum_us);
    metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
}

fn of_number(value: u64, kind: Kind, mut metric: MetricEncoder<'_>) -> Result<(), fmt::Error> {
    match kind {
        Kind::Counter => metric.encode_counter::<NoLabelSet, u64, u64>(&value, None),
        Kind::Micros => metric.encode_gauge(&seconds(value)),
        Kind::Gauge | Kind::Histogram => {
            metric.encode_gauge(&i64::try_from(value).unwrap_or(i64::MAX))
        }
    }
}

/// Microseconds in seconds. Whole and rest by themselves: both are exact as floating point numbers.
fn seconds(us: u64) -> f64 {
    let whole = u32::try_from(us / 1_000_000).unwrap_or(u32::MAX);
    let rest = u32::try_from(us % 1_000_000).unwrap_or(0);
    f64::from(whole) + f64::from(rest) / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::Histogram;

    fn row(name: &str, labels: &[(&str, &str)], value: u64) -> Row {
        let labels = labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Row { name: name.to_owned(), labels, value, histogram: None }
    }

    #[test]
    fn everything_is_text_that_prometheus_reads() {
        let mut call = row("call", &[("route", "a\"b")], 0);
        let mut counts = vec![0; 16];
        (counts[0], counts[15]) = (2, 1);
        call.histogram = Some(Histogram { sum_us: 7_000_300, counts });
        let rows = [
            row("calls", &[("route", "a"), ("class", "2xx")], u64::MAX),
            call,
            row("upstream_latency_us", &[("upstream", "s"), ("endpoint", "10.0.0.1:1")], 1_500),
        ];
        let gateway = serde_json::json!({ "connections": 3, "calls": 9 });
        let state = State { generation: 4, digest: "d".to_owned(), gateway, ..State::default() };
        let text = text(&state, &rows, "").unwrap();
        for line in [
            "# TYPE moat_calls counter",
            "moat_calls_total{route=\"a\",class=\"2xx\"} 18446744073709551615",
            "moat_call_seconds_bucket{le=\"0.0001\",route=\"a\\\"b\"} 2",
            "moat_call_seconds_bucket{le=\"+Inf\",route=\"a\\\"b\"} 3",
            "moat_call_seconds_sum{route=\"a\\\"b\"} 7.0003",
            "moat_upstream_latency_seconds{upstream=\"s\",endpoint=\"10.0.0.1:1\"} 0.0015",
            "moat_connections 3",
            "moat_calls_begun_total 9",
            "moat_config_generation 4",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    /// A page on which every family has a value.
    fn whole_page() -> String {
        let mut rows: Vec<Row> = FAMILIES.iter().map(|f| row(f.rows, &[("l", "v")], 1)).collect();
        for row in rows.iter_mut().filter(|row| row.name == "call") {
            row.histogram = Some(Histogram { sum_us: 1, counts: vec![0; 16] });
        }
        let numbers = |of: &[(&str, &str, &str, Kind)]| {
            of.iter().map(|(key, ..)| ((*key).to_owned(), 1.into())).collect()
        };
        let role = serde_json::json!({ "name": "r", "pid": 1, "uid": 1, "restarts": 0,
            "landlock": "full", "seccomp": true });
        let condition = serde_json::json!({ "name": "c", "holds": true });
        let kernel = serde_json::json!({
            "probes": [{ "name": "egress", "is_attached": true }],
            "egress": { "allowed": 1, "refused": 1, "lost": 0, "blocked": [["a", 1]] },
            "wire": { "hellos": 1 },
        });
        let state = State {
            gateway: serde_json::Value::Object(numbers(&OF_GATEWAY)),
            auditor: serde_json::Value::Object(numbers(&OF_AUDITOR)),
            roles: vec![serde_json::from_value(role).unwrap()],
            conditions: vec![serde_json::from_value(condition).unwrap()],
            kernel,
            ..State::default()
        };
        text(&state, &rows, "").unwrap()
    }

    /// Every word that begins like a metric of ours.
    fn named_in(text: &str) -> std::collections::BTreeSet<String> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.filter(|word| word.starts_with("moat_")).map(str::to_owned).collect()
    }

    #[test]
    fn what_dashboards_and_alerts_ask_for_is_there() {
        let page = whole_page();
        let values = page
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split(['{', ' ']).next().unwrap_or_default().to_owned());
        let known: std::collections::BTreeSet<String> = values.collect();
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
        for file in ["prometheus/moat.rules.yaml", "grafana/calls.json", "grafana/evidence.json"] {
            let asked = named_in(&std::fs::read_to_string(root.join(file)).unwrap());
            assert!(asked.len() > 5, "{file}: {asked:?}");
            let missing: Vec<&String> = asked.difference(&known).collect();
            assert!(missing.is_empty(), "{file} asks for {missing:?}, of {known:?}");
        }
    }

    #[test]
    fn there_are_few_families_and_each_has_a_name_of_its_own() {
        let named = FAMILIES.iter().map(|family| family.name);
        let all = named.chain(OF_GATEWAY.iter().chain(&OF_AUDITOR).map(|(_, name, ..)| *name));
        let all: Vec<&str> = all.collect();
        let own: std::collections::BTreeSet<&str> = all.iter().copied().collect();
        assert_eq!(own.len(), all.len());
        assert!(all.len() + 6 <= 80 && all.iter().all(|name| name.starts_with("moat_")));
    }
}
