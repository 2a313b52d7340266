//! Messages over a connection, either way.

use std::time::Duration;

use moat_message::MessageError;
use moat_message::frame::Framing;
use moat_message::session::Assembler;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::{Zeroize, Zeroizing};

/// Most bytes read at once.
const READ_BYTES: usize = 16 * 1024;

/// Why no message came.
#[derive(Debug)]
pub(super) enum NoMessage {
    /// The other side has ended, between two messages.
    End,
    /// It ended, or broke, within a message; or nothing can be read.
    Broken,
    /// A message took too long from its first byte to its last.
    Slow,
    /// Nothing came for too long.
    Idle,
    /// A length is malformed: nothing after it can be understood.
    Framing(MessageError),
}

/// Reads messages.
pub(super) struct Reading<R> {
    io: R,
    assembler: Assembler,
    buffer: Zeroizing<Vec<u8>>,
    message: Duration,
    /// When the message under way began.
    since: Option<tokio::time::Instant>,
}

impl<R: AsyncRead + Unpin> Reading<R> {
    pub(super) fn new(io: R, framing: Framing, message: Duration) -> Reading<R> {
        let buffer = Zeroizing::new(vec![0; READ_BYTES]);
        Reading { io, assembler: Assembler::new(framing), buffer, message, since: None }
    }

    /// The next message; empty ones, by which some keep a connection up, are passed over. May be
    /// dropped and called again: nothing is lost.
    ///
    /// # Errors
    /// [`NoMessage`]; nothing can be read after that, but for [`NoMessage::Idle`].
    pub(super) async fn next(&mut self, idle: Duration) -> Result<Zeroizing<Vec<u8>>, NoMessage> {
        let idle_at = tokio::time::Instant::now() + idle;
        loop {
            while let Some(message) = self.assembler.next_message().map_err(NoMessage::Framing)? {
                self.since = None;
                if !message.is_empty() {
                    return Ok(message);
                }
            }
            if self.assembler.is_within() {
                self.since.get_or_insert_with(tokio::time::Instant::now);
            }
            let (until, late) = match self.since {
                Some(since) => (since + self.message, NoMessage::Slow),
                None => (idle_at, NoMessage::Idle),
            };
            let read = tokio::time::timeout_at(until, self.io.read(&mut self.buffer)).await;
            match read {
                Err(_) => return Err(late),
                Ok(Err(_)) => return Err(NoMessage::Broken),
                Ok(Ok(0)) if self.assembler.is_within() => return Err(NoMessage::Broken),
                Ok(Ok(0)) => return Err(NoMessage::End),
                Ok(Ok(length)) => {
                    let received = self.buffer.get_mut(..length).unwrap_or_default();
                    self.assembler.push(received);
                    received.zeroize();
                }
            }
        }
    }
}

/// Writes one frame; whether the other side took it in time.
pub(super) async fn put<W: AsyncWrite + Unpin>(io: &mut W, frame: &[u8], unread: Duration) -> bool {
    let writing = async {
        io.write_all(frame).await?;
        io.flush().await
    };
    matches!(tokio::time::timeout(unread, writing).await, Ok(Ok(())))
}

/// A message in its frame.
///
/// # Errors
/// It is longer than the framing can say.
pub(super) fn framed(framing: Framing, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, MessageError> {
    let mut out = Zeroizing::new(Vec::with_capacity(message.len() + 4));
    framing.put(message, &mut out)?;
    Ok(out)
}
