//! The part of `/metrics` that says where the time of slow calls goes, with the trace id of a call as
//! an exemplar (OpenMetrics 1.0, section "Exemplars").

use std::fmt::Write;

use serde::Deserialize;

use crate::kernel_metrics::{escaped, head};

/// As much of a report as is shown here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Report {
    calls: u64,
    calls_lost: u64,
    events_lost: u64,
    slow: u64,
    stalled: u64,
    retransmits: u64,
    paths: Vec<Path>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Path {
    stage: String,
    cause: String,
    us: u64,
    exemplar: Option<(String, u64)>,
}

/// Its lines; none where nobody looks.
pub(crate) fn text(report: &str) -> String {
    let Ok(report) = serde_json::from_str::<Report>(report) else { return String::new() };
    let mut page = String::new();
    let help = "Time of slow calls by stage and cause.";
    head(&mut page, "moat_latency_slow_seconds_total", "counter", help);
    for Path { stage, cause, us, exemplar } in &report.paths {
        let (stage, cause) = (escaped(stage), escaped(cause));
        let labels = format!("stage=\"{stage}\",cause=\"{cause}\"");
        let _ = write!(page, "moat_latency_slow_seconds_total{{{labels}}} {}", seconds(*us));
        if let Some((trace, us)) = exemplar {
            let trace = escaped(trace);
            let _ = write!(page, " # {{trace_id=\"{trace}\"}} {}", seconds(*us));
        }
        page.push('\n');
    }
    for (name, count, help) in [
        ("moat_latency_calls_total", report.calls, "Calls whose time was looked at."),
        ("moat_latency_slow_calls_total", report.slow, "Those slower than the 99th percentile."),
        ("moat_latency_calls_lost_total", report.calls_lost, "Calls that nothing is known of."),
        ("moat_latency_events_lost_total", report.events_lost, "Events that found no room."),
        ("moat_latency_stalls_total", report.stalled, "How often a worker stood still."),
        ("moat_latency_retransmits_total", report.retransmits, "TCP segments sent again."),
    ] {
        head(&mut page, name, "counter", help);
        let _ = writeln!(page, "{name} {count}");
    }
    page
}

/// Microseconds as seconds, exactly.
fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn a_path_bears_the_trace_of_a_call() {
        let report = r#"{ "calls": 9, "slow": 1, "paths": [
            { "stage": "audit_outcome", "cause": "disk", "us": 1200034, "exemplar": ["0af7", 40000] }
        ] }"#;
        let page = text(report);
        for line in [
            "# TYPE moat_latency_slow_seconds counter",
            "moat_latency_slow_seconds_total{stage=\"audit_outcome\",cause=\"disk\"} 1.200034 \
             # {trace_id=\"0af7\"} 0.040000",
            "moat_latency_calls_total 9",
            "moat_latency_stalls_total 0",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
        assert!(text("").is_empty());
    }
}
