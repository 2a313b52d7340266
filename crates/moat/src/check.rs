//! `moat check` and `moat schema`.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use moat_gateway::Generation;

use crate::cli::CheckArgs;

/// Longest file that may be the spec of a dialect, in bytes.
const SPEC_BYTES_MAX: u64 = 16 * 1024 * 1024;

pub(crate) fn run(args: &CheckArgs) -> Result<ExitCode> {
    if is_spec(&args.config) {
        let spec = crate::message::check_file(&args.config)?;
        let (name, fields) = (spec.name(), spec.all().count());
        println!("{}: good, spec {name}, {fields} fields", args.config.display());
        return Ok(ExitCode::SUCCESS);
    }
    let loaded = moat_config::load(&args.config)?;
    let (routes, digest) = (loaded.config.hot.routes.len(), loaded.config.digest.clone());
    for warning in &loaded.warnings {
        eprint!("warning: {}", warning.render(""));
    }
    // Compiles everything as the gateway would, and throws it away.
    let now_s = u64::try_from(crate::ca::now_s()).unwrap_or(0);
    Generation::compile(loaded.config.hot, 0, 1, now_s)
        .with_context(|| format!("{} does not work", args.config.display()))?;
    println!("{}: good, {routes} routes, sha256:{digest}", args.config.display());
    Ok(ExitCode::SUCCESS)
}

/// Whether the first key of the file is `spec`. What cannot be read is left to the configuration's
/// reader, which says why.
fn is_spec(path: &Path) -> bool {
    let is_short = |meta: fs::Metadata| meta.is_file() && meta.len() <= SPEC_BYTES_MAX;
    if !fs::metadata(path).is_ok_and(is_short) {
        return false;
    }
    let Ok(text) = fs::read_to_string(path) else { return false };
    let first = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with(['#', '-']));
    first.is_some_and(|line| line.starts_with("spec:"))
}

pub(crate) fn schema() -> Result<ExitCode> {
    println!("{}", moat_config::schema_json()?);
    Ok(ExitCode::SUCCESS)
}
