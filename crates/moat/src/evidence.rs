//! `moat audit prove | export | keygen | vkey`: what others need to verify the log.

use std::io::Write as _;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use moat_audit::compare::{Compared, Fork, compare};
use moat_audit::entries::{each_leaf, leaf, removed_ranges};
use moat_audit::prove::{ProveError, prove};
use moat_audit::store::Dir;
use moat_audit::tiles::{CHECKPOINT_FILE, Stored, checkpoint, witnessed};
use moat_auditor::{REASON_BYTES_MAX, RESUME_FILE, VKEY_FILE};
use moat_tlog::growth::{bundles, tiles};
use moat_tlog::key::{Algorithm, VerifierKey};
use moat_tlog::policy::Policy;
use moat_tlog::tile::{Bundle, put_entry};
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
        Err(error) => {
            let code = error.code().map_or_else(String::new, |code| format!("{} ", code.id));
            return Err(error).with_context(|| format!("{code}record {seq} is not proven"));
        }
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
    if let Some(path) = entry {
        let text = "the record was removed by retention; the proof is for whoever has kept it";
        write(path, proven.entry.as_deref().context(text)?)?;
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
    for run in bundle_runs(&store, size)? {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        let range = first.tile().first_leaf()..last.tile().end_leaf();
        let (end, mut bytes, mut written) = (range.end, Vec::new(), Ok(()));
        let mut run = run.iter().peekable();
        // One pass over the segments; each leaf goes to the bundle that is open.
        let next = each_leaf(&store, range, |seq, leaf| {
            written = put_entry(&mut bytes, leaf).map_err(anyhow::Error::from);
            if let Some(bundle) = run.next_if(|bundle| bundle.tile().end_leaf() == seq + 1) {
                let whole = std::mem::take(&mut bytes);
                written = std::mem::replace(&mut written, Ok(())).and(put(&bundle.path(), &whole));
            }
            if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        written.with_context(|| format!("record {next}"))?;
        if next != end {
            bail!("record {next} cannot be read; `moat audit verify` says why");
        }
    }
    // Last, so that a tree that was not finished has none.
    put(CHECKPOINT_FILE, signed.to_string().as_bytes())?;
    println!("{size} records of {} in {}", signed.checkpoint().origin(), out.display());
    Ok(ExitCode::SUCCESS)
}

/// The bundles of which no record was removed, in runs without a gap.
fn bundle_runs(store: &Dir, size: u64) -> Result<Vec<Vec<Bundle>>> {
    let removed = removed_ranges(store)?;
    let mut runs = vec![Vec::new()];
    for bundle in bundles(0, size)? {
        let (first, end) = (bundle.tile().first_leaf(), bundle.tile().end_leaf());
        if removed.iter().any(|range| range.start < end && first < range.end) {
            runs.push(Vec::new());
        } else if let Some(run) = runs.last_mut() {
            run.push(bundle);
        }
    }
    Ok(runs)
}

/// Asks the auditor to sign a log again of which nothing says what was signed.
pub(crate) fn resume_signing(dir: &Path, reason: &str) -> Result<ExitCode> {
    if reason.trim().is_empty() || reason.len() > REASON_BYTES_MAX {
        bail!("--reason must say why, in at most {REASON_BYTES_MAX} bytes");
    }
    // Under its name only when it is whole, and readable for the auditor's user, who is another.
    let fresh = dir.join(format!("{RESUME_FILE}.new"));
    write(&fresh, reason.as_bytes())?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o644))?;
    std::fs::rename(&fresh, dir.join(RESUME_FILE))?;
    println!("the auditor puts it on record and signs when it starts next");
    Ok(ExitCode::SUCCESS)
}

/// Says whether two copies are of one history, and proves it if not.
pub(crate) fn compare_copies(one: &Path, other: &Path, proofs: Option<&Path>) -> Result<ExitCode> {
    let fork = match compare(&Dir::new(one), &Dir::new(other))? {
        Compared::Same(here, there) => {
            println!("one history: {here} and {there} records are signed");
            return Ok(ExitCode::SUCCESS);
        }
        Compared::Forked(fork) => fork,
    };
    let code = moat_model::code::audit::TWO_HISTORIES.id;
    println!("{code} two histories: record {} is the first that differs", fork.first);
    if let Some(folder) = proofs {
        write_fork(&fork, [one, other], folder)?;
        println!("proofs in {}", folder.display());
    }
    Ok(ExitCode::from(TAMPERED))
}

/// Writes the two proofs of a fork, with the records where they are there.
pub(crate) fn write_fork(fork: &Fork, copies: [&Path; 2], folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder.parent().unwrap_or(folder))?;
    std::fs::create_dir(folder)
        .with_context(|| format!("{} must not be there yet", folder.display()))?;
    for (name, (proof, dir)) in ["one", "other"].iter().zip(fork.proofs.iter().zip(copies)) {
        write(&folder.join(format!("{name}.tlog-proof")), proof.to_string().as_bytes())?;
        // A copy without segments has no record to show; the hash is in the tiles.
        if let Ok(Some(entry)) = leaf(&Dir::new(dir), fork.first) {
            write(&folder.join(format!("{name}.entry")), &entry)?;
        }
    }
    Ok(())
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
    match key {
        Some(path) => {
            let text = std::fs::File::open(path).and_then(moat_auditor::read_key);
            let text = text.with_context(|| path.display().to_string())?;
            let signer = moat_auditor::log_signer(&text)
                .with_context(|| format!("{} is no private key of a log", path.display()))?;
            println!("{}", signer.key());
        }
        None => {
            let path = dir.join(VKEY_FILE);
            let text =
                std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            print!("{text}");
        }
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
