//! The leaves of a log as bytes, from one seq to another: for whoever builds or proves a tree.
//!
//! Gives what counts and nothing else: where a header says that the segment before it ends. Checks
//! form and order, no hash; [`crate::verify`] does that.

use std::io;
use std::ops::{ControlFlow, Range};

use crate::sealed::open_segment;
use crate::segment::{
    FRAME_PREFIX_BYTES, HEADER_BYTES_MAX, Header, decode_frame, decode_header, frame_len,
    parse_file_name,
};
use crate::store::{Readable as _, Store, Window, read_start, segment_names};

/// A segment with its header.
struct Part {
    name: String,
    header: Header,
    /// Where its first frame begins, in bytes.
    start: u64,
    /// Whether its records were removed.
    is_removed: bool,
}

/// Where a reader ended, so that the next one need not read the segment from its start.
#[derive(Clone, Debug, Default)]
pub struct Place {
    segment: String,
    /// Of the last frame, in bytes.
    offset: u64,
    /// Its first record.
    seq: u64,
}

/// Gives each leaf with a seq in `range`, in order, to `take`, which may break off. Says which seq
/// would have been the next: less than the end of the range if it broke off or the log ends before.
///
/// # Errors
/// What the system says, and `InvalidData` when a record in between is missing.
pub fn each_leaf(
    store: &impl Store,
    range: Range<u64>,
    take: impl FnMut(u64, &[u8]) -> ControlFlow<()>,
) -> io::Result<u64> {
    each_leaf_from(store, range, &mut Place::default(), take)
}

/// As [`each_leaf`], for readers that come again: begins at `place` if that helps, and moves it.
///
/// # Errors
/// As [`each_leaf`].
pub fn each_leaf_from(
    store: &impl Store,
    range: Range<u64>,
    place: &mut Place,
    mut take: impl FnMut(u64, &[u8]) -> ControlFlow<()>,
) -> io::Result<u64> {
    let mut next = range.start;
    let parts = parts_from(store, range.start)?;
    for (at, part) in parts.iter().enumerate() {
        if next >= range.end {
            break;
        }
        let after = parts.get(at + 1);
        if after.is_some_and(|after| after.header.index == part.header.index) {
            // Begun in vain: the next one stands in its place.
            continue;
        }
        if part.is_removed {
            let end = after.map_or(u64::MAX, |after| after.header.first_seq);
            if next < end {
                return Err(removed(next));
            }
            continue;
        }
        let prev_len = after.map_or(u64::MAX, |after| after.header.prev_len);
        let progress = &mut Progress { next: &mut next, place };
        if frames(store, part, prev_len, &range, progress, &mut take)?.is_break() {
            break;
        }
    }
    Ok(next)
}

/// The header of the last segment that begins at or before `seq`.
///
/// # Errors
/// What the system says.
pub fn header_at(store: &impl Store, seq: u64) -> io::Result<Option<Header>> {
    let parts = parts_from(store, seq)?.into_iter();
    Ok(parts.take_while(|part| part.header.first_seq <= seq).map(|part| part.header).last())
}

/// The segments that have a header, from the one that holds `seq` on.
fn parts_from(store: &impl Store, seq: u64) -> io::Result<Vec<Part>> {
    let names = segment_names(store)?;
    let first = |name: &String| parse_file_name(name).map_or(0, |(first, _)| first);
    // Several may begin with the same record: a segment that was begun in vain is one of them.
    let holding = names.iter().map(first).filter(|&first| first <= seq).max().unwrap_or(0);
    let mut parts = Vec::new();
    for name in names.into_iter().skip_while(|name| first(name) < holding) {
        let file = open_segment(store, &name)?;
        let start = read_start(&file, HEADER_BYTES_MAX)?;
        if let Ok((header, len)) = decode_header(&start) {
            let start = u64::try_from(len).unwrap_or(u64::MAX);
            parts.push(Part { name, header, start, is_removed: file.is_removed() });
        }
    }
    Ok(parts)
}

/// How far a reader is.
struct Progress<'p> {
    next: &'p mut u64,
    place: &'p mut Place,
}

fn frames(
    store: &impl Store,
    part: &Part,
    prev_len: u64,
    range: &Range<u64>,
    Progress { next, place }: &mut Progress<'_>,
    take: &mut impl FnMut(u64, &[u8]) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    if part.header.first_seq > **next {
        return Err(missing(**next));
    }
    let file = open_segment(store, &part.name)?;
    let end = file.size()?.min(prev_len);
    let mut window = Window::over(end);
    let is_here = place.segment == part.name && place.seq <= **next;
    let mut offset = if is_here { place.offset } else { part.start };
    while offset < end && **next < range.end {
        let want = frame_len(window.at(&file, offset, FRAME_PREFIX_BYTES)?).unwrap_or(0);
        // What cannot be read is the end, a torn tail, or damage that shows as a missing record.
        let Ok(frame) = decode_frame(window.at(&file, offset, want)?) else { break };
        if place.segment != part.name {
            place.segment.clone_from(&part.name);
        }
        (place.offset, place.seq) = (offset, frame.seq_first);
        for (seq, leaf) in (frame.seq_first..).zip(frame.leaves()) {
            if **next >= range.end {
                break;
            }
            if seq > **next {
                return Err(missing(**next));
            }
            if seq < **next {
                continue;
            }
            if take(seq, leaf).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            **next += 1;
        }
        offset += u64::try_from(frame.bytes.len()).unwrap_or(u64::MAX);
    }
    Ok(ControlFlow::Continue(()))
}

/// The records that were removed, as the headers tell: of each range first and end.
///
/// # Errors
/// What the system says.
pub fn removed_ranges(store: &impl Store) -> io::Result<Vec<Range<u64>>> {
    let parts = parts_from(store, 0)?;
    let after = parts.iter().skip(1).map(|part| part.header.first_seq);
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for (part, end) in parts.iter().zip(after) {
        let range = part.header.first_seq..end;
        match ranges.last_mut() {
            _ if !part.is_removed || range.is_empty() => {}
            Some(last) if last.end == range.start => last.end = range.end,
            _ => ranges.push(range),
        }
    }
    Ok(ranges)
}

fn removed(seq: u64) -> io::Error {
    let text = format!("record {seq} was removed by retention; its hash is in the tiles");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn missing(seq: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("record {seq} is missing"))
}

/// One leaf as bytes, if the log has it and it was not removed.
///
/// # Errors
/// As [`each_leaf`].
pub fn leaf(store: &impl Store, seq: u64) -> io::Result<Option<Vec<u8>>> {
    let mut found = None;
    if removed_ranges(store)?.iter().any(|range| range.contains(&seq)) {
        return Ok(None);
    }
    each_leaf(store, seq..seq.saturating_add(1), |_, leaf| {
        found = Some(leaf.to_vec());
        ControlFlow::Break(())
    })?;
    Ok(found)
}

#[cfg(test)]
#[cfg(feature = "write")]
mod tests {
    use std::sync::Arc;

    use moat_model::clock::Manual;

    use super::*;
    use crate::committer::{Committer, Options};
    use crate::record::{Body, decode_leaf};
    use crate::sim::SimFs;

    #[test]
    fn any_range_gives_its_records_and_no_other() {
        let fs = SimFs::default();
        let options = Options { segment_bytes: 2_000, ..Options::new("log/1") };
        let clock = Arc::new(Manual::at(1_000, 1));
        let (mut log, _) = Committer::open(fs.clone(), clock, options).unwrap();
        for n in 0..20 {
            let body = Body::admin(format!("entry {n}")).encode().unwrap();
            log.commit(&[&body, &body, &body]).unwrap();
        }
        let records = log.close().unwrap();
        assert_eq!(records, 62);
        for from in 0..records {
            for end in from..=records + 1 {
                let mut seqs = Vec::new();
                let next = each_leaf(&fs, from..end, |seq, bytes| {
                    assert_eq!(decode_leaf(bytes).unwrap().head.seq, seq);
                    seqs.push(seq);
                    ControlFlow::Continue(())
                });
                assert_eq!(next.unwrap(), end.min(records));
                assert_eq!(seqs, (from..end.min(records)).collect::<Vec<_>>());
            }
            let first = header_at(&fs, from).unwrap().unwrap().first_seq;
            assert!(first <= from);
            assert!(leaf(&fs, from).unwrap().is_some());
        }
        assert_eq!(leaf(&fs, records).unwrap(), None);
        let middle = segment_names(&fs).unwrap()[3].clone();
        fs.take(&middle);
        let error = each_leaf(&fs, 0..records, |_, _| ControlFlow::Continue(())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
