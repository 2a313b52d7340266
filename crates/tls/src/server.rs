//! The listener's side: a client certificate is always required.

use std::io;
use std::sync::Arc;

use moat_model::code::tls::{MIXED, NATIONAL_ONLY, NO_TRUST, OWN_KEY};
use moat_model::{Code, Refusal, Stage};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::preference::sides;
use crate::stack::check_chain;
use crate::{ALPN_H2, ALPN_HTTP1, Error, Keys, Material, National, Stack, refusal_of};

/// A listener: one configuration a stack, never both in one.
#[derive(Clone, Debug)]
pub struct Server {
    international: Option<Side>,
    national: Option<Side>,
    preference: National,
}

/// One stack's configuration, and the key that it signs with.
#[derive(Clone, Debug)]
struct Side {
    config: Arc<ServerConfig>,
    key: Arc<CertifiedKey>,
}

/// What a ClientHello led to.
#[derive(Debug)]
pub struct Choice {
    /// The configuration to go on with. If it cannot serve this caller, the handshake fails by it,
    /// with the alert that belongs to it.
    pub config: Arc<ServerConfig>,
    refused_as: Option<&'static Code>,
}

/// Whether a suite, a group and a signature scheme of the key are all among those offered.
fn is_offered(side: &Side, hello: &ClientHello<'_>) -> bool {
    let provider = side.config.crypto_provider();
    let suites = hello.cipher_suites();
    let groups = hello.named_groups().unwrap_or_default();
    provider.cipher_suites.iter().any(|suite| suites.contains(&suite.suite()))
        && provider.kx_groups.iter().any(|group| groups.contains(&group.name()))
        && side.key.key.choose_scheme(hello.signature_schemes()).is_some()
}

impl Server {
    /// A listener with one or two identities: TLS 1.3 only, client certificate required, no tickets
    /// and no resumption, so that every connection proves its identity anew.
    ///
    /// # Errors
    /// [`OWN_KEY`] if chain and key do not fit, [`NO_TRUST`] if there is nobody to trust,
    /// [`moat_model::code::tls::IDENTITIES`] if the identities do not fit together or `national`.
    pub fn new(identities: &[Material<'_>], national: National) -> Result<Server, Error> {
        Server::with_keys(identities, national, &mut Keys::default())
    }

    /// The same, where some of the identities may have been read already.
    ///
    /// # Errors
    /// As [`Server::new`].
    pub fn with_keys(
        identities: &[Material<'_>],
        national: National,
        keys: &mut Keys,
    ) -> Result<Server, Error> {
        let sides = sides(identities, national)?;
        let mut side =
            |of: Option<&Material<'_>>, stack| of.map(|m| side(m, stack, keys)).transpose();
        Ok(Server {
            international: side(sides.international, Stack::International)?,
            national: side(sides.national, Stack::National)?,
            preference: national,
        })
    }

    /// The configuration for a caller: of the stacks of which it offers suite, group and signature
    /// scheme, the one that the preference puts first.
    #[must_use]
    pub fn choose(&self, hello: &ClientHello<'_>) -> Option<Choice> {
        let national = self.national.as_ref().filter(|side| is_offered(side, hello));
        let international = self.international.as_ref().filter(|side| is_offered(side, hello));
        let (first, second) = match self.preference {
            National::Allow => (international, national),
            _ => (national, international),
        };
        if let Some(side) = first.or(second) {
            return Some(Choice { config: Arc::clone(&side.config), refused_as: None });
        }
        let side = self.international.as_ref().or(self.national.as_ref())?;
        let is_half = hello.cipher_suites().iter().any(|s| Stack::of_suite(*s) == Stack::National);
        let refused_as = match (&self.national, &self.international) {
            (Some(_), _) if is_half => Some(&MIXED),
            (Some(_), None) => Some(&NATIONAL_ONLY),
            _ => None,
        };
        Some(Choice { config: Arc::clone(&side.config), refused_as })
    }
}

impl Choice {
    /// The refusal that a failed handshake amounts to.
    #[must_use]
    pub fn refusal_of(&self, error: &io::Error) -> Refusal {
        match self.refused_as {
            Some(code) => Refusal::new(Stage::Handshake, code).because(error),
            None => refusal_of(error),
        }
    }
}

fn side(material: &Material<'_>, stack: Stack, keys: &mut Keys) -> Result<Side, Error> {
    let provider = stack.provider();
    let key = material.certified(stack, keys)?;
    let roots = Arc::new(material.roots(stack)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .build()
        .map_err(|e| Error::new(&NO_TRUST, e))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| Error::new(&OWN_KEY, e))?
        .with_client_cert_verifier(Arc::new(CallerVerifier { stack, chain: verifier }))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&key))));
    config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_HTTP1.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    Ok(Side { config: Arc::new(config), key })
}

/// webpki's verdict, for chains of one stack only.
#[derive(Debug)]
struct CallerVerifier {
    stack: Stack,
    chain: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for CallerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        check_chain(self.stack, end_entity, intermediates)?;
        self.chain.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
