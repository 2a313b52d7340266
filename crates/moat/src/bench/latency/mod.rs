//! `moat bench latency`: whether the cause of slow calls is named, and what naming it costs.
//!
//! Calls are made all the time. One cause after the other is made to happen, and the report of the
//! seconds in which it did must have grown by it more than by anything else.

mod injected;
mod overhead;
mod paced;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use moat_auditor::bench::{Goal, Row};
use moat_kernel::latency::report::{self as reported, Report};

use super::process::{Interrupt, Process};
use super::site::{Decides, Site};
use super::tools;
use crate::latency::fetch;
use injected::{Disk, INJECTIONS, Injection, Scene};
use paced::Paced;

/// How long each cause lasts, and the seconds without any before it.
const LASTS: Duration = Duration::from_secs(5);
/// Reports are at most so old.
const OLD: Duration = Duration::from_millis(2_200);
/// Smallest growth that is believed, in milliseconds a call.
const GROWTH_MS: f64 = 0.1;

pub(crate) fn run(dir: &Path, requests: u64, rounds: u32) -> Result<Vec<Row>> {
    ensure!(rustix::process::geteuid().is_root(), "the kernel's programs are loaded by root");
    let interrupt = Interrupt::new()?;
    let nginx = tools::nginx()?;
    let mut rows = {
        let site = Site::make(dir, Decides::Anew)?;
        let disk = Disk::make(site.dir())?;
        site.edit("dir: audit,", "dir: disk/audit,")?;
        site.edit("admin: {", "admin: { socket: admin.sock,")?;
        let upstream = site.start_upstream(&nginx, &interrupt)?;
        let moat = site.start_moat(&interrupt)?;
        name_all(&Scene::find(&site, &disk, &upstream)?, &moat, &interrupt)?
    };
    if requests > 0 {
        rows.extend(overhead::run(dir, requests, rounds, &interrupt)?);
    }
    Ok(rows)
}

fn name_all(scene: &Scene<'_>, _moat: &Process, interrupt: &Interrupt) -> Result<Vec<Row>> {
    let paced = Paced::start(scene.site)?;
    wait(interrupt, OLD)?;
    let rows = INJECTIONS.iter().map(|injection| name_one(scene, injection, interrupt)).collect();
    let calls = paced.stop()?;
    eprintln!("calls      {calls}, four callers, one call every 10 ms each");
    rows
}

fn wait(interrupt: &Interrupt, long: Duration) -> Result<()> {
    let step = Duration::from_millis(50);
    for _ in 0..(long.as_millis() / step.as_millis()) {
        interrupt.pause(step)?;
    }
    Ok(())
}

fn name_one(scene: &Scene<'_>, injection: &Injection, interrupt: &Interrupt) -> Result<Row> {
    let socket = scene.site.dir().join("admin.sock");
    let first = fetch(&socket)?;
    wait(interrupt, LASTS)?;
    let second = fetch(&socket)?;
    let ongoing = (injection.begin)(scene).with_context(|| injection.name.to_owned())?;
    wait(interrupt, LASTS)?;
    ongoing.end().with_context(|| injection.name.to_owned())?;
    wait(interrupt, OLD)?;
    let third = fetch(&socket)?;
    let (before, after) = (second.since(&first), third.since(&second));
    let (slow, all) =
        (grown(&slow_of(&before), &slow_of(&after)), grown(&all_of(&before), &all_of(&after)));
    for (of, grown) in [("slow calls", &slow), ("all calls", &all)] {
        let one = |one: &Grown| format!("{}/{} +{:.2} ms", one.stage, one.cause, one.ms);
        let told: Vec<String> = grown.iter().take(3).map(one).collect();
        eprintln!("{:<14} {of:<10} {}", injection.name, told.join(", "));
    }
    let is_it = |one: &&Grown| {
        one.cause == injection.cause && injection.stage.is_none_or(|stage| one.stage == stage)
    };
    // What befalls every call moves all of them; what befalls few is seen in the slow ones.
    let named = [slow.first(), all.first()].into_iter().flatten().find(is_it);
    let figure = format!("{}: {}", injection.name, injection.cause);
    let row = Row::new(&figure, named.map_or(0.0, |one| one.ms), "ms");
    Ok(row.should_be(Goal::AtLeast(GROWTH_MS)))
}

/// Paths, and the calls that they are of.
struct Of<'a>(&'a [reported::Path], u64);

fn slow_of(report: &Report) -> Of<'_> {
    Of(&report.paths, report.slow)
}

fn all_of(report: &Report) -> Of<'_> {
    Of(&report.usual, report.usual_calls)
}

/// A cause, the stage where it took most, and by how much it grew.
struct Grown {
    stage: String,
    cause: String,
    ms: f64,
}

/// By how much each cause takes longer in a call than it did before, longest first.
fn grown(before: &Of<'_>, after: &Of<'_>) -> Vec<Grown> {
    let mean = |Of(paths, calls): &Of<'_>, stage: &str, cause: &str| {
        let is_it = |path: &&reported::Path| path.stage == stage && path.cause == cause;
        let us = paths.iter().find(is_it).map_or(0, |path| path.us);
        us as f64 / 1e3 / (*calls).max(1) as f64
    };
    let mut all: Vec<Grown> = Vec::new();
    for path in after.0 {
        let ms = mean(after, &path.stage, &path.cause) - mean(before, &path.stage, &path.cause);
        match all.iter_mut().find(|one| one.cause == path.cause) {
            // Paths come longest first: so the first stage of a cause is its own.
            Some(one) => one.ms += ms,
            None => all.push(Grown { stage: path.stage.clone(), cause: path.cause.clone(), ms }),
        }
    }
    all.sort_by(|one, other| other.ms.total_cmp(&one.ms));
    all
}

#[cfg(test)]
mod tests {
    use moat_kernel::latency::report::{Path, Report};

    use super::{grown, slow_of};

    fn report(slow: u64, paths: &[(&str, &str, u64)]) -> Report {
        let path = |(stage, cause, us): &(&str, &str, u64)| Path {
            stage: (*stage).to_owned(),
            cause: (*cause).to_owned(),
            calls: slow,
            us: *us,
            exemplar: None,
        };
        Report { slow, paths: paths.iter().map(path).collect(), ..Report::default() }
    }

    #[test]
    fn what_has_grown_most_in_a_slow_call_comes_first() {
        let before = report(10, &[("upstream", "upstream", 50_000), ("reply", "cpu", 1_000)]);
        let after = report(
            20,
            &[
                ("upstream", "upstream", 110_000),
                ("policy", "run_queue", 60_000),
                ("reply", "run_queue", 20_000),
                ("reply", "cpu", 2_000),
            ],
        );
        let grown = grown(&slow_of(&before), &slow_of(&after));
        let first = &grown[0];
        assert_eq!((first.stage.as_str(), first.cause.as_str()), ("policy", "run_queue"));
        assert!((first.ms - 4.0).abs() < 1e-9, "{}", first.ms);
        assert!((grown[1].ms - 0.5).abs() < 1e-9 && grown[2].ms.abs() < 1e-9);
    }
}
