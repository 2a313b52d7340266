//! A small certificate authority: root, issuing authority, identities (SPIFFE X.509-SVID), requests
//! (PKCS #10), lists of revoked certificates and OCSP responses.
//!
//! It serves first runs, tests and development. Keys are P-256, or SM2 in an authority of its own,
//! in PKCS#8 PEM files with mode 0600.
//! It never listens and never reads the clock: the time is an argument.

mod authority;
mod book;
mod files;
#[cfg(test)]
mod files_tests;
mod leaf;
mod ocsp;
mod register;
mod request;
mod revocation;
#[cfg(test)]
mod revocation_tests;
mod serial;
mod signer;
#[cfg(test)]
mod tests;
pub mod x509;

pub use authority::{Authority, Kind};
pub use book::{Book, Entry, Reason, Revocation};
pub use files::{
    Level, check_stem, load, open, open_issuing, read_file, read_text, save, write_answer,
    write_chain, write_identity, write_list, write_request,
};
pub use leaf::{Identity, LeafRequest, RESPONDER_VALID_MAX_S};
pub use ocsp::{Answer, CERTIFICATES_MAX, NameHash, Question, Responder, Status};
pub use register::Register;
pub use request::{REQUEST_BYTES_MAX, Request, Requested, request, wished};
pub use revocation::{List, Window, first_certificate, signed_kind};
pub use serial::Serial;

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

    /// The same, with the file that it is about.
    fn at(self, path: &std::path::Path) -> Error {
        Error { detail: format!("{}: {}", path.display(), self.detail), ..self }
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl core::error::Error for Error {}
