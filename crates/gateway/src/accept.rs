//! Stage 1: a connection is taken from a listening socket.

use std::net::SocketAddr;
use std::rc::Rc;

use moat_model::code::http::{HANDSHAKES_OF_SOURCE, TOO_MANY_CONNECTIONS};
use tokio::net::TcpStream;

use crate::doors::{self, Unfinished};
use crate::worker::{Counted, Worker};

/// A connection that counts against its listener's bound.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) remote: SocketAddr,
    pub(crate) listener: usize,
    /// Its place; given back when the connection has ended and all of it is recorded.
    pub(crate) counted: Counted,
    /// Its source's place; given back when the handshake is done, or refused and recorded.
    pub(crate) unfinished: Unfinished,
}

/// Takes a connection in, or turns it away when the listener is full or its source has too many
/// handshakes under way.
pub(crate) fn accept(
    worker: &Rc<Worker>,
    listener: usize,
    stream: TcpStream,
    remote: SocketAddr,
) -> Option<Accepted> {
    let turn_away = |code| doors::turned_away(worker, listener, remote, code);
    let Some(counted) = worker.count_connection(listener) else {
        turn_away(&TOO_MANY_CONNECTIONS);
        return None;
    };
    let most = worker.generation().shared.listeners.get(listener)?.handshakes_max;
    let Some(unfinished) = worker.doors.enter(listener, remote, most) else {
        turn_away(&HANDSHAKES_OF_SOURCE);
        return None;
    };
    // Small answers must not wait for the next one. Where this fails the connection is gone, which
    // the handshake finds out and records.
    let _ = stream.set_nodelay(true);
    Some(Accepted { stream, remote, listener, counted, unfinished })
}
