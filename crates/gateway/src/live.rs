//! Open connections, looked at again whenever what let them in may have changed: a generation with
//! other authorities, lists of revoked certificates or trust domain, a certificate that expires, a
//! list that becomes old.
//!
//! A connection that would not be let in now is cut: no call begins on it any more, calls under way
//! have [`GRACE`] to end, and its refusal is recorded with the reason. A call whose connection is
//! gone is finished and recorded like that of any caller that went away. Connections that are still
//! good notice nothing.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use moat_model::code::identity::{CUT_REVOKED, CUT_UNKNOWN, CUT_UNTRUSTED, EXPIRED, TRUST_DOMAIN};
use moat_model::{Clock, Code};
use moat_tls::{Broken, Standing};
use tokio::sync::Notify;

use crate::generation::Generation;
use crate::session::Session;
use crate::streams;
use crate::worker::Worker;

/// How long a kept HTTP/1.1 connection may still bring a request once the role drains. HTTP/1.1 has no
/// word like GOAWAY: a caller that has just sent its next request would find the connection closed.
/// Each answer of a draining worker says `close`; who sends nothing for this long is idle.
const LAME: Duration = Duration::from_secs(2);
/// How long calls under way may go on after their connection was cut.
pub(crate) const GRACE: Duration = Duration::from_millis(250);
/// How often it is looked whether a time has come.
const LOOK: Duration = Duration::from_millis(250);
/// After how many connections other work has its turn.
const BATCH: usize = 256;

/// Whether a connection was cut, and for what.
#[derive(Debug, Default)]
pub(crate) struct Cut {
    code: Cell<Option<&'static Code>>,
    told: Notify,
}

impl Cut {
    pub(crate) fn code(&self) -> Option<&'static Code> {
        self.code.get()
    }

    /// Resolves when the connection is cut.
    pub(crate) async fn come(&self) {
        while self.code.get().is_none() {
            self.told.notified().await;
        }
    }

    fn cut(&self, code: &'static Code) {
        self.code.set(Some(code));
        self.told.notify_waiters();
    }
}

/// The open connections of one worker.
#[derive(Default)]
pub(crate) struct Live {
    sessions: RefCell<HashMap<u64, Weak<Session>>>,
    next: Cell<u64>,
    /// When the first open connection must be looked at again, in seconds since 1970.
    due_s: Cell<Option<i64>>,
    changed: Notify,
}

/// A place among the open connections.
pub(crate) struct Place {
    live: Rc<Live>,
    key: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.live.sessions.borrow_mut().remove(&self.key);
    }
}

impl Live {
    /// Adds a connection, and measures it by what is in force: that may not be what its handshake
    /// began with.
    pub(crate) fn enter(session: &Rc<Session>) -> Place {
        let live = &session.worker.live;
        let key = live.next.replace(live.next.get() + 1);
        live.sessions.borrow_mut().insert(key, Rc::downgrade(session));
        if session.worker.is_draining() {
            session.control.retire(LAME);
        }
        live.measure(session, &session.worker.generation().shared, now_s(&session.worker));
        Place { live: Rc::clone(live), key }
    }

    /// Cuts a connection that would not be let in now, and notes when others must be looked at.
    fn measure(&self, session: &Session, generation: &Generation, now_s: i64) {
        match until_s(generation, session, now_s) {
            Ok(until_s) => self.is_due_at(until_s),
            Err(code) => {
                session.worker.counters.cut.add();
                session.cut.cut(code);
                session.control.cut(GRACE);
            }
        }
    }

    /// Connections of HTTP/1.1 end, each with its next answer or after [`LAME`]; those of HTTP/2
    /// hear it by themselves.
    pub(crate) fn retire(&self) {
        let sessions: Vec<Weak<Session>> = self.sessions.borrow().values().cloned().collect();
        sessions.iter().filter_map(Weak::upgrade).for_each(|session| session.control.retire(LAME));
    }

    /// A generation came into force.
    pub(crate) fn has_changed(&self) {
        self.changed.notify_one();
    }

    fn is_due_at(&self, at_s: i64) {
        self.due_s.set(Some(self.due_s.get().map_or(at_s, |due_s| due_s.min(at_s))));
    }

    fn keys(&self) -> Vec<u64> {
        self.sessions.borrow().keys().copied().collect()
    }

    fn session(&self, key: u64) -> Option<Rc<Session>> {
        self.sessions.borrow().get(&key).and_then(Weak::upgrade)
    }
}

/// Looks after the connections of a worker for as long as it lives.
pub(crate) async fn watch(worker: Rc<Worker>) {
    loop {
        let is_new = tokio::select! {
            () = worker.live.changed.notified() => true,
            () = tokio::time::sleep(LOOK) => false,
        };
        streams::look(&worker, is_new).await;
        let now_s = now_s(&worker);
        if is_new || worker.live.due_s.get().is_some_and(|due_s| due_s <= now_s) {
            look(&worker, now_s).await;
        }
    }
}

async fn look(worker: &Rc<Worker>, now_s: i64) {
    let (live, generation) = (&worker.live, worker.generation());
    live.due_s.set(None);
    for (at, key) in live.keys().into_iter().enumerate() {
        let Some(session) = live.session(key) else { continue };
        if session.cut.code().is_none() {
            live.measure(&session, &generation.shared, now_s);
        }
        if at % BATCH == BATCH - 1 {
            tokio::task::yield_now().await;
        }
    }
}

/// The first second in which a connection must be looked at again, or why it would not be let in now.
fn until_s(generation: &Generation, session: &Session, now_s: i64) -> Result<i64, &'static Code> {
    let believed = &session.believed;
    let listener = generation.listeners.get(session.listener);
    let group = listener.and_then(|listener| listener.group(believed.server_name.as_deref()));
    // A role that its group has no more is not kept either: it may say more than the new one.
    let group = group.filter(|group| group.role == session.role).ok_or(&CUT_UNTRUSTED)?;
    if session.peer().is_some_and(|peer| peer.spiffe().trust_domain() != generation.trust_domain) {
        return Err(&TRUST_DOMAIN);
    }
    let stack = session.negotiated.stack;
    group.tls.still_believes(stack, &believed.path, now_s).map_err(|broken| match broken {
        Broken::Anchor => &CUT_UNTRUSTED,
        Broken::Expired => &EXPIRED,
        Broken::Standing(Standing::Revoked) => &CUT_REVOKED,
        Broken::Standing(Standing::Unknown | Standing::Stale(_)) => &CUT_UNKNOWN,
    })
}

fn now_s(worker: &Worker) -> i64 {
    i64::try_from(worker.clock.wall_ns() / 1_000_000_000).unwrap_or(i64::MAX)
}
