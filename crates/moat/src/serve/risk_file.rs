//! The file of risk profiles beside the log: opened here, since the gateway opens no file, and handed
//! over with each start.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};

use anyhow::{Context, Result};
use moat_gateway::messages::ToGateway;

use super::supervisor::Supervisor;

/// Folder beside that of the log, and the file in it.
const FOLDER: &str = "risk-state";
const PROFILES: &str = "profiles";

impl Supervisor {
    /// Hands the file over, if behaviour is to be remembered.
    pub(super) fn link_risk(&self) -> Result<()> {
        let subjects = usize::try_from(self.restart.risk_subjects_max)?;
        if subjects == 0 {
            return Ok(());
        }
        let log = &self.restart.audit.dir;
        let dir = log.parent().unwrap_or(log).join(FOLDER);
        let path = dir.join(PROFILES);
        let opened = || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
            let mut options = fs::File::options();
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)
        };
        let file = opened().with_context(|| path.display().to_string())?;
        self.gateway.send(&ToGateway::Risk { subjects }, &[file.as_fd()]);
        Ok(())
    }
}
