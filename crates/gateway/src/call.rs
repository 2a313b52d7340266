//! One call: what stays the same from its first stage to its last record.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Method, Request};
use moat_audit::recorder::Receipt;
use moat_model::code::limit::LATE;
use moat_model::window::Part;
use moat_model::{Code, Refusal, Stage};
use moat_policy::risk::Risk;
use moat_tls::{Chosen, Negotiated};

use moat_net::activity::Reader;
use moat_net::alarm::Alarm;

use crate::body::Upload;
use crate::decode::UNROUTED;
use crate::generation::RouteRules;
use crate::headers;
use crate::limits::Exceeded;
use crate::session::Session;
use crate::step_up::Asked;
use crate::streams::Stream;
use crate::table::Params;
use crate::trace::Trace;
use crate::tries::{self, Tries};
use crate::window::{Marks, Windows};
use crate::worker::WorkerGeneration;

/// Longest user agent that is recorded, in bytes; a value that is text is ASCII.
const USER_AGENT_BYTES_MAX: usize = 256;

/// What may have reached the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Not a byte.
    Nothing,
    /// Perhaps something: the outcome is unknown unless an answer says otherwise.
    Perhaps,
}

/// A call and its context. Shared with the tasks that finish it when its caller has gone.
pub(crate) struct Call {
    pub(crate) session: Rc<Session>,
    /// The generation that decides this call from beginning to end.
    pub(crate) generation: Rc<WorkerGeneration>,
    pub(crate) trace: Trace,
    pub(crate) started: Instant,
    pub(crate) method: Method,
    /// Host as the caller named it, without port.
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) user_agent: String,
    pub(crate) is_grpc: bool,
    pub(crate) is_http2: bool,
    /// Whether the caller went away.
    pub(crate) is_gone: Cell<bool>,
    /// Whether it is sent again until it is answered, whatever its caller was told.
    pub(crate) is_pending: Cell<bool>,
    pub(crate) sent: Cell<Sent>,
    /// Whether a try before the present one may have reached the service.
    is_lost: Cell<bool>,
    pub(crate) upstream_us: Cell<u64>,
    pub(crate) tries: Tries,
    /// Until when it may take.
    until: Cell<Instant>,
    /// Wakes it then, or at the end of something shorter.
    alarm: RefCell<Option<Alarm>>,
    /// The rate that it exceeds.
    exceeded: RefCell<Option<Exceeded>>,
    /// The time that the caller gives it.
    allowed: Option<Duration>,
    /// Suite and group of the connection to the service that it was given to, unless not a byte
    /// of it was sent there; or of the handshake for which the service was refused.
    pub(crate) upstream_tls: Cell<Option<Chosen>>,
    pub(crate) bytes_in: Cell<u64>,
    pub(crate) digest_in: Cell<Option<[u8; 32]>>,
    /// When its parts ended.
    marks: Marks,
    route: Cell<Option<usize>>,
    matched: RefCell<Option<Matched>>,
    intent: RefCell<Option<Intent>>,
    upload: RefCell<Option<Rc<Upload>>>,
    asked: RefCell<Option<Rc<Asked>>>,
    answered: RefCell<Option<Answered>>,
    /// How it compares with what its subject did before.
    pub(crate) risk: Cell<Option<Risk>>,
    stream: RefCell<Option<Rc<Stream>>>,
}

/// What a call's answer to a challenge came to.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    /// For the record: `satisfied …` or `failed CODE`.
    pub(crate) text: String,
    /// The challenge that it answers, where that is known.
    pub(crate) decision: Option<[u8; 16]>,
}

#[derive(Clone)]
struct Matched {
    rules: Arc<RouteRules>,
    object: Rc<str>,
}

/// The INTENT of this call and what was read before it.
#[derive(Clone)]
pub(crate) struct Intent {
    pub(crate) receipt: Receipt,
    pub(crate) fields: Rc<Vec<moat_audit::record::Field>>,
}

impl Call {
    pub(crate) fn new<B>(session: &Rc<Session>, head: &Request<B>) -> Rc<Call> {
        let headers = head.headers();
        let host = head
            .uri()
            .authority()
            .map(|authority| authority.as_str())
            .or_else(|| headers.get(http::header::HOST).and_then(|h| h.to_str().ok()))
            .unwrap_or("");
        let user_agent = headers.get(http::header::USER_AGENT);
        let (started, allowed) = (Instant::now(), tries::asked_time(headers));
        Rc::new(Call {
            session: Rc::clone(session),
            generation: session.worker.generation(),
            trace: Trace::of(headers),
            started,
            until: Cell::new(started + allowed.map_or(UNROUTED, |own| own.min(UNROUTED))),
            alarm: RefCell::new(None),
            method: head.method().clone(),
            host: without_port(host).to_owned(),
            path: head.uri().path().to_owned(),
            user_agent: user_agent
                .and_then(|value| value.to_str().ok())
                .map(|text| {
                    text.get(..text.len().min(USER_AGENT_BYTES_MAX)).unwrap_or(text).to_owned()
                })
                .unwrap_or_default(),
            is_grpc: headers::is_grpc(headers),
            is_http2: head.version() == http::Version::HTTP_2,
            is_gone: Cell::new(false),
            is_pending: Cell::new(false),
            sent: Cell::new(Sent::Nothing),
            is_lost: Cell::new(false),
            upstream_us: Cell::new(0),
            tries: Tries::default(),
            exceeded: RefCell::new(None),
            allowed,
            upstream_tls: Cell::new(None),
            bytes_in: Cell::new(0),
            digest_in: Cell::new(None),
            marks: Marks::from(Part::Decode),
            route: Cell::new(None),
            matched: RefCell::new(None),
            intent: RefCell::new(None),
            upload: RefCell::new(None),
            asked: RefCell::new(None),
            answered: RefCell::new(None),
            risk: Cell::new(None),
            stream: RefCell::new(None),
        })
    }

    fn windows(&self) -> &Windows {
        &self.session.worker.windows
    }

    /// A poll of it begins.
    pub(crate) fn enter(&self) {
        self.windows().enter(&self.marks, self.trace.id);
    }

    /// The poll has ended.
    pub(crate) fn leave(&self) {
        self.windows().leave();
    }

    /// A part of it has ended, and the next begins.
    pub(crate) fn end(&self, part: Part) {
        self.windows().end(&self.marks, self.started, part);
    }

    /// A part of it begins that is not the next.
    pub(crate) fn begin(&self, part: Part) {
        self.windows().begin(&self.marks, part);
    }

    /// It was refused in whatever part it is.
    pub(crate) fn end_refused(&self) {
        self.windows().refused(&self.marks, self.started);
    }

    /// It has been answered.
    pub(crate) fn finish(&self, status: u16) {
        self.windows().finish(&self.marks, self.started, self.trace.id, status, self.route());
    }

    /// Notes that it is about to be given to a connection to the service.
    pub(crate) fn begin_sending(&self, negotiated: Negotiated) {
        self.upstream_tls.set(Some(negotiated.into()));
        self.sent.set(Sent::Perhaps);
    }

    /// Notes that not a byte of it was sent: what connection that was is no matter then.
    pub(crate) fn note_unsent(&self) {
        self.upstream_tls.set(None);
        if !self.is_lost.get() {
            self.sent.set(Sent::Nothing);
        }
    }

    /// Notes that a try may have reached the service, whatever becomes of the next.
    pub(crate) fn note_lost(&self) {
        self.is_lost.set(true);
    }

    /// Notes that all that was sent was something else than the call itself.
    pub(crate) fn forget_sending(&self) {
        self.is_lost.set(false);
        self.note_unsent();
    }

    /// Notes the route and the object it works on.
    pub(crate) fn set_route(&self, rules: &Arc<RouteRules>, params: &Params) {
        let object = crate::table::fill(&rules.route.audit.object, params).into();
        let allowed = rules.deadline;
        self.until.set(self.started + self.allowed.map_or(allowed, |own| own.min(allowed)));
        *self.matched.borrow_mut() = Some(Matched { rules: Arc::clone(rules), object });
    }

    pub(crate) fn set_place(&self, at: usize) {
        self.route.set(Some(at));
    }

    /// Its place among the routes of its generation.
    pub(crate) fn route(&self) -> Option<usize> {
        self.route.get()
    }

    pub(crate) fn rules(&self) -> Option<Arc<RouteRules>> {
        self.matched.borrow().as_ref().map(|m| Arc::clone(&m.rules))
    }

    /// The object of the record; empty before the route is known.
    pub(crate) fn object(&self) -> Rc<str> {
        self.matched.borrow().as_ref().map_or_else(|| "".into(), |m| Rc::clone(&m.object))
    }

    pub(crate) fn set_intent(&self, intent: Intent) {
        *self.intent.borrow_mut() = Some(intent);
    }

    /// The intent that still needs its outcome.
    pub(crate) fn intent(&self) -> Option<Intent> {
        self.intent.borrow().clone()
    }

    /// Notes that the intent has its outcome. Only once that is durable: whatever happens before,
    /// the next record must still name the intent.
    pub(crate) fn close_intent(&self) {
        *self.intent.borrow_mut() = None;
    }

    /// Why the caller's streamed body was cut, if it was.
    pub(crate) fn upload_cut(&self) -> Option<&'static Code> {
        self.upload.borrow().as_ref().and_then(|upload| upload.cut.get())
    }

    pub(crate) fn set_upload(&self, upload: &Rc<Upload>) {
        *self.upload.borrow_mut() = Some(Rc::clone(upload));
    }

    /// Notes what is asked for before the call can be allowed.
    pub(crate) fn set_asked(&self, asked: Rc<Asked>) {
        *self.asked.borrow_mut() = Some(asked);
    }

    /// The challenge that this call is answered with.
    pub(crate) fn asked(&self) -> Option<Rc<Asked>> {
        self.asked.borrow().clone()
    }

    /// Notes what its answer to a challenge came to.
    pub(crate) fn set_answered(&self, answered: Answered) {
        *self.answered.borrow_mut() = Some(answered);
    }

    pub(crate) fn answered(&self) -> Option<Answered> {
        self.answered.borrow().clone()
    }

    /// Notes that its bodies stream, and what it was allowed for.
    pub(crate) fn set_stream(&self, stream: Rc<Stream>) {
        *self.stream.borrow_mut() = Some(stream);
    }

    pub(crate) fn stream(&self) -> Option<Rc<Stream>> {
        self.stream.borrow().clone()
    }

    /// Until when the call may take: as its route or its caller says, whichever is sooner.
    pub(crate) fn deadline(&self) -> Instant {
        self.until.get()
    }

    /// Whether a time has come. If not, the task is woken then.
    pub(crate) fn is_over(&self, cx: &mut Context<'_>, until: Instant) -> bool {
        let mut alarm = self.alarm.borrow_mut();
        alarm.get_or_insert_with(|| self.session.alarm(until)).is_over(cx, until)
    }

    /// Does something that must be done until then; nothing if it is not. Pinned by who asks: a
    /// future that was handed over would stand twice in the state of this one.
    pub(crate) async fn within<T>(
        &self,
        until: Instant,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if self.is_over(cx, until) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Watches how its answer is read; the connection of HTTP/1 does that by itself.
    pub(crate) fn reader(&self) -> Option<Rc<Reader>> {
        self.session.activity.as_ref().map(|activity| activity.reader())
    }

    pub(crate) fn set_exceeded(&self, exceeded: Exceeded) {
        *self.exceeded.borrow_mut() = Some(exceeded);
    }

    pub(crate) fn exceeded(&self) -> Option<Exceeded> {
        self.exceeded.borrow().clone()
    }

    /// Until when its caller waits for it, if that was said.
    pub(crate) fn asked_until(&self) -> Option<Instant> {
        self.allowed.map(|allowed| self.started + allowed)
    }

    /// Refuses what nobody waits for any longer.
    ///
    /// # Errors
    /// `LATE` at [`Stage::Decode`]; nothing was sent.
    pub(crate) fn check_time(&self) -> Result<(), Refusal> {
        let is_late = Instant::now() >= self.deadline();
        if is_late { Err(Refusal::new(Stage::Decode, &LATE)) } else { Ok(()) }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(alarm) = self.alarm.take() {
            self.session.spare(alarm);
        }
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty() => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lose_their_port_and_nothing_else() {
        for (host, name) in
            [("a.test:8443", "a.test"), ("a.test", "a.test"), ("[::1]:80", "[::1]"), ("", "")]
        {
            assert_eq!(without_port(host), name);
        }
    }
}
