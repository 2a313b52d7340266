//! `cargo xtask fuzz`: libFuzzer with coverage feedback on the stable compiler.
//!
//! What cargo-fuzz adds on nightly is the address sanitizer; coverage itself is an LLVM pass that
//! stable has too, so the flags are given here. `fuzz/README.md` tells more.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{progress, shell};

#[cfg(test)]
mod tests;

/// Attack every parser for some seconds.
///
/// Builds the targets in fuzz/fuzz_targets with coverage instrumentation, replays the seeds in
/// fuzz/corpus and then tries inputs of its own. Inputs that reach new code are kept in
/// target/fuzz/corpus and serve the next run; an input that breaks a target is kept in
/// fuzz/artifacts, and the task fails. Needs a C++ compiler, and neither nightly nor cargo-fuzz.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long each target runs
    #[arg(long, value_name = "N", default_value_t = SECONDS)]
    seconds: u32,
    /// Only this target; all if none is given
    target: Option<String>,
}

/// How long a target runs in `ci`, in seconds.
pub(crate) const SECONDS: u32 = 10;
/// A target that knows fewer edges has no feedback; the smallest has some hundreds.
const EDGES_MIN: u64 = 20;
/// Longest run of one input, in seconds.
const INPUT_SECONDS_MAX: u32 = 10;
/// Most memory of a target, in MiB.
const MEMORY_MIB_MAX: u32 = 2048;
/// How much of a failed run is shown, in lines.
const TAIL_LINES: usize = 40;

/// Edge counters inline, their addresses in a table, and comparisons traced: what cargo-fuzz asks
/// for. One unit per crate, because the sections of counters do not survive being merged.
const FLAGS: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// The task.
pub(crate) fn run(args: &Args) -> Result<()> {
    let all = targets()?;
    let wanted: Vec<String> = match &args.target {
        None => all,
        Some(one) if all.contains(one) => vec![one.clone()],
        Some(one) => bail!("there is no target `{one}`; there are {}", all.join(", ")),
    };
    let mut steps = progress::Steps::new(wanted.len() + 1);
    let done = every(&mut steps, &wanted, args.seconds);
    steps.summary();
    done
}

/// The work, also of `ci`. Returns what was reached.
pub(crate) fn check(seconds: u32) -> Result<String> {
    let wanted = targets()?;
    let mut steps = progress::Steps::new(wanted.len() + 1);
    let done = every(&mut steps, &wanted, seconds);
    steps.summary();
    done.map(|()| format!("{} targets, {seconds} s each", wanted.len()))
}

fn every(steps: &mut progress::Steps, wanted: &[String], seconds: u32) -> Result<()> {
    let mut programs = PathBuf::new();
    steps.step("build", || {
        programs = build()?;
        Ok("instrumented for coverage".to_owned())
    })?;
    for target in wanted {
        steps.step(target, || attack(&programs, target, seconds))?;
    }
    Ok(())
}

/// The names of the files in `fuzz/fuzz_targets`.
fn targets() -> Result<Vec<String>> {
    let folder = shell::root().join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

/// Builds all targets and returns the folder they are in.
fn build() -> Result<PathBuf> {
    let host = shell::host_triple()?;
    let folder = shell::target_dir().join("fuzz");
    fs::create_dir_all(&folder)?;
    let (ours, followed) = (shell::root().join("Cargo.lock"), folder.join("workspace.lock"));
    let lock = shell::root().join("fuzz/Cargo.lock");
    if !lock.exists() || fs::read(&ours)? != fs::read(&followed).unwrap_or_default() {
        // What is attacked has the versions that are shipped; cargo adds libFuzzer's to them.
        fs::copy(&ours, &lock)?;
    }
    // With a target named, build scripts and macros are built without the flags.
    let args = ["build", "--release", "--manifest-path", "fuzz/Cargo.toml", "--bins"];
    let mut cargo = shell::cargo_with_flags(&args, &FLAGS);
    shell::run(cargo.args(["--target", &host]).arg("--target-dir").arg(&folder))?;
    fs::copy(&ours, &followed)?;
    Ok(folder.join(host).join("release"))
}

/// Runs one target and returns how far it came.
fn attack(programs: &Path, target: &str, seconds: u32) -> Result<String> {
    let root = shell::root();
    let found = shell::target_dir().join("fuzz/corpus").join(target);
    let artifacts = root.join("fuzz/artifacts").join(target);
    let seeds = root.join("fuzz/corpus").join(target);
    fs::create_dir_all(&found)?;
    fs::create_dir_all(&artifacts)?;
    let mut command = Command::new(programs.join(target));
    command
        .current_dir(&root)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg("-print_final_stats=1")
        .arg(&found);
    if seeds.is_dir() {
        command.arg(&seeds);
    }
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", programs.join(target).display()))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        eprintln!("{}", without_frames(&text));
        bail!(
            "{target} was broken ({}); the input is in {}; again: {} FILE",
            output.status,
            artifacts.display(),
            programs.join(target).display()
        );
    }
    let reached = reached(&text).context("libFuzzer says nothing of coverage")?;
    if reached.edges < EDGES_MIN {
        bail!("{target} gets no coverage feedback: {} edges; see FLAGS in fuzz.rs", reached.edges);
    }
    Ok(format!("{} edges, {} features, {} runs", reached.edges, reached.features, reached.runs))
}

/// The end of the output without the frames of the backtrace, which lead into libFuzzer.
fn without_frames(text: &str) -> String {
    let is_frame = |line: &str| {
        let line = line.trim_start();
        line.starts_with("at ")
            || line.split_once(": ").is_some_and(|(n, _)| n.parse::<u32>().is_ok())
    };
    let lines: Vec<&str> = text.lines().filter(|line| !is_frame(line)).collect();
    lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n")
}

/// What libFuzzer says at the end.
#[derive(Debug, PartialEq, Eq)]
struct Reached {
    edges: u64,
    features: u64,
    runs: u64,
}

/// Reads the last line of progress, such as `#123 DONE cov: 45 ft: 67 corp: 8/9b …`.
fn reached(text: &str) -> Option<Reached> {
    let line = text.lines().rfind(|line| line.starts_with('#') && line.contains(" cov: "))?;
    let mut words = line.split_whitespace();
    let runs = words.next()?.strip_prefix('#')?.parse().ok()?;
    let number = |name: &str| {
        let mut words = line.split_whitespace().skip_while(|word| *word != name);
        words.nth(1)?.parse().ok()
    };
    Some(Reached { edges: number("cov:")?, features: number("ft:")?, runs })
}
