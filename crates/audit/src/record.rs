//! The leaf: a head written by the auditor and a body written by the recorder, as canonical bytes.
//!
//! Encoding and decoding are inverse to each other: [`decode_leaf`] accepts exactly the bytes that
//! [`encode_leaf`] makes. No maps, no floats, no defaults that could be written in two ways.

use moat_model::limit::LEAF_BYTES_MAX;

pub use crate::body::{BODY_BYTES_MAX, Body, Kind, Op, Outcome, Pairing};
use crate::hash::Hash;
use crate::tlv::{Reader, TlvError, Writer};
pub use crate::value::{Anchor, AnchorAlg, ClassRule, Field, Value};

/// The version of the record format.
pub const VERSION: u8 = 1;
/// `hash_alg` of SHA-256, the only one yet.
pub const SHA256: u8 = 1;
/// Longest log id, in bytes.
pub const LOG_ID_BYTES_MAX: usize = 128;
/// Note of the ADMIN record with which the auditor ends a log in good order.
pub const STOP_NOTE: &str = "stop";
/// `clock_err_us` when nobody knows how wrong the clock may be.
pub const CLOCK_ERR_UNKNOWN: u32 = u32::MAX;

/// The tags, in the order in which they stand; `docs/record.md` has the table.
pub mod tag {
    macro_rules! tags {
        ($($name:ident = $tag:literal;)*) => {
            $(#[doc = concat!("Tag of `", stringify!($name), "`.")] pub const $name: u8 = $tag;)*
            /// Every tag with its name, ascending.
            pub const ALL: &[(u8, &str)] = &[$(($tag, stringify!($name))),*];
        };
    }
    tags! {
        VER = 0x01; LOG_ID = 0x02; SEQ = 0x03; PREV_HASH = 0x04; HASH_ALG = 0x05; T_WALL_NS = 0x06;
        T_MONO_NS = 0x07; BOOT_ID = 0x08; CLOCK_ERR_US = 0x09;
        KIND = 0x10; TRACE_ID = 0x11; TX_ID = 0x12; INTENT_SEQ = 0x13; PARENT_SEQ = 0x14;
        TENANT = 0x15; LISTENER = 0x16; ROUTE = 0x17; ACTOR = 0x18; ACTOR_SUBJECT = 0x19;
        PEER_CERT_HASH = 0x1a; DEVICE_HASH = 0x1b; USER_AGENT = 0x1c; METHOD = 0x1d; OP = 0x1e;
        OBJECT = 0x1f; FIELDS = 0x20; OUTCOME = 0x21; ANSWERED = 0x22; STAGE = 0x23; CODE = 0x24;
        REASONS = 0x25; POLICY_VER = 0x26; GENERATION = 0x27; DECISION_ID = 0x28;
        HTTP_STATUS = 0x29; UPSTREAM = 0x2a; BYTES_IN = 0x2b; BYTES_OUT = 0x2c;
        BODY_DIGEST_IN = 0x2d; BODY_DIGEST_OUT = 0x2e; DURATION_US = 0x2f; UPSTREAM_US = 0x30;
        SQL_FINGERPRINT = 0x31; LSN = 0x32; TICKET = 0x33; NOTE = 0x34; SUITE = 0x35;
        GROUP = 0x36; UPSTREAM_SUITE = 0x37; UPSTREAM_GROUP = 0x38; STEP_UP = 0x39;
        JA4 = 0x40; WIRE = 0x41; UNGUARDED = 0x42; RISK = 0x50;
    }
}

/// Why a record cannot be encoded or decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes are not canonical.
    #[error("the record is not canonical: {0}")]
    Tlv(#[from] TlvError),
    /// Longer than a leaf may be.
    #[error("the record is longer than a leaf may be")]
    TooLong,
    /// Kind, outcome and intent do not go together.
    #[error("a record of kind {0} must not have this outcome or intent")]
    Kind(Kind),
    /// Another version or hash than this program knows.
    #[error("the record has a version or hash algorithm that is not known here")]
    Version,
    /// The log id is empty, too long or not printable ASCII.
    #[error("the log id must be 1 to 128 printable ASCII characters")]
    LogId,
}

/// What the auditor says of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The origin of the log, for example `pay.bank.test/audit/edge-042/2026q4`.
    pub log_id: String,
    /// Index in the log, from 0. It is the order; time is not.
    pub seq: u64,
    /// Leaf hash of the record before; zero for the first.
    pub prev_hash: Hash,
    /// UTC, in nanoseconds since 1970; never less than that of the record before.
    pub t_wall_ns: u64,
    /// Monotonic clock of this boot, in nanoseconds.
    pub t_mono_ns: u64,
    /// Which boot that was.
    pub boot_id: [u8; 16],
    /// How wrong the wall clock may be, in microseconds; `u32::MAX` when unknown.
    pub clock_err_us: u32,
}

/// A whole record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// What the auditor says.
    pub head: Head,
    /// What the recorder says.
    pub body: Body,
}

/// Whether `text` may name a log.
#[must_use]
pub fn is_log_id(text: &str) -> bool {
    (1..=LOG_ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The canonical bytes of a leaf from its head and the bytes of a body.
///
/// # Errors
/// When the log id is none, or the leaf would be longer than `LEAF_BYTES_MAX`.
pub fn encode_leaf(head: &Head, body: &[u8]) -> Result<Vec<u8>, RecordError> {
    if !is_log_id(&head.log_id) {
        return Err(RecordError::LogId);
    }
    let mut w = Writer::default();
    w.put(tag::VER, &[VERSION]);
    w.text(tag::LOG_ID, &head.log_id);
    w.put(tag::SEQ, &head.seq.to_be_bytes());
    w.put(tag::PREV_HASH, &head.prev_hash);
    w.put(tag::HASH_ALG, &[SHA256]);
    w.put(tag::T_WALL_NS, &head.t_wall_ns.to_be_bytes());
    w.put(tag::T_MONO_NS, &head.t_mono_ns.to_be_bytes());
    w.put(tag::BOOT_ID, &head.boot_id);
    w.put(tag::CLOCK_ERR_US, &head.clock_err_us.to_be_bytes());
    let mut bytes = w.finish()?;
    bytes.extend_from_slice(body);
    if bytes.len() > LEAF_BYTES_MAX { Err(RecordError::TooLong) } else { Ok(bytes) }
}

/// Decodes the canonical bytes of a leaf and refuses every other.
///
/// # Errors
/// When the bytes are not what [`encode_leaf`] makes of some record.
pub fn decode_leaf(bytes: &[u8]) -> Result<Leaf, RecordError> {
    let (head, body) = split_leaf(bytes)?;
    Ok(Leaf { head, body: Body::decode(body)? })
}

/// The head of a leaf and the bytes of its body, which are not looked at.
///
/// # Errors
/// When the head is not canonical.
pub fn split_leaf(bytes: &[u8]) -> Result<(Head, &[u8]), RecordError> {
    if bytes.len() > LEAF_BYTES_MAX {
        return Err(RecordError::TooLong);
    }
    let mut r = Reader::new(bytes);
    if r.must::<1>(tag::VER)? != [VERSION] {
        return Err(RecordError::Version);
    }
    let log_id = r.text(tag::LOG_ID)?.to_owned();
    let seq = u64::from_be_bytes(r.must(tag::SEQ)?);
    let prev_hash = r.must(tag::PREV_HASH)?;
    if r.must::<1>(tag::HASH_ALG)? != [SHA256] {
        return Err(RecordError::Version);
    }
    let head = Head {
        log_id,
        seq,
        prev_hash,
        t_wall_ns: u64::from_be_bytes(r.must(tag::T_WALL_NS)?),
        t_mono_ns: u64::from_be_bytes(r.must(tag::T_MONO_NS)?),
        boot_id: r.must(tag::BOOT_ID)?,
        clock_err_us: u32::from_be_bytes(r.must(tag::CLOCK_ERR_US)?),
    };
    if !is_log_id(&head.log_id) {
        return Err(RecordError::LogId);
    }
    Ok((head, r.rest()))
}

#[cfg(test)]
#[path = "record_tests.rs"]
pub(crate) mod tests;
