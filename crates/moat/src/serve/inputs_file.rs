//! Files with the inputs of decisions, beside the log: opened here, since the gateway opens no file,
//! one after the other, and removed when their time or their room is over.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use moat_config::ReplaySettings;
use moat_gateway::messages::ToGateway;
use moat_model::clock::{Clock, System};

use super::supervisor::Supervisor;

/// Folder beside that of the log. A file is named by when it was begun, in milliseconds since 1970.
pub(crate) const FOLDER: &str = "replay-inputs";
pub(crate) const ENDING: &str = "inputs";
/// Size at which the next file is begun, in bytes.
const FILE_BYTES: u64 = 64 * 1024 * 1024;
/// Age at which the next file is begun, in milliseconds: what is removed goes by whole files.
const FILE_MS: u64 = 24 * 3_600 * 1_000;
const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// The file that is written.
pub(crate) struct Inputs {
    dir: PathBuf,
    settings: ReplaySettings,
    current: Option<(File, u64)>,
}

impl Inputs {
    pub(crate) fn new(log: &Path, settings: Option<ReplaySettings>) -> Option<Inputs> {
        let dir = log.parent().unwrap_or(log).join(FOLDER);
        settings.map(|settings| Inputs { dir, settings, current: None })
    }

    /// Begins the next file.
    fn begin(&mut self, now_ms: u64) -> Result<ToGateway> {
        let path = self.dir.join(format!("{now_ms:013}.{ENDING}"));
        let opened = || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
            File::options().append(true).create(true).mode(0o600).open(&path)
        };
        let file = opened().with_context(|| path.display().to_string())?;
        self.current = Some((file, now_ms));
        let ReplaySettings { keeps_headers, keeps_person, .. } = self.settings;
        Ok(ToGateway::Inputs { keeps_headers, keeps_person })
    }

    fn is_over(&self, now_ms: u64) -> bool {
        let Some((file, began_ms)) = &self.current else { return false };
        let is_long = file.metadata().is_ok_and(|metadata| metadata.len() >= FILE_BYTES);
        is_long || now_ms.saturating_sub(*began_ms) >= FILE_MS
    }

    /// Removes what is too old or too much; never the file that is written.
    fn clear(&self, now_ms: u64) -> Result<()> {
        let files = files(&self.dir)?;
        let mut bytes: u64 = files.iter().map(|file| file.bytes).sum();
        for (file, next) in files.iter().zip(files.iter().skip(1)) {
            // It ended where the next began.
            let age_ms = now_ms.saturating_sub(next.began_ms);
            let is_old = age_ms > self.settings.days * DAY_MS;
            if !is_old && bytes <= self.settings.bytes_max {
                break;
            }
            fs::remove_file(&file.path).with_context(|| file.path.display().to_string())?;
            bytes = bytes.saturating_sub(file.bytes);
        }
        Ok(())
    }
}

/// One file with inputs.
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) began_ms: u64,
    bytes: u64,
}

/// The files in a folder, the oldest first.
pub(crate) fn files(dir: &Path) -> Result<Vec<Found>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|name| name.to_str());
        let began_ms = name.and_then(|name| name.parse().ok());
        let Some(began_ms) = began_ms.filter(|_| path.extension().is_some_and(|e| e == ENDING))
        else {
            continue;
        };
        let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        files.push(Found { path, began_ms, bytes });
    }
    files.sort_by_key(|file| file.began_ms);
    Ok(files)
}

impl Supervisor {
    /// Hands a new file over, if inputs are kept.
    pub(super) fn link_inputs(&mut self) -> Result<()> {
        let now_ms = System::new().wall_ns() / 1_000_000;
        let Some(inputs) = &mut self.inputs else { return Ok(()) };
        let message = inputs.begin(now_ms)?;
        if let Some((file, _)) = &inputs.current {
            self.gateway.send(&message, &[file.as_fd()]);
        }
        Ok(())
    }

    /// Begins the next file where the present one is long or old enough.
    pub(super) fn turn_inputs(&mut self) {
        let now_ms = System::new().wall_ns() / 1_000_000;
        if !self.inputs.as_ref().is_some_and(|inputs| inputs.is_over(now_ms)) {
            return;
        }
        let turned = self.link_inputs();
        let cleared = self.inputs.as_ref().map_or(Ok(()), |inputs| inputs.clear(now_ms));
        if let Err(error) = turned.and(cleared) {
            tracing::error!(%error, "inputs of decisions are not kept as they should be");
        }
    }
}

/// How long ago a text such as `24h`, `30m` or `7d` says.
pub(crate) fn age(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).unwrap_or((text, ""));
    let number: u64 = number.parse().map_err(|_| "write a number and s, m, h or d".to_owned())?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err("write a number and s, m, h or d: 24h".to_owned()),
    };
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(|| "too long ago".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_or_too_much_goes_and_what_is_written_stays() {
        let folder = tempfile::tempdir().unwrap();
        let settings = |days, bytes_max| ReplaySettings {
            days,
            bytes_max,
            keeps_headers: false,
            keeps_person: false,
        };
        let mut inputs =
            Inputs::new(&folder.path().join("audit"), Some(settings(2, 1_000))).unwrap();
        for day in 1..=5 {
            inputs.begin(day * DAY_MS).unwrap();
            let (file, _) = inputs.current.as_mut().unwrap();
            std::io::Write::write_all(file, &[b'x'; 100]).unwrap();
        }
        let days = |inputs: &Inputs| -> Vec<u64> {
            files(&inputs.dir).unwrap().iter().map(|file| file.began_ms / DAY_MS).collect()
        };
        inputs.clear(5 * DAY_MS).unwrap();
        assert_eq!(days(&inputs), [2, 3, 4, 5], "the first one ended over two days ago");
        inputs.settings = settings(90, 250);
        inputs.clear(5 * DAY_MS + 1).unwrap();
        assert_eq!(days(&inputs), [4, 5]);
        inputs.settings = settings(1, 0);
        inputs.clear(100 * DAY_MS).unwrap();
        assert_eq!(days(&inputs), [5], "what is written is never removed");
        assert!(inputs.is_over(6 * DAY_MS) && !inputs.is_over(5 * DAY_MS + 1));
    }

    #[test]
    fn ages_have_units() {
        assert_eq!(age("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(age("90s"), Ok(Duration::from_secs(90)));
        for bad in ["", "h", "24", "24x", "-1h", "99999999999999999999d"] {
            assert!(age(bad).is_err(), "{bad}");
        }
    }
}
