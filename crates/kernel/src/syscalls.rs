//! seccomp: the system calls each role may make. Everything else fails with EPERM; what only an
//! intruder would try ends the process.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::sandbox::Role;

/// What every Rust program with threads, memory and timers needs.
const COMMON: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
    libc::SYS_sendmsg,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    libc::SYS_write,
    libc::SYS_writev,
];

/// Threads.
const THREADS: &[i64] = &[
    libc::SYS_clone3,
    libc::SYS_membarrier,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_set_robust_list,
];

/// An event loop.
const RUNTIME: &[i64] = &[
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_socketpair,
];

/// Sockets that somebody else has opened.
const SOCKETS: &[i64] = &[
    libc::SYS_accept4,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_ioctl,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
];

/// Streams to the gateway's workers, handed over by the supervisor.
const LINKS: &[i64] = &[libc::SYS_sendto];

/// A new generation comes as a sealed memory file.
const GENERATIONS: &[i64] = &[libc::SYS_pread64];

/// Going out to a service. `socket` is allowed for TCP only, see [`tcp_only`].
const CONNECTING: &[i64] = &[libc::SYS_connect];

/// Files of the log. Landlock says which.
const FILES: &[i64] = &[
    libc::SYS_fallocate,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_getdents64,
    libc::SYS_mkdirat,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_statx,
    libc::SYS_unlinkat,
];

/// Older calls, each allowed beside the newer one that does the same.
#[cfg(target_arch = "x86_64")]
const OLD_NAMES: &[(i64, i64)] = &[
    (libc::SYS_epoll_wait, libc::SYS_epoll_pwait),
    (libc::SYS_mkdir, libc::SYS_mkdirat),
    (libc::SYS_open, libc::SYS_openat),
    (libc::SYS_poll, libc::SYS_ppoll),
    (libc::SYS_rename, libc::SYS_renameat),
    (libc::SYS_stat, libc::SYS_newfstatat),
    (libc::SYS_unlink, libc::SYS_unlinkat),
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_NAMES: &[(i64, i64)] = &[];

/// What no role ever has a reason to do. `bpf` is among it but for the kernel role, see
/// [`maps_only`].
const FATAL: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_init_module,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_load,
    libc::SYS_mount,
    libc::SYS_perf_event_open,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_setgid,
    libc::SYS_setns,
    libc::SYS_setuid,
    libc::SYS_unshare,
];

/// Calls on lists that a short run may not make, and why they stay. A test shows that the gateway, the
/// auditor, the admin and the kernel role make all others.
pub const SELDOM: &[(i64, &str)] = &[
    (libc::SYS_brk, "memory of the C library, which the cryptography asks for"),
    (libc::SYS_clock_gettime, "the time where the kernel gives it by no shorter way"),
    (libc::SYS_clock_nanosleep, "a pause of a thread"),
    (libc::SYS_epoll_pwait, "the loop, under one of its two names"),
    (libc::SYS_exit, "the end of a thread"),
    (libc::SYS_exit_group, "the end of the process"),
    (libc::SYS_fallocate, "a segment is begun"),
    (libc::SYS_flock, "the log is opened"),
    (libc::SYS_fstat, "the size of a sealed blob or a segment"),
    (libc::SYS_fstatfs, "the room left on the disk, asked at times"),
    (libc::SYS_futex, "two threads want one lock"),
    (libc::SYS_getpeername, "who is at the other end, asked for errors"),
    (libc::SYS_getpid, "before a process ends itself for a panic within a panic"),
    (libc::SYS_getrandom, "seeds of hash tables, drawn once"),
    (libc::SYS_getsockname, "where a listening socket is, asked once"),
    (libc::SYS_gettid, "the same as the process id"),
    (libc::SYS_ioctl, "a socket is made not to block"),
    (libc::SYS_lseek, "the place in a file"),
    (libc::SYS_madvise, "memory is given back"),
    (libc::SYS_membarrier, "threads of the runtime"),
    (libc::SYS_mmap, "more memory"),
    (libc::SYS_mprotect, "the guard of a stack, more memory"),
    (libc::SYS_mremap, "a large piece of memory grows"),
    (libc::SYS_munmap, "memory is given back"),
    (libc::SYS_nanosleep, "a pause, under its older name"),
    (libc::SYS_ppoll, "a wait, under one of its two names"),
    (libc::SYS_prctl, "a thread is named"),
    (libc::SYS_pread64, "a sealed blob is read"),
    (libc::SYS_prlimit64, "the size of a thread's stack"),
    (libc::SYS_read, "wake-ups of the loop, keys"),
    (libc::SYS_readv, "several buffers at once"),
    (libc::SYS_recvfrom, "a socket is read"),
    (libc::SYS_renameat2, "a key made anew gets its name"),
    (libc::SYS_restart_syscall, "made by the kernel after a stop, in place of a wait"),
    (libc::SYS_rt_sigaction, "handlers of the language's runtime"),
    (libc::SYS_rt_sigprocmask, "a thread begins or ends"),
    (libc::SYS_rt_sigreturn, "the end of a handler"),
    (libc::SYS_sched_yield, "a lock that is held for moments"),
    (libc::SYS_sendto, "a socket is written"),
    (libc::SYS_setsockopt, "a connection is set up"),
    (libc::SYS_sigaltstack, "a thread begins or ends"),
    (libc::SYS_tgkill, "a process ends itself for a panic within a panic"),
    (libc::SYS_unlinkat, "a part of the tree is no longer needed"),
    (libc::SYS_writev, "several buffers at once"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_epoll_wait, "the loop, under one of its two names"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, "a wait, under one of its two names"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_rename, "a file is replaced, under its older name"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_stat, "whether a file is there, under its older name"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_unlink, "a file is removed, under its older name"),
];

/// Numbers of the calls that a role may make, some of them for some arguments only.
///
/// # Errors
/// The filter cannot be built for this architecture.
pub fn allowed_calls(role: Role) -> Result<Vec<i64>, String> {
    let rules = allowed(role).map_err(|error| error.to_string())?;
    Ok(rules.into_keys().collect())
}

/// The two filters of a role: the first ends the process, the second is the allow-list.
pub(crate) fn filters(role: Role) -> Result<[BpfProgram; 2], seccompiler::Error> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let bpf = (role != Role::Kernel).then_some(&libc::SYS_bpf);
    let fatal: BTreeMap<i64, Vec<SeccompRule>> =
        FATAL.iter().chain(bpf).map(|number| (*number, Vec::new())).collect();
    let fatal = SeccompFilter::new(fatal, SeccompAction::Allow, SeccompAction::KillProcess, arch)?;
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let allowed = SeccompFilter::new(allowed(role)?, refuse, SeccompAction::Allow, arch)?;
    Ok([fatal.try_into()?, allowed.try_into()?])
}

/// What a role needs, without what is allowed for some arguments only.
fn groups(role: Role) -> &'static [&'static [i64]] {
    match role {
        Role::Gateway => &[COMMON, THREADS, RUNTIME, SOCKETS, GENERATIONS, CONNECTING],
        Role::Auditor => &[COMMON, THREADS, FILES, LINKS],
        Role::Admin => &[COMMON, THREADS, RUNTIME, SOCKETS],
        Role::Courier => &[COMMON, THREADS, RUNTIME, SOCKETS, CONNECTING],
        Role::Witness => &[COMMON, THREADS, RUNTIME, SOCKETS, FILES],
        Role::Kernel => &[COMMON, GENERATIONS],
    }
}

fn allowed(role: Role) -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::Error> {
    let groups = groups(role);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        groups.iter().flat_map(|group| group.iter()).map(|number| (*number, vec![])).collect();
    let has = |number: &i64| groups.iter().any(|group| group.contains(number));
    let old = OLD_NAMES.iter().filter(|(_, newer)| has(newer));
    rules.extend(old.map(|(old, _)| (*old, vec![])));
    if matches!(role, Role::Gateway | Role::Courier) {
        rules.insert(libc::SYS_socket, tcp_only()?);
    }
    if role == Role::Kernel {
        rules.insert(libc::SYS_bpf, maps_only()?);
    }
    Ok(rules)
}

/// `bpf` for the elements of maps that are held: no program is loaded, nothing is attached, no
/// object is found by its number. Commands 1 to 4 of bpf(2): look up, update, delete, next key.
fn maps_only() -> Result<Vec<SeccompRule>, seccompiler::Error> {
    let command = |number: u64| -> Result<SeccompRule, seccompiler::Error> {
        let condition =
            SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, number)?;
        Ok(SeccompRule::new(vec![condition])?)
    };
    (1..=4).map(command).collect()
}

/// `socket` for streams of IPv4 and IPv6 only: no datagrams, no raw packets, no netlink, no Unix
/// sockets.
fn tcp_only() -> Result<Vec<SeccompRule>, seccompiler::Error> {
    let family = |family: i32| {
        let family = u64::from(family.unsigned_abs());
        let condition =
            SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, family)?;
        // Above these bits stand flags: not to block, to close on exec.
        let kind = SeccompCmpOp::MaskedEq(0xf);
        let stream = u64::from(libc::SOCK_STREAM.unsigned_abs());
        let stream = SeccompCondition::new(1, SeccompCmpArgLen::Dword, kind, stream)?;
        SeccompRule::new(vec![condition, stream])
    };
    Ok(vec![family(libc::AF_INET)?, family(libc::AF_INET6)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_rule_stands_twice_and_none_contradicts_another() {
        for role in crate::matrix::ROLES {
            let mut seen = BTreeSet::new();
            for number in groups(role).iter().copied().flatten() {
                assert!(seen.insert(number), "{role:?}: system call {number} stands twice");
            }
            let fatal: BTreeSet<&i64> = FATAL.iter().collect();
            assert_eq!(fatal.len(), FATAL.len(), "one ends the process twice");
            let both: Vec<_> = seen.intersection(&fatal).collect();
            assert!(both.is_empty(), "{role:?}: {both:?} is allowed and ends the process");
        }
    }
}
