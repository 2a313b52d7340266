//! Every bound that has no setting of its own, with its unit in its name.
//!
//! Bounds that an operator may set have their defaults in the configuration; what stands here is
//! what must hold whatever the configuration says.

/// Longest leaf of the audit log, in bytes: the length prefix of an entry bundle is 16 bits wide
/// (C2SP tlog-tiles).
pub const LEAF_BYTES_MAX: usize = 65_535;
/// Most record bodies that may wait for their receipts on one link, in records.
pub const LINK_IN_FLIGHT_MAX: usize = 4_096;
/// Refused connections of one source address that have records of their own, in a row and lasting.
pub const REFUSALS_SOURCE_BURST: u64 = 20;
/// See [`REFUSALS_SOURCE_BURST`], a second.
pub const REFUSALS_SOURCE_PER_S: u64 = 1;
/// The same for all sources together, in a row.
pub const REFUSALS_ALL_BURST: u64 = 200;
/// See [`REFUSALS_ALL_BURST`], a second.
pub const REFUSALS_ALL_PER_S: u64 = 20;
/// Most source addresses whose refusals are counted apart.
pub const REFUSAL_SOURCES_MAX: usize = 4_096;
/// How often refusals without records of their own are summed up, in seconds.
pub const SUMMARY_EVERY_S: u64 = 10;
/// Most summaries of single sources at once; what is left is summed up as "others".
pub const SUMMARIES_MAX: usize = 64;
/// Longest request or answer head, in bytes.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most fields in one head.
pub const HEAD_FIELDS_MAX: usize = 100;
/// Longest request target, in bytes.
pub const TARGET_BYTES_MAX: usize = 8 * 1024;
/// Longest chunk extension, in bytes, per chunk (RFC 9112 §7.1.1).
pub const CHUNK_EXTENSION_BYTES_MAX: usize = 256;
/// Most digits of a chunk size (RFC 9112 §7.1): as many as 64 bits need.
pub const CHUNK_SIZE_DIGITS_MAX: usize = 16;
/// Longest body that a head or a chunk may announce, in bytes: more reads as a negative number
/// where lengths are signed.
pub const ANNOUNCED_BYTES_MAX: u64 = i64::MAX as u64;
/// Longest name of a host, in bytes (RFC 1035 §2.3.4).
pub const HOST_NAME_BYTES_MAX: usize = 255;
/// Most interim answers (1xx) before the final one (RFC 9110 §15.2).
pub const INTERIM_ANSWERS_MAX: u8 = 8;
/// Deepest nesting of a JSON document.
pub const JSON_DEPTH_MAX: usize = 64;
/// Longest scalar that a masking or audit rule may look at, in bytes. A longer one gets the fixed
/// mask of its class, and its anchor covers the whole value.
pub const JSON_SCALAR_BYTES_MAX: usize = 4 * 1024;
/// Most fields captured from one document.
pub const CAPTURES_MAX: usize = 256;

const _: () = assert!(HEAD_BYTES_MAX > TARGET_BYTES_MAX);
const _: () = assert!(CAPTURES_MAX * 64 < LEAF_BYTES_MAX);
