//! Connecting to a service that must be called a second time, with the other identity.

use std::future::pending;

use http_body_util::Full;
use moat_ca::{Authority, Identity, LeafRequest};
use moat_tls::{ALPN_HTTP1, Material, National, Stack, Trust};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

const SERVICE: &str = "spiffe://bank.test/accounts";
const INTERNATIONAL: &[Stack] = &[Stack::International];
const NATIONAL: &[Stack] = &[Stack::National];
const BOTH: &[Stack] = &[Stack::International, Stack::National];
/// Longest wait for both attempts together.
const CONNECT: Duration = Duration::from_secs(1);

/// Asks for certificates of these stacks, and takes international ones.
#[derive(Debug)]
struct Asking(&'static [Stack]);

fn algorithms(stack: Stack) -> WebPkiSupportedAlgorithms {
    stack.provider().signature_verification_algorithms
}

impl ClientCertVerifier for Asking {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match Stack::of_certificate(leaf)? {
            Stack::International => Ok(ClientCertVerified::assertion()),
            Stack::National => Err(rustls::CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::HandshakeNotComplete)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signed, &algorithms(Stack::of_certificate(leaf)?))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.iter().flat_map(|stack| algorithms(*stack).supported_schemes()).collect()
    }
}

/// What the service does with a connection.
#[derive(Clone, Copy)]
enum Act {
    /// A handshake, begun after a while, that asks for certificates of these stacks.
    Ask(&'static [Stack], Duration),
    /// A handshake of an international service but for its certificate, of the other stack.
    Mix,
    Close,
    Hang,
}

const AT_ONCE: Duration = Duration::ZERO;
/// Most of the wait.
const LATE: Duration = Duration::from_millis(700);

/// An international service, which does this with its connections, and a pool for it.
struct Scene {
    pool: Rc<Pool<Full<Bytes>>>,
    slots: Arc<Slots>,
    accepted: Rc<Cell<usize>>,
}

impl Scene {
    async fn new(acts: &'static [Act]) -> Scene {
        let now_s = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let now_s = i64::try_from(now_s).unwrap();
        let p256 = Authority::create("Test", now_s).unwrap();
        let sm2 = Authority::create_sm2("Test", now_s).unwrap();
        let issue = |by: &Authority, id| by.issue(&LeafRequest::spiffe(id, now_s)).unwrap();
        let own = [&p256, &sm2].map(|by| issue(by, "spiffe://bank.test/gateway"));
        let trust = format!("{}{}", p256.trust_pem(), sm2.trust_pem());
        let own = own.each_ref().map(|identity| Material {
            chain_pem: identity.chain_pem.as_bytes(),
            key_pem: identity.key_pem.as_bytes(),
            password: None,
            staple: None,
            trust: Trust::in_authorities(trust.as_bytes()),
        });
        let expected = SERVICE.parse().unwrap();
        let tls = Client::new(&own, expected, &[ALPN_HTTP1], National::Prefer).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Rc::new(Cell::new(0));
        let service = [&p256, &sm2].map(|by| issue(by, SERVICE));
        let service = serve(listener, service, acts, Rc::clone(&accepted));
        drop(tokio::task::spawn_local(service));
        let slots = Slots::new(1, 0);
        let settings = Settings {
            address,
            slots: Arc::clone(&slots),
            terms: Terms { tls, idle_max: 1, idle: Duration::from_secs(60), connect: CONNECT },
        };
        Scene { pool: Pool::new(settings), slots, accepted }
    }

    async fn refused(&self) -> Refusal {
        self.pool.lease(Instant::now() + CONNECT).await.err().unwrap().refusal
    }

    fn counts(&self) -> (usize, usize) {
        (self.accepted.get(), self.slots.taken())
    }
}

/// With the key of one and the certificate of another.
fn international(asks: &'static [Stack], key: &Identity, chain: &Identity) -> TlsAcceptor {
    let provider = Stack::International.provider();
    let key = PrivateKeyDer::from_pem_slice(key.key_pem.as_bytes()).unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let chain = CertificateDer::pem_slice_iter(chain.chain_pem.as_bytes());
    let own = CertifiedKey::new(chain.map(Result::unwrap).collect(), key);
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(Arc::new(Asking(asks)))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(listener: TcpListener, own: [Identity; 2], acts: &[Act], accepted: Rc<Cell<usize>>) {
    let mut kept = Vec::new();
    for act in acts {
        let (stream, _) = listener.accept().await.unwrap();
        accepted.set(accepted.get() + 1);
        match act {
            Act::Close => drop(stream),
            Act::Hang => drop(tokio::task::spawn_local(async move {
                let _stream = stream;
                pending::<()>().await;
            })),
            Act::Ask(stacks, after) => {
                tokio::time::sleep(*after).await;
                // Fails for who shows the wrong one.
                kept.extend(international(stacks, &own[0], &own[0]).accept(stream).await);
            }
            Act::Mix => {
                kept.extend(international(BOTH, &own[0], &own[1]).accept(stream).await);
            }
        }
    }
    // Who calls more often than foreseen is counted too.
    while listener.accept().await.is_ok() {
        accepted.set(accepted.get() + 1);
    }
}

async fn local(test: impl Future<Output = ()>) {
    tokio::task::LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn both_attempts_share_one_place() {
    local(async {
        let acts = &[Act::Ask(BOTH, AT_ONCE), Act::Ask(BOTH, AT_ONCE)];
        let scene = Scene::new(acts).await;
        let lease = scene.pool.lease(Instant::now() + CONNECT).await.unwrap();
        assert_eq!(lease.negotiated().stack, Stack::International);
        assert_eq!(scene.counts(), (2, 1));
        assert_eq!(scene.refused().await.code, &codes::BUSY);
        drop(lease);
        tokio::task::yield_now().await;
        assert_eq!(scene.counts(), (2, 0));
    })
    .await;
}

#[tokio::test]
async fn there_is_no_third_attempt_and_the_place_comes_back() {
    local(async {
        let cases: [(&'static [Act], _); 3] = [
            (&[Act::Ask(BOTH, AT_ONCE), Act::Mix], &codes::MIXED),
            (&[Act::Ask(BOTH, AT_ONCE), Act::Ask(NATIONAL, AT_ONCE)], &codes::ONE_SIDED),
            (&[Act::Ask(BOTH, AT_ONCE), Act::Close], &codes::CONNECT),
        ];
        for (acts, refused) in cases {
            let scene = Scene::new(acts).await;
            assert_eq!(scene.refused().await.code, refused);
            assert_eq!(scene.counts(), (2, 0));
        }
        // One that is refused for good is not called again at all.
        let scene = Scene::new(&[Act::Ask(NATIONAL, AT_ONCE)]).await;
        let NoLease { refusal, chosen } =
            scene.pool.lease(Instant::now() + CONNECT).await.err().unwrap();
        assert_eq!(refusal.code, &codes::MIXED);
        assert_eq!(chosen.unwrap().group, "X25519MLKEM768");
        assert_eq!(scene.counts(), (1, 0));
        let scene = Scene::new(&[Act::Ask(INTERNATIONAL, AT_ONCE)]).await;
        assert!(scene.pool.lease(Instant::now() + CONNECT).await.is_ok());
        assert_eq!(scene.counts().0, 1);
    })
    .await;
}

#[tokio::test]
async fn both_attempts_share_one_wait() {
    local(async {
        let scene = Scene::new(&[Act::Ask(BOTH, LATE), Act::Hang]).await;
        let begun = Instant::now();
        assert_eq!(scene.refused().await.code, &codes::CONNECT);
        let taken = begun.elapsed();
        assert!(taken >= CONNECT && taken < CONNECT + LATE, "{taken:?}");
        assert_eq!(scene.counts(), (2, 0));
    })
    .await;
}
