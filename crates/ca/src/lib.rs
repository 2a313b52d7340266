//! A small certificate authority: root, issuing authority, identities (SPIFFE X.509-SVID), requests
//! (PKCS #10), lists of revoked certificates and OCSP responses.
//!
//! It serves first runs, tests and development. Keys are P-256, or SM2 in an authority of its own,
//! in PKCS#8 PEM files with mode 0600.
//! It never listens and never reads the clock: the time is an argument.

mod authority;
mod files;
mod leaf;
mod national;
mod ocsp;
mod register;
mod request;
mod revocation;
#[cfg(test)]
mod revocation_tests;
mod signer;
#[cfg(test)]
mod tests;
pub mod x509;

pub use authority::{Authority, Kind};
pub use files::{Level, load, read_file, save, write_identity, write_public, write_secret};
pub use leaf::{Identity, LeafRequest};
pub use ocsp::{Answer, CERTIFICATES_MAX, NameHash, Question, Responder, Status};
pub use register::{Entry, Reason, Register, Revocation, Serial};
pub use request::{REQUEST_BYTES_MAX, Request, Requested, request};
pub use revocation::{List, Window, first_certificate, signed_kind};

use moat_model::Code;

/// What went wrong, with its stable code.
#[derive(Debug)]
pub struct Error {
    /// The code for `moat explain`.
    pub code: &'static Code,
    /// Where and why, without secrets.
    pub detail: String,
}

impl Error {
    fn new(code: &'static Code, detail: impl core::fmt::Display) -> Error {
        Error { code, detail: detail.to_string() }
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl core::error::Error for Error {}
