//! `cargo xtask advisories`: the lock file against advisories that are kept in the tree.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};

use crate::{progress, shell};

/// Hold Cargo.lock against the snapshot of advisories in advisories.json.
///
/// The answer changes only with the tree: nothing is looked up. The snapshot has a date, says where it
/// comes from and whether it is complete. It is renewed at each release: `--take FOLDER` reads a
/// checkout of RustSec's advisory-db and keeps what concerns crates of Cargo.lock and of deny.toml.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Checkout of the advisory database to take a new snapshot from
    #[arg(long, value_name = "FOLDER", requires = "date")]
    take: Option<PathBuf>,
    /// Day of that checkout's last commit, for example 2026-11-23
    #[arg(long, value_name = "DAY")]
    date: Option<String>,
}

const SNAPSHOT: &str = "advisories.json";
/// Most files of a database.
const FILES_MAX: usize = 100_000;

#[derive(Deserialize, Serialize)]
struct Snapshot {
    taken: String,
    source: String,
    /// Whether it has every advisory that concerns a crate of Cargo.lock.
    is_complete: bool,
    advisories: Vec<Advisory>,
    /// What is known and goes on all the same: id and reason.
    accepted: Vec<Accepted>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
struct Advisory {
    id: String,
    package: String,
    /// Versions from which it is put right; none if it never was.
    patched: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unaffected: Vec<String>,
    title: String,
}

#[derive(Deserialize, Serialize)]
struct Accepted {
    id: String,
    reason: String,
}

/// The task.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let (Some(folder), Some(date)) = (&args.take, &args.date) {
        return take(folder, date);
    }
    let mut steps = progress::Steps::new(1);
    let done = steps.step("advisories", check);
    steps.summary();
    done
}

fn snapshot() -> Result<Snapshot> {
    let text = fs::read_to_string(shell::root().join(SNAPSHOT)).context(SNAPSHOT)?;
    serde_json::from_str(&text).context(SNAPSHOT)
}

fn lock() -> Result<Vec<(String, Version)>> {
    let text = fs::read_to_string(shell::root().join("Cargo.lock"))?;
    locked(&text)
}

/// The work, also of `ci`.
pub(crate) fn check() -> Result<String> {
    let (snapshot, lock) = (snapshot()?, lock()?);
    let hit = hits(&snapshot, &lock)?;
    if !hit.is_empty() {
        bail!("{}", hit.join("\n"));
    }
    let much = if snapshot.is_complete { "complete" } else { "kept by hand, not complete" };
    Ok(format!("{} advisories of {}, {much}", snapshot.advisories.len(), snapshot.taken))
}

/// Names and versions of a lock file.
fn locked(text: &str) -> Result<Vec<(String, Version)>> {
    let mut found = Vec::new();
    for part in text.split("[[package]]").skip(1) {
        let value = |key: &str| {
            let line = part.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""));
            line.map(|rest| rest.trim_end_matches('"'))
        };
        let (name, version) = value("name").zip(value("version")).context("Cargo.lock")?;
        found.push((name.to_owned(), Version::parse(version)?));
    }
    Ok(found)
}

/// What speaks against a crate that is locked.
fn hits(snapshot: &Snapshot, lock: &[(String, Version)]) -> Result<Vec<String>> {
    let mut hit = Vec::new();
    for advisory in &snapshot.advisories {
        if snapshot.accepted.iter().any(|accepted| accepted.id == advisory.id) {
            continue;
        }
        for (name, version) in lock.iter().filter(|(name, _)| *name == advisory.package) {
            if concerns(advisory, version)? {
                let Advisory { id, title, patched, .. } = advisory;
                let fix = match patched.as_slice() {
                    [] => "there is no version without it".to_owned(),
                    patched => format!("take {}", patched.join(" or ")),
                };
                hit.push(format!("{id}: {name} {version}: {title}; {fix}"));
            }
        }
    }
    Ok(hit)
}

fn concerns(advisory: &Advisory, version: &Version) -> Result<bool> {
    for range in advisory.patched.iter().chain(&advisory.unaffected) {
        let range = VersionReq::parse(range).with_context(|| advisory.id.clone())?;
        if range.matches(version) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Takes a new snapshot; what is accepted stays.
fn take(folder: &Path, date: &str) -> Result<()> {
    let names: BTreeSet<String> = lock()?.into_iter().map(|(name, _)| name).collect();
    let banned = fs::read_to_string(shell::root().join("deny.toml")).unwrap_or_default();
    let mut advisories = Vec::new();
    let crates = folder.join("crates");
    for (count, path) in files(&crates)?.into_iter().enumerate() {
        if count > FILES_MAX {
            bail!("over {FILES_MAX} files in {}", crates.display());
        }
        let text = fs::read_to_string(&path)?;
        let Some(advisory) = parse(&text).with_context(|| path.display().to_string())? else {
            continue;
        };
        let is_ours = names.contains(&advisory.package)
            || banned.contains(&format!("\"{}\"", advisory.package));
        if is_ours {
            advisories.push(advisory);
        }
    }
    advisories.sort_by(|a, b| a.id.cmp(&b.id));
    let accepted = snapshot().map(|old| old.accepted).unwrap_or_default();
    let source = "RustSec advisory-db, what concerns crates of Cargo.lock and deny.toml".to_owned();
    let count = advisories.len();
    let fresh =
        Snapshot { taken: date.to_owned(), source, is_complete: true, advisories, accepted };
    let text = serde_json::to_string_pretty(&fresh)? + "\n";
    fs::write(shell::root().join(SNAPSHOT), text)?;
    println!("{SNAPSHOT}: {count} advisories of {date}");
    Ok(())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for krate in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        for file in fs::read_dir(krate?.path())? {
            let path = file?.path();
            if path.extension().is_some_and(|end| end == "md") {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// An advisory from the head of its file, in the form that the database uses; nothing if it was
/// withdrawn.
fn parse(text: &str) -> Result<Option<Advisory>> {
    let (_, rest) = text.split_once("```toml").context("no head")?;
    let (head, body) = rest.split_once("```").context("the head does not end")?;
    let line = |key: &str| {
        let lines = head.lines().filter_map(|line| line.split_once('='));
        lines.into_iter().find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim())
    };
    if line("withdrawn").is_some() {
        return Ok(None);
    }
    let word = |key: &str| line(key).map(|value| value.trim_matches('"').to_owned());
    let list = |key: &str| -> Result<Vec<String>> {
        let Some((_, rest)) = head.split_once(&format!("{key} =")) else { return Ok(Vec::new()) };
        let (_, rest) = rest.split_once('[').context("no list")?;
        let (list, _) = rest.split_once(']').context("the list does not end")?;
        let parts = list.split('"').skip(1).step_by(2);
        Ok(parts.map(str::to_owned).collect())
    };
    let title = body.lines().find_map(|line| line.strip_prefix("# ")).unwrap_or("no title");
    Ok(Some(Advisory {
        id: word("id").context("no id")?,
        package: word("package").context("no package")?,
        patched: list("patched")?,
        unaffected: list("unaffected")?,
        title: title.trim().to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "```toml\n[advisory]\nid = \"RUSTSEC-2025-0001\"\npackage = \"a\"\ndate = \"2025-01-01\"\n\n[versions]\npatched = [\">= 1.2.3, < 2.0.0\",\n  \">= 2.1.0\"]\nunaffected = [\"< 1.0.0\"]\n```\n\n# It breaks\n\nText.\n";

    #[test]
    fn an_advisory_is_read_and_concerns_what_it_concerns() {
        let advisory = parse(FILE).unwrap().unwrap();
        assert_eq!(
            (advisory.id.as_str(), advisory.title.as_str()),
            ("RUSTSEC-2025-0001", "It breaks")
        );
        assert_eq!(advisory.patched, [">= 1.2.3, < 2.0.0", ">= 2.1.0"]);
        for (version, is_hit) in
            [("0.9.0", false), ("1.0.0", true), ("1.2.3", false), ("2.0.0", true), ("2.1.0", false)]
        {
            let version = Version::parse(version).unwrap();
            assert_eq!(concerns(&advisory, &version).unwrap(), is_hit, "{version}");
        }
        let withdrawn = FILE.replace("date =", "withdrawn = \"2025-02-01\"\ndate =");
        assert_eq!(parse(&withdrawn).unwrap(), None);
        assert!(parse("# nothing").is_err());
    }

    #[test]
    fn what_is_locked_and_bad_is_told_unless_it_was_accepted() {
        let lock = locked("[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n").unwrap();
        let mut snapshot = Snapshot {
            taken: String::new(),
            source: String::new(),
            is_complete: true,
            advisories: vec![parse(FILE).unwrap().unwrap()],
            accepted: Vec::new(),
        };
        let told = hits(&snapshot, &lock).unwrap();
        assert!(told[0].starts_with("RUSTSEC-2025-0001: a 1.0.0: It breaks; take"), "{told:?}");
        let (id, reason) = ("RUSTSEC-2025-0001".to_owned(), "not called".to_owned());
        snapshot.accepted.push(Accepted { id, reason });
        assert!(hits(&snapshot, &lock).unwrap().is_empty());
    }

    #[test]
    fn the_tree_has_a_snapshot_and_nothing_in_it_speaks_against_the_lock_file() {
        check().unwrap();
    }
}
