//! The source of a library: a crate that cargo fetches, held to a hash that is written here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::shell;

/// A crate with the source in it.
pub(super) struct Source {
    pub(super) crate_name: &'static str,
    pub(super) crate_version: &'static str,
    /// SHA-256 of the crate's file, as the registry has it.
    pub(super) sha256: &'static str,
    /// The folder of the source within the crate.
    pub(super) folder: &'static str,
}

/// What cargo writes beside the files of a crate that it vendors.
#[derive(Deserialize)]
struct Checksum {
    /// SHA-256 of the `.crate` file.
    package: Option<String>,
}

impl Source {
    /// Name and version, as folders are named by them.
    pub(super) fn name(&self) -> String {
        format!("{}-{}", self.crate_name, self.crate_version)
    }

    /// Fetches it by cargo, from a mirror if the person has set one, into the folder `work`. Gives
    /// the folder of the source.
    pub(super) fn fetch(&self, work: &Path) -> Result<PathBuf> {
        let manifest = format!(
            "[package]\nname = \"source\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[lib]\n\
             path = \"lib.rs\"\n\n[dependencies]\n{} = \"={}\"\n\n[workspace]\n",
            self.crate_name, self.crate_version
        );
        fs::write(work.join("Cargo.toml"), manifest)?;
        fs::write(work.join("lib.rs"), "")?;
        let args = ["vendor", "--quiet", "--versioned-dirs", "--respect-source-config", "vendor"];
        let mut vendor = shell::cargo(&args);
        shell::run(vendor.current_dir(work).stdout(Stdio::null()))?;
        // The version may have a part behind `+`.
        let is_ours = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.split('+').next() == Some(self.name().as_str())
        };
        let crates = fs::read_dir(work.join("vendor"))?.filter_map(Result::ok);
        let mut crates = crates.map(|entry| entry.path());
        let package = crates.find(is_ours).with_context(|| format!("no {}", self.name()))?;
        self.check(&package)?;
        let source = package.join(self.folder);
        if !source.is_dir() {
            bail!("{} holds no source", self.name());
        }
        Ok(source)
    }

    /// Whether the crate in this folder is the one that is meant. Cargo has compared what it fetched
    /// with this number; the number itself came from the registry.
    fn check(&self, package: &Path) -> Result<()> {
        let path = package.join(".cargo-checksum.json");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let checksum: Checksum = serde_json::from_str(&text)?;
        let found = checksum.package.unwrap_or_else(|| "none".to_owned());
        if found != self.sha256 {
            let (name, wanted) = (self.name(), self.sha256);
            bail!("{name} is another crate than it was: its SHA-256 is {found}, not {wanted}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::ALL;

    #[test]
    fn a_crate_of_another_hash_or_of_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let [library, other] = &ALL;
        let check = |text: &str| {
            std::fs::write(folder.path().join(".cargo-checksum.json"), text).unwrap();
            library.source.check(folder.path()).is_ok()
        };
        let named = |sha256| format!("{{\"files\":{{}},\"package\":\"{sha256}\"}}");
        assert!(check(&named(library.source.sha256)));
        assert!(!check(&named(other.source.sha256)));
        assert!(!check("{\"files\":{}}") && !check("{\"files\":{},\"package\":null}"));
        assert!(library.source.check(&folder.path().join("none")).is_err());
    }
}
