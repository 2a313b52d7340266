//! Keys of both kinds, and the certificates under whose name they sign.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair,
    UnparsedPublicKey,
};
use moat_sm::pem;
use moat_sm::sm2::{DEFAULT_ID, ENTROPY_BYTES, PublicKey, SecretKey, Signature};
use moat_sm::sm3::Sm3;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::authority::bad;
use crate::x509::{
    self, ECDSA_WITH_SHA256, KEY_ID_BYTES, Purpose, SERIAL_BYTES, SM2_WITH_SM3, ToBeSigned,
};
use crate::{Error, Kind, Serial};

/// Label of a certificate in PEM.
pub(crate) const CERTIFICATE: &str = "CERTIFICATE";
/// SubjectPublicKeyInfo of a P-256 key up to the point: id-ecPublicKey, prime256v1 (RFC 5480).
const P256_SPKI: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// A private key.
pub(crate) enum Key {
    P256(Box<EcdsaKeyPair>),
    Sm2(Box<SecretKey>),
}

impl Key {
    pub(crate) fn generate(kind: Kind) -> Result<Key, Error> {
        Ok(match kind {
            Kind::P256 => {
                let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING);
                Key::P256(Box::new(key.map_err(|_| bad("no P-256 key could be made"))?))
            }
            Kind::Sm2 => {
                let fresh = Zeroizing::new(entropy::<ENTROPY_BYTES>()?);
                Key::Sm2(Box::new(SecretKey::generate(&fresh).map_err(bad)?))
            }
        })
    }

    /// From PKCS #8 in PEM.
    pub(crate) fn from_pem(kind: Kind, text: &str) -> Result<Key, Error> {
        Ok(match kind {
            Kind::P256 => {
                let der = pem::decode(pem::PRIVATE_KEY, text).map_err(bad)?;
                let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &der);
                Key::P256(Box::new(key.map_err(bad)?))
            }
            Kind::Sm2 => {
                let der = pem::decode(pem::PRIVATE_KEY, text).map_err(bad)?;
                Key::Sm2(Box::new(SecretKey::from_pkcs8_der(&der).map_err(bad)?))
            }
        })
    }

    /// As PKCS #8 in PEM.
    pub(crate) fn to_pem(&self) -> Result<Zeroizing<String>, Error> {
        match self {
            Key::P256(key) => {
                // Wipes itself.
                let der = key.to_pkcs8v1().map_err(|_| bad("the P-256 key cannot be written"))?;
                Ok(pem::encode(pem::PRIVATE_KEY, der.as_ref()))
            }
            Key::Sm2(key) => Ok(pem::encode(pem::PRIVATE_KEY, &*key.to_pkcs8_der())),
        }
    }

    /// SubjectPublicKeyInfo.
    pub(crate) fn spki(&self) -> Vec<u8> {
        match self {
            Key::P256(key) => [P256_SPKI, key.public_key().as_ref()].concat(),
            Key::Sm2(key) => key.public().to_spki_der().to_vec(),
        }
    }

    /// AlgorithmIdentifier of the signatures.
    pub(crate) fn algorithm(&self) -> &'static [u8] {
        match self {
            Key::P256(_) => ECDSA_WITH_SHA256,
            Key::Sm2(_) => SM2_WITH_SM3,
        }
    }

    /// A signature as it stands in certificates: DER of r and s.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        match self {
            Key::P256(key) => {
                let random = aws_lc_rs::rand::SystemRandom::new();
                let signature = key.sign(&random, message);
                Ok(signature.map_err(|_| bad("signing failed"))?.as_ref().to_vec())
            }
            Key::Sm2(key) => {
                let fresh = Zeroizing::new(entropy::<ENTROPY_BYTES>()?);
                let signature = key.sign(DEFAULT_ID, message, &fresh).map_err(bad)?;
                Ok(signature.to_der().as_ref().to_vec())
            }
        }
    }

    /// What is signed, and the signature below it.
    pub(crate) fn signed(&self, to_be_signed: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(x509::certificate(to_be_signed, self.algorithm(), &self.sign(to_be_signed)?))
    }
}

/// The kind of a public key, from its SubjectPublicKeyInfo; none but ours.
pub(crate) fn kind_of(spki: &[u8]) -> Option<Kind> {
    if PublicKey::from_spki_der(spki).is_ok() {
        return Some(Kind::Sm2);
    }
    // aws-lc judges the point when it verifies.
    let point = spki.strip_prefix(P256_SPKI)?;
    (point.len() == 65 && point.first() == Some(&4)).then_some(Kind::P256)
}

/// Whether the owner of that key signed the message.
pub(crate) fn verifies(spki: &[u8], message: &[u8], signature: &[u8]) -> bool {
    match kind_of(spki) {
        Some(Kind::Sm2) => {
            let key = PublicKey::from_spki_der(spki);
            let signature = Signature::from_der(signature);
            key.ok()
                .zip(signature.ok())
                .is_some_and(|(key, signature)| key.verify(DEFAULT_ID, message, &signature).is_ok())
        }
        Some(Kind::P256) => {
            let point = spki.strip_prefix(P256_SPKI).unwrap_or_default();
            let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point);
            key.verify(message, signature).is_ok()
        }
        None => false,
    }
}

/// RFC 7093 §2 with SM3, or with SHA-256, as the hash: the first 160 bits over the public key.
pub(crate) fn key_id(spki: &[u8]) -> [u8; KEY_ID_BYTES] {
    let point = spki.get(P256_SPKI.len()..).unwrap_or_default();
    match kind_of(spki) {
        Some(Kind::Sm2) => Sm3::digest(point).first_chunk().copied().unwrap_or_default(),
        _ => {
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, point);
            digest.as_ref().first_chunk().copied().unwrap_or_default()
        }
    }
}

/// An authority as its own certificate shows it, without its key.
pub(crate) struct Subject {
    /// DER of its name.
    pub(crate) name: Vec<u8>,
    /// SubjectPublicKeyInfo.
    pub(crate) spki: Vec<u8>,
    /// What its certificate calls its key.
    pub(crate) key_id: [u8; KEY_ID_BYTES],
    pub(crate) serial: Serial,
    /// Begin and end of validity, in seconds since 1970.
    pub(crate) validity_s: (i64, i64),
}

impl Subject {
    /// From its certificate in PEM. A certificate that is not an authority's is refused (RFC 5280
    /// §4.2.1.9).
    pub(crate) fn read(pem: &str) -> Result<Subject, Error> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(bad)?;
        let (rest, certificate) = X509Certificate::from_der(&der).map_err(bad)?;
        let constraints = certificate.basic_constraints().map_err(bad)?;
        if !rest.is_empty() || !constraints.is_some_and(|constraints| constraints.value.ca) {
            return Err(bad("the issuer's certificate is not one of an authority"));
        }
        let spki = certificate.public_key().raw;
        let validity = certificate.validity();
        Ok(Subject {
            name: certificate.subject().as_raw().to_vec(),
            spki: spki.to_vec(),
            key_id: subject_key(&certificate).unwrap_or_else(|| key_id(spki)),
            serial: Serial::new(certificate.raw_serial())?,
            validity_s: (validity.not_before.timestamp(), validity.not_after.timestamp()),
        })
    }
}

/// A key and the authority that it belongs to.
pub(crate) struct Issuer {
    pub(crate) key: Key,
    pub(crate) subject: Subject,
}

impl Issuer {
    /// One that has no certificate yet.
    pub(crate) fn fresh(kind: Kind, name: Vec<u8>) -> Result<Issuer, Error> {
        let key = Key::generate(kind)?;
        let spki = key.spki();
        let key_id = key_id(&spki);
        let subject =
            Subject { name, spki, key_id, serial: Serial::new(&[1])?, validity_s: (0, 0) };
        Ok(Issuer { key, subject })
    }

    /// From its files: the key must be the certificate's, and that an authority's.
    pub(crate) fn read(kind: Kind, certificate: &str, key: &str) -> Result<Issuer, Error> {
        let subject = Subject::read(certificate)?;
        let key = Key::from_pem(kind, key)?;
        if subject.spki != key.spki() {
            return Err(bad("the authority's key is not that of its certificate"));
        }
        Ok(Issuer { key, subject })
    }

    /// A certificate for the owner of `spki`.
    pub(crate) fn issue(
        &self,
        spki: &[u8],
        subject: &[u8],
        validity: (OffsetDateTime, OffsetDateTime),
        purpose: Purpose,
    ) -> Result<Vec<u8>, Error> {
        let own = &self.subject;
        let to_be_signed = ToBeSigned {
            serial: entropy::<SERIAL_BYTES>()?,
            issuer: &own.name,
            subject,
            validity,
            spki,
            key_id: key_id(spki),
            issuer_key_id: (spki != own.spki).then_some(own.key_id),
            purpose,
        };
        self.key.signed(&to_be_signed.to_der(self.key.algorithm())?)
    }
}

/// The subject key identifier, if it has the length of ours.
fn subject_key(certificate: &X509Certificate<'_>) -> Option<[u8; KEY_ID_BYTES]> {
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => id.0.try_into().ok(),
        _ => None,
    })
}

/// From the operating system.
pub(crate) fn entropy<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| bad("the system gave no randomness"))?;
    Ok(bytes)
}
