//! `moat latency`: where the time of slow calls goes, live.

mod flame;
mod heat;
pub(crate) mod places;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use moat_kernel::latency::report::{Report, Stall};
use moat_model::code::kernel::PROBE_MISSING;

use crate::cli::{LatencyArgs, Output};
use crate::status::ask;

/// Paths that are named; the rest is one line.
const PATHS: usize = 3;
/// Slow calls that are shown.
const CALLS: usize = 3;
/// Places of a stack that are shown.
const FRAMES: usize = 12;

pub(crate) fn run(args: &LatencyArgs) -> Result<ExitCode> {
    let report = match args.seconds {
        0 => fetch(&args.socket)?,
        seconds => {
            let before = fetch(&args.socket)?;
            std::thread::sleep(Duration::from_secs(seconds));
            fetch(&args.socket)?.since(&before)
        }
    };
    if let Some(path) = &args.flame {
        std::fs::write(path, flame::svg(&report)).with_context(|| path.display().to_string())?;
    }
    if let Some(path) = &args.heat {
        std::fs::write(path, heat::svg(&report.heat))
            .with_context(|| path.display().to_string())?;
    }
    match args.output {
        Output::Json => println!("{}", serde_json::to_string(&report)?),
        Output::Table => print(&report),
    }
    Ok(ExitCode::SUCCESS)
}

/// The latest report: at most two seconds old.
pub(crate) fn fetch(socket: &Path) -> Result<Report> {
    let (status, body) = ask(socket, "GET", "/v1/latency")?;
    if status != 200 {
        bail!("{} latency: {}; {}", PROBE_MISSING.id, body.trim(), PROBE_MISSING.en.fix);
    }
    serde_json::from_str(&body).context("the answer is no report")
}

/// Microseconds for people.
fn time(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{}.{:01} ms", us / 1_000, us % 1_000 / 100),
        _ => format!("{}.{:02} s", us / 1_000_000, us % 1_000_000 / 10_000),
    }
}

fn percent(part: u64, whole: u64) -> u64 {
    (u128::from(part) * 100 / u128::from(whole.max(1))).try_into().unwrap_or(100)
}

fn print(report: &Report) {
    let Report { calls, calls_lost, events_lost, p50_us, p99_us, slow, slow_us, .. } = report;
    println!("calls {calls}  p50 {}  p99 {}", time(*p50_us), time(*p99_us));
    if calls_lost + events_lost > 0 {
        println!("[-] not seen: {calls_lost} calls, {events_lost} events");
    }
    println!("slow {slow}, together {}: where that went", time(*slow_us));
    for path in report.paths.iter().take(PATHS) {
        let share = percent(path.us, *slow_us);
        let (stage, cause, calls) = (&path.stage, &path.cause, path.calls);
        let of = path.exemplar.as_ref().map_or("", |(trace, _)| trace);
        println!(
            "{share:>4} %  {:<32} {:>10} in {calls} calls  {of}",
            format!("{stage}/{cause}"),
            time(path.us)
        );
    }
    let rest: u64 = report.paths.iter().skip(PATHS).map(|path| path.us).sum();
    if rest > 0 {
        println!("{:>4} %  {:<32} {:>10}", percent(rest, *slow_us), "other", time(rest));
    }
    let usual: u64 = report.usual.iter().map(|path| path.us).sum();
    println!("all calls: where their time goes, of one in some");
    for path in report.usual.iter().take(PATHS) {
        let (share, stage, cause) = (percent(path.us, usual), &path.stage, &path.cause);
        let mean = path.us.checked_div(report.usual_calls).unwrap_or(0);
        println!("{share:>4} %  {:<32} {:>10} a call", format!("{stage}/{cause}"), time(mean));
    }
    for call in report.exemplars.iter().take(CALLS) {
        println!("call {}  {}  {}", call.trace, call.status, time(call.us));
        for (stage, cause, us) in &call.parts {
            println!("      {:<32} {:>10}", format!("{stage}/{cause}"), time(*us));
        }
    }
    report.stalls.iter().for_each(print_stall);
    let (again, requests) = (report.retransmits, report.device_requests);
    let mean = report.device_us.checked_div(requests).unwrap_or(0);
    println!("segments sent again {again}; block devices {requests} requests, {} each", time(mean));
}

fn print_stall(stall: &Stall) {
    let Stall { worker, ms, doing, stage, trace, .. } = stall;
    println!("stall worker-{worker}  {ms} ms  {doing}  at {stage} of call {trace}");
    for place in places::names(&stall.stack).iter().take(FRAMES) {
        println!("      {place}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_shares_are_for_people() {
        assert_eq!(
            (time(999), time(1_250), time(61_230_000)),
            ("999 us".into(), "1.2 ms".into(), "61.23 s".into())
        );
        assert_eq!((percent(1, 3), percent(5, 0), percent(u64::MAX, u64::MAX)), (33, 500, 100));
    }
}
