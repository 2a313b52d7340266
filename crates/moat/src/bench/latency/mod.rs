//! `moat bench latency`: whether the cause of slow calls is named, and what naming it costs.
//!
//! Calls are made all the time. One cause after the other is made to happen, and the report of the
//! seconds in which it did must name it: no other cause has become so many times what it was.

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
    eprintln!("calls      {calls} by two callers, each with a rest of 12 ms after a call");
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

/// A cause, the stage where it grew most, by how much it grew, and what it was before.
struct Grown {
    stage: String,
    cause: String,
    ms: f64,
    before_ms: f64,
}

impl Grown {
    /// How many times what it was before.
    fn times(&self) -> f64 {
        self.ms / (self.before_ms + GROWTH_MS)
    }
}

/// Causes that take longer in a call than they did before, by how many times as long. What else the
/// machine does is among the causes before and after, so that it has not grown by much.
fn grown(before: &Of<'_>, after: &Of<'_>) -> Vec<Grown> {
    let mean = |Of(paths, calls): &Of<'_>, stage: &str, cause: &str| {
        let is_it = |path: &&reported::Path| path.stage == stage && path.cause == cause;
        let us = paths.iter().find(is_it).map_or(0, |path| path.us);
        us as f64 / 1e3 / (*calls).max(1) as f64
    };
    let mut paths: Vec<Grown> = after
        .0
        .iter()
        .map(|path| {
            let before_ms = mean(before, &path.stage, &path.cause);
            let ms = mean(after, &path.stage, &path.cause) - before_ms;
            Grown { stage: path.stage.clone(), cause: path.cause.clone(), ms, before_ms }
        })
        .collect();
    paths.sort_by(|one, other| other.ms.total_cmp(&one.ms));
    let mut all: Vec<Grown> = Vec::new();
    for path in paths {
        // A stage's own work is its own cause; others befall whichever stage is under way.
        let is_same = |one: &&mut Grown| {
            one.cause == path.cause && (path.cause != "cpu" || one.stage == path.stage)
        };
        match all.iter_mut().find(is_same) {
            Some(one) => {
                one.ms += path.ms;
                one.before_ms += path.before_ms;
            }
            None => all.push(path),
        }
    }
    all.retain(|one| one.ms >= GROWTH_MS);
    all.sort_by(|one, other| other.times().total_cmp(&one.times()));
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
    fn what_is_many_times_what_it_was_comes_first() {
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
        assert_eq!(grown.len(), 2, "what has not grown is left out");
        assert!((grown[1].ms - 0.5).abs() < 1e-9 && grown[1].times() < 0.1);
    }
}
