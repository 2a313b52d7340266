//! Who vouches for certificates that are shown elsewhere and passed on.
//!
//! Chain, times and revocation are verified as in a handshake. That whoever shows the certificate has
//! its key is not: that is the word of whoever passes it on.

use std::sync::Arc;

use moat_model::Refusal;
use moat_model::code::tls::NO_TRUST;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::path::{Judge, Path, Usage};
use crate::revocation::Proven;
use crate::stack::Stack;
use crate::{Error, Material, Trust, refusal_of};

/// Authorities of both stacks, as far as there are any.
#[derive(Debug)]
pub struct Authorities {
    judges: Vec<(Judge, Vec<CertificateDer<'static>>)>,
}

impl Authorities {
    /// Those of a trust file. `intermediates` is the PEM of those between them and the callers.
    ///
    /// # Errors
    /// [`NO_TRUST`] if there is none or one cannot be read, or what [`crate::Server::new`] has
    /// against lists.
    pub fn new(trust: Trust<'_>, intermediates: &[u8]) -> Result<Authorities, Error> {
        let unreadable = |e: &dyn core::fmt::Display| Error::new(&NO_TRUST, format_args!("{e}"));
        let between: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(intermediates)
            .collect::<Result<_, _>>()
            .map_err(|e| unreadable(&e))?;
        let of_stack = |stack| {
            let is_of = |one: &&CertificateDer<'_>| Stack::of_certificate(one) == Ok(stack);
            between.iter().filter(is_of).cloned().collect::<Vec<_>>()
        };
        let material =
            Material { chain_pem: &[], key_pem: &[], password: None, staple: None, trust };
        let stacks = [Stack::International, Stack::National];
        let there = stacks.into_iter().filter(|stack| material.roots(*stack).is_ok());
        let judge = |stack| Ok((material.judge(stack, Usage::Client)?, of_stack(stack)));
        let judges: Vec<_> = there.map(judge).collect::<Result<_, Error>>()?;
        if judges.is_empty() {
            return Err(Error::new(&NO_TRUST, "the trust file holds no certificate"));
        }
        Ok(Authorities { judges })
    }

    /// What vouches for a caller's certificate, which comes alone. What was found is remembered; times and lists of revoked certificates are looked at each time.
    ///
    /// # Errors
    /// A [`Refusal`] at the stage of handshakes, with the code that a handshake would have had.
    pub fn path(&self, leaf: &[u8], now: UnixTime) -> Result<(Stack, Arc<Path>), Refusal> {
        let leaf = CertificateDer::from(leaf);
        let no = |error| refusal_of(&std::io::Error::other(error));
        let stack = Stack::of_certificate(&leaf)
            .map_err(|_| no(rustls::CertificateError::BadEncoding.into()))?;
        let judge = self.judges.iter().find(|(judge, _)| judge.stack() == stack);
        let unknown = || no(rustls::CertificateError::UnknownIssuer.into());
        let (judge, between) = judge.ok_or_else(unknown)?;
        judge.path(&leaf, between, now).map(|path| (stack, path)).map_err(no)
    }

    /// The lists of revoked certificates that were used.
    #[must_use]
    pub fn proven(&self) -> Vec<Proven> {
        self.judges.iter().flat_map(|(judge, _)| judge.lists().proven()).collect()
    }

    /// Whether its lists of that issuer are all older.
    #[must_use]
    pub fn is_behind(&self, proven: &Proven) -> bool {
        self.judges.iter().any(|(judge, _)| judge.lists().is_behind(proven))
    }
}
