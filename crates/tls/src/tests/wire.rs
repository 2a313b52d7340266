//! Handshakes in memory, as the gateway makes them: ClientHello, choice, the rest.

use std::io;
use std::sync::Arc;

use moat_model::Code;
use rustls::server::Acceptor;
use rustls::{AlertDescription, ClientConfig, ClientConnection, ServerConnection};
use rustls_pki_types::ServerName;

use crate::{ALPN_H2, Choice, Negotiated, Server};

/// How a handshake ended on both sides.
pub(super) struct Ended {
    pub(super) refused: Option<&'static str>,
    pub(super) client_error: Option<rustls::Error>,
    pub(super) client: ClientConnection,
    pub(super) server: Option<ServerConnection>,
}

impl Ended {
    #[track_caller]
    pub(super) fn assert_good(&self) -> Negotiated {
        assert_eq!((self.refused, &self.client_error), (None, &None));
        let server = self.server.as_ref().unwrap();
        assert!(!server.is_handshaking() && !self.client.is_handshaking());
        assert_eq!(server.alpn_protocol(), Some(ALPN_H2));
        let seen = Negotiated::of(server).unwrap();
        assert_eq!(Negotiated::of(&self.client), Some(seen));
        seen
    }

    #[track_caller]
    pub(super) fn assert_refused(&self, code: &Code) {
        assert_eq!(self.refused, Some(code.id), "{:?}", self.client_error);
    }

    #[track_caller]
    pub(super) fn assert_alert(&self, alert: AlertDescription) {
        assert_eq!(self.client_error, Some(rustls::Error::AlertReceived(alert)));
    }
}

fn written(connection: &mut ClientConnection) -> Vec<u8> {
    let mut wire = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut wire).unwrap();
    }
    wire
}

pub(super) fn new_client(config: Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(config, ServerName::try_from("moat.test").unwrap()).unwrap()
}

/// The first flight of a client.
pub(super) fn hello(config: Arc<ClientConfig>) -> Vec<u8> {
    written(&mut new_client(config))
}

/// A handshake with a server of ours.
pub(super) fn shake(server: &Server, config: Arc<ClientConfig>) -> Ended {
    let mut client = new_client(config);
    let mut acceptor = Acceptor::default();
    acceptor.read_tls(&mut written(&mut client).as_slice()).unwrap();
    let accepted = acceptor.accept().unwrap().unwrap();
    let choice = server.choose(&accepted.client_hello()).unwrap();
    match accepted.into_connection(Arc::clone(&choice.config)) {
        Ok(connection) => finish(client, connection, &|error| code(&choice, error)),
        Err((error, mut alert)) => {
            let mut wire = Vec::new();
            alert.write_all(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            let client_error = client.process_new_packets().err();
            Ended { refused: Some(code(&choice, &error)), client_error, client, server: None }
        }
    }
}

fn code(choice: &Choice, error: &rustls::Error) -> &'static str {
    choice.refusal_of(&io::Error::other(error.clone())).code.id
}

/// The rest of a handshake, with any server.
pub(super) fn finish(
    mut client: ClientConnection,
    mut server: ServerConnection,
    code: &dyn Fn(&rustls::Error) -> &'static str,
) -> Ended {
    let (mut refused, mut client_error) = (None, None);
    for _ in 0..6 {
        let wire = written(&mut client);
        let mut rest = wire.as_slice();
        while !rest.is_empty() && server.read_tls(&mut rest).is_ok() {
            if let Err(error) = server.process_new_packets() {
                refused.get_or_insert_with(|| code(&error));
                break;
            }
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() && client.read_tls(&mut rest).is_ok() {
            if let Err(error) = client.process_new_packets() {
                client_error.get_or_insert(error);
                break;
            }
        }
    }
    Ended { refused, client_error, client, server: Some(server) }
}
