//! `cargo xtask dist`: the one binary that is shipped.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::{elf, progress, sbom, shell};

/// Build dist/moat: one static binary that needs nothing but a kernel.
///
/// The libc is linked in, and the program is loaded at a random address (static-pie). Whether it
/// is so is read from the file itself, so that a dependency that brings a shared library back is
/// noticed here. Beside it come its list of components (CycloneDX) and dist/SHA256SUMS of both, with
/// --sign signed.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Package whose binary is built; dist/SHA256SUMS then names this one
    #[arg(long, value_name = "NAME", default_value = "moat")]
    package: String,
    /// Private key of OpenSSH that signs dist/SHA256SUMS, into dist/SHA256SUMS.sig
    #[arg(long, value_name = "FILE")]
    sign: Option<PathBuf>,
}

/// What a signature is for (`ssh-keygen -Y verify -n`).
const NAMESPACE: &str = "moat-release";

/// The libc goes into the program.
const FLAGS: [&str; 1] = ["-Ctarget-feature=+crt-static"];

/// The task.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut steps = progress::Steps::new(4 + usize::from(args.sign.is_some()));
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
    steps.step("components", || {
        let out = PathBuf::from(format!("dist/{}.cdx.json", args.package));
        sbom::write(&args.package, &out)
    })?;
    steps.step("copy", || copy(&built, &args.package))?;
    match &args.sign {
        Some(key) => steps.step("sign", || sign(key, &shell::root().join("dist/SHA256SUMS"))),
        None => Ok(()),
    }
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
    let components = format!("{name}.cdx.json");
    let of_components = HEXLOWER.encode(&Sha256::digest(fs::read(folder.join(&components))?));
    let sums = format!("{digest}  {name}\n{of_components}  {components}\n");
    fs::write(folder.join("SHA256SUMS"), sums)?;
    println!("dist/{name}  {} bytes  sha256:{digest}", file.len());
    Ok(format!("dist/{name}, {} KiB", file.len() / 1024))
}

/// Signs a file as OpenSSH does (PROTOCOL.sshsig).
fn sign(key: &Path, file: &Path) -> Result<String> {
    // One that is there would be asked about.
    let signature = file.with_extension("sig");
    if signature.exists() {
        fs::remove_file(&signature)?;
    }
    let args = ["-Y", "sign", "-n", NAMESPACE, "-f"];
    shell::run(shell::command("ssh-keygen").args(args).arg(key).arg(file))?;
    Ok(signature.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_signed_verifies_and_what_was_changed_does_not() {
        let is_missing = shell::command("ssh-keygen").arg("-?").output().is_err();
        if is_missing && std::env::var_os("CI").is_none() {
            eprintln!("SKIPPED: ssh-keygen is missing");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (key, file) = (dir.path().join("key"), dir.path().join("SHA256SUMS"));
        let make = ["-q", "-t", "ed25519", "-N", "", "-f"];
        shell::run(shell::command("ssh-keygen").args(make).arg(&key)).unwrap();
        fs::write(&file, "00  moat\n").unwrap();
        sign(&key, &file).unwrap();
        let public = fs::read_to_string(key.with_extension("pub")).unwrap();
        let signers = dir.path().join("signers");
        fs::write(&signers, format!("moat {public}")).unwrap();
        let verify = |text: &str| {
            fs::write(&file, text).unwrap();
            let mut command = shell::command("ssh-keygen");
            command.args(["-Y", "verify", "-I", "moat", "-n", NAMESPACE, "-f"]).arg(&signers);
            command.arg("-s").arg(dir.path().join("SHA256SUMS.sig"));
            shell::run(command.stdin(fs::File::open(&file).unwrap())).is_ok()
        };
        assert!(verify("00  moat\n"));
        assert!(!verify("01  moat\n"));
    }
}
