//! `moat top`: the figures of a running gateway, and how they change.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use moat_admin::messages::{Histogram, Row};

use crate::cli::TopArgs;
use crate::status;

/// Upper bounds of the buckets of latencies, in milliseconds, as people read them.
const BUCKETS: [&str; 16] = [
    "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "25", "50", "100", "250", "500", "1000", "2500",
    "5000", ">5000",
];
/// Most refusals that are listed.
const REFUSALS_MAX: usize = 8;
/// Clears the screen.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// What the gateway counts, as it was within the last second.
pub(crate) fn rows(socket: &Path) -> Result<Vec<Row>> {
    let (_, body) = status::ask(socket, "GET", "/v1/rows")?;
    serde_json::from_str(&body).context("the answer is no list of figures")
}

pub(crate) fn run(args: &TopArgs) -> Result<ExitCode> {
    let (mut before, mut since) = (rows(&args.socket)?, Instant::now());
    let mut shown = 0;
    while args.count.is_none_or(|count| shown < count) {
        std::thread::sleep(Duration::from_secs(args.interval));
        let now = rows(&args.socket)?;
        let seconds = since.elapsed().as_secs_f64();
        since = Instant::now();
        let mut out = std::io::stdout().lock();
        if out.is_terminal() {
            write!(out, "{CLEAR}")?;
        }
        out.write_all(screen(&before, &now, seconds).as_bytes())?;
        out.flush()?;
        before = now;
        shown += 1;
    }
    Ok(ExitCode::SUCCESS)
}

fn screen(before: &[Row], now: &[Row], seconds: f64) -> String {
    let mut lines = vec![format!(
        "{:<24} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "route", "calls/s", "4xx/s", "5xx/s", "p50 ms", "p99 ms"
    )];
    for route in now.iter().filter(|row| row.name == "call") {
        let name = label(route, "route");
        let rate = |class: &str| {
            let count = |rows: &[Row]| {
                let of = |row: &&Row| {
                    row.name == "calls"
                        && label(row, "route") == name
                        && (class.is_empty() || label(row, "class") == class)
                };
                rows.iter().filter(of).map(|row| row.value).sum::<u64>()
            };
            per_second(count(now).saturating_sub(count(before)), seconds)
        };
        let old = before.iter().find(|row| row.name == "call" && row.labels == route.labels);
        let counts = difference(route.histogram.as_ref(), old.and_then(|r| r.histogram.as_ref()));
        lines.push(format!(
            "{name:<24} {:>9} {:>9} {:>9} {:>9} {:>9}",
            rate(""),
            rate("4xx"),
            rate("5xx"),
            quantile(&counts, 50),
            quantile(&counts, 99),
        ));
    }
    let refused = |rows: &[Row]| -> BTreeMap<Vec<(String, String)>, u64> {
        let rows = rows.iter().filter(|row| row.name == "refused");
        rows.map(|row| (row.labels.clone(), row.value)).collect()
    };
    let old = refused(before);
    let mut fresh: Vec<(u64, String)> = refused(now)
        .into_iter()
        .map(|(labels, count)| {
            let names = labels.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>();
            (count - old.get(&labels).copied().unwrap_or(0).min(count), names.join(" "))
        })
        .filter(|(count, _)| *count > 0)
        .collect();
    fresh.sort_by(|a, b| b.cmp(a));
    if !fresh.is_empty() {
        lines.push("\nrefused".to_owned());
        let most = fresh.into_iter().take(REFUSALS_MAX);
        lines.extend(most.map(|(n, what)| format!("  {what:<22} {:>9}/s", per_second(n, seconds))));
    }
    lines.push(String::new());
    lines.extend(endpoints(now));
    lines.join("\n") + "\n"
}

/// One line for each endpoint.
pub(crate) fn endpoints(rows: &[Row]) -> Vec<String> {
    let value = |of: &Row, name: &str| {
        let row = rows.iter().find(|row| row.name == name && row.labels == of.labels);
        row.map_or(0, |row| row.value)
    };
    let line = |row: &Row| {
        let breaker = match value(row, "upstream_breaker") {
            0 => "closed",
            1 => "half-open",
            _ => "open",
        };
        let is_well = value(row, "upstream_well") == 1;
        format!(
            "upstream {:<14} {:<21} breaker {breaker:<9} {:<6} tries {} failed {} in flight {} \
             connections {} latency {} us",
            label(row, "upstream"),
            label(row, "endpoint"),
            if is_well { "well" } else { "unwell" },
            row.value,
            value(row, "upstream_failed"),
            value(row, "upstream_in_flight"),
            value(row, "upstream_connections"),
            value(row, "upstream_latency_us"),
        )
    };
    rows.iter().filter(|row| row.name == "upstream_tries").map(line).collect()
}

fn label<'a>(row: &'a Row, name: &str) -> &'a str {
    row.labels.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
}

fn per_second(count: u64, seconds: f64) -> String {
    let count = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    format!("{:.1}", count / seconds.max(0.001))
}

fn difference(now: Option<&Histogram>, before: Option<&Histogram>) -> Vec<u64> {
    let Some(now) = now else { return Vec::new() };
    let old = |at: usize| before.and_then(|b| b.counts.get(at)).copied().unwrap_or(0);
    now.counts.iter().enumerate().map(|(at, count)| count.saturating_sub(old(at))).collect()
}

/// The bound of the bucket that a quantile lies in.
fn quantile(counts: &[u64], percent: u64) -> &'static str {
    let all: u64 = counts.iter().sum();
    if all == 0 {
        return "-";
    }
    let mut seen = 0;
    let at = counts.iter().position(|count| {
        seen += count;
        seen * 100 >= all * percent
    });
    at.and_then(|at| BUCKETS.get(at)).copied().unwrap_or("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_bounds_of_buckets() {
        let mut counts = vec![0; 16];
        assert_eq!(quantile(&counts, 50), "-");
        (counts[3], counts[15]) = (98, 2);
        assert_eq!((quantile(&counts, 50), quantile(&counts, 99)), ("1", ">5000"));
    }

    #[test]
    fn a_screen_shows_what_has_changed() {
        let labels = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
        };
        let call = |ok, counts: [u64; 16]| {
            vec![
                Row {
                    name: "calls".to_owned(),
                    labels: labels(&[("route", "read"), ("class", "2xx")]),
                    value: ok,
                    histogram: None,
                },
                Row {
                    name: "call".to_owned(),
                    labels: labels(&[("route", "read")]),
                    value: 0,
                    histogram: Some(Histogram { sum_us: 0, counts: counts.to_vec() }),
                },
            ]
        };
        let text = screen(&call(10, [5; 16]), &call(30, [5; 16]), 2.0);
        let line = text.lines().nth(1).unwrap();
        assert!(line.starts_with("read") && line.contains("10.0") && line.ends_with('-'), "{text}");
    }
}
