//! The compiled programs, which are part of this program.

use sha2::{Digest, Sha256};

/// `bpf/egress.bpf.c`.
pub const EGRESS: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/egress.o"));

/// `bpf/tls_records.bpf.c`.
pub const TLS_RECORDS: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tls_records.o"));

/// `bpf/behaviour.bpf.c`.
pub const BEHAVIOUR: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/behaviour.o"));

/// `bpf/latency.bpf.c`.
pub const LATENCY: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/latency.o"));

/// `bpf/loss.bpf.c`.
pub const LOSS: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/loss.o"));

/// `bpf/calls.bpf.c`.
pub const CALLS: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/calls.o"));

/// Every object, by the name of its source.
pub const ALL: &[(&str, &[u8])] = &[
    ("egress", EGRESS),
    ("tls_records", TLS_RECORDS),
    ("behaviour", BEHAVIOUR),
    ("latency", LATENCY),
    ("loss", LOSS),
    ("calls", CALLS),
];

/// A short name for exactly this object.
#[must_use]
pub fn digest(object: &[u8]) -> String {
    Sha256::digest(object).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
