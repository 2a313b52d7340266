//! `moat bench gateway` and `moat bench handshake`: calls through Moat and through nginx, in turn.
//!
//! Nothing is left out of Moat's side: before the rounds a call shows that fields are masked and
//! sessions are not resumed, after them the log is verified and holds one record per call.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use moat_audit::record::Kind;
use moat_audit::search::leaves;
use moat_audit::verify::verify;
use moat_auditor::bench::{Goal, Row};
use rustls::NamedGroup;

use super::load::{CONNECTIONS, Load, Seen};
use super::process::{Interrupt, Process};
use super::site::{Decides, Site};
use super::tools::Tools;
use super::{cpu, machine, median, probe};

/// Calls of each side before the first round, which are not measured.
const WARM_UP_CALLS: u64 = 1_000;
/// Memory is looked at this often.
const LOOK: Duration = Duration::from_millis(100);
/// How long the supervisor is given to say that a role has ended.
const SETTLE: Duration = Duration::from_millis(500);
/// Growth of memory that is taken as none, from a tenth of the run to its end.
const GROWTH_PERCENT_MAX: f64 = 10.0;
/// A shorter run is all warm-up: its growth is shown and has no goal.
const GROWTH_CALLS_MIN: u64 = 50_000;
/// Fields in the record of each call, as moat.yaml beside this file has them.
const FIELDS: usize = 4;

/// The group in which new connections of both sides are compared: one that both have. nginx is set
/// to it, and callers offer nothing else.
const GROUP: NamedGroup = NamedGroup::X25519;
/// The group that Moat takes by default. nginx has it from OpenSSL 3.5 on only.
const HYBRID: NamedGroup = NamedGroup::X25519MLKEM768;

/// CPU of gateway and auditor against nginx: a call on a kept connection.
const GATEWAY_RATIO_MAX: f64 = 1.6;
/// The same for a new connection with one call.
const HANDSHAKE_RATIO_MAX: f64 = 0.7;

pub(crate) fn gateway(
    dir: &Path,
    requests: u64,
    rounds: u32,
    interrupt: &Interrupt,
) -> Result<Vec<Row>> {
    let what = format!("{CONNECTIONS} kept HTTP/1.1 connections, {requests} calls a round");
    let plan = Plan { requests, rounds, is_fresh: false, decides: Decides::AsEver };
    let run = measure(dir, &what, plan, interrupt)?;
    let mut rows = run.shared("call", "calls/s", GATEWAY_RATIO_MAX)?;
    rows.extend(run.memory()?);
    let anew = measure(dir, &what, Plan { decides: Decides::Anew, ..plan }, interrupt)?;
    rows.insert(1, anew.cpu("CPU a call, each decision made anew")?);
    Ok(rows)
}

pub(crate) fn handshake(
    dir: &Path,
    requests: u64,
    rounds: u32,
    interrupt: &Interrupt,
) -> Result<Vec<Row>> {
    let what = format!(
        "a new connection for every call, {CONNECTIONS} at once, {requests} a round; \
         no session is resumed"
    );
    let plan = Plan { requests, rounds, is_fresh: true, decides: Decides::AsEver };
    let run = measure(dir, &what, plan, interrupt)?;
    let mut rows = run.shared("connection", "conn/s", HANDSHAKE_RATIO_MAX)?;
    let hybrid = median(run.hybrid.iter().map(|round| round.cpu_us));
    let hybrid = hybrid.context("nothing was measured")?;
    rows.insert(1, Row::new(&format!("CPU a connection, {HYBRID:?}"), hybrid, "us"));
    Ok(rows)
}

/// What is to be measured.
#[derive(Clone, Copy)]
struct Plan {
    requests: u64,
    rounds: u32,
    is_fresh: bool,
    decides: Decides,
}

impl Plan {
    /// What callers of new connections offer.
    fn fresh(self) -> Option<NamedGroup> {
        self.is_fresh.then_some(GROUP)
    }
}

/// One round of one side.
#[derive(Clone, Copy)]
struct Round {
    cpu_us: f64,
    /// Of processes that belong to the side and are not on the way of a call.
    beside_us: f64,
    seen: Seen,
}

/// Resident memory at one moment of the load on Moat.
#[derive(Clone, Copy, Debug)]
struct Memory {
    after: Duration,
    gateway_kb: u64,
    auditor_kb: u64,
}

/// Everything that was measured.
struct Run {
    peer: String,
    ours: Vec<Round>,
    theirs: Vec<Round>,
    /// Ours with [`HYBRID`], where connections are new.
    hybrid: Vec<Round>,
    memory: Vec<Memory>,
    peer_kb: u64,
    calls: u64,
    records: u64,
    measured: u64,
}

fn measure(dir: &Path, what: &str, plan: Plan, interrupt: &Interrupt) -> Result<Run> {
    let tools = Tools::find()?;
    let site = Site::make(dir, plan.decides)?;
    machine::describe(site.dir())?;
    let peer = format!("nginx {}", tools.nginx.version);
    eprintln!("peer       {peer} ({}), one worker", tools.nginx.path.display());
    match plan.fresh() {
        Some(_) => eprintln!("load       callers of this program, in one thread"),
        None => eprintln!("load       oha {} ({})", tools.oha.version, tools.oha.path.display()),
    }
    eprintln!("           {what}, {} rounds in turn", plan.rounds);
    let _upstream = site.start_upstream(&tools.nginx, interrupt)?;
    let proxy = site.start_proxy(&tools.nginx, interrupt)?;
    let mut moat = site.start_moat(interrupt)?;
    let mut sides = Sides::find(&site, &proxy)?;
    eprintln!("both       mutual TLS 1.3 to the caller and to the same nginx, which serves a");
    eprintln!("           document of {} bytes", super::site::DOCUMENT.len());
    let theirs = probe::proxy(&site, plan.fresh())?;
    eprintln!("{peer:<10} passes it on; {theirs}");
    eprintln!(
        "moat       one worker: policy, six fields masked, a record with four fields durable"
    );
    let ours = probe::gateway(&site, plan.fresh())?;
    eprintln!("           before the answer; {ours}");
    // On kept connections the handshakes are taken out again.
    let is_alike = !plan.is_fresh || (ours == theirs && ours.group == GROUP);
    ensure!(is_alike, "the sides are not alike: moat {ours}; nginx {theirs}");
    eprintln!("           {}", plan.decides.said());
    eprintln!("CPU        {}; nginx: its worker; moat: gateway and auditor", sides.clock()?);
    if !plan.is_fresh {
        eprintln!("           without what a run of {CONNECTIONS} calls uses, one a connection");
    }
    let load = |port: u16, calls: u64| Load {
        oha: &tools.oha,
        dir: site.dir(),
        port,
        calls,
        fresh: plan.fresh(),
    };
    for port in [site.proxy, site.gateway] {
        load(port, WARM_UP_CALLS).run(interrupt, || Ok(()))?;
    }
    let rounds = (1..=plan.rounds).map(|round| {
        let nginx = sides.nginx_round(&load(site.proxy, plan.requests), interrupt)?;
        tell(round, "nginx", &nginx);
        let here = sides.moat_round(&load(site.gateway, plan.requests), interrupt)?;
        tell(round, "moat", &here);
        let load = Load { fresh: Some(HYBRID), ..load(site.gateway, plan.requests) };
        let hybrid = plan.is_fresh.then(|| sides.moat_round(&load, interrupt)).transpose()?;
        hybrid.iter().for_each(|hybrid| tell(round, "hybrid", hybrid));
        Ok((here, nginx, hybrid))
    });
    let rounds = rounds.collect::<Result<Vec<_>>>().and_then(|rounds| {
        moat.check_alive()?;
        sides.check_unchanged(&site)?;
        Ok(rounds)
    });
    // A role that has ended is told by the supervisor a moment later.
    let rounds = rounds.map_err(|error| match interrupt.pause(SETTLE) {
        Ok(()) => error.context(format!("moat said:\n{}", moat.tail())),
        Err(interrupted) => interrupted,
    })?;
    let (mut ours, mut theirs, mut hybrid) = (Vec::new(), Vec::new(), Vec::new());
    for (here, nginx, with_hybrid) in rounds {
        ours.push(here);
        theirs.push(nginx);
        hybrid.extend(with_hybrid);
    }
    let peer_kb = cpu::resident_kb(sides.worker)?;
    moat.stop();
    let measured = plan.requests * u64::from(plan.rounds);
    let connecting = if plan.is_fresh { 0 } else { CONNECTIONS * u64::from(plan.rounds) };
    let with_hybrid = plan.requests * hybrid.len() as u64;
    let calls = measured + connecting + WARM_UP_CALLS + probe::CALLS + with_hybrid;
    let (records, groups) = count_records(&site.log_dir(), calls)?;
    let expected = [(name(GROUP), calls - with_hybrid), (name(HYBRID), with_hybrid)];
    let is_told = !plan.is_fresh || groups.callers == BTreeMap::from(expected);
    ensure!(is_told, "the records have other groups than callers offered: {groups:?}");
    let services = groups.services;
    ensure!(services == [name(GROUP)].into(), "groups towards the service: {services:?}");
    let memory = sides.memory;
    Ok(Run { peer, ours, theirs, hybrid, memory, peer_kb, calls, records, measured })
}

/// As records have it.
fn name(group: NamedGroup) -> String {
    group.as_str().unwrap_or_default().to_owned()
}

fn tell(round: u32, name: &str, figures: &Round) {
    let Round { cpu_us, seen: Seen { p50_ms, p99_ms, per_s }, .. } = figures;
    eprintln!(
        "round {round:<4} {name:<6} {cpu_us:>8.2} us CPU  p50 {p50_ms:>7.2} ms  \
         p99 {p99_ms:>7.2} ms  {per_s:>7.0}/s"
    );
}

/// The processes that are measured.
struct Sides {
    worker: u32,
    gateway: u32,
    auditor: u32,
    /// Supervisor and admin role.
    beside: [u32; 2],
    memory: Vec<Memory>,
    /// How long Moat has been under load.
    loaded: Duration,
}

impl Sides {
    fn find(site: &Site, proxy: &Process) -> Result<Sides> {
        let [worker] = cpu::children(proxy.pid())?.try_into().map_err(|found: Vec<u32>| {
            anyhow::anyhow!("nginx has {} workers instead of one", found.len())
        })?;
        let (gateway, auditor) = (role(site, "gateway")?, role(site, "auditor")?);
        let admin = role(site, "admin")?;
        let supervisor = cpu::parent(gateway)?;
        let beside = [supervisor, admin];
        let (memory, loaded) = (Vec::new(), Duration::ZERO);
        Ok(Sides { worker, gateway, auditor, beside, memory, loaded })
    }

    fn clock(&self) -> Result<&'static str> {
        Ok(cpu::Cpu::of(self.gateway)?.clock())
    }

    /// A role that was started again would have taken its account of CPU with it.
    fn check_unchanged(&self, site: &Site) -> Result<()> {
        for (name, pid) in [("gateway", self.gateway), ("auditor", self.auditor)] {
            ensure!(role(site, name)? == pid, "the {name} was started again while measured");
        }
        Ok(())
    }

    fn nginx_round(&self, load: &Load<'_>, interrupt: &Interrupt) -> Result<Round> {
        let way = [self.worker];
        let connecting = connecting(&way, load, interrupt)?;
        let before = cpu::of_all(&way)?;
        let seen = load.run(interrupt, || Ok(()))?;
        let used = cpu::between(&before, &cpu::of_all(&way)?);
        Ok(Round { cpu_us: connecting.each_us(used, load.calls), beside_us: 0.0, seen })
    }

    fn moat_round(&mut self, load: &Load<'_>, interrupt: &Interrupt) -> Result<Round> {
        let way = [self.gateway, self.auditor];
        let connecting = connecting(&way, load, interrupt)?;
        let (before, beside_before) = (cpu::of_all(&way)?, cpu::of_all(&self.beside)?);
        let begun = Instant::now();
        let mut looked = None;
        let seen = load.run(interrupt, || {
            if looked.is_none_or(|at: Instant| at.elapsed() >= LOOK) {
                looked = Some(Instant::now());
                self.look(begun.elapsed())?;
            }
            Ok(())
        })?;
        let used = cpu::between(&before, &cpu::of_all(&way)?);
        let beside = cpu::between(&beside_before, &cpu::of_all(&self.beside)?);
        self.look(begun.elapsed())?;
        self.loaded += begun.elapsed();
        let cpu_us = connecting.each_us(used, load.calls);
        Ok(Round { cpu_us, beside_us: Connecting::NONE.each_us(beside, load.calls), seen })
    }

    fn look(&mut self, this_round: Duration) -> Result<()> {
        let (gateway_kb, auditor_kb) =
            (cpu::resident_kb(self.gateway)?, cpu::resident_kb(self.auditor)?);
        self.memory.push(Memory { after: self.loaded + this_round, gateway_kb, auditor_kb });
        Ok(())
    }
}

fn role(site: &Site, name: &str) -> Result<u32> {
    let state = site.state()?;
    let role = state.roles.iter().find(|role| role.name == name && role.pid != 0);
    Ok(role.with_context(|| format!("the {name} is away"))?.pid)
}

/// What a run of one call on each connection used, to be taken out of a longer one: a call on a
/// kept connection is no handshake, and a handshake costs nginx more than Moat.
#[derive(Clone, Copy)]
struct Connecting {
    ns: u64,
    calls: u64,
}

impl Connecting {
    const NONE: Connecting = Connecting { ns: 0, calls: 0 };

    /// Microseconds of each of the other calls.
    fn each_us(self, ns: u64, calls: u64) -> f64 {
        ns.saturating_sub(self.ns) as f64 / 1e3 / calls.saturating_sub(self.calls) as f64
    }
}

fn connecting(pids: &[u32], load: &Load<'_>, interrupt: &Interrupt) -> Result<Connecting> {
    if load.fresh.is_some() {
        return Ok(Connecting::NONE);
    }
    let before = cpu::of_all(pids)?;
    Load { calls: CONNECTIONS, ..*load }.run(interrupt, || Ok(()))?;
    let ns = cpu::between(&before, &cpu::of_all(pids)?);
    Ok(Connecting { ns, calls: CONNECTIONS })
}

/// Key-agreement groups that records have.
#[derive(Debug, Default)]
struct Groups {
    /// Of connections of callers, with the number of calls.
    callers: BTreeMap<String, u64>,
    /// Of those to the service.
    services: BTreeSet<String>,
}

/// Fails unless the log is whole and has one record with all fields for each of `calls`.
fn count_records(log: &Path, calls: u64) -> Result<(u64, Groups)> {
    let report = verify(log).with_context(|| log.display().to_string())?;
    if let Some(finding) = report.findings.kept().first() {
        bail!("the log does not verify: {finding}");
    }
    ensure!(report.is_whole() && report.unpaired.is_empty(), "the log does not verify");
    let (mut records, mut traces, mut groups) = (0, BTreeSet::new(), Groups::default());
    for found in leaves(log)? {
        let body = found?.leaf.body;
        match body.kind {
            Kind::Read => {
                let has_all = body.fields.len() == FIELDS && body.http_status == Some(200);
                ensure!(has_all, "a record lacks fields");
                records += 1;
                traces.insert(body.trace_id);
                *groups.callers.entry(body.group).or_default() += 1;
                groups.services.insert(body.upstream_group);
            }
            Kind::Admin => {}
            other => {
                let body = (other.name(), &body.code, body.reasons.join("; "), &body.note);
                bail!("the log has a record of another kind: {body:?}")
            }
        }
    }
    let is_one_each = records == calls && traces.len() as u64 == calls;
    ensure!(is_one_each, "{calls} calls have {records} records of {} traces", traces.len());
    Ok((records, groups))
}

impl Run {
    fn row(&self, figure: &str, unit: &'static str, of: &dyn Fn(&Round) -> f64) -> Result<Row> {
        let ours = median(self.ours.iter().map(of)).context("nothing was measured")?;
        let theirs = median(self.theirs.iter().map(of)).context("nothing was measured")?;
        Ok(Row::new(figure, ours, unit).beside(&self.peer, theirs))
    }

    fn cpu(&self, figure: &str) -> Result<Row> {
        self.row(figure, "us", &|round| round.cpu_us)
    }

    /// The rows that both topics have.
    fn shared(&self, each: &str, rate: &'static str, ratio_max: f64) -> Result<Vec<Row>> {
        let row = |figure: &str, unit, of: &dyn Fn(&Round) -> f64| self.row(figure, unit, of);
        let beside = median(self.ours.iter().map(|round| round.beside_us)).unwrap_or_default();
        Ok(vec![
            self.cpu(&format!("CPU a {each}"))?.should_be(Goal::RatioAtMost(ratio_max)),
            Row::new("CPU of supervisor and admin beside", beside, "us"),
            row(&format!("p50 of a {each}"), "ms", &|round| round.seen.p50_ms)?,
            row(&format!("p99 of a {each}"), "ms", &|round| round.seen.p99_ms)?,
            row(&format!("{each}s a second"), rate, &|round| round.seen.per_s)?,
            Row::new("records in the verified log", self.records as f64, "records")
                .beside("calls", self.calls as f64),
        ])
    }

    fn memory(&self) -> Result<Vec<Row>> {
        let last = self.memory.last().context("memory was not looked at")?;
        let tenth = last.after / 10;
        let early = self.memory.iter().find(|memory| memory.after >= tenth).unwrap_or(last);
        let growth = |figure: &str, from_kb: u64, to_kb: u64| {
            let percent = (to_kb as f64 / from_kb as f64 - 1.0) * 100.0;
            let row = Row::new(figure, percent, "%");
            let is_long = self.measured >= GROWTH_CALLS_MIN;
            if is_long { row.should_be(Goal::AtMost(GROWTH_PERCENT_MAX)) } else { row }
        };
        let mb = |kb: u64| kb as f64 / 1e3;
        Ok(vec![
            Row::new("gateway memory", mb(last.gateway_kb), "MB")
                .beside(&self.peer, mb(self.peer_kb)),
            Row::new("auditor memory", mb(last.auditor_kb), "MB"),
            growth("gateway memory growth", early.gateway_kb, last.gateway_kb),
            growth("auditor memory growth", early.auditor_kb, last.auditor_kb),
        ])
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Connecting, Memory, Round, Run, Seen};

    fn round(cpu_us: f64) -> Round {
        let seen = Seen { p50_ms: 1.0, p99_ms: 9.0, per_s: 1e6 / cpu_us };
        Round { cpu_us, beside_us: 0.5, seen }
    }

    fn run(measured: u64) -> Run {
        let memory = |s: u64, kb: u64| Memory {
            after: Duration::from_secs(s),
            gateway_kb: kb,
            auditor_kb: 2 * kb,
        };
        Run {
            peer: "nginx 1.22.1".to_owned(),
            ours: vec![round(90.0), round(70.0), round(80.0)],
            theirs: vec![round(20.0), round(30.0), round(25.0)],
            hybrid: Vec::new(),
            memory: vec![memory(0, 10), memory(9, 15), memory(10, 20), memory(100, 23)],
            peer_kb: 7_000,
            calls: measured + 1_001,
            records: measured + 1_001,
            measured,
        }
    }

    #[test]
    fn connecting_is_taken_out_and_the_rest_is_shared_among_the_other_calls() {
        assert_eq!(Connecting::NONE.each_us(30_000_000, 1_000), 30.0);
        let connecting = Connecting { ns: 6_400_000, calls: 64 };
        assert_eq!(connecting.each_us(6_400_000 + 936 * 25_000, 1_000), 25.0);
        assert_eq!(connecting.each_us(1_000, 1_000), 0.0);
    }

    #[test]
    fn the_median_of_each_side_is_compared() {
        let rows = run(90_000).shared("call", "calls/s", 1.6).unwrap();
        let cpu = &rows[0];
        assert_eq!((cpu.figure.as_str(), cpu.value), ("CPU a call", 80.0));
        assert_eq!(cpu.peer.as_ref().map(|peer| peer.value), Some(25.0));
        assert_eq!((cpu.ratio(), cpu.holds()), (Some(3.2), Some(false)));
        assert_eq!(run(90_000).shared("call", "calls/s", 3.2).unwrap()[0].holds(), Some(true));
    }

    #[test]
    fn growth_is_from_a_tenth_of_the_run_to_its_end() {
        let rows = run(90_000).memory().unwrap();
        let growth = rows.iter().find(|row| row.figure == "gateway memory growth").unwrap();
        assert!((growth.value - 15.0).abs() < 1e-9, "{}", growth.value);
        assert_eq!(growth.holds(), Some(false));
        let short = run(2_000).memory().unwrap();
        assert!(short.iter().all(|row| row.holds().is_none()), "a short run is all warm-up");
    }
}
