//! `moat audit prove | export | keygen | vkey`: what others need to verify the log.

use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use moat_audit::entries::each_leaf;
use moat_audit::prove::{ProveError, prove};
use moat_audit::store::Dir;
use moat_audit::tiles::{CHECKPOINT_FILE, Stored, checkpoint, witnessed};
use moat_auditor::VKEY_FILE;
use moat_tlog::growth::{bundles, tiles};
use moat_tlog::key::{Algorithm, VerifierKey};
use moat_tlog::policy::Policy;
use moat_tlog::tile::put_entry;
use moat_tlog::tree::TileReader as _;

use crate::exit::TAMPERED;

/// Writes the proof of one record, and its bytes if they are asked for.
pub(crate) fn write_proof(
    dir: &Path,
    seq: u64,
    out: Option<&Path>,
    entry: Option<&Path>,
) -> Result<ExitCode> {
    let proven = match prove(&Dir::new(dir), seq) {
        Ok(proven) => proven,
        Err(error @ (ProveError::Contradiction | ProveError::Checkpoint(_))) => {
            let code = error.code().map_or("", |code| code.id);
            eprintln!("moat: {code} record {seq}: {error}");
            return Ok(ExitCode::from(TAMPERED));
        }
        Err(error) => return Err(error).with_context(|| format!("record {seq} is not proven")),
    };
    let name = PathBuf::from(format!("record-{seq}.tlog-proof"));
    let out = out.unwrap_or(&name);
    if out == Path::new("-") {
        std::io::stdout().write_all(proven.proof.to_string().as_bytes())?;
    } else {
        write(out, proven.proof.to_string().as_bytes())?;
        let size = proven.proof.signed().checkpoint().size();
        println!("record {seq} is in the signed checkpoint of {size}: {}", out.display());
    }
    if let Some(entry) = entry {
        write(entry, &proven.entry)?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).with_context(|| path.display().to_string())
}

/// Writes the tree that the last checkpoint covers, with the records in bundles, as tlog-tiles lays
/// it out.
pub(crate) fn export(dir: &Path, out: &Path) -> Result<ExitCode> {
    let store = Dir::new(dir);
    let signed = checkpoint(&store)?.context("the log has no checkpoint; nothing is signed")?;
    let signed = signed.map_err(|error| anyhow!("{CHECKPOINT_FILE}: {error}"))?;
    // What witnesses have cosigned is what others accept; a little shorter than the last one.
    let signed = witnessed(&store)?.and_then(Result::ok).unwrap_or(signed);
    let size = signed.checkpoint().size();
    std::fs::create_dir(out)
        .with_context(|| format!("{} must be a folder that is not there yet", out.display()))?;
    let put = |path: &str, bytes: &[u8]| -> Result<()> {
        let path = out.join(path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        write(&path, bytes)
    };
    let mut reader = Stored::new(&store, size);
    for tile in tiles(0, size)? {
        let bytes = reader.read(tile).with_context(|| tile.path())?;
        put(&tile.path(), &bytes)?;
    }
    for bundle in bundles(0, size)? {
        let first = bundle.tile().first_leaf();
        let (mut bytes, mut is_long) = (Vec::new(), false);
        let end = bundle.tile().end_leaf();
        let next = each_leaf(&store, first..end, |_, leaf| {
            is_long |= put_entry(&mut bytes, leaf).is_err();
            ControlFlow::Continue(())
        })?;
        if is_long || next != end {
            bail!("record {next} cannot be read; `moat audit verify` says why");
        }
        put(&bundle.path(), &bytes)?;
    }
    // Last, so that a tree that was not finished has none.
    put(CHECKPOINT_FILE, signed.to_string().as_bytes())?;
    println!("{size} records of {} in {}", signed.checkpoint().origin(), out.display());
    Ok(ExitCode::SUCCESS)
}

/// Makes a key for a log or a witness and prints its public half.
pub(crate) fn keygen(origin: &str, out: &Path, algorithm: Algorithm) -> Result<ExitCode> {
    let key = moat_auditor::make_log_key(out, origin, algorithm)
        .with_context(|| format!("no key was made in {}", out.display()))?;
    println!("{key}");
    Ok(ExitCode::SUCCESS)
}

/// Prints the verifier keys of a private key, or those that sign a log now.
pub(crate) fn vkey(dir: &Path, key: Option<&Path>) -> Result<ExitCode> {
    let read =
        |path: &Path| std::fs::read_to_string(path).with_context(|| path.display().to_string());
    match key {
        Some(path) => {
            let text = zeroize::Zeroizing::new(read(path)?);
            let signer = moat_auditor::log_signer(&text)
                .with_context(|| format!("{} is no private key of a log", path.display()))?;
            println!("{}", signer.key());
        }
        None => print!("{}", read(&dir.join(VKEY_FILE))?),
    }
    Ok(ExitCode::SUCCESS)
}

/// Whom to believe, from a policy file or from verifier keys.
pub(crate) fn policy(file: Option<&Path>, keys: &[String]) -> Result<Option<Policy>> {
    match (file, keys) {
        (None, []) => Ok(None),
        (Some(file), _) => {
            let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
            let policy = Policy::parse(&bytes).with_context(|| file.display().to_string())?;
            Ok(Some(policy))
        }
        (None, keys) => {
            let keys = keys
                .iter()
                .map(|key| VerifierKey::parse(key).with_context(|| format!("--key {key}")));
            Ok(Some(Policy::k_of_n(&keys.collect::<Result<Vec<_>>>()?, &[], 0)?))
        }
    }
}
