//! SM2 private keys, from PKCS #8 and SEC 1. A key is a [`backend::Signer`]: it may live elsewhere.

use std::sync::Arc;

use moat_sm::backend;
use moat_sm::sm2::{SecretKey, TLS13_ID};
use rustls::crypto::KeyProvider;
use rustls::sign::{Signer, SigningKey};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::{AlgorithmIdentifier, PrivateKeyDer, SubjectPublicKeyInfoDer};
use zeroize::Zeroizing;

use super::{BACKEND, KEY_ALGORITHM, SM2SIG_SM3, entropy};

/// The low byte of 0x0708, as TLS 1.2 would have called the algorithm.
const SM2: SignatureAlgorithm = SignatureAlgorithm::Unknown(8);

#[derive(Debug)]
pub(super) struct Keys;

impl KeyProvider for Keys {
    fn load_private_key(
        &self,
        key_der: PrivateKeyDer<'static>,
    ) -> Result<Arc<dyn SigningKey>, Error> {
        let key_der = Zeroizing::new(key_der);
        signing_key(&key_der)
    }
}

/// An SM2 key; others are refused.
pub(crate) fn signing_key(der: &PrivateKeyDer<'_>) -> Result<Arc<dyn SigningKey>, Error> {
    let key = match der {
        PrivateKeyDer::Pkcs8(der) => SecretKey::from_pkcs8_der(der.secret_pkcs8_der()),
        PrivateKeyDer::Sec1(der) => SecretKey::from_sec1_der(der.secret_sec1_der()),
        _ => Err(moat_sm::Error::Algorithm),
    };
    let signer = key.and_then(|key| BACKEND.signer(&key.to_bytes()));
    let signer = signer.map_err(|why| Error::General(format!("the SM2 key: {why}")))?;
    Ok(Arc::new(Key(Arc::from(signer))))
}

#[derive(Debug)]
struct Key(Arc<dyn backend::Signer>);

impl SigningKey for Key {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered
            .contains(&SM2SIG_SM3)
            .then(|| -> Box<dyn Signer> { Box::new(Signing(Arc::clone(&self.0))) })
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        let algorithm = AlgorithmIdentifier::from_slice(KEY_ALGORITHM);
        Some(rustls::sign::public_key_to_spki(&algorithm, self.0.public()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SM2
    }
}

/// Signs CertificateVerify, with the identity of RFC 8998 §3.2.1.
#[derive(Debug)]
struct Signing(Arc<dyn backend::Signer>);

impl Signer for Signing {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signature = self.0.sign(TLS13_ID, message, &*entropy()?);
        let signature = signature.map_err(|why| Error::General(format!("SM2 signing: {why}")))?;
        Ok(signature.to_der().as_ref().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SM2SIG_SM3
    }
}
