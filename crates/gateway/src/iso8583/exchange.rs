//! One message, from its bytes to its answer. Branches live here, work lives in the stages.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use moat_mask::Captures;
use moat_message::iso8583::{self, MessageClass, Mti};
use moat_message::session::{Begin, Key};
use moat_message::{Check, Draft, Index, View};
use moat_model::code::{message as codes, upstream};
use moat_model::{Code, Refusal, Stage};
use zeroize::Zeroizing;

use super::answer::{self, Reply};
use super::lately::{self, Lately};
use super::link::{Link, Passed, Ticket};
use super::record::{self, Answered, Intended};
use super::rules::{self, MessageRules, PROCESSING_CODE, RESPONSE_CODE, Said};
use super::session::Conn;
use super::{bridge, fields, network};
use crate::authorize;
use crate::call::{Call, Intent, Sent};
use crate::decode::{Decoded, InBody};
use crate::generation::RouteRules;
use crate::limits;

/// How long an answer is waited for after its request's time is over.
const LATE: Duration = Duration::from_secs(60);
/// How often a reversal is sent again until it is answered.
const REVERSAL_PAUSE: Duration = Duration::from_secs(5);
/// Most reversals of one link that are sent again at once.
const REVERSALS_MAX: usize = 1_024;
/// Original data elements, by which a reversal names what it takes back.
const ORIGINAL: u8 = 90;

/// A message under way.
pub(super) struct Request {
    pub(super) conn: Rc<Conn>,
    pub(super) call: Rc<Call>,
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// Type and trace number, for notes.
    pub(super) name: String,
}

/// Takes a message to its answer, if it is one that has an answer.
pub(super) async fn message(conn: Rc<Conn>, bytes: Zeroizing<Vec<u8>>) -> Option<Reply> {
    let session = &conn.session;
    session.worker.counters.calls.add();
    session.next_index();
    let request = Rc::new(request(&conn, bytes));
    let mut index = Index::new();
    let spec = &conn.dialect.spec;
    let done = match iso8583::decode(spec, Check::Strict, &request.bytes, &mut index) {
        Ok(view) => stages(&request, view).await,
        Err(wrong) => Err(Refusal::new(Stage::Decode, wrong.code()).because(wrong)),
    };
    let (reply, status) = match done {
        Ok(reply) => (reply, 200),
        Err(refusal) => (Box::pin(refuse(&request, &refusal)).await, refusal.code.status),
    };
    let call = &request.call;
    if let Some(figures) = call.route().and_then(|at| call.generation.figures.get(at)) {
        figures.add(status, call.started.elapsed());
    }
    reply
}

fn request(conn: &Rc<Conn>, bytes: Zeroizing<Vec<u8>>) -> Request {
    let mut index = Index::new();
    let spec = &conn.dialect.spec;
    let read = iso8583::decode(spec, Check::Lazy, &bytes, &mut index);
    let (mti, name) = match read {
        Ok(mut view) => (view.mti().to_string(), lately::name_of(&mut view)),
        Err(_) => ("unreadable".to_owned(), "iso8583 unreadable".to_owned()),
    };
    let mut head = http::Request::new(());
    // A type is a method by its name, so that policies and records see it as one.
    *head.method_mut() = http::Method::from_bytes(mti.as_bytes()).unwrap_or_default();
    let path = http::Uri::try_from(format!("/messages/{}", spec.name()));
    *head.uri_mut() = path.unwrap_or_default();
    let call = Call::new(&conn.session, &head);
    call.bytes_in.set(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    Request { conn: Rc::clone(conn), call, bytes, name }
}

/// A refusal takes the same way: recorded, then answered where there is somebody to understand it.
pub(super) async fn refuse(request: &Request, refusal: &Refusal) -> Option<Reply> {
    let Request { conn, call, bytes, name } = request;
    call.session.worker.counters.refuse(refusal);
    tracing::debug!(trace = call.trace.hex(), %refusal, "refused");
    call.is_gone.set(conn.gone.get());
    let code = answer::code_of(&conn.dialect, call.sent.get(), refusal);
    let has_answer = answer::answer_to(&conn.dialect, bytes, &code).is_some();
    let shown = if has_answer { code.as_str() } else { "" };
    match record::refusal(call, refusal, name, shown).await {
        Ok(receipt) => answer::refuse(&conn.dialect, bytes, &code, &receipt),
        Err(unrecorded) => answer::withhold(call, &conn.dialect, bytes, &unrecorded),
    }
}

fn no(code: &'static Code) -> Refusal {
    Refusal::new(Stage::Decode, code)
}

/// A caller may have been cut meanwhile: what has not begun to change anything does not begin.
fn still_open(call: &Call) -> Result<(), Refusal> {
    match call.session.closed() {
        Some(code) => Err(Refusal::new(Stage::Identify, code)),
        None => Ok(()),
    }
}

async fn stages(request: &Rc<Request>, mut view: View<'_>) -> Result<Option<Reply>, Refusal> {
    let call = &request.call;
    still_open(call)?;
    let mti = view.mti();
    let Some(expected) = mti.answer() else { return Err(no(&codes::NOT_ASKED)) };
    let Some(rules) = route(request, &mut view) else {
        if mti.class() == MessageClass::Network {
            return network::answer(request, view).await;
        }
        return Err(no(&codes::NO_ROUTE));
    };
    let own = rules.message.as_ref().ok_or_else(|| no(&codes::NO_ROUTE))?;
    call.check_time()?;
    limits::admit(call, &rules)?;
    let has_original = own.dialect.spec.field(ORIGINAL).is_some();
    if rules::is_reversal(mti) && has_original && !view.present().has(ORIGINAL) {
        return Err(no(&codes::NO_ORIGINAL));
    }
    let key = Key::of(&mut view, &own.dialect.match_on);
    let begun = match begin(request, &view, &key, mti) {
        Ok(begun) => begun,
        Err(Again::Refused(code)) => return Err(no(code)),
        Err(Again::Answered(message, record)) => {
            let note = format!("{} again, as in record {record}", request.name);
            let answerable = record::own(call, message, &note).await?;
            return Ok(answer::reply(&request.conn.dialect, &answerable));
        }
    };
    let mut decoded = Decoded {
        head: http::Request::new(()).into_parts().0,
        decide_on: fields::decided_on(&mut view, own)?,
        params: params(&mut view, own),
        body: InBody::Held { bytes: Bytes::new(), captures: Captures::default() },
        rules,
    };
    let permit = authorize::authorize(call, &mut decoded)?;
    // Obligations may have put another plan of the same route in its place.
    let rules = decoded.rules;
    if permit.route() != rules.route.name {
        let refusal = Refusal::new(Stage::Route, &upstream::CONNECT);
        return Err(refusal.because("the permit is for another route"));
    }
    let own = rules.message.as_ref().ok_or_else(|| no(&codes::NO_ROUTE))?;
    let outbound = masked(request, own)?;
    still_open(call)?;
    call.check_time()?;
    let intended =
        record::intent(call, &rules, permit, (&mut view, outbound), &request.name).await?;
    let way = Way { rules: Arc::clone(&rules), mti, expected, key };
    let (said, message) = forward(request, &way, intended, begun.promise()).await?;
    call.is_gone.set(request.conn.gone.get());
    let intent = call.intent();
    let answered = Answered { message, said: said.0, code: &said.1, late: "" };
    let answerable =
        record::outcome(call, &rules, intent.as_ref(), answered, &request.name).await?;
    begun.answered(&answerable);
    Ok(answer::reply(&request.conn.dialect, &answerable))
}

/// What stays the same of a message while it is on its way.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) rules: Arc<RouteRules>,
    pub(super) mti: Mti,
    /// The type of its answer.
    pub(super) expected: Mti,
    key: Key,
}

/// Finds the route; the call knows it from then on.
fn route(request: &Request, view: &mut View<'_>) -> Option<Arc<RouteRules>> {
    let processing = lately::text_of(view, PROCESSING_CODE).unwrap_or_default();
    let call = &request.call;
    let (listener, mti) = (call.session.listener, view.mti());
    let takes = |rules: &RouteRules| {
        rules.message.as_ref().is_some_and(|own| own.takes(listener, mti, &processing))
    };
    let all = &call.generation.shared.rules;
    let (at, rules) = all.iter().map(|spec| spec.shared()).enumerate().find(|(_, r)| takes(r))?;
    call.set_place(at);
    let params = rules.message.as_ref().map(|own| params(view, own)).unwrap_or_default();
    call.set_route(&rules, &params);
    Some(rules)
}

fn params(view: &mut View<'_>, own: &MessageRules) -> crate::table::Params {
    let value = |(number, name): &(u8, Arc<str>)| {
        let text = lately::text_of(view, *number).unwrap_or_default();
        (Arc::clone(name), text.trim().to_owned())
    };
    own.params.iter().map(value).collect()
}

fn masked(request: &Request, own: &MessageRules) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let mut index = Index::new();
    let read = iso8583::decode(&own.dialect.spec, Check::Strict, &request.bytes, &mut index);
    let view = read.map_err(|e| Refusal::new(Stage::Mask, e.code()).because(e))?;
    fields::masked(view, &own.mask_request)
}

/// Why a message is not carried out (again).
enum Again {
    Refused(&'static Code),
    Answered(Zeroizing<Vec<u8>>, u64),
}

/// Notes that the exchange is under way, unless it was or is.
fn begin(request: &Request, view: &View<'_>, key: &Key, mti: Mti) -> Result<Begun, Again> {
    let Request { conn, call, .. } = request;
    let lately = Arc::clone(&call.generation.shared.lately);
    let peer = call.session.peer().map_or("", |peer| peer.spiffe().as_str());
    let key = key.of_party(&format!("{}/{peer}", conn.name));
    let digest = lately.digest(view, &conn.dialect);
    match lately.begin(&key, digest, mti.is_repeat()) {
        Begin::Go(number) => {
            let promise = Promise { lately, key, number };
            Ok(Begun { promise: Some(promise), call: Rc::clone(call) })
        }
        Begin::Again(message, record) => Err(Again::Answered(message, record)),
        Begin::UnderWay => Err(Again::Refused(&codes::UNDER_WAY)),
        Begin::Used => Err(Again::Refused(&codes::DUPLICATE)),
        Begin::Full => Err(Again::Refused(&codes::WINDOW)),
    }
}

/// Where to say what became of an exchange.
#[derive(Clone)]
struct Promise {
    lately: Arc<Lately>,
    key: Key,
    number: u64,
}

impl Promise {
    fn answered(&self, answerable: &record::Answerable) {
        let (message, record) = (answerable.message.clone(), answerable.receipt.seq());
        self.lately.answered(&self.key, self.number, message, record);
    }
}

/// An exchange under way. Dropped, it is as if it had never come, unless something may have been
/// sent: then nobody knows.
struct Begun {
    promise: Option<Promise>,
    call: Rc<Call>,
}

impl Begun {
    fn promise(&self) -> Option<Promise> {
        self.promise.clone()
    }

    fn answered(mut self, answerable: &record::Answerable) {
        if let Some(promise) = self.promise.take() {
            promise.answered(answerable);
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let Some(Promise { lately, key, number }) = self.promise.take() else { return };
        match self.call.sent.get() {
            Sent::Nothing => lately.withdraw(&key, number),
            // Whoever waits for the late answer of a reversal has taken the promise over.
            Sent::Perhaps if self.call.is_pending.get() => {}
            Sent::Perhaps => lately.unknown(&key, number),
        }
    }
}

type Understood = ((Said, String), Zeroizing<Vec<u8>>);

/// Sends the message on and waits for its answer until its time is over.
async fn forward(
    request: &Rc<Request>,
    way: &Way,
    intended: Intended,
    promise: Option<Promise>,
) -> Result<Understood, Refusal> {
    let call = &request.call;
    let upstream_at = way.rules.route.upstream;
    let Some(link) = call.generation.links.get(upstream_at).cloned() else {
        let answer = bridge::to_http(request, way, intended).await?;
        return understood(way, &answer);
    };
    let sent_at = std::time::Instant::now();
    let asking = (way.key.clone(), intended.message(), way.mti.is_repeat());
    let asked = link.ask(call, &Passed::message(&intended), asking).await;
    let mut waiting = match asked {
        Ok(ticket) => Some(ticket),
        // What takes something back is not given up for want of a link.
        Err(refusal) if is_kept(way, &link, &refusal) => None,
        Err(refusal) => return Err(refusal),
    };
    let answer = match &mut waiting {
        Some(ticket) => tokio::time::timeout_at(call.deadline().into(), ticket.answer()).await,
        None => Ok(None),
    };
    call.upstream_us.set(crate::forward::micros(sent_at.elapsed()));
    let code = match answer {
        Ok(Some(message)) => return understood(way, &message),
        Ok(None) => &upstream::BROKEN,
        Err(_) => &upstream::TIMEOUT,
    };
    call.sent.set(Sent::Perhaps);
    wait_late(request, way, (link, intended, waiting), promise);
    Err(Refusal::new(Stage::Forward, code))
}

/// Whether a message that could not be sent is sent as soon as that can be.
fn is_kept(way: &Way, link: &Link, refusal: &Refusal) -> bool {
    rules::is_reversal(way.mti)
        && way.rules.changes()
        && *refusal.code == upstream::CONNECT
        && link.reversals.get() < REVERSALS_MAX
}

/// What an answer says, and its bytes as the caller may see them.
///
/// # Errors
/// `BAD_ANSWER` at [`Stage::Forward`]: it is none to this request.
fn understood(way: &Way, message: &[u8]) -> Result<Understood, Refusal> {
    let bad = |why: &dyn core::fmt::Display| {
        Refusal::new(Stage::Forward, &upstream::BAD_ANSWER).because(why)
    };
    let own = way.rules.message.as_ref().ok_or_else(|| bad(&"no rules"))?;
    let dialect = &own.dialect;
    let mut index = Index::new();
    let read = iso8583::decode(&dialect.spec, Check::Strict, message, &mut index);
    let mut view = read.map_err(|e| bad(&e))?;
    if view.mti() != way.expected {
        return Err(bad(&"another type than that of the answer"));
    }
    let code = lately::text_of(&mut view, RESPONSE_CODE).ok_or_else(|| bad(&"no response code"))?;
    let said = dialect.said(&code);
    Ok(((said, code), fields::masked(view, &own.mask)?))
}

/// Waits on for the answer that did not come in time, and sends a reversal again until it is there.
/// Whoever asked was told that nothing is known.
fn wait_late(
    request: &Rc<Request>,
    way: &Way,
    (link, intended, ticket): (Rc<Link>, Intended, Option<Ticket>),
    promise: Option<Promise>,
) {
    // What changes nothing is asked again, not settled.
    let (Some(intent), Some(promise)) = (request.call.intent(), promise) else { return };
    let is_pending = rules::is_reversal(way.mti) && link.reversals.get() < REVERSALS_MAX;
    if !is_pending && ticket.is_none() {
        return;
    }
    if let Some(ticket) = &ticket {
        ticket.note_late();
    }
    request.call.is_pending.set(is_pending);
    let (request, way) = (Rc::clone(request), way.clone());
    drop(tokio::task::spawn_local(async move {
        let late = Late { request, way, link, intended, intent, promise };
        if is_pending {
            late.link.reversals.set(late.link.reversals.get() + 1);
            late.retry(ticket).await;
            late.link.reversals.set(late.link.reversals.get().saturating_sub(1));
        } else if let Some(mut ticket) = ticket
            && let Ok(Some(message)) = tokio::time::timeout(LATE, ticket.answer()).await
        {
            late.settle(&message, " late").await;
        }
    }));
}

/// A message whose answer comes late.
struct Late {
    request: Rc<Request>,
    way: Way,
    link: Rc<Link>,
    intended: Intended,
    intent: Intent,
    promise: Promise,
}

impl Late {
    /// Sends it again until it is answered.
    async fn retry(&self, mut ticket: Option<Ticket>) {
        let again = self.repeat();
        for tries in 1_u64.. {
            let begun = tokio::time::Instant::now();
            if let Some(mut waiting) = ticket.take()
                && let Ok(Some(message)) =
                    tokio::time::timeout(REVERSAL_PAUSE, waiting.answer()).await
                && self.settle(&message, &format!(" late tries={tries}")).await
            {
                return;
            }
            tokio::time::sleep_until(begun + REVERSAL_PAUSE).await;
            let worker = &self.request.call.session.worker;
            if worker.is_draining() || worker.has_ended() {
                let trace = self.request.call.trace.hex();
                tracing::warn!(trace, "a reversal is left unanswered");
                return;
            }
            let asking = (self.way.key.clone(), again.as_slice(), true);
            // Its own time is over: what may pass is as long as making a link may take.
            ticket = self.link.ask_late(&Passed::message(&self.intended), asking).await.ok();
        }
    }

    /// The same message marked as a repeat; as it was where a MAC would no longer hold.
    fn repeat(&self) -> Zeroizing<Vec<u8>> {
        let as_it_was = || Zeroizing::new(self.intended.message().to_vec());
        let spec = &self.link.dialect.spec;
        let mut index = Index::new();
        let read = iso8583::decode(spec, Check::Lazy, self.intended.message(), &mut index);
        let Ok(view) = read else { return as_it_was() };
        if view.present().iter().any(|number| fields::is_mac(spec, number)) {
            return as_it_was();
        }
        let mut draft = Draft::of(view);
        draft.set_mti(self.way.mti.repeat());
        let mut out = Zeroizing::new(Vec::new());
        match draft.write(&mut out) {
            Ok(()) => out,
            Err(_) => as_it_was(),
        }
    }

    /// Records what came of it, and keeps the answer for a repeat. Whether it was an answer.
    async fn settle(&self, message: &[u8], late: &str) -> bool {
        let ((said, code), message) = match understood(&self.way, message) {
            Ok(understood) => understood,
            Err(refusal) => {
                tracing::warn!(trace = self.request.call.trace.hex(), %refusal, "a late answer");
                return false;
            }
        };
        let Request { call, name, .. } = &*self.request;
        let answered = Answered { message, said, code: &code, late };
        let (rules, intent) = (&self.way.rules, Some(&self.intent));
        match record::outcome(call, rules, intent, answered, name).await {
            Ok(answerable) => self.promise.answered(&answerable),
            Err(refusal) => {
                tracing::error!(trace = call.trace.hex(), %refusal, "a late answer was not recorded");
            }
        }
        true
    }
}
