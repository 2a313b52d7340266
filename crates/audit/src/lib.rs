//! The audit log: what a record is, how it is chained and stored, and how it is verified.
//!
//! Without features this crate is records, codecs and verification, all that an offline verifier
//! links. `write` adds the committer and recovery, `recorder` the gateway's asynchronous side.
//! Nothing here edits a record, skips one under load, or answers before a record is durable.
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

#[cfg(feature = "write")]
mod active;
pub mod anchor;
#[cfg(feature = "write")]
mod batch;
mod body;
mod canonical;
mod check;
pub mod code;
#[cfg(feature = "write")]
pub mod committer;
pub mod compare;
pub mod entries;
pub mod evidence;
#[cfg(test)]
#[cfg(feature = "write")]
mod fault_tests;
mod finding;
#[cfg(feature = "write")]
pub mod fs;
pub mod hash;
#[cfg(feature = "write")]
pub mod keep;
pub mod link;
pub mod merkle;
#[cfg(feature = "write")]
pub mod mirror;
#[cfg(test)]
#[cfg(feature = "write")]
mod mutation_tests;
pub mod pack;
pub mod packed;
pub mod prove;
pub mod record;
#[cfg(feature = "recorder")]
pub mod recorder;
#[cfg(feature = "write")]
pub mod recovery;
pub mod sealed;
pub mod search;
mod second;
pub mod segment;
pub mod sidecar;
#[cfg(test)]
#[cfg(feature = "write")]
mod sim;
pub mod stamps;
pub mod store;
mod telling;
pub mod tiles;
mod tlv;
#[cfg(feature = "write")]
pub mod tree;
mod value;
pub mod verify;
#[cfg(test)]
#[cfg(feature = "write")]
mod verify_tests;

pub use canonical::{BadScalar, EXPONENT_MAX};
pub use tlv::TlvError;
pub use value::{KEY_ID_BYTES_MAX, SHOWN_BYTES_MAX, is_key_id};
