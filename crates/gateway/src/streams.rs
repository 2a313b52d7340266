//! Calls whose bodies stream, decided anew while they last: when a generation comes into force, when
//! the risk of their subject has changed, and every [`LEASE`] without a cause. A call that would not
//! be allowed now is ended; others notice nothing.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use moat_identity::token::Token;
use moat_model::code::policy::CUT_POLICY;
use moat_model::code::upstream::CUT_SERVICE;
use moat_model::{Clock, Code, Refusal, Stage};
use moat_policy::risk::Risk;
use moat_policy::{BodyValue, StepUp, StepUpState};
use moat_tls::{Belief, Client};

use crate::authorize;
use crate::session::Session;
use crate::table::Params;
use crate::worker::{Worker, WorkerGeneration};

/// After how long a call is decided anew though nothing is known to have changed.
const LEASE: Duration = Duration::from_secs(60);
/// After how many calls other work has its turn.
const BATCH: usize = 64;
/// Most tasks that wait for one call's bodies: those of request and answer, and one to spare.
const WAKERS_MAX: usize = 4;

/// What was proved when the call was allowed.
#[derive(Clone, Debug)]
pub(crate) struct Proved {
    state: StepUpState,
    kind: String,
    acr: String,
    age_s: u64,
    key: String,
}

impl Proved {
    pub(crate) fn of(step_up: &StepUp<'_>) -> Proved {
        let StepUp { state, kind, acr, age_s, key } = *step_up;
        let (kind, acr, key) = (kind.to_owned(), acr.to_owned(), key.to_owned());
        Proved { state, kind, acr, age_s, key }
    }

    /// The same, older by the time since.
    pub(crate) fn step_up(&self, since: Duration) -> StepUp<'_> {
        let age_s = self.age_s.saturating_add(since.as_secs());
        let age_s = age_s.min(moat_policy::AGE_UNKNOWN_S);
        StepUp { state: self.state, kind: &self.kind, acr: &self.acr, age_s, key: &self.key }
    }
}

/// What a call was allowed for, kept while its bodies pass.
pub(crate) struct Stream {
    pub(crate) session: Rc<Session>,
    pub(crate) route: String,
    pub(crate) method: http::Method,
    pub(crate) path: String,
    pub(crate) params: Params,
    pub(crate) headers: Params,
    pub(crate) body_digest: String,
    pub(crate) body: Vec<(String, BodyValue)>,
    pub(crate) token: Option<Token>,
    pub(crate) proved: Option<Proved>,
    /// The mask plan that the permit obliged to.
    pub(crate) mask: Option<String>,
    pub(crate) began: Instant,
    pub(crate) risk: Cell<Option<Risk>>,
    /// Why the service was believed that it goes to.
    service: RefCell<Option<Belief>>,
    decided: Cell<Instant>,
    ended: RefCell<Option<Refusal>>,
    wakers: RefCell<Vec<Waker>>,
    key: Cell<u64>,
}

/// The parts of a [`Stream`] that are taken from the call.
pub(crate) struct Matter {
    pub(crate) route: String,
    pub(crate) params: Params,
    pub(crate) headers: Params,
    pub(crate) body_digest: String,
    pub(crate) body: Vec<(String, BodyValue)>,
    pub(crate) token: Option<Token>,
    pub(crate) proved: Option<Proved>,
    pub(crate) mask: Option<String>,
    pub(crate) risk: Option<Risk>,
}

impl Stream {
    /// Why it was ended, if it was; else the task is woken when it is.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Option<&'static Code> {
        if let Some(refusal) = self.ended.borrow().as_ref() {
            let is_service = refusal.stage == Stage::Forward;
            return Some(if is_service { refusal.code } else { &CUT_POLICY });
        }
        let mut wakers = self.wakers.borrow_mut();
        if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            if wakers.len() >= WAKERS_MAX {
                wakers.remove(0);
            }
            wakers.push(cx.waker().clone());
        }
        None
    }

    /// Notes to which service it goes.
    pub(crate) fn goes_to(&self, belief: &Belief) {
        *self.service.borrow_mut() = Some(belief.clone());
    }

    /// Whether the service that it goes to would be believed now.
    ///
    /// # Errors
    /// `CUT_SERVICE` at [`Stage::Forward`].
    pub(crate) fn trusts(&self, client: &Client) -> Result<(), Refusal> {
        let service = self.service.borrow();
        let Some(belief) = service.as_ref() else { return Ok(()) };
        let now_s = self.session.worker.clock.wall_ns() / 1_000_000_000;
        let now_s = i64::try_from(now_s).unwrap_or(i64::MAX);
        let kept = client.still_believes(belief, now_s);
        kept.map(drop).map_err(|broken| {
            let reasons = vec![broken.code().id.to_owned()];
            Refusal::new(Stage::Forward, &CUT_SERVICE).with_reasons(reasons)
        })
    }

    /// The reasons why it was ended.
    pub(crate) fn reasons(&self) -> Vec<String> {
        self.ended.borrow().as_ref().map_or_else(Vec::new, |refusal| {
            if refusal.reasons.is_empty() {
                vec![refusal.code.id.to_owned()]
            } else {
                refusal.reasons.clone()
            }
        })
    }

    fn end(&self, refusal: Refusal) {
        tracing::info!(route = self.route, %refusal, "a stream is ended: it would not be allowed now");
        *self.ended.borrow_mut() = Some(refusal);
        self.session.worker.counters.cut.add();
        self.wakers.borrow_mut().drain(..).for_each(Waker::wake);
    }

    /// Whether it must be decided anew: its subject's risk is another, or its lease is over.
    fn is_due(&self, worker: &Worker, generation: &WorkerGeneration) -> bool {
        if self.decided.get().elapsed() >= LEASE {
            return true;
        }
        if authorize::in_force(&self.session, &generation.shared).is_err() {
            return true;
        }
        let Some(memory) = worker.risk.as_ref() else { return false };
        if !generation.engine.borrow().reads("risk") {
            return false;
        }
        let now = authorize::with_attempt(self, generation, |attempt| memory.look(attempt));
        self.risk.get() != now
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.session.worker.streams.calls.borrow_mut().remove(&self.key.get());
    }
}

/// The calls of one worker whose bodies stream.
#[derive(Default)]
pub(crate) struct Streams {
    calls: RefCell<HashMap<u64, Weak<Stream>>>,
    next: Cell<u64>,
}

impl Streams {
    /// Keeps a call until its bodies have passed.
    pub(crate) fn enter(
        session: &Rc<Session>,
        method: http::Method,
        path: String,
        matter: Matter,
    ) -> Rc<Stream> {
        let Matter { route, params, headers, body_digest, body, token, proved, mask, risk } =
            matter;
        let streams = &session.worker.streams;
        let key = streams.next.replace(streams.next.get() + 1);
        let stream = Rc::new(Stream {
            session: Rc::clone(session),
            route,
            method,
            path,
            params,
            headers,
            body_digest,
            body,
            token,
            proved,
            mask,
            began: Instant::now(),
            risk: Cell::new(risk),
            service: RefCell::default(),
            decided: Cell::new(Instant::now()),
            ended: RefCell::default(),
            wakers: RefCell::default(),
            key: Cell::new(key),
        });
        streams.calls.borrow_mut().insert(key, Rc::downgrade(&stream));
        stream
    }

    fn keys(&self) -> Vec<u64> {
        self.calls.borrow().keys().copied().collect()
    }

    fn stream(&self, key: u64) -> Option<Rc<Stream>> {
        self.calls.borrow().get(&key).and_then(Weak::upgrade)
    }
}

/// Decides again what is due: all of them where `is_new`, since a generation came into force.
pub(crate) async fn look(worker: &Rc<Worker>, is_new: bool) {
    let generation = worker.generation();
    for (at, key) in worker.streams.keys().into_iter().enumerate() {
        if at % BATCH == BATCH - 1 {
            tokio::task::yield_now().await;
        }
        let Some(stream) = worker.streams.stream(key) else { continue };
        let is_open = stream.ended.borrow().is_none();
        if is_open && (is_new || stream.is_due(worker, &generation)) {
            stream.decided.set(Instant::now());
            if let Err(refusal) = authorize::again(&stream, &generation) {
                stream.end(refusal);
            }
        }
    }
}
