use proptest::prelude::*;

use super::*;
use crate::breaker::Outcome;
use crate::ring::hash;

fn members(weights: &[u32], balance: Balance) -> Members {
    let list = weights.iter().enumerate().map(|(at, weight)| {
        let address = SocketAddr::from(([10, 0, 0, u8::try_from(at).unwrap()], 443));
        let endpoint = Arc::new(Endpoint::new(address, 0, true));
        Member { endpoint, weight: *weight, slots: Slots::new(1, 1) }
    });
    Members::new(list.collect(), balance)
}

fn settings(balance: Balance) -> Settings {
    Settings { balance, slow_start_ms: 10_000, ..Settings::default() }
}

/// A source of chance that gives the same every time.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = hash(&self.0.to_be_bytes());
        self.0
    }
}

fn ask(chance: &mut Chance) -> Ask<'static> {
    let chance = [chance.next(), chance.next()];
    Ask { now_ms: 100_000, key: 0, may_probe: true, tried: &[], chance }
}

fn break_all(endpoint: &Endpoint) {
    for _ in 0..30 {
        let settings =
            (&breaker::Settings::default(), &Outlier { failures_max: 0, ..Outlier::default() });
        endpoint.report(100_000, settings, (false, Outcome::Failed), false, 0);
    }
}

fn shares(members: &Members, balance: Balance) -> Vec<u32> {
    let (mut chance, mut counts) = (Chance(1), vec![0; members.list().len()]);
    for _ in 0..10_000 {
        counts[members.choose(&settings(balance), &ask(&mut chance)).unwrap()] += 1;
    }
    counts
}

#[test]
fn calls_spread_by_weight() {
    let counts = shares(&members(&[1, 1, 2], Balance::TwoChoices), Balance::TwoChoices);
    for (count, share) in counts.iter().zip([2_500_u32, 2_500, 5_000]) {
        assert!(count.abs_diff(share) < 300, "{counts:?}");
    }
}

#[test]
fn the_loaded_and_the_slow_get_less() {
    let all = members(&[1, 1], Balance::TwoChoices);
    all.list()[0].endpoint.took(100_000, 10_000);
    all.list()[1].endpoint.took(100_000, 1_000);
    let counts = shares(&all, Balance::TwoChoices);
    assert!(counts[0] < 3_000, "the slow one only where both draws are it: {counts:?}");
    for _ in 0..50 {
        all.list()[1].endpoint.begin();
    }
    let counts = shares(&all, Balance::TwoChoices);
    assert!(counts[1] < 3_000, "fifty in flight outweigh ten times the latency: {counts:?}");
}

#[test]
fn least_request_counts_by_weight_and_shares_between_equals() {
    let all = members(&[1, 2, 1], Balance::LeastRequest);
    let counts = shares(&all, Balance::LeastRequest);
    assert_eq!(counts, [0, 10_000, 0], "idle: the heavier one is less loaded for its weight");
    let all = members(&[1, 1], Balance::LeastRequest);
    let counts = shares(&all, Balance::LeastRequest);
    assert!(counts[0].abs_diff(5_000) < 300, "{counts:?}");
}

#[test]
fn a_ring_keeps_to_one_endpoint_until_it_breaks_and_comes_back() {
    let all = members(&[1, 1, 1], Balance::Ring);
    let with = settings(Balance::Ring);
    let mut chance = Chance(3);
    let key = hash(b"account/1001");
    let mut choose = || all.choose(&with, &Ask { key, may_probe: false, ..ask(&mut chance) });
    let home = choose().unwrap();
    assert!((0..100).all(|_| choose() == Ok(home)));
    break_all(&all.list()[home].endpoint);
    let other = choose().unwrap();
    assert_ne!(other, home);
    assert!((0..100).all(|_| choose() == Ok(other)));
}

#[test]
fn broken_ones_get_nothing_and_when_all_are_broken_it_says_when() {
    let all = members(&[1, 1, 1], Balance::TwoChoices);
    break_all(&all.list()[0].endpoint);
    assert_eq!(shares(&all, Balance::TwoChoices)[0], 0);
    break_all(&all.list()[1].endpoint);
    break_all(&all.list()[2].endpoint);
    let chosen = all.choose(&settings(Balance::TwoChoices), &ask(&mut Chance(1)));
    assert_eq!(chosen, Err(Nobody::Broken { retry_ms: 1_000 }));
    let later = Ask { now_ms: 101_000, ..ask(&mut Chance(1)) };
    assert!(all.choose(&settings(Balance::TwoChoices), &later).is_ok(), "a probe may go");
    let write = Ask { may_probe: false, ..later };
    assert!(all.choose(&settings(Balance::TwoChoices), &write).is_err(), "a payment is no probe");
    let nobody = members(&[], Balance::TwoChoices).choose(&settings(Balance::TwoChoices), &later);
    assert_eq!(nobody, Err(Nobody::Unknown));
}

#[test]
fn the_unhealthy_get_nothing_unless_they_are_most() {
    let all = members(&[1, 1, 1], Balance::TwoChoices);
    all.list()[0].endpoint.set_health(100_000, false);
    assert!(!all.is_panicking(100_000));
    assert_eq!(shares(&all, Balance::TwoChoices)[0], 0);
    all.list()[1].endpoint.set_health(100_000, false);
    assert!(all.is_panicking(100_000));
    assert!(shares(&all, Balance::TwoChoices).iter().all(|count| *count > 2_000));
    let one = members(&[1], Balance::TwoChoices);
    one.list()[0].endpoint.set_health(100_000, false);
    assert_eq!(shares(&one, Balance::TwoChoices), [10_000], "rather it than nobody");
}

#[test]
fn what_was_tried_comes_last() {
    let all = members(&[1, 1], Balance::TwoChoices);
    let tried = [all.list()[0].endpoint.address()];
    for round in 0..100 {
        let again = Ask { tried: &tried, ..ask(&mut Chance(round)) };
        assert_eq!(all.choose(&settings(Balance::TwoChoices), &again), Ok(1));
    }
    let tried = [tried[0], all.list()[1].endpoint.address()];
    let again = Ask { tried: &tried, ..ask(&mut Chance(1)) };
    assert!(all.choose(&settings(Balance::TwoChoices), &again).is_ok());
}

#[test]
fn at_most_half_are_set_aside() {
    for (count, most) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)] {
        let all = members(&vec![1; count], Balance::TwoChoices);
        let mut ejected = 0;
        for member in all.list() {
            for _ in 0..5 {
                let with = (&breaker::Settings::default(), &Outlier::default());
                let may = all.may_eject(100_000);
                let events =
                    member.endpoint.report(100_000, with, (false, Outcome::Failed), may, 0);
                ejected += usize::from(events[1].is_some());
            }
        }
        assert_eq!(ejected, most, "of {count}");
    }
}

#[test]
fn what_is_known_of_an_endpoint_outlives_a_reload_and_nothing_else() {
    let registry = Registry::default();
    let address = SocketAddr::from(([10, 0, 0, 1], 443));
    let first = registry.endpoint("a", address, 1, true);
    assert!(Arc::ptr_eq(&first, &registry.endpoint("a", address, 2, false)));
    assert!(!Arc::ptr_eq(&first, &registry.endpoint("b", address, 2, false)));
    drop(first);
    let again = registry.endpoint("a", address, 50_000, false);
    assert_eq!(again.weight(1, 50_000, 10_000), 10, "one that nobody used is forgotten");
    assert_eq!(registry.known.lock().unwrap().len(), 1, "and leaves nothing behind");
}

#[test]
fn members_that_stay_keep_what_is_known_of_them_and_their_places() {
    let address = |n: u8| SocketAddr::from(([10, 0, 0, n], 443));
    let cluster = Cluster::new("a".to_owned(), Settings::default(), &Arc::default());
    cluster.set(&[(address(1), 1), (address(2), 1)]);
    let (version, before) = (cluster.version(), cluster.members());
    cluster.set(&[(address(2), 3), (address(3), 1)]);
    let after = cluster.members();
    assert_ne!(cluster.version(), version);
    assert!(Arc::ptr_eq(&before.list()[1].endpoint, &after.list()[0].endpoint));
    assert!(Arc::ptr_eq(&before.list()[1].slots, &after.list()[0].slots));
    assert_eq!((after.list()[0].weight, after.list().len()), (3, 2));
}

proptest! {
    #[test]
    fn a_choice_is_always_one_that_may_be_chosen(
        weights in proptest::collection::vec(1_u32..10, 0..8),
        broken in any::<u8>(), sick in any::<u8>(), seed in any::<u64>(), kind in 0_u8..3,
    ) {
        let balance = [Balance::TwoChoices, Balance::LeastRequest, Balance::Ring][usize::from(kind)];
        let all = members(&weights, balance);
        for (at, member) in all.list().iter().enumerate() {
            if broken >> at & 1 == 1 {
                break_all(&member.endpoint);
            }
            if sick >> at & 1 == 1 {
                member.endpoint.set_health(100_000, false);
            }
        }
        let mut chance = Chance(seed);
        let asked = Ask { key: seed, ..ask(&mut chance) };
        let any = all.list().iter().any(|m| m.endpoint.breaker.lets_through(100_000, true));
        match all.choose(&settings(balance), &asked) {
            Ok(at) => prop_assert!(all.list()[at].endpoint.breaker.lets_through(100_000, true)),
            Err(_) => prop_assert!(!any),
        }
    }
}
