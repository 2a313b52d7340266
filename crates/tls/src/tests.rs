use std::io;
use std::sync::Arc;

use moat_ca::{Authority, Identity, LeafRequest};
use moat_model::code::tls;
use rustls::{ClientConnection, ServerConnection};
use rustls_pki_types::ServerName;

use crate::{ALPN_H2, Material, client_config, code_of, server_config};

fn now_s() -> i64 {
    use moat_model::Clock;
    i64::try_from(moat_model::clock::System::new().wall_ns() / 1_000_000_000).unwrap()
}

fn issue(authority: &Authority, id: &str) -> Identity {
    authority.issue(&LeafRequest::spiffe(id, now_s())).unwrap()
}

fn material<'a>(identity: &'a Identity, trust: &'a Authority) -> Material<'a> {
    Material {
        chain_pem: identity.chain_pem.as_bytes(),
        key_pem: identity.key_pem.as_bytes(),
        trust_pem: trust.trust_pem().as_bytes(),
    }
}

/// Runs a handshake in memory; the result is each side's error, if any.
fn shake(
    server: &Material<'_>,
    client: &Material<'_>,
    expected: &str,
) -> [Option<rustls::Error>; 2] {
    let server = server_config(server).unwrap();
    let client = client_config(client, expected.parse().unwrap(), &[ALPN_H2]).unwrap();
    let name = ServerName::try_from("moat.test").unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    let mut client = ClientConnection::new(Arc::clone(&client), name).unwrap();
    let mut errors = [None, None];
    for _ in 0..4 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        if server.read_tls(&mut wire.as_slice()).is_ok()
            && let Err(error) = server.process_new_packets()
        {
            errors[0].get_or_insert(error);
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        if client.read_tls(&mut wire.as_slice()).is_ok()
            && let Err(error) = client.process_new_packets()
        {
            errors[1].get_or_insert(error);
        }
    }
    if errors == [None, None] {
        assert!(!server.is_handshaking() && !client.is_handshaking());
        assert_eq!(server.alpn_protocol(), Some(ALPN_H2));
    }
    errors
}

fn code(error: &rustls::Error) -> &'static str {
    code_of(&io::Error::other(error.clone())).id
}

#[test]
fn both_sides_prove_themselves() {
    let authority = Authority::create("Test", now_s()).unwrap();
    let server = issue(&authority, "spiffe://bank.test/gateway");
    let client = issue(&authority, "spiffe://bank.test/teller");
    let errors = shake(
        &material(&server, &authority),
        &material(&client, &authority),
        "spiffe://bank.test/gateway",
    );
    assert_eq!(errors, [None, None]);
}

#[test]
fn a_server_with_another_id_is_refused() {
    let authority = Authority::create("Test", now_s()).unwrap();
    let server = issue(&authority, "spiffe://bank.test/other");
    let client = issue(&authority, "spiffe://bank.test/teller");
    let [_, seen] = shake(
        &material(&server, &authority),
        &material(&client, &authority),
        "spiffe://bank.test/gateway",
    );
    assert!(matches!(seen, Some(rustls::Error::InvalidCertificate(_))), "{seen:?}");
}

#[test]
fn strangers_and_expired_callers_are_refused_by_name() {
    let ours = Authority::create("Ours", now_s()).unwrap();
    let theirs = Authority::create("Theirs", now_s()).unwrap();
    let server = issue(&ours, "spiffe://bank.test/gateway");
    let stranger = issue(&theirs, "spiffe://bank.test/teller");
    let [seen, _] =
        shake(&material(&server, &ours), &material(&stranger, &ours), "spiffe://bank.test/gateway");
    assert_eq!(code(&seen.unwrap()), tls::UNKNOWN_ISSUER.id);

    let mut request = LeafRequest::spiffe("spiffe://bank.test/teller", now_s() - 86_400);
    request.valid_s = 3_600;
    let expired = ours.issue(&request).unwrap();
    let [seen, _] =
        shake(&material(&server, &ours), &material(&expired, &ours), "spiffe://bank.test/gateway");
    assert_eq!(code(&seen.unwrap()), tls::EXPIRED.id);
}

#[test]
fn files_that_cannot_work_are_refused_before_they_are_used() {
    let authority = Authority::create("Test", now_s()).unwrap();
    let one = issue(&authority, "spiffe://bank.test/one");
    let two = issue(&authority, "spiffe://bank.test/two");
    let mixed = Material { key_pem: two.key_pem.as_bytes(), ..material(&one, &authority) };
    assert_eq!(server_config(&mixed).unwrap_err().code, &tls::OWN_KEY);
    let nobody = Material { trust_pem: b"", ..material(&one, &authority) };
    assert_eq!(server_config(&nobody).unwrap_err().code, &tls::NO_TRUST);
    let no_chain = Material { chain_pem: b"", ..material(&one, &authority) };
    assert_eq!(server_config(&no_chain).unwrap_err().code, &tls::OWN_KEY);
}
