//! Names of system calls, as far as our roles have to do with them.

const NAMES: &[(i64, &str)] = &[
    (libc::SYS_accept4, "accept4"),
    (libc::SYS_bind, "bind"),
    (libc::SYS_bpf, "bpf"),
    (libc::SYS_chroot, "chroot"),
    (libc::SYS_clock_nanosleep, "clock_nanosleep"),
    (libc::SYS_clock_settime, "clock_settime"),
    (libc::SYS_clone, "clone"),
    (libc::SYS_clone3, "clone3"),
    (libc::SYS_connect, "connect"),
    (libc::SYS_execve, "execve"),
    (libc::SYS_execveat, "execveat"),
    (libc::SYS_fdatasync, "fdatasync"),
    (libc::SYS_futex, "futex"),
    (libc::SYS_init_module, "init_module"),
    (libc::SYS_io_uring_setup, "io_uring_setup"),
    (libc::SYS_kexec_load, "kexec_load"),
    (libc::SYS_kill, "kill"),
    (libc::SYS_madvise, "madvise"),
    (libc::SYS_mmap, "mmap"),
    (libc::SYS_mount, "mount"),
    (libc::SYS_munmap, "munmap"),
    (libc::SYS_nanosleep, "nanosleep"),
    (libc::SYS_openat, "openat"),
    (libc::SYS_openat2, "openat2"),
    (libc::SYS_perf_event_open, "perf_event_open"),
    (libc::SYS_prctl, "prctl"),
    (libc::SYS_process_vm_readv, "process_vm_readv"),
    (libc::SYS_process_vm_writev, "process_vm_writev"),
    (libc::SYS_ptrace, "ptrace"),
    (libc::SYS_pwritev2, "pwritev2"),
    (libc::SYS_read, "read"),
    (libc::SYS_readv, "readv"),
    (libc::SYS_recvfrom, "recvfrom"),
    (libc::SYS_recvmsg, "recvmsg"),
    (libc::SYS_sendmsg, "sendmsg"),
    (libc::SYS_sendto, "sendto"),
    (libc::SYS_setgid, "setgid"),
    (libc::SYS_setns, "setns"),
    (libc::SYS_setuid, "setuid"),
    (libc::SYS_socket, "socket"),
    (libc::SYS_statx, "statx"),
    (libc::SYS_unlinkat, "unlinkat"),
    (libc::SYS_unshare, "unshare"),
    (libc::SYS_write, "write"),
    (libc::SYS_writev, "writev"),
];

/// The name of a system call, or its number.
#[must_use]
pub fn name(number: u64) -> String {
    let known = NAMES.iter().find(|(known, _)| u64::try_from(*known) == Ok(number));
    known.map_or_else(|| format!("call-{number}"), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::{NAMES, name};

    #[test]
    fn a_call_has_its_name_once_or_its_number() {
        assert_eq!(name(u64::try_from(libc::SYS_ptrace).unwrap()), "ptrace");
        assert_eq!(name(9_999), "call-9999");
        let mut numbers: Vec<i64> = NAMES.iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), NAMES.len());
    }
}
