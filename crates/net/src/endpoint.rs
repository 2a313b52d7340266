//! What is known of one endpoint of a service: shared by all workers, written without a lock, and
//! kept over reloads for as long as the configuration names it.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::net::SocketAddr;

use crate::breaker::{self, Breaker, Change, Outcome};

/// Time over which a latency is forgotten, in milliseconds.
const DECAY_MS: u64 = 10_000;
/// What one sample counts at least: one part in so many.
const SAMPLE_PARTS: u64 = 64;
/// Weights are multiplied by this, so that a slow start has steps.
pub const WEIGHT_UNIT: u64 = 100;
/// Least part of its weight that a starting endpoint has, in hundredths.
const START_PERCENT: u64 = 10;

/// When an endpoint is set aside for failing in a row, beside others that do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlier {
    /// Failures in a row; 0 is never.
    pub failures_max: u32,
    /// How long it is set aside for the first time, in milliseconds; once more each time.
    pub ejection_ms: u64,
    /// Longest time.
    pub ejection_ms_max: u64,
}

impl Default for Outlier {
    fn default() -> Outlier {
        Outlier { failures_max: 5, ejection_ms: 30_000, ejection_ms_max: 300_000 }
    }
}

/// Something that happened to an endpoint; each becomes a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its breaker.
    Breaker(Change),
    /// It is set aside.
    Ejected {
        /// How long, in milliseconds.
        for_ms: u64,
        /// Failures in a row.
        failures: u32,
    },
    /// The health check says otherwise than before.
    Health {
        /// Whether it is healthy now.
        is_healthy: bool,
    },
}

impl core::fmt::Display for Event {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Event::Breaker(Change::Opened { for_ms, seen }) => {
                write!(f, "breaker open for_ms={for_ms} calls={} bad={}", seen.all, seen.bad)
            }
            Event::Breaker(Change::Closed) => f.write_str("breaker closed"),
            Event::Ejected { for_ms, failures } => {
                write!(f, "set aside for_ms={for_ms} failures={failures}")
            }
            Event::Health { is_healthy: true } => f.write_str("healthy"),
            Event::Health { is_healthy: false } => f.write_str("unhealthy"),
        }
    }
}

/// See the module. Times are milliseconds of one clock that never steps back.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    /// Its breaker.
    pub breaker: Breaker,
    in_flight: AtomicU64,
    latency: Latency,
    /// Since when it takes calls, for the slow start.
    since_ms: AtomicU64,
    is_unhealthy: AtomicBool,
    failures: AtomicU32,
    ejections: AtomicU32,
    ejected_until_ms: AtomicU64,
    calls: AtomicU64,
    failed: AtomicU64,
}

/// Figures for `moat status` and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Calls given to it.
    pub calls: u64,
    /// Those of them that failed or were left unknown.
    pub failed: u64,
    /// Calls under way.
    pub in_flight: u64,
    /// Latency, smoothed, in microseconds.
    pub latency_us: u64,
}

impl Endpoint {
    /// One that nothing is known of. With `is_old` it has its full weight at once.
    #[must_use]
    pub fn new(address: SocketAddr, now_ms: u64, is_old: bool) -> Endpoint {
        Endpoint {
            address,
            breaker: Breaker::default(),
            in_flight: AtomicU64::new(0),
            latency: Latency::default(),
            since_ms: AtomicU64::new(if is_old { 0 } else { now_ms }),
            is_unhealthy: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            ejected_until_ms: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// See [`Figures`].
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures {
            calls: self.calls.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            in_flight: self.in_flight(),
            latency_us: self.latency.us(),
        }
    }

    /// Calls under way, of all workers.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Smoothed latency in microseconds; 0 before the first answer.
    #[must_use]
    pub fn latency_us(&self) -> u64 {
        self.latency.us()
    }

    /// Whether neither health check nor ejection speaks against it.
    #[must_use]
    pub fn is_well(&self, now_ms: u64) -> bool {
        !self.is_unhealthy.load(Ordering::Relaxed) && !self.is_ejected(now_ms)
    }

    /// Whether the health check speaks against it.
    #[must_use]
    pub fn is_unhealthy(&self) -> bool {
        self.is_unhealthy.load(Ordering::Relaxed)
    }

    /// Whether it is set aside.
    #[must_use]
    pub fn is_ejected(&self, now_ms: u64) -> bool {
        now_ms < self.ejected_until_ms.load(Ordering::Relaxed)
    }

    /// Its weight now, in units of [`WEIGHT_UNIT`]: that of an endpoint that has just come or come
    /// back grows over `slow_start_ms`, so that caches and pools there can fill.
    #[must_use]
    pub fn weight(&self, weight: u32, now_ms: u64, slow_start_ms: u64) -> u64 {
        let begun = self.since_ms.load(Ordering::Relaxed);
        // One that was set aside begins anew when that ends.
        let begun = begun.max(self.ejected_until_ms.load(Ordering::Relaxed));
        let age = now_ms.saturating_sub(begun);
        let percent = if begun == 0 || age >= slow_start_ms {
            WEIGHT_UNIT
        } else {
            (WEIGHT_UNIT * age / slow_start_ms.max(1)).max(START_PERCENT)
        };
        u64::from(weight) * percent
    }

    /// A call begins.
    pub fn begin(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// A call has ended.
    pub fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// An answer's head came after `took_us` microseconds, or the wait for it ended then.
    pub fn took(&self, now_ms: u64, took_us: u64) {
        self.latency.add(now_ms, took_us);
    }

    /// Takes an outcome. `may_eject` says whether enough others are left.
    pub fn report(
        &self,
        now_ms: u64,
        settings: (&breaker::Settings, &Outlier),
        call: (bool, Outcome),
        may_eject: bool,
        chance: u32,
    ) -> [Option<Event>; 2] {
        let (was_probe, outcome) = call;
        let change = self.breaker.report(settings.0, now_ms, was_probe, outcome, chance);
        let ejected = match outcome {
            Outcome::Answered { .. } => {
                self.failures.store(0, Ordering::Relaxed);
                if !self.is_ejected(now_ms) {
                    self.ejections.store(0, Ordering::Relaxed);
                }
                None
            }
            Outcome::Failed => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                self.fail(now_ms, settings.1, may_eject)
            }
        };
        [change.map(Event::Breaker), ejected]
    }

    fn fail(&self, now_ms: u64, outlier: &Outlier, may_eject: bool) -> Option<Event> {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if outlier.failures_max == 0
            || failures < outlier.failures_max
            || !may_eject
            || self.is_ejected(now_ms)
        {
            return None;
        }
        let times = self.ejections.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let for_ms =
            outlier.ejection_ms.saturating_mul(u64::from(times)).min(outlier.ejection_ms_max);
        self.ejected_until_ms.store(now_ms + for_ms, Ordering::Relaxed);
        self.failures.store(0, Ordering::Relaxed);
        Some(Event::Ejected { for_ms, failures })
    }

    /// Takes what a health check has come to.
    pub fn set_health(&self, now_ms: u64, is_healthy: bool) -> Option<Event> {
        let was_unhealthy = self.is_unhealthy.swap(!is_healthy, Ordering::Relaxed);
        if was_unhealthy != is_healthy {
            return None;
        }
        if is_healthy {
            self.since_ms.store(now_ms, Ordering::Relaxed);
        }
        Some(Event::Health { is_healthy })
    }
}

/// A peak-sensitive moving average: a rise is taken at once, a fall over [`DECAY_MS`]. One word:
/// microseconds in the upper half, the time of the last sample in milliseconds in the lower.
#[derive(Debug, Default)]
struct Latency(AtomicU64);

const HALF: u32 = 32;
const HALF_MASK: u64 = (1 << HALF) - 1;

impl Latency {
    fn us(&self) -> u64 {
        self.0.load(Ordering::Relaxed) >> HALF
    }

    fn add(&self, now_ms: u64, took_us: u64) {
        let took = took_us.clamp(1, HALF_MASK);
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            let (old, stamp) = (word >> HALF, word & HALF_MASK);
            let now = now_ms & HALF_MASK;
            let passed = (now.wrapping_sub(stamp) & HALF_MASK).max(DECAY_MS / SAMPLE_PARTS);
            let next = if old == 0 || took >= old || passed >= DECAY_MS {
                took
            } else {
                (old * (DECAY_MS - passed) + took * passed) / DECAY_MS
            };
            Some((next << HALF) | now)
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: Outcome = Outcome::Answered { took_ms: 1 };

    fn endpoint(now_ms: u64) -> Endpoint {
        Endpoint::new(SocketAddr::from(([127, 0, 0, 1], 1)), now_ms, false)
    }

    fn report(
        endpoint: &Endpoint,
        now_ms: u64,
        outcome: Outcome,
        may_eject: bool,
    ) -> Option<Event> {
        let settings = (&breaker::Settings::default(), &Outlier::default());
        endpoint.report(now_ms, settings, (false, outcome), may_eject, 0)[1]
    }

    #[test]
    fn a_latency_rises_at_once_and_falls_slowly() {
        let latency = Latency::default();
        latency.add(1_000, 100);
        assert_eq!(latency.us(), 100);
        latency.add(1_000, 9_000);
        assert_eq!(latency.us(), 9_000);
        latency.add(1_000, 100);
        assert!((8_000..9_000).contains(&latency.us()), "{}", latency.us());
        latency.add(12_000, 100);
        assert_eq!(latency.us(), 100);
    }

    #[test]
    fn a_new_endpoint_has_a_tenth_of_its_weight_and_grows() {
        let new = endpoint(50_000);
        let weights = [50_000, 55_000, 59_000, 60_000].map(|now| new.weight(3, now, 10_000));
        assert_eq!(weights, [30, 150, 270, 300]);
        let old = Endpoint::new(new.address(), 50_000, true);
        assert_eq!(old.weight(3, 50_000, 10_000), 300, "one that was there from the start");
    }

    #[test]
    fn failures_in_a_row_set_it_aside_each_time_for_longer() {
        let endpoint = endpoint(0);
        let mut now = 1_000;
        for expected in [30_000, 60_000, 90_000] {
            for _ in 0..4 {
                assert_eq!(report(&endpoint, now, Outcome::Failed, true), None);
            }
            let event = report(&endpoint, now, Outcome::Failed, true);
            assert_eq!(event, Some(Event::Ejected { for_ms: expected, failures: 5 }));
            assert!(!endpoint.is_well(now + expected - 1));
            now += expected;
            assert!(endpoint.is_well(now));
        }
        report(&endpoint, now, GOOD, true);
        for _ in 0..4 {
            assert_eq!(report(&endpoint, now, Outcome::Failed, true), None);
        }
        let event = report(&endpoint, now, Outcome::Failed, true);
        assert_eq!(event, Some(Event::Ejected { for_ms: 30_000, failures: 5 }), "forgiven");
    }

    #[test]
    fn one_success_interrupts_the_row_and_the_last_one_is_never_set_aside() {
        let endpoint = endpoint(0);
        for _ in 0..20 {
            for _ in 0..4 {
                assert_eq!(report(&endpoint, 0, Outcome::Failed, true), None);
            }
            report(&endpoint, 0, GOOD, true);
        }
        for _ in 0..20 {
            assert_eq!(report(&endpoint, 0, Outcome::Failed, false), None);
        }
    }

    #[test]
    fn health_tells_changes_only_and_a_return_begins_slowly() {
        let endpoint = endpoint(0);
        assert_eq!(endpoint.set_health(10, true), None);
        assert_eq!(endpoint.set_health(20, false), Some(Event::Health { is_healthy: false }));
        assert_eq!(endpoint.set_health(30, false), None);
        assert!(!endpoint.is_well(30));
        assert_eq!(endpoint.set_health(90_000, true), Some(Event::Health { is_healthy: true }));
        assert_eq!(endpoint.weight(1, 90_000, 10_000), 10);
    }

    proptest! {
        #[test]
        fn a_latency_stays_within_its_samples(
            samples in proptest::collection::vec((0_u64..20_000, 1_u64..10_000_000), 1..100)
        ) {
            let latency = Latency::default();
            let mut now = 0;
            for (pause, took) in &samples {
                now += pause;
                latency.add(now, *took);
                prop_assert!(latency.us() >= *took);
            }
            let most = samples.iter().map(|(_, took)| *took).max().unwrap();
            prop_assert!(latency.us() <= most);
        }
    }
}
