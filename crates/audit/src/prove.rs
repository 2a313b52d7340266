//! Proofs for one record: that it is in the tree of the last signed checkpoint.

use std::io;

use moat_model::Code;
use moat_model::code::audit as codes;
use moat_tlog::Sha256;
use moat_tlog::checkpoint::SignedCheckpoint;
use moat_tlog::logproof::{LogProof, LogProofError};
use moat_tlog::proof::verify_inclusion;
use moat_tlog::tree::{ReadError, Tree};

use crate::entries::{leaf, removed_ranges};
use crate::hash::leaf_hash;
use crate::store::Store;
use crate::tiles::{Stored, checkpoint, witnessed};

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// Nothing was signed yet.
    #[error("the log has no checkpoint; nothing of it is signed")]
    NotSigned,
    /// The record is beyond the last checkpoint.
    #[error("the last checkpoint has {0} records; the record is signed with the next one")]
    NotYet(u64),
    /// The segments have no such record.
    #[error("there is no such record")]
    NoRecord,
    /// The checkpoint is none.
    #[error("the checkpoint cannot be read: {0}")]
    Checkpoint(String),
    /// Record, tiles and checkpoint do not fit; a proof made of them would prove nothing.
    #[error("record, tiles and checkpoint contradict each other; `moat audit verify` says which")]
    Contradiction,
    /// A tile that the proof needs is not there, or of another length.
    #[error("{0} is missing or cut off; the auditor makes it anew when it starts")]
    NoTile(String),
    /// The proof would be none.
    #[error(transparent)]
    Proof(#[from] LogProofError),
    /// The system failed.
    #[error("the log cannot be read")]
    Io(#[from] io::Error),
}

impl ProveError {
    /// The code for `moat explain`, where there is one.
    #[must_use]
    pub fn code(&self) -> Option<&'static Code> {
        match self {
            ProveError::Checkpoint(_) => Some(&codes::BAD_CHECKPOINT),
            ProveError::NoTile(_) => Some(&codes::BAD_TILE),
            ProveError::Contradiction => Some(&codes::NOT_WHAT_WAS_SIGNED),
            _ => None,
        }
    }
}

/// A record and the proof of it.
#[derive(Clone, Debug)]
pub struct Proven {
    /// The proof: a `.tlog-proof` file.
    pub proof: LogProof,
    /// The leaf, as it stands in the log; its hash is what is proven. None if it was removed: then
    /// the proof is for whoever has kept the record.
    pub entry: Option<Vec<u8>>,
}

/// Proves that record `seq` is in the tree that was signed last. The signature is not looked at:
/// that is for whoever is to be convinced.
///
/// # Errors
/// When there is no such record, it is not signed yet, or the tree does not hold it.
pub fn prove(store: &impl Store, seq: u64) -> Result<Proven, ProveError> {
    let signed = checkpoint(store)?.ok_or(ProveError::NotSigned)?;
    let signed = signed.map_err(|error| ProveError::Checkpoint(error.to_string()))?;
    let entry = leaf(store, seq)?;
    if entry.is_none() && !removed_ranges(store)?.iter().any(|range| range.contains(&seq)) {
        return Err(ProveError::NoRecord);
    }
    if seq >= signed.checkpoint().size() {
        return Err(ProveError::NotYet(signed.checkpoint().size()));
    }
    // One that witnesses have cosigned convinces more people.
    let covers = |signed: &SignedCheckpoint| seq < signed.checkpoint().size();
    let cosigned = witnessed(store)?.and_then(Result::ok).filter(covers);
    let signed = cosigned.unwrap_or(signed);
    let head = *signed.checkpoint().head();
    let reader = Stored::new(store, head.size);
    let hashes = Tree::<Sha256, _>::new(head.size, reader).and_then(|mut tree| tree.inclusion(seq));
    let hashes = hashes.map_err(|error| match error {
        ReadError::Read(tile, error) if error.kind() == io::ErrorKind::NotFound => {
            ProveError::NoTile(tile.path())
        }
        ReadError::Read(_, error) => ProveError::Io(error),
        ReadError::Width(tile) => ProveError::NoTile(tile.path()),
        _ => ProveError::Contradiction,
    })?;
    let hash = match &entry {
        Some(entry) => leaf_hash(entry),
        None => Tree::<Sha256, _>::new(head.size, Stored::new(store, head.size))
            .and_then(|mut tree| tree.leaf(seq))
            .map_err(|_| ProveError::Contradiction)?,
    };
    verify_inclusion::<Sha256>(&hash, seq, head.size, &hashes, &head.root)
        .map_err(|_| ProveError::Contradiction)?;
    Ok(Proven { proof: LogProof::new(seq, hashes, signed)?, entry })
}
