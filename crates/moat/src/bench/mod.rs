//! `moat bench`: figures of this machine, each beside its peer and its goal.
//!
//! Rows go to stdout; machine, versions and what each side does go to stderr. A peer that is
//! missing is an error and never a skip.

mod append;
mod audit;
mod calls;
mod cpu;
mod e2e;
mod envoy_handshake;
mod ext_authz;
mod fresh;
#[cfg(feature = "bpf")]
pub(crate) mod kernel;
#[cfg(feature = "bpf")]
mod latency;
mod load;
mod machine;
pub(crate) mod mask;
pub(crate) mod message;
pub(crate) mod policy;
mod probe;
mod process;
mod site;
pub(crate) mod sm;
mod start;
mod tools;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use moat_auditor::bench::Row;
use serde_json::json;

use crate::cli::{BenchCommand, Output};
use process::Interrupt;

/// Calls a round and rounds of `all`, as the topics have them by default.
const GATEWAY: (u64, u32) = (30_000, 3);
const HANDSHAKE: (u64, u32) = (2_000, 3);
const STARTS: u32 = 10;
const POLICY: u32 = 5;
const APPEND_SECONDS: u64 = 3;

pub(crate) fn run(command: &BenchCommand) -> Result<ExitCode> {
    #[cfg(feature = "bpf")]
    if let BenchCommand::Kernel { rounds, output } = command {
        let rows = kernel::run(*rounds)?;
        rows.iter().for_each(|row| print(row, *output));
        let is_good = rows.iter().all(|row| row.holds() != Some(false));
        return Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    #[cfg(feature = "bpf")]
    if let BenchCommand::Latency { requests, rounds, common } = command {
        let rows = latency::run(&common.dir, *requests, *rounds)?;
        rows.iter().for_each(|row| print(row, common.output));
        let is_good = rows.iter().all(|row| row.holds() != Some(false));
        return Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let (BenchCommand::Append { common, .. }
    | BenchCommand::Audit { common, .. }
    | BenchCommand::Gateway { common, .. }
    | BenchCommand::Handshake { common, .. }
    | BenchCommand::E2e { common, .. }
    | BenchCommand::Start { common, .. }
    | BenchCommand::Sm { common, .. }
    | BenchCommand::Mask { common, .. }
    | BenchCommand::Message { common, .. }
    | BenchCommand::ExtAuthz { common, .. }
    | BenchCommand::EnvoyHandshake { common, .. }
    | BenchCommand::Policy { common, .. }
    | BenchCommand::All { common }) = command
    else {
        bail!("built without the feature `bpf`");
    };
    let (dir, output) = (common.dir.as_path(), common.output);
    let show = |rows: Vec<Row>| {
        rows.iter().for_each(|row| print(row, output));
        rows.iter().all(|row| row.holds() != Some(false))
    };
    let good = match command {
        BenchCommand::Append { seconds, .. } => show(append::run(dir, *seconds)?),
        BenchCommand::Audit { seconds, postgres, .. } => {
            let settings = audit::Settings { seconds: *seconds, postgres: postgres.clone() };
            show(audit::run(dir, &settings, &Interrupt::new()?)?)
        }
        BenchCommand::Gateway { requests, rounds, .. } => {
            show(calls::gateway(dir, *requests, *rounds, &Interrupt::new()?)?)
        }
        BenchCommand::Handshake { requests, rounds, .. } => {
            show(calls::handshake(dir, *requests, *rounds, &Interrupt::new()?)?)
        }
        BenchCommand::E2e { requests, rounds, idle, plots, .. } => {
            let (requests, rounds, plots) = (*requests, *rounds, plots.as_deref());
            let settings = e2e::Settings { requests, rounds, idle: *idle, plots };
            show(e2e::run(dir, &settings, &Interrupt::new()?)?)
        }
        BenchCommand::Start { rounds, .. } => show(start::run(dir, *rounds, &Interrupt::new()?)?),
        BenchCommand::Sm { rounds, round_ms, peers, .. } => {
            let round = Duration::from_millis(u64::from(*round_ms));
            let settings = sm::Settings { rounds: *rounds, round, peers: peers.as_deref() };
            show(sm::run(dir, &settings, &Interrupt::new()?)?)
        }
        BenchCommand::Mask { rounds, round_ms, .. } => {
            let round = Duration::from_millis(u64::from(*round_ms));
            show(mask::run(mask::Settings { rounds: *rounds, round }, &Interrupt::new()?)?)
        }
        BenchCommand::Message { rounds, round_ms, .. } => {
            let round = Duration::from_millis(u64::from(*round_ms));
            let settings = message::Settings { rounds: *rounds, round };
            show(message::run(dir, settings, &Interrupt::new()?)?)
        }
        BenchCommand::EnvoyHandshake { requests, rounds, .. } => {
            show(envoy_handshake::run(dir, *requests, *rounds, &Interrupt::new()?)?)
        }
        BenchCommand::ExtAuthz { requests, rounds, .. } => {
            show(ext_authz::run(dir, *requests, *rounds, &Interrupt::new()?)?)
        }
        BenchCommand::Policy { rounds, .. } => show(policy::run(*rounds, &Interrupt::new()?)?),
        BenchCommand::Kernel { .. } | BenchCommand::Latency { .. } => {
            bail!("built without the feature `bpf`")
        }
        BenchCommand::All { .. } => {
            // What is missing is told before anything is measured.
            tools::Tools::find()?;
            sm::find(&sm::Settings::USUAL)?;
            message::find()?;
            let mut good = show(append::run(dir, APPEND_SECONDS)?);
            let interrupt = Interrupt::new()?;
            good &= show(calls::gateway(dir, GATEWAY.0, GATEWAY.1, &interrupt)?);
            good &= show(calls::handshake(dir, HANDSHAKE.0, HANDSHAKE.1, &interrupt)?);
            good &= show(start::run(dir, STARTS, &interrupt)?);
            good &= show(sm::run(dir, &sm::Settings::USUAL, &interrupt)?);
            good &= show(mask::run(mask::Settings::USUAL, &interrupt)?);
            good &= show(policy::run(POLICY, &interrupt)?);
            good & show(message::run(dir, message::Settings::USUAL, &interrupt)?)
        }
    };
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A folder that was not there before, or was empty; removed with everything in it when dropped.
struct Folder(PathBuf);

impl Folder {
    fn make(dir: &Path) -> Result<Folder> {
        let told = || dir.display().to_string();
        let is_free = !dir.exists() || std::fs::read_dir(dir).with_context(told)?.next().is_none();
        ensure!(is_free, "{} is not empty; name a new folder", dir.display());
        std::fs::create_dir_all(dir).with_context(told)?;
        Ok(Folder(dir.canonicalize().with_context(told)?))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("moat: {} cannot be removed: {error}", self.0.display());
        }
    }
}

/// The value in the middle; of an even number, the mean of the two. None of nothing.
fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    Some((values.get(last / 2)? + values.get(last.div_ceil(2))?) / 2.0)
}

fn print(row: &Row, output: Output) {
    match output {
        Output::Json => println!("{}", as_json(row)),
        Output::Table => println!("{}", as_text(row)),
    }
}

fn as_json(row: &Row) -> serde_json::Value {
    json!({
        "figure": row.figure,
        "value": row.value,
        "unit": row.unit,
        "peer": row.peer.as_ref().map(|peer| &peer.name),
        "peer_value": row.peer.as_ref().map(|peer| peer.value),
        "ratio": row.ratio(),
        "goal": row.goal.map(|goal| goal.to_string()),
        "holds": row.holds(),
    })
}

fn as_text(row: &Row) -> String {
    let mark = match row.holds() {
        None => " ",
        Some(true) => "√",
        Some(false) => "×",
    };
    let beside = row.peer.as_ref().map(|peer| format!("{} {:.2}", peer.name, peer.value));
    let ratio = row.ratio().map(|ratio| format!("{ratio:.2} x")).unwrap_or_default();
    let goal = row.goal.map(|goal| goal.to_string()).unwrap_or_default();
    let (figure, value, unit) = (&row.figure, row.value, row.unit);
    let beside = beside.unwrap_or_default();
    let text =
        format!("{mark} {figure:<34} {value:>12.2} {unit:<10} {beside:<28} {ratio:>8} {goal}");
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use moat_auditor::bench::{Goal, Row};

    use super::{as_json, as_text, median};

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_two() {
        assert_eq!(median([]), None);
        assert_eq!(median([7.0]), Some(7.0));
        assert_eq!(median([9.0, 1.0, 4.0]), Some(4.0));
        assert_eq!(median([9.0, 1.0, 4.0, 2.0]), Some(3.0));
    }

    #[test]
    fn a_row_has_every_key_whatever_is_known() {
        let full = Row::new("CPU a call", 80.0, "us").beside("nginx 1.22.1", 25.0);
        let full = as_json(&full.should_be(Goal::RatioAtMost(1.6)));
        assert_eq!(full["ratio"], 3.2);
        assert_eq!(full["peer"], "nginx 1.22.1");
        assert_eq!(full["goal"], "ratio at most 1.6");
        assert_eq!(full["holds"], false);
        let bare = as_json(&Row::new("p50", 1.0, "ms"));
        let keys =
            |row: &serde_json::Value| row.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&bare), keys(&full));
        assert!(bare["peer"].is_null() && bare["ratio"].is_null() && bare["holds"].is_null());
    }

    #[test]
    fn a_line_marks_a_missed_goal() {
        let row = Row::new("start", 400.0, "ms").should_be(Goal::AtMost(300.0));
        assert!(as_text(&row).starts_with("× start"), "{}", as_text(&row));
        assert!(as_text(&row).ends_with("at most 300"), "{}", as_text(&row));
    }
}
