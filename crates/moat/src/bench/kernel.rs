//! `moat bench kernel`: what the kernel's programs cost.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use moat_auditor::bench::{Goal, Row};
use moat_kernel::cgroup::{self, Cgroup, unpin};
use moat_kernel::egress::Guard;
use moat_kernel::measure;
use moat_model::egress::Rule;
use rustix::net::sockopt::set_socket_linger;

use super::median;
use crate::cli::ConnectsArgs;

/// Test runs of each packet in a round.
const RUNS: u32 = 1_000_000;
/// Most nanoseconds a packet, and packets a second that one core must have time for.
const PACKET_NS: f64 = 150.0;
const PACKETS_A_SECOND: f64 = 5e6;
/// Most that a connect may cost with the guard, of what it costs without.
const CONNECT_RATIO: f64 = 1.05;
/// Connects a round.
const CONNECTS: u32 = 2_000;

pub(crate) fn run(rounds: u32) -> Result<Vec<Row>> {
    ensure!(rustix::process::geteuid().is_root(), "the kernel's programs are loaded by root");
    eprintln!("kernel     test runs of the XDP program, connects with and without the guard");
    let mut rows = packets(rounds)?;
    rows.extend(connects(rounds)?);
    Ok(rows)
}

fn packets(rounds: u32) -> Result<Vec<Row>> {
    let wrong = |error: measure::Error| anyhow!("{error}");
    let all = (0..rounds).map(|_| measure::packets(RUNS).map_err(wrong));
    let all: Vec<Vec<(&str, f64)>> = all.collect::<Result<_>>()?;
    let names = all.first().map(Vec::as_slice).unwrap_or_default();
    let mut rows = Vec::new();
    for (at, (name, _)) in names.iter().enumerate() {
        let ns = median(all.iter().filter_map(|round| round.get(at)).map(|(_, ns)| *ns));
        let ns = ns.context("no round")?;
        rows.push(Row::new(name, ns, "ns").should_be(Goal::AtMost(PACKET_NS)));
        if at == 0 {
            let rate = Row::new("XDP, packets of a core", 1e9 / ns, "1/s");
            rows.push(rate.should_be(Goal::AtLeast(PACKETS_A_SECOND)));
        }
    }
    Ok(rows)
}

/// A cgroup with a guard that allows exactly one address, as it does a service's.
struct Site {
    cgroup: Cgroup,
    pins: std::path::PathBuf,
}

impl Site {
    fn make(address: SocketAddr) -> Result<Site> {
        let name = format!("moat-bench-{}", std::process::id());
        let pins = cgroup::pins()?.join(&name);
        let site = Site { cgroup: Cgroup::make(&name)?, pins };
        let wrong = |error| anyhow!("the guard: {error}");
        let mut guard = Guard::attach(site.cgroup.path(), &site.pins).map_err(wrong)?;
        let rules = [address.to_string(), format!("udp:{address}")];
        let rules: Vec<Rule> = rules.iter().filter_map(|text| text.parse().ok()).collect();
        guard.allow(&rules, false).map_err(|error| anyhow!("the guard: {error}"))?;
        Ok(site)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        unpin(&self.pins);
        self.cgroup.remove();
    }
}

fn connects(rounds: u32) -> Result<Vec<Row>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let site = Site::make(address)?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            drop(stream);
        }
    });
    let mut rows = Vec::new();
    for (figure, is_udp) in
        [("connect() by TCP, with the guard", false), ("connect() of UDP, with it", true)]
    {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        // In turn, so that what else the machine does meets both alike.
        for _ in 0..rounds {
            without.push(child(address, is_udp, None)?);
            with.push(child(address, is_udp, Some(site.cgroup.path()))?);
        }
        let (with, without) = (median(with).context("no round")?, median(without).context("none")?);
        let row = Row::new(figure, with, "ns").beside("without", without);
        rows.push(if is_udp { row } else { row.should_be(Goal::RatioAtMost(CONNECT_RATIO)) });
    }
    Ok(rows)
}

/// Nanoseconds a connect, of a process of its own.
fn child(address: SocketAddr, is_udp: bool, cgroup: Option<&Path>) -> Result<f64> {
    let mut moat = Command::new(std::env::current_exe().context("own program")?);
    moat.args(["connects", &address.to_string(), &CONNECTS.to_string()]);
    if is_udp {
        moat.arg("--udp");
    }
    if let Some(cgroup) = cgroup {
        moat.arg("--cgroup").arg(cgroup);
    }
    let out = moat.output()?;
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8_lossy(&out.stdout).trim().parse()?)
}

/// The process that connects.
pub(crate) fn connect(args: &ConnectsArgs) -> Result<ExitCode> {
    if let Some(cgroup) = &args.cgroup {
        std::fs::write(cgroup.join("cgroup.procs"), "0")?;
    }
    let (mut all, mut nothing) = (Duration::ZERO, [0; 1]);
    for _ in 0..args.count {
        if args.udp {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            let begun = Instant::now();
            socket.connect(args.address)?;
            all += begun.elapsed();
        } else {
            let begun = Instant::now();
            let mut stream = TcpStream::connect(args.address)?;
            all += begun.elapsed();
            // Until the other side has closed it, so that none waits for its turn there; and reset,
            // so that no port stays taken.
            let _ = stream.read(&mut nothing);
            set_socket_linger(&stream, Some(Duration::ZERO))?;
        }
    }
    println!("{}", all.as_secs_f64() * 1e9 / f64::from(args.count));
    Ok(ExitCode::SUCCESS)
}
