//! The hashes of a tree: leaves and nodes, over any hash function of 32 bytes.

use std::fmt::Debug;

use sha2::Digest;

#[cfg(feature = "sm")]
mod sm3;

#[cfg(feature = "sm")]
pub use sm3::Sm3;

/// How long a hash is, in bytes. SHA-256 and SM3 agree on it.
pub const HASH_BYTES: usize = 32;

/// A hash.
pub type Hash = [u8; HASH_BYTES];

/// A hash function to build a tree with (RFC 6962 §2.1).
///
/// One function is to be written; what a leaf and a node are follows from it.
///
/// ```
/// use moat_tlog::{Hash, TreeHash};
///
/// #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
/// struct Toy;
///
/// impl TreeHash for Toy {
///     const NAME: &'static str = "TOY";
///
///     fn digest(parts: &[&[u8]]) -> Hash {
///         [parts.concat().len() as u8; 32]
///     }
/// }
///
/// assert_eq!(Toy::node(&[0; 32], &[0; 32]), [65; 32]);
/// ```
pub trait TreeHash: Copy + Debug + Default + Eq + Send + Sync + 'static {
    /// What people call it.
    const NAME: &'static str;

    /// The hash over several parts, as if they were one.
    fn digest(parts: &[&[u8]]) -> Hash;

    /// The root of the tree without leaves.
    #[must_use]
    fn empty() -> Hash {
        Self::digest(&[])
    }

    /// The hash of a leaf: the 0x00 keeps leaves and nodes apart.
    #[must_use]
    fn leaf(entry: &[u8]) -> Hash {
        Self::digest(&[&[0], entry])
    }

    /// The hashes of several leaves, for functions that are faster so.
    #[must_use]
    fn leaves(entries: &[&[u8]]) -> Vec<Hash> {
        entries.iter().map(|entry| Self::leaf(entry)).collect()
    }

    /// The hash of an inner node.
    #[must_use]
    fn node(left: &Hash, right: &Hash) -> Hash {
        Self::digest(&[&[1], left, right])
    }
}

/// SHA-256, which tlog-tiles fixes for every log that others verify.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sha256;

impl TreeHash for Sha256 {
    const NAME: &'static str = "SHA-256";

    fn digest(parts: &[&[u8]]) -> Hash {
        let mut state = sha2::Sha256::new();
        for part in parts {
            state.update(part);
        }
        state.finalize().into()
    }
}

/// The root over the hashes of a complete subtree; their number is a power of two.
pub(crate) fn complete_root<H: TreeHash>(hashes: &[Hash]) -> Option<Hash> {
    if !hashes.len().is_power_of_two() {
        return None;
    }
    let mut row = hashes.to_vec();
    while row.len() > 1 {
        row = parents::<H>(&row);
    }
    row.first().copied()
}

/// The nodes over pairs; the last of an odd number has none.
pub(crate) fn parents<H: TreeHash>(row: &[Hash]) -> Vec<Hash> {
    row.as_chunks::<2>().0.iter().map(|[left, right]| H::node(left, right)).collect()
}

/// The root over roots of complete subtrees, given smallest first (RFC 9162 §2.1.2).
pub(crate) fn fold<H: TreeHash>(smallest_first: impl Iterator<Item = Hash>) -> Option<Hash> {
    smallest_first.reduce(|right, left| H::node(&left, &right))
}
