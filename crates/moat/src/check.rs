//! `moat check` and `moat schema`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use moat_gateway::Generation;

use crate::cli::CheckArgs;

pub(crate) fn run(args: &CheckArgs) -> Result<ExitCode> {
    let loaded = moat_config::load(&args.config)?;
    let (routes, digest) = (loaded.config.hot.routes.len(), loaded.config.digest.clone());
    for warning in &loaded.warnings {
        eprint!("warning: {}", warning.render(""));
    }
    // Compiles everything as the gateway would, and throws it away.
    Generation::compile(loaded.config.hot, 0, 1)
        .with_context(|| format!("{} does not work", args.config.display()))?;
    println!("{}: good, {routes} routes, sha256:{digest}", args.config.display());
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn schema() -> Result<ExitCode> {
    println!("{}", moat_config::schema_json()?);
    Ok(ExitCode::SUCCESS)
}
