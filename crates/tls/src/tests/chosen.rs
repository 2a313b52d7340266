//! Which of two identities a service is shown, and what its first hello offers.

use std::sync::Arc;

use moat_model::code::upstream;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    AlertDescription, ClientConnection, DigitallySignedStruct, DistinguishedName, HandshakeKind,
    NamedGroup, ServerConfig, ServerConnection, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use super::wire::{Ended, finish, new_client};
use super::{GATEWAY, World, client_config, material};
use crate::client::{Attempt, PREFERRED_EVERY};
use crate::der::issuer;
use crate::{ALPN_H2, Client, National, Stack};

const STACKS: [Stack; 2] = [Stack::International, Stack::National];

/// Asks for certificates of both kinds, and takes any.
#[derive(Debug)]
struct Both(Vec<DistinguishedName>);

impl Both {
    fn algorithms() -> [WebPkiSupportedAlgorithms; 2] {
        STACKS.map(|stack| stack.provider().signature_verification_algorithms)
    }
}

impl ClientCertVerifier for Both {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.0
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
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
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let stack = Stack::of_certificate(cert)?;
        let algorithms = stack.provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Both::algorithms().iter().flat_map(WebPkiSupportedAlgorithms::supported_schemes).collect()
    }
}

/// A service wholly of one stack, but for the certificates that it asks for.
fn service(w: &World, stack: Stack, hints: Vec<DistinguishedName>) -> Arc<ServerConfig> {
    service_with(w, stack, stack.provider(), hints)
}

/// The same with another provider below it.
fn service_with(
    w: &World,
    stack: Stack,
    provider: Arc<CryptoProvider>,
    hints: Vec<DistinguishedName>,
) -> Arc<ServerConfig> {
    let identity = &w.gateway[usize::from(stack == Stack::National)];
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(identity.chain_pem.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(Arc::new(Both(hints)))
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    Arc::new(config)
}

fn call(attempt: &Attempt, service: &Arc<ServerConfig>) -> Ended {
    let server = ServerConnection::new(Arc::clone(service)).unwrap();
    finish(new_client(Arc::clone(&attempt.config)), server, &|error| panic!("{error}"))
}

/// The name of the root, or of the authority below it.
fn name(w: &World, stack: Stack, is_root: bool) -> DistinguishedName {
    let identity = &w.teller[usize::from(stack == Stack::National)];
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(identity.chain_pem.as_bytes()).map(Result::unwrap).collect();
    let der = issuer(&chain[usize::from(is_root)]).unwrap();
    DistinguishedName::from(der.to_vec())
}

#[test]
fn a_service_that_asks_for_both_kinds_is_called_again_with_its_own_stack() {
    let w = World::new();
    for (national, wrong) in
        [(National::Prefer, Stack::International), (National::Allow, Stack::National)]
    {
        let client = w.client(national);
        let service = service(&w, wrong, Vec::new());
        let first = client.attempt();
        let ended = call(&first, &service);
        assert_eq!(first.finish(&ended.client), Err(&upstream::MIXED));
        let second = first.again(&ended.client).unwrap();
        let ended = call(&second, &service);
        assert_eq!(second.finish(&ended.client).unwrap().stack, wrong);
        assert_eq!(ended.client.handshake_kind(), Some(HandshakeKind::Full));
        assert!(second.again(&ended.client).is_none());
        // The next call knows.
        let third = client.attempt();
        let ended = call(&third, &service);
        assert_eq!(third.finish(&ended.client).unwrap().stack, wrong);
        // And finds out when the service has changed.
        let other = STACKS[usize::from(wrong == Stack::International)];
        let service = self::service(&w, other, Vec::new());
        let fourth = client.attempt();
        let ended = call(&fourth, &service);
        let verdict = fourth.finish(&ended.client);
        let again = fourth.again(&ended.client);
        assert_eq!((verdict, again.is_some()), (Err(&upstream::MIXED), true));
    }
}

#[test]
fn an_unfinished_handshake_is_neither_taken_nor_blamed_on_the_service() {
    let w = World::new();
    for own in STACKS {
        let mut config = ServerConfig::clone(&service(&w, own, vec![name(&w, own, true)]));
        // Its messages come in several records each.
        config.max_fragment_size = Some(64);
        let mut server = ServerConnection::new(Arc::new(config)).unwrap();
        let attempt = w.client(National::Prefer).attempt();
        let mut client = new_client(Arc::clone(&attempt.config));
        let mut wire = Vec::new();
        while client.is_handshaking() {
            assert_eq!(attempt.finish(&client), Err(&upstream::HANDSHAKE));
            assert!(attempt.again(&client).is_none());
            if wire.is_empty() {
                move_bytes(&mut client, &mut server, &mut wire);
            }
            let first: Vec<u8> = wire.drain(..1).collect();
            client.read_tls(&mut first.as_slice()).unwrap();
            client.process_new_packets().unwrap();
        }
        assert_eq!(attempt.finish(&client).unwrap().stack, own);
    }
}

/// What the client has to say goes to the server, and its answer to `wire`.
fn move_bytes(client: &mut ClientConnection, server: &mut ServerConnection, wire: &mut Vec<u8>) {
    let mut out = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut out).unwrap();
    }
    let mut rest = out.as_slice();
    while !rest.is_empty() {
        server.read_tls(&mut rest).unwrap();
        server.process_new_packets().unwrap();
    }
    while server.wants_write() {
        server.write_tls(wire).unwrap();
    }
}

#[test]
fn a_service_that_names_its_authorities_is_shown_theirs_at_once() {
    let w = World::new();
    for national in [National::Prefer, National::Allow] {
        for stack in STACKS {
            for is_root in [true, false] {
                let stranger = DistinguishedName::from(vec![0x30, 0]);
                let hints = vec![stranger, name(&w, stack, is_root)];
                let attempt = w.client(national).attempt();
                let ended = call(&attempt, &service(&w, stack, hints));
                assert_eq!(attempt.finish(&ended.client).unwrap().stack, stack);
            }
        }
        // Names of nobody we know say nothing.
        let hints = vec![DistinguishedName::from(vec![0x30, 0])];
        let preferred = STACKS[usize::from(national == National::Prefer)];
        let attempt = w.client(national).attempt();
        let ended = call(&attempt, &service(&w, preferred, hints));
        assert!(attempt.finish(&ended.client).is_ok());
    }
}

#[test]
fn only_stays_strict_and_a_mixture_is_not_tried_again() {
    let w = World::new();
    // A service of the other stack would be talked to by a client that offers both.
    for (national, other) in
        [(National::Only, Stack::International), (National::Off, Stack::National)]
    {
        let attempt = w.client(national).attempt();
        assert_eq!(
            Hello::of(&attempt).stacks(),
            [STACKS[usize::from(other == Stack::International)]]
        );
        let server = ServerConnection::new(service(&w, other, Vec::new())).unwrap();
        let ended = finish(new_client(Arc::clone(&attempt.config)), server, &|_| "refused");
        let alert = rustls::Error::AlertReceived(AlertDescription::HandshakeFailure);
        assert_eq!((ended.refused, ended.client_error), (Some("refused"), Some(alert)));
        assert!(attempt.again(&ended.client).is_none());
    }

    // Suite of one stack, group of the other.
    let mixed = CryptoProvider {
        kx_groups: Stack::International.provider().kx_groups.clone(),
        ..CryptoProvider::clone(&Stack::National.provider())
    };
    let config = service_with(&w, Stack::National, Arc::new(mixed), Vec::new());
    let attempt = w.client(National::Prefer).attempt();
    let ended = call(&attempt, &config);
    assert_eq!(attempt.finish(&ended.client), Err(&upstream::MIXED));
    assert!(attempt.again(&ended.client).is_none());
}

#[test]
fn an_identity_without_authorities_is_told_and_a_broken_trust_file_refused() {
    let w = World::new();
    let new = |trust: &str| {
        let both = w.teller.each_ref().map(|identity| material(identity, trust));
        Client::new(&both, GATEWAY.parse().unwrap(), &[ALPN_H2], National::Prefer)
    };
    assert_eq!(new(&w.trust).unwrap().left_out(), None);
    assert_eq!(new(w.p256.trust_pem()).unwrap().left_out(), Some(Stack::National));
    assert_eq!(new(w.sm2.trust_pem()).unwrap().left_out(), Some(Stack::International));
    let broken = "-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----\n";
    let trust = format!("{}{broken}", w.p256.trust_pem());
    assert_eq!(new(&trust).unwrap_err().code, &moat_model::code::tls::NO_TRUST);
}

/// What a first hello offers: suites, and extensions 10 and 51 (RFC 8446 §4.1.2, §4.2.7, §4.2.8).
#[derive(Debug, Default, PartialEq, Eq)]
struct Hello {
    suites: Vec<u16>,
    groups: Vec<u16>,
    shares: Vec<u16>,
}

impl Hello {
    fn of(attempt: &Attempt) -> Hello {
        Hello::read(&super::wire::hello(Arc::clone(&attempt.config)))
    }

    fn read(hello: &[u8]) -> Hello {
        let u16_at = |at: usize| u16::from_be_bytes([hello[at], hello[at + 1]]);
        // Record 5, message 4, version 2, random 32, session id, suites, compression.
        let mut at = 5 + 4 + 2 + 32;
        at += 1 + usize::from(hello[at]);
        let end = at + 2 + usize::from(u16_at(at));
        let suites = (at + 2..end).step_by(2).map(u16_at).collect();
        let mut seen = Hello { suites, ..Hello::default() };
        at = end + 1 + usize::from(hello[end]) + 2;
        while at < hello.len() {
            let (kind, length) = (u16_at(at), usize::from(u16_at(at + 2)));
            let (begin, end) = (at + 4 + 2, at + 4 + length);
            match kind {
                10 => seen.groups = (begin..end).step_by(2).map(u16_at).collect(),
                51 => {
                    let mut share = begin;
                    while share < end {
                        seen.shares.push(u16_at(share));
                        share += 4 + usize::from(u16_at(share + 2));
                    }
                }
                _ => {}
            }
            at = end;
        }
        seen
    }

    /// The stacks on offer, in order; suites and groups must agree.
    fn stacks(&self) -> Vec<Stack> {
        let of = |is_national| STACKS[usize::from(is_national)];
        // 0x00ff is no suite but a signal (RFC 5746 §3.3).
        let suites = self.suites.iter().filter(|suite| **suite != 0x00ff);
        let mut suites: Vec<_> = suites.map(|suite| of([0xc6, 0xc7].contains(suite))).collect();
        let mut groups: Vec<_> = self.groups.iter().map(|group| of(*group == 41)).collect();
        suites.dedup();
        groups.dedup();
        assert_eq!(suites, groups, "{self:?}");
        suites
    }
}

#[test]
fn a_dual_client_sends_the_share_that_the_service_took_last() {
    let w = World::new();
    let shares = |stack| match stack {
        Stack::National => vec![41],
        Stack::International => vec![0x11ec, 0x001d],
    };
    for (national, preferred, other, server) in [
        (National::Prefer, STACKS[1], STACKS[0], w.server(National::Off)),
        (National::Allow, STACKS[0], STACKS[1], w.server(National::Only)),
    ] {
        let client = w.client(national);
        let call = |server| {
            let attempt = client.attempt();
            let hello = Hello::of(&attempt);
            let ended = super::shake(server, Arc::clone(&attempt.config));
            let stack = attempt.finish(&ended.client).unwrap().stack;
            (hello, stack, ended.client.handshake_kind().unwrap())
        };
        let (hello, stack, kind) = call(&server);
        assert_eq!(hello.stacks(), [preferred, other]);
        assert_eq!(hello.shares, shares(preferred));
        assert_eq!((stack, kind), (other, HandshakeKind::FullWithHelloRetryRequest));
        // From now on the service finds its share at once, and may still choose.
        for _ in 1..PREFERRED_EVERY {
            let (hello, stack, kind) = call(&server);
            assert_eq!(hello.stacks(), [other, preferred]);
            assert_eq!(hello.shares, shares(other));
            assert_eq!((stack, kind), (other, HandshakeKind::Full));
        }
        // Once in a while the preferred stack comes first all the same.
        let (hello, stack, _) = call(&server);
        assert_eq!((hello.stacks(), stack), (vec![preferred, other], other));
        // A service of both decides by its own preference, and that is what comes first then.
        let both = w.server(national);
        assert_eq!(call(&both).1, preferred);
        let (hello, stack, kind) = call(&both);
        assert_eq!((hello.shares, stack), (shares(preferred), preferred));
        assert_eq!(kind, HandshakeKind::Full);
    }
}

#[test]
fn the_post_quantum_group_comes_first_and_x25519_beside_it() {
    let w = World::new();
    let config = client_config(material(&w.teller[0], &w.trust), GATEWAY);
    let Hello { groups, shares, .. } = Hello::read(&super::wire::hello(Arc::clone(&config)));
    let (hybrid, x25519) = (0x11ec, 0x001d);
    assert_eq!(groups, [hybrid, x25519, 0x0017, 0x0018]);
    assert_eq!(shares, [hybrid, x25519]);
    let ended = super::shake(&w.server(National::Prefer), config);
    assert_eq!(ended.assert_good().group, "X25519MLKEM768");

    // A service that has X25519 alone takes the second share, and need not ask again.
    let mut provider = CryptoProvider::clone(&Stack::International.provider());
    provider.kx_groups.retain(|group| group.name() == NamedGroup::X25519);
    let caller = super::mixed::rebuilt(&w.teller[0], &w.trust, provider.clone());
    let ended = super::shake(&w.server(National::Prefer), caller);
    // So does our listener with a caller that has nothing else.
    assert_eq!(ended.assert_good().group, "X25519");
    assert_eq!(ended.client.handshake_kind(), Some(HandshakeKind::Full));
    let config = service_with(&w, Stack::International, Arc::new(provider), Vec::new());
    let attempt = w.client(National::Off).attempt();
    let ended = call(&attempt, &config);
    assert_eq!(attempt.finish(&ended.client).unwrap().group, "X25519");
    assert_eq!(ended.client.handshake_kind(), Some(HandshakeKind::Full));
}
