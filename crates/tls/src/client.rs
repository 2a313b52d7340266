//! The upstream's side: the service must prove one expected SPIFFE id.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use moat_identity::{SpiffeId, identify};
use moat_model::Code;
use moat_model::code::tls::{NO_TRUST, OWN_KEY};
use moat_model::code::upstream::{HANDSHAKE, MIXED, ONE_SIDED};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, PeerIncompatible,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::der::issuer;
use crate::path::{Broken, Judge, Path, Usage};
use crate::preference::sides;
use crate::revocation::{Proven, Standing};
use crate::stack::foreign;
use crate::{Error, Keys, Material, National, Negotiated, Order, Stack};

/// How to reach a service: TLS 1.3 only, our own certificate shown, the service's chain verified
/// and its SPIFFE id compared with the expected one. DNS names are not looked at: a SPIFFE id says
/// who the service is, wherever it runs.
///
/// With two identities it offers both stacks, and [`Attempt::finish`] sees to it that a connection
/// is wholly of one. The stack that the service took last stands first, so that the first hello has
/// the key share which the service takes.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// One identity or two, the preferred one first.
    identities: Vec<Identity>,
    /// Offers the stacks of all identities, the preferred one first.
    config: Arc<ClientConfig>,
    /// Where there are two: offers the same, this stack first, which is not the preferred one.
    turned: Option<(Stack, Arc<ClientConfig>)>,
    /// Where there are two: one stack alone.
    alone: Vec<(Stack, Arc<ClientConfig>)>,
    /// The stack that the service negotiated last.
    seen: AtomicU8,
    /// Of each stack, who judges the service's chain.
    judges: Vec<Arc<Judge>>,
    /// Counts the attempts.
    attempts: AtomicU32,
    left_out: Option<Stack>,
    expected: SpiffeId,
}

/// What we can show.
#[derive(Debug)]
struct Identity {
    stack: Stack,
    key: Arc<CertifiedKey>,
    /// The names of those who issued the chain, in DER.
    issuers: Vec<Vec<u8>>,
}

/// Why a service was believed: what vouched for it, and until when what it stapled holds.
#[derive(Clone, Debug)]
pub struct Belief {
    stack: Stack,
    path: Arc<Path>,
    staple_until_s: i64,
}

/// One handshake to be made.
#[derive(Debug)]
pub struct Attempt {
    /// The configuration for it.
    pub config: Arc<ClientConfig>,
    showing: Arc<Showing>,
}

impl Client {
    /// A client with one or two identities. Of two, one is left out if no authority of its stack is
    /// trusted: a service of that stack could not prove itself. See [`Client::left_out`].
    ///
    /// # Errors
    /// [`OWN_KEY`] if chain and key do not fit, [`NO_TRUST`] if there is nobody to trust or an
    /// authority cannot be read, [`moat_model::code::tls::IDENTITIES`] if the identities do not fit
    /// together or `national`.
    pub fn new(
        own: &[Material<'_>],
        expected: SpiffeId,
        alpn: &[&[u8]],
        national: National,
    ) -> Result<Client, Error> {
        Client::with_keys(own, expected, alpn, national, &mut Keys::default())
    }

    /// The same, where some of the identities may have been read already.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn with_keys(
        own: &[Material<'_>],
        expected: SpiffeId,
        alpn: &[&[u8]],
        national: National,
        keys: &mut Keys,
    ) -> Result<Client, Error> {
        let sides = sides(own, national)?;
        let sides_count = sides.count();
        let (mut identities, mut trust, mut left_out) = (Vec::new(), Vec::new(), None);
        let both = [(Stack::National, sides.national), (Stack::International, sides.international)];
        for (stack, side) in both {
            if let Some(material) = side {
                material.authorities()?;
                let judge = match material.judge(stack, Usage::Server) {
                    // The other identity may have somebody to trust.
                    Err(e) if e.code == &NO_TRUST && sides_count > 1 => {
                        left_out = Some(stack);
                        continue;
                    }
                    judge => judge?,
                };
                let key = material.certified(stack, keys)?;
                let issuers = key.cert.iter().filter_map(|der| issuer(der)).map(<[u8]>::to_vec);
                let issuers = issuers.collect();
                identities.push(Identity { stack, key, issuers });
                trust.push(Arc::new(judge));
            }
        }
        if national == National::Allow {
            identities.reverse();
            trust.reverse();
        }
        if identities.is_empty() {
            return Err(Error::new(&NO_TRUST, "the trust file has no authority for any identity"));
        }
        let order = &keys.order;
        let alone = match trust.as_slice() {
            several @ [_, _, ..] => several
                .iter()
                .map(|one| {
                    Ok((one.stack(), config(vec![Arc::clone(one)], expected.clone(), alpn, order)?))
                })
                .collect::<Result<_, Error>>()?,
            _ => Vec::new(),
        };
        let turned = match trust.as_slice() {
            [first, second] => {
                let trust = vec![Arc::clone(second), Arc::clone(first)];
                Some((second.stack(), config(trust, expected.clone(), alpn, order)?))
            }
            _ => None,
        };
        let judges = trust.clone();
        let config = config(trust, expected.clone(), alpn, order)?;
        let (seen, attempts) = (AtomicU8::new(NOTHING), AtomicU32::new(0));
        let inner =
            Inner { identities, config, turned, alone, seen, judges, attempts, left_out, expected };
        Ok(Client(Arc::new(inner)))
    }

    /// The lists of revoked certificates that were used.
    #[must_use]
    pub fn proven(&self) -> Vec<Proven> {
        self.0.judges.iter().flat_map(|judge| judge.lists().proven()).collect()
    }

    /// Whether its lists of that issuer are all older.
    #[must_use]
    pub fn is_behind(&self, proven: &Proven) -> bool {
        self.0.judges.iter().any(|judge| judge.lists().is_behind(proven))
    }

    /// Why the service at the other end of a finished handshake was believed; nothing if it would not
    /// be by now.
    #[must_use]
    pub fn belief(&self, connection: &ClientConnection, now_s: i64) -> Option<Belief> {
        let (leaf, others) = connection.peer_certificates()?.split_first()?;
        let stack = Stack::of_certificate(leaf).ok()?;
        let judge = self.judge(stack)?;
        let now = core::time::Duration::from_secs(u64::try_from(now_s).ok()?);
        let path = judge.path(leaf, others, UnixTime::since_unix_epoch(now)).ok()?;
        let staple_until_s = judge.staple_until_s(&path);
        Some(Belief { stack, path, staple_until_s })
    }

    /// Whether a service that was believed, by this client or the one before it, would be now: the
    /// first second in which that must be asked again, in seconds since 1970. Costs no signature
    /// where nothing has changed.
    ///
    /// # Errors
    /// What is against it; [`Broken::Anchor`] too if another service is expected.
    pub fn still_believes(&self, belief: &Belief, now_s: i64) -> Result<i64, Broken> {
        let judge = self.judge(belief.stack).ok_or(Broken::Anchor)?;
        let until_s = judge.believes(&belief.path, now_s)?;
        let leaf = belief.path.chain().first().ok_or(Broken::Anchor)?;
        let peer = identify(leaf, self.0.expected.trust_domain()).map_err(|_| Broken::Anchor)?;
        if *peer.spiffe() != self.0.expected {
            return Err(Broken::Anchor);
        }
        let stale = Broken::Standing(Standing::Stale(belief.staple_until_s));
        if judge.must_staple() && now_s >= belief.staple_until_s {
            return Err(stale);
        }
        Ok(until_s.min(belief.staple_until_s))
    }

    fn judge(&self, stack: Stack) -> Option<&Judge> {
        self.0.judges.iter().find(|judge| judge.stack() == stack).map(Arc::as_ref)
    }

    /// The stack of an identity that is of no use, since no authority of it is trusted.
    #[must_use]
    pub fn left_out(&self) -> Option<Stack> {
        self.0.left_out
    }

    /// Begins a handshake: the stack that the service took last is offered first, but for one
    /// attempt in `PREFERRED_EVERY`.
    #[must_use]
    pub fn attempt(&self) -> Attempt {
        let client = &self.0;
        let seen = client.seen.load(Ordering::Relaxed);
        let number = client.attempts.fetch_add(1, Ordering::Relaxed);
        let is_turned = !number.is_multiple_of(PREFERRED_EVERY);
        let turned = client.turned.as_ref().filter(|(stack, _)| is_turned && mark(*stack) == seen);
        Attempt::new(client, turned.map_or(&client.config, |(_, config)| config), None)
    }
}

impl Attempt {
    fn new(client: &Arc<Inner>, config: &ClientConfig, alone: Option<Stack>) -> Attempt {
        let showing = Arc::new(Showing {
            client: Arc::clone(client),
            alone,
            asked: AtomicU8::new(NOTHING),
            shown: AtomicU8::new(NOTHING),
        });
        let mut config = ClientConfig::clone(config);
        config.client_auth_cert_resolver = Arc::clone(&showing) as Arc<dyn ResolvesClientCert>;
        Attempt { config: Arc::new(config), showing }
    }

    /// Looks at a finished handshake, before a byte is sent over it.
    ///
    /// # Errors
    /// [`MIXED`] unless suite, group, the service's key and our own are all of one stack;
    /// [`ONE_SIDED`] if the service asked for no certificate, or for none of ours: it would take
    /// calls from anybody; [`HANDSHAKE`] if the handshake is not finished: the service has not
    /// proved itself, so it is neither taken nor blamed for a mixture.
    pub fn finish(&self, connection: &ClientConnection) -> Result<Negotiated, &'static Code> {
        if connection.is_handshaking() {
            return Err(&HANDSHAKE);
        }
        let negotiated = Negotiated::of(connection).ok_or(&MIXED)?;
        match self.showing.shown.load(Ordering::Acquire) {
            NOTHING => Err(&ONE_SIDED),
            shown if shown == mark(negotiated.stack) => {
                self.showing.client.seen.store(shown, Ordering::Relaxed);
                Ok(negotiated)
            }
            _ => Err(&MIXED),
        }
    }

    /// Another attempt, on a new connection, if the service was in order but had to be shown the
    /// other identity: rustls asks for our certificate before it tells what was negotiated. The
    /// attempt offers nothing but the stack that the service chose of the two, and there is no
    /// third.
    #[must_use]
    pub fn again(&self, connection: &ClientConnection) -> Option<Attempt> {
        if connection.is_handshaking() {
            return None;
        }
        let client = &self.showing.client;
        let negotiated = Negotiated::of(connection)?;
        let own = mark(negotiated.stack);
        let shown = self.showing.shown.load(Ordering::Acquire);
        let could_show = self.showing.asked.load(Ordering::Acquire) & own != 0;
        if self.showing.alone.is_some() || shown == NOTHING || shown == own || !could_show {
            return None;
        }
        let (stack, config) = client.alone.iter().find(|(stack, _)| *stack == negotiated.stack)?;
        client.seen.store(own, Ordering::Relaxed);
        Some(Attempt::new(client, config, Some(*stack)))
    }
}

/// A configuration for services that those authorities vouch for; it shows nothing yet.
fn config(
    trust: Vec<Arc<Judge>>,
    expected: SpiffeId,
    alpn: &[&[u8]],
    order: &Order,
) -> Result<Arc<ClientConfig>, Error> {
    let provider = offer(trust.iter().map(|judge| judge.stack()), order);
    let verifier = SpiffeVerifier { trust, expected };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| Error::new(&OWN_KEY, e))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(Arc::new(config))
}

/// The providers of these stacks, one after the other. rustls may negotiate a mixture of two, which
/// [`Attempt::finish`] refuses.
fn offer(stacks: impl Iterator<Item = Stack>, order: &Order) -> Arc<CryptoProvider> {
    let joined = stacks.map(|stack| order.apply(&stack.provider())).reduce(|first, second| {
        let mut both = CryptoProvider::clone(&first);
        both.cipher_suites.extend_from_slice(&second.cipher_suites);
        both.kx_groups.extend_from_slice(&second.kx_groups);
        Arc::new(both)
    });
    joined.unwrap_or_else(|| Stack::International.provider())
}

/// One attempt in so many offers the preferred stack first, whatever the service took last: one
/// that goes by our order, and has learnt the preferred stack since, would never take it otherwise.
/// To the others that attempt costs one more round trip.
pub(crate) const PREFERRED_EVERY: u32 = 64;

/// No stack.
const NOTHING: u8 = 0;

/// One bit a stack.
fn mark(stack: Stack) -> u8 {
    match stack {
        Stack::International => 1,
        Stack::National => 2,
    }
}

/// Shows the identity that the service asks for, and remembers which.
#[derive(Debug)]
struct Showing {
    client: Arc<Inner>,
    /// The only stack that this attempt offers, if it is one.
    alone: Option<Stack>,
    /// Marks of the stacks whose schemes the service asked for.
    asked: AtomicU8,
    shown: AtomicU8,
}

impl Showing {
    /// Of those whose scheme is asked for: one whose issuer the service names, if it names one of
    /// ours at all (RFC 8446 §4.2.4); then that of the stack which the service took last; then the
    /// preferred one.
    fn choose(&self, hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<&Identity> {
        let asked = |one: &&Identity| {
            self.alone.is_none_or(|stack| stack == one.stack)
                && one.key.key.choose_scheme(schemes).is_some()
        };
        let mut fits: Vec<&Identity> = self.client.identities.iter().filter(asked).collect();
        let marks = fits.iter().fold(NOTHING, |marks, one| marks | mark(one.stack));
        self.asked.store(marks, Ordering::Release);
        let is_named =
            |one: &Identity| one.issuers.iter().any(|name| hints.contains(&name.as_slice()));
        if fits.iter().any(|one| is_named(one)) {
            fits.retain(|one| is_named(one));
        }
        let seen = self.client.seen.load(Ordering::Relaxed);
        fits.iter().find(|one| mark(one.stack) == seen).or(fits.first()).copied()
    }
}

impl ResolvesClientCert for Showing {
    fn resolve(
        &self,
        root_hint_subjects: &[&[u8]],
        sigschemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let identity = self.choose(root_hint_subjects, sigschemes)?;
        self.shown.store(mark(identity.stack), Ordering::Release);
        Some(Arc::clone(&identity.key))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Chain by webpki, name by SPIFFE id.
#[derive(Debug)]
struct SpiffeVerifier {
    /// One or two, the preferred stack first.
    trust: Vec<Arc<Judge>>,
    expected: SpiffeId,
}

impl SpiffeVerifier {
    /// The trust for a certificate: that of its own stack.
    fn trust_for(&self, leaf: &CertificateDer<'_>) -> Result<&Judge, rustls::Error> {
        let stack = Stack::of_certificate(leaf)?;
        let trust = self.trust.iter().find(|judge| judge.stack() == stack);
        trust.map(Arc::as_ref).ok_or_else(foreign)
    }
}

impl ServerCertVerifier for SpiffeVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let judge = self.trust_for(end_entity)?;
        let path = judge.path(end_entity, intermediates, now)?;
        judge.staple(&path, ocsp_response, now)?;
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
        verify_tls13_signature(message, cert, dss, self.trust_for(cert)?.algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.iter().flat_map(|judge| judge.algorithms().supported_schemes()).collect()
    }
}
