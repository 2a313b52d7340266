//! What processes have used: CPU from the scheduler's own account, memory as resident pages.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

/// One tick of `/proc/PID/stat` in nanoseconds: `USER_HZ` is 100 wherever Moat runs.
const TICK_NS: u64 = 10_000_000;

/// CPU of one process up to now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cpu {
    /// Nanoseconds of each thread, from `schedstat`; empty where the kernel does not keep it.
    threads: BTreeMap<u32, u64>,
    /// The same for the whole process and in steps of a tick, with threads that have ended.
    ticks: u64,
}

impl Cpu {
    pub(crate) fn of(pid: u32) -> Result<Cpu> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
            .with_context(|| format!("process {pid} has ended"))?;
        let ticks = parse_ticks(&stat).context("/proc/PID/stat is not as expected")?;
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
            let id = entry.file_name().to_string_lossy().parse().ok();
            let text = fs::read_to_string(entry.path().join("schedstat")).ok();
            let ns = text.as_deref().and_then(|text| text.split(' ').next()?.parse().ok());
            if let (Some(id), Some(ns)) = (id, ns) {
                threads.insert(id, ns);
            }
        }
        // A kernel that does not count says zero for all.
        if threads.values().all(|ns| *ns == 0) {
            threads.clear();
        }
        Ok(Cpu { threads, ticks })
    }

    /// Nanoseconds since an earlier reading. Falls back to ticks when a thread has ended between
    /// the two, because its account went with it.
    pub(crate) fn since(&self, earlier: &Cpu) -> u64 {
        let is_known = |id| self.threads.contains_key(id);
        if !self.threads.is_empty() && earlier.threads.keys().all(is_known) {
            let before = |id| earlier.threads.get(id).copied().unwrap_or(0);
            self.threads.iter().map(|(id, ns)| ns.saturating_sub(before(id))).sum()
        } else {
            self.ticks.saturating_sub(earlier.ticks).saturating_mul(TICK_NS)
        }
    }

    /// Which clock a reading comes from.
    pub(crate) fn clock(&self) -> &'static str {
        if self.threads.is_empty() {
            "utime + stime of /proc/PID/stat, in steps of 10 ms"
        } else {
            "/proc/PID/task/*/schedstat, in nanoseconds"
        }
    }
}

/// CPU of several processes up to now.
pub(crate) fn of_all(pids: &[u32]) -> Result<Vec<Cpu>> {
    pids.iter().map(|pid| Cpu::of(*pid)).collect()
}

/// Nanoseconds that several processes used between two readings.
pub(crate) fn between(before: &[Cpu], after: &[Cpu]) -> u64 {
    before.iter().zip(after).map(|(before, after)| after.since(before)).sum()
}

/// utime and stime, fields 14 and 15 of proc_pid_stat(5). The name in field 2 may hold anything.
fn parse_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    user.checked_add(system)
}

/// Ticks in user mode and in the kernel up to now.
pub(crate) fn ticks(pid: u32) -> Result<(u64, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid} has ended"))?;
    let (_, rest) = stat.rsplit_once(')').context("/proc/PID/stat is not as expected")?;
    let mut fields = rest.split_whitespace().skip(11).map(str::parse);
    match (fields.next(), fields.next()) {
        (Some(Ok(user)), Some(Ok(system))) => Ok((user, system)),
        _ => anyhow::bail!("/proc/PID/stat is not as expected"),
    }
}

/// Resident memory in kilobytes.
pub(crate) fn resident_kb(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid} has ended"))?;
    parse_resident_kb(&text).context("/proc/PID/status is not as expected")
}

fn parse_resident_kb(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// The processes that a process has started and that still run.
pub(crate) fn children(pid: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(id) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        // A process may end while it is looked at.
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if parse_parent(&stat) == Some(pid) {
            found.push(id);
        }
    }
    Ok(found)
}

/// The process that started a process.
pub(crate) fn parent(pid: u32) -> Result<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid} has ended"))?;
    parse_parent(&stat).context("/proc/PID/stat is not as expected")
}

fn parse_parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Cpu, between, children, parse_parent, parse_resident_kb, parse_ticks};

    const STAT: &str = "42 (a) b) S 7 42 42 0 -1 4194560 10 0 0 0 120 34 0 0 20 0 3 0 99 1 2";

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        assert_eq!(parse_ticks(STAT), Some(154));
        assert_eq!(parse_parent(STAT), Some(7));
        assert_eq!(parse_ticks("42 (x) S 7"), None);
        assert_eq!(parse_parent(""), None);
    }

    #[test]
    fn resident_memory_is_a_number_of_kilobytes() {
        assert_eq!(parse_resident_kb("Name:\tx\nVmRSS:\t  33128 kB\nThreads:\t3\n"), Some(33_128));
        assert_eq!(parse_resident_kb("Name:\tx\n"), None);
    }

    fn cpu(threads: &[(u32, u64)], ticks: u64) -> Cpu {
        Cpu { threads: threads.iter().copied().collect(), ticks }
    }

    #[test]
    fn threads_that_begin_count_and_threads_that_ended_need_ticks() {
        let before = cpu(&[(1, 100), (2, 50)], 3);
        assert_eq!(cpu(&[(1, 150), (2, 50), (3, 7)], 3).since(&before), 57);
        assert_eq!(cpu(&[(1, 150)], 5).since(&before), 20_000_000);
        assert_eq!(cpu(&[], 4).since(&cpu(&[], 3)), 10_000_000);
        let after = [cpu(&[(1, 150), (2, 60)], 3), cpu(&[(9, 4)], 0)];
        assert_eq!(between(&[before, cpu(&[(9, 1)], 0)], &after), 63);
    }

    #[test]
    fn this_process_has_used_some_cpu_and_is_its_parents_child() {
        let before = Cpu::of(std::process::id()).unwrap();
        let begun = std::time::Instant::now();
        while begun.elapsed() < std::time::Duration::from_millis(30) {}
        assert!(Cpu::of(std::process::id()).unwrap().since(&before) > 0, "{}", before.clock());
        let parent = std::os::unix::process::parent_id();
        assert!(children(parent).unwrap().contains(&std::process::id()));
    }
}
