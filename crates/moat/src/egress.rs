//! `moat egress`: what the gateway may reach, what it tries to, and whether an address passes.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use moat_admin::messages::State;
use moat_kernel::messages::{EgressStatus, Probe};
use moat_model::code::kernel::PROBE_MISSING;

use crate::cli::{EgressCommand, Output, SocketArgs};
use crate::status::ask;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(3);
/// How often the table is asked for: the supervisor's own pace.
const LOOK: Duration = Duration::from_millis(500);

pub(crate) fn run(command: &EgressCommand) -> Result<ExitCode> {
    match command {
        EgressCommand::List(args) => list(args),
        EgressCommand::Observe { socket, seconds } => observe(socket, *seconds),
        EgressCommand::Try { address, socket } => attempt(*address, socket),
    }
}

fn kernel(socket: &Path) -> Result<moat_kernel::messages::Status> {
    let (_, body) = ask(socket, "GET", "/v1/status")?;
    let state: State = serde_json::from_str(&body).context("the answer is no status")?;
    serde_json::from_value(state.kernel).context("the answer says nothing of the kernel")
}

/// The guard's table, or why there is none.
fn guard(socket: &Path) -> Result<(String, EgressStatus)> {
    let kernel = kernel(socket)?;
    if let Some(egress) = kernel.egress {
        return Ok((kernel.cgroup, egress));
    }
    let probe: Option<Probe> = kernel.probes.into_iter().find(|probe| probe.name == "egress");
    let why = probe.map_or_else(String::new, |probe| probe.why);
    bail!("{} egress: {why}; {}", PROBE_MISSING.id, PROBE_MISSING.en.fix)
}

fn list(args: &SocketArgs) -> Result<ExitCode> {
    let (_, egress) = guard(&args.socket)?;
    if args.output == Output::Json {
        println!("{}", serde_json::to_string(&egress)?);
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}", if egress.is_observing { "observe: nothing is refused" } else { "deny but:" });
    for entry in &egress.allow {
        println!("  {entry}");
    }
    if egress.entries > egress.allow.len() {
        println!("  and {} more", egress.entries - egress.allow.len());
    }
    let EgressStatus { allowed, refused, recorded, lost, .. } = egress;
    println!(
        "{allowed} passed, {refused} refused: {recorded} with a record each, {lost} summed up"
    );
    Ok(ExitCode::SUCCESS)
}

fn observe(socket: &Path, seconds: Option<u64>) -> Result<ExitCode> {
    let until = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut known: Vec<(String, u64, u64)> = Vec::new();
    println!("{:>9} {:>9}  destination", "passed", "refused");
    loop {
        let (_, egress) = guard(socket)?;
        for seen in egress.seen.iter().rev() {
            let row = (seen.destination.clone(), seen.allowed, seen.refused);
            if known.contains(&row) {
                continue;
            }
            known.retain(|(destination, ..)| *destination != seen.destination);
            known.push(row);
            let (allowed, refused, name) = (seen.allowed, seen.refused, &seen.name);
            println!("{allowed:>9} {refused:>9}  {} {name}", seen.destination);
        }
        std::io::stdout().flush()?;
        if until.is_some_and(|until| Instant::now() >= until) {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(LOOK);
    }
}

/// Tries from within the gateway's cgroup, so that the answer is the guard's and not a guess.
fn attempt(address: SocketAddr, socket: &Path) -> Result<ExitCode> {
    let (cgroup, _) = guard(socket)?;
    let procs = Path::new(&cgroup).join("cgroup.procs");
    std::fs::write(&procs, "0").with_context(|| {
        format!("{}: only root may act in the gateway's place", procs.display())
    })?;
    match TcpStream::connect_timeout(&address, CONNECT) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::ACCESS.raw_os_error()) => {
            println!("{address}: refused by the guard (EACCES)");
            Ok(ExitCode::FAILURE)
        }
        Err(error) => {
            println!("{address}: passed by the guard; then: {error}");
            Ok(ExitCode::SUCCESS)
        }
        Ok(_) => {
            println!("{address}: passed by the guard; connected");
            Ok(ExitCode::SUCCESS)
        }
    }
}
