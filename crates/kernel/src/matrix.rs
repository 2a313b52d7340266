//! What each role may and may not do, as data, and each act as it is really tried.
//!
//! A process enters a role's jail and tries one act; what came of it is compared with the table.
//! `moat doctor --matrix` walks all of it, and so does a test.

use std::io;
use std::os::unix::process::CommandExt;

use rustix::net::{AddressFamily, SocketType, bind, socket};

use crate::sandbox::Role;

/// What comes of an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Allowed,
    /// The system call filter refuses it: EPERM.
    Filtered,
    /// Landlock refuses it: EACCES.
    Landlocked,
    /// The system call filter ends the process: SIGSYS.
    Killed,
    /// Something else: the number of the error.
    Other(i32),
}

impl Outcome {
    /// The word in the table.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Outcome::Allowed => "allowed".to_owned(),
            Outcome::Filtered => "EPERM".to_owned(),
            Outcome::Landlocked => "EACCES".to_owned(),
            Outcome::Killed => "killed".to_owned(),
            Outcome::Other(number) => format!("error {number}"),
        }
    }

    /// The code that a process ends with that has tried an act.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Outcome::Allowed => 0,
            Outcome::Filtered => 101,
            Outcome::Landlocked => 102,
            Outcome::Killed => 103,
            Outcome::Other(_) => 104,
        }
    }

    /// What a process says that has ended: its code, or the signal that ended it.
    #[must_use]
    pub fn of(code: Option<i32>, signal: Option<i32>) -> Outcome {
        match (code, signal) {
            (Some(0), _) => Outcome::Allowed,
            (Some(101), _) => Outcome::Filtered,
            (Some(102), _) => Outcome::Landlocked,
            (_, Some(libc::SIGSYS)) => Outcome::Killed,
            (code, signal) => Outcome::Other(code.or(signal).unwrap_or(0)),
        }
    }
}

/// The roles, in the order of the table's columns.
pub const ROLES: [Role; 6] =
    [Role::Gateway, Role::Auditor, Role::Admin, Role::Kernel, Role::Courier, Role::Witness];

/// One act.
pub struct Act {
    /// Its name.
    pub name: &'static str,
    /// What comes of it, by role.
    pub wanted: [Outcome; 6],
    run: fn() -> io::Result<()>,
}

impl Act {
    /// Tries it. What must not come back does not.
    #[must_use]
    pub fn attempt(&self) -> Outcome {
        match (self.run)().map_err(|error| error.raw_os_error()) {
            Ok(()) => Outcome::Allowed,
            Err(Some(libc::EPERM)) => Outcome::Filtered,
            Err(Some(libc::EACCES)) => Outcome::Landlocked,
            Err(number) => Outcome::Other(number.unwrap_or(0)),
        }
    }
}

const Y: Outcome = Outcome::Allowed;
const P: Outcome = Outcome::Filtered;
const A: Outcome = Outcome::Landlocked;
const K: Outcome = Outcome::Killed;

/// The table. Columns: gateway, auditor, admin, kernel, courier, witness.
pub const ACTS: &[Act] = &[
    Act { name: "read a file", wanted: [P, A, P, P, P, A], run: read_file },
    Act { name: "write a file", wanted: [P, A, P, P, P, A], run: write_file },
    Act { name: "list a folder", wanted: [P, A, P, P, P, A], run: list_folder },
    Act { name: "write in the log's folder", wanted: [P, Y, P, P, P, Y], run: write_log },
    Act { name: "read another process's memory", wanted: [P, A, P, P, P, A], run: read_memory },
    Act { name: "signal a process", wanted: [P, P, P, P, P, P], run: signal },
    Act { name: "execute a program", wanted: [K, K, K, K, K, K], run: execute },
    Act { name: "start a thread", wanted: [Y, Y, Y, P, Y, Y], run: start_thread },
    Act { name: "open a TCP socket", wanted: [Y, P, P, P, Y, P], run: tcp },
    Act { name: "open a UDP socket", wanted: [P, P, P, P, P, P], run: udp },
    Act { name: "open a Unix socket", wanted: [P, P, P, P, P, P], run: unix },
    Act { name: "open a raw socket", wanted: [P, P, P, P, P, P], run: raw },
    Act { name: "open a netlink socket", wanted: [P, P, P, P, P, P], run: netlink },
    Act { name: "take a port", wanted: [P, P, P, P, P, P], run: take_port },
    Act { name: "become root", wanted: [K, K, K, K, K, K], run: become_root },
    Act { name: "mount a file system", wanted: [K, K, K, K, K, K], run: mount },
    Act { name: "make a namespace", wanted: [K, K, K, K, K, K], run: namespace },
    Act { name: "change the root folder", wanted: [P, P, P, P, P, P], run: change_root },
    Act { name: "set the clock", wanted: [P, P, P, P, P, P], run: set_clock },
    #[cfg(feature = "bpf")]
    Act { name: "load a BPF program", wanted: [K, K, K, P, K, K], run: load_bpf },
];

/// The name of a role on command lines.
#[must_use]
pub fn name_of(role: Role) -> &'static str {
    match role {
        Role::Gateway => "gateway",
        Role::Auditor => "auditor",
        Role::Admin => "admin",
        Role::Kernel => "kernel",
        Role::Courier => "courier",
        Role::Witness => "witness",
    }
}

fn read_file() -> io::Result<()> {
    std::fs::File::open("/etc/passwd").map(drop)
}

fn write_file() -> io::Result<()> {
    std::fs::File::create("/tmp/moat-act").map(drop)
}

fn list_folder() -> io::Result<()> {
    std::fs::read_dir("/etc").map(drop)
}

fn write_log() -> io::Result<()> {
    std::fs::File::create("moat-act").map(drop)?;
    std::fs::remove_file("moat-act")
}

fn read_memory() -> io::Result<()> {
    std::fs::File::open("/proc/1/mem").map(drop)
}

fn signal() -> io::Result<()> {
    // Itself, which the rights of its user would let it: so it is the filter that refuses.
    Ok(rustix::process::test_kill_process(rustix::process::getpid())?)
}

fn execute() -> io::Result<()> {
    Err(std::process::Command::new("/bin/true").exec())
}

fn start_thread() -> io::Result<()> {
    std::thread::Builder::new().spawn(|| ())?.join().map_err(|_| io::ErrorKind::Other.into())
}

fn open(family: AddressFamily, kind: SocketType) -> io::Result<()> {
    socket(family, kind, None).map(drop).map_err(Into::into)
}

fn tcp() -> io::Result<()> {
    open(AddressFamily::INET, SocketType::STREAM)
}

fn udp() -> io::Result<()> {
    open(AddressFamily::INET, SocketType::DGRAM)
}

fn unix() -> io::Result<()> {
    open(AddressFamily::UNIX, SocketType::STREAM)
}

fn raw() -> io::Result<()> {
    open(AddressFamily::INET, SocketType::RAW)
}

fn netlink() -> io::Result<()> {
    open(AddressFamily::NETLINK, SocketType::RAW)
}

fn take_port() -> io::Result<()> {
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    Ok(bind(&fd, &std::net::SocketAddrV4::new([127, 0, 0, 1].into(), 0))?)
}

fn become_root() -> io::Result<()> {
    Ok(rustix::thread::set_thread_uid(rustix::process::Uid::ROOT)?)
}

fn mount() -> io::Result<()> {
    let flags = rustix::mount::MountFlags::empty();
    Ok(rustix::mount::mount("none", "/tmp", "tmpfs", flags, None::<&std::ffi::CStr>)?)
}

fn namespace() -> io::Result<()> {
    // Its own kind of namespace does not matter: the call is what must not be made.
    Ok(rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&io::stdin()), None)?)
}

fn change_root() -> io::Result<()> {
    Ok(rustix::process::chroot("/")?)
}

fn set_clock() -> io::Result<()> {
    let zero = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
    Ok(rustix::time::clock_settime(rustix::time::ClockId::Realtime, zero)?)
}

#[cfg(feature = "bpf")]
fn load_bpf() -> io::Result<()> {
    // A map is the least that can be made.
    match aya::maps::Array::<_, u32>::create(1, 0) {
        Ok(_) => Ok(()),
        Err(aya::maps::MapError::CreateError { io_error, .. }) => Err(io_error),
        Err(other) => Err(io::Error::other(other)),
    }
}
