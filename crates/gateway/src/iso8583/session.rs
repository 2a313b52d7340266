//! One connection of a caller: messages in, answers out, in any order. What is under way is bounded;
//! beyond the bound nothing more is read until something is answered.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use moat_model::code::message as codes;
use moat_model::{Code, Stage};
use moat_net::activity::Activity;
use tokio::io::{AsyncWriteExt, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::server::TlsStream;

use super::answer::Reply;
use super::exchange;
use super::rules::Dialect;
use super::wire::{NoMessage, Reading, put};
use crate::handshake::Handshaken;
use crate::live::{self, Live};
use crate::record;
use crate::session::{Caller, Session};
use crate::worker::{Work, Worker};

/// Most messages of one connection that cannot be understood, before it is closed.
const UNREADABLE_MAX: u32 = 64;

/// Most bytes of messages of one connection under way, whatever their number.
const IN_FLIGHT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What the messages of a connection share.
pub(super) struct Conn {
    pub(super) session: Rc<Session>,
    pub(super) dialect: Arc<Dialect>,
    /// Name of the listener.
    pub(super) name: String,
    /// Whether nothing can be answered any more.
    pub(super) gone: Cell<bool>,
}

/// An answer, and its places among those under way: by number and by bytes.
type Outgoing = (Reply, [OwnedSemaphorePermit; 2]);

/// Serves messages on an identified connection until it ends or the role drains.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    handshaken: Handshaken,
    caller: Caller,
    dialect: Arc<Dialect>,
) {
    if matches!(caller, Caller::Refused(..)) {
        // That is on record; there is nothing to say to it by a message.
        return;
    }
    let activity = Activity::new(Instant::now());
    let session = Session::new(worker, &handshaken, caller, Some(Rc::clone(&activity)), None);
    let _place = Live::enter(&session);
    let generation = session.worker.generation();
    let name = generation.shared.listeners.get(session.listener);
    let name = name.map_or_else(String::new, |listener| listener.name.clone());
    drop(generation);
    let gone = Cell::new(false);
    let conn = Rc::new(Conn { session, dialect, name, gone });
    let (read, write) = tokio::io::split(handshaken.tls);
    let (answers, queued) = mpsc::channel(conn.dialect.in_flight_max);
    let mut writing = tokio::task::spawn_local(write_all(Rc::clone(&conn), write, queued));
    let reading = Reading::new(read, conn.dialect.framing, conn.dialect.message);
    let ended = tokio::select! {
        ended = read_all(&conn, reading, answers) => ended,
        _ = &mut writing => None,
        () = conn.session.worker.draining() => None,
        () = conn.session.cut.come() => None,
    };
    if let Some((code, note)) = ended {
        let note = format!("from {} calls={} {note}", conn.session.remote, conn.session.begun());
        record::ended_session(&conn.session, code, note).await;
    }
    // What is under way is answered, if it is soon enough.
    let cut = async {
        conn.session.cut.come().await;
        tokio::time::sleep(live::GRACE).await;
    };
    if !writing.is_finished() {
        tokio::select! {
            _ = &mut writing => {}
            () = cut => {}
        }
    }
    conn.gone.set(true);
    writing.abort();
    if let Some(code) = conn.session.cut.code() {
        record::cut_session(&conn.session, code).await;
    }
}

/// Counts messages that had no answer.
#[derive(Default)]
struct Unreadable {
    count: Cell<u32>,
    too_many: Notify,
}

impl Unreadable {
    fn add(&self) {
        self.count.set(self.count.get() + 1);
        if self.count.get() == UNREADABLE_MAX {
            self.too_many.notify_one();
        }
    }
}

/// Reads messages and begins their exchanges. Gives what the connection's record must say, if
/// anything.
async fn read_all<R: tokio::io::AsyncRead + Unpin>(
    conn: &Rc<Conn>,
    mut reading: Reading<R>,
    answers: mpsc::Sender<Outgoing>,
) -> Option<(&'static Code, String)> {
    let places = Arc::new(Semaphore::new(conn.dialect.in_flight_max));
    let bytes = Arc::new(Semaphore::new(IN_FLIGHT_BYTES_MAX));
    let unreadable = Rc::new(Unreadable::default());
    loop {
        let place = Arc::clone(&places).acquire_owned().await.ok()?;
        let message = tokio::select! {
            message = reading.next(conn.dialect.idle) => message,
            () = unreadable.too_many.notified() => {
                let code = &moat_model::code::http::PROTOCOL;
                return Some((code, format!("unreadable={UNREADABLE_MAX}")));
            }
        };
        let message = match message {
            Ok(message) => message,
            Err(NoMessage::Framing(wrong)) => return Some((wrong.code(), "framing".to_owned())),
            Err(NoMessage::Slow) => return Some((&codes::SLOW, "slow".to_owned())),
            Err(NoMessage::End | NoMessage::Broken | NoMessage::Idle) => return None,
        };
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
        let room = Arc::clone(&bytes).acquire_many_owned(length).await.ok()?;
        let (answers, unreadable) = (answers.clone(), Rc::clone(&unreadable));
        let work = conn.session.worker.work();
        let exchange = exchange::message(Rc::clone(conn), message);
        let exchange = Guarded { running: Some(Box::pin(exchange)), _work: work };
        drop(tokio::task::spawn_local(async move {
            match exchange.await {
                // The place is given back once the answer was written.
                Some(reply) => drop(answers.send((reply, [place, room])).await),
                None => unreadable.add(),
            }
        }));
    }
}

async fn write_all(
    conn: Rc<Conn>,
    mut write: WriteHalf<TlsStream<TcpStream>>,
    mut queued: mpsc::Receiver<Outgoing>,
) {
    while let Some((reply, places)) = queued.recv().await {
        if !put(&mut write, reply.frame(), conn.dialect.unread).await {
            conn.gone.set(true);
            let note = format!("from {} unread", conn.session.remote);
            record::ended_session(&conn.session, &codes::SLOW, note).await;
            return;
        }
        drop(places);
    }
    let closing = tokio::time::timeout(conn.dialect.unread, write.shutdown());
    // A side that does not take our farewell is gone all the same.
    let _ = closing.await;
}

/// An exchange that ends even if it panics: its intent is then closed by the auditor as unknown
/// when the link ends, and the connection goes on.
struct Guarded<F> {
    running: Option<Pin<Box<F>>>,
    _work: Work,
}

impl<F: Future<Output = Option<Reply>>> Future for Guarded<F> {
    type Output = Option<Reply>;

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Reply>> {
        let Some(running) = &mut self.running else { return std::task::Poll::Ready(None) };
        match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(cx))) {
            Ok(polled) => polled,
            Err(_) => {
                tracing::error!(stage = %Stage::Reply, "an exchange panicked");
                self.running = None;
                std::task::Poll::Ready(None)
            }
        }
    }
}
