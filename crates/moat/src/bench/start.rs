//! `moat bench start`: from starting `moat serve` until it is ready.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use moat_auditor::bench::{Goal, Row};

use super::process::{Interrupt, Process};
use super::site::{Decides, Site};
use super::{machine, median, tools};

/// Longest start that is good, in milliseconds.
const GOAL_MS: f64 = 300.0;

pub(crate) fn run(dir: &Path, rounds: u32, interrupt: &Interrupt) -> Result<Vec<Row>> {
    let nginx = tools::nginx()?;
    let site = Site::make(dir, Decides::AsEver)?;
    machine::describe(site.dir())?;
    let peer = format!("nginx {}", nginx.version);
    eprintln!("peer       {peer} ({})", nginx.path.display());
    eprintln!("start      moat: until every condition of readiness holds; roles, policy and log");
    eprintln!("           nginx: until it takes a connection; the same certificates");
    eprintln!("           {rounds} starts each, in turn, files in the page cache");
    let time = |start: &dyn Fn() -> Result<Process>| {
        let begun = Instant::now();
        let process = start()?;
        let took = begun.elapsed().as_secs_f64() * 1e3;
        drop(process);
        anyhow::Ok(took)
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        theirs.push(time(&|| site.start_proxy(&nginx, interrupt))?);
        ours.push(time(&|| site.start_moat(interrupt))?);
    }
    let slowest = ours.iter().copied().fold(0.0, f64::max);
    let (ours, theirs) = median(ours).zip(median(theirs)).context("nothing was measured")?;
    Ok(vec![
        Row::new("start to ready, median", ours, "ms")
            .beside(&peer, theirs)
            .should_be(Goal::AtMost(GOAL_MS)),
        Row::new("start to ready, slowest", slowest, "ms"),
    ])
}
