//! The tree behind a log: its tiles on the disk, and what was signed of it last.
//!
//! Comes after the committer and knows nothing of it: leaf hashes in, files out. A checkpoint is
//! signed only over records that were durable before and tiles that are durable now; what is about
//! to be signed is durable before the signature exists; and no checkpoint is smaller than the last,
//! or of another history. Whoever rolls the records back finds a tree that signs no more, as long as
//! anything is left that says what was signed: a log that has records says so from its first one on,
//! so one that does not was stripped.

use std::io;
use std::ops::{ControlFlow, Range};

use moat_model::Code;
use moat_model::code::audit as codes;
use moat_tlog::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
use moat_tlog::growth::{Edge, tiles};
use moat_tlog::note::{NOTE_BYTES_MAX, NoteError};
use moat_tlog::sign::Signer;
use moat_tlog::tile::{Tile, WIDTH_MAX};
use moat_tlog::{Frontier, Head, Sha256, TreeHash as _};

use crate::entries::{Place, each_leaf_from, header_at};
use crate::fs::TreeFs;
use crate::hash::Hash;
use crate::recovery::EPOCH_FILE;
use crate::sidecar::HEAD_FILE;
use crate::store::{Readable as _, Store, read_file, segment_names};
use crate::tiles::{LogHash, Stored, TILE_BYTES_MAX};

/// Name of the file with the verifier keys that sign the log now, one a line. Not secret.
pub const VKEY_FILE: &str = "log.vkey";
/// How many full tiles are held before they are written: 8 KiB each.
const HELD_TILES_MAX: usize = 64;
/// How many leaves are hashed together.
const LEAVES_AT_ONCE: usize = 64;
/// How many records are read between two looks whether to break off.
const READ_RECORDS_MAX: u64 = 65_536;

/// Why nothing is signed.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The log has fewer records than were signed: it was rolled back, or its tail is gone.
    #[error("the log has {records} records, and {signed} were signed")]
    RolledBack {
        /// How many were signed.
        signed: u64,
        /// How many there are.
        records: u64,
    },
    /// The log has records, and nothing says what was signed of them.
    #[error(
        "nothing says what was signed of the {records} records: the files signed and checkpoint are \
         gone; `moat audit resume-signing` lets it begin anew, on record"
    )]
    Stripped {
        /// How many there are.
        records: u64,
    },
    /// A record that was signed is not in the segments.
    #[error("of the {signed} records that were signed one is not in the segments: {why}")]
    Gone {
        /// How many were signed.
        signed: u64,
        /// Which, in words.
        why: String,
    },
    /// Witnesses have seen more records than there are: the whole folder was put back.
    #[error("witnesses know of {seen} records, and {signed} were signed here: {by}")]
    Ahead {
        /// How many they know of.
        seen: u64,
        /// How many were signed, as far as the folder knows.
        signed: u64,
        /// Which witnesses, each with its number.
        by: String,
    },
    /// The log does not lead to the root that was signed.
    #[error("the first {signed} records are not those that were signed")]
    OtherHistory {
        /// How many were signed.
        signed: u64,
    },
    /// The file that says what was signed last cannot be read, or speaks of another log.
    #[error("{file} does not say what was signed last: {why}")]
    State {
        /// Which file.
        file: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The key did not sign.
    #[error("the checkpoint was not signed")]
    Sign(#[from] NoteError),
    /// The system failed. Later tries begin at what was signed last.
    #[error("the tree cannot be read or written")]
    Io(#[from] io::Error),
    /// The caller wants to end.
    #[error("broken off")]
    BrokenOff,
}

impl TreeError {
    /// Whether no later try will do better without a person.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            TreeError::RolledBack { .. }
                | TreeError::Stripped { .. }
                | TreeError::Gone { .. }
                | TreeError::Ahead { .. }
                | TreeError::OtherHistory { .. }
                | TreeError::State { .. }
        )
    }

    /// The code for `moat explain`.
    #[must_use]
    pub fn code(&self) -> &'static Code {
        match self {
            TreeError::RolledBack { .. }
            | TreeError::Stripped { .. }
            | TreeError::Gone { .. }
            | TreeError::Ahead { .. }
            | TreeError::OtherHistory { .. }
            | TreeError::State { .. } => &codes::NOT_SIGNED_AGAIN,
            TreeError::Sign(_) => &codes::CANNOT_SIGN,
            TreeError::Io(_) | TreeError::BrokenOff => &codes::TREE_BEHIND,
        }
    }
}

/// Where the tree of a log lies, and what is known of it.
pub struct Home<'p, F> {
    /// The folder of the log.
    pub fs: F,
    /// A folder in other hands, or on another volume, that says too what was signed last.
    pub second: Option<F>,
    /// The log; of its SM3 tree too.
    pub origin: &'p str,
    /// What this process knows to have been signed; a folder that says less was changed.
    pub known: Option<Head>,
}

impl<'p, F: TreeFs> Home<'p, F> {
    /// A folder alone, of which nothing is known.
    #[must_use]
    pub fn new(fs: F, origin: &'p str) -> Home<'p, F> {
        Home { fs, second: None, origin, known: None }
    }

    /// Notes of a log that is not there yet that nothing of it is signed. To be called before its
    /// first record, so that a log with records and without this note is one that was stripped.
    ///
    /// # Errors
    /// When a file that is there does not say what was signed, or the system fails.
    pub fn begin<H: LogHash>(&self) -> Result<(), TreeError> {
        let is_trace = |name: &String| [EPOCH_FILE, HEAD_FILE, VKEY_FILE].contains(&name.as_str());
        let is_begun = !segment_names(&self.fs)?.is_empty() || self.fs.list()?.iter().any(is_trace);
        if is_begun || last_signed::<F, H>(self)?.is_some() {
            Ok(())
        } else {
            self.note_nothing::<H>()
        }
    }

    /// Whether nothing says any more what was signed.
    ///
    /// # Errors
    /// As [`begin`](Home::begin).
    pub fn is_stripped<H: LogHash>(&self) -> Result<bool, TreeError> {
        Ok(last_signed::<F, H>(self)?.is_none())
    }

    /// Lets a log that was stripped be signed from its first record on, as if none had been. For a
    /// person to decide, and to be put on record before.
    ///
    /// # Errors
    /// When the system fails.
    pub fn note_nothing<H: LogHash>(&self) -> Result<(), TreeError> {
        let nothing = Checkpoint::new(&self.origin_of::<H>(), Head::empty::<H>());
        let nothing = nothing.map_err(|error| of_state::<H>(&error))?;
        note::<F, H>(&self.fs, self.second.as_ref(), &nothing)
    }

    fn origin_of<H: LogHash>(&self) -> String {
        format!("{}{}", self.origin, H::ORIGIN)
    }
}

/// Makes durable what is about to be signed, in every place there is.
fn note<F: TreeFs, H: LogHash>(
    fs: &F,
    second: Option<&F>,
    what: &Checkpoint,
) -> Result<(), TreeError> {
    let text = what.to_string();
    for fs in second.into_iter().chain([fs]) {
        fs.replace(H::SIGNED, text.as_bytes())?;
    }
    Ok(())
}

/// A tree of one log.
pub struct LogTree<F, H = Sha256> {
    fs: F,
    second: Option<F>,
    origin: String,
    edge: Edge<H>,
    /// Where reading the segments ended.
    place: Place,
    /// Full tiles that are not on the disk yet.
    held: Vec<(Tile, Vec<u8>)>,
    /// Full tiles on the disk whose partial ones may go once a checkpoint covers them.
    filled: Vec<Tile>,
    signed: Option<Head>,
    /// The checkpoint that was published last by this process.
    published: Option<SignedCheckpoint>,
    /// Signatures of the checkpoint on the disk may be those of other keys.
    is_fresh: bool,
}

impl<F: TreeFs, H: LogHash> LogTree<F, H> {
    /// The tree of a log of `records` durable records as it was signed last, with tiles that are
    /// missing made anew. What is not signed yet is for [`read_to`](LogTree::read_to).
    ///
    /// Reads from the segment in which the last signed record lies, or all that was signed when the
    /// tiles do not lead to it or one of them is missing. `go_on` is asked every 65,536 records.
    ///
    /// # Errors
    /// When the log is not a continuation of what was signed, nothing says what that was, the system
    /// fails, or `go_on` breaks off.
    pub fn open(
        home: Home<'_, F>,
        records: u64,
        go_on: &dyn Fn() -> bool,
    ) -> Result<LogTree<F, H>, TreeError> {
        let signed = last_signed::<F, H>(&home)?.ok_or(TreeError::Stripped { records })?;
        if signed.size > records {
            return Err(TreeError::RolledBack { signed: signed.size, records });
        }
        let (edge, origin) = (resume(&home.fs, &signed, go_on)?, home.origin_of::<H>());
        let (held, filled, place) = (Vec::new(), Vec::new(), Place::default());
        let (fs, second, signed) = (home.fs, home.second, Some(signed));
        let (published, is_fresh) = (None, true);
        let mut tree =
            LogTree { fs, second, origin, edge, place, held, filled, signed, published, is_fresh };
        tree.read_to(tree.signed_size(), go_on)?;
        Ok(tree)
    }

    fn signed_size(&self) -> u64 {
        self.signed.map_or(0, |signed| signed.size)
    }

    /// How many leaves it has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.edge.size()
    }

    /// What was signed last.
    #[must_use]
    pub fn signed(&self) -> Option<&Head> {
        self.signed.as_ref()
    }

    /// The checkpoint that this process published last.
    #[must_use]
    pub fn published(&self) -> Option<&SignedCheckpoint> {
        self.published.as_ref()
    }

    /// What was signed last, signed again by the keys of now and kept nowhere: witnesses are asked
    /// with it whether they have seen more. With nothing signed yet it is the empty tree.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn sign_again(&self, signers: &[&dyn Signer]) -> Result<SignedCheckpoint, TreeError> {
        let head = self.signed.unwrap_or_else(Head::empty::<H>);
        let checkpoint =
            Checkpoint::new(&self.origin, head).map_err(|error| of_state::<H>(&error))?;
        Ok(checkpoint.sign(signers)?)
    }

    /// Appends the hash of a record that is durable.
    ///
    /// # Errors
    /// When full tiles cannot be written; open anew after that.
    pub fn push(&mut self, leaf: Hash) -> Result<(), TreeError> {
        // Refused beyond 2^63 leaves only.
        self.edge.push(leaf, &mut self.held).map_err(io::Error::other)?;
        if self.held.len() >= HELD_TILES_MAX { self.write_held(&[]) } else { Ok(()) }
    }

    /// Appends records from the segments up to a size, which must be durable.
    ///
    /// # Errors
    /// As [`push`](LogTree::push), and when a record is missing or `go_on` breaks off.
    pub fn read_to(&mut self, size: u64, go_on: &dyn Fn() -> bool) -> Result<(), TreeError> {
        while self.size() < size {
            let end = size.min(self.size().saturating_add(READ_RECORDS_MAX));
            let mut hashes = Vec::new();
            let (range, signed) = (self.size()..end, self.signed_size());
            let read = read_hashes::<H>(&self.fs, range, &mut self.place, |hash| hashes.push(hash));
            if self.size() < signed {
                gone(read, signed)?
            } else {
                read?
            }
            hashes.into_iter().try_for_each(|hash| self.push(hash))?;
            if self.size() < size && !go_on() {
                return Err(TreeError::BrokenOff);
            }
        }
        Ok(())
    }

    /// Makes the tiles durable, signs the tree as it is and publishes the checkpoint. Says whether
    /// there was anything to do.
    ///
    /// # Errors
    /// When a tile cannot be written or the key cannot sign; nothing smaller is ever signed after
    /// that. Open anew after any error but that of the key.
    pub fn publish(&mut self, signers: &[&dyn Signer]) -> Result<bool, TreeError> {
        let head = Head { size: self.size(), root: self.edge.root() };
        let is_known = self.signed.is_some_and(|signed| signed == head) && !self.is_fresh;
        if head.size == 0 || is_known {
            return Ok(false);
        }
        self.may_sign(&head)?;
        let partial: Vec<(Tile, Vec<u8>)> = self.edge.partial().collect();
        self.write_held(&partial)?;
        let checkpoint =
            Checkpoint::new(&self.origin, head).map_err(|error| of_state::<H>(&error))?;
        // First what is about to be signed, then the signature: one that somebody holds is never
        // larger than what a later start knows of.
        note::<F, H>(&self.fs, self.second.as_ref(), &checkpoint)?;
        self.signed = Some(head);
        // Until its checkpoint is there, this head is still to be signed.
        self.is_fresh = true;
        let signed = checkpoint.sign(signers)?;
        self.fs.replace(H::CHECKPOINT, signed.to_string().as_bytes())?;
        self.published = Some(signed);
        self.is_fresh = false;
        for tile in std::mem::take(&mut self.filled) {
            self.fs.remove_folder(&format!("{}{}.p", H::FOLDER, tile.path()))?;
        }
        Ok(true)
    }

    /// The rule of signing: the tree holds what was signed last.
    fn may_sign(&self, head: &Head) -> Result<(), TreeError> {
        let Some(signed) = self.signed else { return Ok(()) };
        if head.size < signed.size {
            return Err(TreeError::RolledBack { signed: signed.size, records: head.size });
        }
        if head.size == signed.size && head.root != signed.root {
            return Err(TreeError::OtherHistory { signed: signed.size });
        }
        Ok(())
    }

    /// Writes the full tiles that are held, and `more`, as far as they are not there already.
    ///
    /// What is right and below what was signed stays untouched: it was durable before that, and a
    /// crash while it is written again would spoil it. Anything else is written even if it reads as
    /// it should: it may be in memory only, left by a process that died before its sync, or by a
    /// sync that failed, after which another would succeed without the bytes being there.
    fn write_held(&mut self, more: &[(Tile, Vec<u8>)]) -> Result<(), TreeError> {
        let mut files = Vec::new();
        for (tile, bytes) in self.held.iter().chain(more) {
            let path = format!("{}{}", H::FOLDER, tile.path());
            let is_durable = tile.end_leaf() <= self.signed_size();
            if !is_durable || read_file(&self.fs, &path, bytes.len() + 1)?.as_ref() != Some(bytes) {
                files.push((path, bytes.clone()));
            }
        }
        self.fs.write_files(&files)?;
        self.filled.extend(self.held.drain(..).map(|(tile, _)| tile));
        Ok(())
    }
}

fn of_state<H: LogHash>(error: &CheckpointError) -> TreeError {
    TreeError::State { file: H::SIGNED, why: error.to_string() }
}

/// The larger of what was about to be signed and what was published; `None` if nothing says so.
fn last_signed<F: TreeFs, H: LogHash>(home: &Home<'_, F>) -> Result<Option<Head>, TreeError> {
    let bad = |file, why: String| TreeError::State { file, why };
    let (mut last, origin): (Option<Head>, String) = (None, home.origin_of::<H>());
    let places = [(Some(&home.fs), H::SIGNED), (Some(&home.fs), H::CHECKPOINT)];
    for (fs, file) in places.into_iter().chain([(home.second.as_ref(), H::SIGNED)]) {
        let Some(head) = fs.map_or(Ok(None), |fs| head_in::<H>(fs, file, &origin))? else {
            continue;
        };
        if last.is_some_and(|last| last.size == head.size && last.root != head.root) {
            return Err(bad(file, "it contradicts the other file".to_owned()));
        }
        last = last.max_by_size(head);
    }
    let Some(known) = home.known else { return Ok(last) };
    match last {
        Some(last) if last.size > known.size || last == known => Ok(Some(last)),
        // Nothing is ever made smaller here: whoever did it did it while this process lived.
        last => {
            let size = last.map_or(0, |last| last.size);
            let why = format!("it speaks of {size} records, this process signed {}", known.size);
            Err(bad(H::SIGNED, why))
        }
    }
}

/// The head that a file speaks of, if the file is there.
fn head_in<H: LogHash>(
    fs: &impl Store,
    file: &'static str,
    origin: &str,
) -> Result<Option<Head>, TreeError> {
    let bad = |why: String| TreeError::State { file, why };
    let Some(bytes) = read_file(fs, file, NOTE_BYTES_MAX)? else { return Ok(None) };
    let text = std::str::from_utf8(&bytes).map_err(|error| bad(error.to_string()))?;
    let checkpoint = if file == H::SIGNED {
        Checkpoint::parse(text)
    } else {
        SignedCheckpoint::parse(&bytes).map(|signed| signed.checkpoint().clone())
    };
    let checkpoint = checkpoint.map_err(|error| bad(error.to_string()))?;
    if checkpoint.origin() != origin {
        return Err(bad(format!("it is of the log {}", checkpoint.origin())));
    }
    Ok(Some(*checkpoint.head()))
}

/// Chooses between two heads.
trait MaxBySize {
    fn max_by_size(self, other: Head) -> Option<Head>;
}

impl MaxBySize for Option<Head> {
    fn max_by_size(self, other: Head) -> Option<Head> {
        Some(self.filter(|head| head.size >= other.size).unwrap_or(other))
    }
}

/// The edge of the tree that was signed, once it is shown to be that of the log too.
fn resume<F: TreeFs, H: LogHash>(
    fs: &F,
    signed: &Head,
    go_on: &dyn Fn() -> bool,
) -> Result<Edge<H>, TreeError> {
    if let Some(edge) = resume_from_tiles(fs, signed, go_on)? {
        return Ok(edge);
    }
    // The tiles do not help. What the log itself leads to decides; nothing is written before.
    let (mut frontier, mut place) = (Frontier::<H>::new(), Place::default());
    while frontier.size() < signed.size {
        let end = signed.size.min(frontier.size().saturating_add(READ_RECORDS_MAX));
        let mut refused = false;
        let from = frontier.size();
        let read = read_hashes::<H>(fs, from..end, &mut place, |hash| {
            refused |= frontier.push(hash).is_err();
        });
        gone(read, signed.size)?;
        if refused {
            return Err(TreeError::OtherHistory { signed: signed.size });
        }
        if !go_on() {
            return Err(TreeError::BrokenOff);
        }
    }
    if frontier.root() == signed.root {
        // From the first record on, so that every tile is made or compared.
        Ok(Edge::new())
    } else {
        Err(TreeError::OtherHistory { signed: signed.size })
    }
}

/// The edge at the start of the segment with the last signed record, if the tiles there, that
/// segment's header and its records all lead to what was signed.
fn resume_from_tiles<F: TreeFs, H: LogHash>(
    fs: &F,
    signed: &Head,
    go_on: &dyn Fn() -> bool,
) -> Result<Option<Edge<H>>, TreeError> {
    let Some(header) = header_at(fs, signed.size.saturating_sub(1))? else { return Ok(None) };
    let stored = || Stored::of::<H>(fs, signed.size);
    let Ok(edge) = Edge::<H>::read(header.first_seq, &mut stored()) else { return Ok(None) };
    // The header knows the SHA-256 tree only; the records below are held against either.
    if H::NAME == Sha256::NAME && edge.root() != header.frontier.root() {
        return Ok(None);
    }
    // The tiles on the edge of what was signed must be there too, and all that are full.
    let whole = Edge::<H>::read(signed.size, &mut stored());
    if whole.map(|edge| edge.root()).ok() != Some(signed.root) {
        return Ok(None);
    }
    if !has_full_tiles::<F, H>(fs, signed.size, go_on)? {
        return Ok(None);
    }
    let (mut ahead, mut full) = (edge.clone(), Vec::new());
    let mut refused = false;
    let range = header.first_seq..signed.size;
    let read = read_hashes::<H>(fs, range, &mut Place::default(), |hash| {
        refused |= ahead.push(hash, &mut full).is_err();
        full.clear();
    });
    gone(read, signed.size)?;
    Ok((!refused && ahead.root() == signed.root).then_some(edge))
}

/// Whether every full tile of a tree is there, by its length: one that is not makes all of them be
/// compared. What is in them is not looked at, for a log may have very many.
fn has_full_tiles<F: TreeFs, H: LogHash>(
    fs: &F,
    size: u64,
    go_on: &dyn Fn() -> bool,
) -> Result<bool, TreeError> {
    let Ok(tiles) = tiles(0, size) else { return Ok(false) };
    for (count, tile) in (1u64..).zip(tiles.filter(|tile| tile.width() == WIDTH_MAX)) {
        let path = format!("{}{}", H::FOLDER, tile.path());
        match fs.open(&path).and_then(|file| file.size()) {
            Ok(size) if usize::try_from(size) == Ok(TILE_BYTES_MAX) => {}
            Ok(_) => return Ok(false),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
        if count.is_multiple_of(READ_RECORDS_MAX) && !go_on() {
            return Err(TreeError::BrokenOff);
        }
    }
    Ok(true)
}

/// A record that was signed and is not there comes back by no other try.
fn gone(read: io::Result<()>, signed: u64) -> Result<(), TreeError> {
    read.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            TreeError::Gone { signed, why: error.to_string() }
        }
        _ => error.into(),
    })
}

/// Gives the leaf hashes of records that must be there.
fn read_hashes<H: LogHash>(
    store: &impl Store,
    range: Range<u64>,
    place: &mut Place,
    mut take: impl FnMut(Hash),
) -> io::Result<()> {
    let mut held: Vec<Vec<u8>> = Vec::with_capacity(LEAVES_AT_ONCE);
    let mut flush = |held: &mut Vec<Vec<u8>>| {
        let entries: Vec<&[u8]> = held.iter().map(Vec::as_slice).collect();
        H::leaves(&entries).into_iter().for_each(&mut take);
        held.clear();
    };
    let next = each_leaf_from(store, range.clone(), place, |_, leaf| {
        held.push(leaf.to_vec());
        if held.len() >= LEAVES_AT_ONCE {
            flush(&mut held);
        }
        ControlFlow::Continue(())
    })?;
    flush(&mut held);
    if next == range.end {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("record {next} cannot be read")))
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
