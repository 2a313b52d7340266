//! A transparency log in the formats of C2SP: tree, tiles, checkpoints, witnesses, proofs.
//!
//! Everything here is a function of its arguments. Nothing opens a file or a socket, reads a clock
//! or draws randomness, and nothing that is parsed has two spellings: what a parser accepts, its
//! writer writes back byte for byte. (The policy file, which people write, is the exception.)
//!
//! | module | specification |
//! |---|---|
//! | [`hash`], [`frontier`], [`proof`] | RFC 6962 and RFC 9162 §2.1, for any hash of 32 bytes |
//! | [`tile`], [`growth`], [`tree`] | c2sp.org/tlog-tiles |
//! | [`key`], [`secret`], [`note`], [`sign`] | c2sp.org/signed-note |
//! | [`checkpoint`], [`cosignature`] | c2sp.org/tlog-checkpoint, c2sp.org/tlog-cosignature |
//! | [`witness`] | c2sp.org/tlog-witness, `add-checkpoint` |
//! | [`policy`] | c2sp.org/tlog-policy |
//! | [`logproof`] | c2sp.org/tlog-proof |
#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_possible_wrap,
        clippy::string_slice,
        reason = "tests"
    )
)]

pub mod checkpoint;
pub mod cosignature;
pub mod frontier;
pub mod growth;
pub mod hash;
pub mod key;
pub mod logproof;
pub mod note;
pub mod policy;
pub mod proof;
mod range;
#[cfg(test)]
mod reference;
pub mod secret;
pub mod sign;
mod text;
pub mod tile;
pub mod token;
pub mod tree;
pub mod witness;

pub use frontier::Frontier;
#[cfg(feature = "sm")]
pub use hash::Sm3;
pub use hash::{HASH_BYTES, Hash, Sha256, TreeHash};
pub use proof::Head;
pub use range::{BadSize, SIZE_MAX};
