//! Mutual TLS 1.3 with the provider that the certificate asks for.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use moat_tls::Stack;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

/// The server's side: TLS 1.3 only, client certificate required, no resumption.
///
/// # Errors
/// A file cannot be read, or key and certificate do not fit.
pub fn server_config(cert: &Path, key: &Path, trust: &Path) -> Result<ServerConfig> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(trust)? {
        roots.add(authority).with_context(|| format!("{}: no authority", trust.display()))?;
    }
    let chain = certificates(cert)?;
    let leaf = chain.first().with_context(|| format!("{}: no certificate", cert.display()))?;
    let provider = Stack::of_certificate(leaf)?.provider();
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| format!("{}", key.display()))?;
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier.build()?)
        .with_single_cert(chain, key)?;
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("{}", path.display()))
}

/// Whether the certificate names exactly one identity and it is `spiffe`.
#[must_use]
pub fn is_caller(certificate: Option<&CertificateDer<'_>>, spiffe: &str) -> bool {
    let Some(certificate) = certificate else { return false };
    let domain = spiffe.strip_prefix("spiffe://").and_then(|rest| rest.split('/').next());
    let peer = moat_identity::identify(certificate, domain.unwrap_or_default());
    peer.is_ok_and(|peer| peer.spiffe().as_str() == spiffe)
}
