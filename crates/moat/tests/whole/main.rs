//! Whole processes: the real program with its roles, real mutual TLS on both sides, a scripted
//! service behind it. Each test starts a gateway of its own.
#![allow(clippy::disallowed_methods, reason = "tests read the clock and their environment")]
#![allow(clippy::cast_possible_truncation, clippy::string_slice, reason = "tests")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::indexing_slicing, clippy::cast_lossless, reason = "tests")]

mod behaviour;
mod bench;
mod bundles;
mod ca;
mod canary;
mod copies;
mod decisions;
mod durability;
mod evidence;
mod faults;
mod floods;
mod framing;
mod identity;
mod iso8583;
mod jwks;
mod kernel;
mod latency;
mod limits;
mod live;
mod load;
mod masks;
mod message;
mod metrics;
mod national;
mod policies;
mod protocols;
mod reload;
mod sandbox;
mod slowness;
mod stamps;
mod step_up;
mod support;
mod svid;
mod tampering;
mod tokens;
mod upgrade;
mod upstreams;
mod witness;
