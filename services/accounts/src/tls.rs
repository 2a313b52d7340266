//! Mutual TLS 1.3 with the provider that the certificate asks for, and who the caller is.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use moat_tls::Stack;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The server's side: TLS 1.3 only, client certificate required, `h2` and `http/1.1`.
///
/// # Errors
/// A file cannot be read, or key and certificate do not fit.
pub fn server_config(cert: &Path, key: &Path, trust: &Path) -> Result<ServerConfig> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(trust)? {
        roots.add(authority).with_context(|| format!("{}: no authority", trust.display()))?;
    }
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| format!("{}", key.display()))?;
    build(roots, certificates(cert)?, key)
}

/// The same from material in memory.
///
/// # Errors
/// No roots, or key and certificate do not fit.
pub fn build(
    roots: RootCertStore,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig> {
    let leaf = chain.first().context("no certificate")?;
    let provider = Stack::of_certificate(leaf)?.provider();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier.build()?)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // No tickets: every connection proves possession of the client's key.
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let all = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("{}", path.display()))?;
    if all.is_empty() {
        bail!("{}: no certificate", path.display());
    }
    Ok(all)
}

/// Whether the certificate names exactly one URI and it is `spiffe`. More than one identity is
/// ambiguous (SPIFFE X.509-SVID §2) and refused.
#[must_use]
pub fn is_caller(certificate: Option<&CertificateDer<'_>>, spiffe: &str) -> bool {
    let Some(certificate) = certificate else { return false };
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return false };
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    uris.next() == Some(spiffe) && uris.next().is_none()
}
