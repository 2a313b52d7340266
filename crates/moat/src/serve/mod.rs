//! `moat serve`: the supervisor.
//!
//! It reads the configuration, opens the sockets, starts the roles and starts them again when they
//! end. It alone reads keys from files; it never speaks to a caller.

mod child;
pub(crate) mod inputs_file;
mod kernel;
mod last_good;
mod policy_store;
mod reload;
mod retry;
mod risk_file;
mod state;
mod supervisor;
mod upgrade;
mod watch;

use std::process::ExitCode;

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::cli::ServeArgs;

pub(crate) fn run(args: &ServeArgs) -> Result<ExitCode> {
    // A level that cannot be followed would leave a gateway running many times slower than meant.
    let cpu = moat_sm::cpu::Cpu::check().context("MOAT_CPU")?;
    tracing::debug!(?cpu, "how SM2, SM3 and SM4 are computed");
    let last_good = last_good::LastGood::new(args.state.as_deref());
    let loaded = moat_config::load(&args.config)
        .or_else(|problems| last_good.load_instead(&args.config, problems))?;
    raise_descriptor_limit();
    let inherited = if args.successor { Some(upgrade::inherit()?) } else { None };
    let mut supervisor = supervisor::Supervisor::new(&args.config, loaded, inherited, last_good)
        .context("the gateway cannot be started")?;
    supervisor.run()?;
    Ok(ExitCode::SUCCESS)
}

/// Ten thousand connections need as many descriptors: take what the hard limit allows.
fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit of open descriptors could not be raised");
    }
}
