//! The tree behind a log: its tiles on the disk, and what was signed of it last.
//!
//! Comes after the committer and knows nothing of it: leaf hashes in, files out. A checkpoint is
//! signed only over records that were durable before and tiles that are durable now; what is about
//! to be signed is durable before the signature exists; and no checkpoint is smaller than the last,
//! or of another history. Whoever rolls the records back finds a tree that signs no more.

use std::io;
use std::ops::{ControlFlow, Range};

use moat_model::Code;
use moat_model::code::audit as codes;
use moat_tlog::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
use moat_tlog::growth::Edge;
use moat_tlog::note::{NOTE_BYTES_MAX, NoteError};
use moat_tlog::sign::Signer;
use moat_tlog::tile::Tile;
use moat_tlog::{Frontier, Head, Sha256, TreeHash as _};

use crate::entries::{Place, each_leaf_from, header_at};
use crate::fs::TreeFs;
use crate::hash::Hash;
use crate::store::{Store, read_file};
use crate::tiles::{LogHash, Stored};

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
            | TreeError::Ahead { .. }
            | TreeError::OtherHistory { .. }
            | TreeError::State { .. } => &codes::NOT_SIGNED_AGAIN,
            TreeError::Sign(_) => &codes::CANNOT_SIGN,
            TreeError::Io(_) | TreeError::BrokenOff => &codes::TREE_BEHIND,
        }
    }
}

/// A tree of one log.
pub struct LogTree<F, H = Sha256> {
    fs: F,
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
    /// The tree of a log of `records` durable records, with tiles that are missing made anew.
    ///
    /// Reads from the segment in which the last signed record lies, or all of the log when the
    /// tiles do not lead to what was signed. `go_on` is asked every 65,536 records.
    ///
    /// # Errors
    /// When the log is not a continuation of what was signed, the system fails, or `go_on` breaks
    /// off.
    pub fn open(
        fs: F,
        origin: &str,
        records: u64,
        go_on: &dyn Fn() -> bool,
    ) -> Result<LogTree<F, H>, TreeError> {
        let origin = format!("{origin}{}", H::ORIGIN);
        let signed = last_signed::<H>(&fs, &origin)?;
        if let Some(signed) = signed.filter(|signed| signed.size > records) {
            return Err(TreeError::RolledBack { signed: signed.size, records });
        }
        let edge = match signed {
            None => Edge::new(),
            Some(signed) => resume(&fs, &signed, go_on)?,
        };
        let (held, filled, place) = (Vec::new(), Vec::new(), Place::default());
        let (published, is_fresh) = (None, true);
        let mut tree =
            LogTree { fs, origin, edge, place, held, filled, signed, published, is_fresh };
        tree.read_to(records, go_on)?;
        Ok(tree)
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
            let range = self.size()..end;
            read_hashes::<H>(&self.fs, range, &mut self.place, |hash| hashes.push(hash))?;
            hashes.into_iter().try_for_each(|hash| self.push(hash))?;
            if !go_on() {
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
        self.fs.replace(H::SIGNED, checkpoint.to_string().as_bytes())?;
        self.signed = Some(head);
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
    fn write_held(&mut self, more: &[(Tile, Vec<u8>)]) -> Result<(), TreeError> {
        let mut files = Vec::new();
        for (tile, bytes) in self.held.iter().chain(more) {
            let path = format!("{}{}", H::FOLDER, tile.path());
            // What is right stays untouched: a crash while a tile is written again would spoil it.
            if read_file(&self.fs, &path, bytes.len() + 1)?.as_ref() != Some(bytes) {
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

/// The larger of what was about to be signed and what was published.
fn last_signed<H: LogHash>(fs: &impl Store, origin: &str) -> Result<Option<Head>, TreeError> {
    let bad = |file, why: String| TreeError::State { file, why };
    let mut last: Option<Head> = None;
    for file in [H::SIGNED, H::CHECKPOINT] {
        let Some(bytes) = read_file(fs, file, NOTE_BYTES_MAX)? else { continue };
        let text = std::str::from_utf8(&bytes).map_err(|error| bad(file, error.to_string()))?;
        let checkpoint = if file == H::SIGNED {
            Checkpoint::parse(text)
        } else {
            SignedCheckpoint::parse(&bytes).map(|signed| signed.checkpoint().clone())
        };
        let checkpoint = checkpoint.map_err(|error| bad(file, error.to_string()))?;
        if checkpoint.origin() != origin {
            return Err(bad(file, format!("it is of the log {}", checkpoint.origin())));
        }
        let head = *checkpoint.head();
        if last.is_some_and(|last| last.size == head.size && last.root != head.root) {
            return Err(bad(file, "it contradicts the other file".to_owned()));
        }
        last = last.max_by_size(head);
    }
    Ok(last)
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
    if let Some(edge) = resume_from_tiles(fs, signed)? {
        return Ok(edge);
    }
    // The tiles do not help. What the log itself leads to decides; nothing is written before.
    let (mut frontier, mut place) = (Frontier::<H>::new(), Place::default());
    while frontier.size() < signed.size {
        let end = signed.size.min(frontier.size().saturating_add(READ_RECORDS_MAX));
        let mut refused = false;
        let from = frontier.size();
        read_hashes::<H>(fs, from..end, &mut place, |hash| {
            refused |= frontier.push(hash).is_err();
        })?;
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
) -> Result<Option<Edge<H>>, TreeError> {
    let Some(header) = header_at(fs, signed.size.saturating_sub(1))? else { return Ok(None) };
    let stored = || Stored::of::<H>(fs, signed.size);
    let Ok(edge) = Edge::<H>::read(header.first_seq, &mut stored()) else { return Ok(None) };
    // The header knows the SHA-256 tree only; the records below are held against either.
    if H::NAME == Sha256::NAME && edge.root() != header.frontier.root() {
        return Ok(None);
    }
    // The tiles on the edge of what was signed must be there too: they show that nothing in
    // between is missing because a start was cut short.
    let whole = Edge::<H>::read(signed.size, &mut stored());
    if whole.map(|edge| edge.root()).ok() != Some(signed.root) {
        return Ok(None);
    }
    let (mut ahead, mut full) = (edge.clone(), Vec::new());
    let mut refused = false;
    let range = header.first_seq..signed.size;
    read_hashes::<H>(fs, range, &mut Place::default(), |hash| {
        refused |= ahead.push(hash, &mut full).is_err();
        full.clear();
    })?;
    Ok((!refused && ahead.root() == signed.root).then_some(edge))
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
