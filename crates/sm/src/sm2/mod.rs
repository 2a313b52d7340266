//! SM2 (GB/T 32918-2016) on the recommended curve of its part 5: signatures, the key agreement of
//! RFC 8998, public-key encryption, and the encodings of keys.
//!
//! What touches a private key or a nonce takes the same time for all values and is wiped when its
//! owner is dropped; copies in registers and on the stack are not. Entropy is an argument.

mod curve;
pub mod der;
mod ecdh;
mod encrypt;
mod field;
mod key;
mod limb;
mod multiply;
mod nonce;
mod scalar;
mod sign;
mod table;
mod verify;

pub use curve::POINT_BYTES;
pub use ecdh::{Ephemeral, SHARED_BYTES, SharedSecret};
pub use encrypt::{OVERHEAD_BYTES, TEXT_BYTES_MAX};
pub use key::{Identity, PublicKey, SECRET_BYTES, SecretKey};
pub use sign::{SIGNATURE_BYTES, Signature};

/// The identity where none is agreed on (GB/T 35276-2017 §10): certificates, lists, requests.
pub const DEFAULT_ID: &[u8] = b"1234567812345678";
/// The identity of the CertificateVerify message, RFC 8998 §3.2.1.
pub const TLS13_ID: &[u8] = b"TLSv1.3+GM+Cipher+Suite";

/// Bytes of entropy that an operation takes: from the operating system, fresh for each call. Only
/// signing is hedged against bad entropy, by the key and the message.
pub const ENTROPY_BYTES: usize = 32;

// All limbs zero. It stands here because the build script shares the types, but has no zeroize.
impl zeroize::DefaultIsZeroes for curve::Affine {}
impl zeroize::DefaultIsZeroes for curve::Jacobian {}

#[cfg(test)]
mod tests;
