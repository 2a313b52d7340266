//! Listening sockets: opened by the supervisor, one for each worker, handed over by descriptor.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Length of the queue of connections that wait for `accept`.
const BACKLOG: i32 = 1024;

/// Opens one listening socket; several with the same address share its connections.
///
/// # Errors
/// The address is taken by another program, or may not be bound.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Whether some other program already listens on the address. `SO_REUSEPORT` would share it with
/// another process of the same user without a word, so this is asked first.
///
/// # Errors
/// The address may not be bound at all.
pub fn is_taken(address: SocketAddr) -> io::Result<bool> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    match socket.bind(&address.into()).and_then(|()| socket.listen(1)) {
        Ok(()) => Ok(false),
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => Ok(true),
        Err(e) => Err(e),
    }
}
