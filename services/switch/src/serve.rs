//! The ports: accepts connections and answers their messages, each in a task of its own.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use moat_message::frame::{Framing, LengthForm};
use moat_message::session::Assembler;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

use crate::desk::Desk;
use crate::tls::is_caller;

/// Most connections at one time; more wait in the listen queue.
const CONNECTIONS_MAX: usize = 1024;
/// Most messages of one connection under way.
const MESSAGES_MAX: usize = 1024;
/// Longest handshake.
const HANDSHAKE_WAIT_MAX: Duration = Duration::from_secs(5);
/// Longest silence of a connection.
const IDLE_MAX: Duration = Duration::from_secs(900);
/// Longest wait for the other side to read.
const UNREAD_MAX: Duration = Duration::from_secs(10);
/// The length in front of a message where the spec says none.
const FRAMING: Framing = Framing { form: LengthForm::Binary2, includes_itself: false };

/// What every connection of a port needs.
pub struct Port {
    acceptor: TlsAcceptor,
    allow_spiffe: String,
    desk: Arc<Desk>,
}

impl Port {
    /// A port for one dialect.
    #[must_use]
    pub fn new(tls: Arc<rustls::ServerConfig>, allow_spiffe: String, desk: Desk) -> Port {
        Port { acceptor: TlsAcceptor::from(tls), allow_spiffe, desk: Arc::new(desk) }
    }
}

/// Serves until `stop` says so.
///
/// # Errors
/// The listening socket fails for good.
pub async fn serve(
    listener: TcpListener,
    port: Port,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    let (port, room) = (Arc::new(port), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
    loop {
        let permit = Arc::clone(&room).acquire_owned().await?;
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        };
        match accepted {
            Ok((stream, _)) => {
                tokio::spawn(connection(Arc::clone(&port), stream, permit, stop.clone()));
            }
            // Out of descriptors, or the peer reset: wait a little instead of spinning.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn connection(
    port: Arc<Port>,
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
    mut stop: watch::Receiver<bool>,
) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let handshake = tokio::time::timeout(HANDSHAKE_WAIT_MAX, port.acceptor.accept(stream));
    let Ok(Ok(tls)) = handshake.await else { return };
    let leaf = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
    if !is_caller(leaf, &port.allow_spiffe) {
        return;
    }
    let (mut read, mut write) = tokio::io::split(tls);
    let (answers, mut queued) = mpsc::channel::<Zeroizing<Vec<u8>>>(MESSAGES_MAX);
    let writing = tokio::spawn(async move {
        while let Some(frame) = queued.recv().await {
            let put = async {
                write.write_all(&frame).await?;
                write.flush().await
            };
            if !matches!(tokio::time::timeout(UNREAD_MAX, put).await, Ok(Ok(()))) {
                return;
            }
        }
        let _ = tokio::time::timeout(UNREAD_MAX, write.shutdown()).await;
    });
    tokio::select! {
        () = read_all(&port.desk, &mut read, answers) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    // A connection that breaks concerns only its two ends.
    let _ = writing.await;
}

/// Takes messages to the desk, each in a task of its own, until nothing more comes.
async fn read_all<R: tokio::io::AsyncRead + Unpin>(
    desk: &Arc<Desk>,
    read: &mut R,
    answers: mpsc::Sender<Zeroizing<Vec<u8>>>,
) {
    let framing = desk.spec().framing().unwrap_or(FRAMING);
    let mut assembler = Assembler::new(framing);
    let mut buffer = Zeroizing::new(vec![0; 16 * 1024]);
    let places = Arc::new(Semaphore::new(MESSAGES_MAX));
    loop {
        let received = tokio::time::timeout(IDLE_MAX, read.read(&mut buffer)).await;
        let Ok(Ok(length @ 1..)) = received else { return };
        assembler.push(buffer.get(..length).unwrap_or_default());
        loop {
            let message = match assembler.next_message() {
                Ok(Some(message)) if message.is_empty() => continue,
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(_) => return,
            };
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let (desk, answers) = (Arc::clone(desk), answers.clone());
            tokio::spawn(async move {
                if let Some(frame) = answer(desk, message, framing).await {
                    // Nobody is there any more: the book knows what was done.
                    let _ = answers.send(frame).await;
                }
                drop(place);
            });
        }
    }
}

/// What goes back, in its frame. What cannot be read or written has no answer.
async fn answer(
    desk: Arc<Desk>,
    message: Zeroizing<Vec<u8>>,
    framing: Framing,
) -> Option<Zeroizing<Vec<u8>>> {
    let done = tokio::task::spawn_blocking(move || desk.answer(&message)).await.ok()?;
    let answer = match done {
        Ok(answer) => answer?,
        Err(error) => {
            eprintln!("a message was not answered: {error}");
            return None;
        }
    };
    let mut frame = Zeroizing::new(Vec::with_capacity(answer.len() + 4));
    framing.put(&answer, &mut frame).ok()?;
    Some(frame)
}
