//! The machine that figures are of, and whether its disk can be measured.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// File systems that keep nothing: `statfs(2)` TMPFS_MAGIC and RAMFS_MAGIC.
const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;

/// Says on stderr what is measured on. Refuses a folder where nothing becomes durable: figures
/// without the disk would leave out work.
pub(crate) fn describe(dir: &Path) -> Result<()> {
    let stat = rustix::fs::statfs(dir).with_context(|| dir.display().to_string())?;
    // The type is a word of 32 bits in a field whose width and sign differ between machines.
    let kind = u64::try_from(stat.f_type).unwrap_or_default() & 0xffff_ffff;
    ensure!(
        kind != TMPFS && kind != RAMFS,
        "{} is in memory, where no record becomes durable; name a folder on a disk with --dir",
        dir.display()
    );
    describe_machine();
    eprintln!("log on     {} ({})", dir.display(), disk_of(dir).unwrap_or_else(|| "?".to_owned()));
    Ok(())
}

/// Says on stderr what is measured on, and whether this program was built for it.
pub(crate) fn describe_machine() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let processor = line_of("/proc/cpuinfo", "model name").unwrap_or_else(|| "?".to_owned());
    let memory = line_of("/proc/meminfo", "MemTotal").unwrap_or_else(|| "?".to_owned());
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?").to_owned();
    eprintln!(
        "machine    {processor}, {cores} cores, {memory}, Linux {}, load {load}",
        release.trim()
    );
    let program = std::env::current_exe().map(|path| path.display().to_string());
    let program = program.unwrap_or_else(|_| "?".to_owned());
    // The folder of a build is named by its profile.
    eprintln!("moat       {}, {} ({program})", env!("CARGO_PKG_VERSION"), build());
}

fn build() -> &'static str {
    if cfg!(debug_assertions) {
        "a debug build: ITS FIGURES SAY NOTHING; build with --profile demo or --release"
    } else {
        "optimised"
    }
}

/// What stands after `name :` in a file of such lines.
fn line_of(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Type and source of the file system a folder is on: the longest mount point above it.
fn disk_of(dir: &Path) -> Option<String> {
    let text = fs::read_to_string("/proc/self/mounts").ok()?;
    let mounts = text.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (source, point, kind) = (words.next()?, words.next()?, words.next()?);
        dir.starts_with(point).then(|| (point.len(), format!("{kind} on {source}")))
    });
    // The last of equal length is the one on top.
    mounts.max_by_key(|(length, _)| *length).map(|(_, told)| told)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn a_folder_in_memory_is_refused() {
        let shm = Path::new("/dev/shm");
        if !super::disk_of(shm).is_some_and(|disk| disk.starts_with("tmpfs")) {
            return;
        }
        let refused = super::describe(shm).unwrap_err().to_string();
        assert!(refused.contains("--dir"), "{refused}");
    }
}
