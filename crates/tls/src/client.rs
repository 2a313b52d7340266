//! The upstream's side: the service must prove one expected SPIFFE id.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use moat_identity::{SpiffeId, identify};
use moat_model::Code;
use moat_model::code::tls::{NO_TRUST, OWN_KEY};
use moat_model::code::upstream::{MIXED, ONE_SIDED};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, PeerIncompatible,
    RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::preference::sides;
use crate::stack::check_chain;
use crate::{Error, Material, National, Negotiated, Stack};

/// How to reach a service: TLS 1.3 only, our own certificate shown, the service's chain verified
/// and its SPIFFE id compared with the expected one. DNS names are not looked at: a SPIFFE id says
/// who the service is, wherever it runs.
///
/// With two identities it offers both stacks, and [`Attempt::finish`] sees to it that a connection
/// is wholly of one.
#[derive(Clone, Debug)]
pub struct Client {
    config: Arc<ClientConfig>,
    keys: Arc<Keys>,
}

/// One identity or two, the preferred one first.
type Keys = Vec<(Stack, Arc<CertifiedKey>)>;

/// One handshake to be made.
#[derive(Debug)]
pub struct Attempt {
    /// The configuration for it.
    pub config: Arc<ClientConfig>,
    showing: Arc<Showing>,
}

impl Client {
    /// A client with one or two identities. Of two, one is left out if no authority of its stack is
    /// trusted: a service of that stack could not prove itself.
    ///
    /// # Errors
    /// [`OWN_KEY`] if chain and key do not fit, [`NO_TRUST`] if there is nobody to trust,
    /// [`moat_model::code::tls::IDENTITIES`] if the identities do not fit together or `national`.
    pub fn new(
        identities: &[Material<'_>],
        expected: SpiffeId,
        alpn: &[&[u8]],
        national: National,
    ) -> Result<Client, Error> {
        let sides = sides(identities, national)?;
        let sides_count = sides.count();
        let mut keys = Vec::new();
        let mut trust = Vec::new();
        let both = [(Stack::National, sides.national), (Stack::International, sides.international)];
        for (stack, side) in both {
            if let Some(material) = side {
                let roots = match material.roots(stack) {
                    // The other identity may have somebody to trust.
                    Err(e) if e.code == &NO_TRUST && sides_count > 1 => continue,
                    roots => roots?,
                };
                let provider = stack.provider();
                let key = CertifiedKey::from_der(material.chain()?, material.key()?, &provider);
                keys.push((stack, Arc::new(key.map_err(|e| Error::new(&OWN_KEY, e))?)));
                let algorithms = provider.signature_verification_algorithms;
                trust.push(Trust { stack, roots, algorithms });
            }
        }
        if national == National::Allow {
            keys.reverse();
            trust.reverse();
        }
        let provider = offer(trust.iter().map(|trust| trust.stack));
        if keys.is_empty() {
            return Err(Error::new(&NO_TRUST, "the trust file has no authority for any identity"));
        }
        let keys = Arc::new(keys);
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| Error::new(&OWN_KEY, e))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(SpiffeVerifier { trust, expected }))
            .with_client_cert_resolver(Arc::new(Showing::new(&keys)));
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        Ok(Client { config: Arc::new(config), keys })
    }

    /// Begins a handshake.
    #[must_use]
    pub fn attempt(&self) -> Attempt {
        let showing = Arc::new(Showing::new(&self.keys));
        let mut config = ClientConfig::clone(&self.config);
        config.client_auth_cert_resolver = Arc::clone(&showing) as Arc<dyn ResolvesClientCert>;
        Attempt { config: Arc::new(config), showing }
    }
}

impl Attempt {
    /// Looks at a finished handshake, before a byte is sent over it.
    ///
    /// # Errors
    /// [`MIXED`] unless suite, group, the service's key and our own are all of one stack;
    /// [`ONE_SIDED`] if the service asked for no certificate, or for none of ours: it would take
    /// calls from anybody.
    pub fn finish(&self, connection: &ClientConnection) -> Result<Negotiated, &'static Code> {
        let negotiated = Negotiated::of(connection).ok_or(&MIXED)?;
        match self.showing.shown.load(Ordering::Acquire) {
            NOTHING => Err(&ONE_SIDED),
            shown if shown == mark(negotiated.stack) => Ok(negotiated),
            _ => Err(&MIXED),
        }
    }
}

/// The providers of these stacks, one after the other. rustls may negotiate a mixture of two, which
/// [`Attempt::finish`] refuses.
fn offer(stacks: impl Iterator<Item = Stack>) -> Arc<CryptoProvider> {
    let joined = stacks.map(Stack::provider).reduce(|first, second| {
        let mut both = CryptoProvider::clone(&first);
        both.cipher_suites.extend_from_slice(&second.cipher_suites);
        both.kx_groups.extend_from_slice(&second.kx_groups);
        Arc::new(both)
    });
    joined.unwrap_or_else(|| Stack::International.provider())
}

/// Nothing was shown yet.
const NOTHING: u8 = 0;

fn mark(stack: Stack) -> u8 {
    match stack {
        Stack::International => 1,
        Stack::National => 2,
    }
}

/// Shows the identity that the service's signature schemes ask for, and remembers which.
#[derive(Debug)]
struct Showing {
    keys: Arc<Keys>,
    shown: AtomicU8,
}

impl Showing {
    fn new(keys: &Arc<Keys>) -> Showing {
        Showing { keys: Arc::clone(keys), shown: AtomicU8::new(NOTHING) }
    }
}

impl ResolvesClientCert for Showing {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        sigschemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let asked = |key: &CertifiedKey| key.key.choose_scheme(sigschemes).is_some();
        let (stack, key) = self.keys.iter().find(|(_, key)| asked(key))?;
        self.shown.store(mark(*stack), Ordering::Release);
        Some(Arc::clone(key))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Whom to trust within one stack.
#[derive(Debug)]
struct Trust {
    stack: Stack,
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Chain by webpki, name by SPIFFE id.
#[derive(Debug)]
struct SpiffeVerifier {
    /// One or two, the preferred stack first.
    trust: Vec<Trust>,
    expected: SpiffeId,
}

impl SpiffeVerifier {
    /// The trust for a certificate: that of its own stack.
    fn trust_for(&self, leaf: &CertificateDer<'_>) -> Result<&Trust, rustls::Error> {
        let stack = Stack::of_certificate(leaf)?;
        let trust = self.trust.iter().find(|trust| trust.stack == stack);
        trust.ok_or_else(|| CertificateError::UnknownIssuer.into())
    }
}

impl ServerCertVerifier for SpiffeVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let trust = self.trust_for(end_entity)?;
        check_chain(trust.stack, end_entity, intermediates)?;
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &trust.roots,
            intermediates,
            now,
            trust.algorithms.all,
        )?;
        let refused = || CertificateError::ApplicationVerificationFailure;
        let peer =
            identify(end_entity, self.expected.trust_domain()).map_err(|_refusal| refused())?;
        if *peer.spiffe() == self.expected {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(refused().into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::ServerDoesNotSupportTls12Or13.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.trust_for(cert)?.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.iter().flat_map(|trust| trust.algorithms.supported_schemes()).collect()
    }
}
