//! The arithmetic of signatures for an offline verifier: Ed25519 and SM2-with-SM3, in pure Rust,
//! without the provider that the gateway has. Holds no private key.

use ed25519_dalek::{Signature, VerifyingKey};
use moat_tlog::key::Scheme;
use moat_tlog::sign::{NotVerified, Sm, Verifier};

/// Verifies every scheme that a checkpoint may be signed in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arithmetic;

impl Verifier for Arithmetic {
    fn verify(
        &self,
        scheme: Scheme,
        public: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), NotVerified> {
        match scheme {
            Scheme::Ed25519 => ed25519(public, message, signature).ok_or(NotVerified::Wrong),
            Scheme::Sm2Sm3 => Sm.verify(scheme, public, message, signature),
        }
    }
}

/// Strict: neither a weak key nor a second spelling of a signature is accepted.
fn ed25519(public: &[u8], message: &[u8], signature: &[u8]) -> Option<()> {
    let key = VerifyingKey::from_bytes(public.try_into().ok()?).ok()?;
    key.verify_strict(message, &Signature::from_slice(signature).ok()?).ok()
}
