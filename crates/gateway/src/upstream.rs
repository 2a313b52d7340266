//! A service of a generation: where it runs, how it is reached, and which call goes to which of
//! its endpoints.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use moat_config::{Balance, HealthAsk, Place, Protocol, RingKey};
use moat_identity::SpiffeId;
use moat_model::code::config::BAD_VALUE;
use moat_model::code::tls::NO_TRUST;
use moat_net::breaker;
use moat_net::cluster::{self, Cluster, Registry, Settings};
use moat_net::endpoint::Outlier;
use moat_net::health::Question;
use moat_net::pool::Terms;
use moat_net::rate::{Limiter, Rate};
use moat_tls::{ALPN_H2, ALPN_HTTP1, Client, Keys, Stack};

use crate::generation::{Refused, materials, national};
use crate::iso8583::{self, Dialect, Lately};
use crate::key_sets::KeySets;

/// A compiled service.
pub(crate) struct Upstream {
    pub(crate) name: String,
    /// Whether calls say the caller's certificates.
    pub(crate) caller_chain: bool,
    pub(crate) authority: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// How its pools reach it.
    pub(crate) terms: Terms,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) ring_key: Option<RingKey>,
    pub(crate) health: Option<Health>,
    /// How it speaks ISO 8583, if it does.
    pub(crate) messages: Option<Arc<Dialect>>,
    places: Vec<(Place, u32)>,
}

/// How its endpoints are checked.
#[derive(Clone)]
pub(crate) struct Health {
    pub(crate) question: Question,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) healthy_after: u32,
    pub(crate) unhealthy_after: u32,
}

/// What outlives a generation: what is known of endpoints, the last good addresses of names, and
/// what was answered lately.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) registry: Arc<Registry>,
    names: Mutex<BTreeMap<String, Vec<SocketAddr>>>,
    limiters: Mutex<BTreeMap<(String, String), Weak<Limiter>>>,
    /// Keys of issuers that are fetched.
    pub(crate) key_sets: KeySets,
    /// Messages that were answered lately.
    pub(crate) lately: Arc<Lately>,
}

impl Kept {
    /// Takes over the addresses of a name; says whether they differ from those before.
    pub(crate) fn learn(&self, name: &str, port: u16, addresses: Vec<SocketAddr>) -> bool {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let key = format!("{name}:{port}");
        let differs = names.get(&key) != Some(&addresses);
        names.insert(key, addresses);
        differs
    }

    /// The counts of a route's rate: those that are there, unless the rate has changed.
    pub(crate) fn limiter(&self, route: &str, name: &str, rate: Rate) -> Arc<Limiter> {
        let mut limiters = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (route.to_owned(), name.to_owned());
        let kept = limiters.get(&key).and_then(Weak::upgrade);
        if let Some(kept) = kept.filter(|kept| kept.rate() == rate) {
            return kept;
        }
        let fresh = Arc::new(Limiter::new(rate));
        limiters.retain(|_, limiter| limiter.strong_count() > 0);
        limiters.insert(key, Arc::downgrade(&fresh));
        fresh
    }

    fn addresses(&self, name: &str, port: u16) -> Vec<SocketAddr> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.get(&format!("{name}:{port}")).cloned().unwrap_or_default()
    }
}

impl Upstream {
    /// Compiles a service.
    ///
    /// # Errors
    /// Its TLS does not work.
    pub(crate) fn compile(
        raw: &moat_config::Upstream,
        workers: usize,
        keys: &mut Keys,
        kept: &Kept,
    ) -> Result<Upstream, Refused> {
        let settings = settings(raw);
        let upstream = Upstream {
            name: raw.name.clone(),
            caller_chain: raw.caller_chain,
            authority: raw.authority.clone(),
            labels: raw.labels.clone(),
            terms: terms(raw, workers, keys)?,
            cluster: Arc::new(Cluster::new(raw.name.clone(), settings, &kept.registry)),
            ring_key: match &raw.balance {
                Balance::Ring(key) => Some(key.clone()),
                Balance::TwoChoices | Balance::LeastRequest => None,
            },
            health: raw.health.as_ref().map(health),
            messages: raw.messages.as_ref().map(iso8583::dialect).transpose()?,
            places: raw.endpoints.iter().map(|e| (e.place.clone(), e.weight)).collect(),
        };
        upstream.settle(kept);
        Ok(upstream)
    }

    /// The names among its endpoints.
    pub(crate) fn names(&self) -> impl Iterator<Item = (&str, u16)> {
        self.places.iter().filter_map(|(place, _)| match place {
            Place::Name(name, port) => Some((name.as_str(), *port)),
            Place::Address(_) => None,
        })
    }

    /// Whether a name of it has no address yet.
    pub(crate) fn is_unresolved(&self, kept: &Kept) -> bool {
        self.names().any(|(name, port)| kept.addresses(name, port).is_empty())
    }

    /// Puts the addresses in force that are known now.
    pub(crate) fn settle(&self, kept: &Kept) {
        let mut all: Vec<(SocketAddr, u32)> = Vec::new();
        for (place, weight) in &self.places {
            let addresses = match place {
                Place::Address(address) => vec![*address],
                Place::Name(name, port) => kept.addresses(name, *port),
            };
            for address in addresses {
                if all.len() < cluster::ENDPOINTS_MAX && !all.iter().any(|(a, _)| *a == address) {
                    all.push((address, *weight));
                }
            }
        }
        self.cluster.set(&all);
    }
}

fn count(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn settings(raw: &moat_config::Upstream) -> Settings {
    let (breaker, outlier) = (&raw.breaker, &raw.outlier);
    Settings {
        balance: match raw.balance {
            Balance::TwoChoices => cluster::Balance::TwoChoices,
            Balance::LeastRequest => cluster::Balance::LeastRequest,
            Balance::Ring(_) => cluster::Balance::Ring,
        },
        breaker: breaker::Settings {
            error_percent: breaker.error_percent,
            slow_percent: breaker.slow_percent,
            slow_ms: breaker.slow_ms,
            calls_min: breaker.calls_min.into(),
            failures_min: breaker.failures_min.into(),
            open_ms: breaker.open_ms,
            open_ms_max: breaker.open_ms_max,
            probes: breaker.probes,
        },
        outlier: Outlier {
            failures_max: outlier.failures_max,
            ejection_ms: outlier.ejection_ms,
            ejection_ms_max: outlier.ejection_ms_max,
        },
        slow_start_ms: raw.slow_start_ms,
        connections_max: count(raw.connections_max),
        waiting_max: count(raw.waiting_max),
        adaptive_max: raw.adaptive_max.map(u64::from),
    }
}

fn health(raw: &moat_config::Health) -> Health {
    Health {
        question: match &raw.ask {
            HealthAsk::Http(path) => Question::Http(path.clone()),
            HealthAsk::Grpc(service) => Question::Grpc(service.clone()),
        },
        interval: Duration::from_millis(raw.interval_ms),
        timeout: Duration::from_millis(raw.timeout_ms),
        healthy_after: raw.healthy_after,
        unhealthy_after: raw.unhealthy_after,
    }
}

fn terms(raw: &moat_config::Upstream, workers: usize, keys: &mut Keys) -> Result<Terms, Refused> {
    let alpn: &[&[u8]] = match raw.protocol {
        _ if raw.messages.is_some() => &[],
        Protocol::Auto => &[ALPN_H2, ALPN_HTTP1],
        Protocol::Http1 => &[ALPN_HTTP1],
        Protocol::Http2 => &[ALPN_H2],
    };
    let spiffe: SpiffeId = raw.spiffe.parse().map_err(|e| {
        Refused::new(&BAD_VALUE, format!("upstream {}: {}: {e}", raw.name, raw.spiffe))
    })?;
    let national = national(raw.tls.national);
    let tls = Client::with_keys(
        &materials(&raw.tls.identities, &raw.tls.trust),
        spiffe,
        alpn,
        national,
        keys,
    )
    .map_err(|e| Refused::new(e.code, format!("upstream {}: {}", raw.name, e.detail)))?;
    if let Some(stack) = tls.left_out() {
        left_out(raw, stack)?;
    }
    Ok(Terms {
        tls,
        // The bound is for the node; each worker keeps its share, and at least one.
        idle_max: (count(raw.idle_max) / workers.max(1)).max(1),
        idle: Duration::from_millis(raw.idle_ms),
        connect: Duration::from_millis(raw.connect_ms),
    })
}

/// An identity of an upstream whose trust file has no authority of its stack. Where the upstream
/// names its identities, both are meant to be used; where they are those of the listener, a service
/// of one stack only is nothing unusual.
fn left_out(raw: &moat_config::Upstream, stack: Stack) -> Result<(), Refused> {
    let kind = if stack == Stack::National { "SM2" } else { "international" };
    let detail = format!(
        "upstream {}: its trust file has no {kind} authority, so its {kind} identity is of no use",
        raw.name
    );
    if !raw.tls.is_inherited {
        let fix = "add one, remove the identity, or set `national`";
        return Err(Refused::new(&NO_TRUST, format!("{detail}: {fix}")));
    }
    tracing::warn!("{detail}; it is the listener's, and only the other is used");
    Ok(())
}
