//! The three forms of a segment's file: as it was written, packed, and removed but for its header.
//!
//! Whoever reads a log asks here and sees segments under their one name, whatever form they have.

use std::io;

use crate::packed::{PACKED_SUFFIX, Packed};
use crate::segment::HEADER_BYTES_MAX;
use crate::store::{Readable, Store, read_file};

/// What the file of a removed segment has at the end of its name, behind that of the segment. It
/// holds the segment's header.
pub const REMOVED_SUFFIX: &str = ".removed";
/// Longest such file, in bytes.
pub(crate) const REMOVED_BYTES_MAX: usize = HEADER_BYTES_MAX;

/// How the note of the ADMIN record begins that says which records retention removed.
const NOTE: &str = "retention removed records ";

/// The note that goes on record before the records `first` to `end - 1` are removed.
#[must_use]
pub fn removal_note(first: u64, end: u64, why: &str) -> String {
    format!("{NOTE}{first} to {}: {why}", end.saturating_sub(1))
}

/// The records that such a note speaks of, as first and end; `None` for any other note.
#[must_use]
pub fn removal_in(note: &str) -> Option<(u64, u64)> {
    let (first, rest) = note.strip_prefix(NOTE)?.split_once(" to ")?;
    let (last, _) = rest.split_once(':')?;
    Some((first.parse().ok()?, last.parse::<u64>().ok()?.checked_add(1)?))
}

/// The name of a segment, from that of a file in any of its forms.
#[must_use]
pub fn segment_of(file: &str) -> &str {
    let packed = file.strip_suffix(PACKED_SUFFIX);
    packed.or_else(|| file.strip_suffix(REMOVED_SUFFIX)).unwrap_or(file)
}

/// A segment that is open for reading.
#[derive(Debug)]
pub enum Segment<F> {
    /// As it was written.
    Plain(F),
    /// Packed, and read as it was written.
    Packed(Packed<F>),
    /// Removed: its header.
    Removed(Vec<u8>),
    /// Packed, and cannot be read: why. Reads as if it were empty.
    Damaged(String),
}

impl<F> Segment<F> {
    /// Whether its records were removed.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        matches!(self, Segment::Removed(_))
    }
}

/// Opens a segment in the fullest form that is there.
///
/// # Errors
/// What the system says.
pub fn open_segment<S: Store>(store: &S, name: &str) -> io::Result<Segment<S::File>> {
    let is_absent = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    match store.open(name) {
        Err(error) if is_absent(&error) => {}
        plain => return plain.map(Segment::Plain),
    }
    match store.open(&format!("{name}{PACKED_SUFFIX}")) {
        Err(error) if is_absent(&error) => {}
        packed => {
            return match Packed::open(packed?) {
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    Ok(Segment::Damaged(error.to_string()))
                }
                packed => packed.map(Segment::Packed),
            };
        }
    }
    let removed = read_file(store, &format!("{name}{REMOVED_SUFFIX}"), REMOVED_BYTES_MAX + 1)?;
    removed.map(Segment::Removed).ok_or_else(|| io::ErrorKind::NotFound.into())
}

impl<F: Readable> Readable for Segment<F> {
    fn size(&self) -> io::Result<u64> {
        match self {
            Segment::Plain(file) => file.size(),
            Segment::Packed(file) => file.size(),
            Segment::Removed(header) => Ok(u64::try_from(header.len()).unwrap_or(u64::MAX)),
            Segment::Damaged(_) => Ok(0),
        }
    }

    /// A chunk that cannot be unpacked reads as the end: what is missing is then found by whoever
    /// knows how long the segment is.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Segment::Plain(file) => file.read_at(buffer, offset),
            Segment::Packed(file) => match file.read_at(buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(0),
                read => read,
            },
            Segment::Removed(header) => {
                let at = usize::try_from(offset).unwrap_or(usize::MAX);
                let rest = header.get(at..).unwrap_or_default();
                buffer.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
                Ok(rest.len().min(buffer.len()))
            }
            Segment::Damaged(_) => Ok(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_of_removal_is_read_back_and_no_other_is() {
        let note = removal_note(0, 42, "older than 400 days");
        assert_eq!(removal_in(&note), Some((0, 42)));
        for other in ["stop", "retention removed records 1 to x: y", "retention removed records 1"]
        {
            assert_eq!(removal_in(other), None, "{other}");
        }
        let last = format!("{NOTE}0 to {}: y", u64::MAX);
        assert_eq!(removal_in(&last), None);
    }

    #[test]
    fn every_form_has_the_segments_name() {
        for form in ["", PACKED_SUFFIX, REMOVED_SUFFIX] {
            assert_eq!(
                segment_of(&format!("00000000000000000042.seg{form}")),
                "00000000000000000042.seg"
            );
        }
    }
}
