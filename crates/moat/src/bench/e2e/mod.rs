//! `moat bench e2e`: Moat with everything on, beside nginx, HAProxy, Envoy and Caddy that only pass
//! calls on, and Envoy that asks somebody and writes an access log.
//!
//! All have mutual TLS 1.3 on both sides, the same service behind them, one worker, and the first of
//! the processor's cores for themselves; callers and service have the others.

mod idle;
mod plot;
mod sides;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use moat_auditor::bench::{Goal, Row};

use self::sides::{E2e, Kind, Side};
use super::load::{CONNECTIONS, Said, said};
use super::process::{Interrupt, Process};
use super::tools::Tools;
use super::{machine, median};

/// Calls of each side before its rounds, which are not measured.
const WARM_UP_CALLS: u64 = 500;
/// Longest run of the load generator.
const RUN: Duration = Duration::from_secs(300);
/// How often a run is looked at.
const STEP: Duration = Duration::from_millis(20);
/// Bytes of the large document.
const BLOB_BYTES: usize = 1024 * 1024;
/// How many calls fewer are made where each costs much more than a small one.
const LARGE_SHARE: u64 = 30;
const FRESH_SHARE: u64 = 10;

/// What is done by callers.
#[derive(Clone, Copy)]
struct Scene {
    name: &'static str,
    path: &'static str,
    http: &'static str,
    is_fresh: bool,
    /// The usual number of calls is divided by this.
    share: u64,
    /// Goals: CPU against nginx, against Envoy, against Envoy that asks.
    goals: [Option<f64>; 3],
}

const SCENES: [Scene; 4] = [
    Scene {
        name: "HTTP/1.1 kept",
        path: "/v1/accounts/1001",
        http: "1.1",
        is_fresh: false,
        share: 1,
        goals: [Some(1.15), Some(0.6), Some(0.35)],
    },
    Scene {
        name: "HTTP/2 kept",
        path: "/v1/accounts/1001",
        http: "2",
        is_fresh: false,
        share: 1,
        goals: [Some(1.15), Some(0.6), Some(0.35)],
    },
    Scene {
        name: "1 MiB kept",
        path: "/v1/blobs/1",
        http: "1.1",
        is_fresh: false,
        share: LARGE_SHARE,
        goals: [Some(1.1), None, None],
    },
    Scene {
        name: "HTTP/1.1 new",
        path: "/v1/accounts/1001",
        http: "1.1",
        is_fresh: true,
        share: FRESH_SHARE,
        goals: [Some(0.5), Some(0.77), None],
    },
];

/// What one side did in one scene; medians of its rounds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    cpu_us: f64,
    user_us: f64,
    system_us: f64,
    /// Of each process on the way, by its name.
    roles: Vec<(&'static str, f64)>,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    per_s: f64,
    memory_mb: f64,
}

/// Settings of a run.
pub(crate) struct Settings<'a> {
    pub(crate) requests: u64,
    pub(crate) rounds: u32,
    pub(crate) idle: usize,
    /// Folder for plots.
    pub(crate) plots: Option<&'a Path>,
}

pub(crate) fn run(dir: &Path, settings: &Settings<'_>, interrupt: &Interrupt) -> Result<Vec<Row>> {
    let tools = Tools::find()?;
    let site = E2e::make(dir)?;
    machine::describe(site.dir())?;
    let _service = site.start_service(&tools.nginx, interrupt)?;
    let mut sides = site.start_sides(&tools.nginx, interrupt)?;
    for side in &sides {
        eprintln!("side       {}: {}", side.name, side.kind.said());
    }
    eprintln!(
        "load       oha {}, {CONNECTIONS} connections; HTTP/2 with 8 calls on each of 8",
        tools.oha.version
    );
    eprintln!("           gRPC is not measured: the load generator has none");
    let mut rows = Vec::new();
    let mut scenes = Vec::new();
    for scene in &SCENES {
        let calls = (settings.requests / scene.share).max(CONNECTIONS);
        let load = |side: &Side, calls: u64| Load {
            site: &site,
            oha: &tools.oha.path,
            scene,
            calls,
            port: side.port,
        };
        for side in &sides {
            load(side, WARM_UP_CALLS.min(calls))
                .run(interrupt)
                .with_context(|| side.name.clone())?;
        }
        let mut rounds: Vec<Vec<Figures>> = vec![Vec::new(); sides.len()];
        for round in 1..=settings.rounds {
            for (side, done) in sides.iter_mut().zip(&mut rounds) {
                let figures = measure(side, &load(side, calls), interrupt)
                    .with_context(|| format!("{} of {}", scene.name, side.name))?;
                eprintln!(
                    "round {round:<4} {:<14} {:<22} {:>9.2} us CPU  p50 {:>8.2} ms  p99 {:>8.2} ms  {:>7.0}/s",
                    scene.name,
                    side.name,
                    figures.cpu_us,
                    figures.p50_ms,
                    figures.p99_ms,
                    figures.per_s
                );
                done.push(figures);
            }
        }
        let figures: Vec<(Kind, String, Figures)> = sides
            .iter()
            .zip(&rounds)
            .map(|(side, rounds)| (side.kind, side.name.clone(), middle(rounds)))
            .collect();
        rows.extend(rows_of(scene, &figures));
        scenes.push((scene.name, figures));
    }
    rows.extend(idle::rows(&site, &sides, settings.idle, interrupt)?);
    site.check_log(&mut sides)?;
    if let Some(folder) = settings.plots {
        plot::draw(folder, &scenes)?;
    }
    Ok(rows)
}

/// One run of the load generator.
struct Load<'a> {
    site: &'a E2e,
    oha: &'a Path,
    scene: &'a Scene,
    calls: u64,
    port: u16,
}

impl Load<'_> {
    fn run(&self, interrupt: &Interrupt) -> Result<Said> {
        let pki = self.site.dir().join("pki");
        let mut command = sides::elsewhere(self.oha);
        command
            .args(["--no-tui", "--output-format", "json", "--http-version", self.scene.http])
            .args(["-n", &self.calls.to_string()])
            .arg("--cacert")
            .arg(pki.join("root.pem"))
            .arg("--cert")
            .arg(pki.join("teller.pem"))
            .arg("--key")
            .arg(pki.join("teller.key"))
            .env("SSL_CERT_FILE", pki.join("root.pem"))
            .env_remove("SSL_CERT_DIR");
        if self.scene.http == "2" {
            command.args(["-c", "8", "-p", "8"]);
        } else {
            command.args(["-c", &CONNECTIONS.to_string()]);
        }
        if self.scene.is_fresh {
            command.arg("--disable-keepalive");
        }
        command.arg(format!("https://127.0.0.1:{}{}", self.port, self.scene.path));
        let mut process = Process::start("oha", &mut command, self.site.dir(), interrupt)?;
        let status = process.wait_end(RUN, STEP, interrupt, || Ok(()))?;
        ensure!(status.success(), "oha ended ({status}):\n{}", process.tail());
        said(&process.said(), self.calls)
    }
}

fn measure(side: &Side, load: &Load<'_>, interrupt: &Interrupt) -> Result<Figures> {
    let before = side.used()?;
    let said = load.run(interrupt)?;
    let after = side.used()?;
    let each = |ns: u64| ns as f64 / 1e3 / load.calls as f64;
    let mut figures = Figures {
        p50_ms: said.latency_percentiles.p50 * 1e3,
        p99_ms: said.latency_percentiles.p99 * 1e3,
        p999_ms: said.latency_percentiles.p999 * 1e3,
        per_s: said.summary.requests_per_sec,
        memory_mb: side.memory_mb()?,
        ..Figures::default()
    };
    for ((role, before), (_, after)) in before.iter().zip(&after) {
        let cpu_us = each(after.cpu.since(&before.cpu));
        figures.cpu_us += cpu_us;
        figures.roles.push((*role, cpu_us));
        // Ticks are coarse: they share out what the finer account says.
        let user = after.user_ticks.saturating_sub(before.user_ticks) as f64;
        let system = after.system_ticks.saturating_sub(before.system_ticks) as f64;
        let share = if user + system > 0.0 { user / (user + system) } else { 1.0 };
        figures.user_us += cpu_us * share;
        figures.system_us += cpu_us * (1.0 - share);
    }
    Ok(figures)
}

/// The middle of all rounds, figure by figure.
fn middle(rounds: &[Figures]) -> Figures {
    let of = |get: &dyn Fn(&Figures) -> f64| median(rounds.iter().map(get)).unwrap_or_default();
    let names = rounds.first().map_or(&[][..], |first| first.roles.as_slice());
    let roles = names.iter().enumerate().map(|(at, (name, _))| {
        (*name, of(&|figures| figures.roles.get(at).map_or(0.0, |(_, us)| *us)))
    });
    Figures {
        cpu_us: of(&|f| f.cpu_us),
        user_us: of(&|f| f.user_us),
        system_us: of(&|f| f.system_us),
        roles: roles.collect(),
        p50_ms: of(&|f| f.p50_ms),
        p99_ms: of(&|f| f.p99_ms),
        p999_ms: of(&|f| f.p999_ms),
        per_s: of(&|f| f.per_s),
        memory_mb: of(&|f| f.memory_mb),
    }
}

fn rows_of(scene: &Scene, figures: &[(Kind, String, Figures)]) -> Vec<Row> {
    let Some((_, _, ours)) = figures.iter().find(|(kind, ..)| *kind == Kind::Moat) else {
        return Vec::new();
    };
    let name = scene.name;
    let mut rows = Vec::new();
    for (role, us) in &ours.roles {
        rows.push(Row::new(&format!("{name}: CPU of the {role}"), *us, "us"));
    }
    rows.push(Row::new(&format!("{name}: CPU in user mode"), ours.user_us, "us"));
    rows.push(Row::new(&format!("{name}: CPU in the kernel"), ours.system_us, "us"));
    for (kind, peer, theirs) in figures.iter().filter(|(kind, ..)| *kind != Kind::Moat) {
        let row = |figure: &str, unit, ours: f64, theirs: f64| {
            Row::new(&format!("{name}: {figure}"), ours, unit).beside(peer, theirs)
        };
        let cpu = row("CPU a call", "us", ours.cpu_us, theirs.cpu_us);
        let [nginx, envoy, asking] = scene.goals;
        let goal = match kind {
            Kind::Nginx => nginx,
            Kind::Envoy => envoy,
            Kind::EnvoyAsking => asking,
            Kind::Moat | Kind::Haproxy | Kind::Caddy => None,
        };
        rows.push(match goal {
            Some(goal) => cpu.should_be(Goal::RatioAtMost(goal)),
            None => cpu,
        });
        rows.push(row("calls a second", "calls/s", ours.per_s, theirs.per_s));
        rows.push(row("p50", "ms", ours.p50_ms, theirs.p50_ms));
        rows.push(row("p99", "ms", ours.p99_ms, theirs.p99_ms));
        rows.push(row("p99.9", "ms", ours.p999_ms, theirs.p999_ms));
        rows.push(row("memory", "MB", ours.memory_mb, theirs.memory_mb));
    }
    rows
}

/// A command that runs on these cores, as `taskset` has them.
fn on_cores(cores: &str, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", cores]).arg(program);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(cpu_us: f64) -> Figures {
        Figures {
            cpu_us,
            roles: vec![("gateway", cpu_us)],
            per_s: 1e6 / cpu_us,
            ..Figures::default()
        }
    }

    #[test]
    fn every_peer_is_a_row_of_each_figure_and_goals_are_those_of_the_scene() {
        let all = [
            (Kind::Moat, "moat".to_owned(), figures(30.0)),
            (Kind::Nginx, "nginx 1".to_owned(), figures(25.0)),
            (Kind::EnvoyAsking, "envoy 1 asking".to_owned(), figures(150.0)),
        ];
        let rows = rows_of(&SCENES[0], &all);
        let cpu: Vec<&Row> = rows.iter().filter(|row| row.figure.ends_with("CPU a call")).collect();
        assert_eq!(cpu.len(), 2);
        assert_eq!((cpu[0].ratio(), cpu[0].holds()), (Some(1.2), Some(false)));
        assert_eq!((cpu[1].ratio(), cpu[1].holds()), (Some(0.2), Some(true)));
        assert_eq!(rows.len(), 3 + 2 * 6);
    }

    #[test]
    fn the_middle_is_taken_figure_by_figure() {
        let rounds = [figures(9.0), figures(1.0), figures(4.0)];
        let middle = middle(&rounds);
        assert_eq!((middle.cpu_us, middle.per_s), (4.0, 250_000.0));
        assert_eq!(middle.roles, [("gateway", 4.0)]);
    }
}
