//! What waits to be written: a head, a part of a body, and what stands behind it. One write takes
//! all of it, so that a small message is one record of TLS and one packet.

use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::io::{self, IoSlice};

use bytes::Bytes;
use tokio::io::AsyncWrite;

/// Most bytes of memory that an idle queue keeps.
const KEPT_BYTES_MAX: usize = 2 * 1024;

/// See the module.
#[derive(Default)]
pub(super) struct Queue {
    /// Written first.
    pub(super) head: Vec<u8>,
    pub(super) data: Bytes,
    pub(super) tail: &'static [u8],
    /// How many bytes of all three are written.
    written: usize,
    /// Whether the socket may still hold some of them back.
    is_held: bool,
}

impl Queue {
    /// Whether all was handed to the socket, which has sent it.
    pub(super) fn is_empty(&self) -> bool {
        self.length() == 0 && !self.is_held
    }

    /// Whether a part of a body may be queued. Not while the socket holds some back: when a body
    /// makes progress is judged by when its parts are taken.
    pub(super) fn has_room(&self) -> bool {
        self.data.is_empty() && self.tail.is_empty() && !self.is_held
    }

    /// How much of what is queued was taken: grows while there is progress.
    pub(super) fn written(&self) -> usize {
        self.written
    }

    fn length(&self) -> usize {
        self.head.len() + self.data.len() + self.tail.len()
    }

    /// Writes all there is.
    pub(super) fn poll<S>(&mut self, io: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        S: AsyncWrite + Unpin,
    {
        while self.written < self.length() {
            let mut skip = self.written;
            let [head, data, tail] = [self.head.as_slice(), &self.data, self.tail].map(|part| {
                let rest = part.get(skip..).unwrap_or_default();
                skip = skip.saturating_sub(part.len());
                rest
            });
            let io = Pin::new(&mut *io);
            let written = if data.is_empty() && tail.is_empty() {
                ready!(io.poll_write(cx, head))?
            } else {
                let slices = [head, data, tail].map(IoSlice::new);
                ready!(io.poll_write_vectored(cx, &slices))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
            self.is_held = true;
        }
        if self.length() > 0 {
            self.head.clear();
            self.head.shrink_to(KEPT_BYTES_MAX);
            self.data = Bytes::new();
            self.tail = &[];
            self.written = 0;
        }
        if self.is_held {
            ready!(Pin::new(io).poll_flush(cx))?;
            self.is_held = false;
        }
        Poll::Ready(Ok(()))
    }
}
