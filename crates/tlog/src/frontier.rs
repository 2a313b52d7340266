//! The root of the growing tree, in memory that grows with the logarithm of its size.

use std::marker::PhantomData;

use crate::hash::{Hash, TreeHash, fold};
use crate::range::{BadSize, SIZE_MAX};

/// The roots of the complete subtrees that make up a tree, largest first (RFC 9162 §2.1.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier<H> {
    size: u64,
    nodes: Vec<Hash>,
    hash: PhantomData<H>,
}

impl<H: TreeHash> Frontier<H> {
    /// The tree without leaves.
    #[must_use]
    pub fn new() -> Frontier<H> {
        Frontier::default()
    }

    /// A frontier stored elsewhere; `None` when there are not as many nodes as its size has ones,
    /// or the size is beyond [`SIZE_MAX`].
    #[must_use]
    pub fn from_parts(size: u64, nodes: Vec<Hash>) -> Option<Frontier<H>> {
        let ones = usize::try_from(size.count_ones()).ok()?;
        let fits = nodes.len() == ones && size <= SIZE_MAX;
        fits.then_some(Frontier { size, nodes, hash: PhantomData })
    }

    /// How many leaves the tree has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the complete subtrees, largest first.
    #[must_use]
    pub fn nodes(&self) -> &[Hash] {
        &self.nodes
    }

    /// Appends the hash of one leaf.
    ///
    /// # Errors
    /// When the tree is as large as it may be; then nothing changes.
    pub fn push(&mut self, leaf: Hash) -> Result<(), BadSize> {
        if self.size >= SIZE_MAX {
            return Err(BadSize);
        }
        let mut node = leaf;
        // As many subtrees become complete as the old size has ones at its end.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.nodes.pop() {
                node = H::node(&left, &node);
            }
        }
        self.nodes.push(node);
        self.size += 1;
        Ok(())
    }

    /// The root; that of the empty tree is the hash of nothing.
    #[must_use]
    pub fn root(&self) -> Hash {
        fold::<H>(self.nodes.iter().rev().copied()).unwrap_or_else(H::empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Sha256;

    #[test]
    fn the_largest_tree_takes_no_further_leaf() {
        let mut frontier = Frontier::<Sha256>::from_parts(SIZE_MAX, vec![[1; 32]]).unwrap();
        assert_eq!(frontier.root(), [1; 32]);
        assert_eq!(frontier.push([2; 32]), Err(BadSize));
        assert_eq!(frontier.nodes(), [[1; 32]]);
        let mut frontier = Frontier::<Sha256>::from_parts(SIZE_MAX - 1, vec![[1; 32]; 63]).unwrap();
        assert_eq!(frontier.push([2; 32]), Ok(()));
        assert_eq!((frontier.size(), frontier.nodes().len()), (SIZE_MAX, 1));
    }

    #[test]
    fn parts_that_do_not_fit_are_no_frontier() {
        assert!(Frontier::<Sha256>::from_parts(3, vec![[0; 32]]).is_none());
        assert!(Frontier::<Sha256>::from_parts(SIZE_MAX + 1, vec![[0; 32]; 2]).is_none());
    }
}
