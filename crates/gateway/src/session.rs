//! One connection: who is on the other side, and what was negotiated.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use moat_audit::recorder::Receipt;
use moat_identity::VerifiedPeer;
use moat_model::code::identity::EXPIRED;
use moat_model::{Clock, Code, Refusal};
use moat_net::activity::Activity;
use moat_net::alarm::Alarm;
use moat_net::http1::server::{Control, Findings};
use moat_tls::{Negotiated, Path, Stack};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::handshake::{Believed, Handshaken};
use crate::headers::Statement;
use crate::live::Cut;
use crate::sights::View;
use crate::step_up::{Bad, Bound, NoRandomness, Numbered, Used, UsedNonces};
use crate::worker::Worker;

/// What identification came to.
pub(crate) enum Caller {
    /// Known.
    Verified(VerifiedPeer),
    /// Nobody that a certificate names: a program on a Unix socket, or a caller passed on by
    /// somebody else whose certificate is no good.
    Nobody,
    /// Refused, and recorded: every call on the connection gets this refusal.
    Refused(Refusal, Receipt),
}

impl Caller {
    fn peer(&self) -> Option<&VerifiedPeer> {
        match self {
            Caller::Verified(peer) => Some(peer),
            Caller::Refused(..) | Caller::Nobody => None,
        }
    }
}

/// A caller whose call somebody else has received.
pub(crate) struct PassedOnCaller {
    pub(crate) caller: Caller,
    pub(crate) role: Arc<str>,
    /// What vouches for its certificate.
    pub(crate) path: Arc<Path>,
    /// The stack of its certificate.
    pub(crate) stack: Stack,
}

/// A connection whose handshake is done. Shared by its calls.
pub(crate) struct Session {
    pub(crate) worker: Rc<Worker>,
    /// Index of the listener.
    pub(crate) listener: usize,
    pub(crate) remote: SocketAddr,
    pub(crate) caller: Caller,
    /// Role of the authorities that vouched for the caller, as they were configured then.
    pub(crate) role: Arc<str>,
    /// Why it was let in.
    pub(crate) believed: Believed,
    pub(crate) cut: Cut,
    pub(crate) negotiated: Negotiated,
    /// JA4 of the ClientHello.
    pub(crate) ja4: String,
    /// What the kernel saw of the connection's beginning.
    pub(crate) view: View,
    /// The part of it that stays the same for a caller's system; nothing if nobody looks.
    pub(crate) stack: String,
    /// What every request to a service says of the caller.
    pub(crate) statement: Statement,
    /// Of HTTP/2, whose calls run side by side.
    pub(crate) activity: Option<Rc<Activity>>,
    /// Ends an HTTP/1.1 connection.
    pub(crate) control: Rc<Control>,
    /// What the HTTP/1.1 guard finds; HTTP/2 has none.
    pub(crate) findings: Option<Rc<Findings>>,
    /// Exporter of the connection (RFC 8446 §7.5): what binds an answered challenge to it.
    pub(crate) exporter: [u8; 32],
    used_nonces: RefCell<UsedNonces>,
    /// Who received the call and asks for a decision; nothing where the caller itself is here.
    pub(crate) via: Option<Rc<str>>,
    /// User of a program on a Unix socket, as the kernel tells it.
    pub(crate) uid: Option<u32>,
    /// Alarms of calls that have ended: making one costs more than postponing it.
    alarms: RefCell<Vec<Alarm>>,
    begun: Cell<u64>,
    places: Arc<Semaphore>,
}

/// Most alarms that a connection keeps.
const ALARMS_MAX: usize = 4;

/// Most calls of one connection under way at once, those included whose stream was reset.
pub(crate) const CALLS_MAX: u16 = 100;

impl Session {
    pub(crate) fn new(
        worker: Rc<Worker>,
        handshaken: &Handshaken,
        caller: Caller,
        activity: Option<Rc<Activity>>,
        findings: Option<Rc<Findings>>,
    ) -> Rc<Session> {
        let statement = Statement::of(handshaken.remote.ip(), caller.peer());
        Rc::new(Session {
            worker,
            listener: handshaken.listener,
            remote: handshaken.remote,
            caller,
            role: Arc::clone(&handshaken.role),
            believed: handshaken.believed.clone(),
            cut: Cut::default(),
            negotiated: handshaken.negotiated,
            ja4: handshaken.ja4.clone(),
            view: handshaken.view.clone(),
            stack: crate::risk::stack(&handshaken.view.wire),
            statement,
            activity,
            control: Rc::default(),
            findings,
            exporter: handshaken.exporter,
            used_nonces: RefCell::default(),
            via: None,
            uid: None,
            alarms: RefCell::default(),
            begun: Cell::new(0),
            places: Arc::new(Semaphore::new(usize::from(CALLS_MAX))),
        })
    }

    /// A connection on a Unix socket, of a program of this user.
    pub(crate) fn local(
        worker: Rc<Worker>,
        listener: usize,
        uid: u32,
        activity: &Rc<Activity>,
    ) -> Rc<Session> {
        let remote = SocketAddr::from(([0, 0, 0, 0], 0));
        let activity = Some(Rc::clone(activity));
        let mut session = Session::bare(worker, listener, remote, Caller::Nobody, activity);
        session.via = Some(format!("uid {uid}").into());
        session.uid = Some(uid);
        Rc::new(session)
    }

    /// The caller of a call that `by` has received and asks about.
    pub(crate) fn passed_on(by: &Session, told: PassedOnCaller, remote: SocketAddr) -> Rc<Session> {
        let PassedOnCaller { caller, role, path, stack } = told;
        let worker = Rc::clone(&by.worker);
        let activity = by.activity.clone();
        let mut session = Session::bare(worker, by.listener, remote, caller, activity);
        session.role = role;
        session.believed.path = path;
        session.negotiated.stack = stack;
        session.via = match by.peer() {
            Some(peer) => Some(peer.spiffe().as_str().into()),
            None => by.via.clone(),
        };
        Rc::new(session)
    }

    /// Without anything that a handshake would have told.
    fn bare(
        worker: Rc<Worker>,
        listener: usize,
        remote: SocketAddr,
        caller: Caller,
        activity: Option<Rc<Activity>>,
    ) -> Session {
        let statement = Statement::of(remote.ip(), caller.peer());
        let path = Arc::new(Path::of_nobody());
        Session {
            worker,
            listener,
            remote,
            caller,
            role: "".into(),
            believed: Believed { path, server_name: None },
            cut: Cut::default(),
            negotiated: Negotiated { suite: "", group: "", stack: Stack::International },
            ja4: String::new(),
            view: View::off(),
            stack: String::new(),
            statement,
            activity,
            control: Rc::default(),
            findings: None,
            exporter: [0; 32],
            used_nonces: RefCell::default(),
            via: None,
            uid: None,
            alarms: RefCell::default(),
            begun: Cell::new(0),
            places: Arc::new(Semaphore::new(usize::from(CALLS_MAX))),
        }
    }

    /// Whether its calls are received by somebody else.
    fn is_passed_on(&self) -> bool {
        self.via.is_some()
    }

    /// Makes a nonce for a challenge.
    pub(crate) fn make_nonce(
        &self,
        bound: Bound<'_>,
        now_ms: u64,
    ) -> Result<(String, Numbered), NoRandomness> {
        if self.is_passed_on() {
            return self.worker.standing.passed_on().make(bound, now_ms);
        }
        self.worker.nonces.borrow_mut().make(bound, now_ms)
    }

    /// Takes the nonce of an answer to a challenge, once.
    pub(crate) fn take_nonce(
        &self,
        nonce: &str,
        bound: Bound<'_>,
        now_ms: u64,
    ) -> Result<Used, Bad> {
        if self.is_passed_on() {
            return self.worker.standing.passed_on().take(nonce, bound, now_ms);
        }
        let mut used = self.used_nonces.borrow_mut();
        self.worker.nonces.borrow().take(nonce, bound, &mut used, now_ms)
    }

    /// The number of the next request on this connection, from 0.
    pub(crate) fn next_index(&self) -> u64 {
        self.begun.replace(self.begun.get() + 1)
    }

    /// An alarm for one call.
    pub(crate) fn alarm(&self, deadline: Instant) -> Alarm {
        self.alarms.borrow_mut().pop().unwrap_or_else(|| Alarm::at(deadline))
    }

    /// Takes the alarm of a call that has ended.
    pub(crate) fn spare(&self, alarm: Alarm) {
        let mut alarms = self.alarms.borrow_mut();
        if alarms.len() < ALARMS_MAX {
            alarms.push(alarm);
        }
    }

    /// How many requests became calls.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.get()
    }

    /// A place for one call, kept until the call has its answer. A reset frees the stream, not the
    /// place: what was begun is finished, so resets buy no free work.
    pub(crate) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        // HTTP/1.1 has one call at a time.
        if self.findings.is_some() {
            return None;
        }
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    /// Why no call may begin on it any more: it was cut, or a certificate of the caller's chain has
    /// expired.
    pub(crate) fn closed(&self) -> Option<&'static Code> {
        let now_s = i64::try_from(self.worker.clock.wall_ns() / 1_000_000_000).unwrap_or(i64::MAX);
        let expired = || (self.believed.path.not_after_s() < now_s).then_some(&EXPIRED);
        self.cut.code().or_else(expired)
    }

    pub(crate) fn peer(&self) -> Option<&VerifiedPeer> {
        self.caller.peer()
    }
}
