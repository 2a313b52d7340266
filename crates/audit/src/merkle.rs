//! The root of the growing RFC 6962 tree, in memory that grows with the logarithm of its size.

use crate::hash::{Hash, node_hash, sha256};

/// The roots of the complete subtrees that make up a tree, largest first (RFC 9162 §2.1.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    nodes: Vec<Hash>,
}

impl Frontier {
    /// A frontier stored elsewhere; `None` when there are not as many nodes as its size has ones.
    #[must_use]
    pub fn from_parts(size: u64, nodes: Vec<Hash>) -> Option<Frontier> {
        let ones = usize::try_from(size.count_ones()).ok()?;
        (nodes.len() == ones).then_some(Frontier { size, nodes })
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

    /// Appends one leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        // As many subtrees become complete as the old size has ones at its end.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.nodes.pop() {
                node = node_hash(&left, &node);
            }
        }
        self.nodes.push(node);
        self.size += 1;
    }

    /// The root; that of the empty tree is SHA-256 of nothing.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut nodes = self.nodes.iter().rev();
        let Some(&smallest) = nodes.next() else { return sha256(&[]) };
        nodes.fold(smallest, |right, left| node_hash(left, &right))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::{hex, leaf_hash};

    /// RFC 6962 §2.1, as written there.
    fn definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => sha256(&[]),
            [one] => *one,
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                node_hash(&definition(left), &definition(right))
            }
        }
    }

    #[test]
    fn the_root_is_that_of_the_definition_at_every_size() {
        let mut frontier = Frontier::default();
        let mut leaves = Vec::new();
        for n in 0u8..=130 {
            assert_eq!(frontier.root(), definition(&leaves), "{n}");
            let stored = Frontier::from_parts(frontier.size(), frontier.nodes().to_vec());
            assert_eq!(stored.as_ref(), Some(&frontier));
            leaves.push(leaf_hash(&[n]));
            frontier.push(leaf_hash(&[n]));
        }
        assert!(Frontier::from_parts(3, vec![[0; 32]]).is_none());
    }

    #[test]
    fn known_roots_of_the_certificate_transparency_test_tree() {
        let mut frontier = Frontier::default();
        assert_eq!(
            hex(&frontier.root()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        frontier.push(leaf_hash(&[]));
        assert_eq!(
            hex(&frontier.root()),
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        );
        frontier.push(leaf_hash(&[0]));
        assert_eq!(
            hex(&frontier.root()),
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
        );
    }
}
