use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// A service with so many places, each taking so long for a call; the rest queues there. Callers
/// give up after a second, the service does not notice.
struct Simulated {
    places: usize,
    work_ms: u64,
    busy: Vec<(u64, u64)>,
    queue: VecDeque<u64>,
}

struct Ran {
    /// Answers in time, per second.
    goodput: f64,
    /// Of those, the slowest but one per cent, in milliseconds.
    p99_ms: u64,
    limit: u64,
}

const PATIENCE_MS: u64 = 1_000;

impl Simulated {
    fn new(places: usize, work_ms: u64) -> Simulated {
        Simulated { places, work_ms, busy: Vec::new(), queue: VecDeque::new() }
    }

    /// Runs so long with so many arrivals a millisecond, in hundredths; with a limit or without.
    fn run(&mut self, limiter: &mut Option<Adaptive>, from: u64, ms: u64, rate: u64) -> Ran {
        let (mut taken, mut credit, mut good) = (Vec::new(), 0, 0_u32);
        for now in from..from + ms {
            let mut ended = Vec::new();
            self.busy.retain(|(end, begun)| {
                if *end <= now {
                    ended.push(*begun);
                }
                *end > now
            });
            for begun in ended {
                let took = now - begun;
                if took <= PATIENCE_MS {
                    good += 1;
                    taken.push(took);
                }
                if let Some(limiter) = limiter {
                    let sample =
                        if took > PATIENCE_MS { Sample::Late } else { Sample::Done(took * 1_000) };
                    limiter.leave(now, Some(sample));
                }
            }
            credit += rate;
            while credit >= 100 {
                credit -= 100;
                if limiter.as_mut().is_none_or(Adaptive::enter) {
                    self.queue.push_back(now);
                }
            }
            while self.busy.len() < self.places {
                let Some(begun) = self.queue.pop_front() else { break };
                self.busy.push((now + self.work_ms, begun));
            }
        }
        taken.sort_unstable();
        let p99_ms = taken.get(taken.len() * 99 / 100).copied().unwrap_or(0);
        let goodput = f64::from(good) * 1_000.0 / f64::from(u32::try_from(ms).unwrap());
        Ran { goodput, p99_ms, limit: limiter.as_ref().map_or(0, Adaptive::limit) }
    }
}

fn capacity(places: f64, work_ms: f64) -> f64 {
    places * 1_000.0 / work_ms
}

#[test]
fn at_three_times_the_load_goodput_stays_at_capacity_and_answers_stay_fast() {
    let most = capacity(50.0, 10.0);
    let mut service = Simulated::new(50, 10);
    let mut limiter = Some(Adaptive::new(1_000, 0, 0));
    service.run(&mut limiter, 0, 5_000, 1_500);
    let ran = service.run(&mut limiter, 5_000, 20_000, 1_500);
    assert!(ran.goodput >= most * 0.95, "{} of {most}, limit {}", ran.goodput, ran.limit);
    assert!(ran.p99_ms <= 30, "{} ms, limit {}", ran.p99_ms, ran.limit);
    // Without a limit the queue grows until nobody waits any longer.
    let without = Simulated::new(50, 10).run(&mut None, 0, 25_000, 1_500);
    assert!(without.goodput < most * 0.2, "{}", without.goodput);
}

#[test]
fn a_service_that_becomes_three_times_slower_is_followed_down_and_up() {
    let mut service = Simulated::new(50, 10);
    let mut limiter = Some(Adaptive::new(1_000, 0, 0));
    service.run(&mut limiter, 0, 10_000, 1_500);
    service.work_ms = 30;
    service.run(&mut limiter, 10_000, 40_000, 1_500);
    let slow = service.run(&mut limiter, 50_000, 20_000, 1_500);
    let most = capacity(50.0, 30.0);
    assert!(slow.goodput >= most * 0.9, "{} of {most}, limit {}", slow.goodput, slow.limit);
    service.work_ms = 10;
    service.run(&mut limiter, 70_000, 40_000, 1_500);
    let fast = service.run(&mut limiter, 110_000, 20_000, 1_500);
    let most = capacity(50.0, 10.0);
    assert!(fast.goodput >= most * 0.9, "{} of {most}, limit {}", fast.goodput, fast.limit);
}

#[test]
fn a_limit_falls_while_everything_times_out() {
    let mut limiter = Adaptive::new(1_000, 0, 0);
    for window in 1..100 {
        while limiter.enter() {}
        for _ in 0..limiter.in_flight() {
            limiter.leave(window * 100, Some(Sample::Late));
        }
    }
    assert_eq!(limiter.limit(), FLOOR);
    assert_eq!(limiter.in_flight(), 0);
}

#[test]
fn errors_that_come_fast_do_not_raise_it() {
    let mut limiter = Adaptive::new(1_000, 0, 0);
    for window in 1..100 {
        while limiter.enter() {}
        for _ in 0..limiter.in_flight() {
            limiter.leave(window * 100, Some(Sample::Failed));
        }
    }
    assert_eq!(limiter.limit(), START);
}

#[test]
fn it_does_not_grow_where_nobody_asks_for_more() {
    let mut limiter = Adaptive::new(1_000, 0, 0);
    for window in 1..100 {
        assert!(limiter.enter());
        limiter.leave(window * 100, Some(Sample::Done(1_000)));
    }
    assert_eq!(limiter.limit(), START);
}

proptest! {
    #[test]
    fn no_place_is_lost_and_the_bounds_hold(
        steps in proptest::collection::vec((0_u8..5, 0_u64..50, 1_u64..100_000), 1..2_000),
        ceiling in 1_u64..200,
    ) {
        let mut limiter = Adaptive::new(ceiling, 0, 7);
        let (mut now, mut inside) = (0, 0_u64);
        for (step, pause, us) in steps {
            now += pause;
            if step < 2 {
                inside += u64::from(limiter.enter());
            } else if inside > 0 {
                inside -= 1;
                let sample = [Some(Sample::Done(us)), Some(Sample::Late), None];
                limiter.leave(now, sample[usize::from(step - 2)]);
            }
            prop_assert_eq!(limiter.in_flight(), inside);
            prop_assert!(limiter.limit() >= FLOOR && limiter.limit() <= ceiling.max(FLOOR));
        }
    }
}
