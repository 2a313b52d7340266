//! Verifying proofs: pure functions over hashes (RFC 9162 §2.1.3.2 and §2.1.4.2).

use crate::hash::{Hash, TreeHash};
use crate::range::SIZE_MAX;

/// Longest inclusion proof, in hashes.
pub const INCLUSION_HASHES_MAX: usize = 63;
/// Longest consistency proof, in hashes.
pub const CONSISTENCY_HASHES_MAX: usize = 64;

/// Why a proof proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// A size beyond [`SIZE_MAX`], an index beyond the size, or an old tree larger than the new.
    #[error("the sizes and the index are of no proof")]
    Size,
    /// More or fewer hashes than a proof between these sizes has.
    #[error("the proof has too many or too few hashes")]
    Length,
    /// It leads to another root of the tree.
    #[error("the proof leads to another root")]
    Root,
    /// It leads to another root of the old tree.
    #[error("the proof leads to another root of the old tree")]
    OldRoot,
}

/// The root that an inclusion proof leads to.
///
/// # Errors
/// When the index is not in the tree, or the proof is not as long as the tree is high there.
pub fn root_from_inclusion<H: TreeHash>(
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
) -> Result<Hash, ProofError> {
    if index >= size || size > SIZE_MAX {
        return Err(ProofError::Size);
    }
    // §2.1.3.2: `node` is fn, `last` is sn.
    let (mut node, mut last) = (index, size - 1);
    let mut root = *leaf;
    for beside in proof {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if node & 1 == 1 || node == last {
            root = H::node(beside, &root);
            (node, last) = climb(node, last);
        } else {
            root = H::node(&root, beside);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    if last == 0 { Ok(root) } else { Err(ProofError::Length) }
}

/// Whether `leaf` is the hash at `index` in the tree of `size` leaves that has this root.
///
/// # Errors
/// When it is not, or the proof is none.
pub fn verify_inclusion<H: TreeHash>(
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    let found = root_from_inclusion::<H>(leaf, index, size, proof)?;
    if found == *root { Ok(()) } else { Err(ProofError::Root) }
}

/// A tree, as a checkpoint names it: its size and its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// How many leaves it has.
    pub size: u64,
    /// Its root.
    pub root: Hash,
}

impl Head {
    /// The tree without leaves.
    #[must_use]
    pub fn empty<H: TreeHash>() -> Head {
        Head { size: 0, root: H::empty() }
    }
}

/// Whether the tree `new` only appended to the tree `old`.
///
/// Between equal sizes the roots must be equal, and from the empty tree everything is growth; in
/// both cases the proof is empty.
///
/// # Errors
/// When it did not, or the proof is none.
pub fn verify_consistency<H: TreeHash>(
    old: &Head,
    new: &Head,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if old.size > new.size || new.size > SIZE_MAX {
        return Err(ProofError::Size);
    }
    if old.size == 0 && old.root != H::empty() {
        return Err(ProofError::OldRoot);
    }
    if old.size == new.size && old.root != new.root {
        return Err(ProofError::Root);
    }
    if old.size == 0 || old.size == new.size {
        return if proof.is_empty() { Ok(()) } else { Err(ProofError::Length) };
    }
    // §2.1.4.2: a complete old tree is its own first node.
    let (first, rest) = if old.size.is_power_of_two() {
        (&old.root, proof)
    } else {
        proof.split_first().ok_or(ProofError::Length)?
    };
    let (mut node, mut last) = (old.size - 1, new.size - 1);
    let down = node.trailing_ones();
    (node, last) = (node >> down, last >> down);
    let (mut old_root, mut new_root) = (*first, *first);
    for beside in rest {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if node & 1 == 1 || node == last {
            old_root = H::node(beside, &old_root);
            new_root = H::node(beside, &new_root);
            (node, last) = climb(node, last);
        } else {
            new_root = H::node(&new_root, beside);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    match (last == 0, old_root == old.root, new_root == new.root) {
        (false, _, _) => Err(ProofError::Length),
        (_, false, _) => Err(ProofError::OldRoot),
        (_, _, false) => Err(ProofError::Root),
        _ => Ok(()),
    }
}

/// Up to where a node on the right edge is a right child: it has no sibling below.
fn climb(node: u64, last: u64) -> (u64, u64) {
    // 0 has no ones to climb to: it is the root.
    let levels = if node == 0 { 0 } else { node.trailing_zeros() };
    (node >> levels, last >> levels)
}
