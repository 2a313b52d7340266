//! What it costs to look at calls' time: the same load with it and without, in turn.

use std::path::Path;

use anyhow::{Context, Result};
use moat_auditor::bench::{Goal, Row};

use crate::bench::load::Load;
use crate::bench::process::Interrupt;
use crate::bench::site::{Decides, Site};
use crate::bench::tools::Tools;
use crate::bench::{cpu, median};

/// Most CPU with it, of what it is without.
const RATIO_MAX: f64 = 1.02;
/// Calls before a round that are not measured.
const WARM_UP_CALLS: u64 = 1_000;

/// One run: CPU a call in microseconds, of gateway, auditor and kernel role; calls a second.
struct Round {
    cpu_us: f64,
    per_s: f64,
}

pub(super) fn run(
    dir: &Path,
    requests: u64,
    rounds: u32,
    interrupt: &Interrupt,
) -> Result<Vec<Row>> {
    let tools = Tools::find()?;
    eprintln!("overhead   {requests} calls a round with it and without, {rounds} rounds in turn");
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // In turn, so that what else the machine does meets both alike.
        for looks in [round % 2 == 0, round % 2 == 1] {
            let one = measure(dir, &tools, requests, looks, interrupt)?;
            let how = if looks { "with" } else { "without" };
            eprintln!(
                "round {:<4} {how:<8} {:>8.2} us CPU {:>7.0}/s",
                round + 1,
                one.cpu_us,
                one.per_s
            );
            if looks { with.push(one) } else { without.push(one) }
        }
    }
    let cpu =
        |rounds: &[Round]| median(rounds.iter().map(|round| round.cpu_us)).context("no round");
    let rate =
        |rounds: &[Round]| median(rounds.iter().map(|round| round.per_s)).context("no round");
    let row = Row::new("CPU a call, its time looked at", cpu(&with)?, "us");
    Ok(vec![
        row.beside("without", cpu(&without)?).should_be(Goal::RatioAtMost(RATIO_MAX)),
        Row::new("calls a second, looked at", rate(&with)?, "1/s")
            .beside("without", rate(&without)?),
    ])
}

fn measure(
    dir: &Path,
    tools: &Tools,
    requests: u64,
    looks: bool,
    interrupt: &Interrupt,
) -> Result<Round> {
    let site = Site::make(dir, Decides::AsEver)?;
    site.edit("kind: Gateway", &format!("kind: Gateway\nkernel: {{ latency: {looks} }}"))?;
    let _upstream = site.start_upstream(&tools.nginx, interrupt)?;
    let mut moat = site.start_moat(interrupt)?;
    let state = site.state()?;
    let is_measured = |name: &str| matches!(name, "gateway" | "auditor" | "kernel");
    let pids: Vec<u32> =
        state.roles.iter().filter(|role| is_measured(&role.name)).map(|role| role.pid).collect();
    let load = |calls: u64| Load {
        oha: &tools.oha,
        dir: site.dir(),
        port: site.gateway,
        calls,
        fresh: None,
    };
    load(WARM_UP_CALLS).run(interrupt, || Ok(()))?;
    let before = cpu::of_all(&pids)?;
    let seen = load(requests).run(interrupt, || Ok(()))?;
    let ns = cpu::between(&before, &cpu::of_all(&pids)?);
    moat.stop();
    Ok(Round { cpu_us: ns as f64 / 1e3 / requests as f64, per_s: seen.per_s })
}
