//! A thread beside the workers that looks after endpoints: it resolves names, makes health checks,
//! and probes what a breaker keeps calls away from where no call may be the probe.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use moat_audit::record::Body;
use moat_net::breaker::{Admission, Outcome};
use moat_net::chance::Chance;
use moat_net::cluster::{Cluster, Member};
use moat_net::dns;
use moat_net::endpoint::Event;
use moat_net::health::{self, Question};
use moat_net::pool::{Pool, Settings};
use moat_net::slots::Slots;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, LocalSet};

use crate::generation::Generation;
use crate::key_sets;
use crate::record;
use crate::upstream::{Health, Kept, Upstream};
use crate::worker::Order;

/// Bounds of the time after which a name is asked for again, in seconds.
const TTL_S_MIN: u32 = 5;
const TTL_S_MAX: u32 = 300;
/// Pause after a failure to resolve a name; doubles up to [`TTL_S_MAX`].
const AGAIN: Duration = Duration::from_secs(1);
/// How often breakers are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How long a breaker waits for a call to be its probe, in milliseconds, before it is probed here.
const PROBE_IDLE_MS: u64 = 1_000;
/// Longest wait for a probe that only connects.
const CONNECT: Duration = Duration::from_secs(1);
/// Longest wait for the first addresses of names before a generation is taken without them.
const FIRST: Duration = Duration::from_secs(3);
/// Most generations that wait to be taken.
const ORDERS_MAX: usize = 16;

/// The thread's other end.
pub(crate) struct Upkeep {
    orders: mpsc::Sender<Take>,
}

/// A generation, and where to say that its names were asked for once.
struct Take(Arc<Generation>, SyncSender<()>);

/// What its tasks share.
struct Shared {
    kept: Arc<Kept>,
    /// To the worker that makes the gateway's own records.
    records: mpsc::Sender<Order>,
    chance: Chance,
}

impl Shared {
    fn record(&self, body: Body) {
        if self.records.try_send(Order::Note(Box::new(body))).is_err() {
            tracing::error!("a record of an endpoint has no place to wait");
        }
    }

    fn tell(&self, number: u64, name: &str, address: SocketAddr, event: &Event) {
        tracing::warn!(upstream = name, %address, %event, "an endpoint");
        self.record(record::endpoint(number, name, address, event));
    }

    /// A tenth more or less.
    fn about(&self, time: Duration) -> Duration {
        let tenth = u64::try_from(time.as_millis() / 10).unwrap_or(0);
        let jitter = Duration::from_millis(self.chance.below(tenth * 2));
        time.saturating_sub(Duration::from_millis(tenth)) + jitter
    }
}

impl Upkeep {
    /// Starts the thread.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn start(kept: Arc<Kept>, records: mpsc::Sender<Order>) -> std::io::Result<Upkeep> {
        let (orders, received) = mpsc::channel(ORDERS_MAX);
        std::thread::Builder::new().name("upkeep".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => LocalSet::new().block_on(&runtime, run(received, kept, records)),
                Err(error) => tracing::error!(%error, "endpoints are not looked after"),
            }
        })?;
        Ok(Upkeep { orders })
    }

    /// Looks after the endpoints of this generation from now on. Waits for names that have no
    /// address yet, for as long as one round takes.
    pub(crate) fn take(&self, generation: &Arc<Generation>, kept: &Kept) {
        let is_unresolved = generation.upstreams.iter().any(|u| u.is_unresolved(kept));
        let (sender, asked) = sync_channel(1);
        let sent = self.orders.try_send(Take(Arc::clone(generation), sender));
        if sent.is_err() {
            tracing::error!("endpoints are no longer looked after");
        } else if is_unresolved {
            // A name that cannot be resolved must not keep the others from being served.
            let _ = asked.recv_timeout(FIRST);
        }
    }
}

async fn run(mut orders: mpsc::Receiver<Take>, kept: Arc<Kept>, records: mpsc::Sender<Order>) {
    let shared = Rc::new(Shared { kept, records, chance: Chance::default() });
    let mut tasks: Vec<JoinHandle<()>> = Vec::new();
    while let Some(Take(generation, asked)) = orders.recv().await {
        for task in tasks.drain(..) {
            task.abort();
        }
        let names = first_round(&shared, &generation).await;
        // Whoever asked may have given up.
        let _ = asked.try_send(());
        for (name, port, due) in names {
            let watch = watch_name(Rc::clone(&shared), Arc::clone(&generation), name, port, due);
            tasks.push(tokio::task::spawn_local(watch));
        }
        for set in generation.issuers.iter().filter_map(|(_, set)| set.as_ref()) {
            let own = Rc::clone(&shared);
            let id = move || u16::try_from(own.chance.below(1 << 16)).unwrap_or(0);
            let watch = key_sets::watch(Arc::clone(set), Arc::clone(&generation), id);
            tasks.push(tokio::task::spawn_local(watch));
        }
        for (at, upstream) in generation.upstreams.iter().enumerate() {
            let (own, all) = (Rc::clone(&shared), Arc::clone(&generation));
            tasks.push(tokio::task::spawn_local(watch_breakers(own, all, at)));
            if upstream.health.is_some() {
                let (own, all) = (Rc::clone(&shared), Arc::clone(&generation));
                tasks.push(tokio::task::spawn_local(watch_health(own, all, at)));
            }
        }
    }
}

/// Asks for every name of the generation once, at the same time; says when each is due again.
async fn first_round(
    shared: &Rc<Shared>,
    generation: &Arc<Generation>,
) -> Vec<(String, u16, Duration)> {
    let mut names: Vec<(String, u16)> = Vec::new();
    for (name, port) in generation.upstreams.iter().flat_map(Upstream::names) {
        if !names.iter().any(|(n, p)| n == name && *p == port) {
            names.push((name.to_owned(), port));
        }
    }
    let ask = |(name, port): (String, u16)| {
        let (shared, generation) = (Rc::clone(shared), Arc::clone(generation));
        tokio::task::spawn_local(async move {
            let due = resolve(&shared, &generation, &name, port).await.unwrap_or(AGAIN);
            (name, port, due)
        })
    };
    let asked: Vec<_> = names.into_iter().map(ask).collect();
    let mut due = Vec::new();
    for one in asked {
        due.extend(one.await);
    }
    due
}

/// Resolves a name and puts its addresses in force; gives the time until it is due again. None if
/// it failed: then the addresses before stay.
async fn resolve(
    shared: &Shared,
    generation: &Generation,
    name: &str,
    port: u16,
) -> Option<Duration> {
    let id = u16::try_from(shared.chance.below(1 << 16)).unwrap_or(0);
    let found = match dns::resolve(&generation.dns, name, id).await {
        Ok(found) if !found.addresses.is_empty() => found,
        Ok(_) => {
            tracing::error!(name, "the name has no address; those before stay");
            return None;
        }
        Err(error) => {
            tracing::error!(name, %error, "the name is not resolved; the addresses before stay");
            return None;
        }
    };
    let mut addresses: Vec<SocketAddr> =
        found.addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
    // Servers turn the order round with every answer, which is no change.
    addresses.sort_unstable();
    if shared.kept.learn(name, port, addresses.clone()) {
        tracing::info!(name, ?addresses, "a name is resolved");
        shared.record(record::addresses(generation.number, name, &addresses));
        for upstream in &generation.upstreams {
            if upstream.names().any(|(n, p)| n == name && p == port) {
                upstream.settle(&shared.kept);
            }
        }
    }
    Some(Duration::from_secs(found.ttl_s.clamp(TTL_S_MIN, TTL_S_MAX).into()))
}

async fn watch_name(
    shared: Rc<Shared>,
    generation: Arc<Generation>,
    name: String,
    port: u16,
    mut due: Duration,
) {
    let mut again = AGAIN;
    loop {
        tokio::time::sleep(due).await;
        due = match resolve(&shared, &generation, &name, port).await {
            Some(due) => {
                again = AGAIN;
                due
            }
            None => {
                let pause = shared.about(again);
                again = (again * 2).min(Duration::from_secs(TTL_S_MAX.into()));
                pause
            }
        };
    }
}

type Probes = HashMap<SocketAddr, Rc<Pool<Full<Bytes>>>>;

/// The pool of the gateway's own questions to an endpoint: one connection beside those of calls.
fn pool_of(upstream: &Upstream, pools: &mut Probes, address: SocketAddr) -> Rc<Pool<Full<Bytes>>> {
    let fresh = || {
        let slots = Slots::new(1, 1);
        Pool::new(Settings { address, slots, terms: upstream.terms.clone() })
    };
    Rc::clone(pools.entry(address).or_insert_with(fresh))
}

/// Checks every endpoint of a service, again and again, each in a task of its own.
async fn watch_health(shared: Rc<Shared>, generation: Arc<Generation>, at: usize) {
    let Some(upstream) = generation.upstreams.get(at) else { return };
    let Some(health) = &upstream.health else { return };
    let mut rows: HashMap<SocketAddr, Row> = HashMap::new();
    let mut pools = Probes::new();
    loop {
        let members = upstream.cluster.members();
        rows.retain(|address, _| members.list().iter().any(|m| m.endpoint.address() == *address));
        pools.retain(|address, _| members.list().iter().any(|m| m.endpoint.address() == *address));
        let mut asked = Vec::new();
        for member in members.list() {
            let pool = pool_of(upstream, &mut pools, member.endpoint.address());
            let (health, authority) = (health.clone(), upstream.authority.clone());
            asked.push(tokio::task::spawn_local(async move {
                health::ask(&pool, &health.question, &authority, health.timeout).await
            }));
        }
        for (member, asked) in members.list().iter().zip(asked) {
            let address = member.endpoint.address();
            let result = asked.await.unwrap_or_else(|e| Err(e.to_string()));
            if let Err(why) = &result {
                tracing::debug!(upstream = upstream.name, %address, why, "a health check failed");
            }
            let row = rows.entry(address).or_default();
            if let Some(is_healthy) = row.add(result.is_ok(), health)
                && let Some(event) =
                    member.endpoint.set_health(upstream.cluster.now_ms(), is_healthy)
            {
                shared.tell(generation.number, &upstream.name, address, &event);
            }
        }
        tokio::time::sleep(shared.about(health.interval)).await;
    }
}

/// Checks of one endpoint that came out the same, in a row.
#[derive(Default)]
struct Row {
    is_good: bool,
    count: u32,
}

impl Row {
    /// Takes one more; says what the endpoint counts as once the row is long enough.
    fn add(&mut self, is_good: bool, health: &Health) -> Option<bool> {
        if self.is_good != is_good {
            *self = Row { is_good, count: 0 };
        }
        self.count = self.count.saturating_add(1);
        let enough = if is_good { health.healthy_after } else { health.unhealthy_after };
        (self.count >= enough).then_some(is_good)
    }
}

/// Probes endpoints whose breaker would let a harmless call through, but none comes.
async fn watch_breakers(shared: Rc<Shared>, generation: Arc<Generation>, at: usize) {
    let Some(upstream) = generation.upstreams.get(at) else { return };
    let mut pools = Probes::new();
    loop {
        tokio::time::sleep(LOOK).await;
        let now_ms = upstream.cluster.now_ms();
        for member in upstream.cluster.members().list() {
            let breaker = &member.endpoint.breaker;
            if !breaker.needs_probe(now_ms, PROBE_IDLE_MS)
                || breaker.admit(now_ms, true) != Admission::Probe
            {
                continue;
            }
            let address = member.endpoint.address();
            let pool = pool_of(upstream, &mut pools, address);
            let outcome = probe(upstream, &pool).await;
            for event in report(&upstream.cluster, member, outcome, &shared).into_iter().flatten() {
                shared.tell(generation.number, &upstream.name, address, &event);
            }
        }
        pools.retain(|address, _| {
            let members = upstream.cluster.members();
            members.list().iter().any(|m| m.endpoint.address() == *address)
        });
    }
}

async fn probe(upstream: &Upstream, pool: &Rc<Pool<Full<Bytes>>>) -> Outcome {
    let asked = match &upstream.health {
        Some(health) => {
            health::ask(pool, &health.question, &upstream.authority, health.timeout).await
        }
        None => health::ask(pool, &Question::Connect, &upstream.authority, CONNECT).await,
    };
    if asked.is_ok() { Outcome::Answered { took_ms: 0 } } else { Outcome::Failed }
}

fn report(
    cluster: &Cluster,
    member: &Member,
    outcome: Outcome,
    shared: &Shared,
) -> [Option<Event>; 2] {
    let settings = (&cluster.settings.breaker, &cluster.settings.outlier);
    let chance = u32::try_from(shared.chance.below(1 << 10)).unwrap_or(0);
    member.endpoint.report(cluster.now_ms(), settings, (true, outcome), false, chance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_row_of_checks_changes_what_an_endpoint_counts_as() {
        let health = Health {
            question: Question::Connect,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            healthy_after: 2,
            unhealthy_after: 3,
        };
        let mut row = Row::default();
        let mut add = |results: &[bool]| -> Vec<Option<bool>> {
            results.iter().map(|is_good| row.add(*is_good, &health)).collect()
        };
        assert_eq!(add(&[false, false, true, true]), [None, None, None, Some(true)]);
        assert_eq!(add(&[false, false, false]), [None, None, Some(false)]);
        assert_eq!(add(&[true, false, false, false]), [None, None, None, Some(false)]);
    }
}
