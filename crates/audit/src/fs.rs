//! What the committer asks of a file system, and the real one.
//!
//! A trait because every operation must be able to fail in a test: the simulated one stops at any
//! operation, tears writes and loses directory entries.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FallocateFlags, FlockOperation, Mode, OFlags};

use crate::store::{Dir, Store};

/// Name of the file that is locked while a log is open for writing.
pub const LOCK_FILE: &str = "lock";

/// A directory that can be written.
pub trait LogFs: Store {
    /// A file open for appending.
    type Append: Append;
    /// Holds the directory while it lives.
    type Lock;

    /// Takes the directory for this process; `WouldBlock` when another has it.
    ///
    /// # Errors
    /// What the system says.
    fn lock(&self) -> io::Result<Self::Lock>;
    /// Makes a new file whose every write is synchronous; `AlreadyExists` when there is one.
    ///
    /// # Errors
    /// What the system says.
    fn create(&self, name: &str) -> io::Result<Self::Append>;
    /// Opens an existing file likewise.
    ///
    /// # Errors
    /// What the system says.
    fn append(&self, name: &str) -> io::Result<Self::Append>;
    /// Removes a file that nothing was written to.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Gives a file another name, in place of what has that name; durable after `sync_dir`.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Replaces a small file as a whole, durably.
    ///
    /// # Errors
    /// What the system says.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Writes into a small file in place, durably only if `sync`.
    ///
    /// # Errors
    /// What the system says.
    fn patch(&self, name: &str, bytes: &[u8], offset: u64, sync: bool) -> io::Result<()>;
    /// Makes new names durable.
    ///
    /// # Errors
    /// What the system says.
    fn sync_dir(&self) -> io::Result<()>;
    /// Bytes that may still be written to the volume.
    ///
    /// # Errors
    /// What the system says.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// A file open for appending.
pub trait Append {
    /// One synchronous write at the end; says how many bytes it took.
    ///
    /// # Errors
    /// What the system says.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Reserves space beyond the end without changing the size.
    ///
    /// # Errors
    /// What the system says.
    fn reserve(&mut self, bytes: u64) -> io::Result<()>;
    /// Makes data and size durable.
    ///
    /// # Errors
    /// What the system says.
    fn sync(&mut self) -> io::Result<()>;
}

/// A directory in which the tree is kept: files in folders, written once or replaced as a whole.
///
/// Apart from [`LogFs`], because tiles come behind the log: nothing here is synchronous by itself.
pub trait TreeFs: Store {
    /// Writes files at paths below the directory, making folders as needed, and answers when all
    /// of them are durable under their names. What is there is replaced, not atomically.
    ///
    /// # Errors
    /// What the system says; then any of them may be there, missing or cut off.
    fn write_files(&self, files: &[(String, Vec<u8>)]) -> io::Result<()>;
    /// Replaces a small file as a whole, durably.
    ///
    /// # Errors
    /// What the system says.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Removes a folder with the files in it; one that is not there is no error.
    ///
    /// # Errors
    /// What the system says.
    fn remove_folder(&self, path: &str) -> io::Result<()>;
}

/// A directory of the file system, held open.
#[derive(Debug)]
pub struct RealFs {
    dir: OwnedFd,
    reader: Dir,
}

impl RealFs {
    /// Opens a directory, making it (mode 0700) if it is not there.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path) -> io::Result<RealFs> {
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) => sync_parent(path)?,
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(RealFs { dir, reader: Dir::new(path) })
    }

    fn open_at(&self, name: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let mode = Mode::RUSR | Mode::WUSR;
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(rustix::fs::openat(&self.dir, name, flags, mode)?)
    }
}

impl TreeFs for RealFs {
    fn write_files(&self, files: &[(String, Vec<u8>)]) -> io::Result<()> {
        let mut open = Vec::with_capacity(files.len());
        for (path, bytes) in files {
            let file = self.create_below(path)?;
            write_all(bytes, |rest, _| Ok(rustix::io::write(&file, rest)?))?;
            open.push(file);
        }
        // All are written before the first is synced: one commit of the journal serves many.
        open.iter().try_for_each(rustix::fs::fsync)?;
        let folders: BTreeSet<&str> = files.iter().flat_map(|(path, _)| folders(path)).collect();
        for folder in folders {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::fsync(rustix::fs::openat(&self.dir, folder, flags, Mode::empty())?)?;
        }
        LogFs::sync_dir(self)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        LogFs::replace(self, name, bytes)
    }

    fn remove_folder(&self, path: &str) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let folder = match rustix::fs::openat(&self.dir, path, flags, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            folder => folder?,
        };
        for entry in rustix::fs::Dir::read_from(&folder)? {
            let name = entry?.file_name().to_owned();
            if !matches!(name.to_bytes(), b"." | b"..") {
                rustix::fs::unlinkat(&folder, &name, AtFlags::empty())?;
            }
        }
        Ok(rustix::fs::unlinkat(&self.dir, path, AtFlags::REMOVEDIR)?)
    }
}

impl RealFs {
    /// A new or emptied file at a path below the directory.
    fn create_below(&self, path: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        match self.open_at(path, flags) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        for folder in folders(path) {
            match rustix::fs::mkdirat(&self.dir, folder, Mode::RWXU) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.open_at(path, flags)
    }
}

/// The folders above a file, the outermost first.
fn folders(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').filter_map(|(at, _)| path.get(..at))
}

/// A new directory is durable when its parent was synced.
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = File::open(parent.unwrap_or(Path::new(".")))?;
    parent.sync_all()
}

impl Store for RealFs {
    type File = File;

    fn list(&self) -> io::Result<Vec<String>> {
        self.reader.list()
    }

    fn open(&self, name: &str) -> io::Result<File> {
        self.reader.open(name)
    }
}

impl LogFs for RealFs {
    type Append = RealAppend;
    type Lock = OwnedFd;

    fn lock(&self) -> io::Result<OwnedFd> {
        let file = self.open_at(LOCK_FILE, OFlags::RDWR | OFlags::CREATE)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(file)
    }

    fn create(&self, name: &str) -> io::Result<RealAppend> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::APPEND | OFlags::DSYNC;
        self.open_at(name, flags).map(RealAppend)
    }

    fn append(&self, name: &str) -> io::Result<RealAppend> {
        self.open_at(name, OFlags::WRONLY | OFlags::APPEND | OFlags::DSYNC).map(RealAppend)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.dir, name, AtFlags::empty())?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.dir, from, &self.dir, to)?)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = format!("{name}.new");
        let file = self.open_at(&temporary, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC)?;
        write_all(bytes, |rest, _| Ok(rustix::io::write(&file, rest)?))?;
        rustix::fs::fsync(&file)?;
        rustix::fs::renameat(&self.dir, &temporary, &self.dir, name)?;
        self.sync_dir()
    }

    fn patch(&self, name: &str, bytes: &[u8], offset: u64, sync: bool) -> io::Result<()> {
        let file = self.open_at(name, OFlags::WRONLY)?;
        write_all(bytes, |rest, done| Ok(rustix::io::pwrite(&file, rest, offset + done)?))?;
        if sync { Ok(rustix::fs::fdatasync(&file)?) } else { Ok(()) }
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.dir)?)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(&self.dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// For small files only: a segment is written by one call, and a short one is a failure.
fn write_all(
    bytes: &[u8],
    mut write: impl FnMut(&[u8], u64) -> io::Result<usize>,
) -> io::Result<()> {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        match write(rest, u64::try_from(done).unwrap_or(u64::MAX)) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(more) => done += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A file of the file system, open for appending.
#[derive(Debug)]
pub struct RealAppend(OwnedFd);

impl Append for RealAppend {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(&self.0, bytes)?)
    }

    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, FallocateFlags::KEEP_SIZE, 0, bytes) {
            // Some file systems cannot reserve; then a full disk shows at the write.
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.0)?)
    }
}
