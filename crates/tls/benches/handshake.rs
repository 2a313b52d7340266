//! Mutual handshakes in memory, national beside international: `cargo bench -p moat-tls`.
//!
//! Both sides on one core, chains of root, issuing authority and leaf, no resumption. Rounds
//! alternate between the stacks; the median counts.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a measurement")]

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use moat_ca::{Authority, LeafRequest};
use moat_tls::{ALPN_H2, Client, Material, National, Negotiated, Server, Trust};
use rustls::ClientConnection;
use rustls::server::Acceptor;
use rustls_pki_types::ServerName;

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(500);
const GATEWAY: &str = "spiffe://bank.test/gateway";

fn main() {
    // `cargo test --benches` only looks whether it runs.
    let (rounds, round) =
        if std::env::args().any(|a| a == "--bench") { (ROUNDS, ROUND) } else { (1, ROUND / 50) };
    let sides = [Authority::create, Authority::create_sm2].map(sides);
    let mut rates = [const { Vec::new() }; 2];
    for _ in 0..rounds {
        for ((server, client), rates) in sides.iter().zip(&mut rates) {
            let (begun, mut made) = (Instant::now(), 0_u32);
            while begun.elapsed() < round {
                shake(server, client);
                made += 1;
            }
            rates.push(f64::from(made) / begun.elapsed().as_secs_f64());
        }
    }
    let [international, national] = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates.get(rates.len() / 2).copied().unwrap_or_default()
    });
    let names = sides.each_ref().map(|(server, client)| {
        let seen = shake(server, client);
        format!("{}, {}", seen.suite, seen.group)
    });
    println!("{:>8.0} handshakes/s  {}", international, names[0]);
    println!("{:>8.0} handshakes/s  {}", national, names[1]);
    println!("{:>8.2} of the international rate; the goal is 0.5", national / international);
}

fn sides(create: fn(&str, i64) -> Result<Authority, moat_ca::Error>) -> (Server, Client) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let now = i64::try_from(now).unwrap();
    let authority = create("Bench", now).unwrap();
    let issue = |id| authority.issue(&LeafRequest::spiffe(id, now)).unwrap();
    let (gateway, teller) = (issue(GATEWAY), issue("spiffe://bank.test/teller"));
    let [gateway, teller] = [&gateway, &teller].map(|identity| Material {
        chain_pem: identity.chain_pem.as_bytes(),
        key_pem: identity.key_pem.as_bytes(),
        password: None,
        staple: None,
        trust: Trust::in_authorities(authority.trust_pem().as_bytes()),
    });
    let expected = GATEWAY.parse().unwrap();
    (
        Server::new(&[gateway], National::Prefer).unwrap(),
        Client::new(&[teller], expected, &[ALPN_H2], National::Prefer).unwrap(),
    )
}

/// One handshake, as the gateway makes it.
fn shake(server: &Server, client: &Client) -> Negotiated {
    let attempt = client.attempt();
    let name = ServerName::try_from("moat.test").unwrap();
    let mut client = ClientConnection::new(Arc::clone(&attempt.config), name).unwrap();
    let mut wire = Vec::with_capacity(8 * 1024);
    client.write_tls(&mut wire).unwrap();
    let mut acceptor = Acceptor::default();
    acceptor.read_tls(&mut wire.as_slice()).unwrap();
    let accepted = acceptor.accept().unwrap().unwrap();
    let choice = server.choose(&accepted.client_hello()).unwrap();
    let mut server = accepted.into_connection(choice.config).map_err(|(error, _)| error).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets().unwrap();
        wire.clear();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets().unwrap();
    }
    attempt.finish(&client).unwrap()
}
