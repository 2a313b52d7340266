//! `moat audit mirror | repair | compare-all`: copies of logs, and what they are good for.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use moat_audit::compare::{Compared, compare};
use moat_audit::evidence::{Against, verify_evidence};
use moat_audit::fs::{LogFs, RealFs};
use moat_audit::mirror::{FROZEN_FILE, MirrorError, mirror, repair};
use moat_audit::store::Dir;
use moat_audit::tiles::{checkpoint, witnessed};
use moat_model::code::audit as codes;
use moat_tlog::Head;
use moat_tlog::checkpoint::SignedCheckpoint;
use moat_tlog::policy::Policy;
use moat_tlog::sign::{AwsLc, Sm};
use serde_json::{Value, json};

use crate::cli::Output;
use crate::evidence::write_fork;
use crate::exit::TAMPERED;

/// Most logs that are compared in one run.
const LOGS_MAX: usize = 10_000;

/// Brings a mirror up to its log.
pub(crate) fn run_mirror(dir: &Path, to: &Path, policy: Option<&Policy>) -> Result<ExitCode> {
    let from = Dir::new(dir);
    if let Some(policy) = policy {
        let signed =
            checkpoint(&from)?.and_then(Result::ok).context("the log has no checkpoint")?;
        if let Err(error) = policy.accept(&signed, &(AwsLc, Sm)) {
            return Ok(wrong(codes::BAD_CHECKPOINT.id, &error.to_string()));
        }
    }
    let fs = RealFs::open(to).with_context(|| to.display().to_string())?;
    // Two of them at once would write the same files.
    let lock = fs.lock().with_context(|| format!("{} is being written", to.display()))?;
    let done = mirror(&from, &fs);
    drop(lock);
    match done {
        Ok(done) => {
            println!(
                "{} signed records mirrored, {} before; {} segments, {} bytes copied",
                done.to, done.from, done.segments, done.bytes
            );
            Ok(ExitCode::SUCCESS)
        }
        Err(MirrorError::Io(error)) => Err(error).context("the mirror is as it was before"),
        Err(error) => Ok(wrong(code_of(&error), &error.to_string())),
    }
}

fn code_of(error: &MirrorError) -> &'static str {
    match error {
        MirrorError::Fork(_) => codes::TWO_HISTORIES.id,
        MirrorError::Frozen => codes::FROZEN.id,
        MirrorError::PutBack { .. } => codes::LOG_CUT.id,
        MirrorError::Checkpoint(_) => codes::BAD_CHECKPOINT.id,
        MirrorError::OtherLog(..) => codes::FOREIGN.id,
        MirrorError::Tiles(_) => codes::BAD_TILE.id,
        MirrorError::Record { .. } => codes::NOT_WHAT_WAS_SIGNED.id,
        MirrorError::Io(_) => codes::WRITE_FAILED.id,
    }
}

fn wrong(code: &str, text: &str) -> ExitCode {
    eprintln!("moat: {code} {text}");
    ExitCode::from(TAMPERED)
}

/// The heads that the log signed, by the checkpoints in both folders that the policy accepts.
fn signed_heads(stores: [&Dir; 2], policy: Option<&Policy>) -> Result<Vec<Head>> {
    let mut heads = Vec::new();
    for store in stores {
        let found: [Option<Result<SignedCheckpoint, _>>; 2] =
            [checkpoint(store)?, witnessed(store)?];
        for signed in found.into_iter().flatten().filter_map(Result::ok) {
            let is_accepted =
                policy.is_none_or(|policy| policy.accept(&signed, &(AwsLc, Sm)).is_ok());
            heads.extend(is_accepted.then(|| *signed.checkpoint().head()));
        }
    }
    Ok(heads)
}

/// Restores a log from its mirror.
pub(crate) fn run_repair(dir: &Path, from: &Path, policy: Option<&Policy>) -> Result<ExitCode> {
    let (own, mirror) = (Dir::new(dir), Dir::new(from));
    let fs = RealFs::open(dir).with_context(|| dir.display().to_string())?;
    let text = "the auditor writes this log now: stop the gateway first";
    let lock = fs.lock().context(text)?;
    let heads = signed_heads([&own, &mirror], policy)?;
    let done = repair(&fs, &mirror, &heads);
    give_to_owner(dir)?;
    drop(lock);
    let done = match done {
        Ok(done) => done,
        Err(MirrorError::Io(error)) => {
            return Err(error).context("the repair broke off; repeat it");
        }
        Err(error) => return Ok(wrong(code_of(&error), &error.to_string())),
    };
    for (name, range, bad) in &done.segments {
        println!(
            "{name}: records {} to {} restored; bad from record {bad} on",
            range.start,
            range.end.saturating_sub(1)
        );
    }
    if done.tiles > 0 {
        println!("{} tiles made anew", done.tiles);
    }
    for (name, range) in &done.lost {
        let last = range.end.saturating_sub(1);
        let text = format!("{name}: records {} to {last} are bad in both folders", range.start);
        wrong(codes::DAMAGED.id, &text);
    }
    if !done.segments.is_empty() || done.tiles > 0 {
        println!("the auditor puts it on record when it starts next");
    }
    println!("{} records were held against what was signed", done.size);
    Ok(if done.lost.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(TAMPERED) })
}

/// What was restored belongs to whom the folder belongs to: the auditor has to read it.
fn give_to_owner(dir: &Path) -> Result<()> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        paths.push(entry?.path());
    }
    let tiles = dir.join("tile");
    let mut folders = if tiles.is_dir() { vec![tiles] } else { Vec::new() };
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path.clone());
            }
            paths.push(path);
        }
    }
    give(dir, &paths)
}

/// Gives files to whom the folder belongs to, if this is root.
pub(crate) fn give(dir: &Path, paths: &[PathBuf]) -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let owner = std::fs::metadata(dir)?;
    for path in paths {
        std::os::unix::fs::lchown(path, Some(owner.uid()), Some(owner.gid()))
            .with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// What came of one log.
pub(crate) struct Verdict {
    name: String,
    text: String,
    told: Value,
    pub(crate) is_good: bool,
}

/// Compares every log under one folder with its mirror under another: by consistency, and by reading
/// every byte of both again.
pub(crate) fn compare_folders(
    logs: &Path,
    mirrors: &Path,
    proofs: Option<&Path>,
    policy: Option<&Policy>,
) -> Result<Vec<Verdict>> {
    let names = folders(logs)?;
    if names.is_empty() || names.len() > LOGS_MAX {
        bail!("{} must hold 1 to {LOGS_MAX} folders, each a log", logs.display());
    }
    let (next, verdicts) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let one_by_one = || {
        while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
            let verdict = compare_one(name, &logs.join(name), &mirrors.join(name), proofs, policy);
            verdicts.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(verdict);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(one_by_one);
        }
    });
    let mut verdicts = verdicts.into_inner().unwrap_or_default();
    verdicts.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(verdicts)
}

/// The same, told.
pub(crate) fn run_compare_all(
    logs: &Path,
    mirrors: &Path,
    proofs: Option<&Path>,
    policy: Option<&Policy>,
    output: Output,
) -> Result<ExitCode> {
    let begun = Instant::now();
    let verdicts = compare_folders(logs, mirrors, proofs, policy)?;
    let bad = verdicts.iter().filter(|verdict| !verdict.is_good).count();
    let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    match output {
        Output::Json => {
            let told: Vec<&Value> = verdicts.iter().map(|verdict| &verdict.told).collect();
            println!("{}", json!({ "logs": told, "bad": bad, "ms": ms }));
        }
        Output::Table => {
            for verdict in &verdicts {
                let told = verdict.text.as_str();
                println!("{:<24} {told}", verdict.name);
            }
            println!("{} logs compared in {ms} ms, {bad} not good", verdicts.len());
        }
    }
    Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::from(TAMPERED) })
}

fn folders(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        if entry.path().is_dir() {
            names.extend(entry.file_name().into_string().ok());
        }
    }
    names.sort();
    Ok(names)
}

fn compare_one(
    name: &str,
    log: &Path,
    mirror: &Path,
    proofs: Option<&Path>,
    policy: Option<&Policy>,
) -> Verdict {
    let (is_good, verdict, size) = match judge(name, log, mirror, proofs, policy) {
        Ok((is_good, verdict, size)) => (is_good, verdict, size),
        Err(error) => (false, format!("cannot be compared: {error:#}"), 0),
    };
    let told = json!({ "log": name, "good": is_good, "verdict": verdict, "records": size });
    Verdict { name: name.to_owned(), text: verdict, told, is_good }
}

fn judge(
    name: &str,
    log: &Path,
    mirror: &Path,
    proofs: Option<&Path>,
    policy: Option<&Policy>,
) -> Result<(bool, String, u64)> {
    let (here, there) = (Dir::new(log), Dir::new(mirror));
    let compared = match compare(&here, &there) {
        Ok(compared) => compared,
        Err(error) => return Ok((false, format!("{}: {error}", codes::BAD_TILE.id), 0)),
    };
    let size = match compared {
        Compared::Same(one, other) => one.min(other),
        Compared::Forked(fork) => {
            let out = proofs.map(|proofs| proofs.join(name));
            if let Some(out) = &out {
                write_fork(&fork, [log, mirror], out)?;
            }
            freeze([log, mirror], fork.first, out.as_deref())?;
            let code = codes::TWO_HISTORIES.id;
            let text = format!("{code}: two histories from record {} on; frozen", fork.first);
            return Ok((false, text, fork.first));
        }
    };
    for (side, store) in [("log", &here), ("mirror", &there)] {
        let against = Against { policy, ..Against::default() };
        let found = verify_evidence(store, &against, &(AwsLc, Sm))?;
        if !found.is_good() {
            let first = found.report.findings.kept().first().map(ToString::to_string);
            let why = first.unwrap_or_else(|| codes::UNSIGNED_TAIL.id.to_owned());
            return Ok((false, format!("{side}: {why}"), size));
        }
    }
    Ok((true, format!("one history of {size} records, every byte as it was signed"), size))
}

/// Stops the node: its auditor takes nothing new while the file is there.
fn freeze(folders: [&Path; 2], first: u64, proofs: Option<&Path>) -> Result<()> {
    let proofs = proofs.map_or_else(String::new, |p| format!("; proofs in {}", p.display()));
    let text = format!("two histories were signed, from record {first} on{proofs}\n");
    for folder in folders {
        let path: PathBuf = folder.join(FROZEN_FILE);
        std::fs::write(&path, &text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}
