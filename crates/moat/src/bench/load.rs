//! Load: one run by oha, and what it says of it; or by callers of our own.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustls::NamedGroup;
use serde::Deserialize;

use super::fresh;
use super::process::{Interrupt, Process};
use super::tools::Tool;

/// Connections at once.
pub(crate) const CONNECTIONS: u64 = 64;
/// Longest run: a minute, and a second for so many calls.
const WAIT_MIN: Duration = Duration::from_secs(60);
const CALLS_PER_SECOND_MIN: u64 = 100;
/// How often a run is looked at.
const STEP: Duration = Duration::from_millis(50);

/// What one run is to do.
#[derive(Clone, Copy)]
pub(crate) struct Load<'a> {
    pub(crate) oha: &'a Tool,
    /// Folder with `pki/`, and for what oha says.
    pub(crate) dir: &'a Path,
    pub(crate) port: u16,
    pub(crate) calls: u64,
    /// A new connection for every call, by callers that offer this group; by oha otherwise.
    pub(crate) fresh: Option<NamedGroup>,
}

/// What a run showed the caller.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) per_s: f64,
}

impl Load<'_> {
    /// Makes the calls. An error unless every one was answered 200.
    pub(crate) fn run(
        &self,
        interrupt: &Interrupt,
        meanwhile: impl FnMut() -> Result<()>,
    ) -> Result<Seen> {
        let most = WAIT_MIN + Duration::from_secs(self.calls / CALLS_PER_SECOND_MIN);
        if let Some(group) = self.fresh {
            return fresh::run(self, group, most, interrupt, meanwhile);
        }
        let pki = self.dir.join("pki");
        let mut command = Command::new(&self.oha.path);
        command
            .args(["--no-tui", "--output-format", "json", "--http-version", "1.1"])
            .args(["-n", &self.calls.to_string(), "-c", &CONNECTIONS.to_string()])
            .arg("--cacert")
            .arg(pki.join("root.pem"))
            .arg("--cert")
            .arg(pki.join("teller.pem"))
            .arg("--key")
            .arg(pki.join("teller.key"))
            // The system's roots are not needed, and need not be installed.
            .env("SSL_CERT_FILE", pki.join("root.pem"))
            .env_remove("SSL_CERT_DIR");
        command.arg(format!("https://127.0.0.1:{}{}", self.port, super::site::TARGET));
        let mut process = Process::start("oha", &mut command, self.dir, interrupt)?;
        let status = process.wait_end(most, STEP, interrupt, meanwhile)?;
        ensure!(status.success(), "oha ended ({status}):\n{}", process.tail());
        parse(&process.said(), self.calls)
    }
}

/// The part of oha's JSON that is used. Times are in seconds.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Said {
    pub(super) summary: Summary,
    pub(super) latency_percentiles: Percentiles,
    status_code_distribution: BTreeMap<String, u64>,
    error_distribution: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Summary {
    pub(super) requests_per_sec: f64,
}

#[derive(Deserialize)]
pub(super) struct Percentiles {
    pub(super) p50: f64,
    pub(super) p99: f64,
    #[serde(rename = "p99.9")]
    pub(super) p999: f64,
}

/// Fails unless each of `calls` was answered 200.
pub(super) fn said(text: &str, calls: u64) -> Result<Said> {
    let said: Said = serde_json::from_str(text).context("oha says something else than expected")?;
    let good = said.status_code_distribution.get("200").copied().unwrap_or(0);
    let is_clean = said.status_code_distribution.len() == 1 && said.error_distribution.is_empty();
    ensure!(
        is_clean && good == calls,
        "of {calls} calls {good} were answered 200; statuses {:?}, errors {:?}",
        said.status_code_distribution,
        said.error_distribution
    );
    Ok(said)
}

fn parse(text: &str, calls: u64) -> Result<Seen> {
    let said = said(text, calls)?;
    let Percentiles { p50, p99, .. } = said.latency_percentiles;
    Ok(Seen { p50_ms: p50 * 1e3, p99_ms: p99 * 1e3, per_s: said.summary.requests_per_sec })
}

#[cfg(test)]
mod tests {
    use super::{Seen, parse, said};

    /// What oha 1.16.0 wrote, shortened.
    const SAID: &str = r#"{
        "summary": { "successRate": 1.0, "total": 0.5, "requestsPerSec": 4000.0 },
        "latencyPercentiles": { "p10": 0.001, "p50": 0.0025, "p99": 0.0125, "p99.9": 0.02 },
        "statusCodeDistribution": { "200": 2000 },
        "errorDistribution": {}
    }"#;

    #[test]
    fn seconds_become_milliseconds() {
        let seen = parse(SAID, 2_000).unwrap();
        assert_eq!(seen, Seen { p50_ms: 2.5, p99_ms: 12.5, per_s: 4_000.0 });
        assert_eq!(said(SAID, 2_000).unwrap().latency_percentiles.p999, 0.02);
    }

    #[test]
    fn one_call_that_is_not_answered_200_spoils_the_run() {
        assert!(parse(SAID, 2_001).is_err(), "one is missing");
        let other = SAID.replace(r#""200": 2000"#, r#""200": 1999, "503": 1"#);
        let error = parse(&other, 2_000).unwrap_err().to_string();
        assert!(error.contains("503"), "{error}");
        let broken = SAID.replace(r#""errorDistribution": {}"#, r#""errorDistribution": {"x": 1}"#);
        assert!(parse(&broken, 2_000).is_err());
        let none = SAID.replace(r#""200": 2000"#, "");
        assert!(parse(&none, 2_000).is_err());
    }

    #[test]
    fn text_that_is_no_json_and_missing_figures_are_errors() {
        assert!(parse("connection refused", 1).is_err());
        assert!(parse(&SAID.replace("null", "0").replace("p99\"", "p98\""), 2_000).is_err());
        let idle = SAID.replace("0.0125", "null");
        assert!(parse(&idle, 2_000).is_err());
    }
}
