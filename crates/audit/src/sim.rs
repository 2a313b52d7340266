//! A file system in memory that fails where a test says, and knows what a power cut leaves.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use crate::fs::{Append, LogFs, TreeFs};
use crate::store::{Readable, Store};

/// What happens to an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It fails and leaves nothing.
    Eio,
    /// It fails although its bytes are there.
    EioButStored,
    /// No space: a part of a write is there.
    Enospc,
    /// A write takes only so many bytes.
    Short(usize),
    /// Interrupted before anything happened.
    Eintr,
    /// The power goes; of a write so many bytes reached the disk.
    Power(usize),
}

#[derive(Clone, Debug, Default)]
struct Entry {
    bytes: Vec<u8>,
    /// Whether the directory entry would survive a power cut.
    is_named: bool,
    /// Bytes that were written without a sync; what was there before, if anything.
    unsynced: Option<Option<Vec<u8>>>,
}

/// What a power cut leaves of files that were written and not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsynced {
    /// What was there before, or nothing.
    Lost,
    /// A part of it.
    Torn,
    /// All of it.
    Kept,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, Entry>,
    ops: u64,
    at: Option<(u64, Fault)>,
    lasting: bool,
    dead: bool,
    locked: bool,
    full: bool,
}

/// Handles to the same simulated directory.
#[derive(Clone, Debug, Default)]
pub(crate) struct SimFs(Rc<RefCell<State>>);

impl SimFs {
    /// The operation number `at`, counted from now, meets `fault`; all later ones too if `lasting`.
    pub(crate) fn fail(&self, at: u64, fault: Fault, lasting: bool) {
        let mut state = self.0.borrow_mut();
        state.at = Some((state.ops + at, fault));
        state.lasting = lasting;
    }

    pub(crate) fn heal(&self) {
        self.0.borrow_mut().at = None;
    }

    pub(crate) fn set_full(&self, full: bool) {
        self.0.borrow_mut().full = full;
    }

    /// Mutating operations so far.
    pub(crate) fn ops(&self) -> u64 {
        self.0.borrow().ops
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.0.borrow().dead
    }

    /// What is on the disk after a power cut: names that were not synced are gone or not.
    pub(crate) fn reboot(&self, keep_unsynced_names: bool) -> SimFs {
        let mut files = self.0.borrow().files.clone();
        files.retain(|_, entry| entry.is_named || keep_unsynced_names);
        for entry in files.values_mut() {
            entry.is_named = true;
            entry.unsynced = None;
        }
        SimFs(Rc::new(RefCell::new(State { files, ..State::default() })))
    }

    /// As [`reboot`](SimFs::reboot), with a fate for what was written and not synced.
    pub(crate) fn reboot_with(&self, fate: Unsynced) -> SimFs {
        let after = self.reboot(fate != Unsynced::Lost);
        let before = self.0.borrow();
        for (name, entry) in &before.files {
            let Some(old) = &entry.unsynced else { continue };
            let mut state = after.0.borrow_mut();
            match (fate, old) {
                (Unsynced::Kept, _) => {}
                (Unsynced::Lost, None) => drop(state.files.remove(name)),
                (Unsynced::Lost, Some(old)) => {
                    let bytes = old.clone();
                    let entry = Entry { bytes, is_named: true, unsynced: None };
                    state.files.insert(name.clone(), entry);
                }
                (Unsynced::Torn, _) => {
                    if let Some(entry) = state.files.get_mut(name) {
                        entry.bytes.truncate(entry.bytes.len() / 2);
                    }
                }
            }
        }
        drop(before);
        after
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.borrow().files.keys().cloned().collect()
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        self.0.borrow().files[name].bytes.clone()
    }

    pub(crate) fn put(&self, name: &str, bytes: Vec<u8>) {
        self.0
            .borrow_mut()
            .files
            .insert(name.to_owned(), Entry { bytes, is_named: true, unsynced: None });
    }

    pub(crate) fn take(&self, name: &str) -> Vec<u8> {
        self.0.borrow_mut().files.remove(name).unwrap().bytes
    }

    /// A copy that shares nothing.
    pub(crate) fn fork(&self) -> SimFs {
        self.reboot(true)
    }

    /// Counts one operation; says what happens to it.
    fn op(&self) -> io::Result<Option<Fault>> {
        let mut state = self.0.borrow_mut();
        if state.dead {
            return Err(io::Error::other("no power"));
        }
        state.ops += 1;
        let now = state.ops;
        let fault = match state.at {
            Some((at, fault)) if now == at + 1 || (state.lasting && now > at) => fault,
            _ => return Ok(None),
        };
        if let Fault::Power(_) = fault {
            state.dead = true;
        }
        Ok(Some(fault))
    }

    /// An operation other than a write: any fault fails it.
    fn plain_op(&self) -> io::Result<()> {
        match self.op()? {
            None | Some(Fault::Short(_)) => Ok(()),
            Some(fault) => Err(error_of(fault)),
        }
    }
}

fn error_of(fault: Fault) -> io::Error {
    match fault {
        Fault::Eio | Fault::EioButStored | Fault::Short(_) => io::Error::from_raw_os_error(5),
        Fault::Enospc => io::ErrorKind::StorageFull.into(),
        Fault::Eintr => io::ErrorKind::Interrupted.into(),
        Fault::Power(_) => io::Error::other("no power"),
    }
}

pub(crate) struct SimFile(SimFs, String);

pub(crate) struct SimLock(SimFs);

impl Drop for SimLock {
    fn drop(&mut self) {
        self.0.0.borrow_mut().locked = false;
    }
}

impl Store for SimFs {
    type File = SimFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        if self.0.borrow().files.contains_key(name) {
            Ok(SimFile(self.clone(), name.to_owned()))
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }
}

impl Readable for SimFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.bytes(&self.1).len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.0.0.borrow();
        let bytes = &state.files[&self.1].bytes;
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }
}

impl Append for SimFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fault = self.0.op()?;
        let full = self.0.0.borrow().full;
        let keep = match fault {
            _ if full => bytes.len() / 2,
            None | Some(Fault::EioButStored) => bytes.len(),
            Some(Fault::Short(len) | Fault::Power(len)) => len.min(bytes.len()),
            Some(Fault::Enospc) => bytes.len() / 2,
            Some(Fault::Eio | Fault::Eintr) => 0,
        };
        let mut state = self.0.0.borrow_mut();
        let entry = state.files.get_mut(&self.1).ok_or(io::ErrorKind::NotFound)?;
        entry.bytes.extend_from_slice(&bytes[..keep]);
        match fault {
            _ if full => Err(io::ErrorKind::StorageFull.into()),
            None | Some(Fault::Short(_)) => Ok(keep),
            Some(fault) => Err(error_of(fault)),
        }
    }

    fn reserve(&mut self, _: u64) -> io::Result<()> {
        self.0.plain_op()
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.plain_op()
    }
}

impl TreeFs for SimFs {
    fn write_files(&self, files: &[(String, Vec<u8>)]) -> io::Result<()> {
        for (path, bytes) in files {
            let fault = self.op()?;
            let keep = match fault {
                None | Some(Fault::EioButStored) => bytes.len(),
                Some(Fault::Short(len) | Fault::Power(len)) => len.min(bytes.len()),
                Some(Fault::Enospc) => bytes.len() / 2,
                Some(Fault::Eio | Fault::Eintr) => 0,
            };
            let mut state = self.0.borrow_mut();
            let old = state.files.get(path).cloned();
            let is_named = old.as_ref().is_some_and(|old| old.is_named);
            let unsynced = Some(old.map(|old| old.unsynced.flatten().unwrap_or(old.bytes)));
            let bytes = bytes[..keep].to_vec();
            state.files.insert(path.clone(), Entry { bytes, is_named, unsynced });
            drop(state);
            if let Some(fault) = fault {
                return Err(error_of(fault));
            }
        }
        for (path, _) in files {
            self.plain_op()?;
            if let Some(entry) = self.0.borrow_mut().files.get_mut(path) {
                entry.unsynced = None;
            }
        }
        self.sync_dir()
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        LogFs::replace(self, name, bytes)
    }

    fn remove_folder(&self, path: &str) -> io::Result<()> {
        self.plain_op()?;
        let below = format!("{path}/");
        self.0.borrow_mut().files.retain(|name, _| !name.starts_with(&below));
        Ok(())
    }
}

impl LogFs for SimFs {
    type Append = SimFile;
    type Lock = SimLock;

    fn lock(&self) -> io::Result<SimLock> {
        let mut state = self.0.borrow_mut();
        if std::mem::replace(&mut state.locked, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(SimLock(self.clone()))
    }

    fn create(&self, name: &str) -> io::Result<SimFile> {
        self.plain_op()?;
        let mut state = self.0.borrow_mut();
        if state.files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.files.insert(name.to_owned(), Entry::default());
        Ok(SimFile(self.clone(), name.to_owned()))
    }

    fn append(&self, name: &str) -> io::Result<SimFile> {
        self.plain_op()?;
        Ok(SimFile(self.clone(), name.to_owned()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.plain_op()?;
        self.0.borrow_mut().files.remove(name);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.plain_op()?;
        let mut state = self.0.borrow_mut();
        let entry = state.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.files.insert(to.to_owned(), entry);
        Ok(())
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.plain_op()?;
        self.put(name, bytes.to_vec());
        Ok(())
    }

    fn patch(&self, name: &str, bytes: &[u8], offset: u64, _: bool) -> io::Result<()> {
        self.plain_op()?;
        let mut state = self.0.borrow_mut();
        let entry = state.files.get_mut(name).ok_or(io::ErrorKind::NotFound)?;
        let at = offset as usize;
        entry.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.plain_op()?;
        for entry in self.0.borrow_mut().files.values_mut() {
            entry.is_named = true;
        }
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(if self.0.borrow().full { 0 } else { u64::MAX })
    }
}
