//! Old segments: packed once they are full and signed, removed once nothing asks to keep them.
//!
//! Nothing that is still written, or not yet signed, is touched. A packed segment replaces the plain
//! one only after it was read back and found equal. Of a removed one the header stays, and its hashes
//! in the tree; that it goes is on record before.

use std::io;
use std::time::{Duration, Instant};

use moat_model::Class;

use crate::entries::header_at;
use crate::fs::{Append as _, LogFs};
use crate::packed::{CHUNK_BYTES, PACKED_SUFFIX, Packed, pack};
use crate::record::{Body, decode_leaf};
use crate::sealed::{REMOVED_SUFFIX, open_segment};
use crate::segment::{
    FRAME_PREFIX_BYTES, HEADER_BYTES_MAX, decode_frame, decode_header, frame_len, parse_file_name,
};
use crate::store::{Readable, Store, Window, read_from, read_start, segment_names};

/// What a segment is called while it is packed.
const FRESH_SUFFIX: &str = ".zst.new";
/// Longest pause after a chunk was packed.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// How long records are kept, by the class of the fields in them, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Every record, at least.
    pub any_ns: u64,
    /// Records with a field of class C1.
    pub c1_ns: u64,
    /// Of class C2.
    pub c2_ns: u64,
    /// Of class PAN.
    pub pan_ns: u64,
    /// Of class C3.
    pub c3_ns: u64,
}

impl Retention {
    /// How long this record is kept: as long as the strictest of its fields asks.
    #[must_use]
    pub fn of(&self, body: &Body) -> u64 {
        let of = |class| match class {
            Class::C1 => self.c1_ns,
            Class::C2 => self.c2_ns,
            Class::Pan => self.pan_ns,
            Class::C3 => self.c3_ns,
            // Of those nothing is kept but that there was one.
            Class::Sad => self.any_ns,
        };
        body.fields.iter().map(|field| of(field.class())).fold(self.any_ns, u64::max)
    }
}

/// A segment that is full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Old {
    /// Its name.
    pub name: String,
    /// Its first record.
    pub first: u64,
    /// The first record behind it.
    pub end: u64,
}

/// The segments that are full, and of which all records are below `end`.
///
/// # Errors
/// What the system says.
pub fn old_segments(store: &impl Store, end: u64) -> io::Result<Vec<Old>> {
    let names = segment_names(store)?;
    let first = |name: &String| parse_file_name(name).map(|(first, _)| first);
    let mut old = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let Some(own) = first(name) else { continue };
        // Files that begin with the same record stand in for each other; what is behind them counts.
        let next = names.iter().skip(at + 1).filter_map(first).find(|next| *next > own);
        if let Some(next) = next.filter(|next| *next <= end) {
            old.push(Old { name: name.clone(), first: own, end: next });
        }
    }
    Ok(old)
}

/// Packs one segment. Says whether it was there to be packed; `go_on` may break it off.
///
/// # Errors
/// What the system says, `Interrupted` when it was broken off; then the segment is as it was.
pub fn seal<F: LogFs>(fs: &F, name: &str, go_on: &dyn Fn() -> bool) -> io::Result<bool> {
    let plain = match fs.open(name) {
        Ok(plain) => plain,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let stem = name.strip_suffix(".seg").unwrap_or(name);
    let fresh = format!("{stem}.seg{FRESH_SUFFIX}");
    remove_if_there(fs, &fresh)?;
    let mut file = fs.create(&fresh)?;
    let mut begun = Instant::now();
    pack(&plain, |part| {
        if !go_on() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        write_part(&mut file, part)?;
        // At most half of one core: records come first.
        std::thread::sleep(begun.elapsed().min(PAUSE_MAX));
        begun = Instant::now();
        Ok(())
    })?;
    file.sync()?;
    if !is_equal(&plain, &Packed::open(fs.open(&fresh)?)?)? {
        let text = format!("{name} was packed and reads otherwise; it stays as it is");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    fs.rename(&fresh, &format!("{name}{PACKED_SUFFIX}"))?;
    fs.sync_dir()?;
    fs.remove(name)?;
    fs.sync_dir()?;
    Ok(true)
}

fn write_part(file: &mut impl crate::fs::Append, mut part: &[u8]) -> io::Result<()> {
    while !part.is_empty() {
        match file.write(part) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(len) => part = part.get(len..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_equal(one: &impl Readable, other: &impl Readable) -> io::Result<bool> {
    let size = one.size()?;
    let mut offset = 0;
    while offset < size {
        let bytes = read_from(one, offset, CHUNK_BYTES)?;
        if bytes.is_empty() || bytes != read_from(other, offset, bytes.len())? {
            return Ok(false);
        }
        offset += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    }
    Ok(other.size()? == size)
}

/// Until when the records of a segment must be kept, in nanoseconds of UTC; `None` if it was removed
/// or cannot be read to its end, which is no reason to remove it.
///
/// # Errors
/// What the system says.
pub fn keep_until(store: &impl Store, old: &Old, retention: &Retention) -> io::Result<Option<u64>> {
    let file = open_segment(store, &old.name)?;
    let start = read_start(&file, HEADER_BYTES_MAX)?;
    let Ok((_, header_len)) = decode_header(&start) else { return Ok(None) };
    if file.is_removed() {
        return Ok(None);
    }
    let mut offset = u64::try_from(header_len).unwrap_or(u64::MAX);
    let (mut window, mut until, mut next) = (Window::over(file.size()?), 0, old.first);
    while next < old.end {
        let want = frame_len(window.at(&file, offset, FRAME_PREFIX_BYTES)?).unwrap_or(0);
        let Ok(frame) = decode_frame(window.at(&file, offset, want)?) else { return Ok(None) };
        for leaf in frame.leaves() {
            let Ok(leaf) = decode_leaf(leaf) else { return Ok(None) };
            until = until.max(leaf.head.t_wall_ns.saturating_add(retention.of(&leaf.body)));
            next = next.max(leaf.head.seq.saturating_add(1));
        }
        offset += u64::try_from(frame.bytes.len()).unwrap_or(u64::MAX);
    }
    Ok(Some(until))
}

/// The first record that must stay, because an intent that was open when the last segment began may
/// still get its outcome.
///
/// # Errors
/// What the system says.
pub fn first_needed(store: &impl Store) -> io::Result<u64> {
    let last = header_at(store, u64::MAX)?;
    Ok(last.map_or(0, |header| header.oldest_open.unwrap_or(header.first_seq)))
}

/// Removes a segment but for its header. Only after a record says so.
///
/// # Errors
/// What the system says; then it is there, or not, and never without its header.
pub fn retire<F: LogFs>(fs: &F, name: &str) -> io::Result<()> {
    let file = open_segment(fs, name)?;
    if file.is_removed() {
        return Ok(());
    }
    let start = read_start(&file, HEADER_BYTES_MAX)?;
    let (_, len) = decode_header(&start).map_err(io::Error::other)?;
    fs.replace(&format!("{name}{REMOVED_SUFFIX}"), start.get(..len).unwrap_or_default())?;
    remove_if_there(fs, name)?;
    remove_if_there(fs, &format!("{name}{PACKED_SUFFIX}"))?;
    fs.sync_dir()
}

fn remove_if_there(fs: &impl LogFs, name: &str) -> io::Result<()> {
    match fs.open(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => fs.remove(name),
    }
}

#[cfg(test)]
#[path = "keep_tests.rs"]
mod tests;
