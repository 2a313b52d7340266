//! A caller's connection: requests are read one after the other, and answered in that order.
//!
//! When the guard refuses a head, the service is given a stand-in in its place, so that earlier
//! requests are still answered; it knows the refused one by its number, and answers with the
//! refusal. Nothing is read behind that.

use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker, ready};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::EXPECT;
use http::{HeaderMap, Method, Request, Response, Version};
use http_body::{Body, Frame};
use moat_model::code::http::{MALFORMED_HEAD, SLOW_HEAD};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::encode::{self, Asked, Encoder};
use super::parts::Parts;
use super::queue::Queue;
use crate::activity::{HEAD, IDLE, UNREAD};
use crate::alarm::Alarm;
use crate::body::{Error, Incoming, Source};
use crate::date::Dates;
use crate::guard::{Framing, Limits, Refused, RequestGuard};
use crate::scratch;

/// Most bytes of a body that nobody wanted which are read after the answer, so that the caller gets
/// to see that answer: closing a socket with unread bytes destroys what was sent on it.
const LEFT_BYTES_MAX: u64 = 256 * 1024;
/// Longest time for that.
const LEFT_TIME: Duration = Duration::from_secs(1);

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

/// What a connection is told from outside.
#[derive(Debug, Default)]
pub struct Control {
    /// From when on an idle connection is closed; each answer before that says so.
    retires: Cell<Option<Instant>>,
    /// When it ends in any case.
    ends: Cell<Option<Instant>>,
    alarm: RefCell<Option<Alarm>>,
    waker: RefCell<Option<Waker>>,
}

impl Control {
    /// The connection ends with its next answer, or after this long without a request.
    pub fn retire(&self, lame: Duration) {
        self.retires.set(Some(Instant::now() + lame));
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// No request is taken any more, and one under way has this long.
    pub fn cut(&self, grace: Duration) {
        self.ends.set(Some(Instant::now() + grace));
        self.retire(Duration::ZERO);
    }

    /// Whether the grace is over.
    fn is_over(&self, cx: &mut Context<'_>) -> bool {
        let Some(ends) = self.ends.get() else { return false };
        self.alarm.borrow_mut().get_or_insert_with(|| Alarm::at(ends)).is_over(cx, ends)
    }

    fn is_retiring(&self) -> bool {
        self.retires.get().is_some()
    }

    fn has_retired(&self) -> bool {
        self.retires.get().is_some_and(|at| at <= Instant::now())
    }

    fn listen(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }
}

/// Serves the requests of a connection until it ends.
///
/// Dropped earlier, it closes the socket at once; what the service has begun is its own matter.
///
/// # Errors
/// How the connection broke. A refusal of the guard is none: it was answered.
pub async fn serve<S, B, F, R>(
    io: S,
    findings: Rc<Findings>,
    control: Rc<Control>,
    dates: &Dates,
    service: F,
) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    B: Body<Data = Bytes> + Unpin,
    F: Fn(Request<Incoming>) -> R,
    R: Future<Output = Response<B>>,
{
    let serving = async {
        let wire = Closing(Rc::new(RefCell::new(Wire::new(io, findings))));
        while let Some((request, asked)) = wire.next(&control).await? {
            let response = wire.answered(pin!(service(request))).await?;
            let persists = asked.persists && !control.is_retiring() && !wire.0.borrow().is_asking;
            let asked = Asked { persists, ..asked };
            let persists = wire.write(response, asked, dates).await?;
            if !(persists && wire.has_read_left().await) {
                break;
            }
        }
        wire.shut_down().await?;
        // Closed only now, and not before: see `LEFT_BYTES_MAX`.
        wire.has_read_left().await;
        Ok(())
    };
    let mut serving = pin!(serving);
    poll_fn(|cx| {
        control.listen(cx);
        match serving.as_mut().poll(cx) {
            Poll::Pending if control.is_over(cx) => Poll::Ready(Ok(())),
            polled => polled,
        }
    })
    .await
}

/// Closes the socket when it goes, even if a body of it is still held by somebody.
struct Closing<S>(Rc<RefCell<Wire<S>>>);

/// A request's head, and what of its caller's wishes the connection needs.
type Next = (Request<()>, Asked);

impl<S> Drop for Closing<S> {
    fn drop(&mut self) {
        self.0.borrow_mut().io = None;
    }
}

struct Wire<S> {
    /// None once the connection is over.
    io: Option<S>,
    guard: RequestGuard,
    findings: Rc<Findings>,
    parts: Parts,
    queue: Queue,
    /// What came behind the message under way.
    unread: Vec<u8>,
    /// Counts the messages.
    message: u64,
    /// Bytes of the body that were announced and were not taken yet.
    left: Option<u64>,
    /// The caller waits for a sign before it sends the body (RFC 9110 §10.1.1).
    is_asking: bool,
    /// Nobody will take what of the body is still to come.
    is_released: bool,
    /// Since when: it is idle, a head is under way, the caller leaves an answer unread.
    idle_since: Instant,
    head_since: Option<Instant>,
    stalled_since: Option<Instant>,
    alarm: Alarm,
    /// Who waits for the connection, when somebody else reads the body.
    waiting: Option<Waker>,
}

/// What one look at the socket gave.
enum Look {
    More,
    End,
}

impl<S> Closing<S>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    /// The next request; none when the connection ends.
    async fn next(&self, control: &Control) -> Result<Option<(Request<Incoming>, Asked)>, Error> {
        self.0.borrow_mut().begin();
        let head = poll_fn(|cx| self.0.borrow_mut().poll_head(control, cx));
        let Some((request, asked)) = head.await? else { return Ok(None) };
        let source: Rc<dyn Source> = Rc::<RefCell<Wire<S>>>::clone(&self.0);
        let message = self.0.borrow().message;
        let body = match self.0.borrow().is_released {
            true => Incoming::Empty,
            false => Incoming::of(source, message),
        };
        Ok(Some((request.map(|()| body), asked)))
    }

    /// Waits for the answer, and sees whether the caller goes away meanwhile.
    async fn answered<B>(
        &self,
        mut answer: Pin<&mut impl Future<Output = Response<B>>>,
    ) -> Result<Response<B>, Error> {
        poll_fn(|cx| {
            if let Poll::Ready(response) = answer.as_mut().poll(cx) {
                return Poll::Ready(Ok(response));
            }
            self.0.borrow_mut().watch(cx)?;
            Poll::Pending
        })
        .await
    }

    /// Writes an answer; says whether another request may follow.
    async fn write<B>(
        &self,
        mut response: Response<B>,
        asked: Asked,
        dates: &Dates,
    ) -> Result<bool, Error>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let (mut encoder, persists) = dates.with(|date| {
            encode::answer(&mut response, asked, date, &mut self.0.borrow_mut().queue)
        });
        let mut body = response.into_body();
        // A body that must not be sent is not asked for.
        let mut has_ended = encoder.is_done();
        poll_fn(|cx| {
            loop {
                let mut is_awaited = false;
                if !has_ended && self.0.borrow().queue.has_room() {
                    match self.load(&mut body, &mut encoder, cx)? {
                        Poll::Ready(is_last) => has_ended = is_last,
                        Poll::Pending => is_awaited = true,
                    }
                }
                let mut wire = self.0.borrow_mut();
                ready!(wire.poll_write(cx))?;
                if has_ended {
                    return Poll::Ready(Ok(persists));
                }
                if is_awaited {
                    wire.watch(cx)?;
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// Queues the next part of an answer, if it is there; true if it was the last. The wire is not
    /// borrowed meanwhile: the body may be one that reads from it.
    fn load<B>(
        &self,
        body: &mut B,
        encoder: &mut Encoder,
        cx: &mut Context<'_>,
    ) -> Result<Poll<bool>, Error>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let polled = Pin::new(&mut *body).poll_frame(cx);
        let queue = &mut self.0.borrow_mut().queue;
        let has_ended = match polled {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(Some(Ok(frame))) => {
                encoder.part(frame, queue)?;
                body.is_end_stream()
            }
            // The answer stays unfinished, which its reader notices.
            Poll::Ready(Some(Err(_))) => return Err(Error::Unsendable),
            Poll::Ready(None) => true,
        };
        if has_ended {
            encoder.end(queue)?;
        }
        Ok(Poll::Ready(has_ended))
    }

    /// Reads what is left of a body that nobody wanted, within bounds; says whether it has ended.
    async fn has_read_left(&self) -> bool {
        {
            let mut wire = self.0.borrow_mut();
            if wire.has_request_ended() {
                return true;
            }
            // Who was never told to send it waits, or begins another request: nobody knows.
            if wire.is_asking {
                return false;
            }
            // Whoever still holds the body gets nothing more.
            wire.message += 1;
        }
        let (until, mut read) = (Instant::now() + LEFT_TIME, 0);
        poll_fn(|cx| self.0.borrow_mut().poll_left(&mut read, until, cx)).await
    }

    async fn shut_down(&self) -> Result<(), Error> {
        poll_fn(|cx| {
            let mut wire = self.0.borrow_mut();
            ready!(wire.poll_write(cx))?;
            let Some(io) = &mut wire.io else { return Poll::Ready(Ok(())) };
            let polled = Pin::new(io).poll_shutdown(cx);
            wire.progress(polled, cx).map_err(Error::Io)
        })
        .await
    }
}

impl<S> Wire<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn new(io: S, findings: Rc<Findings>) -> Wire<S> {
        let now = Instant::now();
        Wire {
            io: Some(io),
            guard: RequestGuard::new(Limits::default()),
            findings,
            parts: Parts::default(),
            queue: Queue::default(),
            unread: Vec::new(),
            message: 0,
            left: None,
            is_asking: false,
            is_released: true,
            idle_since: now,
            head_since: None,
            stalled_since: None,
            alarm: Alarm::at(now + IDLE),
            waiting: None,
        }
    }

    fn begin(&mut self) {
        self.idle_since = Instant::now();
        self.message += 1;
    }

    fn poll_head(
        &mut self,
        control: &Control,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Next>, Error>> {
        loop {
            if self.parts.head.is_some() {
                return Poll::Ready(Ok(Some(self.request())));
            }
            if self.findings.refused.get().is_some() {
                self.is_released = true;
                return Poll::Ready(Ok(Some(stand_in())));
            }
            let is_between = self.guard.at_message_boundary();
            if is_between && self.unread.is_empty() && control.has_retired() {
                return Poll::Ready(Ok(None));
            }
            match self.poll_read(cx) {
                Poll::Ready(Ok(Look::More)) => {}
                Poll::Ready(Ok(Look::End)) => return Poll::Ready(Ok(None)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending if self.is_overdue(control, cx) => {
                    let Some(message_index) = self.guard.head_index() else {
                        return Poll::Ready(Ok(None));
                    };
                    let why = "the head is not complete";
                    self.refuse(Refused { code: &SLOW_HEAD, message_index, in_body: false, why });
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Whether a head, or the first byte of one, has been waited for too long. If not, the task is
    /// woken when it will have been.
    fn is_overdue(&mut self, control: &Control, cx: &mut Context<'_>) -> bool {
        let due = if self.guard.head_started() {
            *self.head_since.get_or_insert_with(Instant::now) + HEAD
        } else {
            let due = self.idle_since + IDLE;
            control.retires.get().map_or(due, |at| due.min(at))
        };
        self.alarm.is_over(cx, due)
    }

    /// The request whose head has come.
    fn request(&mut self) -> (Request<()>, Asked) {
        self.head_since = None;
        let found = self.parts.head.take().and_then(|head| Some((head.request()?, head.fields)));
        let Some(((method, target, version), fields)) = found.filter(|_| !self.parts.is_odd) else {
            let message_index = self.guard.messages().saturating_sub(1);
            let why = "a head that cannot be represented";
            self.refuse(Refused { code: &MALFORMED_HEAD, message_index, in_body: false, why });
            self.is_released = true;
            return stand_in();
        };
        self.left = match self.guard.framing() {
            Framing::None => Some(0),
            Framing::Length(bytes) => Some(bytes),
            Framing::Chunked | Framing::UntilClose => None,
        };
        let has_ended = self.guard.at_message_boundary() && self.parts.is_empty();
        self.is_released = has_ended;
        self.is_asking = !has_ended && version == Version::HTTP_11 && expects(&fields);
        let is_head = method == Method::HEAD;
        let asked = Asked { is_head, version, persists: self.guard.persists() };
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = target;
        *request.version_mut() = version;
        *request.headers_mut() = fields;
        (request, asked)
    }

    fn refuse(&mut self, refused: Refused) {
        self.findings.refused.set(Some(refused));
        self.unread = Vec::new();
    }

    /// Reads on in what is there, or in the socket.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Look>> {
        let Wire { io, guard, parts, unread, .. } = self;
        let (looked, fed) = if unread.is_empty() {
            let Some(io) = io else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            let read = scratch::with(|bytes| {
                let mut fresh = ReadBuf::new(bytes);
                ready!(Pin::new(io).poll_read(cx, &mut fresh))?;
                Poll::Ready(Ok::<_, io::Error>(match fresh.filled() {
                    [] => (Look::End, guard.end()),
                    filled => (Look::More, feed(guard, parts, unread, filled)),
                }))
            });
            ready!(read)?
        } else {
            let waiting = std::mem::take(unread);
            (Look::More, feed(guard, parts, unread, &waiting))
        };
        match fed {
            Ok(()) => Poll::Ready(Ok(looked)),
            Err(refused) => {
                self.refuse(refused);
                Poll::Ready(Ok(Look::More))
            }
        }
    }

    /// While a call is under way: an end, or what comes behind its request. An error when the caller
    /// has gone.
    fn watch(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        if !self.has_request_ended() {
            // Whoever takes the body sees an end; this task looks after the rest when it is over.
            if !self.is_released {
                self.waiting = Some(cx.waker().clone());
            }
            return Ok(());
        }
        if !self.unread.is_empty() || self.findings.refused.get().is_some() {
            return Ok(());
        }
        let Some(io) = &mut self.io else { return Err(Error::Gone) };
        let read = scratch::with(|bytes| {
            let mut fresh = ReadBuf::new(bytes);
            ready!(Pin::new(io).poll_read(cx, &mut fresh))?;
            Poll::Ready(Ok::<_, io::Error>(fresh.filled().to_vec()))
        });
        match read {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(bytes)) if bytes.is_empty() => Err(Error::Gone),
            Poll::Ready(Ok(bytes)) => {
                self.unread = bytes;
                Ok(())
            }
            Poll::Ready(Err(error)) => Err(Error::Io(error)),
        }
    }

    /// Whether all of the request has come and was taken.
    fn has_request_ended(&self) -> bool {
        self.guard.at_message_boundary() && self.parts.is_empty()
    }

    /// Reads what of a body nobody wanted; true if it has ended, false if it is too long or too slow.
    /// `read` counts the bytes.
    fn poll_left(&mut self, read: &mut u64, until: Instant, cx: &mut Context<'_>) -> Poll<bool> {
        loop {
            while let Some(data) = self.parts.data() {
                *read += u64::try_from(data.len()).unwrap_or(u64::MAX);
            }
            drop(self.parts.trailers());
            if self.has_request_ended() {
                return Poll::Ready(true);
            }
            if self.findings.refused.get().is_some() || *read > LEFT_BYTES_MAX {
                return Poll::Ready(false);
            }
            match self.poll_read(cx) {
                Poll::Ready(Ok(Look::More)) => {}
                Poll::Ready(Ok(Look::End) | Err(_)) => return Poll::Ready(false),
                Poll::Pending if self.alarm.is_over(cx, until) => return Poll::Ready(false),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Writes what is queued, unless the caller has not read for too long.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Some(io) = &mut self.io else { return Poll::Ready(Err(Error::Gone)) };
        let before = self.queue.written();
        let polled = self.queue.poll(io, cx);
        if self.queue.written() != before {
            self.stalled_since = None;
        }
        self.progress(polled, cx).map_err(Error::Io)
    }

    fn progress(
        &mut self,
        polled: Poll<io::Result<()>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if polled.is_ready() {
            self.stalled_since = None;
            return polled;
        }
        let due = *self.stalled_since.get_or_insert_with(Instant::now) + UNREAD;
        if self.alarm.is_over(cx, due) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }

    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            if let Some(data) = self.parts.data() {
                let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
                self.left = self.left.map(|left| left.saturating_sub(length));
                self.is_asking = false;
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            if let Some(trailers) = self.parts.trailers() {
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            if let Some(refused) = self.findings.in_body() {
                return Poll::Ready(Some(Err(Error::Refused(refused))));
            }
            if self.has_request_ended() {
                return Poll::Ready(None);
            }
            if std::mem::take(&mut self.is_asking) {
                self.queue.head.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            if !self.queue.is_empty()
                && let Poll::Ready(Err(error)) = self.poll_write(cx)
            {
                return Poll::Ready(Some(Err(error)));
            }
            match ready!(self.poll_read(cx)) {
                Ok(Look::More) => {}
                Ok(Look::End) => return Poll::Ready(None),
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }
}

impl<S> Source for RefCell<Wire<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_frame(
        &self,
        message: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut wire = self.borrow_mut();
        if wire.message != message || wire.io.is_none() {
            return Poll::Ready(Some(Err(Error::Gone)));
        }
        let polled = wire.poll_part(cx);
        if polled.is_ready() && wire.has_request_ended() {
            // Within the task of the connection nobody needs to be told.
            let other = wire.waiting.take();
            if let Some(other) = other.filter(|other| !other.will_wake(cx.waker())) {
                other.wake();
            }
        }
        polled
    }

    fn is_end(&self, message: u64) -> bool {
        let wire = self.borrow();
        wire.message == message && wire.has_request_ended()
    }

    fn left(&self, message: u64) -> Option<u64> {
        let wire = self.borrow();
        if wire.message == message { wire.left } else { Some(0) }
    }

    fn release(&self, message: u64) {
        let mut wire = self.borrow_mut();
        if wire.message == message {
            wire.is_released = true;
            if let Some(waiting) = wire.waiting.take() {
                waiting.wake();
            }
        }
    }
}

/// Gives the guard what came, up to the end of the message; what is behind that waits.
fn feed(
    guard: &mut RequestGuard,
    parts: &mut Parts,
    unread: &mut Vec<u8>,
    bytes: &[u8],
) -> Result<(), Refused> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let used = guard.read(rest, parts)?;
        rest = rest.get(used..).unwrap_or_default();
        if guard.at_message_boundary() {
            unread.extend_from_slice(rest);
            break;
        }
    }
    Ok(())
}

fn expects(fields: &HeaderMap) -> bool {
    fields.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Stands in the place of a refused request. Its content is never looked at.
fn stand_in() -> (Request<()>, Asked) {
    let asked = Asked { is_head: false, version: Version::HTTP_11, persists: false };
    (Request::new(()), asked)
}
