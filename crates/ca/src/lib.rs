//! A small certificate authority: root, issuing authority, identities (SPIFFE X.509-SVID).
//!
//! It serves first runs, tests and development. Keys are P-256, or SM2 in an authority of its own,
//! in PKCS#8 PEM files with mode 0600.
//! It never revokes, never listens and never reads the clock: the time is an argument.

mod authority;
mod files;
mod leaf;
mod national;
#[cfg(test)]
mod tests;
pub mod x509;

pub use authority::{Authority, Kind};
pub use files::{load, save, write_identity};
pub use leaf::{Identity, LeafRequest};

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
