//! The last configuration that worked, kept over a restart: a start that finds no good one on the disk
//! goes on with it and says so, instead of not starting at all.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use moat_config::{Kept, Loaded, Outline, Problems};
use moat_model::code::system::LAST_GOOD;

const FILE: &str = "last-good-configuration";
/// Largest that is read, in bytes.
const BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Where it is kept, if it is.
#[derive(Clone)]
pub(super) struct LastGood {
    folder: Option<PathBuf>,
}

impl LastGood {
    pub(super) fn new(folder: Option<&Path>) -> LastGood {
        LastGood { folder: folder.map(Path::to_path_buf) }
    }

    /// Keeps a configuration that is in force.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn keep(&self, outline: &Outline) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let bytes = postcard::to_stdvec(outline.kept())?;
        let (path, fresh) = (folder.join(FILE), folder.join(format!("{FILE}.new")));
        let written = || -> std::io::Result<()> {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            let mut options = fs::File::options();
            let mut file =
                options.write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            fs::File::open(folder)?.sync_all()
        };
        written().with_context(|| path.display().to_string())
    }

    fn kept(&self) -> Option<Kept> {
        let path = self.folder.as_ref()?.join(FILE);
        let is_small = fs::metadata(&path).ok()?.len() <= BYTES_MAX;
        let bytes = fs::read(&path).ok().filter(|_| is_small)?;
        postcard::from_bytes(&bytes).ok()
    }

    /// What was kept, in place of what stands on the disk.
    pub(super) fn load(&self, path: &Path) -> Option<Loaded> {
        let loaded = moat_config::load_kept(path, &self.kept()?);
        loaded.inspect_err(|problems| tracing::error!(%problems, "nor does the last good")).ok()
    }

    /// What stands on the disk, or else what was kept.
    ///
    /// # Errors
    /// What is wrong with what stands on the disk, if nothing was kept.
    pub(super) fn load_instead(&self, path: &Path, problems: Problems) -> Result<Loaded, Problems> {
        let Some(loaded) = self.load(path) else { return Err(problems) };
        let code = LAST_GOOD.id;
        tracing::error!(code, %problems, "{}", LAST_GOOD.en.title);
        Ok(loaded)
    }
}
