//! Two copies of one log held against each other by checkpoints and tiles alone.
//!
//! Either one continues the other, or there are two histories. Then the tiles are descended to the
//! first record in which they differ, and what is found is proven by both: two proofs of inclusion
//! of different leaves at one index, each under a checkpoint that the log signed. Nobody has to
//! believe this machine.

use std::io;

use moat_tlog::checkpoint::SignedCheckpoint;
use moat_tlog::logproof::{LogProof, LogProofError};
use moat_tlog::proof::{Head, verify_consistency, verify_inclusion};
use moat_tlog::tile::Tile;
use moat_tlog::tree::{ReadError, TileReader as _, Tree};
use moat_tlog::{Hash, Sha256};

use crate::store::Store;
use crate::tiles::{Stored, checkpoint};

/// Leaves of a full tile.
const TILE_LEAVES: u64 = 256;

/// Why two copies cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// Which of the two, and what is wrong with it.
    #[error("the {0} has no checkpoint that can be read")]
    Checkpoint(&'static str),
    /// They are not of one log.
    #[error("the one is of the log {0}, the other of {1}")]
    OtherLog(String, String),
    /// The tiles do not lead to the checkpoint beside them.
    #[error(
        "tiles and checkpoint of the {0} contradict each other; `moat audit verify` says where"
    )]
    BadTiles(&'static str),
    /// The proof would be none.
    #[error(transparent)]
    Proof(#[from] LogProofError),
    /// The system failed.
    #[error("a copy cannot be read")]
    Io(#[from] io::Error),
}

/// What came of it.
#[derive(Clone, Debug)]
pub enum Compared {
    /// One history; how many records the checkpoints of the two have.
    Same(u64, u64),
    /// Two histories.
    Forked(Box<Fork>),
}

/// Two histories of one log.
#[derive(Clone, Debug)]
pub struct Fork {
    /// The first record that differs.
    pub first: u64,
    /// Its proof from each of the two.
    pub proofs: [LogProof; 2],
    /// Its leaf hash in each of the two.
    pub leaves: [Hash; 2],
}

/// One of the two.
struct Side<'s, S> {
    name: &'static str,
    store: &'s S,
    signed: SignedCheckpoint,
}

impl<'s, S: Store> Side<'s, S> {
    fn new(name: &'static str, store: &'s S) -> Result<Side<'s, S>, CompareError> {
        let read = checkpoint(store)?.and_then(Result::ok);
        let signed = read.ok_or(CompareError::Checkpoint(name))?;
        Ok(Side { name, store, signed })
    }

    fn head(&self) -> &Head {
        self.signed.checkpoint().head()
    }

    fn error(&self, error: ReadError<io::Error>) -> CompareError {
        match error {
            ReadError::Read(_, error) if error.kind() != io::ErrorKind::NotFound => error.into(),
            _ => CompareError::BadTiles(self.name),
        }
    }

    fn tree(&self, size: u64) -> Result<Tree<Sha256, Stored<'s, S>>, CompareError> {
        let reader = Stored::new(self.store, self.head().size);
        Tree::new(size, reader).map_err(|error| self.error(error))
    }

    /// The root at a smaller size, shown to be part of what was signed.
    fn root_at(&self, size: u64) -> Result<Hash, CompareError> {
        let root = self.tree(size)?.root().map_err(|error| self.error(error))?;
        let proof = if size == 0 || size == self.head().size {
            Vec::new()
        } else {
            let proof = self.tree(self.head().size)?.consistency(size);
            proof.map_err(|error| self.error(error))?
        };
        verify_consistency::<Sha256>(&Head { size, root }, self.head(), &proof)
            .map_err(|_| CompareError::BadTiles(self.name))?;
        Ok(root)
    }

    fn tile(&self, tile: Tile) -> Result<Vec<Hash>, CompareError> {
        let bytes = Stored::new(self.store, self.head().size).read(tile);
        let bytes = bytes.map_err(|error| self.error(ReadError::Read(tile, error)))?;
        tile.decode(&bytes).map_err(|_| CompareError::BadTiles(self.name))
    }

    /// The leaf hash at an index, and its proof under what was signed.
    fn prove(&self, index: u64) -> Result<(Hash, LogProof), CompareError> {
        let mut tree = self.tree(self.head().size)?;
        let leaf = tree.leaf(index).map_err(|error| self.error(error))?;
        let hashes = tree.inclusion(index).map_err(|error| self.error(error))?;
        let Head { size, root } = self.head();
        verify_inclusion::<Sha256>(&leaf, index, *size, &hashes, root)
            .map_err(|_| CompareError::BadTiles(self.name))?;
        Ok((leaf, LogProof::new(index, hashes, self.signed.clone())?))
    }
}

/// Compares two copies. Signatures are not looked at: whoever gets the proofs does.
///
/// # Errors
/// When a copy cannot be read, contradicts itself, or is of another log.
pub fn compare(one: &impl Store, other: &impl Store) -> Result<Compared, CompareError> {
    let (one, other) = (Side::new("one", one)?, Side::new("other", other)?);
    let origins =
        [&one.signed, &other.signed].map(|signed| signed.checkpoint().origin().to_owned());
    if let [one, other] = &origins
        && one != other
    {
        return Err(CompareError::OtherLog(one.clone(), other.clone()));
    }
    let common = one.head().size.min(other.head().size);
    if one.root_at(common)? == other.root_at(common)? {
        return Ok(Compared::Same(one.head().size, other.head().size));
    }
    let first = first_difference(&one, &other, common)?;
    let ((here, proof), (there, other_proof)) = (one.prove(first)?, other.prove(first)?);
    if here == there {
        // Tiles above that differ though the leaves do not: one copy has rotted.
        return Err(CompareError::BadTiles("one or the other"));
    }
    let (proofs, leaves) = ([proof, other_proof], [here, there]);
    Ok(Compared::Forked(Box::new(Fork { first, proofs, leaves })))
}

/// Descends the tiles: at most one of each level on the right edge, and one below each.
fn first_difference(
    one: &Side<'_, impl Store>,
    other: &Side<'_, impl Store>,
    common: u64,
) -> Result<u64, CompareError> {
    let differs = |tile: Tile| -> Result<Option<u64>, CompareError> {
        let (here, there) = (one.tile(tile)?, other.tile(tile)?);
        let at = here.iter().zip(&there).position(|(here, there)| here != there);
        Ok(at.and_then(|at| u64::try_from(at).ok()))
    };
    // The top covers what is furthest left.
    for level in (0..8_u8).rev() {
        let width = TILE_LEAVES.saturating_pow(u32::from(level) + 1);
        let Some(edge) = Tile::in_tree(level, common / width, common) else { continue };
        let Some(mut at) = differs(edge)?.map(|at| edge.index() * TILE_LEAVES + at) else {
            continue;
        };
        for level in (0..level).rev() {
            let full = Tile::in_tree(level, at, common);
            let below = full.map(differs).transpose()?.flatten();
            at = at * TILE_LEAVES + below.ok_or(CompareError::BadTiles("one or the other"))?;
        }
        return Ok(at);
    }
    Err(CompareError::BadTiles("one or the other"))
}

#[cfg(test)]
#[cfg(feature = "write")]
mod tests {
    use moat_tlog::TreeHash as _;
    use moat_tlog::key::{Algorithm, KeyName, VerifierKey};
    use moat_tlog::sign::{CannotSign, Signer};

    use super::*;
    use crate::sim::SimFs;
    use crate::tree::{Home, LogTree};

    const LOG: &str = "log.test/1";

    struct Toy(VerifierKey);

    impl Signer for Toy {
        fn key(&self) -> &VerifierKey {
            &self.0
        }

        fn sign(&self, _: &[u8]) -> Result<Vec<u8>, CannotSign> {
            Ok(vec![7; 64])
        }
    }

    /// A log whose records from `fork` on are of another history.
    fn log(origin: &str, size: u64, fork: u64) -> SimFs {
        let key = VerifierKey::new(KeyName::new(origin).unwrap(), Algorithm::Ed25519, &[7; 32]);
        let fs = SimFs::default();
        Home::new(fs.clone(), origin).begin::<Sha256>().unwrap();
        let home = Home::new(fs.clone(), origin);
        let mut tree = LogTree::<_, Sha256>::open(home, 0, &|| true).unwrap();
        for n in 0..size {
            let leaf = Sha256::leaf(&[&[u8::from(n >= fork)][..], &n.to_be_bytes()].concat());
            tree.push(leaf).unwrap();
        }
        tree.publish(&[&Toy(key.unwrap())]).unwrap();
        fs
    }

    #[test]
    fn a_log_and_its_continuation_are_one_history() {
        let logs: Vec<(u64, SimFs)> =
            [1, 2, 255, 256, 257, 700].map(|size| (size, log(LOG, size, 9_999))).into();
        for (n, one) in &logs {
            for (m, other) in &logs {
                let compared = compare(one, other).unwrap();
                assert!(matches!(compared, Compared::Same(a, b) if (a, b) == (*n, *m)));
            }
        }
    }

    #[test]
    fn the_first_record_that_differs_is_named_and_proven_by_both() {
        let sizes = [1, 200, 256, 257, 600, 66_000];
        for (at, n) in sizes.into_iter().enumerate() {
            let one = log(LOG, n, u64::MAX);
            for m in &sizes[..=at] {
                for fork in [0, 1, 100, 255, 256, 511, 599, 65_535, 65_536, 65_999] {
                    let other = log(LOG, *m, fork);
                    let compared = compare(&one, &other).unwrap();
                    if fork >= *m {
                        assert!(matches!(compared, Compared::Same(..)), "{n} {m} {fork}");
                        continue;
                    }
                    let Compared::Forked(found) = compared else { panic!("{n} {m} {fork}") };
                    assert_eq!(found.first, fork, "{n} {m}");
                    for ((proof, leaf), size) in found.proofs.iter().zip(found.leaves).zip([n, *m])
                    {
                        let root = *proof.signed().checkpoint().root();
                        verify_inclusion::<Sha256>(&leaf, fork, size, proof.hashes(), &root)
                            .unwrap();
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_no_copy_or_has_rotted_is_said() {
        let (one, other) = (log(LOG, 700, 300), log("log.test/2", 700, 300));
        assert!(matches!(compare(&one, &other), Err(CompareError::OtherLog(..))));
        let none = SimFs::default();
        assert!(matches!(compare(&one, &none), Err(CompareError::Checkpoint("other"))));
        let other = log(LOG, 700, 9_999);
        let mut tile = other.take("tile/0/001");
        tile[32 * 44] ^= 1;
        other.put("tile/0/001", tile);
        assert!(matches!(compare(&one, &other), Err(CompareError::BadTiles(_))));
        other.take("tile/0/001");
        assert!(matches!(compare(&one, &other), Err(CompareError::BadTiles("other"))));
    }
}
