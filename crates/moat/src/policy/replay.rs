//! `moat policy replay`: decisions that were kept, asked again of another bundle.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use moat_model::clock::{Clock, System};
use moat_policy::kept::{Again, Kept, Outcome, Rule, rule_behind};
use moat_policy::{Bundle, Engine};
use serde_json::json;

use super::load;
use crate::cli::{Output, ReplayArgs};
use crate::serve::inputs_file::{age, files};

/// Most threads; each has an engine of its own.
const THREADS_MAX: usize = 64;

/// What came of some lines.
#[derive(Default)]
struct Found {
    same: u64,
    undecidable: BTreeMap<String, u64>,
    changed: Vec<Changed>,
    /// Changed ones that are counted and not listed.
    unlisted: u64,
    /// Lines that are no kept decision: where a write broke off.
    unreadable: u64,
    /// Answers that the old bundle did not give again.
    unreproduced: u64,
    /// Lines of another bundle than the old one.
    of_others: u64,
}

struct Changed {
    kept: Kept,
    now: Outcome,
    rule: Option<Rule>,
}

/// What the lines are asked of.
struct Asking<'a> {
    new: &'a Arc<Bundle>,
    old: Option<&'a Arc<Bundle>>,
    from_ms: u64,
    list_max: usize,
}

impl Found {
    fn add(&mut self, other: Found, list_max: usize) {
        self.same += other.same;
        self.unlisted += other.unlisted;
        self.unreadable += other.unreadable;
        self.unreproduced += other.unreproduced;
        self.of_others += other.of_others;
        for (path, count) in other.undecidable {
            *self.undecidable.entry(path).or_default() += count;
        }
        for changed in other.changed {
            if self.changed.len() < list_max {
                self.changed.push(changed);
            } else {
                self.unlisted += 1;
            }
        }
    }

    fn changed(&self) -> u64 {
        self.unlisted + u64::try_from(self.changed.len()).unwrap_or(u64::MAX)
    }

    fn undecidable(&self) -> u64 {
        self.undecidable.values().sum()
    }

    fn asked(&self) -> u64 {
        self.same + self.changed() + self.undecidable()
    }
}

pub(super) fn run(arguments: &ReplayArgs) -> Result<ExitCode> {
    let since = arguments.since.as_deref().map(age).transpose().map_err(anyhow::Error::msg)?;
    let now_ms = System::new().wall_ns() / 1_000_000;
    let from_ms = since.map_or(0, |since| {
        now_ms.saturating_sub(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    });
    let new = Arc::new(load(&arguments.bundle)?);
    let old = arguments.old.as_deref().map(load).transpose()?.map(Arc::new);
    let (old, list_max) = (old.as_ref(), arguments.list_max);
    let asking = Asking { new: &new, old, from_ms, list_max };
    let begun = Instant::now();
    let mut found = Found::default();
    let kept = files(&arguments.inputs)?;
    if kept.is_empty() {
        let dir = arguments.inputs.display();
        bail!("no inputs are kept in {dir}: set `replay` in the configuration, or name --inputs");
    }
    // A file ends where the next one begins.
    let nexts = kept.iter().skip(1).map(|next| next.began_ms).chain([u64::MAX]);
    for (file, ended_ms) in kept.iter().zip(nexts) {
        if ended_ms >= from_ms {
            found.add(ask_file(&file.path, &asking)?, list_max);
        }
    }
    let elapsed_s = begun.elapsed().as_secs_f64();
    show(arguments, &found, elapsed_s)?;
    let is_fine = found.changed() <= arguments.changed_max && found.unreproduced == 0;
    Ok(if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The package and the input of the last decision that was kept of a call.
pub(super) fn find(inputs: &Path, trace: &str) -> Result<(String, String)> {
    for file in files(inputs)?.iter().rev() {
        let text =
            fs::read_to_string(&file.path).with_context(|| file.path.display().to_string())?;
        let of_call = |line: &&str| line.contains(trace);
        let mut kept = text.lines().rev().filter(of_call).filter_map(|line| Kept::read(line).ok());
        if let Some(kept) = kept.find(|kept| kept.trace == trace) {
            return Ok((kept.package, kept.input));
        }
    }
    bail!("no input of the call {trace} is kept in {}", inputs.display())
}

/// One file, in as many parts as there are cores.
fn ask_file(path: &Path, asking: &Asking<'_>) -> Result<Found> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let lines: Vec<&str> = text.lines().collect();
    let part = lines.len().div_ceil(threads).max(1);
    let mut found = Found::default();
    std::thread::scope(|scope| {
        let parts: Vec<_> =
            lines.chunks(part).map(|lines| scope.spawn(move || ask(lines, asking))).collect();
        for part in parts {
            let part = part.join().map_err(|_| anyhow::anyhow!("a thread ended early"))??;
            found.add(part, asking.list_max);
        }
        Ok(found)
    })
}

fn ask(lines: &[&str], asking: &Asking<'_>) -> Result<Found> {
    let mut new = Engine::compile(asking.new)?;
    let mut old = asking.old.map(Engine::compile).transpose()?;
    let mut found = Found::default();
    for line in lines {
        let Ok(kept) = Kept::read(line) else {
            found.unreadable += 1;
            continue;
        };
        if kept.at_ms < asking.from_ms {
            continue;
        }
        if let Some(old) = &mut old {
            match kept.bundle == **old.digest() {
                true if !matches!(kept.ask(old), Ok(Again::Changed(_))) => {}
                true => found.unreproduced += 1,
                false => found.of_others += 1,
            }
        }
        match kept.ask(&mut new) {
            Ok(Again::Same) => found.same += 1,
            Ok(Again::Undecidable(path)) => *found.undecidable.entry(path).or_default() += 1,
            Ok(Again::Changed(_)) if found.changed.len() >= asking.list_max => found.unlisted += 1,
            Ok(Again::Changed(now)) => {
                let rule = rule_behind(asking.new, &kept, &now);
                found.changed.push(Changed { kept, now, rule });
            }
            Err(_) => found.unreadable += 1,
        }
    }
    Ok(found)
}

fn show(arguments: &ReplayArgs, found: &Found, elapsed_s: f64) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let is_json = arguments.output == Output::Json;
    for Changed { kept, now, rule } in &found.changed {
        let input: serde_json::Value = serde_json::from_str(&kept.input).unwrap_or_default();
        let of = |pointer: &str| input.pointer(pointer).and_then(|v| v.as_str()).unwrap_or("");
        let (route, caller) = (of("/route"), of("/peer/spiffe"));
        if is_json {
            let line = json!({
                "at_ms": kept.at_ms, "trace": kept.trace, "route": route, "caller": caller,
                "was": kept.outcome, "is": now, "rule": rule,
            });
            writeln!(out, "{line}")?;
            continue;
        }
        let (was, is) = (told(&kept.outcome), told(now));
        writeln!(out, "{}  {route}  {caller}\n    {was} -> {is}", kept.trace)?;
        if let Some(rule) = rule {
            writeln!(out, "    {}  {}", rule.place, rule.text)?;
        }
    }
    if is_json {
        let sums = json!({ "sums": {
            "asked": found.asked(), "same": found.same, "changed": found.changed(),
            "undecidable": found.undecidable, "unreadable": found.unreadable,
            "not_reproduced": found.unreproduced, "of_other_bundles": found.of_others,
            "elapsed_s": elapsed_s,
        }});
        writeln!(out, "{sums}")?;
        return Ok(());
    }
    show_groups(&mut out, found)?;
    writeln!(
        out,
        "{} asked in {elapsed_s:.1} s: {} the same, {} changed, {} undecidable",
        found.asked(),
        found.same,
        found.changed(),
        found.undecidable()
    )?;
    for (path, count) in &found.undecidable {
        writeln!(out, "{count} undecidable: the rules may read input.{path}, which was left out")?;
    }
    for (count, what) in [
        (found.unlisted, "changed and not listed: raise --list-max"),
        (found.unreadable, "lines are no kept decision"),
        (found.unreproduced, "answers were NOT given again by the old bundle"),
        (found.of_others, "were decided by another bundle than --old"),
    ] {
        if count > 0 {
            writeln!(out, "{count} {what}")?;
        }
    }
    Ok(())
}

/// How many of those that are listed have the same route, change and rule.
fn show_groups(out: &mut impl Write, found: &Found) -> Result<()> {
    let mut groups: BTreeMap<(String, String), u64> = BTreeMap::new();
    for Changed { kept, now, rule } in &found.changed {
        let change = format!("{} -> {}", told(&kept.outcome), told(now));
        let place = rule.as_ref().map_or("no rule of its own", |rule| rule.place.as_str());
        *groups.entry((change, place.to_owned())).or_default() += 1;
    }
    for ((change, place), count) in groups {
        writeln!(out, "{count:>9}  {change}  by {place}")?;
    }
    Ok(())
}

fn told(outcome: &Outcome) -> String {
    let mut text = outcome.effect.clone();
    if !outcome.reasons.is_empty() {
        text.push_str(&format!(" ({})", outcome.reasons.join(", ")));
    } else if !outcome.code.is_empty() {
        text.push_str(&format!(" ({})", outcome.code));
    }
    if let Some(mask) = &outcome.mask {
        text.push_str(&format!(" masked by {mask}"));
    }
    text
}
