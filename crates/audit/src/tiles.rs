//! Tiles and checkpoint as files, read for proofs and for verification. Never writes.

use std::io;

use moat_tlog::checkpoint::{CheckpointError, SignedCheckpoint};
use moat_tlog::note::NOTE_BYTES_MAX;
use moat_tlog::tile::Tile;
use moat_tlog::tree::TileReader;
use moat_tlog::{Sha256, Sm3, TreeHash};

use crate::store::{Store, read_file};

/// Name of the file with the last checkpoint, beside the folder `tile`.
pub const CHECKPOINT_FILE: &str = "checkpoint";
/// Name of the file with the size and the root that were signed last, or were about to be.
pub const SIGNED_FILE: &str = "signed";
/// Name of the file with the last checkpoint that enough witnesses have cosigned, with their lines.
pub const WITNESSED_FILE: &str = "witnessed";

/// A hash function that a log has a tree of, and where its files are.
pub trait LogHash: TreeHash {
    /// Name of the file with the last checkpoint.
    const CHECKPOINT: &'static str;
    /// Name of the file with what was signed last, or was about to be.
    const SIGNED: &'static str;
    /// What stands before `tile/…`: nothing, or a folder with its slash.
    const FOLDER: &'static str;
    /// What the origin of the log has at its end in this tree. Each tree is a log of its own for
    /// those who verify, so that one checkpoint is never taken for one of the other.
    const ORIGIN: &'static str;
}

impl LogHash for Sha256 {
    const CHECKPOINT: &'static str = CHECKPOINT_FILE;
    const SIGNED: &'static str = SIGNED_FILE;
    const FOLDER: &'static str = "";
    const ORIGIN: &'static str = "";
}

impl LogHash for Sm3 {
    const CHECKPOINT: &'static str = "checkpoint.sm3";
    const SIGNED: &'static str = "signed.sm3";
    const FOLDER: &'static str = "sm3/";
    const ORIGIN: &'static str = "/sm3";
}

/// Longest tile of hashes, in bytes.
pub(crate) const TILE_BYTES_MAX: usize = 256 * 32;

/// The tiles of a tree of one size, in a folder.
#[derive(Debug)]
pub struct Stored<'s, S> {
    store: &'s S,
    size: u64,
    folder: &'static str,
}

impl<'s, S: Store> Stored<'s, S> {
    /// Tiles of the SHA-256 tree as a checkpoint of `size` leaves found them.
    #[must_use]
    pub fn new(store: &'s S, size: u64) -> Stored<'s, S> {
        Stored::of::<Sha256>(store, size)
    }

    /// Tiles of a tree as a checkpoint of `size` leaves found them.
    #[must_use]
    pub fn of<H: LogHash>(store: &'s S, size: u64) -> Stored<'s, S> {
        Stored { store, size, folder: H::FOLDER }
    }
}

impl<S: Store> TileReader for Stored<'_, S> {
    type Error = io::Error;

    /// A narrower tile than the one on the disk is cut from it: tlog-tiles lets a log remove a
    /// partial tile once the full one is there, and a wider one begins with the same hashes.
    fn read(&mut self, tile: Tile) -> io::Result<Vec<u8>> {
        let there = Tile::in_tree(tile.level(), tile.index(), self.size);
        for wider in [Some(tile), there, tile.full()].into_iter().flatten() {
            if wider.width() < tile.width() {
                continue;
            }
            let path = format!("{}{}", self.folder, wider.path());
            // One byte more than there may be, so that a tile that is too long shows.
            if let Some(mut bytes) = read_file(self.store, &path, TILE_BYTES_MAX + 1)? {
                if wider.decode(&bytes).is_ok() {
                    bytes.truncate(usize::from(tile.width()) * 32);
                }
                return Ok(bytes);
            }
        }
        Err(io::Error::new(io::ErrorKind::NotFound, format!("{} is not there", tile.path())))
    }
}

/// The checkpoint in a folder, if there is one. Read is not verified.
///
/// # Errors
/// What the system says; a file that is no checkpoint is an error inside.
pub fn checkpoint(
    store: &impl Store,
) -> io::Result<Option<Result<SignedCheckpoint, CheckpointError>>> {
    read(store, CHECKPOINT_FILE)
}

/// The last checkpoint of which the auditor has seen a quorum, if there is one. Read is not
/// verified.
///
/// # Errors
/// As [`checkpoint`].
pub fn witnessed(
    store: &impl Store,
) -> io::Result<Option<Result<SignedCheckpoint, CheckpointError>>> {
    read(store, WITNESSED_FILE)
}

fn read(
    store: &impl Store,
    name: &str,
) -> io::Result<Option<Result<SignedCheckpoint, CheckpointError>>> {
    let bytes = read_file(store, name, NOTE_BYTES_MAX + 1)?;
    Ok(bytes.map(|bytes| SignedCheckpoint::parse(&bytes)))
}
