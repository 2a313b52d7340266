//! Peers that do what RFC 8998 forbids: each mixture and each wrong byte is refused by its code.

use std::sync::Arc;

use moat_ca::x509::{self, Purpose, ToBeSigned};
use moat_ca::{Identity, LeafRequest};
use moat_model::code::{tls, upstream};
use moat_sm::pem;
use moat_sm::sm2::{DEFAULT_ID, SecretKey, TLS13_ID};
use rustls::client::ResolvesClientCert;
use rustls::crypto::{ActiveKeyExchange, CryptoProvider, SharedSecret, SupportedKxGroup};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{
    AlertDescription, ClientConfig, NamedGroup, ServerConfig, ServerConnection, SignatureAlgorithm,
    SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::wire::{Ended, finish, new_client, shake};
use super::{GATEWAY, TELLER, World, client_config, material, now_s};
use crate::national::{CURVE_SM2, SM2SIG_SM3};
use crate::{ALPN_H2, Client, National, Stack};

pub(super) fn chain(identity: &Identity) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(identity.chain_pem.as_bytes()).map(Result::unwrap).collect()
}

fn certified(identity: &Identity, stack: Stack) -> CertifiedKey {
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap();
    CertifiedKey::from_der(chain(identity), key, &stack.provider()).unwrap()
}

fn secret(identity: &Identity) -> SecretKey {
    let der = pem::decode(pem::PRIVATE_KEY, &identity.key_pem).unwrap();
    SecretKey::from_pkcs8_der(&der).unwrap()
}

/// Our own client, with another provider below it.
pub(super) fn rebuilt(
    identity: &Identity,
    trust: &str,
    provider: CryptoProvider,
) -> Arc<ClientConfig> {
    let stack = Stack::of_certificate(&chain(identity)[0]).unwrap();
    with_resolver(trust, provider, Arc::new(Always(certified(identity, stack))))
}

/// A client with a resolver of its own. It takes every server: what is tested is the other side.
fn with_resolver(
    _trust: &str,
    provider: CryptoProvider,
    resolver: Arc<dyn ResolvesClientCert>,
) -> Arc<ClientConfig> {
    let verifier = Arc::new(Anybody(provider.signature_verification_algorithms));
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(resolver);
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    Arc::new(config)
}

#[derive(Debug)]
struct Anybody(rustls::crypto::WebPkiSupportedAlgorithms);

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::HandshakeNotComplete)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// Shows one certificate, whatever is asked for.
#[derive(Debug)]
struct Always(CertifiedKey);

impl ResolvesClientCert for Always {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::new(self.0.clone()))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// What a test does to a signature.
type Change = fn(&mut Vec<u8>);
type Sign = dyn Fn(&[u8]) -> Vec<u8> + Send + Sync;

/// A key that signs as it likes.
#[derive(Clone)]
struct Rogue(SignatureScheme, Arc<Sign>);

impl core::fmt::Debug for Rogue {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Rogue")
    }
}

impl SigningKey for Rogue {
    fn choose_scheme(&self, _: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        Some(Box::new(self.clone()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::Unknown(8)
    }
}

impl Signer for Rogue {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        Ok((self.1)(message))
    }

    fn scheme(&self) -> SignatureScheme {
        self.0
    }
}

/// A handshake of a caller with that chain and that way of signing, over national suites.
pub(super) fn call(
    w: &World,
    chain: Vec<CertificateDer<'static>>,
    scheme: SignatureScheme,
    sign: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static,
) -> Ended {
    let key = CertifiedKey::new(chain, Arc::new(Rogue(scheme, Arc::new(sign))));
    let provider = CryptoProvider::clone(&Stack::National.provider());
    let config = with_resolver(&w.trust, provider, Arc::new(Always(key)));
    shake(&w.server(National::Prefer), config)
}

/// Signs as SM2 does, and lets the test change the bytes.
pub(super) fn sm2_signer(
    identity: &Identity,
    id: &'static [u8],
    change: impl Fn(&mut Vec<u8>) + Send + Sync + 'static,
) -> impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static {
    let key = secret(identity);
    move |message| {
        let mut der = key.sign(id, message, &[7; 32]).unwrap().to_der().as_ref().to_vec();
        change(&mut der);
        der
    }
}

#[test]
fn the_right_signature_passes_and_every_other_is_refused() {
    let w = World::new();
    let teller = &w.teller[1];
    let run =
        |id, change: Change| call(&w, chain(teller), SM2SIG_SM3, sm2_signer(teller, id, change));
    run(TLS13_ID, |_| {}).assert_good();
    let wrong: [(&'static [u8], Change); 6] = [
        (DEFAULT_ID, |_| {}),
        (b"", |_| {}),
        (TLS13_ID, |der| der.push(0)),
        (TLS13_ID, |der| *der.last_mut().unwrap() ^= 1),
        (TLS13_ID, |der| der.truncate(der.len() - 1)),
        (TLS13_ID, Vec::clear),
    ];
    for (id, change) in wrong {
        let ended = run(id, change);
        ended.assert_refused(&tls::BAD_SIGNATURE);
        ended.assert_alert(AlertDescription::DecryptError);
    }
}

#[test]
fn an_ordinary_certificate_over_a_national_suite_is_refused() {
    let w = World::new();
    let teller = certified(&w.teller[0], Stack::International);
    for scheme in [SignatureScheme::ECDSA_NISTP256_SHA256, SM2SIG_SM3] {
        let signer = teller.key.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256]).unwrap();
        let sign = move |message: &[u8]| signer.sign(message).unwrap();
        call(&w, chain(&w.teller[0]), scheme, sign).assert_refused(&tls::FOREIGN);
    }
}

#[test]
fn a_caller_without_a_certificate_is_told_so() {
    let w = World::new();
    let provider = Stack::National.provider();
    let verifier = Arc::new(Anybody(provider.signature_verification_algorithms));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    let ended = shake(&w.server(National::Only), Arc::new(config));
    ended.assert_refused(&tls::NO_CERTIFICATE);
    ended.assert_alert(AlertDescription::CertificateRequired);
}

/// The SM2 teller's key in a certificate that somebody else signs.
fn leaf_signed(
    w: &World,
    issuer: &CertificateDer<'_>,
    algorithm: &[u8],
    sign: &dyn Fn(&[u8]) -> Vec<u8>,
) -> CertificateDer<'static> {
    let (_, issuer) = X509Certificate::from_der(issuer).unwrap();
    let at = |s: i64| time::OffsetDateTime::from_unix_timestamp(now_s() + s).unwrap();
    let to_be_signed = ToBeSigned {
        serial: [1; x509::SERIAL_BYTES],
        issuer: issuer.subject().as_raw(),
        subject: &x509::name("teller", None),
        validity: (at(-60), at(600)),
        spki: &secret(&w.teller[1]).public().to_spki_der(),
        key_id: [1; x509::KEY_ID_BYTES],
        issuer_key_id: None,
        purpose: Purpose::Identity { names: vec![x509::Name::Uri(TELLER.to_owned())] },
    };
    let der = to_be_signed.to_der(algorithm).unwrap();
    x509::certificate(&der, algorithm, &sign(&der)).into()
}

#[test]
fn an_sm2_leaf_is_taken_from_an_sm2_authority_only() {
    let w = World::new();
    let teller = &w.teller[1];
    let run = |chain| call(&w, chain, SM2SIG_SM3, sm2_signer(teller, TLS13_ID, |_| {}));
    // The identities of tellers, taken as authorities: what counts here is who signed how.
    let p256 = certified(&w.teller[0], Stack::International);
    let signer = p256.key.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256]).unwrap();
    let ecdsa = &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    let issuing = chain(&w.teller[0])[1].clone();
    let leaf = leaf_signed(&w, &issuing, ecdsa, &|der| signer.sign(der).unwrap());
    run(vec![leaf.clone()]).assert_refused(&tls::FOREIGN);
    run(vec![leaf, issuing.clone()]).assert_refused(&tls::FOREIGN);

    // A good chain with a stranger of the other stack in it.
    let good = chain(teller);
    run(vec![good[0].clone(), good[1].clone(), issuing]).assert_refused(&tls::FOREIGN);

    // NULL parameters where none belong, and the wrong identity under a certificate.
    let key = secret(teller);
    let with_id = |id: &'static [u8]| {
        let key = &key;
        move |der: &[u8]| key.sign(id, der, &[7; 32]).unwrap().to_der().as_ref().to_vec()
    };
    let null = [&[0x30, 12], &x509::SM2_WITH_SM3[2..], &[5, 0]].concat();
    let leaf = leaf_signed(&w, &good[1], &null, &with_id(DEFAULT_ID));
    run(vec![leaf, good[1].clone()]).assert_refused(&tls::FOREIGN);
    let leaf = leaf_signed(&w, &good[1], x509::SM2_WITH_SM3, &with_id(TLS13_ID));
    run(vec![leaf, good[1].clone()]).assert_refused(&tls::BAD_SIGNATURE);
}

#[test]
fn a_certificate_cut_or_lengthened_anywhere_is_refused() {
    let w = World::new();
    let good = chain(&w.teller[1]);
    let judge =
        |leaf: CertificateDer<'_>| crate::stack::check_chain(Stack::National, &leaf, &good[1..]);
    assert!(judge(good[0].clone()).is_ok());
    for length in 0..good[0].len() {
        assert!(judge(CertificateDer::from(&good[0][..length])).is_err(), "{length}");
    }
    for at in 0..good[0].len() {
        // Its signature is webpki's to judge; here nothing may panic.
        let mut changed = good[0].to_vec();
        changed[at] ^= 0x81;
        let _ = judge(CertificateDer::from(changed));
    }
    let longer = CertificateDer::from([&good[0], &[0][..]].concat());
    assert!(judge(longer.clone()).is_err());
    let sign = sm2_signer(&w.teller[1], TLS13_ID, |_| {});
    call(&w, vec![longer, good[1].clone()], SM2SIG_SM3, sign).assert_refused(&tls::BAD_CERTIFICATE);
}

/// curveSM2 with a share that is changed on its way out.
#[derive(Debug)]
struct Bent(Change);

impl SupportedKxGroup for Bent {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, rustls::Error> {
        let group = Stack::National.provider().kx_groups[0];
        let inner = group.start()?;
        let mut share = inner.pub_key().to_vec();
        (self.0)(&mut share);
        Ok(Box::new(BentShare(inner, share)))
    }

    fn name(&self) -> NamedGroup {
        CURVE_SM2
    }
}

struct BentShare(Box<dyn ActiveKeyExchange>, Vec<u8>);

impl ActiveKeyExchange for BentShare {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, rustls::Error> {
        self.0.complete(peer)
    }

    fn pub_key(&self) -> &[u8] {
        &self.1
    }

    fn group(&self) -> NamedGroup {
        CURVE_SM2
    }
}

static BENT: [Bent; 6] = [
    Bent(|share| share.push(0)),
    Bent(|share| share.truncate(64)),
    Bent(|share| share[64] ^= 1),
    Bent(|share| share[0] = 2),
    Bent(|share| share[1..].fill(0)),
    Bent(|share| share.truncate(1)),
];

#[test]
fn a_key_share_that_is_no_point_is_refused() {
    let w = World::new();
    for bent in &BENT {
        let mut provider = CryptoProvider::clone(&Stack::National.provider());
        provider.kx_groups = vec![bent];
        let ended = shake(&w.server(National::Prefer), rebuilt(&w.teller[1], &w.trust, provider));
        ended.assert_refused(&tls::KEY_SHARE);
        ended.assert_alert(AlertDescription::IllegalParameter);
    }
}

#[test]
fn half_an_offer_is_refused_as_such() {
    let w = World::new();
    let national = CryptoProvider::clone(&Stack::National.provider());
    let ordinary = CryptoProvider::clone(&Stack::International.provider());
    let other_group = CryptoProvider { kx_groups: ordinary.kx_groups.clone(), ..national.clone() };
    let algorithms = ordinary.signature_verification_algorithms;
    let other_scheme =
        CryptoProvider { signature_verification_algorithms: algorithms, ..national.clone() };
    for provider in [other_group, other_scheme] {
        for server in [National::Only, National::Prefer, National::Allow] {
            let config = rebuilt(&w.teller[1], &w.trust, provider.clone());
            let ended = shake(&w.server(server), config);
            ended.assert_refused(&tls::MIXED);
            ended.assert_alert(AlertDescription::HandshakeFailure);
        }
    }
    // All suites, but the rest is national: so is the call, whatever is preferred.
    let mut provider = CryptoProvider::clone(&national);
    provider.cipher_suites.extend_from_slice(&ordinary.cipher_suites);
    for server in [National::Only, National::Prefer, National::Allow] {
        let config = rebuilt(&w.teller[1], &w.trust, provider.clone());
        let ended = shake(&w.server(server), config);
        assert_eq!(ended.assert_good().stack, Stack::National);
    }
    // All suites and groups, but no scheme that the ordinary key can sign by.
    provider.kx_groups.extend_from_slice(&ordinary.kx_groups);
    let rsa = algorithms
        .mapping
        .iter()
        .filter(|(scheme, _)| *scheme != SignatureScheme::ECDSA_NISTP256_SHA256);
    let mapping: Vec<_> =
        rsa.chain(provider.signature_verification_algorithms.mapping).copied().collect();
    provider.signature_verification_algorithms.mapping = mapping.leak();
    let ended = shake(&w.server(National::Allow), rebuilt(&w.teller[1], &w.trust, provider));
    assert_eq!(ended.assert_good().stack, Stack::National);
    // With an international suite beside it, the call is international.
    let mut provider = ordinary;
    provider.cipher_suites.insert(0, national.cipher_suites[0]);
    let ended = shake(&w.server(National::Prefer), rebuilt(&w.teller[0], &w.trust, provider));
    assert_eq!(ended.assert_good().stack, Stack::International);
}

/// A server with the suites and groups of `provider` that puts own certificate and wanted
/// certificate together at will.
pub(super) fn rogue_server(
    w: &World,
    provider: CryptoProvider,
    own: Stack,
    wanted: Stack,
) -> ServerConfig {
    let CryptoProvider { cipher_suites, kx_groups, .. } = provider;
    let provider =
        CryptoProvider { cipher_suites, kx_groups, ..CryptoProvider::clone(&own.provider()) };
    let asking = CryptoProvider::clone(&wanted.provider());
    let both = [&w.gateway[0], &w.gateway[1]];
    let identity = both[usize::from(own == Stack::National)];
    let roots = material(identity, &w.trust).roots(wanted).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), asking.into());
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider.into())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain(identity), key)
        .unwrap();
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    config
}

/// A provider that puts suites and groups together at will.
fn of_two(suite: Stack, group: Stack) -> CryptoProvider {
    let kx_groups = group.provider().kx_groups.clone();
    CryptoProvider { kx_groups, ..CryptoProvider::clone(&suite.provider()) }
}

#[test]
fn a_service_that_mixes_the_stacks_in_any_way_is_refused() {
    let w = World::new();
    let stack = |bit: u8| if bit == 0 { Stack::International } else { Stack::National };
    for preference in [National::Prefer, National::Allow] {
        let client: Client = w.client(preference);
        for bits in 0..16_u8 {
            let [suite, group, own, wanted] = [0, 1, 2, 3].map(|n| stack(bits >> n & 1));
            let config = rogue_server(&w, of_two(suite, group), own, wanted);
            let attempt = client.attempt();
            let connection = new_client(Arc::clone(&attempt.config));
            let server = ServerConnection::new(Arc::new(config)).unwrap();
            let ended = finish(connection, server, &|error| {
                panic!("rustls itself does not object: {error}")
            });
            assert_eq!(ended.client_error, None);
            let verdict = attempt.finish(&ended.client);
            match bits {
                0 | 15 => assert_eq!(verdict.unwrap().stack, suite),
                _ => assert_eq!(verdict, Err(&upstream::MIXED), "{bits:04b}"),
            }
        }
    }
}

#[test]
fn a_client_with_one_identity_takes_nothing_of_the_other_stack() {
    let w = World::new();
    for (kind, own) in [Stack::International, Stack::National].into_iter().enumerate() {
        let other = [Stack::National, Stack::International][kind];
        let config = rogue_server(&w, of_two(own, own), other, own);
        let client = client_config(material(&w.teller[kind], &w.trust), GATEWAY);
        let server = ServerConnection::new(Arc::new(config)).unwrap();
        let ended = finish(new_client(client), server, &|_| "refused");
        assert!(ended.client_error.is_some() || ended.refused.is_some());
        assert!(ended.client.is_handshaking());
    }
    let expired = LeafRequest::spiffe(GATEWAY, now_s() - 366 * 86_400);
    let expired = w.sm2.issue(&expired).unwrap();
    let ended =
        super::shake_one(material(&expired, &w.trust), material(&w.teller[1], &w.trust), GATEWAY);
    assert!(matches!(ended.client_error, Some(rustls::Error::InvalidCertificate(_))));
}
