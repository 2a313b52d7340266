//! The root of the log's growing SHA-256 tree: [`moat_tlog::Frontier`] in the words of this crate.

use moat_tlog::Sha256;

use crate::hash::Hash;

/// The roots of the complete subtrees that make up a tree, largest first (RFC 9162 §2.1.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier(moat_tlog::Frontier<Sha256>);

impl Frontier {
    /// A frontier stored elsewhere; `None` when there are not as many nodes as its size has ones,
    /// or no tree is so large.
    #[must_use]
    pub fn from_parts(size: u64, nodes: Vec<Hash>) -> Option<Frontier> {
        moat_tlog::Frontier::from_parts(size, nodes).map(Frontier)
    }

    /// How many leaves the tree has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.size()
    }

    /// The roots of the complete subtrees, largest first.
    #[must_use]
    pub fn nodes(&self) -> &[Hash] {
        self.0.nodes()
    }

    /// Appends one leaf.
    pub fn push(&mut self, leaf: Hash) {
        // Refused beyond 2^63 leaves only, which takes a forged header: a million a second would
        // need 292,000 years. The root then stays, and no footer has it.
        let _refused = self.0.push(leaf);
    }

    /// The root; that of the empty tree is SHA-256 of nothing.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.0.root()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::{hex, leaf_hash, sha256, sha256_parts};

    /// RFC 6962 §2.1, as written there.
    fn definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => sha256(&[]),
            [one] => *one,
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                sha256_parts(&[&[1], &definition(left), &definition(right)])
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
