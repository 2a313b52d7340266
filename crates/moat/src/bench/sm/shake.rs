//! Mutual handshakes in memory, both sides of them ours, as the gateway makes them.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use moat_ca::{Authority, LeafRequest};
use moat_tls::{ALPN_HTTP1, Client, Material, National, Negotiated, Server, Stack, Trust};
use rustls::server::Acceptor;
use rustls::{ClientConnection, HandshakeKind};
use rustls_pki_types::ServerName;

const GATEWAY: &str = "spiffe://bench.test/gateway";
const TELLER: &str = "spiffe://bench.test/teller";
/// Flights each way, of which a handshake with HelloRetryRequest has five.
const FLIGHTS_MAX: usize = 8;

/// Suite and group that each stack must come to: what the gateway does by default.
fn usual(stack: Stack) -> (&'static str, &'static str) {
    match stack {
        Stack::National => ("TLS_SM4_GCM_SM3", "curveSM2"),
        Stack::International => ("TLS13_AES_256_GCM_SHA384", "X25519MLKEM768"),
    }
}

/// A server and a client of one stack. Chains: root, issuing authority, leaf.
pub(crate) struct Sides {
    server: Server,
    client: Client,
    stack: Stack,
}

impl Sides {
    /// Makes the certificates and writes them where the peers read them.
    pub(crate) fn make(stack: Stack, pki: &Path, now_s: i64) -> Result<Sides> {
        let (authority, mark) = match stack {
            Stack::National => (Authority::create_sm2("Bench", now_s)?, "-sm2"),
            Stack::International => (Authority::create("Bench", now_s)?, ""),
        };
        moat_ca::save(&authority, pki)?;
        let issue = |id, name| {
            let identity = authority.issue(&LeafRequest::spiffe(id, now_s))?;
            moat_ca::write_identity(&identity, pki, &format!("{name}{mark}"))?;
            anyhow::Ok(identity)
        };
        let (gateway, teller) = (issue(GATEWAY, "gateway")?, issue(TELLER, "teller")?);
        let [gateway, teller] = [&gateway, &teller].map(|identity| Material {
            chain_pem: identity.chain_pem.as_bytes(),
            key_pem: identity.key_pem.as_bytes(),
            password: None,
            staple: None,
            trust: Trust::in_authorities(authority.trust_pem().as_bytes()),
        });
        let server = Server::new(&[gateway], National::Prefer)?;
        let expected = GATEWAY.parse().ok().context("a SPIFFE id")?;
        let client = Client::new(&[teller], expected, &[ALPN_HTTP1], National::Prefer)?;
        Ok(Sides { server, client, stack })
    }

    /// One handshake. Gives what was negotiated.
    pub(crate) fn shake(&self) -> Result<Negotiated> {
        let attempt = self.client.attempt();
        let name = ServerName::try_from("moat.test")?;
        let mut client = ClientConnection::new(Arc::clone(&attempt.config), name)?;
        let mut wire = Vec::with_capacity(8 * 1024);
        client.write_tls(&mut wire)?;
        let mut acceptor = Acceptor::default();
        acceptor.read_tls(&mut wire.as_slice())?;
        let accepted = acceptor.accept().map_err(|(error, _)| error)?;
        let accepted = accepted.context("half a ClientHello")?;
        let choice = self.server.choose(&accepted.client_hello());
        let config = choice.context("no stack is offered")?.config;
        let mut server = accepted.into_connection(config).map_err(|(error, _)| error)?;
        for _ in 0..FLIGHTS_MAX {
            wire.clear();
            while server.wants_write() {
                server.write_tls(&mut wire)?;
            }
            client.read_tls(&mut wire.as_slice())?;
            client.process_new_packets()?;
            wire.clear();
            while client.wants_write() {
                client.write_tls(&mut wire)?;
            }
            server.read_tls(&mut wire.as_slice())?;
            server.process_new_packets()?;
            if !client.is_handshaking() && !server.is_handshaking() {
                break;
            }
        }
        let seen = attempt.finish(&client).ok().context("the handshake mixes the stacks")?;
        // Also that the client has shown a certificate, and of which stack.
        let caller = Negotiated::of(&server).context("the handshake mixes the stacks")?;
        let full = Some(HandshakeKind::Full);
        let is_done = !server.is_handshaking() && server.handshake_kind() == full;
        ensure!(is_done && client.handshake_kind() == full, "the handshake is not a full one");
        ensure!(
            seen == caller
                && seen.stack == self.stack
                && (seen.suite, seen.group) == usual(seen.stack),
            "the handshake came to {} and {}",
            seen.suite,
            seen.group
        );
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use moat_tls::Stack;

    use super::{Sides, usual};

    #[test]
    fn each_stack_shakes_hands_with_itself() {
        let dir = tempfile::tempdir().unwrap();
        let now = crate::ca::now_s();
        for stack in [Stack::National, Stack::International] {
            let seen = Sides::make(stack, dir.path(), now).unwrap().shake().unwrap();
            assert_eq!((seen.stack, (seen.suite, seen.group)), (stack, usual(stack)));
        }
        assert!(dir.path().join("teller-sm2.key").exists() && dir.path().join("root.pem").exists());
    }
}
