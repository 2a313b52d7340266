//! Certificates and keys as they come from files.

use moat_model::code::tls::{NO_TRUST, OWN_KEY};
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::Error;

/// A certificate chain, its key, and whom to trust on the other side. All PEM.
///
/// Has no `Debug`: it holds a private key.
pub struct Material<'a> {
    /// Chain, leaf first.
    pub chain_pem: &'a [u8],
    /// The leaf's key, PKCS#8 or SEC1.
    pub key_pem: &'a [u8],
    /// Authorities that the other side's chain must end in.
    pub trust_pem: &'a [u8],
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

    pub(crate) fn key(&self) -> Result<PrivateKeyDer<'static>, Error> {
        PrivateKeyDer::from_pem_slice(self.key_pem)
            .map_err(|e| Error::new(&OWN_KEY, format_args!("the key file: {e}")))
    }

    pub(crate) fn roots(&self) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.trust_pem) {
            let certificate = certificate.map_err(|e| Error::new(&NO_TRUST, e))?;
            roots.add(certificate).map_err(|e| Error::new(&NO_TRUST, e))?;
        }
        if roots.is_empty() {
            return Err(Error::new(&NO_TRUST, "the trust file holds no certificate"));
        }
        Ok(roots)
    }
}
