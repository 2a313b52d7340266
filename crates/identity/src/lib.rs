//! From a verified certificate to an identity.
//!
//! [`identify`] is the only way to a [`VerifiedPeer`]. It is handed the leaf certificate of a chain
//! that the TLS verifier has accepted, and refuses every certificate that does not name exactly one
//! SPIFFE id of the expected trust domain. It opens no file and reads no clock.

mod name;
mod peer;
mod spiffe;
#[cfg(test)]
mod tests;

pub use name::rfc4514;
pub use peer::{VerifiedPeer, identify};
pub use spiffe::SpiffeId;
