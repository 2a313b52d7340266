//! PyPI's tongsuopy in an environment of its own: a libssl of another branch of Tongsuo.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{libraries, shell};

pub(crate) const VERSION: &str = "1.0.1";
/// SHA-256 of its files for x86-64 Linux and for macOS; there are no others.
const HASHES: [&str; 2] = [
    "daabaf13e113af1e1ffca1b5e321da40273b64a0359f9c1b1146f1d9de06ccda",
    "30efce7c20c4e3d243202412ef732109c427aad0b1502adf330ec38f48783c68",
];
/// Written last; names what was installed.
const STAMP: &str = "installed";

/// The interpreter of the environment, which is made if it is not there yet.
pub(crate) fn python() -> Result<PathBuf> {
    let folder = libraries::cache_dir()?.join(format!("tongsuopy-{VERSION}"));
    let python = folder.join("bin/python");
    let stamp = HASHES.join("\n");
    let is_made = fs::read_to_string(folder.join(STAMP)).is_ok_and(|old| old == stamp);
    if is_made && shell::is_there(&python.to_string_lossy(), "--version") {
        return Ok(python);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    make(&folder)?;
    fs::write(folder.join(STAMP), stamp)?;
    Ok(python)
}

fn make(folder: &Path) -> Result<()> {
    let parts = Command::new("python3").args(["-c", "import venv, ensurepip"]).output();
    if !parts.is_ok_and(|parts| parts.status.success()) {
        bail!(
            "python3 or its module venv is missing. On Debian or Ubuntu, as root: \
             apt-get install --yes --no-install-recommends python3-venv"
        );
    }
    shell::run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
    let wanted: String = HASHES.iter().map(|hash| format!(" --hash=sha256:{hash}")).collect();
    let list = folder.join("requirements.txt");
    fs::write(&list, format!("tongsuopy=={VERSION}{wanted}\n"))?;
    // Its module wants cffi, which is not needed: the library in it is called by ctypes.
    let words = ["-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"];
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(words).args(["--only-binary", ":all:", "--require-hashes", "--requirement"]);
    shell::run(pip.arg(&list)).with_context(|| format!("tongsuopy {VERSION} cannot be installed"))
}
