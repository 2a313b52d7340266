//! Where a program's own code lies in its memory.

use std::fs;

/// Begin, end and offset in the file, of the part of this program's file that is executed; nothing
/// if that cannot be told. Reads a file: before a role gives up its rights.
#[must_use]
pub fn of_this_program() -> Option<(u64, u64, u64)> {
    let own = fs::read_link("/proc/self/exe").ok()?;
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    find(&maps, &own.display().to_string())
}

/// `begin-end r-xp offset device inode path`, proc_pid_maps(5).
fn find(maps: &str, own: &str) -> Option<(u64, u64, u64)> {
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    maps.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (range, rights, offset) = (fields.next()?, fields.next()?, fields.next()?);
        if !rights.contains('x') || !line.ends_with(own) {
            return None;
        }
        let (begin, end) = range.split_once('-')?;
        Some((hex(begin)?, hex(end)?, hex(offset)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executed_part_of_the_program_is_found() {
        let maps = "55d0-55e0 r--p 00000000 fe:00 12 /usr/bin/moat\n\
                    55e0-55f0 r-xp 00010000 fe:00 12 /usr/bin/moat\n\
                    7f00-7f10 r-xp 00001000 fe:00 13 /lib/libc.so.6\n";
        assert_eq!(find(maps, "/usr/bin/moat"), Some((0x55e0, 0x55f0, 0x10000)));
        assert_eq!(find(maps, "/usr/bin/other"), None);
        assert!(of_this_program().is_some_and(|(begin, end, _)| begin < end));
    }
}
