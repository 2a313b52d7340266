//! A caller's HTTP/2 connection as the library sees it: bounded in time.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::activity::{Activity, UNREAD};
use crate::alarm::Alarm;

/// See the module.
pub struct ClientIo<S> {
    stream: S,
    activity: Rc<Activity>,
    stalled_since: Option<Instant>,
    reading: Alarm,
    writing: Option<Alarm>,
}

impl<S> ClientIo<S> {
    /// A connection whose calls are counted in `activity`.
    pub fn new(stream: S, activity: Rc<Activity>) -> ClientIo<S> {
        ClientIo {
            stream,
            activity,
            stalled_since: None,
            reading: Alarm::at(Instant::now() + crate::activity::IDLE),
            writing: None,
        }
    }

    /// The deadline that holds while nothing comes, and what to do when it is over.
    fn overdue(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.activity.next_check(Instant::now()) {
            Some(next) if !self.reading.is_over(cx, next) => Poll::Pending,
            Some(_) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None if self.activity.is_quiet() => Poll::Ready(Ok(())),
            None => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
        }
    }

    /// Passes a result of writing on, unless the peer has not read for too long.
    fn progress<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled_since = None;
            return polled;
        }
        let deadline = *self.stalled_since.get_or_insert_with(Instant::now) + UNREAD;
        let alarm = self.writing.get_or_insert_with(|| Alarm::at(deadline));
        if alarm.is_over(cx, deadline) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ClientIo<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if Pin::new(&mut this.stream).poll_read(cx, buf)?.is_ready() {
            return Poll::Ready(Ok(()));
        }
        this.overdue(cx)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ClientIo<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.progress(cx, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.progress(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_flush(cx);
        this.progress(cx, polled)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.progress(cx, polled)
    }
}
