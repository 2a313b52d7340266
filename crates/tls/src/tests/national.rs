//! RFC 8998 as it should be: suites, retries, the choice between the stacks.

use std::io::{Read, Write};
use std::sync::Arc;

use moat_model::code::tls;
use moat_sm::sm2::der::{ITERATIONS_MIN, encrypt_pkcs8};
use rustls::{ClientConfig, HandshakeKind};

use super::wire::{hello, shake};
use super::{GATEWAY, TELLER, World, client_config, issue, material};
use crate::national::{SM4_CCM, SM4_GCM};
use crate::{ALPN_H2, Client, Keys, Material, National, Server, Stack, Trust};

/// A caller with the SM2 identity and one suite.
fn with_suite(w: &World, suite: rustls::CipherSuite) -> Arc<ClientConfig> {
    let config = client_config(material(&w.teller[1], &w.trust), GATEWAY);
    let mut provider = rustls::crypto::CryptoProvider::clone(config.crypto_provider());
    provider.cipher_suites.retain(|s| s.suite() == suite);
    super::mixed::rebuilt(&w.teller[1], &w.trust, provider)
}

#[test]
fn both_suites_carry_data_both_ways() {
    let w = World::new();
    for (suite, name) in [(SM4_GCM, "TLS_SM4_GCM_SM3"), (SM4_CCM, "TLS_SM4_CCM_SM3")] {
        let mut ended = shake(&w.server(National::Prefer), with_suite(&w, suite));
        let seen = ended.assert_good();
        assert_eq!((seen.suite, seen.group, seen.stack), (name, "curveSM2", Stack::National));
        let mut server = ended.server.take().unwrap();
        for length in [1, 15, 16, 17, 1_000, 16_384, 40_000] {
            let sent: Vec<u8> = (0..=u8::MAX).cycle().take(length).collect();
            ended.client.writer().write_all(&sent).unwrap();
            let mut seen = Vec::new();
            while ended.client.wants_write() {
                let mut wire = Vec::new();
                ended.client.write_tls(&mut wire).unwrap();
                let mut rest = wire.as_slice();
                while !rest.is_empty() {
                    server.read_tls(&mut rest).unwrap();
                    let state = server.process_new_packets().unwrap();
                    let mut part = vec![0; state.plaintext_bytes_to_read()];
                    server.reader().read_exact(&mut part).unwrap();
                    seen.extend(part);
                }
            }
            assert_eq!(seen, sent, "{length}");
        }
        // A changed byte of a record ends the connection.
        server.writer().write_all(b"answer").unwrap();
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        *wire.last_mut().unwrap() ^= 1;
        ended.client.read_tls(&mut wire.as_slice()).unwrap();
        assert_eq!(ended.client.process_new_packets().unwrap_err(), rustls::Error::DecryptError);
    }
}

#[test]
fn the_preferences_of_both_sides_choose_the_stack() {
    use National::{Allow, Off, Only, Prefer};
    use Stack::{International, National as Sm};
    let w = World::new();
    for (server, client, wanted) in [
        (Prefer, Prefer, Some(Sm)),
        (Prefer, Allow, Some(Sm)),
        (Prefer, Only, Some(Sm)),
        (Prefer, Off, Some(International)),
        (Allow, Prefer, Some(International)),
        (Allow, Allow, Some(International)),
        (Allow, Only, Some(Sm)),
        (Allow, Off, Some(International)),
        (Only, Prefer, Some(Sm)),
        (Only, Allow, Some(Sm)),
        (Only, Only, Some(Sm)),
        (Only, Off, None),
        (Off, Prefer, Some(International)),
        (Off, Allow, Some(International)),
        (Off, Only, None),
        (Off, Off, Some(International)),
    ] {
        let attempt = w.client(client).attempt();
        let ended = shake(&w.server(server), Arc::clone(&attempt.config));
        let Some(wanted) = wanted else {
            let code = if server == Only { &tls::NATIONAL_ONLY } else { &tls::PROTOCOL };
            ended.assert_refused(code);
            ended.assert_alert(rustls::AlertDescription::HandshakeFailure);
            continue;
        };
        let seen = ended.assert_good();
        assert_eq!(seen.stack, wanted, "{server:?} {client:?}");
        assert_eq!(attempt.finish(&ended.client), Ok(seen));
        // Whoever's first share is of the other stack is asked again, in either direction.
        let first = if matches!(client, Prefer | Only) { Sm } else { International };
        let kind = if first == wanted {
            HandshakeKind::Full
        } else {
            HandshakeKind::FullWithHelloRetryRequest
        };
        assert_eq!(ended.client.handshake_kind(), Some(kind), "{server:?} {client:?}");
    }
}

#[test]
fn keys_come_as_pkcs8_and_as_sec1_under_each_label() {
    let w = World::new();
    let der = moat_sm::pem::decode(moat_sm::pem::PRIVATE_KEY, &w.gateway[1].key_pem).unwrap();
    let key = moat_sm::sm2::SecretKey::from_pkcs8_der(&der).unwrap();
    for label in [moat_sm::pem::EC_PRIVATE_KEY, moat_sm::pem::SM2_PRIVATE_KEY] {
        let pem = moat_sm::pem::encode(label, &*key.to_sec1_der());
        let whole = Material { key_pem: pem.as_bytes(), ..material(&w.gateway[1], &w.trust) };
        let server = Server::new(&[whole], National::Prefer).unwrap();
        shake(&server, with_suite(&w, SM4_GCM)).assert_good();
    }
}

#[test]
fn an_encrypted_key_needs_its_password() {
    let w = World::new();
    let der = moat_sm::pem::decode(moat_sm::pem::PRIVATE_KEY, &w.gateway[1].key_pem).unwrap();
    let key = moat_sm::sm2::SecretKey::from_pkcs8_der(&der).unwrap();
    let der = key.to_encrypted_pkcs8_der(b"secret", &[1; 16], &[2; 16], 1_000).unwrap();
    let pem = moat_sm::pem::encode(moat_sm::pem::ENCRYPTED_PRIVATE_KEY, &der);
    let whole = |password| {
        let key_pem = pem.as_bytes();
        let material = Material { key_pem, password, ..material(&w.gateway[1], &w.trust) };
        Server::new(&[material], National::Prefer)
    };
    shake(&whole(Some(b"secret")).unwrap(), with_suite(&w, SM4_GCM)).assert_good();
    for password in [None, Some(&b""[..]), Some(b"Secret"), Some(b"secret\n")] {
        let error = whole(password).unwrap_err();
        assert_eq!(error.code, &tls::OWN_KEY);
        assert!(!error.detail.contains("ecret"), "{error}");
    }
}

#[test]
fn a_key_of_either_kind_may_be_encrypted_by_either_scheme() {
    use crate::encrypted::open;
    use crate::encrypted::tests::{REQUEST, SM2_REQUEST, SM2_WITH_AES_256, WITH_AES_256};
    use moat_sm::pem::{ENCRYPTED_PRIVATE_KEY, decode, encode};
    let w = World::new();
    for (kind, authority, request, by_openssl) in
        [(0, &w.p256, REQUEST, WITH_AES_256), (1, &w.sm2, SM2_REQUEST, SM2_WITH_AES_256)]
    {
        let request = moat_ca::Request::read(request.as_bytes()).unwrap();
        let granted = moat_ca::LeafRequest::spiffe(GATEWAY, super::now_s());
        let chain = authority.issue_for(&request, &granted).unwrap();
        let inside = open(&decode(ENCRYPTED_PRIVATE_KEY, by_openssl).unwrap(), b"secret").unwrap();
        let sm4 = encrypt_pkcs8(&inside, b"secret", &[1; 16], &[2; 16], 1_000).unwrap();
        let by_sm4 = encode(ENCRYPTED_PRIVATE_KEY, &sm4);
        for key in [by_openssl, &by_sm4] {
            let server = |password| {
                let (chain_pem, key_pem) = (chain.as_bytes(), key.as_bytes());
                let trust = Trust::in_authorities(w.trust.as_bytes());
                let material = Material { chain_pem, key_pem, password, staple: None, trust };
                Server::new(&[material], National::Prefer)
            };
            let caller = client_config(material(&w.teller[kind], &w.trust), GATEWAY);
            shake(&server(Some(b"secret")).unwrap(), caller).assert_good();
            for password in [None, Some(&b""[..]), Some(b"Secret")] {
                let error = server(password).unwrap_err();
                assert_eq!(error.code, &tls::OWN_KEY);
                assert!(!error.detail.contains("ecret"), "{error}");
            }
        }
    }
}

#[test]
fn an_identity_in_several_places_is_decrypted_once() {
    let w = World::new();
    let der = moat_sm::pem::decode(moat_sm::pem::PRIVATE_KEY, &w.gateway[1].key_pem).unwrap();
    let der = encrypt_pkcs8(&der, b"secret", &[1; 16], &[2; 16], ITERATIONS_MIN).unwrap();
    let pem = moat_sm::pem::encode(moat_sm::pem::ENCRYPTED_PRIVATE_KEY, &der);
    let whole = |password| Material {
        key_pem: pem.as_bytes(),
        password,
        ..material(&w.gateway[1], &w.trust)
    };
    let own = [whole(Some(&b"secret"[..]))];
    let mut keys = Keys::default();
    Server::with_keys(&own, National::Prefer, &mut keys).unwrap();
    for name in ["a", "b", "c", "d", "e"] {
        let expected = format!("spiffe://bank.test/{name}").parse().unwrap();
        Client::with_keys(&own, expected, &[ALPN_H2], National::Prefer, &mut keys).unwrap();
    }
    assert_eq!(keys.count(), 1);
    // With another password it is another identity, and not opened by what was known before.
    for password in [None, Some(&b"Secret"[..])] {
        let other = [whole(password)];
        let error = Server::with_keys(&other, National::Prefer, &mut keys).unwrap_err();
        assert_eq!(error.code, &tls::OWN_KEY);
    }
}

#[test]
fn identities_that_do_not_fit_are_refused() {
    let w = World::new();
    let of = |kind: usize| material(&w.gateway[kind], &w.trust);
    let cases = [
        (vec![of(0), of(0)], National::Prefer),
        (vec![of(1), of(1)], National::Prefer),
        (vec![of(0), of(1), of(1)], National::Off),
        (vec![], National::Prefer),
        (vec![of(0)], National::Only),
        (vec![of(1)], National::Off),
    ];
    for (identities, national) in cases {
        let code = Server::new(&identities, national).unwrap_err().code;
        assert_eq!(code, &tls::IDENTITIES, "{national:?}");
        let expected = GATEWAY.parse().unwrap();
        let code = Client::new(&identities, expected, &[ALPN_H2], national).unwrap_err().code;
        assert_eq!(code, &tls::IDENTITIES, "{national:?}");
    }
}

#[test]
fn a_client_offers_the_stacks_it_can_verify() {
    let w = World::new();
    let both = |trust| w.teller.each_ref().map(|identity| material(identity, trust));
    for (trust, wanted) in
        [(w.p256.trust_pem(), Stack::International), (w.sm2.trust_pem(), Stack::National)]
    {
        let expected = GATEWAY.parse().unwrap();
        let client = Client::new(&both(trust), expected, &[ALPN_H2], National::Prefer).unwrap();
        let attempt = client.attempt();
        let ended = shake(&w.server(National::Prefer), Arc::clone(&attempt.config));
        assert_eq!(ended.assert_good().stack, wanted);
        assert!(attempt.finish(&ended.client).is_ok());
    }
    let client = Client::new(&both(""), GATEWAY.parse().unwrap(), &[], National::Prefer);
    assert_eq!(client.unwrap_err().code, &tls::NO_TRUST);
    let client =
        Client::new(&both(w.p256.trust_pem()), GATEWAY.parse().unwrap(), &[], National::Only);
    assert_eq!(client.unwrap_err().code, &tls::NO_TRUST);
}

#[test]
fn a_listener_names_only_authorities_of_its_stack() {
    let w = World::new();
    let server = w.server(National::Prefer);
    let single = Server::new(&[material(&w.gateway[1], w.sm2.trust_pem())], National::Only);
    for server in [server, single.unwrap()] {
        shake(&server, with_suite(&w, SM4_GCM)).assert_good();
    }
}

#[test]
fn a_chain_of_the_other_stack_is_no_way_in() {
    let w = World::new();
    // An SM2 caller at an international listener, and the reverse, by the ordinary client.
    for kind in 0..2 {
        let server = Server::new(&[material(&w.gateway[kind], &w.trust)], National::Prefer);
        let caller = issue([&w.sm2, &w.p256][kind], TELLER);
        let ended = shake(&server.unwrap(), client_config(material(&caller, &w.trust), GATEWAY));
        ended.assert_refused([&tls::PROTOCOL, &tls::NATIONAL_ONLY][kind]);
    }
}

#[test]
fn a_truncated_or_changed_hello_is_refused_and_never_a_panic() {
    let w = World::new();
    let server = w.server(National::Prefer);
    let whole = hello(w.client(National::Prefer).attempt().config);
    let take = |bytes: &[u8]| {
        let mut acceptor = rustls::server::Acceptor::default();
        let mut rest = bytes;
        while !rest.is_empty() && acceptor.read_tls(&mut rest).is_ok_and(|n| n > 0) {}
        acceptor.accept().ok().flatten().map(|accepted| {
            let choice = server.choose(&accepted.client_hello()).unwrap();
            accepted.into_connection(choice.config).is_ok()
        })
    };
    assert_eq!(take(&whole), Some(true));
    for length in 0..whole.len() {
        assert_eq!(take(&whole[..length]), None, "{length}");
    }
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0x41;
        let _ = take(&changed);
    }
}
