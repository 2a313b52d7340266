//! TLS towards servers that prove a name, not a SPIFFE id: where sets of keys are fetched from.

use std::sync::Arc;

use moat_model::code::tls::NO_TRUST;
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::{ALPN_HTTP1, Error, Stack};

/// TLS 1.3 and HTTP/1.1 towards a server whose certificate has the name that is called, below one of
/// these authorities (PEM). No certificate of ours is shown. Revocation is not looked at.
///
/// # Errors
/// [`NO_TRUST`] if there is no authority, or one cannot be read.
pub fn web_client(trust_pem: &[u8]) -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(trust_pem) {
        let certificate = certificate.map_err(|e| Error::new(&NO_TRUST, e))?;
        roots.add(certificate).map_err(|e| Error::new(&NO_TRUST, e))?;
    }
    if roots.is_empty() {
        return Err(Error::new(&NO_TRUST, "the trust file holds no certificate"));
    }
    let mut config = ClientConfig::builder_with_provider(Stack::International.provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| Error::new(&NO_TRUST, e))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_HTTP1.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}
