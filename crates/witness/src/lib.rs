//! Witnesses (c2sp.org/tlog-witness): the server that cosigns, and the courier that asks it.
//!
//! A witness sees sizes, roots and proofs, never a record. It cosigns a checkpoint only if the log
//! signed it and only grew since the last one, and only after that is stored. The courier is the
//! gateway's way out to witnesses: it carries bodies and believes nothing.

pub mod courier;
pub mod server;
pub mod witness;
