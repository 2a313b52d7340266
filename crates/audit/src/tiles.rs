//! Tiles and checkpoint as files, read for proofs and for verification. Never writes.

use std::io;

use moat_tlog::checkpoint::{CheckpointError, SignedCheckpoint};
use moat_tlog::note::NOTE_BYTES_MAX;
use moat_tlog::tile::Tile;
use moat_tlog::tree::TileReader;

use crate::store::{Store, read_file};

/// Name of the file with the last checkpoint, beside the folder `tile`.
pub const CHECKPOINT_FILE: &str = "checkpoint";
/// Name of the file with the last checkpoint that enough witnesses have cosigned, with their lines.
pub const WITNESSED_FILE: &str = "witnessed";
/// Longest tile of hashes, in bytes.
const TILE_BYTES_MAX: usize = 256 * 32;

/// The tiles of a tree of one size, in a folder.
#[derive(Debug)]
pub struct Stored<'s, S> {
    store: &'s S,
    size: u64,
}

impl<'s, S: Store> Stored<'s, S> {
    /// Tiles as a checkpoint of `size` leaves found them.
    #[must_use]
    pub fn new(store: &'s S, size: u64) -> Stored<'s, S> {
        Stored { store, size }
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
            if let Some(mut bytes) = read_file(self.store, &wider.path(), TILE_BYTES_MAX)? {
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
