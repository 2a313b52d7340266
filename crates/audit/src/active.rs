//! The segment that is being written: a descriptor that is given up at its first failure.

use std::io;

use crate::fs::Append;
use crate::hash::{Hash, sha256};

/// How often an interrupted write that took nothing is made again.
const INTERRUPTED_MAX: u32 = 100;

/// The segment that is written.
pub(crate) struct Active<A> {
    /// None once a write failed: nothing more goes to that descriptor.
    pub(crate) file: Option<A>,
    pub(crate) name: String,
    pub(crate) index: u64,
    pub(crate) first_seq: u64,
    /// Bytes that count.
    pub(crate) valid_len: u64,
    /// Hash of the last frame, or of the header.
    pub(crate) chain: Hash,
    pub(crate) sealed: bool,
}

impl<A: Append> Active<A> {
    /// Appends bytes that begin with a frame, or gives the descriptor up.
    pub(crate) fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        let file = self.file.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        match write_whole(file, frame) {
            Ok(()) => {
                self.chain = sha256(frame);
                self.valid_len += u64::try_from(frame.len()).unwrap_or(u64::MAX);
                Ok(())
            }
            Err(error) => {
                self.file = None;
                Err(error)
            }
        }
    }
}

impl<A> Active<A> {
    /// Gives the segment up as it was before its last frame.
    pub(crate) fn give_up(&mut self, valid_len: u64, chain: Hash) {
        self.file = None;
        self.valid_len = valid_len;
        self.chain = chain;
    }
}

/// One write that takes everything. A short one has failed; an interrupted one took nothing.
pub(crate) fn write_whole(file: &mut impl Append, bytes: &[u8]) -> io::Result<()> {
    for _ in 0..INTERRUPTED_MAX {
        match file.write(bytes) {
            Ok(len) if len == bytes.len() => return Ok(()),
            Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::Interrupted.into())
}
