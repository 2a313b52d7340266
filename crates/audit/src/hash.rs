//! The hashes of the log: RFC 6962 leaf hashes, and SHA-256 for everything else.

use moat_tlog::TreeHash;
use sha2::{Digest, Sha256};

/// A SHA-256 value.
pub type Hash = [u8; 32];

/// What stands where there is no hash yet: before the first leaf, before the first segment.
pub const ZERO: Hash = [0; 32];

/// SHA-256 of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

/// SHA-256 over several parts, as if they were one.
#[must_use]
pub fn sha256_parts(parts: &[&[u8]]) -> Hash {
    let mut state = Sha256::new();
    for part in parts {
        state.update(part);
    }
    state.finalize().into()
}

/// The hash of a leaf (RFC 6962 §2.1): the 0x00 keeps leaves and nodes apart.
#[must_use]
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    moat_tlog::Sha256::leaf(leaf)
}

/// A hash as lower-case hexadecimal text.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}
