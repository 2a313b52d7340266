//! A service as one worker calls it: its endpoints, a pool for each, and what becomes of calls.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Body;
use tokio::time::Instant;

use crate::adaptive::{Adaptive, Sample};
use crate::admission::Class;
use crate::breaker::{Admission, Outcome};
use crate::budget::Budget;
use crate::chance::Chance;
use crate::cluster::{Ask, Cluster, Members, Nobody};
use crate::endpoint::{Endpoint, Event};
use crate::pool::{Pool, Settings, Terms};

/// See the module.
pub struct Service<B> {
    cluster: Arc<Cluster>,
    terms: Terms,
    local: RefCell<Local<B>>,
    budget: Budget,
    chance: Chance,
    /// One for each class, if there are limits.
    limits: Option<Rc<[RefCell<Adaptive>; 4]>>,
}

/// A call that was let in to a service, until it leaves it.
#[derive(Debug)]
pub struct Entry {
    cluster: Arc<Cluster>,
    limits: Rc<[RefCell<Adaptive>; 4]>,
    class: Class,
    sample: Option<Sample>,
}

impl Entry {
    /// Leaves, and says what the call showed of the service.
    pub fn leave(mut self, sample: Option<Sample>) {
        self.sample = sample;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(limit) = self.limits.get(self.class.index()) {
            limit.borrow_mut().leave(self.cluster.now_ms(), self.sample);
        }
    }
}

/// Every place of a class is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The members that this worker knows, and its pools in their order.
struct Local<B> {
    version: u64,
    members: Arc<Members>,
    pools: Vec<Rc<Pool<B>>>,
}

/// Where one try goes.
pub struct Target<B> {
    /// Connections to the endpoint.
    pub pool: Rc<Pool<B>>,
    /// The try.
    pub flight: Flight,
}

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The service answered.
    Answered,
    /// It did not, or only that it failed.
    Failed,
    /// Nothing that says anything about the service.
    Neutral,
}

impl<B> Service<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn core::error::Error + Send + Sync>>,
{
    /// A service without connections yet.
    #[must_use]
    pub fn new(cluster: Arc<Cluster>, terms: Terms) -> Service<B> {
        let (version, members) = (cluster.version(), cluster.members());
        let pools = pools(&members, &terms, &[]);
        let local = RefCell::new(Local { version, members, pools });
        let chance = Chance::default();
        let limits = cluster.settings.adaptive_max.map(|most| {
            let fresh = || Adaptive::new(most, cluster.now_ms(), chance.next());
            Rc::new(Class::ALL.map(|_| RefCell::new(fresh())))
        });
        Service { cluster, terms, local, budget: Budget::default(), chance, limits }
    }

    /// Lets a call in, where the number of calls under way is limited.
    ///
    /// # Errors
    /// [`Full`]; nothing was sent.
    pub fn enter(&self, class: Class) -> Result<Option<Entry>, Full> {
        let Some(limits) = &self.limits else { return Ok(None) };
        let limit = limits.get(class.index()).ok_or(Full)?;
        if !limit.borrow_mut().enter() {
            return Err(Full);
        }
        let (cluster, limits) = (Arc::clone(&self.cluster), Rc::clone(limits));
        Ok(Some(Entry { cluster, limits, class, sample: None }))
    }

    /// What it may be asked again.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// See [`Chance`].
    #[must_use]
    pub fn chance(&self) -> &Chance {
        &self.chance
    }

    /// How many endpoints there are beside those that were tried.
    #[must_use]
    pub fn others(&self, tried: &[SocketAddr]) -> usize {
        let local = self.local.borrow();
        let all = local.members.list().iter();
        all.filter(|member| !tried.contains(&member.endpoint.address())).count()
    }

    /// An endpoint for one try. `key` is what a ring goes by; `may_probe` says that the call does
    /// no harm if its fate stays unknown.
    ///
    /// # Errors
    /// [`Nobody`]; nothing was sent.
    pub fn target(
        &self,
        key: u64,
        may_probe: bool,
        tried: &[SocketAddr],
    ) -> Result<Target<B>, Nobody> {
        self.refresh();
        let now_ms = self.cluster.now_ms();
        let local = self.local.borrow();
        let chance = [self.chance.next(), self.chance.next()];
        let ask = Ask { now_ms, key, may_probe, tried, chance };
        // Another worker may take the probe between choice and admission: then there is another
        // choice, and the next one finds that breaker closed to it.
        for _ in 0..=local.members.list().len() {
            let at = local.members.choose(&self.cluster.settings, &ask)?;
            let found = local.members.list().get(at).zip(local.pools.get(at));
            let Some((member, pool)) = found else { return Err(Nobody::Unknown) };
            let was_probe = match member.endpoint.breaker.admit(now_ms, may_probe) {
                Admission::Pass => false,
                Admission::Probe => true,
                Admission::Refused { .. } => continue,
            };
            let members = Arc::clone(&local.members);
            let flight = Flight::begin(&self.cluster, members, &member.endpoint, was_probe);
            return Ok(Target { pool: Rc::clone(pool), flight });
        }
        Err(Nobody::Broken { retry_ms: 1_000 })
    }

    /// Takes over members that changed. Connections to endpoints that stay are kept.
    fn refresh(&self) {
        let version = self.cluster.version();
        let mut local = self.local.borrow_mut();
        if local.version != version {
            let members = self.cluster.members();
            let pools = pools(&members, &self.terms, &local.pools);
            *local = Local { version, members, pools };
        }
    }
}

fn pools<B>(members: &Members, terms: &Terms, old: &[Rc<Pool<B>>]) -> Vec<Rc<Pool<B>>>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn core::error::Error + Send + Sync>>,
{
    let pool = |member: &crate::cluster::Member| {
        let address = member.endpoint.address();
        let kept = old.iter().find(|pool| pool.address() == address);
        kept.map_or_else(
            || {
                let slots = Arc::clone(&member.slots);
                Pool::new(Settings { address, slots, terms: terms.clone() })
            },
            Rc::clone,
        )
    };
    members.list().iter().map(pool).collect()
}

/// One try, from the choice of its endpoint to its end. Dropped before [`Flight::land`] it says
/// nothing about the endpoint.
#[derive(Debug)]
pub struct Flight {
    cluster: Arc<Cluster>,
    members: Arc<Members>,
    endpoint: Arc<Endpoint>,
    begun: Instant,
    /// Until the answer's head.
    took: Option<Duration>,
    was_probe: bool,
    has_landed: bool,
}

impl Flight {
    fn begin(
        cluster: &Arc<Cluster>,
        members: Arc<Members>,
        endpoint: &Arc<Endpoint>,
        was_probe: bool,
    ) -> Flight {
        endpoint.begin();
        Flight {
            cluster: Arc::clone(cluster),
            members,
            endpoint: Arc::clone(endpoint),
            begun: Instant::now(),
            took: None,
            was_probe,
            has_landed: false,
        }
    }

    /// Where it goes.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.endpoint.address()
    }

    /// The request is about to be sent: the wait for a connection is no part of the latency.
    pub fn depart(&mut self) {
        self.begun = Instant::now();
    }

    /// The answer's head has come, after this time.
    pub fn head(&mut self) -> Duration {
        *self.took.insert(self.begun.elapsed())
    }

    /// Says how it ended; gives what that changed, to be recorded.
    pub fn land(mut self, verdict: Verdict) -> [Option<Event>; 2] {
        let now_ms = self.cluster.now_ms();
        // What never answered has taken at least as long as it was waited for.
        let took = self.took.unwrap_or_else(|| self.begun.elapsed());
        let outcome = match verdict {
            Verdict::Neutral => return [None; 2],
            Verdict::Answered => {
                Outcome::Answered { took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX) }
            }
            Verdict::Failed => Outcome::Failed,
        };
        self.has_landed = true;
        self.endpoint.took(now_ms, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        let settings = &self.cluster.settings;
        let may_eject = verdict == Verdict::Failed && self.members.may_eject(now_ms);
        // Only what may open a breaker needs chance.
        let chance = if verdict == Verdict::Failed { Chance::default().below(1 << 10) } else { 0 };
        self.endpoint.report(
            now_ms,
            (&settings.breaker, &settings.outlier),
            (self.was_probe, outcome),
            may_eject,
            u32::try_from(chance).unwrap_or(0),
        )
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.endpoint.end();
        if !self.has_landed {
            self.endpoint.breaker.withdraw(self.was_probe);
        }
    }
}
