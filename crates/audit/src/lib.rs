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

pub mod anchor;
mod body;
mod canonical;
pub mod code;
pub mod hash;
pub mod link;
pub mod record;
#[cfg(feature = "recorder")]
pub mod recorder;
mod tlv;
mod value;

pub use canonical::{BadScalar, EXPONENT_MAX};
pub use tlv::TlvError;
pub use value::{KEY_ID_BYTES_MAX, SHOWN_BYTES_MAX, is_key_id};
