//! Lists of revoked certificates (CRL, RFC 5280 §5), signed by the authority that issued them.

use moat_model::code::ca::{EXISTS, NOT_ISSUED, REGISTER};
use moat_sm::pem;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use crate::authority::{Authority, bad};
use crate::book::Reason;
use crate::files::Level;
use crate::register::Register;
use crate::signer;
use crate::x509::{self, INTEGER, OCTET_STRING, SEQUENCE, tlv};
use crate::{Error, Kind, Serial};

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
    /// The same, cut at the end of a validity (both in seconds since 1970).
    pub(crate) fn within(self, (begin_s, end_s): (i64, i64)) -> Result<Window, Error> {
        if self.from_s < begin_s || self.from_s >= end_s {
            return Err(bad("a certificate that it takes has expired, or is not valid yet"));
        }
        let most = end_s.saturating_sub(self.from_s);
        Ok(Window { length_s: self.length_s.min(most), ..self })
    }

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
    /// must save the register before the list is given out: so no number is used twice. The list
    /// holds no longer than the certificate of who signs it.
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
        let issuer = self.issuer(level)?;
        // Judged whole before it is cut: no time that cannot be is taken for a long one.
        window.times()?;
        let (from, to) = window.within(issuer.subject.validity_s)?.times()?;
        let mut revoked = Vec::new();
        for (serial, revocation) in register.revoked() {
            let at = OffsetDateTime::from_unix_timestamp(revocation.at_s).map_err(bad)?;
            let reason = reason_extension(revocation.reason);
            revoked.extend(tlv(SEQUENCE, &[&serial.to_der(), &x509::time(at)?, &reason]));
        }
        // An empty list is left out (RFC 5280 §5.1.2.6).
        let revoked = if revoked.is_empty() { Vec::new() } else { tlv(SEQUENCE, &[&revoked]) };
        let number = register.next_list_number()?;
        let list_number =
            x509::extension(LIST_NUMBER, false, &x509::unsigned(&number.to_be_bytes()));
        let key = x509::authority_key(&issuer.subject.key_id);
        let extensions = tlv(0xa0, &[&tlv(SEQUENCE, &[&key, &list_number])]);
        let to_be_signed = tlv(
            SEQUENCE,
            &[
                // Version 2.
                &[INTEGER, 1, 1],
                issuer.key.algorithm(),
                &issuer.subject.name,
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

    /// Whether a new list may take the place of `old` (PEM or DER): that must be an earlier one of
    /// the same level, and all that it holds must still be revoked.
    ///
    /// # Errors
    /// [`EXISTS`] if it is anything but a list of that level,
    /// [`REGISTER`] if its number is not lower than the next one or the register lacks a revocation
    /// that it has: an old copy of the register was put back.
    pub fn may_follow(&self, level: Level, register: &Register, old: &[u8]) -> Result<(), Error> {
        let other = || Error::new(&EXISTS, "what is there is no list of this authority");
        let subject = self.subject(level)?;
        let der = if old.first() == Some(&SEQUENCE) {
            CertificateRevocationListDer::from(old)
        } else {
            CertificateRevocationListDer::from_pem_slice(old).map_err(|_| other())?
        };
        let (rest, list) = CertificateRevocationList::from_der(&der).map_err(|_| other())?;
        let (signed, signature) = (list.tbs_cert_list.as_ref(), &list.signature_value.data);
        let is_own = rest.is_empty()
            && list.issuer().as_raw() == subject.name
            && signer::verifies(&subject.spki, signed, signature);
        let number = list.crl_number().filter(|_| is_own).ok_or_else(other)?;
        if *number > register.list_number().into() {
            let why = format_args!("the list that is there has number {number}, which is higher");
            return Err(Error::new(&REGISTER, why));
        }
        for entry in list.iter_revoked_certificates() {
            let serial = Serial::new(entry.raw_serial())?;
            if register.find(&serial).is_none_or(|entry| entry.revoked.is_none()) {
                let why = format_args!("the list that is there has {serial} as revoked");
                return Err(Error::new(&REGISTER, why));
            }
        }
        Ok(())
    }

    /// Which level issued a certificate: by its signature, not by its names alone.
    ///
    /// # Errors
    /// [`NOT_ISSUED`] if neither did, [`moat_model::code::ca::BAD_REQUEST`] if it is no
    /// certificate.
    pub fn level_of(&self, certificate: &[u8]) -> Result<Level, Error> {
        for level in [Level::Issuing, Level::Root] {
            let pem = self.certificate_pem(level).as_bytes();
            let issuer = CertificateDer::from_pem_slice(pem).map_err(bad)?;
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
