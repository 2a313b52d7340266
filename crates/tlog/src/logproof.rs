//! `.tlog-proof` files: that an entry is in a log, for whoever is offline (c2sp.org/tlog-proof).

use std::fmt;

use crate::checkpoint::{CheckpointError, SignedCheckpoint};
use crate::hash::{Hash, TreeHash};
use crate::note::NOTE_BYTES_MAX;
use crate::policy::{Accepted, Policy, PolicyError};
use crate::proof::{INCLUSION_HASHES_MAX, ProofError, verify_inclusion};
use crate::range::SIZE_MAX;
use crate::sign::Verifier;
use crate::text;

/// The first line.
const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
/// Longest extra data, in bytes.
pub const EXTRA_BYTES_MAX: usize = 64 * 1024;
/// Longest file, in bytes: the note, extra data in base64, and lines of hashes.
pub const FILE_BYTES_MAX: usize = NOTE_BYTES_MAX + 2 * EXTRA_BYTES_MAX;

/// Why a file is no proof, or proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogProofError {
    /// Too long, not UTF-8, or without the first line.
    #[error("no tlog-proof file")]
    File,
    /// Extra data that is empty, too long, or no base64.
    #[error("the extra data is malformed")]
    Extra,
    /// The index has another spelling, or is not in the tree of the checkpoint.
    #[error("no index of an entry")]
    Index,
    /// A hash that is none, too many hashes, or no empty line after them.
    #[error("the hashes of the proof are malformed")]
    Hashes,
    /// What follows is no checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint is not signed as the policy says.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The entry is not in the tree of the checkpoint at the index.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

/// A proof. What is parsed is not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogProof {
    index: u64,
    extra: Vec<u8>,
    hashes: Vec<Hash>,
    signed: SignedCheckpoint,
}

impl LogProof {
    /// The proof that the entry at `index` is in the tree of a checkpoint.
    ///
    /// # Errors
    /// When the index is not in the tree, or there are more hashes than any proof has.
    pub fn new(
        index: u64,
        hashes: Vec<Hash>,
        signed: SignedCheckpoint,
    ) -> Result<LogProof, LogProofError> {
        if index >= signed.checkpoint().size() {
            return Err(LogProofError::Index);
        }
        if hashes.len() > INCLUSION_HASHES_MAX {
            return Err(LogProofError::Hashes);
        }
        Ok(LogProof { index, extra: Vec::new(), hashes, signed })
    }

    /// The same with extra data, which nothing protects.
    ///
    /// # Errors
    /// When it is empty, which is written by leaving it out, or too long.
    pub fn with_extra(self, extra: &[u8]) -> Result<LogProof, LogProofError> {
        if extra.is_empty() || extra.len() > EXTRA_BYTES_MAX {
            return Err(LogProofError::Extra);
        }
        Ok(LogProof { extra: extra.to_vec(), ..self })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When it is none, or has another spelling than a proof is written in.
    pub fn parse(bytes: &[u8]) -> Result<LogProof, LogProofError> {
        if bytes.len() > FILE_BYTES_MAX {
            return Err(LogProofError::File);
        }
        let mut rest = std::str::from_utf8(bytes).map_err(|_| LogProofError::File)?;
        if text::take_line(&mut rest) != Some(FIRST_LINE) {
            return Err(LogProofError::File);
        }
        let mut line = text::take_line(&mut rest).ok_or(LogProofError::Index)?;
        let mut extra = None;
        if let Some(encoded) = line.strip_prefix("extra ") {
            extra = Some(text::decode(encoded).ok_or(LogProofError::Extra)?);
            line = text::take_line(&mut rest).ok_or(LogProofError::Index)?;
        }
        let index = line.strip_prefix("index ").and_then(text::decimal);
        let index = index.filter(|index| *index < SIZE_MAX).ok_or(LogProofError::Index)?;
        let hashes = text::take_hashes(&mut rest, INCLUSION_HASHES_MAX);
        let hashes = hashes.ok_or(LogProofError::Hashes)?;
        let signed = SignedCheckpoint::parse(rest.as_bytes())?;
        let proof = LogProof::new(index, hashes, signed)?;
        match extra {
            None => Ok(proof),
            Some(extra) => proof.with_extra(&extra),
        }
    }

    /// Which entry.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Data that nothing protects; empty if there is none.
    #[must_use]
    pub fn extra(&self) -> &[u8] {
        &self.extra
    }

    /// From the leaf's sibling to the root's child.
    #[must_use]
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }

    /// The checkpoint and its signatures.
    #[must_use]
    pub fn signed(&self) -> &SignedCheckpoint {
        &self.signed
    }

    /// Whether the log, and witnesses enough, vouch for this leaf at this index.
    ///
    /// The leaf's hash is the caller's to compute from the entry: [`TreeHash::leaf`].
    ///
    /// # Errors
    /// When a signature is missing or wrong, or the leaf is not there.
    pub fn verify<'p, H: TreeHash>(
        &self,
        leaf: &Hash,
        policy: &'p Policy,
        verifier: &impl Verifier,
    ) -> Result<Accepted<'p>, LogProofError> {
        let accepted = policy.accept(&self.signed, verifier)?;
        let head = self.signed.checkpoint().head();
        verify_inclusion::<H>(leaf, self.index, head.size, &self.hashes, &head.root)?;
        Ok(accepted)
    }
}

impl fmt::Display for LogProof {
    /// The file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST_LINE}")?;
        if !self.extra.is_empty() {
            writeln!(f, "extra {}", text::encode(&self.extra))?;
        }
        let mut hashes = String::new();
        text::put_hashes(&mut hashes, &self.hashes);
        write!(f, "index {}\n{hashes}{}", self.index, self.signed)
    }
}

#[cfg(test)]
#[cfg(feature = "aws-lc")]
mod tests;
