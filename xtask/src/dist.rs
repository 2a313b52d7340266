//! `cargo xtask dist`: the one binary that is shipped.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::{elf, progress, shell};

/// Build dist/moat: one static binary that needs nothing but a kernel.
///
/// The libc is linked in, and the program is loaded at a random address (static-pie). Whether it
/// is so is read from the file itself, so that a dependency that brings a shared library back is
/// noticed here. Writes dist/SHA256SUMS beside it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Package whose binary is built; dist/SHA256SUMS then names this one
    #[arg(long, value_name = "NAME", default_value = "moat")]
    package: String,
}

/// The libc goes into the program.
const FLAGS: [&str; 1] = ["-Ctarget-feature=+crt-static"];

/// The task.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut steps = progress::Steps::new(3);
    let done = make(args, &mut steps);
    steps.summary();
    done
}

fn make(args: &Args, steps: &mut progress::Steps) -> Result<()> {
    let mut built = PathBuf::new();
    steps.step("build", || {
        built = build(args)?;
        Ok(built.display().to_string())
    })?;
    steps.step("linkage", || is_static(&built))?;
    steps.step("copy", || copy(&built, &args.package))
}

/// Builds in a folder of its own, because the flags would rebuild everything else.
fn build(args: &Args) -> Result<PathBuf> {
    let host = shell::host_triple()?;
    let folder = shell::target_dir().join("dist");
    // With a target named, macros are built without the flags; a static macro cannot be loaded.
    let mut cargo = shell::cargo_with_flags(&["build", "--release", "--locked"], &FLAGS);
    cargo.args(["--target", &host, "--package", &args.package, "--bin", &args.package]);
    shell::run(cargo.arg("--target-dir").arg(&folder))?;
    Ok(folder.join(host).join("release").join(&args.package))
}

/// Reads from the file that no other file is needed to run it.
fn is_static(program: &Path) -> Result<String> {
    let file = fs::read(program).with_context(|| program.display().to_string())?;
    let found = elf::linkage(&file).with_context(|| program.display().to_string())?;
    if let Some(interpreter) = found.interpreter {
        bail!("asks for the loader {interpreter}");
    }
    if found.libraries > 0 {
        bail!("asks for {} shared libraries", found.libraries);
    }
    if !found.pie {
        bail!("is loaded at a fixed address");
    }
    Ok("static-pie, no loader, no shared library".to_owned())
}

/// Puts the program and its digest into `dist/`.
fn copy(program: &Path, name: &str) -> Result<String> {
    let folder = shell::root().join("dist");
    fs::create_dir_all(&folder)?;
    let file = fs::read(program)?;
    let path = folder.join(name);
    fs::write(&path, &file)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    let digest = HEXLOWER.encode(&Sha256::digest(&file));
    fs::write(folder.join("SHA256SUMS"), format!("{digest}  {name}\n"))?;
    println!("dist/{name}  {} bytes  sha256:{digest}", file.len());
    Ok(format!("dist/{name}, {} KiB", file.len() / 1024))
}
