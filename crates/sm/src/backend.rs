//! The seam between a TLS layer and an implementation of the algorithms.
//!
//! [`Native`] is this crate. A certified module, or another library, takes its place by the same
//! traits; tests/backend.rs does it with the RustCrypto crates. Objects are boxed, as rustls boxes
//! them: once for a key or a transcript, never for a record.

use alloc::boxed::Box;
use core::fmt::Debug;

use crate::error::Error;
use crate::hmac::HmacSm3Key;
use crate::sm2::{ENTROPY_BYTES, Ephemeral, POINT_BYTES, PublicKey, SECRET_BYTES, SecretKey};
use crate::sm2::{SharedSecret, Signature};
use crate::sm3::{DIGEST_BYTES, Sm3};
use crate::sm4::ccm::Ccm;
use crate::sm4::gcm::Gcm;
use crate::sm4::{KEY_BYTES, NONCE_BYTES, TAG_BYTES};

/// The algorithms of RFC 8998.
pub trait Backend: Debug + Send + Sync {
    /// For logs and records.
    fn name(&self) -> &'static str;

    /// An empty SM3.
    fn sm3(&self) -> Box<dyn Hash>;

    /// HMAC-SM3 with a key of any length.
    fn hmac_sm3(&self, key: &[u8]) -> Box<dyn Mac>;

    /// A key of SM4-GCM or SM4-CCM.
    fn aead(&self, mode: Mode, key: &[u8; KEY_BYTES]) -> Box<dyn Aead>;

    /// One side of a key agreement on curveSM2, from fresh entropy.
    ///
    /// # Errors
    ///
    /// [`Error::Entropy`].
    fn exchange(&self, entropy: &[u8; ENTROPY_BYTES]) -> Result<Box<dyn Exchange>, Error>;

    /// A private key that is held in memory. A key elsewhere is a [`Signer`] of its own.
    ///
    /// # Errors
    ///
    /// [`Error::Scalar`].
    fn signer(&self, secret: &[u8; SECRET_BYTES]) -> Result<Box<dyn Signer>, Error>;

    /// Verifies an SM2 signature in DER. `public` is `04 x y`.
    ///
    /// # Errors
    ///
    /// [`Error::Point`], [`Error::Identity`], [`Error::Der`], [`Error::Signature`].
    fn verify(&self, public: &[u8], id: &[u8], message: &[u8], der: &[u8]) -> Result<(), Error>;
}

/// Which AEAD, RFC 8998 §2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// TLS_SM4_GCM_SM3, 0x00C6.
    Gcm,
    /// TLS_SM4_CCM_SM3, 0x00C7.
    Ccm,
}

/// A running hash.
pub trait Hash: Send + Sync {
    /// Hash some more bytes.
    fn update(&mut self, data: &[u8]);
    /// Another one with the same past.
    fn fork(&self) -> Box<dyn Hash>;
    /// The digest.
    fn finish(self: Box<Self>) -> [u8; DIGEST_BYTES];
}

/// A key for tags.
pub trait Mac: Send + Sync {
    /// The tag over the parts, one after the other.
    fn sign(&self, parts: &[&[u8]]) -> [u8; DIGEST_BYTES];
}

/// A key for records. The caller never uses a nonce twice.
pub trait Aead: Send + Sync {
    /// Encrypts in place.
    ///
    /// # Errors
    ///
    /// [`Error::TooLong`].
    fn seal(
        &self,
        nonce: &[u8; NONCE_BYTES],
        aad: &[u8],
        text: &mut [u8],
    ) -> Result<[u8; TAG_BYTES], Error>;

    /// Decrypts in place. With an error, the text is as it was or wiped, never the plaintext.
    ///
    /// # Errors
    ///
    /// [`Error::Tag`], [`Error::TooLong`].
    fn open(
        &self,
        nonce: &[u8; NONCE_BYTES],
        aad: &[u8],
        text: &mut [u8],
        tag: &[u8],
    ) -> Result<(), Error>;
}

/// One side of one key agreement.
pub trait Exchange: Send + Sync {
    /// The key share, `04 x y`.
    fn share(&self) -> &[u8; POINT_BYTES];

    /// The x coordinate shared with the owner of that key share, which is checked.
    ///
    /// # Errors
    ///
    /// [`Error::Point`].
    fn agree(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error>;
}

/// A private key, wherever it is.
pub trait Signer: Debug + Send + Sync {
    /// Its public key, `04 x y`.
    fn public(&self) -> &[u8; POINT_BYTES];

    /// Signs as `id`, with fresh entropy.
    ///
    /// # Errors
    ///
    /// [`Error::Identity`], [`Error::Entropy`].
    fn sign(
        &self,
        id: &[u8],
        message: &[u8],
        entropy: &[u8; ENTROPY_BYTES],
    ) -> Result<Signature, Error>;
}

/// This crate.
#[derive(Debug, Clone, Copy)]
pub struct Native;

impl Backend for Native {
    fn name(&self) -> &'static str {
        "moat-sm"
    }

    fn sm3(&self) -> Box<dyn Hash> {
        Box::new(Sm3::new())
    }

    fn hmac_sm3(&self, key: &[u8]) -> Box<dyn Mac> {
        Box::new(HmacSm3Key::new(key))
    }

    fn aead(&self, mode: Mode, key: &[u8; KEY_BYTES]) -> Box<dyn Aead> {
        match mode {
            Mode::Gcm => Box::new(Gcm::new(key)),
            Mode::Ccm => Box::new(Ccm::new(key)),
        }
    }

    fn exchange(&self, entropy: &[u8; ENTROPY_BYTES]) -> Result<Box<dyn Exchange>, Error> {
        Ok(Box::new(Ephemeral::generate(entropy)?))
    }

    fn signer(&self, secret: &[u8; SECRET_BYTES]) -> Result<Box<dyn Signer>, Error> {
        Ok(Box::new(SecretKey::from_bytes(secret)?))
    }

    fn verify(&self, public: &[u8], id: &[u8], message: &[u8], der: &[u8]) -> Result<(), Error> {
        PublicKey::from_bytes(public)?.verify(id, message, &Signature::from_der(der)?)
    }
}

impl Hash for Sm3 {
    fn update(&mut self, data: &[u8]) {
        Self::update(self, data);
    }

    fn fork(&self) -> Box<dyn Hash> {
        Box::new(self.clone())
    }

    fn finish(self: Box<Self>) -> [u8; DIGEST_BYTES] {
        Self::finish(*self)
    }
}

impl Mac for HmacSm3Key {
    fn sign(&self, parts: &[&[u8]]) -> [u8; DIGEST_BYTES] {
        Self::sign(self, parts)
    }
}

/// The two modes have the same methods.
macro_rules! aead {
    ($mode:ty) => {
        impl Aead for $mode {
            fn seal(
                &self,
                nonce: &[u8; NONCE_BYTES],
                aad: &[u8],
                text: &mut [u8],
            ) -> Result<[u8; TAG_BYTES], Error> {
                Self::seal(self, nonce, aad, text)
            }

            fn open(
                &self,
                nonce: &[u8; NONCE_BYTES],
                aad: &[u8],
                text: &mut [u8],
                tag: &[u8],
            ) -> Result<(), Error> {
                Self::open(self, nonce, aad, text, tag)
            }
        }
    };
}

aead!(Gcm);
aead!(Ccm);

impl Exchange for Ephemeral {
    fn share(&self) -> &[u8; POINT_BYTES] {
        Self::share(self)
    }

    fn agree(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        Self::agree(*self, peer)
    }
}

impl Signer for SecretKey {
    fn public(&self) -> &[u8; POINT_BYTES] {
        self.public().as_bytes()
    }

    fn sign(
        &self,
        id: &[u8],
        message: &[u8],
        entropy: &[u8; ENTROPY_BYTES],
    ) -> Result<Signature, Error> {
        Self::sign(self, id, message, entropy)
    }
}
