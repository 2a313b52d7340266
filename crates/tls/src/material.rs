//! Certificates and keys as they come from files.

use std::sync::Arc;

use moat_model::code::tls::{NO_TRUST, OWN_KEY, OWN_STAPLE};
use moat_sm::pem;
use moat_sm::sm2::der::decrypt_pkcs8;
use rustls::RootCertStore;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use zeroize::Zeroizing;

use crate::ocsp::{self, Mute, Said};
use crate::path::{self, Judge, Usage};
use crate::revocation::{Depth, Lists};
use crate::sct::Logs;
use crate::{Error, Order, Stack, encrypted};

/// A certificate chain, its key, and whom to trust on the other side. All PEM.
///
/// Has no `Debug`: it holds a private key.
pub struct Material<'a> {
    /// Chain, leaf first.
    pub chain_pem: &'a [u8],
    /// The leaf's key, PKCS#8 or SEC1.
    pub key_pem: &'a [u8],
    /// Password of an encrypted PKCS#8 key.
    pub password: Option<&'a [u8]>,
    /// An OCSP response for the leaf, DER, that is stapled to handshakes as long as it is current.
    pub staple: Option<&'a [u8]>,
    /// Whom to believe on the other side.
    pub trust: Trust<'a>,
}

/// Authorities, and what is known of the certificates that they revoked.
#[derive(Clone, Copy, Debug)]
pub struct Trust<'a> {
    /// Authorities that the other side's chain must end in, PEM.
    pub pem: &'a [u8],
    /// Files of lists of revoked certificates, PEM or DER.
    pub lists: &'a [Vec<u8>],
    /// OCSP responses for single certificates, DER.
    pub responses: &'a [Vec<u8>],
    /// Which certificates the lists must speak for.
    pub depth: Depth,
    /// Whether a service must staple a sound OCSP response to its handshakes.
    pub must_staple: bool,
    /// Public keys of logs of certificate transparency, PEM.
    pub logs: &'a [Vec<u8>],
    /// How many of them must have signed the other side's own certificate.
    pub logs_needed: usize,
}

impl<'a> Trust<'a> {
    /// Authorities whose certificates count until they expire.
    #[must_use]
    pub fn in_authorities(pem: &'a [u8]) -> Trust<'a> {
        Trust {
            pem,
            lists: &[],
            responses: &[],
            depth: Depth::None,
            must_staple: false,
            logs: &[],
            logs_needed: 0,
        }
    }
}

/// Identities that were read already, and the order of groups and suites that holds for all of them. One that is used in several places is read, and its key
/// decrypted, once: that takes up to a second where the key is encrypted with many rounds.
///
/// Keeps copies of the files and passwords, wiped when it is dropped; has no `Debug`.
#[derive(Default)]
pub struct Keys {
    read: Vec<Read>,
    pub(crate) order: Order,
}

impl Keys {
    /// None read yet; groups and suites are used in this order.
    #[must_use]
    pub fn with_order(order: Order) -> Keys {
        Keys { read: Vec::new(), order }
    }
}

#[cfg(test)]
impl Keys {
    /// How many identities were read.
    pub(crate) fn count(&self) -> usize {
        self.read.len()
    }
}

/// An identity and the bytes that it was read from.
struct Read {
    chain_pem: Vec<u8>,
    key_pem: Zeroizing<Vec<u8>>,
    password: Option<Zeroizing<Vec<u8>>>,
    key: Arc<CertifiedKey>,
}

impl Read {
    fn new(material: &Material<'_>, key: Arc<CertifiedKey>) -> Read {
        Read {
            chain_pem: material.chain_pem.to_vec(),
            key_pem: Zeroizing::new(material.key_pem.to_vec()),
            password: material.password.map(|password| Zeroizing::new(password.to_vec())),
            key,
        }
    }

    fn is_of(&self, material: &Material<'_>) -> bool {
        self.chain_pem == material.chain_pem
            && self.key_pem.as_slice() == material.key_pem
            && self.password.as_ref().map(|password| password.as_slice()) == material.password
    }
}

impl Material<'_> {
    pub(crate) fn chain(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(self.chain_pem)
            .collect::<Result<_, _>>()
            .map_err(|e| Error::new(&OWN_KEY, e))?;
        if chain.is_empty() {
            return Err(Error::new(&OWN_KEY, "the certificate file holds no certificate"));
        }
        Ok(chain)
    }

    /// The stack of the leaf's key.
    pub(crate) fn stack(&self) -> Result<Stack, Error> {
        let chain = self.chain()?;
        let leaf = chain.first().ok_or_else(|| Error::new(&OWN_KEY, "no certificate"))?;
        Stack::of_certificate(leaf).map_err(|e| Error::new(&OWN_KEY, e))
    }

    /// When the first certificate of the chain ends, in seconds since 1970.
    ///
    /// # Errors
    /// [`OWN_KEY`] if the chain cannot be read.
    pub fn not_after_s(&self) -> Result<i64, Error> {
        let mut not_after_s = i64::MAX;
        for der in self.chain()? {
            let (_, certificate) = x509_parser::parse_x509_certificate(&der)
                .map_err(|error| Error::new(&OWN_KEY, error))?;
            not_after_s = not_after_s.min(certificate.validity().not_after.timestamp());
        }
        Ok(not_after_s)
    }

    /// Chain and key, which must belong together; from `keys`, if they were read before.
    pub(crate) fn certified(
        &self,
        stack: Stack,
        keys: &mut Keys,
    ) -> Result<Arc<CertifiedKey>, Error> {
        let known = keys.read.iter().find(|one| one.is_of(self));
        if let Some(known) = known {
            return Ok(Arc::clone(&known.key));
        }
        let key = Arc::new(self.read(stack)?);
        keys.read.push(Read::new(self, Arc::clone(&key)));
        Ok(key)
    }

    fn read(&self, stack: Stack) -> Result<CertifiedKey, Error> {
        let key = stack.signing_key(&*self.key()?).map_err(|e| Error::new(&OWN_KEY, e))?;
        let certified = CertifiedKey::new(self.chain()?, key);
        certified.keys_match().map_err(|e| Error::new(&OWN_KEY, e))?;
        Ok(certified)
    }

    /// The response to be stapled, and until when; none, and a word in the log, once it is old.
    pub(crate) fn staple(&self, stack: Stack) -> Result<Option<(Vec<u8>, i64)>, Error> {
        let Some(response) = self.staple else { return Ok(None) };
        let no = |why: &dyn core::fmt::Display| {
            Error::new(&OWN_STAPLE, format_args!("the OCSP response: {why}"))
        };
        let chain = self.chain()?;
        let [leaf, issuer, ..] = chain.as_slice() else {
            return Err(no(&"the certificate file lacks the issuer, who signed it"));
        };
        let issuer = path::issuer(issuer).map_err(|why| no(&why))?;
        let serial = path::serial(leaf).map_err(|why| no(&why))?;
        let algorithms = stack.provider().signature_verification_algorithms;
        let lists = Lists::read(&[], &[], algorithms)?;
        let now_s = path::seconds(UnixTime::now());
        match ocsp::said(response, &issuer, &serial, &lists, now_s) {
            Ok(Said::Good { until_s }) => Ok(Some((response.to_vec(), until_s))),
            Ok(Said::Revoked) => Err(no(&"it says that the certificate is revoked")),
            Err(Mute::Old) => {
                tracing::warn!("an OCSP response to be stapled is out of date, and left out");
                Ok(None)
            }
            Err(why) => Err(no(&why)),
        }
    }

    /// The key's bytes, which are wiped when they are dropped.
    fn key(&self) -> Result<Zeroizing<PrivateKeyDer<'static>>, Error> {
        let text = core::str::from_utf8(self.key_pem).unwrap_or_default();
        if let Ok(der) = pem::decode(pem::ENCRYPTED_PRIVATE_KEY, text) {
            return self.decrypted(&der);
        }
        // OpenSSL 3 has a label of its own for SM2 keys in SEC 1.
        for label in [pem::SM2_PRIVATE_KEY, pem::EC_PRIVATE_KEY] {
            if let Ok(der) = pem::decode(label, text) {
                return Ok(Zeroizing::new(PrivateKeyDer::Sec1(der.to_vec().into())));
            }
        }
        if let Ok(der) = pem::decode(pem::PRIVATE_KEY, text) {
            return Ok(Zeroizing::new(PrivateKeyDer::Pkcs8(der.to_vec().into())));
        }
        // Lines of other lengths, and keys of RSA: the library's buffer for the text is not wiped.
        PrivateKeyDer::from_pem_slice(self.key_pem)
            .map(Zeroizing::new)
            .map_err(|e| Error::new(&OWN_KEY, format_args!("the key file: {e}")))
    }

    /// PBES2, wholly national or wholly international, whatever the kind of the key inside.
    fn decrypted(&self, der: &[u8]) -> Result<Zeroizing<PrivateKeyDer<'static>>, Error> {
        let password = self.password.ok_or_else(|| {
            Error::new(&OWN_KEY, "the key file is encrypted, and there is no password")
        })?;
        let no = |why: &dyn core::fmt::Display| {
            Error::new(&OWN_KEY, format_args!("the encrypted key file: {why}"))
        };
        let mut der = match decrypt_pkcs8(der, password) {
            Err(moat_sm::Error::Algorithm) => {
                encrypted::open(der, password).map_err(|why| no(&why))?
            }
            opened => opened.map_err(|why| no(&why))?,
        };
        // The very bytes, not a copy of them.
        let der = core::mem::take(&mut *der);
        Ok(Zeroizing::new(PrivateKeyDer::Pkcs8(der.into())))
    }

    /// All authorities, whatever their keys.
    ///
    /// # Errors
    /// [`NO_TRUST`] if one of them cannot be read.
    pub(crate) fn authorities(&self) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.trust.pem) {
            let certificate = certificate.map_err(|e| Error::new(&NO_TRUST, e))?;
            roots.add(certificate).map_err(|e| Error::new(&NO_TRUST, e))?;
        }
        Ok(roots)
    }

    /// Who judges the other side's chains of one stack.
    pub(crate) fn judge(&self, stack: Stack, usage: Usage) -> Result<Judge, Error> {
        let algorithms = stack.provider().signature_verification_algorithms;
        let files: Vec<&[u8]> = self.trust.lists.iter().map(Vec::as_slice).collect();
        let responses: Vec<&[u8]> = self.trust.responses.iter().map(Vec::as_slice).collect();
        let lists = Lists::read(&files, &responses, algorithms)?;
        let (depth, must_staple) = (self.trust.depth, self.trust.must_staple);
        let judge = Judge::new(stack, usage, self.roots(stack)?, lists, depth, must_staple);
        Ok(judge.with_logs(Logs::read(self.trust.logs, self.trust.logs_needed)?))
    }

    /// The authorities of one stack. Those of the other are no use there, and are not named to
    /// callers.
    pub(crate) fn roots(&self, stack: Stack) -> Result<RootCertStore, Error> {
        let mut roots = self.authorities()?;
        roots.roots.retain(|root| Stack::of_key(&root.subject_public_key_info) == stack);
        if roots.is_empty() {
            let kind = if stack == Stack::National { "SM2 " } else { "" };
            let why = format!("the trust file holds no {kind}certificate for this identity");
            return Err(Error::new(&NO_TRUST, why));
        }
        Ok(roots)
    }
}
