//! Control groups of version 2, where the kernel's guard stands, and the file system of pins.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{StatFs, statfs};
use rustix::mount::{MountFlags, mount};
use sha2::{Digest, Sha256};

/// Where systemd mounts version 2: alone, or beside version 1.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// Where pins lie.
const PINS: &str = "/sys/fs/bpf";
/// Magic numbers of the two file systems (linux/magic.h).
const CGROUP2_MAGIC: i64 = 0x6367_7270;
const BPF_MAGIC: i64 = 0xcafe_4a11;

/// A control group of our own, made below that of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes the group `name`, or takes it over if it is there.
    ///
    /// # Errors
    /// There is no cgroup version 2, or no right to make a group.
    pub fn make(name: &str) -> io::Result<Cgroup> {
        let root = mounted().ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "cgroup version 2 is not mounted")
        })?;
        let text = fs::read_to_string("/proc/self/cgroup")?;
        let own = own(&text).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "this process is in no cgroup of version 2")
        })?;
        let path = root.join(own.trim_start_matches('/')).join(name);
        match fs::create_dir(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                let why = format!("{}: {error}", path.display());
                return Err(io::Error::new(error.kind(), why));
            }
        }
        Ok(Cgroup { path })
    }

    /// The group at a path that somebody else has made.
    #[must_use]
    pub fn at(path: &Path) -> Cgroup {
        Cgroup { path: path.to_path_buf() }
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves a process, and with it all its threads, into the group.
    ///
    /// # Errors
    /// The process has ended, or there is no right to move it.
    pub fn add(&self, pid: u32) -> io::Result<()> {
        fs::write(self.path.join("cgroup.procs"), pid.to_string())
    }

    /// Removes the group, if no process is in it; gives whether it is gone.
    pub fn remove(&self) -> bool {
        fs::remove_dir(&self.path).is_ok() || !self.path.exists()
    }
}

/// Roles beside the gateway; each has a group of its own, `NAME-ROLE`.
pub const OTHER_ROLES: [&str; 3] = ["auditor", "admin", "kernel"];

/// The name of the group of the Moat with this admin socket, and of its folder of pins: the same
/// at every start, so that it finds what it has left.
#[must_use]
pub fn name_of(socket: &Path) -> String {
    let digest = Sha256::digest(socket.as_os_str().as_encoded_bytes());
    let digest: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("moat-{digest}")
}

/// Where version 2 is mounted.
#[must_use]
pub fn mounted() -> Option<PathBuf> {
    MOUNTS.iter().find(|path| is(path, CGROUP2_MAGIC)).map(PathBuf::from)
}

/// The path in the line of version 2: `0::/path`.
fn own(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

/// The folder of pins, mounted if it is not.
///
/// # Errors
/// There is no right to mount it.
pub fn pins() -> io::Result<PathBuf> {
    if !is(PINS, BPF_MAGIC) {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("bpffs", PINS, "bpf", flags, None::<&std::ffi::CStr>)
            .map_err(|e| io::Error::other(format!("mounting {PINS}: {e}")))?;
    }
    Ok(PathBuf::from(PINS))
}

/// Removes everything pinned in a folder, and the folder. What was attached is detached.
pub fn unpin(folder: &Path) {
    let entries: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    for path in entries {
        let removed = if path.is_dir() {
            unpin(&path);
            Ok(())
        } else {
            fs::remove_file(&path)
        };
        if let Err(error) = removed {
            tracing::warn!(path = %path.display(), %error, "a pin could not be removed");
        }
    }
    let _ = fs::remove_dir(folder);
}

fn is(path: &str, magic: i64) -> bool {
    matches!(statfs(path), Ok(StatFs { f_type, .. }) if f_type == magic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_version_2_is_found_among_those_of_version_1() {
        let hybrid = "9:name=systemd:/a\n1:cpu:/\n0::/moat.service\n";
        assert_eq!(own(hybrid), Some("/moat.service"));
        assert_eq!(own("1:cpu:/\n"), None);
    }
}
