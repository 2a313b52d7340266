//! Lists of revoked certificates (CRL, RFC 5280 §5), signed by the authority that issued them.

use moat_model::code::ca::NOT_ISSUED;
use moat_sm::pem;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::authority::{Authority, bad};
use crate::files::Level;
use crate::register::{Reason, Register};
use crate::signer::{self, Issuer};
use crate::x509::{self, INTEGER, OCTET_STRING, SEQUENCE, tlv};
use crate::{Error, Kind};

/// Label of a list in PEM (RFC 7468 §6).
const LIST: &str = "X509 CRL";
const ENUMERATED: u8 = 0x0a;
/// 2.5.29.20 and .21, by their last number.
const LIST_NUMBER: u8 = 20;
const REASON: u8 = 21;

/// From when until when a list or an answer holds.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Seconds since 1970.
    pub from_s: i64,
    /// Length, in seconds.
    pub length_s: i64,
}

impl Window {
    pub(crate) fn times(self) -> Result<(OffsetDateTime, OffsetDateTime), Error> {
        let from = OffsetDateTime::from_unix_timestamp(self.from_s).map_err(bad)?;
        let to = from.checked_add(Duration::seconds(self.length_s)).filter(|to| *to > from);
        Ok((from, to.ok_or_else(|| bad("a validity must be longer than nothing and end in time"))?))
    }
}

/// A signed list.
pub struct List {
    /// DER.
    pub der: Vec<u8>,
    /// PEM.
    pub pem: String,
    /// Its number: one more than that of the list before.
    pub number: u64,
}

impl Authority {
    /// Signs a list of everything that stands revoked in the register of that level. The caller
    /// must save the register before the list is given out: so no number is used twice.
    ///
    /// # Errors
    /// [`moat_model::code::ca::BAD_REQUEST`] if a time cannot stand in a list, or the key does not
    /// fit the certificate.
    pub fn list(
        &self,
        level: Level,
        register: &mut Register,
        window: Window,
    ) -> Result<List, Error> {
        let issuer = self.issuer_of(level)?;
        let (from, to) = window.times()?;
        let mut revoked = Vec::new();
        for (serial, revocation) in register.revoked() {
            let at = OffsetDateTime::from_unix_timestamp(revocation.at_s).map_err(bad)?;
            let reason = reason_extension(revocation.reason);
            revoked.extend(tlv(SEQUENCE, &[&serial.to_der(), &x509::time(at)?, &reason]));
        }
        // An empty list is left out (RFC 5280 §5.1.2.6).
        let revoked = if revoked.is_empty() { Vec::new() } else { tlv(SEQUENCE, &[&revoked]) };
        let number = register.next_list_number();
        let list_number =
            x509::extension(LIST_NUMBER, false, &x509::unsigned(&number.to_be_bytes()));
        let key = x509::authority_key(&issuer.key_id);
        let extensions = tlv(0xa0, &[&tlv(SEQUENCE, &[&key, &list_number])]);
        let to_be_signed = tlv(
            SEQUENCE,
            &[
                // Version 2.
                &[INTEGER, 1, 1],
                issuer.key.algorithm(),
                &issuer.name,
                &x509::time(from)?,
                &x509::time(to)?,
                &revoked,
                &extensions,
            ],
        );
        let der = issuer.key.signed(&to_be_signed)?;
        let pem = pem_text(&der);
        Ok(List { der, pem, number })
    }

    pub(crate) fn issuer_of(&self, level: Level) -> Result<Issuer, Error> {
        match level {
            Level::Issuing => self.issuing(),
            Level::Root => Issuer::read(self.kind, &self.root_pem, &self.root_key_pem),
        }
    }

    /// Which level issued a certificate: by its signature, not by its names alone.
    ///
    /// # Errors
    /// [`NOT_ISSUED`] if neither did, [`moat_model::code::ca::BAD_REQUEST`] if it is no
    /// certificate.
    pub fn level_of(&self, certificate: &[u8]) -> Result<Level, Error> {
        let levels = [(Level::Issuing, &self.issuing_pem), (Level::Root, &self.root_pem)];
        for (level, pem) in levels {
            let issuer = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(bad)?;
            if is_issued_by(certificate, &issuer)? {
                return Ok(level);
            }
        }
        Err(Error::new(&NOT_ISSUED, "the certificate has another issuer"))
    }
}

/// The kind of the key that signed a certificate, by the algorithm that it names.
///
/// # Errors
/// [`moat_model::code::ca::BAD_REQUEST`] if it is no certificate, or of another algorithm than
/// ours.
pub fn signed_kind(certificate: &[u8]) -> Result<Kind, Error> {
    let (_, read) = X509Certificate::from_der(certificate).map_err(bad)?;
    match read.signature_algorithm.algorithm.to_id_string().as_str() {
        "1.2.156.10197.1.501" => Ok(Kind::Sm2),
        "1.2.840.10045.4.3.2" => Ok(Kind::P256),
        _ => Err(bad("the certificate is signed neither by SM2 nor by P-256")),
    }
}

/// The first certificate of a file, PEM or DER.
///
/// # Errors
/// [`moat_model::code::ca::BAD_REQUEST`] if there is none.
pub fn first_certificate(bytes: &[u8]) -> Result<CertificateDer<'static>, Error> {
    let der = if bytes.first() == Some(&SEQUENCE) {
        CertificateDer::from(bytes.to_vec())
    } else {
        CertificateDer::from_pem_slice(bytes).map_err(bad)?
    };
    let (rest, _) = X509Certificate::from_der(&der).map_err(bad)?;
    if rest.is_empty() { Ok(der) } else { Err(bad("there are bytes after the certificate")) }
}

pub(crate) fn is_issued_by(certificate: &[u8], issuer: &[u8]) -> Result<bool, Error> {
    let (_, read) = X509Certificate::from_der(certificate).map_err(bad)?;
    let (_, issuer) = X509Certificate::from_der(issuer).map_err(bad)?;
    let signed = read.tbs_certificate.as_ref();
    Ok(read.issuer().as_raw() == issuer.subject().as_raw()
        && signer::verifies(issuer.public_key().raw, signed, &read.signature_value.data))
}

pub(crate) fn pem_text(der: &[u8]) -> String {
    pem::encode(LIST, der).to_string()
}

/// The reason of an entry; `unspecified` is left out (RFC 5280 §5.3.1).
fn reason_extension(reason: Reason) -> Vec<u8> {
    if reason == Reason::Unspecified {
        return Vec::new();
    }
    tlv(SEQUENCE, &[&x509::extension(REASON, false, &enumerated(reason))])
}

pub(crate) fn enumerated(reason: Reason) -> Vec<u8> {
    tlv(ENUMERATED, &[&[reason.number()]])
}

/// OCTET STRING of some bytes.
pub(crate) fn octets(bytes: &[u8]) -> Vec<u8> {
    tlv(OCTET_STRING, &[bytes])
}
