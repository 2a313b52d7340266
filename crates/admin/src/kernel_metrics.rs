//! The part of `/metrics` that the kernel says, as lines of OpenMetrics.

use std::fmt::Write;

use serde::Deserialize;

use crate::messages::State;

/// As much of the kernel role's status as is shown here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Kernel {
    probes: Vec<Probe>,
    egress: Option<Egress>,
    wire: Option<Wire>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Probe {
    name: String,
    is_attached: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Egress {
    allowed: u64,
    refused: u64,
    lost: u64,
    blocked: Vec<(String, u64)>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Wire {
    hellos: u64,
    not_tls: u64,
    not_admitted: u64,
    too_fast: u64,
    lost: u64,
    untold: u64,
}

/// Its lines.
pub(crate) fn text(state: &State) -> String {
    let kernel: Kernel = serde_json::from_value(state.kernel.clone()).unwrap_or_default();
    let mut page = String::new();
    let help = "Whether a probe of the kernel is in force.";
    head(&mut page, "moat_kernel_probe_attached", "gauge", help);
    for Probe { name, is_attached } in &kernel.probes {
        let (name, value) = (escaped(name), u8::from(*is_attached));
        let _ = writeln!(page, "moat_kernel_probe_attached{{probe=\"{name}\"}} {value}");
    }
    if let Some(egress) = &kernel.egress {
        push_egress(&mut page, egress);
    }
    if let Some(wire) = &kernel.wire {
        let help = "Beginnings of connections, as seen at the network card.";
        head(&mut page, "moat_wire_seen_total", "counter", help);
        let Wire { hellos, not_tls, not_admitted, too_fast, lost, untold } = wire;
        for (what, count) in [
            ("hello", hellos),
            ("not_tls", not_tls),
            ("not_admitted", not_admitted),
            ("too_fast", too_fast),
            ("lost", lost),
            ("untold", untold),
        ] {
            let _ = writeln!(page, "moat_wire_seen_total{{what=\"{what}\"}} {count}");
        }
    }
    page
}

fn push_egress(page: &mut String, egress: &Egress) {
    let help = "Connections that the egress guard refused and that are on record, by destination.";
    head(page, "moat_net_blocked_total", "counter", help);
    for (name, count) in &egress.blocked {
        let name = escaped(name);
        let _ = writeln!(page, "moat_net_blocked_total{{dst=\"{name}\"}} {count}");
    }
    let Egress { allowed, refused, lost, .. } = egress;
    for (name, count, help) in [
        ("moat_kernel_egress_allowed_total", allowed, "Attempts that the egress guard let pass."),
        ("moat_kernel_egress_refused_total", refused, "Attempts refused, as the kernel counts."),
        ("moat_kernel_events_lost_total", lost, "Refusals that one record speaks of together."),
    ] {
        head(page, name, "counter", help);
        let _ = writeln!(page, "{name} {count}");
    }
}

pub(crate) fn head(page: &mut String, name: &str, kind: &str, help: &str) {
    // A counter's family has no `_total`; its values do.
    let name = name.strip_suffix("_total").unwrap_or(name);
    let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// A label's value.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn probes_and_refusals_are_shown_and_labels_escaped() {
        let kernel = json!({
            "probes": [
                { "name": "egress", "is_attached": true, "why": "" },
                { "name": "other", "is_attached": false, "why": "no right" },
            ],
            "egress": { "allowed": 7, "refused": 3, "lost": 1, "blocked": [["a\"b\\c\n", 2], ["lost", 1]] },
        });
        let page = text(&State { kernel, ..State::default() });
        for line in [
            "moat_kernel_probe_attached{probe=\"egress\"} 1",
            "moat_kernel_probe_attached{probe=\"other\"} 0",
            "moat_net_blocked_total{dst=\"a\\\"b\\\\c\\n\"} 2",
            "moat_net_blocked_total{dst=\"lost\"} 1",
            "moat_kernel_egress_refused_total 3",
            "moat_kernel_events_lost_total 1",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
        assert!(
            !text(&State::default()).contains("blocked"),
            "nothing is said of what is not known"
        );
    }
}
