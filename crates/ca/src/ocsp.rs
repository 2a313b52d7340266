//! OCSP responses (RFC 6960), made ahead: what a server staples to its handshake. There is no
//! responder that listens, and so no nonce.

use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use moat_model::code::ca::{NOT_ISSUED, RESPONDER};
use moat_sm::sm3::Sm3;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::authority::{Authority, bad};
use crate::book::{Reason, Revocation};
use crate::files::Level;
use crate::register::Register;
use crate::revocation::{Window, enumerated, is_issued_by, octets};
use crate::signer::{Key, Subject};
use crate::x509::{BIT_STRING, SEQUENCE, generalized, tlv};
use crate::{Error, Kind, Serial};

/// 1.3.6.1.5.5.7.48.1.1, id-pkix-ocsp-basic.
const BASIC: &[u8] = &[0x06, 9, 0x2b, 6, 1, 5, 5, 7, 48, 1, 1];
/// `successful` of OCSPResponseStatus.
const SUCCESSFUL: &[u8] = &[0x0a, 1, 0];
/// Most certificates that one response speaks of.
pub const CERTIFICATES_MAX: usize = 1_000;

/// The hash by which a response names its certificates (CertID, RFC 6960 §4.1.1). It protects
/// nothing; it must be the one that the asking side looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameHash {
    /// What most programs ask with (RFC 5019 §2.1.1).
    Sha1,
    /// SHA-256.
    Sha256,
    /// SM3.
    Sm3,
}

impl NameHash {
    /// AlgorithmIdentifier: NULL behind the international ones, as others write them.
    fn algorithm(self) -> &'static [u8] {
        match self {
            NameHash::Sha1 => &[0x30, 9, 6, 5, 0x2b, 14, 3, 2, 26, 5, 0],
            NameHash::Sha256 => &[0x30, 13, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0],
            NameHash::Sm3 => &[0x30, 10, 6, 8, 0x2a, 0x81, 0x1c, 0xcf, 0x55, 1, 0x83, 0x11],
        }
    }

    fn of(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            NameHash::Sha1 => digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec(),
            NameHash::Sha256 => digest::digest(&SHA256, bytes).as_ref().to_vec(),
            NameHash::Sm3 => Sm3::digest(bytes).to_vec(),
        }
    }
}

/// What a response says of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It was issued and not revoked.
    Good,
    /// It was revoked.
    Revoked(Revocation),
    /// The register does not have it: it was never issued, or past the register.
    Unknown,
}

impl Status {
    /// The word for it in RFC 6960.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Status::Good => "good",
            Status::Revoked(_) => "revoked",
            Status::Unknown => "unknown",
        }
    }
}

/// A responder in the authority's place: its chain and key in PEM.
pub struct Responder<'a> {
    /// Its certificate first.
    pub chain_pem: &'a str,
    /// PKCS#8 PEM.
    pub key_pem: &'a str,
}

/// What shall be said, how, and by whom.
pub struct Question<'a> {
    /// Certificates in DER, all issued by the issuing authority.
    pub certificates: &'a [CertificateDer<'a>],
    /// How they are named.
    pub hash: NameHash,
    /// How long the answer holds: at most, since it never outlives the certificate that it speaks
    /// of, nor those that sign it.
    pub window: Window,
    /// Who signs; the issuing authority itself if nobody else.
    pub responder: Option<Responder<'a>>,
}

/// A signed OCSPResponse, and what it says.
pub struct Answer {
    /// DER.
    pub der: Vec<u8>,
    /// One for each certificate, in their order.
    pub statuses: Vec<(Serial, Status)>,
}

/// Who signs, and the certificate to be sent along.
struct Signer {
    key: Key,
    name: Vec<u8>,
    certificate: Option<CertificateDer<'static>>,
}

impl Authority {
    /// Says of certificates of the issuing authority what its register has.
    ///
    /// # Errors
    /// [`NOT_ISSUED`] if another authority issued one of them, [`RESPONDER`] if the responder may
    /// not sign, [`moat_model::code::ca::BAD_REQUEST`] for none or too many certificates, one that is
    /// not valid now, or a time that cannot stand in a response.
    pub fn answer(&self, register: &Register, question: &Question<'_>) -> Result<Answer, Error> {
        if !(1..=CERTIFICATES_MAX).contains(&question.certificates.len()) {
            return Err(bad(format_args!("one to {CERTIFICATES_MAX} certificates")));
        }
        let issuer = self.subject(Level::Issuing)?;
        let window = question.window.within(issuer.validity_s)?;
        let (signer, window) = match &question.responder {
            None => {
                let key = self.issuer(Level::Issuing)?.key;
                (Signer { key, name: issuer.name.clone(), certificate: None }, window)
            }
            Some(responder) => self.delegated(register, responder, window)?,
        };
        let from = generalized(window.times()?.0)?;
        let (mut singles, mut statuses) = (Vec::new(), Vec::new());
        for certificate in question.certificates {
            let (serial, status, window) = self.status_of(register, certificate, window)?;
            let id = certificate_id(&issuer, question.hash, &serial);
            let status_der = status_der(status)?;
            let next = tlv(0xa0, &[&generalized(window.times()?.1)?]);
            singles.extend(tlv(SEQUENCE, &[&id, &status_der, &from, &next]));
            statuses.push((serial, status));
        }
        let by_name = tlv(0xa1, &[&signer.name]);
        let data = tlv(SEQUENCE, &[&by_name, &from, &tlv(SEQUENCE, &[&singles])]);
        let certificates = signer.certificate.as_ref().map(|der| tlv(SEQUENCE, &[der]));
        let certificates = certificates.map(|all| tlv(0xa0, &[&all])).unwrap_or_default();
        let signature = tlv(BIT_STRING, &[&[0], &signer.key.sign(&data)?]);
        let parts = [data.as_slice(), signer.key.algorithm(), &signature, &certificates];
        let basic = octets(&tlv(SEQUENCE, &parts));
        let bytes = tlv(0xa0, &[&tlv(SEQUENCE, &[BASIC, &basic])]);
        Ok(Answer { der: tlv(SEQUENCE, &[SUCCESSFUL, &bytes]), statuses })
    }

    /// Number and status of a certificate, and how long that holds: not past its own end.
    fn status_of(
        &self,
        register: &Register,
        der: &[u8],
        window: Window,
    ) -> Result<(Serial, Status, Window), Error> {
        if self.level_of(der)? != Level::Issuing {
            return Err(Error::new(
                &NOT_ISSUED,
                "the certificate is the root's, not the issuing's",
            ));
        }
        let (_, certificate) = X509Certificate::from_der(der).map_err(bad)?;
        let serial = Serial::new(certificate.raw_serial())?;
        let status = match register.find(&serial) {
            None => Status::Unknown,
            Some(entry) => entry.revoked.map_or(Status::Good, Status::Revoked),
        };
        Ok((serial, status, window.within(validity_s(&certificate))?))
    }

    /// RFC 6960 §4.2.2.2: issued by the very authority, for signing responses. Also valid and not
    /// revoked. The answer holds no longer than it.
    fn delegated(
        &self,
        register: &Register,
        responder: &Responder<'_>,
        window: Window,
    ) -> Result<(Signer, Window), Error> {
        let no = |why: &str| Error::new(&RESPONDER, why);
        let der = CertificateDer::from_pem_slice(responder.chain_pem.as_bytes());
        let der = der.map_err(|e| Error::new(&RESPONDER, e))?;
        let (rest, certificate) = X509Certificate::from_der(&der).map_err(bad)?;
        let issuing = CertificateDer::from_pem_slice(self.issuing_pem.as_bytes()).map_err(bad)?;
        if !rest.is_empty() || !is_issued_by(&der, &issuing)? {
            return Err(no("the issuing authority did not issue its certificate"));
        }
        let usage = certificate.extended_key_usage().ok().flatten();
        if !usage.is_some_and(|usage| usage.value.ocsp_signing) {
            return Err(no("its certificate is not for signing responses"));
        }
        let window = window.within(validity_s(&certificate));
        let window = window.map_err(|e| Error::new(&RESPONDER, e.detail))?;
        let serial = Serial::new(certificate.raw_serial())?;
        if register.find(&serial).is_none_or(|entry| entry.revoked.is_some()) {
            return Err(no("its certificate was revoked, or is not in the register"));
        }
        let key = Key::from_pem(self.kind, responder.key_pem)?;
        if certificate.public_key().raw != key.spki() {
            return Err(no("its key is not that of its certificate"));
        }
        let name = certificate.subject().as_raw().to_vec();
        Ok((Signer { key, name, certificate: Some(der.clone()) }, window))
    }

    /// The hash that fits the authority's kind.
    #[must_use]
    pub fn usual_hash(&self) -> NameHash {
        match self.kind {
            Kind::P256 => NameHash::Sha256,
            Kind::Sm2 => NameHash::Sm3,
        }
    }
}

/// In seconds since 1970.
fn validity_s(certificate: &X509Certificate<'_>) -> (i64, i64) {
    let validity = certificate.validity();
    (validity.not_before.timestamp(), validity.not_after.timestamp())
}

/// CertID: hash of the issuer's name, hash of its key, number.
fn certificate_id(issuer: &Subject, hash: NameHash, serial: &Serial) -> Vec<u8> {
    let spki = &issuer.spki;
    // Without tag, length and unused bits: the point alone, which is 65 bytes in both kinds.
    let point = spki.last_chunk::<65>().map(<[u8; 65]>::as_slice).unwrap_or_default();
    let (name, key) = (octets(&hash.of(&issuer.name)), octets(&hash.of(point)));
    tlv(SEQUENCE, &[hash.algorithm(), &name, &key, &serial.to_der()])
}

fn status_der(status: Status) -> Result<Vec<u8>, Error> {
    Ok(match status {
        Status::Good => vec![0x80, 0],
        Status::Unknown => vec![0x82, 0],
        Status::Revoked(Revocation { at_s, reason }) => {
            let at = time::OffsetDateTime::from_unix_timestamp(at_s).map_err(bad)?;
            let reason = match reason {
                Reason::Unspecified => Vec::new(),
                reason => tlv(0xa0, &[&enumerated(reason)]),
            };
            tlv(0xa1, &[&generalized(at)?, &reason])
        }
    })
}
