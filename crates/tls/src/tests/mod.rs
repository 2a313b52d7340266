mod chosen;
mod cut;
mod der;
mod mixed;
mod national;
mod ocsp;
mod order;
mod paths;
mod revoked;
mod sct;
mod wire;

use std::sync::Arc;

use moat_ca::{Authority, Identity, LeafRequest};
use moat_model::code::tls;
use rustls::ClientConfig;

use crate::{ALPN_H2, Client, Material, National, Server, Trust};
use wire::{Ended, shake};

const GATEWAY: &str = "spiffe://bank.test/gateway";
const TELLER: &str = "spiffe://bank.test/teller";

fn now_s() -> i64 {
    use moat_model::Clock;
    i64::try_from(moat_model::clock::System::new().wall_ns() / 1_000_000_000).unwrap()
}

fn issue(authority: &Authority, id: &str) -> Identity {
    authority.issue(&LeafRequest::spiffe(id, now_s())).unwrap()
}

/// An identity with the authorities it trusts.
fn material<'a>(identity: &'a Identity, trust: &'a str) -> Material<'a> {
    Material {
        chain_pem: identity.chain_pem.as_bytes(),
        key_pem: identity.key_pem.as_bytes(),
        password: None,
        staple: None,
        trust: Trust::in_authorities(trust.as_bytes()),
    }
}

/// An authority of each kind, and what each has issued.
struct World {
    trust: String,
    p256: Authority,
    sm2: Authority,
    gateway: [Identity; 2],
    teller: [Identity; 2],
}

impl World {
    fn new() -> World {
        let p256 = Authority::create("Test", now_s()).unwrap();
        let sm2 = Authority::create_sm2("Test", now_s()).unwrap();
        let both = |id| [issue(&p256, id), issue(&sm2, id)];
        World {
            trust: format!("{}{}", p256.trust_pem(), sm2.trust_pem()),
            gateway: both(GATEWAY),
            teller: both(TELLER),
            p256,
            sm2,
        }
    }

    fn server(&self, national: National) -> Server {
        let both = self.gateway.each_ref().map(|identity| material(identity, &self.trust));
        Server::new(&both, national).unwrap()
    }

    fn client(&self, national: National) -> Client {
        let both = self.teller.each_ref().map(|identity| material(identity, &self.trust));
        Client::new(&both, GATEWAY.parse().unwrap(), &[ALPN_H2], national).unwrap()
    }
}

fn client_config(material: Material<'_>, expected: &str) -> Arc<ClientConfig> {
    let client =
        Client::new(&[material], expected.parse().unwrap(), &[ALPN_H2], National::Prefer).unwrap();
    client.attempt().config
}

fn shake_one(server: Material<'_>, client: Material<'_>, expected: &str) -> Ended {
    let server = Server::new(&[server], National::Prefer).unwrap();
    shake(&server, client_config(client, expected))
}

#[test]
fn both_sides_prove_themselves() {
    let w = World::new();
    for kind in 0..2 {
        let ended = shake_one(
            material(&w.gateway[kind], &w.trust),
            material(&w.teller[kind], &w.trust),
            GATEWAY,
        );
        ended.assert_good();
    }
}

#[test]
fn a_server_with_another_id_is_refused() {
    let w = World::new();
    for (authority, teller) in [(&w.p256, &w.teller[0]), (&w.sm2, &w.teller[1])] {
        let other = issue(authority, "spiffe://bank.test/other");
        let ended = shake_one(material(&other, &w.trust), material(teller, &w.trust), GATEWAY);
        let seen = ended.client_error;
        assert!(matches!(seen, Some(rustls::Error::InvalidCertificate(_))), "{seen:?}");
    }
}

#[test]
fn strangers_and_expired_callers_are_refused_by_name() {
    let w = World::new();
    let strangers = [
        Authority::create("Theirs", now_s()).unwrap(),
        Authority::create_sm2("Theirs", now_s()).unwrap(),
    ];
    for (kind, ours) in [&w.p256, &w.sm2].into_iter().enumerate() {
        let stranger = issue(&strangers[kind], TELLER);
        let gateway = || material(&w.gateway[kind], &w.trust);
        let ended = shake_one(gateway(), material(&stranger, &w.trust), GATEWAY);
        ended.assert_refused(&tls::UNKNOWN_ISSUER);

        let mut request = LeafRequest::spiffe(TELLER, now_s() - 86_400);
        request.valid_s = 3_600;
        let expired = ours.issue(&request).unwrap();
        let ended = shake_one(gateway(), material(&expired, &w.trust), GATEWAY);
        ended.assert_refused(&tls::EXPIRED);
    }
}

#[test]
fn files_that_cannot_work_are_refused_before_they_are_used() {
    let w = World::new();
    let refused = |material: Material<'_>| {
        let client = Client::new(&[material], GATEWAY.parse().unwrap(), &[], National::Prefer);
        client.unwrap_err().code.id
    };
    for kind in 0..2 {
        let whole = || material(&w.gateway[kind], &w.trust);
        let mixed = Material { key_pem: w.teller[kind].key_pem.as_bytes(), ..whole() };
        let code = Server::new(&[mixed], National::Prefer).unwrap_err().code;
        assert_eq!(code, &tls::OWN_KEY);
        let other = Material { key_pem: w.gateway[1 - kind].key_pem.as_bytes(), ..whole() };
        assert_eq!(refused(other), tls::OWN_KEY.id);
        assert_eq!(
            refused(Material { trust: Trust::in_authorities(b""), ..whole() }),
            tls::NO_TRUST.id
        );
        let of_the_other = [w.sm2.trust_pem(), w.p256.trust_pem()][kind].as_bytes();
        assert_eq!(
            refused(Material { trust: Trust::in_authorities(of_the_other), ..whole() }),
            tls::NO_TRUST.id
        );
        assert_eq!(refused(Material { chain_pem: b"", ..whole() }), tls::OWN_KEY.id);
    }
}
