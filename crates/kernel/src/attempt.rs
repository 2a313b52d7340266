//! Trying whether a probe works on this machine, without leaving anything behind.

use crate::behaviour::Behaviour;
use crate::cgroup::{self, Cgroup, unpin};
use crate::egress::Guard;
use crate::latency::probe::{Probe, Settings};
use crate::wire::{self, View};

/// Loads and attaches the egress guard to a cgroup of its own, in which nothing runs.
///
/// # Errors
/// What is missing or was refused.
pub fn egress() -> Result<(), String> {
    let name = format!("moat-attempt-{}", std::process::id());
    let pins = cgroup::pins().map_err(|error| error.to_string())?.join(&name);
    let cgroup = Cgroup::make(&name).map_err(|error| error.to_string())?;
    let attached = Guard::attach(cgroup.path(), &pins).map(drop);
    unpin(&pins);
    let _ = cgroup.remove();
    attached.map_err(|error| error.to_string())
}

/// Loads the TLS record view, which is attached to the interfaces of a configuration only.
///
/// # Errors
/// What is missing or was refused.
pub fn tls_records() -> Result<(), String> {
    View::load(&wire::Settings::default()).map(drop).map_err(|error| error.to_string())
}

/// Loads and attaches what looks at roles' acts, of no role.
///
/// # Errors
/// What is missing or was refused.
pub fn behaviour() -> Result<(), String> {
    let (_behaviour, capable) = Behaviour::watch(&[]).map_err(|error| error.to_string())?;
    capable.map_err(|error| format!("all but the use of capabilities: {error}"))
}

/// Loads and attaches what looks at calls' time, of a cgroup in which nothing runs.
///
/// # Errors
/// What is missing or was refused.
pub fn latency() -> Result<(), String> {
    let name = format!("moat-attempt-latency-{}", std::process::id());
    let cgroup = Cgroup::make(&name).map_err(|error| error.to_string())?;
    let gateway = cgroup.path().to_path_buf();
    let settings = Settings { gateway, auditor: None, ports: Vec::new(), stall_ns: u64::MAX };
    let attached = Probe::attach(&settings).map(|(_, parts)| parts);
    let _ = cgroup.remove();
    let parts = attached.map_err(|error| error.to_string())?;
    let missing = parts.into_iter().find_map(|(name, part)| Some((name, part.err()?)));
    missing.map_or(Ok(()), |(name, why)| Err(format!("all but {name}: {why}")))
}
