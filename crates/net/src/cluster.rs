//! The endpoints of one service, and which of them takes a call.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use tokio::time::Instant;

use crate::breaker;
use crate::endpoint::{Endpoint, Outlier};
use crate::ring::Ring;
use crate::slots::Slots;

/// Most endpoints of one service; of a name's addresses no more are taken.
pub const ENDPOINTS_MAX: usize = 64;

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// Of two drawn by weight, the one with less in flight times latency.
    #[default]
    TwoChoices,
    /// The one with the fewest calls in flight for its weight.
    LeastRequest,
    /// The same key, the same endpoint.
    Ring,
}

/// What holds for all endpoints of a service.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// How an endpoint is chosen.
    pub balance: Balance,
    /// When a breaker opens.
    pub breaker: breaker::Settings,
    /// When an endpoint is set aside.
    pub outlier: Outlier,
    /// Over how long an endpoint that comes or comes back grows to its weight, in milliseconds.
    pub slow_start_ms: u64,
    /// Most connections to each endpoint.
    pub connections_max: usize,
    /// Most calls that wait for one.
    pub waiting_max: usize,
    /// Ceiling of the adaptive limit of each worker and class, if there is one.
    pub adaptive_max: Option<u64>,
}

/// One endpoint and its part of the calls.
#[derive(Clone, Debug)]
pub struct Member {
    /// What is known of it.
    pub endpoint: Arc<Endpoint>,
    /// Its part, at least 1.
    pub weight: u32,
    /// Places for connections to it.
    pub slots: Arc<Slots>,
}

/// The endpoints at one time.
#[derive(Debug, Default)]
pub struct Members {
    list: Vec<Member>,
    ring: Option<Ring>,
}

/// Why no endpoint can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nobody {
    /// There is none: no address is known.
    Unknown,
    /// Every breaker is open.
    Broken {
        /// When another try is worth while, in milliseconds.
        retry_ms: u64,
    },
}

/// A call that looks for an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The time, in milliseconds of a clock that never steps back.
    pub now_ms: u64,
    /// Hash of what the ring goes by.
    pub key: u64,
    /// Whether it does no harm if its fate stays unknown.
    pub may_probe: bool,
    /// Endpoints that were tried already.
    pub tried: &'a [SocketAddr],
    /// Two random numbers.
    pub chance: [u64; 2],
}

impl Members {
    /// Of endpoints in their order, at most [`ENDPOINTS_MAX`].
    #[must_use]
    pub fn new(mut list: Vec<Member>, balance: Balance) -> Members {
        list.truncate(ENDPOINTS_MAX);
        let places = || list.iter().map(|m| (m.endpoint.address(), m.weight));
        let ring = (balance == Balance::Ring).then(|| Ring::new(places()));
        Members { list, ring }
    }

    /// The endpoints in their order.
    #[must_use]
    pub fn list(&self) -> &[Member] {
        &self.list
    }

    /// Whether so few are well that what health checks and ejections say is no longer believed:
    /// fewer than half.
    #[must_use]
    pub fn is_panicking(&self, now_ms: u64) -> bool {
        let well = self.list.iter().filter(|m| m.endpoint.is_well(now_ms)).count();
        well * 2 < self.list.len()
    }

    /// Whether one more may be set aside: never more than half.
    #[must_use]
    pub fn may_eject(&self, now_ms: u64) -> bool {
        let ejected = self.list.iter().filter(|m| m.endpoint.is_ejected(now_ms)).count();
        (ejected + 1) * 2 <= self.list.len()
    }

    /// The endpoint for a call, as an index into [`Members::list`].
    ///
    /// # Errors
    /// [`Nobody`]; nothing can be sent.
    pub fn choose(&self, settings: &Settings, ask: &Ask<'_>) -> Result<usize, Nobody> {
        let open = |m: &Member| m.endpoint.breaker.lets_through(ask.now_ms, ask.may_probe);
        if let [only] = self.list.as_slice() {
            return if open(only) { Ok(0) } else { Err(self.nobody(ask)) };
        }
        let is_panicking = self.is_panicking(ask.now_ms);
        let well = |m: &Member| is_panicking || m.endpoint.is_well(ask.now_ms);
        let fresh = |m: &Member| !ask.tried.contains(&m.endpoint.address());
        let first = self.among(settings, ask, |m| open(m) && well(m) && fresh(m));
        // Rather one that was tried, or one that is not well, than none.
        first
            .or_else(|| self.among(settings, ask, |m| open(m) && fresh(m)))
            .or_else(|| self.among(settings, ask, open))
            .ok_or_else(|| self.nobody(ask))
    }

    fn nobody(&self, ask: &Ask<'_>) -> Nobody {
        let waits = self.list.iter().map(|m| m.endpoint.breaker.wait_ms(ask.now_ms));
        waits.min().map_or(Nobody::Unknown, |retry_ms| Nobody::Broken { retry_ms })
    }

    fn among(
        &self,
        settings: &Settings,
        ask: &Ask<'_>,
        is_usable: impl Fn(&Member) -> bool,
    ) -> Option<usize> {
        let weight =
            |m: &Member| m.endpoint.weight(m.weight, ask.now_ms, settings.slow_start_ms).max(1);
        let usable = || self.list.iter().enumerate().filter(|(_, m)| is_usable(m));
        match settings.balance {
            Balance::Ring => {
                let usable = |at: &usize| self.list.get(*at).is_some_and(&is_usable);
                self.ring.as_ref()?.from(ask.key).find(usable)
            }
            Balance::LeastRequest => {
                let cost = |m: &Member| (m.endpoint.in_flight() + 1, weight(m));
                // From a random place on, so that equals share.
                let begin = bounded(ask.chance[0], self.list.len());
                let turned = usable().skip_while(|(at, _)| *at < begin);
                let turned = turned.chain(usable().take_while(|(at, _)| *at < begin));
                let less = |a: &(usize, &Member), b: &(usize, &Member)| {
                    let ((a, wa), (b, wb)) = (cost(a.1), cost(b.1));
                    (u128::from(a) * u128::from(wb)).cmp(&(u128::from(b) * u128::from(wa)))
                };
                turned.min_by(less).map(|(at, _)| at)
            }
            Balance::TwoChoices => {
                let total: u64 = usable().map(|(_, m)| weight(m)).sum();
                let draw = |chance: u64| {
                    let mut left = chance.checked_rem(total)?;
                    usable().find(|(_, m)| {
                        let own = weight(m);
                        let is_it = left < own;
                        left = left.saturating_sub(own);
                        is_it
                    })
                };
                let (a, b) = (draw(ask.chance[0])?, draw(ask.chance[1])?);
                Some(if is_less_loaded(&b.1.endpoint, &a.1.endpoint) { b.0 } else { a.0 })
            }
        }
    }
}

/// By calls in flight times latency. One that has not answered yet is taken to be as fast as the
/// other: else the first calls would all go to it.
fn is_less_loaded(a: &Endpoint, b: &Endpoint) -> bool {
    let (us_a, us_b) = (a.latency_us(), b.latency_us());
    let (us_a, us_b) = match (us_a, us_b) {
        (0, known) | (known, 0) => (known.max(1), known.max(1)),
        both => both,
    };
    let load = |e: &Endpoint, us: u64| u128::from(e.in_flight() + 1) * u128::from(us);
    load(a, us_a) < load(b, us_b)
}

fn bounded(chance: u64, length: usize) -> usize {
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    chance.checked_rem(length).and_then(|at| usize::try_from(at).ok()).unwrap_or(0)
}

/// A service: its settings, and its endpoints, which may change while it is in use.
#[derive(Debug)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// See [`Settings`].
    pub settings: Settings,
    registry: Arc<Registry>,
    members: RwLock<Arc<Members>>,
    /// Counts the changes, so that a worker sees them without the lock.
    version: AtomicU64,
}

impl Cluster {
    /// Without endpoints yet.
    #[must_use]
    pub fn new(name: String, settings: Settings, registry: &Arc<Registry>) -> Cluster {
        let (registry, members) = (Arc::clone(registry), RwLock::default());
        Cluster { name, settings, registry, members, version: AtomicU64::new(0) }
    }

    /// Milliseconds of the one clock that all its endpoints go by.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.registry.now_ms()
    }

    /// The number of the present members; grows with every change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The present members.
    #[must_use]
    pub fn members(&self) -> Arc<Members> {
        Arc::clone(&self.members.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts endpoints in force, by address and weight. What is known of one that stays is kept.
    pub fn set(&self, endpoints: &[(SocketAddr, u32)]) {
        let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
        let (now_ms, is_first) = (self.now_ms(), members.list.is_empty());
        let member = |&(address, weight): &(SocketAddr, u32)| {
            let old = members.list.iter().find(|m| m.endpoint.address() == address);
            let Settings { connections_max, waiting_max, .. } = self.settings;
            Member {
                endpoint: self.registry.endpoint(&self.name, address, now_ms, is_first),
                weight,
                slots: old.map_or_else(
                    || Slots::new(connections_max, waiting_max),
                    |old| Arc::clone(&old.slots),
                ),
            }
        };
        let list = endpoints.iter().map(member).collect();
        *members = Arc::new(Members::new(list, self.settings.balance));
        drop(members);
        self.version.fetch_add(1, Ordering::Release);
    }
}

/// What is known of endpoints, over generations: a reload must not close a breaker.
#[derive(Debug)]
pub struct Registry {
    known: Mutex<BTreeMap<(String, SocketAddr), Weak<Endpoint>>>,
    begun: Instant,
}

impl Default for Registry {
    fn default() -> Registry {
        Registry { known: Mutex::default(), begun: Instant::now() }
    }
}

/// Where the clock of a registry begins: not at 0, which means "always" to endpoints.
const BEGIN_MS: u64 = 1;

impl Registry {
    /// Milliseconds since the registry was made.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        let passed = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        passed.saturating_add(BEGIN_MS)
    }

    /// Nanoseconds of the same clock.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        let passed = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        passed.saturating_add(BEGIN_MS * 1_000_000)
    }

    /// The endpoint of a service at an address; a new one if none is in use. `is_first` says that
    /// the service has just been configured, so that there is nobody to start slowly beside.
    #[must_use]
    pub fn endpoint(
        &self,
        service: &str,
        address: SocketAddr,
        now_ms: u64,
        is_first: bool,
    ) -> Arc<Endpoint> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (service.to_owned(), address);
        if let Some(endpoint) = known.get(&key).and_then(Weak::upgrade) {
            return endpoint;
        }
        known.retain(|_, endpoint| endpoint.strong_count() > 0);
        let endpoint = Arc::new(Endpoint::new(address, now_ms, is_first));
        known.insert(key, Arc::downgrade(&endpoint));
        endpoint
    }
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
