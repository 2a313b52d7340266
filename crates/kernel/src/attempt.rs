//! Trying whether a probe works on this machine, without leaving anything behind.

use crate::cgroup::{self, Cgroup, unpin};
use crate::egress::Guard;

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
