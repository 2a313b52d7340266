//! Stage 1: a connection is taken from a listening socket.

use std::net::SocketAddr;
use std::rc::Rc;

use tokio::net::TcpStream;

use crate::worker::{Counted, Worker};

/// A connection that counts against its listener's bound.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) remote: SocketAddr,
    pub(crate) listener: usize,
    /// Its place; given back when the connection has ended and all of it is recorded.
    pub(crate) counted: Rc<Counted>,
}

/// Takes a connection in, or turns it away when the listener is full.
pub(crate) fn accept(
    worker: &Rc<Worker>,
    listener: usize,
    stream: TcpStream,
    remote: SocketAddr,
) -> Option<Accepted> {
    let counted = worker.count_connection(listener)?;
    // Small answers must not wait for the next one.
    stream.set_nodelay(true).ok()?;
    Some(Accepted { stream, remote, listener, counted: Rc::new(counted) })
}
