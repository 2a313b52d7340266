//! The role: one thread, one runtime, two listening sockets, one control channel.

use std::convert::Infallible;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use moat_net::control::Channel;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::LocalSet;

use crate::api::{self, Ask, Shared};
use crate::messages::{FromAdmin, ToAdmin};

/// Most connections to probes and API together.
const CONNECTIONS_MAX: usize = 64;
/// Longest time for a request's head.
const HEAD: Duration = Duration::from_secs(5);
/// Most messages of the supervisor's that wait here.
const MESSAGES_MAX: usize = 16;
/// Longest life of a connection.
const CONNECTION: Duration = Duration::from_secs(60);

/// Why the role ended.
#[derive(Debug)]
pub enum Error {
    /// The control channel spoke nonsense.
    Control(String),
    /// A socket failed.
    Io(std::io::Error),
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Error::Control(what) => write!(f, "control channel: {what}"),
            Error::Io(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Error {
        Error::Io(error)
    }
}

/// Everything handed over before the role gives up its rights.
pub struct Prepared {
    control: Channel,
    probes: TcpListener,
    socket: UnixListener,
}

/// Takes what the supervisor sends before `Begin`.
///
/// # Errors
/// [`Error::Control`] if the channel ends or speaks nonsense.
pub fn prepare(control: Channel) -> Result<Prepared, Error> {
    let mut sockets: Option<(OwnedFd, OwnedFd)> = None;
    loop {
        let (message, descriptors) =
            receive(&control)?.ok_or_else(|| Error::Control("it ended early".to_owned()))?;
        match message {
            ToAdmin::Sockets {} => {
                let mut descriptors = descriptors.into_iter();
                sockets = descriptors.next().zip(descriptors.next());
            }
            ToAdmin::Begin {} => break,
            _ => {}
        }
    }
    let (probes, socket) = sockets.ok_or_else(|| Error::Control("no sockets".to_owned()))?;
    Ok(Prepared { control, probes: probes.into(), socket: socket.into() })
}

/// Serves until the supervisor says stop or goes away.
///
/// # Errors
/// [`Error`] if a socket or the channel fails.
pub fn run(prepared: Prepared) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve(prepared))
}

async fn serve(prepared: Prepared) -> Result<(), Error> {
    let Prepared { control, probes, socket } = prepared;
    let control = Arc::new(control);
    let shared = Rc::new(Shared::default());
    let limit = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    probes.set_nonblocking(true)?;
    socket.set_nonblocking(true)?;
    let probes = tokio::net::TcpListener::from_std(probes)?;
    let socket = tokio::net::UnixListener::from_std(socket)?;
    let ask: Ask = {
        let control = Arc::clone(&control);
        Rc::new(move |message| control.send(&serde_json::to_vec(message)?, &[]))
    };
    ask(&FromAdmin::Ready {})?;
    let mut messages = listen(&control)?;
    loop {
        tokio::select! {
            accepted = probes.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let shared = Rc::clone(&shared);
                let service = service_fn(move |request| {
                    let answer = api::probe(&shared, &request);
                    async move { Ok::<_, Infallible>(answer) }
                });
                spawn(&limit, stream, service);
            }
            accepted = socket.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let (shared, ask) = (Rc::clone(&shared), Rc::clone(&ask));
                let uid = stream.peer_cred().ok().map(|peer| peer.uid());
                let service = service_fn(move |request| {
                    let answer = api::api(Rc::clone(&shared), Rc::clone(&ask), uid, request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                spawn(&limit, stream, service);
            }
            message = messages.recv() => {
                let Some(message) = message else { return Ok(()) };
                match message {
                    ToAdmin::State(state) => *shared.state.borrow_mut() = *state,
                    ToAdmin::Rows { part, of, rows } => shared.take_rows(part, of, rows),
                    ToAdmin::Heap { part, of, text } => shared.take_heap(part, of, &text),
                    ToAdmin::Latency { part, of, text } => shared.take_latency(part, of, &text),
                    ToAdmin::Reloaded { id, result } => shared.reloaded(id, result),
                    ToAdmin::Stop {} => return Ok(()),
                    ToAdmin::Sockets {} | ToAdmin::Begin {} => {}
                }
            }
        }
    }
}

/// Receives on a thread of its own: the channel blocks. Ends with the channel.
fn listen(control: &Arc<Channel>) -> Result<mpsc::Receiver<ToAdmin>, Error> {
    let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
    let control = Arc::clone(control);
    std::thread::Builder::new().name("control".to_owned()).spawn(move || {
        loop {
            match receive(&control) {
                Ok(Some((message, _))) => {
                    if sender.blocking_send(message).is_err() {
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(%error, "the control channel failed");
                    return;
                }
            }
        }
    })?;
    Ok(receiver)
}

/// Serves one connection, if there is a place for it.
fn spawn<IO, S>(limit: &Arc<Semaphore>, stream: IO, service: S)
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
    S: hyper::service::HttpService<
            hyper::body::Incoming,
            ResBody = http_body_util::Full<bytes::Bytes>,
            Error = Infallible,
        > + 'static,
    S::Future: 'static,
{
    let Ok(place) = Arc::clone(limit).try_acquire_owned() else { return };
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    drop(tokio::task::spawn_local(async move {
        let _place = place;
        if let Ok(Err(error)) = tokio::time::timeout(CONNECTION, connection).await {
            tracing::debug!(%error, "an admin connection ended with an error");
        }
    }));
}

fn receive(control: &Channel) -> Result<Option<(ToAdmin, Vec<OwnedFd>)>, Error> {
    let Some((bytes, descriptors)) = control.recv()? else { return Ok(None) };
    let message = serde_json::from_slice(&bytes).map_err(|e| Error::Control(e.to_string()))?;
    Ok(Some((message, descriptors)))
}
