//! Who the caller is.

use aws_lc_rs::digest;
use moat_model::code::identity::{
    BAD_SPIFFE, KEY_USAGE, NO_SPIFFE, TRUST_DOMAIN, TWO_SPIFFE, UNREADABLE,
};
use moat_model::{Code, Refusal, Stage};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::{PublicKey, SpiffeId, rfc4514};

/// A caller whose certificate chain was verified and whose identity is unambiguous.
///
/// Only [`identify`] makes one, and [`named`] on the word of one:
///
/// ```compile_fail
/// let forged = moat_identity::VerifiedPeer { spiffe: "spiffe://bank.test/a".parse().unwrap() };
/// ```
#[derive(Clone, Debug)]
pub struct VerifiedPeer {
    spiffe: SpiffeId,
    subject: String,
    issuer: String,
    serial: String,
    not_after_s: i64,
    certificate_sha256: [u8; 32],
    key: Option<PublicKey>,
    is_named_only: bool,
}

impl VerifiedPeer {
    /// The SPIFFE id.
    #[must_use]
    pub fn spiffe(&self) -> &SpiffeId {
        &self.spiffe
    }

    /// The subject as RFC 4514 text; may be empty.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The issuer as RFC 4514 text.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The serial number in lower-case hexadecimal without leading zeros.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// The end of the certificate's validity, in seconds since 1970.
    #[must_use]
    pub fn not_after_s(&self) -> i64 {
        self.not_after_s
    }

    /// Whether it was only named by somebody who was believed: nothing of a certificate is known.
    #[must_use]
    pub fn is_named_only(&self) -> bool {
        self.is_named_only
    }

    /// SHA-256 of the certificate's DER bytes.
    #[must_use]
    pub fn certificate_sha256(&self) -> &[u8; 32] {
        &self.certificate_sha256
    }

    /// The certificate's key, where it is of a kind that signs HTTP messages here.
    #[must_use]
    pub fn key(&self) -> Option<&PublicKey> {
        self.key.as_ref()
    }
}

/// Reads the identity out of a leaf certificate whose chain the TLS verifier has accepted.
///
/// `leaf_der` is the certificate in DER. `trust_domain` is the one trust domain the listener or
/// upstream admits.
///
/// # Errors
/// A [`Refusal`] at [`Stage::Identify`]: no URI name, more than one, one that is no SPIFFE id, one
/// of another trust domain, a key that is not for signatures, or a certificate that does not parse
/// (SPIFFE X.509-SVID §2 to §5).
pub fn identify(leaf_der: &[u8], trust_domain: &str) -> Result<VerifiedPeer, Refusal> {
    let certificate = parse(leaf_der)?;
    check_key_usage(&certificate)?;
    let spiffe = spiffe_id(&certificate)?;
    if spiffe.trust_domain() != trust_domain {
        return Err(no(&TRUST_DOMAIN).because(spiffe));
    }
    let sha256 = digest::digest(&digest::SHA256, leaf_der);
    let mut certificate_sha256 = [0; 32];
    certificate_sha256.copy_from_slice(sha256.as_ref());
    Ok(VerifiedPeer {
        spiffe,
        subject: rfc4514(certificate.subject()),
        issuer: rfc4514(certificate.issuer()),
        serial: format!("{:x}", certificate.serial),
        not_after_s: certificate.validity().not_after.timestamp(),
        certificate_sha256,
        key: PublicKey::of_certificate(certificate.public_key()),
        is_named_only: false,
    })
}

/// Whom `by`, who has proved itself, names as the caller without showing its certificate. What is
/// not known of it is empty, and its validity has ended.
///
/// # Errors
/// A [`Refusal`] at [`Stage::Identify`]: `spiffe` is no SPIFFE id, or of another trust domain than
/// that of `by`.
pub fn named(spiffe: &str, by: &VerifiedPeer) -> Result<VerifiedPeer, Refusal> {
    let spiffe: SpiffeId = spiffe.parse().map_err(|e| no(&BAD_SPIFFE).because(e))?;
    if spiffe.trust_domain() != by.spiffe.trust_domain() {
        return Err(no(&TRUST_DOMAIN).because(spiffe));
    }
    Ok(VerifiedPeer {
        spiffe,
        subject: String::new(),
        issuer: String::new(),
        serial: String::new(),
        not_after_s: 0,
        certificate_sha256: [0; 32],
        key: None,
        is_named_only: true,
    })
}

fn parse(leaf_der: &[u8]) -> Result<X509Certificate<'_>, Refusal> {
    let (rest, certificate) =
        X509Certificate::from_der(leaf_der).map_err(|e| no(&UNREADABLE).because(e))?;
    if rest.is_empty() {
        Ok(certificate)
    } else {
        Err(no(&UNREADABLE).because("bytes after the certificate"))
    }
}

/// A key usage, where there is one, must be for signatures and for nothing that an authority does
/// (X.509-SVID §4.3, RFC 8446 §4.4.2.2). Where a subject has one certificate for signatures and one
/// for encryption, as with SM2, others may hold the key of the second.
fn check_key_usage(certificate: &X509Certificate<'_>) -> Result<(), Refusal> {
    let usage = certificate.key_usage().map_err(|e| no(&UNREADABLE).because(e))?;
    let is_for_signing = usage.is_none_or(|usage| {
        let usage = usage.value;
        usage.digital_signature() && !usage.key_cert_sign() && !usage.crl_sign()
    });
    if is_for_signing { Ok(()) } else { Err(no(&KEY_USAGE)) }
}

/// The one URI name. Other kinds of names (DNS, IP) may stand beside it and are not looked at.
fn spiffe_id(certificate: &X509Certificate<'_>) -> Result<SpiffeId, Refusal> {
    let names = certificate.subject_alternative_name().map_err(|e| no(&UNREADABLE).because(e))?;
    let mut uris = names
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None });
    let first = uris.next().ok_or_else(|| no(&NO_SPIFFE))?;
    if uris.next().is_some() {
        return Err(no(&TWO_SPIFFE));
    }
    first.parse().map_err(|e| no(&BAD_SPIFFE).because(e))
}

fn no(code: &'static Code) -> Refusal {
    Refusal::new(Stage::Identify, code)
}
