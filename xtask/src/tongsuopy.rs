//! PyPI's tongsuopy in an environment of its own: a libssl of another branch of Tongsuo.

use std::env;
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
/// For these there is a file; another machine has none to install.
const MACHINES: [(&str, &str); 3] =
    [("linux", "x86_64"), ("macos", "x86_64"), ("macos", "aarch64")];
/// Ends well if the library is there that the tests load, in the way that they do.
const IMPORT: &str = "import ctypes, importlib.util, pathlib
folder = pathlib.Path(importlib.util.find_spec('tongsuopy').origin).parent
(path,) = (folder / 'backends').glob('_tongsuo*.so')
ctypes.CDLL(str(path))";
/// Written last; names what was installed.
const STAMP: &str = "installed";

/// The interpreter of the environment, which is made if it is not there yet.
pub(crate) fn python() -> Result<PathBuf> {
    let folder = libraries::cache_dir()?.join(format!("tongsuopy-{VERSION}"));
    let python = folder.join("bin/python");
    let stamp = HASHES.join("\n");
    let is_made = fs::read_to_string(folder.join(STAMP)).is_ok_and(|old| old == stamp);
    if is_made && imports(&python) {
        return Ok(python);
    }
    check_machine(env::consts::OS, env::consts::ARCH)?;
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    make(&folder)?;
    if !imports(&python) {
        bail!("tongsuopy {VERSION} is installed in {} but does not load", folder.display());
    }
    fs::write(folder.join(STAMP), stamp)?;
    Ok(python)
}

/// Whether this interpreter loads the library.
fn imports(python: &Path) -> bool {
    let told = Command::new(python).args(["-c", IMPORT]).output();
    told.is_ok_and(|told| told.status.success())
}

fn check_machine(system: &str, processor: &str) -> Result<()> {
    if !MACHINES.contains(&(system, processor)) {
        bail!(
            "tongsuopy {VERSION} has no build for this machine ({system}, {processor}); \
             run `cargo xtask interop` on x86-64 Linux or on macOS"
        );
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn a_machine_without_a_build_is_told_before_anything_is_installed() {
        assert!(super::check_machine("linux", "x86_64").is_ok());
        let told = super::check_machine("linux", "aarch64").unwrap_err().to_string();
        assert!(told.contains("no build for this machine"), "{told}");
    }

    #[test]
    fn an_interpreter_that_is_missing_or_without_the_library_is_not_ready() {
        assert!(!super::imports(Path::new("/nowhere/python")));
        // Ends badly whatever it is asked.
        assert!(!super::imports(Path::new("false")));
    }
}
