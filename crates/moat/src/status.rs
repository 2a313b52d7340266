//! `moat status` and `moat reload`: questions to the admin socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use moat_admin::messages::State;
use moat_model::code::config::NEEDS_RESTART;
use moat_model::code::system::NOT_RUNNING;

use crate::cli::{Output, SocketArgs};
use crate::top;

/// Longest answer, in bytes.
const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Longest wait for an answer: a reload compiles the policy for every worker.
const WAIT: Duration = Duration::from_secs(35);

/// Asks the admin socket; gives status and body.
pub(crate) fn ask(socket: &Path, method: &str, path: &str) -> Result<(u16, String)> {
    let (status, body) = exchange(socket, method, path)?;
    Ok((status, String::from_utf8(body).context("the answer is no text")?))
}

/// Asks it for a file.
pub(crate) fn ask_bytes(socket: &Path, path: &str) -> Result<Vec<u8>> {
    let (status, body) = exchange(socket, "GET", path)?;
    if status != 200 {
        bail!("{}", String::from_utf8_lossy(&body).trim());
    }
    Ok(body)
}

fn exchange(socket: &Path, method: &str, path: &str) -> Result<(u16, Vec<u8>)> {
    let missing = || format!("{}: {} ({})", NOT_RUNNING.id, NOT_RUNNING.en.title, socket.display());
    let mut stream = UnixStream::connect(socket).with_context(missing)?;
    stream.set_read_timeout(Some(WAIT))?;
    stream.set_write_timeout(Some(WAIT))?;
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: moat\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).with_context(missing)?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, body) = answer.split_at(end.context("the answer has no head")?);
    let head = String::from_utf8_lossy(head);
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
    let body = body.get(4..).unwrap_or_default().to_vec();
    Ok((status.context("the answer has no status")?, body))
}

pub(crate) fn status(args: &SocketArgs) -> Result<ExitCode> {
    let (_, body) = ask(&args.socket, "GET", "/v1/status")?;
    if args.output == Output::Json {
        println!("{body}");
        return Ok(ExitCode::SUCCESS);
    }
    let state: State = serde_json::from_str(&body).context("the answer is no status")?;
    println!("moat {}  generation {}  sha256:{}", state.version, state.generation, state.digest);
    if let Some(refusal) = &state.last_refusal {
        println!("last reload refused:\n{refusal}");
    }
    for role in &state.roles {
        println!(
            "{:<8} pid {:<7} uid {:<6} restarts {:<3} landlock {:<8} seccomp {}",
            role.name,
            role.pid,
            role.uid,
            role.restarts,
            role.landlock,
            if role.seccomp { "on" } else { "off" },
        );
    }
    for condition in &state.conditions {
        println!("{} {}", if condition.holds { "[+]" } else { "[-]" }, condition.name);
    }
    let kernel = serde_json::from_value::<moat_kernel::messages::Status>(state.kernel.clone());
    for probe in kernel.map(|kernel| kernel.probes).unwrap_or_default() {
        let mark = if probe.is_attached { "[+]" } else { "[-]" };
        println!("{mark} probe {} {}", probe.name, probe.why);
    }
    for endpoint in top::endpoints(&top::rows(&args.socket).unwrap_or_default()) {
        println!("{endpoint}");
    }
    println!("gateway  {}", state.gateway);
    println!("auditor  {}", state.auditor);
    Ok(if state.is_ready() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(crate) fn reload(args: &SocketArgs) -> Result<ExitCode> {
    change(args, "/v1/reload")
}

pub(crate) fn rollback(args: &SocketArgs) -> Result<ExitCode> {
    change(args, "/v1/rollback")
}

pub(crate) fn upgrade(args: &SocketArgs) -> Result<ExitCode> {
    change(args, "/v1/upgrade")
}

/// What `/v1/diff` answers.
#[derive(serde::Deserialize)]
struct Diff {
    changes: Vec<Changed>,
    left_off: u64,
    restart: bool,
}

#[derive(serde::Deserialize)]
struct Changed {
    key: String,
    from: Option<String>,
    to: Option<String>,
    effect: String,
}

/// What a reload would change.
pub(crate) fn diff(args: &SocketArgs) -> Result<ExitCode> {
    let (status, body) = ask(&args.socket, "GET", "/v1/diff")?;
    if status != 200 {
        return refused(&body);
    }
    let diff: Diff = serde_json::from_str(&body).context("the answer is no difference")?;
    match args.output {
        Output::Json => println!("{body}"),
        Output::Table => show(&diff),
    }
    if diff.restart {
        eprintln!("{} {}", NEEDS_RESTART.id, NEEDS_RESTART.en.title);
        return Ok(ExitCode::from(78));
    }
    Ok(ExitCode::SUCCESS)
}

fn show(diff: &Diff) {
    for Changed { key, from, to, effect } in &diff.changes {
        let (from, to) = (from.as_deref().unwrap_or("-"), to.as_deref().unwrap_or("-"));
        println!("{effect:<8} {key}: {from} -> {to}");
    }
    if diff.left_off > 0 {
        println!("and {} more", diff.left_off);
    }
    if diff.changes.is_empty() {
        println!("nothing changes");
    }
}

fn change(args: &SocketArgs, path: &str) -> Result<ExitCode> {
    let (status, body) = ask(&args.socket, "POST", path)?;
    if status == 200 {
        println!("{body}");
        return Ok(ExitCode::SUCCESS);
    }
    refused(&body)
}

/// Says why something was refused.
fn refused(body: &str) -> Result<ExitCode> {
    let refused: Option<serde_json::Value> = serde_json::from_str(body).ok();
    match refused.as_ref().and_then(|r| r.get("refused")).and_then(|r| r.as_str()) {
        Some(problems) => eprintln!("{problems}"),
        None => bail!("{body}"),
    }
    Ok(ExitCode::from(78))
}
