//! What went wrong in a handshake, as a stable code.

use std::io;

use moat_model::code::{tls, upstream};
use moat_model::{Code, Refusal, Stage};
use rustls::{AlertDescription as Alert, CertificateError as Certificate};

use crate::sct::TooFew;
use crate::stack::{Foreign, TooLong};

/// A configuration that cannot be built, with its stable code.
#[derive(Debug)]
pub struct Error {
    /// The code for `moat explain`.
    pub code: &'static Code,
    /// Why, without secrets.
    pub detail: String,
}

impl Error {
    pub(crate) fn new(code: &'static Code, detail: impl core::fmt::Display) -> Error {
        Error { code, detail: detail.to_string() }
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl core::error::Error for Error {}

/// The refusal that a failed server-side handshake amounts to.
#[must_use]
pub fn refusal_of(error: &io::Error) -> Refusal {
    Refusal::new(Stage::Handshake, code_of(error)).because(error)
}

/// The code of an error that a TLS stream reported.
#[must_use]
pub fn code_of(error: &io::Error) -> &'static Code {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::NoCertificatesPresented) => &tls::NO_CERTIFICATE,
        Some(rustls::Error::InvalidCertificate(certificate)) => code_of_certificate(certificate),
        Some(rustls::Error::PeerMisbehaved(rustls::PeerMisbehaved::InvalidKeyShare)) => {
            &tls::KEY_SHARE
        }
        Some(_) => &tls::PROTOCOL,
        None => &tls::BROKEN,
    }
}

/// The code of a handshake with a service that failed.
#[must_use]
pub fn upstream_code_of(error: &io::Error) -> &'static Code {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    match inner {
        None => &upstream::CONNECT,
        Some(rustls::Error::InvalidCertificate(Certificate::Revoked)) => &upstream::REVOKED,
        Some(rustls::Error::InvalidCertificate(Certificate::InvalidOcspResponse)) => {
            &upstream::NO_STAPLE
        }
        Some(rustls::Error::InvalidCertificate(
            Certificate::UnknownRevocationStatus
            | Certificate::ExpiredRevocationList
            | Certificate::ExpiredRevocationListContext { .. },
        )) => &upstream::REVOCATION_UNKNOWN,
        Some(rustls::Error::InvalidCertificate(Certificate::Other(other))) => {
            if other.0.is::<Foreign>() {
                &upstream::MIXED
            } else if other.0.is::<TooLong>() {
                &upstream::CHAIN
            } else if other.0.is::<TooFew>() {
                &upstream::FEW_LOGS
            } else {
                &upstream::HANDSHAKE
            }
        }
        Some(
            rustls::Error::PeerIncompatible(_)
            | rustls::Error::AlertReceived(
                Alert::HandshakeFailure | Alert::InsufficientSecurity | Alert::ProtocolVersion,
            ),
        ) => &upstream::NOTHING_IN_COMMON,
        Some(_) => &upstream::HANDSHAKE,
    }
}

fn code_of_certificate(error: &Certificate) -> &'static Code {
    match error {
        Certificate::Expired | Certificate::ExpiredContext { .. } => &tls::EXPIRED,
        Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => &tls::NOT_YET_VALID,
        Certificate::UnknownIssuer => &tls::UNKNOWN_ISSUER,
        Certificate::BadSignature => &tls::BAD_SIGNATURE,
        Certificate::Revoked => &tls::REVOKED,
        Certificate::UnknownRevocationStatus => &tls::REVOCATION_UNKNOWN,
        Certificate::ExpiredRevocationList | Certificate::ExpiredRevocationListContext { .. } => {
            &tls::REVOCATION_STALE
        }
        Certificate::UnsupportedSignatureAlgorithmContext { .. }
        | Certificate::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => &tls::FOREIGN,
        Certificate::Other(other) if other.0.is::<Foreign>() => &tls::FOREIGN,
        Certificate::Other(other) if other.0.is::<TooLong>() => &tls::CHAIN,
        Certificate::Other(other) if other.0.is::<TooFew>() => &tls::FEW_LOGS,
        _ => &tls::BAD_CERTIFICATE,
    }
}
