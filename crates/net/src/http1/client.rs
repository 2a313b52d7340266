//! A connection to a service: one request, its answer, then the next.
//!
//! It runs within the call that uses it. A request whose body is still going up when its answer
//! comes is sent on while the answer is read. A connection is good for another call only if request
//! and answer have ended and nothing came behind them.

use core::cell::RefCell;
use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Context, Poll, Waker, ready};
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use moat_model::code::upstream::BAD_ANSWER;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::encode::{self, Encoder};
use super::parts::{Head, Parts};
use super::queue::Queue;
use crate::body::{Error, Incoming, Source};
use crate::guard::{Framing, Limits, Refused, ResponseGuard};
use crate::scratch;

/// A request that failed.
pub struct Failed<B> {
    /// The request, if not a byte of it was sent.
    pub unsent: Option<Request<B>>,
    /// What went wrong.
    pub error: Error,
}

/// See the module.
pub struct Connection<S, B>(Rc<RefCell<Line<S, B>>>);

struct Line<S, B> {
    io: S,
    guard: ResponseGuard,
    parts: Parts,
    queue: Queue,
    /// What of the request is still to be sent.
    upload: Option<(B, Encoder)>,
    /// Why nothing more can be sent. An answer may have come all the same.
    unwritable: Option<io::Error>,
    /// Counts the requests.
    message: u64,
    /// Bytes of the answer's body that were announced and were not taken yet.
    left: Option<u64>,
    /// Why nothing more is read.
    refused: Option<Refused>,
}

impl<S, B> Connection<S, B>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    B: Body<Data = Bytes> + Unpin + 'static,
{
    /// On a socket that nothing was sent on.
    pub fn new(io: S) -> Connection<S, B> {
        Connection(Rc::new(RefCell::new(Line {
            io,
            guard: ResponseGuard::new(Limits::default()),
            parts: Parts::default(),
            queue: Queue::default(),
            upload: None,
            unwritable: None,
            message: 0,
            left: None,
            refused: None,
        })))
    }

    /// Whether the last exchange has ended and left nothing behind.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.0.borrow().has_ended()
    }

    /// Whether it may carry another request now: the last exchange has ended, and since then
    /// neither a byte nor the end has come. Looks at the socket, and waits for nothing.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let mut line = self.0.borrow_mut();
        line.has_ended() && line.is_silent()
    }

    /// Sends a request, its target in origin form, and waits for the head of its answer. Does not
    /// look whether the service has ended the connection: see [`Connection::is_ready`].
    ///
    /// # Errors
    /// [`Failed`]: with the request, if the connection cannot carry it.
    pub fn send(
        &self,
        request: Request<B>,
    ) -> impl Future<Output = Result<Response<Incoming>, Failed<B>>> {
        // Taken over now, so that the future does not hold the request.
        let begun = self.begin(request);
        async move {
            match begun {
                Ok(()) => self.head().await.map_err(|error| Failed { unsent: None, error }),
                Err(request) => Err(Failed { unsent: Some(*request), error: Error::Gone }),
            }
        }
    }

    async fn head(&self) -> Result<Response<Incoming>, Error> {
        let head = poll_fn(|cx| self.0.borrow_mut().poll_head(cx)).await;
        let (mut response, message) = head?;
        let line: Rc<dyn Source> = Rc::<RefCell<Line<S, B>>>::clone(&self.0);
        if !line.is_end(message) {
            *response.body_mut() = Incoming::of(line, message);
        }
        Ok(response)
    }

    fn begin(&self, mut request: Request<B>) -> Result<(), Box<Request<B>>> {
        let mut line = self.0.borrow_mut();
        if !line.has_ended() || line.guard.expect(request.method().as_str()).is_err() {
            return Err(Box::new(request));
        }
        line.message += 1;
        let encoder = encode::request(&mut request, &mut line.queue);
        line.upload = (!encoder.is_done()).then(|| (request.into_body(), encoder));
        Ok(())
    }
}

impl<S, B> Line<S, B>
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: Body<Data = Bytes> + Unpin,
{
    fn has_ended(&self) -> bool {
        self.upload.is_none()
            && self.queue.is_empty()
            && self.unwritable.is_none()
            && self.guard.is_reusable()
            && self.parts.is_empty()
    }

    fn is_silent(&mut self) -> bool {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut byte = [0];
        Pin::new(&mut self.io).poll_read(cx, &mut ReadBuf::new(&mut byte)).is_pending()
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(Response<Incoming>, u64), Error>> {
        loop {
            if let Some(head) = self.parts.head.take() {
                return Poll::Ready(self.answer(head).map(|response| (response, self.message)));
            }
            self.send(cx)?;
            ready!(self.poll_read(cx))?;
        }
    }

    fn answer(&mut self, head: Head) -> Result<Response<Incoming>, Error> {
        self.left = match self.guard.framing() {
            Framing::None => Some(0),
            Framing::Length(bytes) => Some(bytes),
            Framing::Chunked | Framing::UntilClose => None,
        };
        let mut response = Response::new(Incoming::Empty);
        let (status, version) = head.answer(self.guard.status()).ok_or_else(|| self.odd())?;
        *response.status_mut() = status;
        *response.version_mut() = version;
        *response.headers_mut() = head.fields;
        Ok(response)
    }

    /// The guard has accepted what the types of `http` do not take.
    fn odd(&self) -> Error {
        let message_index = self.message.saturating_sub(1);
        let why = "a head that cannot be represented";
        Error::Refused(Refused { code: &BAD_ANSWER, message_index, in_body: false, why })
    }

    /// Sends what can be sent now.
    fn send(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        while self.unwritable.is_none() {
            self.load(cx)?;
            if self.queue.is_empty() {
                break;
            }
            match self.queue.poll(&mut self.io, cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    // The service may have answered and closed without reading to the end.
                    self.upload = None;
                    self.unwritable = Some(error);
                }
            }
        }
        Ok(())
    }

    /// Queues the next part of the body, if there is one and room for it.
    fn load(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        if !self.queue.has_room() {
            return Ok(());
        }
        let Some((body, encoder)) = &mut self.upload else { return Ok(()) };
        let mut has_ended = false;
        match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Pending => return Ok(()),
            Poll::Ready(Some(Ok(frame))) => encoder.part(frame, &mut self.queue)?,
            Poll::Ready(Some(Err(_))) => return Err(Error::Unsendable),
            Poll::Ready(None) => has_ended = true,
        }
        if has_ended || body.is_end_stream() {
            encoder.end(&mut self.queue)?;
        }
        if encoder.is_done() {
            self.upload = None;
        }
        Ok(())
    }

    /// One look at the socket.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(refused) = self.refused {
            return Poll::Ready(Err(Error::Refused(refused)));
        }
        let (io, guard, parts) = (&mut self.io, &mut self.guard, &mut self.parts);
        let read = scratch::with(|bytes| {
            let mut fresh = ReadBuf::new(bytes);
            ready!(Pin::new(io).poll_read(cx, &mut fresh))?;
            let fed = match fresh.filled() {
                [] => guard.end(),
                filled => guard.feed(filled, parts),
            };
            Poll::Ready(Ok::<_, io::Error>(fed))
        });
        match ready!(read) {
            Ok(Ok(())) if self.parts.is_odd => Poll::Ready(Err(self.odd())),
            Ok(Ok(())) => Poll::Ready(Ok(())),
            // What came before a violation may be a whole answer; the next read fails.
            Ok(Err(refused)) => {
                self.refused = Some(refused);
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(self.unwritable.take().unwrap_or(error).into())),
        }
    }

    /// Whether all of the answer has come, whatever came behind it.
    fn is_complete(&self) -> bool {
        self.guard.is_complete() || self.guard.leftover()
    }

    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            if let Some(data) = self.parts.data() {
                let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
                self.left = self.left.map(|left| left.saturating_sub(length));
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            if let Some(trailers) = self.parts.trailers() {
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            if self.is_complete() {
                return Poll::Ready(None);
            }
            self.send(cx)?;
            ready!(self.poll_read(cx))?;
        }
    }
}

impl<S, B> Source for RefCell<Line<S, B>>
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: Body<Data = Bytes> + Unpin,
{
    fn poll_frame(
        &self,
        message: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut line = self.borrow_mut();
        if line.message != message {
            return Poll::Ready(Some(Err(Error::Gone)));
        }
        line.poll_part(cx)
    }

    fn is_end(&self, message: u64) -> bool {
        let line = self.borrow();
        line.message != message || (line.parts.is_empty() && line.is_complete())
    }

    fn left(&self, message: u64) -> Option<u64> {
        let line = self.borrow();
        if line.message == message { line.left } else { Some(0) }
    }

    fn release(&self, _: u64) {}
}
