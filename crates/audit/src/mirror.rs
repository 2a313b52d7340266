//! A mirror of a log's folder, and repair of the one from the other.
//!
//! What is taken over is proven first: the hashes of the records lead to a signed root, and the
//! records lead to their hashes. Two signed roots that cannot both be of one log are no rot: then
//! nothing is copied and nothing is repaired.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;

use moat_tlog::growth::Edge;
use moat_tlog::note::NOTE_BYTES_MAX;
use moat_tlog::tile::{Tile, WIDTH_MAX};
use moat_tlog::tree::{TileReader as _, Tree};
use moat_tlog::{Frontier, Hash, Head, Sha256, Sm3};

use crate::fs::{Append as _, LogFs, TreeFs};
use crate::hash::{leaf_hash, sha256};
use crate::packed::PACKED_SUFFIX;
use crate::sealed::{REMOVED_SUFFIX, Segment, open_segment};
use crate::segment::{
    FRAME_PREFIX_BYTES, HEADER_BYTES_MAX, Header, decode_frame, decode_header, frame_len,
    parse_file_name,
};
use crate::sidecar::{HEAD_FILE, SLOT_BYTES};
use crate::store::{Readable as _, Store, Window, read_file, read_from, read_start, segment_names};
use crate::tiles::{LogHash, SIGNED_FILE, Stored, WITNESSED_FILE, checkpoint};

/// Name of the file in a log's folder, or in its mirror, that says that there are two histories:
/// while it is there nothing more is taken.
pub const FROZEN_FILE: &str = "frozen";
/// Name of the file that tells the auditor what was repaired, one line each.
pub const REPAIRED_FILE: &str = "repaired";
/// Longest such file, in bytes.
pub const REPAIRED_BYTES_MAX: usize = 64 * 1024;

/// How much is copied at once, in bytes.
const COPY_BYTES: usize = 1024 * 1024;
/// Most tiles that are held before they are written.
const TILES_HELD_MAX: usize = 256;
/// How often a name for what was damaged is looked for.
const NAMES_MAX: u32 = 1_000;
/// Longest list of the log's keys, in bytes.
const VKEYS_BYTES_MAX: usize = 64 * 1024;

/// Why nothing was copied or repaired.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// Somebody signed two histories.
    #[error("two histories were signed: {0}; nothing was taken over")]
    Fork(String),
    /// It was said before that there are two histories.
    #[error("the folder is frozen: two histories were signed; see its file `frozen`")]
    Frozen,
    /// The log has become shorter.
    #[error("the log has {records} signed records, its mirror {mirrored}: it was put back")]
    PutBack {
        /// How many the log has.
        records: u64,
        /// How many were mirrored.
        mirrored: u64,
    },
    /// There is no checkpoint, or none that can be read.
    #[error("the {0} has no checkpoint that can be read")]
    Checkpoint(&'static str),
    /// They are not of one log.
    #[error("the log is {0}, the mirror is of {1}")]
    OtherLog(String, String),
    /// Tiles do not lead to the checkpoint beside them.
    #[error("the tiles of the {0} do not lead to what was signed")]
    Tiles(&'static str),
    /// A record is not the one that was signed.
    #[error("record {seq} in {name} is not the one that was signed; `moat audit repair` may help")]
    Record {
        /// The segment.
        name: String,
        /// The first such record.
        seq: u64,
    },
    /// The system failed.
    #[error("a copy cannot be read or written")]
    Io(#[from] io::Error),
}

/// The hashes of records, from tiles of level 0.
struct Hashes<'s, S> {
    stored: Stored<'s, S>,
    size: u64,
    here: Option<(u64, Vec<Hash>)>,
}

impl<'s, S: Store> Hashes<'s, S> {
    fn of<H: LogHash>(store: &'s S, size: u64) -> Hashes<'s, S> {
        Hashes { stored: Stored::of::<H>(store, size), size, here: None }
    }

    fn get(&mut self, seq: u64) -> Option<Hash> {
        let index = seq / u64::from(WIDTH_MAX);
        if self.here.as_ref().is_none_or(|(here, _)| *here != index) {
            let tile = Tile::in_tree(0, index, self.size)?;
            let bytes = self.stored.read(tile).ok()?;
            self.here = Some((index, tile.decode(&bytes).ok()?));
        }
        let at = usize::try_from(seq % u64::from(WIDTH_MAX)).ok()?;
        self.here.as_ref().and_then(|(_, hashes)| hashes.get(at).copied())
    }
}

/// What the bytes of one segment lead to.
struct Checked {
    header: Header,
    /// The first record behind it, as far as it can be read.
    end: u64,
    /// The first record that is not the one that was signed, or cannot be read.
    bad: Option<u64>,
}

/// Reads a segment against the hashes that its records must have, as far as `hashes` knows them, to
/// `until` at least, and against what the header after it says of its end.
fn check_segment<S: Store>(
    store: &S,
    name: &str,
    after: Option<&Header>,
    until: u64,
    hashes: &mut Hashes<'_, impl Store>,
) -> io::Result<Option<Checked>> {
    let file = match open_segment(store, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let start = read_start(&file, HEADER_BYTES_MAX)?;
    let Ok((header, len)) = decode_header(&start) else { return Ok(None) };
    let mut chain = sha256(start.get(..len).unwrap_or_default());
    let mut found = Checked { end: header.first_seq, header, bad: None };
    let (mut window, mut offset) =
        (Window::over(file.size()?), u64::try_from(len).unwrap_or(u64::MAX));
    let after = after.filter(|after| after.index == found.header.index + 1);
    let ends_at = after.map_or(u64::MAX, |after| after.prev_len);
    while offset < ends_at {
        let want = frame_len(window.at(&file, offset, FRAME_PREFIX_BYTES)?).unwrap_or(0);
        let Ok(frame) = decode_frame(window.at(&file, offset, want)?) else { break };
        if frame.prev_frame_hash != chain || (!frame.is_footer && frame.seq_first != found.end) {
            break;
        }
        for leaf in frame.leaves() {
            let is_known = found.end < hashes.size;
            if is_known && hashes.get(found.end) != Some(leaf_hash(leaf)) {
                found.bad = Some(found.end);
                return Ok(Some(found));
            }
            found.end += 1;
        }
        chain = frame.hash();
        offset += u64::try_from(frame.bytes.len()).unwrap_or(u64::MAX);
    }
    let is_other = after.is_some_and(|after| after.prev_hash != chain || offset != ends_at);
    if found.end < until || is_other {
        found.bad = Some(found.end);
    }
    Ok(Some(found))
}

/// A segment by its name.
struct Named {
    name: String,
    first: u64,
    /// The next one that begins with another record, and that record.
    next: Option<(String, u64)>,
}

fn segments(names: &BTreeSet<String>) -> Vec<Named> {
    let first = |name: &String| parse_file_name(name).map(|(first, _)| first);
    let sorted: Vec<&String> = names.iter().collect();
    let mut all = Vec::new();
    for (at, name) in sorted.iter().enumerate() {
        let Some(own) = first(name) else { continue };
        let later = sorted.iter().skip(at + 1);
        let next = later.filter_map(|name| Some(((*name).clone(), first(name)?)));
        let next = next.into_iter().find(|(_, first)| *first > own);
        all.push(Named { name: (*name).clone(), first: own, next });
    }
    all
}

/// The header of the next segment, if it can be read.
fn header_after(store: &impl Store, named: &Named) -> io::Result<Option<Header>> {
    let Some((next, _)) = &named.next else { return Ok(None) };
    match open_segment(store, next) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => {
            let start = read_start(&file?, HEADER_BYTES_MAX)?;
            Ok(decode_header(&start).ok().map(|(header, _)| header))
        }
    }
}

/// What was mirrored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mirrored {
    /// How many signed records the mirror had.
    pub from: u64,
    /// How many it has.
    pub to: u64,
    /// How many segments were copied.
    pub segments: u64,
    /// How many bytes of them.
    pub bytes: u64,
}

/// Brings a mirror up to the log in `from`. Signatures are the caller's to look at, before.
///
/// # Errors
/// When the log contradicts what was mirrored before, or itself; then the mirror stays as it was.
pub fn mirror<S: Store, F: LogFs + TreeFs>(from: &S, to: &F) -> Result<Mirrored, MirrorError> {
    if read_file(to, FROZEN_FILE, 1)?.is_some() {
        return Err(MirrorError::Frozen);
    }
    // What may only be behind what is read after it comes first: the log may be live.
    let small = small_files(from)?;
    let signed = checkpoint(from)?.and_then(Result::ok).ok_or(MirrorError::Checkpoint("log"))?;
    let head = *signed.checkpoint().head();
    let old = checkpoint(to)?.and_then(Result::ok);
    if let Some(old) = &old
        && old.checkpoint().origin() != signed.checkpoint().origin()
    {
        let [one, other] = [&signed, old].map(|one| one.checkpoint().origin().to_owned());
        return Err(MirrorError::OtherLog(one, other));
    }
    let old = old.map_or(empty(), |old| *old.checkpoint().head());
    if head.size < old.size {
        return Err(MirrorError::PutBack { records: head.size, mirrored: old.size });
    }
    continues(from, &old, &head)?;
    let tiles = grow::<Sha256, _, _>(from, to, &old, &head)?;
    let mut done = copy_segments(from, to, head.size)?;
    tiles.write(to)?;
    if let Some(second) = second_head(from)? {
        grow::<Sm3, _, _>(from, to, &empty_of::<Sm3>(), &second)?.write(to)?;
    }
    for (name, bytes) in small {
        LogFs::replace(to, &name, &bytes)?;
    }
    // Last: until then the mirror is what it was before.
    LogFs::replace(to, crate::tiles::CHECKPOINT_FILE, signed.to_string().as_bytes())?;
    (done.from, done.to) = (old.size, head.size);
    Ok(done)
}

fn empty() -> Head {
    empty_of::<Sha256>()
}

fn empty_of<H: LogHash>() -> Head {
    Head { size: 0, root: H::empty() }
}

/// The head of the SM3 tree, if there is one.
fn second_head(store: &impl Store) -> io::Result<Option<Head>> {
    let bytes = read_file(store, Sm3::CHECKPOINT, NOTE_BYTES_MAX + 1)?;
    let signed = bytes.and_then(|b| moat_tlog::checkpoint::SignedCheckpoint::parse(&b).ok());
    Ok(signed.map(|signed| *signed.checkpoint().head()))
}

fn small_files(from: &impl Store) -> io::Result<Vec<(String, Vec<u8>)>> {
    let names = [
        (HEAD_FILE, 2 * SLOT_BYTES),
        (SIGNED_FILE, NOTE_BYTES_MAX),
        (WITNESSED_FILE, NOTE_BYTES_MAX),
        (Sm3::SIGNED, NOTE_BYTES_MAX),
        (Sm3::CHECKPOINT, NOTE_BYTES_MAX),
        (crate::tree::VKEY_FILE, VKEYS_BYTES_MAX),
    ];
    let mut files = Vec::new();
    for (name, bytes_max) in names {
        files.extend(read_file(from, name, bytes_max)?.map(|bytes| (name.to_owned(), bytes)));
    }
    Ok(files)
}

/// Whether the log has at the old size what was mirrored then.
fn continues(from: &impl Store, old: &Head, head: &Head) -> Result<(), MirrorError> {
    if old.size == 0 {
        return Ok(());
    }
    let tree = Tree::<Sha256, _>::new(old.size, Stored::new(from, head.size));
    let root = tree.and_then(|mut tree| tree.root()).map_err(|_| MirrorError::Tiles("log"))?;
    if root == old.root {
        return Ok(());
    }
    Err(MirrorError::Fork(format!("its first {} records have another root", old.size)))
}

/// Tiles that were made and are to be written.
struct Grown {
    files: Vec<(String, Vec<u8>)>,
}

impl Grown {
    fn write(self, to: &impl TreeFs) -> io::Result<()> {
        self.files.chunks(TILES_HELD_MAX).try_for_each(|files| to.write_files(files))
    }
}

/// The tiles of a tree that grew, from the hashes that the log has, if they lead to what was signed.
fn grow<H: LogHash, S: Store, F: LogFs + TreeFs>(
    from: &S,
    to: &F,
    old: &Head,
    head: &Head,
) -> Result<Grown, MirrorError> {
    let mut edge = Edge::<H>::read(old.size, &mut Stored::of::<H>(to, old.size))
        .map_err(|_| MirrorError::Tiles("mirror"))?;
    if edge.root() != old.root {
        return Err(MirrorError::Tiles("mirror"));
    }
    let (mut hashes, mut full, mut files) =
        (Hashes::of::<H>(from, head.size), Vec::new(), Vec::new());
    let file = |(tile, bytes): (Tile, Vec<u8>)| (format!("{}{}", H::FOLDER, tile.path()), bytes);
    while edge.size() < head.size {
        let hash = hashes.get(edge.size()).ok_or(MirrorError::Tiles("log"))?;
        edge.push(hash, &mut full).map_err(io::Error::other)?;
        files.extend(full.drain(..).map(file));
    }
    if edge.root() != head.root {
        return Err(MirrorError::Tiles("log"));
    }
    files.extend(edge.partial().map(file));
    Ok(Grown { files })
}

/// Copies the segments that the mirror lacks, or of which it has less.
fn copy_segments<S: Store, F: LogFs>(from: &S, to: &F, size: u64) -> Result<Mirrored, MirrorError> {
    let (mut done, mut hashes) = (Mirrored::default(), Hashes::of::<Sha256>(from, size));
    let names: BTreeSet<String> = segment_names(from)?.into_iter().collect();
    for named in segments(&names) {
        let after = header_after(from, &named)?;
        let Named { name, next, .. } = named;
        let file = open_segment(from, &name)?;
        let there = match open_segment(to, &name) {
            Ok(there) => there.size()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error.into()),
        };
        // What retention removed from the log stays in a mirror that has it.
        if file.size()? <= there {
            continue;
        }
        let until = next.map_or(size, |(_, next)| next).min(size);
        if !file.is_removed() {
            let found = check_segment(from, &name, after.as_ref(), until, &mut hashes)?;
            if let Some(seq) = found.map_or(Some(0), |found| found.bad) {
                return Err(MirrorError::Record { name, seq });
            }
        }
        done.bytes += copy(from, to, &name, ".mirror")?;
        done.segments += 1;
    }
    Ok(done)
}

/// Copies one segment in the form that it has; under its name only when it is whole and durable.
fn copy<S: Store, F: LogFs>(from: &S, to: &F, name: &str, fresh: &str) -> io::Result<u64> {
    let suffix = match open_segment(from, name)? {
        Segment::Plain(_) => "",
        Segment::Packed(_) | Segment::Damaged(_) => PACKED_SUFFIX,
        Segment::Removed(_) => REMOVED_SUFFIX,
    };
    let source = from.open(&format!("{name}{suffix}"))?;
    let fresh = format!("{name}{fresh}");
    if is_there(to, &fresh)? {
        to.remove(&fresh)?;
    }
    let mut file = to.create(&fresh)?;
    let mut copied = 0;
    loop {
        let part = read_from(&source, copied, COPY_BYTES)?;
        if part.is_empty() {
            break;
        }
        let mut rest = part.as_slice();
        while !rest.is_empty() {
            match file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => rest = rest.get(len..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        copied += u64::try_from(part.len()).unwrap_or(u64::MAX);
    }
    file.sync()?;
    to.rename(&fresh, &format!("{name}{suffix}"))?;
    to.sync_dir()?;
    if suffix == PACKED_SUFFIX && is_there(to, name)? {
        to.remove(name)?;
        to.sync_dir()?;
    }
    Ok(copied)
}

fn is_there(store: &impl Store, name: &str) -> io::Result<bool> {
    match store.open(name) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What was repaired, and what could not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repair {
    /// How many records were held against what was signed.
    pub size: u64,
    /// Segments that were restored: name, first record, first record behind it, first bad one.
    pub segments: Vec<(String, Range<u64>, u64)>,
    /// Segments that are bad in both folders, with the records that are lost.
    pub lost: Vec<(String, Range<u64>)>,
    /// Tiles that were made anew.
    pub tiles: u64,
}

/// Restores in `fs` what rotted, from `mirror`, as far as the mirror is what was signed. `signed` are
/// heads that the log signed, by whatever checkpoint the caller believes. The log must not be open
/// for writing.
///
/// # Errors
/// When nothing shows that the mirror is what was signed, or two histories were.
pub fn repair<S: Store, F: LogFs + TreeFs>(
    fs: &F,
    mirror: &S,
    signed: &[Head],
) -> Result<Repair, MirrorError> {
    let theirs = checkpoint(mirror)?.and_then(Result::ok);
    let theirs = *theirs.ok_or(MirrorError::Checkpoint("mirror"))?.checkpoint().head();
    let size = prove_mirror(mirror, &theirs, signed)?;
    let mut done = Repair { size, ..Repair::default() };
    let mut hashes = Hashes::of::<Sha256>(mirror, theirs.size);
    hashes.size = size;
    let names = segment_names(fs)?.into_iter().chain(segment_names(mirror)?).collect();
    for named in segments(&names) {
        // Where this header is damaged too, the mirror's says how the segment ended.
        let theirs = header_after(mirror, &named)?;
        let ours = header_after(fs, &named)?.or_else(|| theirs.clone());
        let Named { name, first, next } = named;
        let is_removed = open_segment(fs, &name).is_ok_and(|segment| segment.is_removed());
        if first >= size || is_removed {
            continue;
        }
        let until = next.map_or(size, |(_, next)| next).min(size);
        let own = check_segment(fs, &name, ours.as_ref(), until, &mut hashes)?;
        let bad = own.as_ref().map_or(Some(first), |own| own.bad);
        let Some(bad) = bad else { continue };
        let other = check_segment(mirror, &name, theirs.as_ref(), until, &mut hashes)?;
        let Some(other) =
            other.filter(|other| other.bad.is_none() && other.header.first_seq == first)
        else {
            done.lost.push((name, bad..until));
            continue;
        };
        set_aside(fs, &name)?;
        copy(mirror, fs, &name, ".repair")?;
        done.segments.push((name, first..other.end, bad));
    }
    done.tiles = repair_tiles::<Sha256, _>(fs, &mut hashes, size)?;
    note(fs, &done)?;
    Ok(done)
}

/// Up to where the mirror is shown to be what was signed.
fn prove_mirror(mirror: &impl Store, theirs: &Head, signed: &[Head]) -> Result<u64, MirrorError> {
    let mut tree = Frontier::<Sha256>::new();
    let mut hashes = Hashes::of::<Sha256>(mirror, theirs.size);
    let mut heads: Vec<&Head> = signed.iter().filter(|head| head.size <= theirs.size).collect();
    heads.sort_by_key(|head| head.size);
    let mut proven = None;
    for head in heads {
        while tree.size() < head.size {
            let hash = hashes.get(tree.size()).ok_or(MirrorError::Tiles("mirror"))?;
            tree.push(hash).map_err(io::Error::other)?;
        }
        if tree.root() == head.root {
            proven = Some(head.size);
        } else if proven.is_some() || head.size == theirs.size && theirs.root == tree.root() {
            let text = format!("the mirror has other records among the first {}", head.size);
            return Err(MirrorError::Fork(text));
        } else {
            return Err(MirrorError::Tiles("mirror"));
        }
    }
    proven.ok_or(MirrorError::Tiles("mirror"))
}

/// Keeps what was damaged, under another name: it may be evidence.
fn set_aside(fs: &impl LogFs, name: &str) -> io::Result<()> {
    for file in [name.to_owned(), format!("{name}{PACKED_SUFFIX}")] {
        if !is_there(fs, &file)? {
            continue;
        }
        let mut aside = (0..NAMES_MAX).map(|n| format!("{file}.damaged-{n}"));
        let free = aside.find(|aside| matches!(is_there(fs, aside), Ok(false)));
        fs.rename(&file, &free.ok_or(io::ErrorKind::AlreadyExists)?)?;
    }
    fs.sync_dir()
}

/// Makes the tiles of a tree of `size` leaves anew where they are not right. Gives how many.
fn repair_tiles<H: LogHash, F: LogFs + TreeFs>(
    fs: &F,
    hashes: &mut Hashes<'_, impl Store>,
    size: u64,
) -> Result<u64, MirrorError> {
    let own = checkpoint(fs)?.and_then(Result::ok);
    let own = own.map_or(0, |own| own.checkpoint().head().size);
    let (mut edge, mut full, mut held, mut made) = (Edge::<H>::new(), Vec::new(), Vec::new(), 0u64);
    let mut look = |tiles: &mut Vec<(Tile, Vec<u8>)>, held: &mut Vec<_>| -> io::Result<()> {
        for (tile, bytes) in tiles.drain(..) {
            if Stored::of::<H>(fs, own).read(tile).ok().as_ref() != Some(&bytes) {
                held.push((format!("{}{}", H::FOLDER, tile.path()), bytes));
                made += 1;
            }
        }
        if held.len() >= TILES_HELD_MAX {
            fs.write_files(&std::mem::take(held))?;
        }
        Ok(())
    };
    while edge.size() < size {
        let hash = hashes.get(edge.size()).ok_or(MirrorError::Tiles("mirror"))?;
        edge.push(hash, &mut full).map_err(io::Error::other)?;
        look(&mut full, &mut held)?;
    }
    if size == own {
        look(&mut edge.partial().collect(), &mut held)?;
    }
    fs.write_files(&held)?;
    Ok(made)
}

/// Has the auditor put on record what was repaired, at its next start.
fn note(fs: &impl LogFs, done: &Repair) -> io::Result<()> {
    let mut lines = read_file(fs, REPAIRED_FILE, REPAIRED_BYTES_MAX)?.unwrap_or_default();
    for (name, range, bad) in &done.segments {
        let (first, last) = (range.start, range.end.saturating_sub(1));
        lines.extend_from_slice(
            format!(
                "segment {name} with the records {first} to {last} restored from a mirror, from \
                 record {bad} on it was not what was signed; the damaged file is kept\n"
            )
            .as_bytes(),
        );
    }
    if done.tiles > 0 {
        lines.extend_from_slice(
            format!("{} tiles made anew from a mirror\n", done.tiles).as_bytes(),
        );
    }
    if lines.is_empty() { Ok(()) } else { LogFs::replace(fs, REPAIRED_FILE, &lines) }
}

#[cfg(test)]
#[path = "mirror_tests.rs"]
mod tests;
