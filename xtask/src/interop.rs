//! `cargo xtask interop`: RFC 8998 against another implementation.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{progress, shell};

/// The crate that holds the source of OpenSSL, and what it calls that OpenSSL.
const CRATE: &str = "openssl-src";
const CRATE_VERSION: &str = "400.0.2";
const OPENSSL: &str = "4.0.3";
/// No engines, modules or documentation, and no file of the machine is read.
const CONFIGURE: [&str; 8] = [
    "./Configure",
    "--prefix=/nonexistent",
    "--openssldir=/nonexistent",
    "no-shared",
    "no-tests",
    "no-docs",
    "no-module",
    "no-legacy",
];

/// Make handshakes with OpenSSL 4, in both directions.
///
/// Builds OpenSSL from crate openssl-src at the version written in xtask/src/interop.rs, once, into
/// $XDG_CACHE_HOME/moat or ~/.cache/moat: about five minutes on two cores. Then runs those tests of
/// moat-tls that need it. Needs perl, make and a C compiler.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// The task.
pub(crate) fn run(_: &Args) -> Result<()> {
    let mut steps = progress::Steps::new(1);
    let done = steps.step("interop", check);
    steps.summary();
    done
}

/// The work, also of `ci`. Returns what was used.
pub(crate) fn check() -> Result<String> {
    let program = openssl()?;
    let args = ["test", "-p", "moat-tls", "--test", "openssl", "--locked", "--", "--ignored"];
    shell::run(shell::cargo(&args).env("MOAT_OPENSSL", &program))?;
    Ok(format!("OpenSSL {OPENSSL} in {}", program.display()))
}

/// The program, built if it is not there yet. The folder is named by the crate's version, and gets
/// its name only when all is done.
fn openssl() -> Result<PathBuf> {
    let cache = cache_dir()?;
    let folder = cache.join(format!("{CRATE}-{CRATE_VERSION}"));
    let program = folder.join("openssl");
    if is_right(&program) {
        return Ok(program);
    }
    eprintln!("OpenSSL {OPENSSL} is missing; building it takes about five minutes, once");
    let work = cache.join(format!("{CRATE}-{CRATE_VERSION}.{}", std::process::id()));
    fs::create_dir_all(&work).with_context(|| work.display().to_string())?;
    let built = build(&work);
    if let Ok(made) = &built {
        fs::create_dir_all(&folder)?;
        fs::copy(made, folder.join("openssl.new"))?;
        fs::rename(folder.join("openssl.new"), &program)?;
    }
    let _ = fs::remove_dir_all(&work);
    built?;
    if !is_right(&program) {
        bail!("{} is not OpenSSL {OPENSSL}", program.display());
    }
    Ok(program)
}

/// Fetches the source by cargo, which checks it, and builds the program.
fn build(work: &Path) -> Result<PathBuf> {
    let manifest = format!(
        "[package]\nname = \"source\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[lib]\n\
         path = \"lib.rs\"\n\n[dependencies]\n{CRATE} = \"={CRATE_VERSION}\"\n\n[workspace]\n"
    );
    fs::write(work.join("Cargo.toml"), manifest)?;
    fs::write(work.join("lib.rs"), "")?;
    let mut vendor = shell::cargo(&["vendor", "--quiet", "--versioned-dirs", "vendor"]);
    shell::run(vendor.current_dir(work).stdout(Stdio::null()))?;
    let crates = fs::read_dir(work.join("vendor"))?.filter_map(Result::ok);
    let mut crates = crates.map(|entry| entry.path().join("openssl"));
    let source = crates.find(|path| path.is_dir()).context("the crate holds no source")?;
    let log = fs::File::create(work.join("log"))?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from).to_string();
    for (program, args) in [
        ("perl", &CONFIGURE[..]),
        ("make", &["-j", &cores, "build_generated"]),
        ("make", &["-j", &cores, "apps/openssl"]),
    ] {
        let mut command = Command::new(program);
        command.args(args).current_dir(&source).stdout(log.try_clone()?).stderr(log.try_clone()?);
        if let Err(error) = shell::run(&mut command) {
            let text = fs::read_to_string(work.join("log")).unwrap_or_default();
            let tail: Vec<&str> = text.lines().rev().take(10).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            bail!("{error:#}\n{}", tail.join("\n"));
        }
    }
    Ok(source.join("apps").join("openssl"))
}

fn is_right(program: &Path) -> bool {
    let told = Command::new(program).arg("version").output();
    told.is_ok_and(|told| {
        String::from_utf8_lossy(&told.stdout).starts_with(&format!("OpenSSL {OPENSSL} "))
    })
}

fn cache_dir() -> Result<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    Ok(cache.or_else(home).context("neither XDG_CACHE_HOME nor HOME is set")?.join("moat"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn a_program_that_is_not_there_is_not_the_right_one() {
        assert!(!super::is_right(Path::new("/nowhere/openssl")));
    }
}
