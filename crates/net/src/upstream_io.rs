//! A connection to a service as hyper sees it: every byte of an answer passes the guard first.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::guard::{Limits, Refused, ResponseGuard};
use crate::scratch;

/// The guard, shared with whoever sends requests on the connection.
pub type SharedGuard = Rc<RefCell<ResponseGuard>>;

/// What one look at the socket gave.
enum Step {
    More,
    Nothing,
    End,
    Failed(io::Error),
    Refused(Refused),
}

/// See the module.
pub struct UpstreamIo<S> {
    stream: S,
    guard: Option<SharedGuard>,
    ready: Vec<u8>,
    fetched: usize,
}

impl<S> UpstreamIo<S> {
    /// An HTTP/1.1 connection and its guard.
    pub fn http1(stream: S) -> (UpstreamIo<S>, SharedGuard) {
        let guard = Rc::new(RefCell::new(ResponseGuard::new(Limits::default())));
        let io =
            UpstreamIo { stream, guard: Some(Rc::clone(&guard)), ready: Vec::new(), fetched: 0 };
        (io, guard)
    }

    /// An HTTP/2 connection.
    pub fn http2(stream: S) -> UpstreamIo<S> {
        UpstreamIo { stream, guard: None, ready: Vec::new(), fetched: 0 }
    }

    fn hand_over(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let waiting = self.ready.get(self.fetched..).unwrap_or_default();
        if waiting.is_empty() {
            return false;
        }
        let part = waiting.get(..buf.remaining()).unwrap_or(waiting);
        buf.put_slice(part);
        self.fetched += part.len();
        if self.fetched == self.ready.len() {
            self.ready.clear();
            self.fetched = 0;
            self.ready.shrink_to(scratch::BYTES);
        }
        true
    }
}

impl<S: AsyncRead + Unpin> UpstreamIo<S> {
    fn step(&mut self, cx: &mut Context<'_>, guard: &SharedGuard) -> Step {
        let (stream, ready) = (&mut self.stream, &mut self.ready);
        scratch::with(|bytes| {
            let mut fresh = ReadBuf::new(bytes);
            let mut guard = guard.borrow_mut();
            if let Some(refused) = guard.refused() {
                return Step::Refused(*refused);
            }
            match Pin::new(stream).poll_read(cx, &mut fresh) {
                Poll::Pending => Step::Nothing,
                Poll::Ready(Err(error)) => Step::Failed(error),
                Poll::Ready(Ok(())) if fresh.filled().is_empty() => match guard.end() {
                    Err(refused) => Step::Refused(refused),
                    Ok(()) => Step::End,
                },
                Poll::Ready(Ok(())) => match guard.feed(fresh.filled(), ready) {
                    Err(refused) => Step::Refused(refused),
                    Ok(()) => Step::More,
                },
            }
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for UpstreamIo<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(guard) = this.guard.clone() else {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        };
        loop {
            if this.hand_over(buf) {
                return Poll::Ready(Ok(()));
            }
            match this.step(cx, &guard) {
                Step::More => {}
                Step::Nothing => return Poll::Pending,
                Step::End => return Poll::Ready(Ok(())),
                Step::Failed(error) => return Poll::Ready(Err(error)),
                // What was accepted before the violation may be a whole answer: hand it over, and
                // fail at the next read.
                Step::Refused(_) if !this.ready.is_empty() => {}
                Step::Refused(refused) => {
                    let error = io::Error::new(io::ErrorKind::InvalidData, refused);
                    return Poll::Ready(Err(error));
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for UpstreamIo<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
