//! The register of an authority: `issuing.register` in its folder, see [`Book`] for its content.
//!
//! One process at a time has it open. A register that was lost, cut or changed stops all work with
//! it: whoever revoked something must not find it issued again, and no list may have the number of
//! one before. So it is there from the beginning, and that it is not there is an error from then on.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use moat_model::code::ca::REGISTER;

use crate::book::{Book, Entry, ISSUED_BYTES_MAX, REGISTER_BYTES_MAX, Revocation};
use crate::files::{self, Level, SECRET};
use crate::{Error, Kind, Serial};

/// How often, and how long apart, another process is waited for: five seconds in all.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// See the module. [`Register::save`] writes it; dropped without that, nothing has changed.
#[derive(Debug)]
pub struct Register {
    path: PathBuf,
    _lock: File,
    is_new: bool,
    book: Book,
}

impl Register {
    /// Opens the register of one authority. An authority that never had one gets an empty one: that
    /// is known by its having neither the lock nor a list.
    ///
    /// # Errors
    /// [`REGISTER`] if it is damaged, lost, or another process keeps it,
    /// [`moat_model::code::ca::UNREADABLE`] if the folder cannot be read or written.
    pub fn open(dir: &Path, kind: Kind, level: Level) -> Result<Register, Error> {
        let path = dir.join(files::file(kind, level, "register"));
        let lock = dir.join(files::file(kind, level, "register.lock"));
        let list = dir.join(files::file(kind, level, "crl"));
        let is_first = is_absent(&lock)? && is_absent(&list)?;
        let lock = locked(&lock)?;
        let is_new = is_absent(&path)?;
        let mut register = Register { path, _lock: lock, is_new, book: Book::default() };
        if !is_new {
            register.read()?;
        } else if is_first {
            register.save()?;
        } else {
            return Err(register.unusable("it was there, and is lost"));
        }
        Ok(register)
    }

    fn read(&mut self) -> Result<(), Error> {
        let most = u64::try_from(REGISTER_BYTES_MAX).unwrap_or(u64::MAX);
        let bytes = files::read_bounded(&self.path, most);
        let bytes = bytes.map_err(|e| Error::new(&REGISTER, e.detail))?;
        let text = core::str::from_utf8(&bytes).map_err(|_| self.unusable("it is no text"))?;
        let book = Book::read(text);
        self.book = book.map_err(|line| self.unusable(&format!("line {line}")))?;
        Ok(())
    }

    fn unusable(&self, why: &str) -> Error {
        Error::new(&REGISTER, format_args!("{}: {why}", self.path.display()))
    }

    /// Whether [`Register::open`] made it: what was issued before is not in it.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Adds a certificate, given in DER, that was issued before; nothing changes if it is there.
    ///
    /// # Errors
    /// [`moat_model::code::ca::BAD_REQUEST`] if it is no certificate.
    pub fn issued(&mut self, certificate: &[u8]) -> Result<Serial, Error> {
        self.book.issued(certificate)
    }

    /// Adds a certificate, given in DER, that is being issued.
    ///
    /// # Errors
    /// [`moat_model::code::ca::BAD_REQUEST`] if it is no certificate or its number is taken,
    /// [`REGISTER`] if the register is full. It is full while everything in it can still be
    /// revoked.
    pub fn enter(&mut self, certificate: &[u8]) -> Result<Serial, Error> {
        self.book.enter(certificate, ISSUED_BYTES_MAX)
    }

    /// Marks a certificate as revoked.
    ///
    /// # Errors
    /// [`moat_model::code::ca::NOT_ISSUED`] if it is not in the register,
    /// [`moat_model::code::ca::REVOKED`] if it was revoked before: time and reason of a revocation
    /// do not change.
    pub fn revoke(&mut self, serial: &Serial, revocation: Revocation) -> Result<&Entry, Error> {
        self.book.revoke(serial, revocation)
    }

    /// The certificate with that number.
    #[must_use]
    pub fn find(&self, serial: &Serial) -> Option<&Entry> {
        self.book.find(serial)
    }

    /// Everything that was revoked, by serial number.
    pub fn revoked(&self) -> impl Iterator<Item = (&Serial, Revocation)> {
        self.book.revoked()
    }

    /// The number of the last list; zero if there was none.
    #[must_use]
    pub fn list_number(&self) -> u64 {
        self.book.list_number
    }

    /// A number for the next list. It is above those of all lists before once the register is
    /// saved.
    ///
    /// # Errors
    /// [`REGISTER`] if there is no higher one.
    pub fn next_list_number(&mut self) -> Result<u64, Error> {
        let next = self.book.list_number.checked_add(1);
        self.book.list_number = next.ok_or_else(|| self.unusable("no number is left"))?;
        Ok(self.book.list_number)
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// [`REGISTER`] if it became too long, [`moat_model::code::ca::UNREADABLE`] if it cannot be
    /// written.
    pub fn save(&self) -> Result<(), Error> {
        let text = self.book.text();
        if text.len() > REGISTER_BYTES_MAX {
            return Err(self.unusable(&format!("over {REGISTER_BYTES_MAX} bytes")));
        }
        files::replace(&self.path, text.as_bytes(), SECRET)
    }
}

/// Only what is known not to be there: not a link that leads nowhere, not a folder nobody may read.
pub(crate) fn is_absent(path: &Path) -> Result<bool, Error> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(false),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(true),
        Err(e) => Err(files::unreadable(path, &e)),
    }
}

/// The lock is on a file of its own: the register is replaced while it is held.
fn locked(path: &Path) -> Result<File, Error> {
    let open = OpenOptions::new().write(true).create(true).truncate(false).mode(SECRET).open(path);
    let file = open.map_err(|e| files::unreadable(path, &e))?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(e)) => return Err(files::unreadable(path, &e)),
        }
    }
    Err(Error::new(&REGISTER, format_args!("{}: another process keeps it", path.display())))
}
