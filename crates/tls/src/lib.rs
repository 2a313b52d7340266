//! TLS 1.3 on both sides: configurations for listeners and upstreams, and what their errors mean.
//!
//! One provider (aws-lc-rs), one version (TLS 1.3, RFC 8446), no resumption, no early data. The
//! crate opens no socket and no file: it turns PEM bytes into rustls configurations.

mod client;
mod error;
mod material;
mod server;
#[cfg(test)]
mod tests;

pub use client::client_config;
pub use error::{Error, code_of, refusal_of};
pub use material::Material;
pub use server::server_config;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// ALPN name of HTTP/2 (RFC 9113 §3.2).
pub const ALPN_H2: &[u8] = b"h2";
/// ALPN name of HTTP/1.1 (RFC 7301 §6).
pub const ALPN_HTTP1: &[u8] = b"http/1.1";

/// The international provider: AES-GCM and ChaCha20 suites, X25519MLKEM768 where offered.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
