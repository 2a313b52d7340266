//! TLS 1.3 on both sides: configurations for listeners and upstreams, and what their errors mean.
//!
//! Two stacks, international (aws-lc-rs) and national (RFC 8998 by `moat-sm`), that never mix in
//! one connection. One version (TLS 1.3, RFC 8446), no resumption, no early data. The crate opens
//! no socket and no file: it turns PEM bytes into rustls configurations.

mod authorities;
mod client;
pub mod der;
mod encrypted;
mod error;
pub mod ja4;
mod material;
mod national;
mod ocsp;
mod order;
mod path;
mod preference;
mod revocation;
mod sct;
mod server;
mod stack;
#[cfg(test)]
mod tests;
mod web;

pub use authorities::Authorities;
pub use client::{Attempt, Belief, Client};
pub use error::{Error, code_of, refusal_of, upstream_code_of};
pub use material::{Keys, Material, Trust};
pub use order::Order;
pub use path::{Broken, Path};
pub use preference::National;
pub use revocation::{Depth, Proven, Standing};
pub use sct::embedded_timestamps;
pub use server::{Choice, Server};
pub use stack::{Chosen, Negotiated, Stack};
pub use web::web_client;

/// ALPN name of HTTP/2 (RFC 9113 §3.2).
pub const ALPN_H2: &[u8] = b"h2";
/// ALPN name of HTTP/1.1 (RFC 7301 §6).
pub const ALPN_HTTP1: &[u8] = b"http/1.1";
