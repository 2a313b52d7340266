//! The listener's side: a client certificate is always required.

use std::io;
use std::sync::Arc;

use moat_model::code::tls::{MIXED, NATIONAL_ONLY, OWN_KEY};
use moat_model::{Code, Refusal, Stage};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::verify_tls13_signature;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CommonState, DigitallySignedStruct, DistinguishedName, PeerIncompatible, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::path::{Broken, Judge, Path, Usage, seconds};
use crate::preference::sides;
use crate::revocation::Proven;
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
    judge: Arc<Judge>,
    /// When the chain that it shows expires, in seconds since 1970.
    until_s: i64,
}

/// What a ClientHello led to.
#[derive(Debug)]
pub struct Choice {
    /// The configuration to go on with. If it cannot serve this caller, the handshake fails by it,
    /// with the alert that belongs to it.
    pub config: Arc<ServerConfig>,
    refused_as: Option<&'static Code>,
    until_s: i64,
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
    /// [`OWN_KEY`] if chain and key do not fit, [`moat_model::code::tls::NO_TRUST`] if there is
    /// nobody to trust,
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
            let (config, until_s) = (Arc::clone(&side.config), side.until_s);
            return Some(Choice { config, refused_as: None, until_s });
        }
        let side = self.international.as_ref().or(self.national.as_ref())?;
        let is_half = hello.cipher_suites().iter().any(|s| Stack::of_suite(*s) == Stack::National);
        let refused_as = match (&self.national, &self.international) {
            (Some(_), _) if is_half => Some(&MIXED),
            (Some(_), None) => Some(&NATIONAL_ONLY),
            _ => None,
        };
        Some(Choice { config: Arc::clone(&side.config), refused_as, until_s: side.until_s })
    }
}

impl Server {
    fn side(&self, stack: Stack) -> Option<&Side> {
        match stack {
            Stack::International => self.international.as_ref(),
            Stack::National => self.national.as_ref(),
        }
    }

    /// What vouches for the caller of a finished handshake. It was found during the handshake and is
    /// remembered, so that this costs a digest.
    ///
    /// # Errors
    /// If a list of revoked certificates came into force meanwhile.
    pub fn path(
        &self,
        stack: Stack,
        connection: &CommonState,
        now: UnixTime,
    ) -> Result<Arc<Path>, rustls::Error> {
        let none = || rustls::Error::NoCertificatesPresented;
        let (leaf, others) =
            connection.peer_certificates().and_then(<[_]>::split_first).ok_or_else(none)?;
        self.side(stack).ok_or_else(none)?.judge.path(leaf, others, now)
    }

    /// Until when what vouched for a caller before, here or in the generation before this one, still
    /// does: the first second in which that must be asked again.
    ///
    /// # Errors
    /// Why it does not.
    pub fn still_believes(&self, stack: Stack, path: &Path, now_s: i64) -> Result<i64, Broken> {
        self.side(stack).ok_or(Broken::Anchor)?.judge.believes(path, now_s)
    }

    /// The lists of revoked certificates that were used.
    #[must_use]
    pub fn proven(&self) -> Vec<Proven> {
        self.judges().flat_map(|judge| judge.lists().proven()).collect()
    }

    /// Whether its lists of that issuer are all older.
    #[must_use]
    pub fn is_behind(&self, proven: &Proven) -> bool {
        self.judges().any(|judge| judge.lists().is_behind(proven))
    }

    fn judges(&self) -> impl Iterator<Item = &Judge> {
        [&self.international, &self.national].into_iter().flatten().map(|side| &*side.judge)
    }
}

impl Choice {
    /// Whether our own certificate has expired: then there is nothing to go on with.
    #[must_use]
    pub fn has_expired(&self, now: UnixTime) -> bool {
        seconds(now) > self.until_s
    }

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
    let provider = keys.order.apply(&stack.provider());
    let key = material.certified(stack, keys)?;
    let judge = Arc::new(material.judge(stack, Usage::Client)?);
    let hints = material.roots(stack)?.subjects();
    let verifier = CallerVerifier { judge: Arc::clone(&judge), hints };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| Error::new(&OWN_KEY, e))?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(Showing::new(Arc::clone(&key), material.staple(stack)?)));
    config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_HTTP1.to_vec()];
    config.ignore_client_order = keys.order.has_suites();
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    let until_s = material.not_after_s()?;
    Ok(Side { config: Arc::new(config), key, judge, until_s })
}

/// Shows one certificate, with an OCSP response as long as that is current.
#[derive(Debug)]
struct Showing {
    plain: Arc<CertifiedKey>,
    /// The same with the response, and until when.
    stapled: Option<(Arc<CertifiedKey>, i64)>,
}

impl Showing {
    fn new(plain: Arc<CertifiedKey>, staple: Option<(Vec<u8>, i64)>) -> Showing {
        let stapled = staple.map(|(response, until_s)| {
            let mut stapled = CertifiedKey::clone(&plain);
            stapled.ocsp = Some(response);
            (Arc::new(stapled), until_s)
        });
        Showing { plain, stapled }
    }
}

impl ResolvesServerCert for Showing {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let now_s = seconds(UnixTime::now());
        let stapled = self.stapled.as_ref().filter(|(_, until_s)| now_s < *until_s);
        Some(Arc::clone(stapled.map_or(&self.plain, |(stapled, _)| stapled)))
    }
}

/// The judge's verdict, and whom a caller is told that it believes.
#[derive(Debug)]
struct CallerVerifier {
    judge: Arc<Judge>,
    hints: Vec<DistinguishedName>,
}

impl ClientCertVerifier for CallerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.judge.path(end_entity, intermediates, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, self.judge.algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.algorithms().supported_schemes()
    }
}
