//! OCSP responses (RFC 6960), as they come stapled to a handshake or from a file: what they say of
//! one certificate. Nothing is asked of a responder here, and nobody waits for one.
//!
//! A response counts if its issuer signed it, or somebody whom the issuer certified for that
//! purpose, and if it is current. Whatever else is wrong with it, it says nothing; only
//! [`Said::Revoked`] is believed without a next update.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use der::Decode;
use der::asn1::ObjectIdentifier;
use moat_sm::sm3::Sm3;
use x509_ocsp::{BasicOcspResponse, CertStatus, OcspResponse, OcspResponseStatus, SingleResponse};
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{
    OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_EXTENDED_KEY_USAGE, OID_X509_EXT_KEY_USAGE,
};
use x509_parser::prelude::FromDer;

use crate::der::{Signed, bits, content, element, sequence, signed};
use crate::revocation::{Issuer, Lists, is_signature_good};

/// Longest response, with its responder's certificate.
const RESPONSE_BYTES_MAX: usize = 16 * 1024;
/// Most certificates of a response that are looked at: its responder's is the first or the second.
const RESPONDERS_MAX: usize = 4;
/// How far ahead of ours a responder's clock may be, in seconds.
const CLOCK_SKEW_S: i64 = 300;

const BASIC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.1");
const SHA1_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const SHA256_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SM3_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.156.10197.1.401");

/// What a sound response says of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Said {
    /// It was not revoked, and this holds until then, in seconds since 1970.
    Good {
        /// The next update.
        until_s: i64,
    },
    /// It was revoked.
    Revoked,
}

/// Why a response says nothing of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mute {
    /// It is no response, or a responder's excuse.
    Malformed,
    /// It is about other certificates, or does not know this one.
    Silent,
    /// Neither the issuer signed it nor anybody whom the issuer lets do so.
    Unsigned,
    /// It is not current.
    Old,
}

impl core::fmt::Display for Mute {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Mute::Malformed => "it is no OCSP response that succeeded",
            Mute::Silent => "it says nothing of this certificate",
            Mute::Unsigned => {
                "its signature is not the issuer's, nor of a responder of the issuer's"
            }
            Mute::Old => "its next update has passed, or it names none",
        })
    }
}

/// What a response is about: algorithm of the hashes, hashes of the issuer's name and key, serial
/// number (CertID, RFC 6960 §4.1.1).
pub(crate) type About = (ObjectIdentifier, Vec<u8>, Vec<u8>, Vec<u8>);

/// The certificates that a response is about; nothing if it is none, or did not succeed.
pub(crate) fn about(response: &[u8]) -> Option<Vec<About>> {
    let raw = basic(response)?;
    let basic = BasicOcspResponse::from_der(&raw).ok()?;
    let singles = basic.tbs_response_data.responses.iter();
    let about = singles.map(|one| {
        let id = &one.cert_id;
        let name = id.issuer_name_hash.as_bytes().to_vec();
        let key = id.issuer_key_hash.as_bytes().to_vec();
        (id.hash_algorithm.oid, name, key, id.serial_number.as_bytes().to_vec())
    });
    Some(about.collect())
}

/// How responses may name an issuer, by each algorithm that is understood.
pub(crate) fn names_of(issuer: &Issuer) -> Vec<(ObjectIdentifier, Vec<u8>, Vec<u8>)> {
    let Some(key) = sequence(&issuer.key).and_then(|(_, key)| bits(key)) else { return Vec::new() };
    let name = issuer.name_with_tag();
    let by = |algorithm| Some((algorithm, hash(algorithm, &name)?, hash(algorithm, key)?));
    [SHA1_ID, SHA256_ID, SM3_ID].into_iter().filter_map(by).collect()
}

fn hash(algorithm: ObjectIdentifier, bytes: &[u8]) -> Option<Vec<u8>> {
    match algorithm {
        SHA1_ID => Some(digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec()),
        SHA256_ID => Some(digest(&SHA256, bytes).as_ref().to_vec()),
        SM3_ID => Some(Sm3::digest(bytes).to_vec()),
        _ => None,
    }
}

/// The basic response in a response, in DER.
fn basic(response: &[u8]) -> Option<Vec<u8>> {
    let outer = OcspResponse::from_der(response.get(..RESPONSE_BYTES_MAX.min(response.len()))?);
    let outer = outer.ok()?;
    let inner = outer.response_bytes?;
    let is_good = outer.response_status == OcspResponseStatus::Successful
        && inner.response_type == BASIC
        && BasicOcspResponse::from_der(inner.response.as_bytes()).is_ok();
    is_good.then(|| inner.response.into_bytes())
}

/// Looks into a response for one certificate.
///
/// # Errors
/// Why it says nothing.
pub(crate) fn said(
    response: &[u8],
    issuer: &Issuer,
    serial: &[u8],
    lists: &Lists,
    now_s: i64,
) -> Result<Said, Mute> {
    let raw = basic(response).ok_or(Mute::Malformed)?;
    let basic = BasicOcspResponse::from_der(&raw).map_err(|_| Mute::Malformed)?;
    let (parts, certificates) = parts(&raw).ok_or(Mute::Malformed)?;
    let singles = basic.tbs_response_data.responses;
    let mut singles = singles.iter().filter(|one| is_about(one, issuer, serial)).peekable();
    if singles.peek().is_none() {
        return Err(Mute::Silent);
    }
    let signer_until_s = signer(&parts, certificates, issuer, lists, now_s);
    let until_s = signer_until_s.ok_or(Mute::Unsigned)?;
    // Of several, the worst counts. What a responder says holds no longer than its certificate.
    singles.try_fold(Said::Good { until_s }, |worst, one| {
        Ok(match (worst, judge(one, now_s)?) {
            (Said::Good { until_s: one }, Said::Good { until_s: other }) => {
                Said::Good { until_s: one.min(other) }
            }
            _ => Said::Revoked,
        })
    })
}

fn judge(single: &SingleResponse, now_s: i64) -> Result<Said, Mute> {
    let seconds = |time: &x509_ocsp::OcspGeneralizedTime| {
        i64::try_from(time.0.to_unix_duration().as_secs()).unwrap_or(i64::MAX)
    };
    match single.cert_status {
        CertStatus::Revoked(_) => Ok(Said::Revoked),
        CertStatus::Unknown(_) => Err(Mute::Silent),
        CertStatus::Good(_) => {
            let until_s = single.next_update.as_ref().map(seconds).ok_or(Mute::Old)?;
            let is_current = seconds(&single.this_update) <= now_s.saturating_add(CLOCK_SKEW_S)
                && now_s < until_s;
            if is_current { Ok(Said::Good { until_s }) } else { Err(Mute::Old) }
        }
    }
}

/// Whether a response names the certificate, by the hashes of its issuer's name and key.
fn is_about(single: &SingleResponse, issuer: &Issuer, serial: &[u8]) -> bool {
    let id = &single.cert_id;
    let Some(key) = sequence(&issuer.key).and_then(|(_, key)| bits(key)) else { return false };
    let hash = |bytes: &[u8]| hash(id.hash_algorithm.oid, bytes);
    id.serial_number.as_bytes() == serial
        && hash(&issuer.name_with_tag()).as_deref() == Some(id.issuer_name_hash.as_bytes())
        && hash(key).as_deref() == Some(id.issuer_key_hash.as_bytes())
}

/// BasicOCSPResponse: what is signed, and the content of its certificates.
fn parts(raw: &[u8]) -> Option<(Signed<'_>, &[u8])> {
    let (whole, rest) = sequence(raw)?;
    let (_, after) = sequence(whole)?;
    let content = content(whole, after)?;
    let (algorithm, after) = sequence(after)?;
    let (_, certificates) = element(after, 0x03)?;
    let signature = bits(crate::der::content(after, certificates)?)?;
    let certificates = match certificates {
        [] => certificates,
        tagged => sequence(element(tagged, 0xa0)?.0)?.0,
    };
    rest.is_empty().then_some((Signed { content, algorithm, signature }, certificates))
}

/// Signed by the issuer itself, or by a responder whose certificate is there, is the issuer's, is
/// for that purpose and on no list that we have (RFC 6960 §4.2.2.2): until when that holds, in
/// seconds since 1970.
fn signer(
    parts: &Signed<'_>,
    mut certificates: &[u8],
    issuer: &Issuer,
    lists: &Lists,
    now_s: i64,
) -> Option<i64> {
    if is_signature_good(lists.algorithms(), parts, &issuer.key) {
        return Some(i64::MAX);
    }
    for _ in 0..RESPONDERS_MAX {
        let (_, rest) = sequence(certificates)?;
        let one = content(certificates, rest)?;
        if let Some((key, until_s)) = responder(one, issuer, lists, now_s)
            && is_signature_good(lists.algorithms(), parts, &key)
        {
            return Some(until_s);
        }
        certificates = rest;
    }
    None
}

/// A responder's key, and the first second in which its certificate is no longer good.
fn responder(
    certificate: &[u8],
    issuer: &Issuer,
    lists: &Lists,
    now_s: i64,
) -> Option<(Vec<u8>, i64)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let purpose = parsed.extended_key_usage().ok()??.value;
    let validity = parsed.validity();
    let is_current =
        validity.not_before.timestamp() <= now_s && now_s <= validity.not_after.timestamp();
    let may_sign = purpose.ocsp_signing
        && parsed.key_usage().ok()?.is_none_or(|usage| usage.value.digital_signature());
    let is_understood = parsed.extensions().iter().all(|one| {
        let known = [OID_X509_EXT_KEY_USAGE, OID_X509_EXT_EXTENDED_KEY_USAGE];
        !one.critical || known.contains(&one.oid) || one.oid == OID_X509_EXT_BASIC_CONSTRAINTS
    });
    // What costs a signature comes last.
    let is_good = may_sign
        && is_understood
        && is_current
        && parsed.issuer().as_raw() == issuer.name_with_tag()
        && is_signature_good(lists.algorithms(), &signed(certificate)?, &issuer.key)
        && !lists.is_revoked(issuer, parsed.raw_serial());
    let until_s = validity.not_after.timestamp().saturating_add(1);
    is_good.then(|| sequence(parsed.public_key().raw).map(|(key, _)| (key.to_vec(), until_s)))?
}
