//! Keys: a private number from 1 to n - 2 (GB/T 32918.1 §6.1) and its point.

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::curve::{Affine, Jacobian, POINT_BYTES};
use super::scalar::Scalar;
use super::{ENTROPY_BYTES, nonce};
use crate::cpu::Cpu;
use crate::ct;
use crate::error::Error;
use crate::hmac::HmacSm3Key;
use crate::sm3::Sm3;

/// Bytes of a private key.
pub const SECRET_BYTES: usize = 32;

/// GB/T 32918.2 §5.5: a || b || x_G || y_G of the recommended curve (GB/T 32918.5 §2).
const CURVE: [u8; 128] = [
    0xff, 0xff, 0xff, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfc,
    0x28, 0xe9, 0xfa, 0x9e, 0x9d, 0x9f, 0x5e, 0x34, 0x4d, 0x5a, 0x9e, 0x4b, 0xcf, 0x65, 0x09, 0xa7,
    0xf3, 0x97, 0x89, 0xf5, 0x15, 0xab, 0x8f, 0x92, 0xdd, 0xbc, 0xbd, 0x41, 0x4d, 0x94, 0x0e, 0x93,
    0x32, 0xc4, 0xae, 0x2c, 0x1f, 0x19, 0x81, 0x19, 0x5f, 0x99, 0x04, 0x46, 0x6a, 0x39, 0xc9, 0x94,
    0x8f, 0xe3, 0x0b, 0xbf, 0xf2, 0x66, 0x0b, 0xe1, 0x71, 0x5a, 0x45, 0x89, 0x33, 0x4c, 0x74, 0xc7,
    0xbc, 0x37, 0x36, 0xa2, 0xf4, 0xf6, 0x77, 0x9c, 0x59, 0xbd, 0xce, 0xe3, 0x6b, 0x69, 0x21, 0x53,
    0xd0, 0xa9, 0x87, 0x7c, 0xc6, 0x2a, 0x47, 0x40, 0x02, 0xdf, 0x32, 0xe5, 0x21, 0x39, 0xf0, 0xa0,
];

/// A public key: a point of the curve other than infinity.
#[derive(Clone, Copy)]
pub struct PublicKey {
    pub(super) point: Affine,
    bytes: [u8; POINT_BYTES],
}

impl core::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PublicKey").finish_non_exhaustive()
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for PublicKey {}

impl PublicKey {
    /// From 65 bytes, `04 x y` (GB/T 32918.1 §4.2.10). The point is checked to be on the curve.
    ///
    /// # Errors
    ///
    /// [`Error::Point`], for compressed and hybrid forms too.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        Affine::from_bytes(bytes).map(Self::new).ok_or(Error::Point)
    }

    pub(super) fn new(point: Affine) -> Self {
        Self { point, bytes: point.to_bytes() }
    }

    /// `04 x y`.
    pub const fn as_bytes(&self) -> &[u8; POINT_BYTES] {
        &self.bytes
    }

    /// GB/T 32918.2 §5.5: the key together with who uses it. Worth keeping for many messages.
    ///
    /// # Errors
    ///
    /// [`Error::Identity`] if `id` is longer than 8191 bytes.
    pub fn identity(&self, id: &[u8]) -> Result<Identity, Error> {
        let bits = id.len().checked_mul(8).and_then(|bits| u16::try_from(bits).ok());
        let bits = bits.ok_or(Error::Identity)?;
        let [_, own @ ..] = &self.bytes;
        let hash = Sm3::new().chain(&bits.to_be_bytes()).chain(id).chain(&CURVE).chain(own);
        Ok(Identity { z: hash.finish() })
    }
}

/// The hash Z over an identity, the curve and a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    z: [u8; 32],
}

impl Identity {
    /// Z itself.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.z
    }

    /// GB/T 32918.2 §6.1 steps A1 and A2: the digest e = SM3(Z || message) that is signed.
    pub fn digest(&self, message: &[u8]) -> [u8; 32] {
        self.start().chain(message).finish()
    }

    /// The same for a message in pieces: update it, and finish.
    pub fn start(&self) -> Sm3 {
        Sm3::new().chain(&self.z)
    }
}

/// A private key.
#[derive(Clone)]
pub struct SecretKey {
    pub(super) d: Scalar,
    /// 1 / (1 + d), which every signature needs.
    pub(super) inverse: Scalar,
    /// HMAC with d as the key, from which nonces come.
    pub(super) nonces: HmacSm3Key,
    public: PublicKey,
}

impl core::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SecretKey").field("public", &self.public).finish_non_exhaustive()
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.d.zeroize();
        self.inverse.zeroize();
    }
}

impl ZeroizeOnDrop for SecretKey {}

impl SecretKey {
    /// From 32 bytes, big-endian.
    ///
    /// # Errors
    ///
    /// [`Error::Scalar`] if it is not from 1 to n - 2.
    pub fn from_bytes(bytes: &[u8; SECRET_BYTES]) -> Result<Self, Error> {
        let d = Zeroizing::new(Scalar::from_bytes_not_zero(bytes).ok_or(Error::Scalar)?);
        Self::new(&d).ok_or(Error::Scalar)
    }

    /// A new key. It is as good as the entropy: nothing hedges it, as a signature's nonce is hedged.
    ///
    /// # Errors
    ///
    /// [`Error::Entropy`], about once in 2^256.
    pub fn generate(entropy: &[u8; ENTROPY_BYTES]) -> Result<Self, Error> {
        let seed = nonce::seed(&HmacSm3Key::new(entropy), &[b"moat sm2 key"]);
        nonce::first(&seed, Self::new)
    }

    fn new(d: &Scalar) -> Option<Self> {
        let sum = Zeroizing::new(d.add(Scalar::ONE));
        if sum.is_zero() {
            return None;
        }
        let point = Zeroizing::new(Jacobian::multiply_base(Cpu::current(), d));
        let public = PublicKey::new(point.to_affine());
        let mut bytes = d.to_bytes();
        let nonces = HmacSm3Key::new(&bytes);
        bytes.as_mut_slice().zeroize();
        Some(Self { d: *d, inverse: sum.invert(), nonces, public })
    }

    /// The public key of it.
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The 32 bytes, big-endian. They are wiped when dropped.
    pub fn to_bytes(&self) -> Zeroizing<[u8; SECRET_BYTES]> {
        Zeroizing::new(self.d.to_bytes())
    }

    /// Whether it is the private key of that public key.
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`].
    pub fn check(&self, public: &PublicKey) -> Result<(), Error> {
        let is_same = ct::equal(self.public.as_bytes(), public.as_bytes());
        if is_same { Ok(()) } else { Err(Error::Mismatch) }
    }
}
