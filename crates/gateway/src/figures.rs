//! What is counted for metrics: exactly, by each worker for itself, and added up when somebody asks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moat_model::Refusal;
use moat_model::clock::{Clock, System};
use moat_net::breaker::State;

use crate::generation::Generation;
use crate::messages::{Histogram, Row};

/// Upper bounds of the buckets of latencies, in microseconds; what is over all is one more bucket.
pub(crate) const BUCKETS_US: [u64; 15] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000,
];
/// Names of the classes of answers, by the first digit of their status.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// Most rows of one message: so that it fits.
const ROWS_MAX: usize = 64;

/// Answers of one route, by one worker.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    classes: [AtomicU64; 5],
    buckets: [AtomicU64; BUCKETS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Figures {
    /// Counts an answer: its status and the time until its head was ready.
    pub(crate) fn add(&self, status: u16, took: Duration) {
        let class = usize::from(status / 100).saturating_sub(1);
        if let Some(class) = self.classes.get(class) {
            class.fetch_add(1, Ordering::Relaxed);
        }
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let at = BUCKETS_US.partition_point(|bound| *bound < us);
        if let Some(bucket) = self.buckets.get(at) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }
}

/// What one worker counts by name. The locks are taken when a generation comes, when something is
/// refused, and when somebody asks; never for a call that is answered.
#[derive(Debug, Default)]
pub(crate) struct Named {
    routes: Mutex<BTreeMap<String, Arc<Figures>>>,
    refused: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
}

impl Named {
    /// The figures of a route, which go on over reloads.
    pub(crate) fn route(&self, name: &str) -> Arc<Figures> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(routes.entry(name.to_owned()).or_default())
    }

    pub(crate) fn refuse(&self, refusal: &Refusal) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused.entry((refusal.stage.name(), refusal.code.id)).or_default() += 1;
    }
}

/// The rows of all workers and of the endpoints of the generation in force.
pub(crate) fn rows<'a>(
    workers: impl Iterator<Item = &'a Named>,
    generation: &Generation,
) -> Vec<Row> {
    let (mut routes, mut refused) = (BTreeMap::<String, Sum>::new(), BTreeMap::new());
    for worker in workers {
        for (name, figures) in worker.routes.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            routes.entry(name.clone()).or_default().add(figures);
        }
        for (key, count) in worker.refused.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            *refused.entry(*key).or_default() += *count;
        }
    }
    let mut rows = Vec::new();
    for (name, sum) in &routes {
        for (class, count) in CLASSES.iter().zip(sum.classes) {
            if count > 0 {
                let labels = vec![label("route", name), label("class", class)];
                rows.push(Row::count("calls", labels, count));
            }
        }
        let histogram = Histogram { sum_us: sum.sum_us, counts: sum.buckets.to_vec() };
        rows.push(Row::histogram("call", vec![label("route", name)], histogram));
    }
    for ((stage, code), count) in refused {
        rows.push(Row::count("refused", vec![label("stage", stage), label("code", code)], count));
    }
    let now_s = i64::try_from(System::new().wall_ns() / 1_000_000_000).unwrap_or(i64::MAX);
    for listener in &generation.listeners {
        // What has ended has no time left.
        let left_s = u64::try_from(listener.not_after_s.saturating_sub(now_s)).unwrap_or(0);
        let labels = vec![label("listener", &listener.name)];
        rows.push(Row::count("certificate_left_s", labels, left_s));
    }
    for upstream in &generation.upstreams {
        let cluster = &upstream.cluster;
        for member in cluster.members().list() {
            let endpoint = &member.endpoint;
            let labels = || {
                let address = endpoint.address().to_string();
                vec![label("upstream", &upstream.name), label("endpoint", &address)]
            };
            let figures = endpoint.figures();
            let is_well = endpoint.is_well(cluster.now_ms());
            let breaker = match endpoint.breaker.state() {
                State::Closed => 0,
                State::HalfOpen => 1,
                State::Open => 2,
            };
            let connections = u64::try_from(member.slots.taken()).unwrap_or(u64::MAX);
            for (name, value) in [
                ("upstream_tries", figures.calls),
                ("upstream_failed", figures.failed),
                ("upstream_in_flight", figures.in_flight),
                ("upstream_latency_us", figures.latency_us),
                ("upstream_connections", connections),
                ("upstream_breaker", breaker),
                ("upstream_well", u64::from(is_well)),
            ] {
                rows.push(Row::count(name, labels(), value));
            }
        }
    }
    rows
}

/// Rows in parts that fit into a message, at least one part.
pub(crate) fn parts(rows: &[Row]) -> Vec<Vec<Row>> {
    let parts: Vec<Vec<Row>> = rows.chunks(ROWS_MAX).map(<[Row]>::to_vec).collect();
    if parts.is_empty() { vec![Vec::new()] } else { parts }
}

fn label(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[derive(Default)]
struct Sum {
    classes: [u64; 5],
    buckets: [u64; BUCKETS_US.len() + 1],
    sum_us: u64,
}

impl Sum {
    fn add(&mut self, figures: &Figures) {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        for (sum, one) in self.classes.iter_mut().zip(&figures.classes) {
            *sum += get(one);
        }
        for (sum, one) in self.buckets.iter_mut().zip(&figures.buckets) {
            *sum += get(one);
        }
        self.sum_us += get(&figures.sum_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_counted_in_its_class_and_bucket() {
        let figures = Figures::default();
        for (status, us) in [(200, 100), (204, 101), (404, 5_000_000), (503, 9_000_000), (999, 1)] {
            figures.add(status, Duration::from_micros(us));
        }
        let mut sum = Sum::default();
        sum.add(&figures);
        sum.add(&figures);
        assert_eq!(sum.classes, [0, 4, 0, 2, 2]);
        assert_eq!(
            (sum.buckets[0], sum.buckets[1], sum.buckets[14], sum.buckets[15]),
            (4, 2, 2, 2)
        );
        assert_eq!(sum.buckets.iter().sum::<u64>(), 10);
    }

    #[test]
    fn rows_are_cut_into_parts_and_none_is_lost() {
        let row = Row::count("calls", vec![label("route", &"x".repeat(64))], u64::MAX);
        for count in [0, 1, 64, 65, 200] {
            let parts = parts(&vec![row.clone(); count]);
            assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), count);
            assert!(!parts.is_empty());
            for part in parts {
                let bytes = serde_json::to_vec(&part).unwrap();
                assert!(bytes.len() < moat_net::control::MESSAGE_BYTES_MAX / 2, "{}", bytes.len());
            }
        }
    }
}
