//! Giving up rights, in the one order that works.

use std::path::PathBuf;

use moat_model::Code;
use moat_model::code::system::{PARTIAL_SANDBOX, SANDBOX};
use rustix::process::{Gid, Resource, Rlimit, Uid};
use rustix::thread::CapabilitySet;

use crate::users::User;
use crate::{filesystem, syscalls};

/// A role, as far as its rights go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sockets, and no file.
    Gateway,
    /// The log's folder, and no socket.
    Auditor,
    /// Sockets it was handed, and no file.
    Admin,
    /// Connections to witnesses, and no file.
    Courier,
    /// A folder of its own, and the socket that it listens on.
    Witness,
    /// The kernel's maps that it holds, and neither file nor socket.
    Kernel,
}

/// What a role keeps.
#[derive(Clone, Debug)]
pub struct Jail {
    /// Which role.
    pub role: Role,
    /// The user to become; `None` stays who it is, for a start without root.
    pub user: Option<User>,
    /// Folders it may read and write below.
    pub writable: Vec<PathBuf>,
}

/// What is in force now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// User id.
    pub uid: u32,
    /// `full`, `partial`, or nothing without Landlock.
    pub landlock: Option<&'static str>,
    /// Whether the system call filters are in force.
    pub seccomp: bool,
}

impl Report {
    /// Asks for every protection.
    ///
    /// # Errors
    /// `MOAT-S003` if one is missing, `MOAT-S008` if Landlock is enforced only in part and that is
    /// not enough.
    pub fn demand(&self, is_partial_enough: bool) -> Result<(), &'static Code> {
        match self.landlock {
            None => Err(&SANDBOX),
            Some(_) if !self.seccomp => Err(&SANDBOX),
            Some("full") => Ok(()),
            Some(_) if is_partial_enough => Ok(()),
            Some(_) => Err(&PARTIAL_SANDBOX),
        }
    }
}

/// Rights could not be given up.
#[derive(Debug)]
pub struct Error {
    /// Always `MOAT-S003`.
    pub code: &'static Code,
    /// Which step failed.
    pub detail: String,
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl core::error::Error for Error {}

/// Enters the jail. Must be called while the process has one thread: user ids belong to threads,
/// and so do filters.
///
/// # Errors
/// A step that the kernel knows failed. Landlock or seccomp that the kernel does not know at all
/// is no error but missing in the [`Report`].
pub fn enter(jail: &Jail) -> Result<Report, Error> {
    let step = |what: &'static str| {
        move |error: &dyn core::fmt::Display| Error {
            code: &SANDBOX,
            detail: format!("{what}: {error}"),
        }
    };
    // What is looked up once, in a file, is looked up while that can be opened.
    let _ = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    no_core_dumps().map_err(|e| step("core dumps")(&e))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    rustix::thread::set_no_new_privs(true).map_err(|e| step("no_new_privs")(&e))?;
    if let Some(user) = &jail.user {
        become_user(user).map_err(|e| step("changing user")(&e))?;
    }
    // After the change of user, which would make the process traceable by its new user again.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(|e| step("dumpable")(&e))?;
    let uid = rustix::process::getuid().as_raw();
    let landlock = filesystem::restrict(jail).map_err(|e| step("Landlock")(&e))?;
    let filters = syscalls::filters(jail.role).map_err(|e| step("seccomp")(&e))?;
    let seccomp = filters.iter().all(|filter| seccompiler::apply_filter(filter).is_ok());
    Ok(Report { uid, landlock, seccomp })
}

fn no_core_dumps() -> rustix::io::Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none)
}

/// Groups, bounding set, group, user: each step needs the rights that the next one drops.
fn become_user(user: &User) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    rustix::thread::set_thread_groups(&[])?;
    for capability in CapabilitySet::all().iter() {
        // A capability that this kernel does not have cannot be dropped and need not be.
        let _ = rustix::thread::remove_capability_from_bounding_set(capability);
    }
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_landlock_is_enough_only_where_that_was_said() {
        let report = |landlock, seccomp| Report { uid: 1, landlock, seccomp };
        assert_eq!(report(Some("full"), true).demand(false), Ok(()));
        assert_eq!(report(Some("partial"), true).demand(false), Err(&PARTIAL_SANDBOX));
        assert_eq!(report(Some("partial"), true).demand(true), Ok(()));
        for is_partial_enough in [false, true] {
            assert_eq!(report(None, true).demand(is_partial_enough), Err(&SANDBOX));
            assert_eq!(report(Some("full"), false).demand(is_partial_enough), Err(&SANDBOX));
        }
    }
}
