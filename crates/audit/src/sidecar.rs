//! The small file `head` beside the segments: how far the log had come a moment ago.
//!
//! A log cut at a frame's border looks whole; the sidecar shows the cut, unless it was changed
//! too. It is no evidence against somebody who can write the directory: signed checkpoints are.

use std::io;

use crate::hash::Hash;
use crate::segment::checksum;
use crate::store::{Store, read_start};

/// Name of the file.
pub const HEAD_FILE: &str = "head";
/// Bytes of one of its two slots: one sector, so that a slot is written whole or not at all.
pub const SLOT_BYTES: usize = 512;

const MAGIC: &[u8; 4] = b"MHED";

/// How far the log had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadMark {
    /// Counts marks; the slot is its parity.
    pub number: u64,
    /// How many records were durable.
    pub records: u64,
    /// Leaf hash of the last of them; zero when there was none.
    pub last_leaf_hash: Hash,
}

impl HeadMark {
    /// The mark of an empty log.
    pub const EMPTY: HeadMark = HeadMark { number: 0, records: 0, last_leaf_hash: [0; 32] };

    /// The bytes of its slot.
    #[must_use]
    pub fn encode(&self) -> [u8; SLOT_BYTES] {
        let (number, records) = (self.number.to_be_bytes(), self.records.to_be_bytes());
        let fields = [number.as_slice(), &records, &self.last_leaf_hash].concat();
        let mut slot = [0; SLOT_BYTES];
        let covered = MAGIC.iter().chain(&fields);
        for (to, from) in slot.iter_mut().skip(4).zip(covered) {
            *to = *from;
        }
        let crc = slot.get(4..).map_or(0, |covered| checksum(&[covered])).to_be_bytes();
        for (to, from) in slot.iter_mut().zip(crc) {
            *to = from;
        }
        slot
    }

    /// Where its slot is in the file.
    #[must_use]
    pub fn offset(&self) -> u64 {
        if self.number.is_multiple_of(2) { 0 } else { 512 }
    }

    fn decode(slot: &[u8]) -> Option<HeadMark> {
        let (crc, covered) = slot.split_first_chunk::<4>()?;
        if slot.len() != SLOT_BYTES || u32::from_be_bytes(*crc) != checksum(&[covered]) {
            return None;
        }
        let rest = covered.strip_prefix(MAGIC)?;
        let (number, rest) = rest.split_first_chunk()?;
        let (records, rest) = rest.split_first_chunk()?;
        let (last_leaf_hash, _) = rest.split_first_chunk()?;
        Some(HeadMark {
            number: u64::from_be_bytes(*number),
            records: u64::from_be_bytes(*records),
            last_leaf_hash: *last_leaf_hash,
        })
    }
}

/// What the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadFile {
    /// There is no such file.
    Missing,
    /// The latest good mark, and whether a slot is bad.
    Read {
        /// None when neither slot is good.
        mark: Option<HeadMark>,
        /// Whether a slot is neither good nor empty.
        damaged: bool,
    },
}

/// Reads the sidecar.
///
/// # Errors
/// What the system says, other than that there is none.
pub fn read(store: &impl Store) -> io::Result<HeadFile> {
    let file = match store.open(HEAD_FILE) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HeadFile::Missing),
        Err(error) => return Err(error),
    };
    let bytes = read_start(&file, 2 * SLOT_BYTES + 1)?;
    let mut mark: Option<HeadMark> = None;
    let mut damaged = bytes.len() > 2 * SLOT_BYTES || bytes.is_empty();
    for slot in bytes.chunks(SLOT_BYTES) {
        match HeadMark::decode(slot) {
            Some(found) if mark.is_none_or(|mark| mark.number < found.number) => mark = Some(found),
            Some(_) => {}
            None => damaged |= slot.iter().any(|&byte| byte != 0),
        }
    }
    Ok(HeadFile::Read { mark, damaged })
}
