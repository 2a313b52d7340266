//! A caller's connection as hyper sees it: guarded, and bounded in time.
//!
//! For HTTP/1.1 every byte passes the [`RequestGuard`] first. When the guard refuses, hyper is
//! given one well-formed request in the place of the refused one, so that earlier requests are
//! still answered in order; the service recognises it by its number and answers with the refusal.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use moat_model::code::http;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::activity::{Activity, HEAD, UNREAD};
use crate::alarm::Alarm;
use crate::guard::{Limits, Refused, RequestGuard};
use crate::scratch;

/// Stands in the place of a refused request. Its content is never looked at.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n\r\n";

/// What the guard has to tell the service.
#[derive(Debug, Default)]
pub struct Findings {
    refused: Cell<Option<Refused>>,
}

impl Findings {
    /// The refusal of message `index` (from 0) of this connection, if it was refused.
    #[must_use]
    pub fn refusal_of(&self, index: u64) -> Option<Refused> {
        let found = self.refused.get().filter(|refused| !refused.in_body);
        found.filter(|refused| refused.message_index == index)
    }

    /// The refusal of a body under way, if there is one.
    #[must_use]
    pub fn in_body(&self) -> Option<Refused> {
        self.refused.get().filter(|refused| refused.in_body)
    }
}

/// What one look at the socket gave.
enum Step {
    More,
    Nothing,
    End,
    Failed(io::Error),
    Refused(Refused),
}

/// See the module.
pub struct ClientIo<S> {
    stream: S,
    guard: Option<RequestGuard>,
    findings: Rc<Findings>,
    activity: Rc<Activity>,
    /// Checked bytes that hyper has not fetched yet, and how many of them it has.
    ready: Vec<u8>,
    fetched: usize,
    /// Which head is under way, and since when.
    head_since: Option<(u64, Instant)>,
    stalled_since: Option<Instant>,
    reading: Alarm,
    writing: Option<Alarm>,
}

impl<S> ClientIo<S> {
    /// An HTTP/1.1 connection.
    /// What the guard finds goes into `findings`, for the service.
    pub fn http1(stream: S, activity: Rc<Activity>, findings: Rc<Findings>) -> ClientIo<S> {
        let guard = RequestGuard::new(Limits::default());
        ClientIo::new(stream, Some(guard), activity, findings)
    }

    /// An HTTP/2 connection: its framing is binary and has one reading.
    pub fn http2(stream: S, activity: Rc<Activity>) -> ClientIo<S> {
        ClientIo::new(stream, None, activity, Rc::default())
    }

    fn new(
        stream: S,
        guard: Option<RequestGuard>,
        activity: Rc<Activity>,
        findings: Rc<Findings>,
    ) -> ClientIo<S> {
        ClientIo {
            stream,
            guard,
            findings,
            activity,
            ready: Vec::new(),
            fetched: 0,
            head_since: None,
            stalled_since: None,
            reading: Alarm::at(Instant::now() + crate::activity::IDLE),
            writing: None,
        }
    }

    /// Hands over checked bytes; `false` if there are none.
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
            // An idle connection must not hold a buffer that one large request once needed.
            self.ready.shrink_to(scratch::BYTES);
        }
        true
    }

    /// Notes a refusal. In a head the stand-in follows; in a body hyper must see an error, but
    /// only after what stands before it: the head of that message may be among it.
    fn refuse(&mut self, refused: Refused) {
        self.findings.refused.set(Some(refused));
        self.guard = None;
        if !refused.in_body {
            self.ready.extend_from_slice(STAND_IN);
        }
    }

    /// The deadline that holds while nothing comes, and what to do when it is over.
    fn overdue(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let now = Instant::now();
        if let Some(index) = self.guard.as_ref().and_then(RequestGuard::head_index) {
            // Pipelined heads may straddle reads without end: each has a time of its own.
            let known = self.head_since.filter(|(known, _)| *known == index);
            let (_, since) = *self.head_since.insert(known.unwrap_or((index, now)));
            if !self.reading.is_over(cx, since + HEAD) {
                return Poll::Pending;
            }
            self.refuse(Refused {
                code: &http::SLOW_HEAD,
                message_index: index,
                in_body: false,
                why: "the head is not complete",
            });
            return Poll::Ready(Ok(()));
        }
        self.head_since = None;
        match self.activity.next_check(now) {
            Some(next) if !self.reading.is_over(cx, next) => Poll::Pending,
            Some(_) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None if self.activity.is_quiet() => Poll::Ready(Ok(())),
            None => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ClientIo<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.hand_over(buf) {
                return Poll::Ready(Ok(()));
            }
            match this.findings.refused.get() {
                None => {}
                Some(refused) if refused.in_body => {
                    let error = io::Error::new(io::ErrorKind::InvalidData, refused);
                    return Poll::Ready(Err(error));
                }
                // Nothing more is read after a refusal; hyper closes once it has answered.
                Some(_) => return Poll::Pending,
            }
            let Some(guard) = &mut this.guard else {
                if Pin::new(&mut this.stream).poll_read(cx, buf)?.is_ready() {
                    return Poll::Ready(Ok(()));
                }
                return this.overdue(cx);
            };
            let ready = &mut this.ready;
            let step = scratch::with(|bytes| {
                let mut fresh = ReadBuf::new(bytes);
                match Pin::new(&mut this.stream).poll_read(cx, &mut fresh) {
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
            });
            match step {
                Step::More => {}
                Step::End => return Poll::Ready(Ok(())),
                Step::Failed(error) => return Poll::Ready(Err(error)),
                Step::Refused(refused) => this.refuse(refused),
                Step::Nothing => match this.overdue(cx) {
                    // A late head has put its stand-in into `ready`.
                    Poll::Ready(Ok(())) if !this.ready.is_empty() => {}
                    other => return other,
                },
            }
        }
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

impl<S> ClientIo<S> {
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
