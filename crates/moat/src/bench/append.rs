//! `moat bench append`: how fast records become durable.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use moat_auditor::bench::{Row, measure};

use super::{Folder, machine};

pub(crate) fn run(dir: &Path, seconds: u64) -> Result<Vec<Row>> {
    let folder = Folder::make(dir)?;
    machine::describe(&folder.0)?;
    eprintln!("append     raw O_DSYNC writes and the log's own, about {} s", 8 * seconds);
    Ok(measure(&folder.0, Duration::from_secs(seconds))?)
}
