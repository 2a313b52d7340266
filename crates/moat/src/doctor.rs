//! `moat doctor`: whether this machine can give what Moat wants of it. Every line is tried, not
//! guessed from a version.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use moat_kernel::cgroup;
use moat_model::Code;
use moat_model::code::kernel::PROBE_MISSING;
use moat_model::code::system::{NO_USER, PARTIAL_SANDBOX, SANDBOX};

use crate::cli::{DoctorArgs, Output};

/// Exit code for warnings.
const WARNINGS: u8 = 4;
/// The oldest kernel that is tried: Debian 12's.
const OLDEST: (u32, u32) = (6, 1);
/// The roles' users, unless the configuration names others.
const USERS: [&str; 4] = ["moat-app", "moat-audit", "moat-admin", "moat-kernel"];

struct Line {
    name: &'static str,
    /// What was found, or what is wrong.
    found: Result<String, (&'static Code, String)>,
}

pub(crate) fn run(args: &DoctorArgs) -> Result<ExitCode> {
    if args.matrix {
        return crate::matrix::run(args.output);
    }
    let lines = [
        Line { name: "root", found: root() },
        Line { name: "kernel", found: kernel_version() },
        Line { name: "seccomp", found: seccomp() },
        Line { name: "landlock", found: landlock() },
        Line { name: "btf", found: exists("/sys/kernel/btf/vmlinux") },
        Line { name: "cgroup", found: cgroups() },
        Line { name: "pins", found: pins() },
        Line { name: "egress", found: egress() },
        Line { name: "tls_records", found: probe(Attempt::TlsRecords) },
        Line { name: "behaviour", found: probe(Attempt::Behaviour) },
        Line { name: "latency", found: probe(Attempt::Latency) },
        Line { name: "users", found: users() },
    ];
    let is_good = lines.iter().all(|line| line.found.is_ok());
    match args.output {
        Output::Table => lines.iter().for_each(print),
        Output::Json => println!("{}", json(&lines)),
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::from(WARNINGS) })
}

fn print(line: &Line) {
    match &line.found {
        Ok(what) => println!("[+] {:<11} {what}", line.name),
        Err((code, why)) => {
            println!("[-] {:<11} {} {why}\n                {}", line.name, code.id, code.en.fix);
        }
    }
}

fn json(lines: &[Line]) -> serde_json::Value {
    let row = |line: &Line| match &line.found {
        Ok(what) => serde_json::json!({ "name": line.name, "holds": true, "found": what }),
        Err((code, why)) => serde_json::json!({
            "name": line.name, "holds": false, "found": why, "code": code.id,
        }),
    };
    lines.iter().map(row).collect()
}

fn root() -> Result<String, (&'static Code, String)> {
    if rustix::process::geteuid().is_root() {
        return Ok("each role gets a user of its own".to_owned());
    }
    Err((
        &PROBE_MISSING,
        "not root: roles run as one user, and the kernel watches nothing".to_owned(),
    ))
}

fn kernel_version() -> Result<String, (&'static Code, String)> {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= OLDEST {
        return Ok(release);
    }
    let (major, minor) = OLDEST;
    Err((&PROBE_MISSING, format!("{release} is older than {major}.{minor}")))
}

fn seccomp() -> Result<String, (&'static Code, String)> {
    exists("/proc/sys/kernel/seccomp/actions_avail").map_err(|(_, why)| (&SANDBOX, why))
}

fn landlock() -> Result<String, (&'static Code, String)> {
    match moat_kernel::try_landlock() {
        Some("full") => Ok("every rule is enforced".to_owned()),
        Some(_) => Err((&PARTIAL_SANDBOX, "some rules are not enforced".to_owned())),
        None => Err((&SANDBOX, "the kernel has no Landlock, or it is not switched on".to_owned())),
    }
}

fn exists(path: &str) -> Result<String, (&'static Code, String)> {
    if Path::new(path).exists() {
        return Ok(path.to_owned());
    }
    Err((&PROBE_MISSING, format!("{path} is missing")))
}

fn cgroups() -> Result<String, (&'static Code, String)> {
    match cgroup::mounted() {
        Some(path) => Ok(format!("version 2 at {}", path.display())),
        None => Err((&PROBE_MISSING, "version 2 is not mounted".to_owned())),
    }
}

fn pins() -> Result<String, (&'static Code, String)> {
    let path = cgroup::pins().map_err(|error| (&PROBE_MISSING, error.to_string()))?;
    Ok(path.display().to_string())
}

#[cfg(feature = "bpf")]
fn egress() -> Result<String, (&'static Code, String)> {
    let tried = moat_kernel::attempt::egress();
    tried.map(|()| "loads and attaches".to_owned()).map_err(|why| (&PROBE_MISSING, why))
}

/// A probe that is no guard.
#[derive(Clone, Copy)]
enum Attempt {
    TlsRecords,
    Behaviour,
    Latency,
}

#[cfg(feature = "bpf")]
fn probe(attempt: Attempt) -> Result<String, (&'static Code, String)> {
    let (tried, what) = match attempt {
        Attempt::TlsRecords => (moat_kernel::attempt::tls_records(), "loads"),
        Attempt::Behaviour => (moat_kernel::attempt::behaviour(), "loads and attaches"),
        Attempt::Latency => (moat_kernel::attempt::latency(), "loads and attaches"),
    };
    tried.map(|()| what.to_owned()).map_err(|why| (&PROBE_MISSING, why))
}

#[cfg(not(feature = "bpf"))]
fn probe(_: Attempt) -> Result<String, (&'static Code, String)> {
    egress()
}

#[cfg(not(feature = "bpf"))]
fn egress() -> Result<String, (&'static Code, String)> {
    Err((&PROBE_MISSING, "built without the feature `bpf`".to_owned()))
}

fn users() -> Result<String, (&'static Code, String)> {
    let is_missing = |name: &&str| !matches!(moat_kernel::find_user(name), Ok(Some(_)));
    let missing: Vec<&str> = USERS.into_iter().filter(|name| is_missing(name)).collect();
    if missing.is_empty() { Ok(USERS.join(", ")) } else { Err((&NO_USER, missing.join(", "))) }
}
