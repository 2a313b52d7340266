//! The key agreement of RFC 8998 §3.3 and RFC 8446 §7.4.2 on curveSM2: the x coordinate of a
//! product.
//!
//! This is plain ECDH, not the exchange of GB/T 32918.3.

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::curve::{Jacobian, POINT_BYTES};
use super::key::{PublicKey, SecretKey};
use super::scalar::Scalar;
use super::{ENTROPY_BYTES, nonce};
use crate::cpu::Cpu;
use crate::error::Error;
use crate::hmac::HmacSm3Key;

/// Bytes of the shared secret.
pub const SHARED_BYTES: usize = 32;

/// A secret that two have agreed on.
#[derive(Clone)]
pub struct SharedSecret([u8; SHARED_BYTES]);

impl core::fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SharedSecret").finish_non_exhaustive()
    }
}

impl Drop for SharedSecret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ZeroizeOnDrop for SharedSecret {}

impl SharedSecret {
    /// What another backend agreed on.
    pub const fn new(x: [u8; SHARED_BYTES]) -> Self {
        Self(x)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; SHARED_BYTES] {
        &self.0
    }
}

/// One side of one agreement.
pub struct Ephemeral {
    d: Scalar,
    public: PublicKey,
}

impl core::fmt::Debug for Ephemeral {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Ephemeral").finish_non_exhaustive()
    }
}

impl Drop for Ephemeral {
    fn drop(&mut self) {
        self.d.zeroize();
    }
}

impl ZeroizeOnDrop for Ephemeral {}

impl Ephemeral {
    /// A new pair. It is as good as the entropy: nothing hedges it, as a signature's nonce is hedged.
    ///
    /// # Errors
    ///
    /// [`Error::Entropy`], about once in 2^256.
    pub fn generate(entropy: &[u8; ENTROPY_BYTES]) -> Result<Self, Error> {
        let seed = nonce::seed(&HmacSm3Key::new(entropy), &[b"moat sm2 ephemeral"]);
        nonce::first(&seed, |d| {
            let point = Zeroizing::new(Jacobian::multiply_base(Cpu::current(), d));
            Some(Self { d: *d, public: PublicKey::new(point.to_affine()) })
        })
    }

    /// The key share for the peer: `04 x y`.
    pub const fn share(&self) -> &[u8; POINT_BYTES] {
        self.public.as_bytes()
    }

    /// The secret shared with the owner of that key share, which is checked to be on the curve.
    ///
    /// # Errors
    ///
    /// [`Error::Point`].
    pub fn agree(self, peer: &[u8]) -> Result<SharedSecret, Error> {
        Ok(shared(&self.d, &PublicKey::from_bytes(peer)?))
    }
}

impl SecretKey {
    /// The same with a key that lives on.
    pub fn agree(&self, peer: &PublicKey) -> SharedSecret {
        shared(&self.d, peer)
    }
}

/// Never infinity: the group's order is prime, and 0 < d < n.
fn shared(d: &Scalar, peer: &PublicKey) -> SharedSecret {
    let point = Zeroizing::new(Jacobian::multiply(peer.point, d));
    SharedSecret(point.to_affine_x().to_bytes())
}
