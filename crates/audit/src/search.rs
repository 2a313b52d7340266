//! Reading a log record by record, for people. Checks form, not chain: [`crate::verify`] does.
//!
//! Works on a live log: an incomplete frame at the end is the end. Streaming, one frame at a time.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use crate::hash::{Hash, leaf_hash};
use crate::record::{Leaf, decode_leaf};
use crate::sealed::{Segment, open_segment};
use crate::segment::{FRAME_PREFIX_BYTES, decode_frame, decode_header, frame_len};
use crate::store::{Dir, Store, Window, read_start, segment_names};

/// One record and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The file.
    pub segment: String,
    /// Where its frame begins, in bytes.
    pub offset: u64,
    /// Its leaf hash.
    pub leaf_hash: Hash,
    /// The record.
    pub leaf: Leaf,
}

/// The records of the log in a directory, in order.
///
/// # Errors
/// When the directory cannot be read.
pub fn leaves(dir: &Path) -> io::Result<Leaves<Dir>> {
    leaves_in(&Dir::new(dir))
}

/// As [`leaves`], over any store.
///
/// # Errors
/// As [`leaves`].
pub fn leaves_in<S: Store + Clone>(store: &S) -> io::Result<Leaves<S>> {
    let names = segment_names(store)?.into();
    Ok(Leaves { store: store.clone(), names, open: None, ready: VecDeque::new(), next_seq: 0 })
}

struct Open<F> {
    name: String,
    file: Segment<F>,
    offset: u64,
    window: Window,
}

/// Iterator over the records of a log.
pub struct Leaves<S: Store> {
    store: S,
    names: VecDeque<String>,
    open: Option<Open<S::File>>,
    ready: VecDeque<Found>,
    next_seq: u64,
}

impl<S: Store> Leaves<S> {
    /// Leaves out the segments that end before `seq`; the first record given is `seq`.
    #[must_use]
    pub fn starting_at(mut self, seq: u64) -> Leaves<S> {
        let first =
            |name: &String| crate::segment::parse_file_name(name).map_or(0, |(first, _)| first);
        while self.names.get(1).is_some_and(|next| first(next) <= seq) {
            self.names.pop_front();
        }
        self.next_seq = seq;
        self
    }

    /// Opens the next segment that has a header; false when there is none.
    fn open_next(&mut self) -> io::Result<bool> {
        while let Some(name) = self.names.pop_front() {
            let file = open_segment(&self.store, &name)?;
            let start = read_start(&file, crate::segment::HEADER_BYTES_MAX)?;
            if let Ok((_, len)) = decode_header(&start) {
                let offset = u64::try_from(len).unwrap_or(u64::MAX);
                self.open = Some(Open { name, file, offset, window: Window::default() });
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads frames until there is a record, or nothing more.
    fn fill(&mut self) -> io::Result<()> {
        while self.ready.is_empty() {
            if self.open.is_none() && !self.open_next()? {
                return Ok(());
            }
            let Some(open) = self.open.as_mut() else { return Ok(()) };
            let prefix = open.window.at(&open.file, open.offset, FRAME_PREFIX_BYTES)?;
            let want = frame_len(prefix).unwrap_or(0);
            let Ok(frame) = decode_frame(open.window.at(&open.file, open.offset, want)?) else {
                // The end, a torn tail or damage: which of them, verification says.
                self.open = None;
                continue;
            };
            for bytes in frame.leaves() {
                let Ok(leaf) = decode_leaf(bytes) else { continue };
                // Records that were written again after a failure are given once.
                if leaf.head.seq >= self.next_seq {
                    self.next_seq = leaf.head.seq + 1;
                    let (segment, offset) = (open.name.clone(), open.offset);
                    self.ready.push_back(Found {
                        segment,
                        offset,
                        leaf_hash: leaf_hash(bytes),
                        leaf,
                    });
                }
            }
            open.offset += u64::try_from(frame.bytes.len()).unwrap_or(u64::MAX);
        }
        Ok(())
    }
}

impl<S: Store> Iterator for Leaves<S> {
    type Item = io::Result<Found>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(error) = self.fill() {
            self.names.clear();
            self.open = None;
            return Some(Err(error));
        }
        self.ready.pop_front().map(Ok)
    }
}
