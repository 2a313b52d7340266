//! A second backend behind the same traits: the RustCrypto crates. Both must do the same, and each
//! must understand the other.

#![allow(clippy::expect_used, reason = "test code outside test functions")]

use aes_gcm::aead::{AeadInOut, KeyInit};
use ccm::consts::{U12, U16};
use hmac::Mac as _;
use moat_sm::Error;
use moat_sm::backend::{Aead, Backend, Exchange, Hash, Mac, Mode, Native, Signer};
use moat_sm::sm2::{DEFAULT_ID, SharedSecret, Signature, TLS13_ID};
use sm2::dsa::signature::{Signer as _, Verifier};
use sm2::elliptic_curve::sec1::ToSec1Point;
use sm3::Digest;

#[derive(Debug)]
struct RustCrypto;

struct OtherHash(sm3::Sm3);
struct OtherMac(hmac::SimpleHmac<sm3::Sm3>);
struct OtherAead<T>(T);
struct OtherExchange(sm2::SecretKey, [u8; 65]);
#[derive(Debug)]
struct OtherSigner(sm2::SecretKey, [u8; 65]);

fn share(secret: &sm2::SecretKey) -> [u8; 65] {
    secret.public_key().to_sec1_point(false).as_bytes().try_into().expect("65 bytes")
}

fn text(id: &[u8]) -> Result<&str, Error> {
    str::from_utf8(id).map_err(|_| Error::Identity)
}

impl Backend for RustCrypto {
    fn name(&self) -> &'static str {
        "rustcrypto"
    }

    fn sm3(&self) -> Box<dyn Hash> {
        Box::new(OtherHash(sm3::Sm3::new()))
    }

    fn hmac_sm3(&self, key: &[u8]) -> Box<dyn Mac> {
        Box::new(OtherMac(hmac::SimpleHmac::new_from_slice(key).expect("any length")))
    }

    fn aead(&self, mode: Mode, key: &[u8; 16]) -> Box<dyn Aead> {
        match mode {
            Mode::Gcm => Box::new(OtherAead(aes_gcm::AesGcm::<sm4::Sm4, U12>::new(&(*key).into()))),
            Mode::Ccm => Box::new(OtherAead(ccm::Ccm::<sm4::Sm4, U16, U12>::new(&(*key).into()))),
        }
    }

    fn exchange(&self, entropy: &[u8; 32]) -> Result<Box<dyn Exchange>, Error> {
        let secret = sm2::SecretKey::from_slice(entropy).map_err(|_| Error::Entropy)?;
        let share = share(&secret);
        Ok(Box::new(OtherExchange(secret, share)))
    }

    fn signer(&self, secret: &[u8; 32]) -> Result<Box<dyn Signer>, Error> {
        let secret = sm2::SecretKey::from_slice(secret).map_err(|_| Error::Scalar)?;
        let public = share(&secret);
        Ok(Box::new(OtherSigner(secret, public)))
    }

    fn verify(&self, public: &[u8], id: &[u8], message: &[u8], der: &[u8]) -> Result<(), Error> {
        let public = sm2::PublicKey::from_sec1_bytes(public).map_err(|_| Error::Point)?;
        let key = sm2::dsa::VerifyingKey::new(text(id)?, public).map_err(|_| Error::Identity)?;
        let signature = Signature::from_der(der)?.to_bytes();
        let signature =
            sm2::dsa::Signature::from_slice(&signature).map_err(|_| Error::Signature)?;
        key.verify(message, &signature).map_err(|_| Error::Signature)
    }
}

impl Hash for OtherHash {
    fn update(&mut self, data: &[u8]) {
        Digest::update(&mut self.0, data);
    }

    fn fork(&self) -> Box<dyn Hash> {
        Box::new(Self(self.0.clone()))
    }

    fn finish(self: Box<Self>) -> [u8; 32] {
        self.0.finalize().into()
    }
}

impl Mac for OtherMac {
    fn sign(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }
}

impl<T: AeadInOut<NonceSize = U12, TagSize = U16> + Send + Sync> Aead for OtherAead<T> {
    fn seal(&self, nonce: &[u8; 12], aad: &[u8], text: &mut [u8]) -> Result<[u8; 16], Error> {
        let tag = self.0.encrypt_inout_detached(&(*nonce).into(), aad, text.into());
        Ok(tag.map_err(|_| Error::TooLong)?.into())
    }

    fn open(&self, nonce: &[u8; 12], aad: &[u8], text: &mut [u8], tag: &[u8]) -> Result<(), Error> {
        let tag: [u8; 16] = tag.try_into().map_err(|_| Error::Tag)?;
        let nonce = (*nonce).into();
        self.0.decrypt_inout_detached(&nonce, aad, text.into(), &tag.into()).map_err(|_| Error::Tag)
    }
}

impl Exchange for OtherExchange {
    fn share(&self) -> &[u8; 65] {
        &self.1
    }

    fn agree(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        // That crate takes compressed points and infinity too.
        let is_whole = peer.len() == 65 && peer.first() == Some(&4);
        let peer = sm2::PublicKey::from_sec1_bytes(peer).ok().filter(|_| is_whole);
        let product = peer.ok_or(Error::Point)?.to_projective() * *self.0.to_nonzero_scalar();
        let point = product.to_affine().to_sec1_point(false);
        let x = point.as_bytes().get(1..33).and_then(|x| x.try_into().ok());
        x.map(SharedSecret::new).ok_or(Error::Point)
    }
}

impl Signer for OtherSigner {
    fn public(&self) -> &[u8; 65] {
        &self.1
    }

    fn sign(&self, id: &[u8], message: &[u8], _: &[u8; 32]) -> Result<Signature, Error> {
        let key = sm2::dsa::SigningKey::new(text(id)?, &self.0).map_err(|_| Error::Identity)?;
        let signature = key.try_sign(message).map_err(|_| Error::Entropy)?;
        Ok(Signature::from_bytes(&signature.to_bytes().into()))
    }
}

const BOTH: [&dyn Backend; 2] = [&Native, &RustCrypto];

#[test]
fn hashes_and_tags_are_equal() {
    let results = BOTH.map(|backend| {
        let mut hash = backend.sm3();
        hash.update(b"ab");
        let mut fork = hash.fork();
        hash.update(b"c");
        fork.update(b"d");
        let tag = backend.hmac_sm3(b"key").sign(&[b"a", b"bc"]);
        (hash.finish(), fork.finish(), tag)
    });
    assert_eq!(results[0], results[1]);
    assert_ne!(results[0].0, results[0].1);
}

#[test]
fn each_opens_what_the_other_sealed() {
    for mode in [Mode::Gcm, Mode::Ccm] {
        for (one, two) in [(BOTH[0], BOTH[1]), (BOTH[1], BOTH[0])] {
            let (key, nonce, aad) = ([1; 16], [2; 12], [3; 5]);
            let mut text = b"record".to_vec();
            let tag = one.aead(mode, &key).seal(&nonce, &aad, &mut text).expect("short");
            let other = two.aead(mode, &key);
            let mut wrong = text.clone();
            assert_eq!(other.open(&nonce, b"", &mut wrong, &tag), Err(Error::Tag));
            assert_eq!(other.open(&nonce, &aad, &mut text, &tag), Ok(()));
            assert_eq!(text, b"record");
        }
    }
}

#[test]
fn each_agrees_with_the_other() {
    let [one, two] = BOTH.map(|backend| backend.exchange(&[7; 32]).expect("entropy"));
    let (of_one, of_two) = (*one.share(), *two.share());
    let [a, b] = [one.agree(&of_two), two.agree(&of_one)].map(|secret| secret.expect("a point"));
    assert_eq!(a.as_bytes(), b.as_bytes());
    for backend in BOTH {
        for bad in [&[0][..], &of_one[..33], &[4; 65]] {
            let side = backend.exchange(&[7; 32]).expect("entropy");
            assert_eq!(side.agree(bad).err(), Some(Error::Point), "{}", backend.name());
        }
    }
}

#[test]
fn each_verifies_what_the_other_signed() {
    for id in [DEFAULT_ID, TLS13_ID] {
        for (one, two) in [(BOTH[0], BOTH[1]), (BOTH[1], BOTH[0])] {
            let signer = one.signer(&[9; 32]).expect("in range");
            let signature = signer.sign(id, b"message", &[1; 32]).expect("short");
            let der = signature.to_der();
            let verify = |message: &[u8]| two.verify(signer.public(), id, message, der.as_ref());
            assert_eq!(verify(b"message"), Ok(()));
            assert_eq!(verify(b"massage"), Err(Error::Signature));
        }
    }
    for backend in BOTH {
        assert_eq!(backend.signer(&[0; 32]).err(), Some(Error::Scalar));
    }
}
