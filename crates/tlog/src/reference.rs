//! The recursive definitions of RFC 9162 §2.1 as they are printed: slow, and sharing no code with
//! what they check.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::hash::{Hash, Sha256, TreeHash};

/// Leaves, and the hashes of what was asked so far.
pub(crate) struct Reference {
    leaves: Vec<Vec<u8>>,
    known: RefCell<HashMap<(usize, usize), Hash>>,
}

impl Reference {
    /// `count` leaves that differ.
    pub(crate) fn new(count: u32) -> Reference {
        Reference::of((0..count).map(|n| n.to_be_bytes().to_vec()).collect())
    }

    pub(crate) fn of(leaves: Vec<Vec<u8>>) -> Reference {
        Reference { leaves, known: RefCell::default() }
    }

    pub(crate) fn leaf(&self, index: usize) -> Hash {
        Sha256::digest(&[&[0], &self.leaves[index]])
    }

    /// MTH(D[start:end]), §2.1.1.
    pub(crate) fn mth(&self, start: usize, end: usize) -> Hash {
        if let Some(hash) = self.known.borrow().get(&(start, end)) {
            return *hash;
        }
        let hash = match end - start {
            0 => Sha256::digest(&[]),
            1 => self.leaf(start),
            n => {
                let k = split(n);
                let (left, right) = (self.mth(start, start + k), self.mth(start + k, end));
                Sha256::digest(&[&[1], &left, &right])
            }
        };
        self.known.borrow_mut().insert((start, end), hash);
        hash
    }

    /// PATH(m, D[start:end]), §2.1.3.1.
    pub(crate) fn path(&self, m: usize, start: usize, end: usize) -> Vec<Hash> {
        let n = end - start;
        if n == 1 {
            return Vec::new();
        }
        let k = split(n);
        let (mut path, beside) = if m < k {
            (self.path(m, start, start + k), self.mth(start + k, end))
        } else {
            (self.path(m - k, start + k, end), self.mth(start, start + k))
        };
        path.push(beside);
        path
    }

    /// SUBPROOF(m, D[start:end], b), §2.1.4.1.
    pub(crate) fn subproof(&self, m: usize, start: usize, end: usize, b: bool) -> Vec<Hash> {
        let n = end - start;
        if m == n {
            return if b { Vec::new() } else { vec![self.mth(start, end)] };
        }
        let k = split(n);
        let (mut proof, beside) = if m <= k {
            (self.subproof(m, start, start + k, b), self.mth(start + k, end))
        } else {
            (self.subproof(m - k, start + k, end, false), self.mth(start, start + k))
        };
        proof.push(beside);
        proof
    }
}

/// The largest power of two smaller than n.
fn split(n: usize) -> usize {
    let mut k = 1;
    while k * 2 < n {
        k *= 2;
    }
    k
}
