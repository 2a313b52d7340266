//! The listener's side: a client certificate is always required.

use std::sync::Arc;

use moat_model::code::tls::{NO_TRUST, OWN_KEY};
use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};

use crate::{ALPN_H2, ALPN_HTTP1, Error, Material, provider};

/// A listener's configuration: TLS 1.3 only, client certificate required, no tickets and no
/// resumption, so that every connection proves its identity anew.
///
/// # Errors
/// [`OWN_KEY`] if chain and key do not fit, [`NO_TRUST`] if there is nobody to trust.
pub fn server_config(material: &Material<'_>) -> Result<Arc<ServerConfig>, Error> {
    let provider = provider();
    let roots = Arc::new(material.roots()?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .build()
        .map_err(|e| Error::new(&NO_TRUST, e))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| Error::new(&OWN_KEY, e))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(material.chain()?, material.key()?)
        .map_err(|e| Error::new(&OWN_KEY, e))?;
    config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_HTTP1.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}
