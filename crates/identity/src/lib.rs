//! From a verified certificate to an identity.
//!
//! [`identify`] is the way to a [`VerifiedPeer`]; [`named`] makes one on the word of another. It is handed the leaf certificate of a chain
//! that the TLS verifier has accepted, and refuses every certificate that does not name exactly one
//! SPIFFE id of the expected trust domain. What proves more than the certificate is read here too:
//! the keys of a JWK set and signatures of HTTP messages. It opens no file and reads no clock.

mod json;
pub mod jws;
mod key;
mod name;
mod peer;
pub mod signature;
mod spiffe;
#[cfg(test)]
mod tests;
pub mod token;

pub use key::{Algorithm, BadKeys, NamedKey, PublicKey, read_keys};
pub use name::rfc4514;
pub use peer::{VerifiedPeer, identify, named};
pub use spiffe::SpiffeId;
