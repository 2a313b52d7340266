use proptest::prelude::*;

use super::*;

const GOOD: Outcome = Outcome::Answered { took_ms: 1 };

fn settings() -> Settings {
    Settings::default()
}

fn opened(breaker: &Breaker, now_ms: u64) -> u64 {
    for _ in 0..30 {
        let change = breaker.report(&settings(), now_ms, false, Outcome::Failed, 0);
        if let Some(Change::Opened { for_ms, .. }) = change {
            return for_ms;
        }
    }
    panic!("it did not open");
}

#[test]
fn words_come_back_as_they_were() {
    for state in [State::Closed, State::Open, State::HalfOpen] {
        let word = Word { state, opens: 63, good: 100, is_probing: true, time_ms: TIME_MASK };
        assert_eq!(Word::unpack(word.pack()), word);
    }
    assert_eq!(Word::CLOSED.pack(), 0, "a breaker begins closed");
}

#[test]
fn it_opens_above_the_error_rate_and_not_before_there_are_enough_calls() {
    let breaker = Breaker::default();
    for _ in 0..15 {
        assert_eq!(breaker.report(&settings(), 0, false, GOOD, 0), None);
    }
    for failure in 1..5 {
        let change = breaker.report(&settings(), 0, false, Outcome::Failed, 0);
        assert_eq!(change, None, "{failure} failures");
    }
    let change = breaker.report(&settings(), 0, false, Outcome::Failed, 0);
    assert_eq!(change, Some(Change::Opened { for_ms: 1_000, seen: Sum { all: 20, bad: 5 } }));
    // Five of a hundred are five per cent, and not more.
    let breaker = Breaker::default();
    for call in 0..100 {
        let outcome = if call % 20 == 19 { Outcome::Failed } else { GOOD };
        assert_eq!(breaker.report(&settings(), 0, false, outcome, 0), None);
    }
    assert!(breaker.report(&settings(), 0, false, Outcome::Failed, 0).is_some());
}

#[test]
fn slow_answers_open_it_where_that_is_asked_for() {
    let breaker = Breaker::default();
    let settings = Settings { slow_percent: 50, slow_ms: 100, ..settings() };
    let slow = Outcome::Answered { took_ms: 101 };
    for _ in 0..19 {
        assert_eq!(breaker.report(&settings, 0, false, slow, 0), None);
    }
    assert!(breaker.report(&settings, 0, false, slow, 0).is_some());
}

#[test]
fn while_it_is_open_nothing_passes_and_afterwards_one_probe_at_a_time() {
    let breaker = Breaker::default();
    let for_ms = opened(&breaker, 5_000);
    assert_eq!(breaker.admit(5_000, true), Admission::Refused { retry_ms: for_ms });
    assert!(!breaker.lets_through(5_999, true));
    assert_eq!(breaker.admit(6_000, false), Admission::Refused { retry_ms: 1_000 });
    for probe in 1..=3 {
        assert_eq!(breaker.admit(6_000, true), Admission::Probe);
        assert!(matches!(breaker.admit(6_000, true), Admission::Refused { .. }));
        // Calls from before it opened change nothing.
        assert_eq!(breaker.report(&settings(), 6_000, false, Outcome::Failed, 0), None);
        let change = breaker.report(&settings(), 6_000, true, GOOD, 0);
        assert_eq!(change, (probe == 3).then_some(Change::Closed));
    }
    assert_eq!(breaker.admit(6_000, false), Admission::Pass);
    assert_eq!(breaker.report(&settings(), 6_000, false, Outcome::Failed, 0), None, "forgotten");
}

#[test]
fn a_failed_probe_doubles_the_time_up_to_its_bound() {
    let breaker = Breaker::default();
    let (mut now, mut for_ms) = (0, opened(&breaker, 0));
    for expected in [2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
        now += for_ms;
        assert_eq!(breaker.admit(now, true), Admission::Probe);
        let change = breaker.report(&settings(), now, true, Outcome::Failed, 0);
        let Some(Change::Opened { for_ms: next, .. }) = change else { panic!("{change:?}") };
        assert_eq!(next, expected);
        for_ms = next;
    }
    assert!(breaker.needs_probe(now + for_ms + 500, 500));
    assert!(!breaker.needs_probe(now + for_ms, 500));
}

#[test]
fn a_probe_that_was_withdrawn_or_lost_makes_room_for_another() {
    let breaker = Breaker::default();
    let now = opened(&breaker, 0);
    assert_eq!(breaker.admit(now, true), Admission::Probe);
    breaker.withdraw(true);
    assert_eq!(breaker.admit(now, true), Admission::Probe);
    assert!(matches!(breaker.admit(now + 29_999, true), Admission::Refused { .. }));
    assert_eq!(breaker.admit(now + 30_000, true), Admission::Probe);
}

/// The state machine as a table, with one caller.
#[derive(Debug, PartialEq)]
enum Model {
    Closed,
    Open { until: u64, opens: u32 },
    Half { good: u8, is_out: bool, opens: u32 },
}

proptest! {
    #[test]
    fn it_follows_the_table(steps in proptest::collection::vec((0_u8..4, 0_u64..1_500), 1..300)) {
        let breaker = Breaker::default();
        // Any failure opens it, so that the table needs no window.
        let settings = Settings { calls_min: 1, failures_min: 1, error_percent: 0, ..settings() };
        let (mut model, mut now) = (Model::Closed, 0);
        for (step, pause) in steps {
            now += pause;
            let (next, expected) = match (&model, step) {
                (Model::Closed, 0 | 1) => (Model::Closed, Some(Admission::Pass)),
                (Model::Closed, 2) => {
                    breaker.report(&settings, now, false, Outcome::Failed, 0);
                    (Model::Open { until: now + 1_000, opens: 1 }, None)
                }
                (Model::Open { until, opens }, 0) if now >= *until => {
                    (Model::Half { good: 0, is_out: true, opens: *opens }, Some(Admission::Probe))
                }
                (Model::Open { until, opens }, 0 | 1) => {
                    let left = if *until > now { until - now } else { 1_000 };
                    (Model::Open { until: *until, opens: *opens },
                     Some(Admission::Refused { retry_ms: left }))
                }
                (Model::Half { good, is_out: false, opens }, 0) => {
                    (Model::Half { good: *good, is_out: true, opens: *opens },
                     Some(Admission::Probe))
                }
                (Model::Half { good, is_out: true, opens }, 2) => {
                    breaker.report(&settings, now, true, Outcome::Failed, 0);
                    let _ = good;
                    let for_ms = (1_000_u64 << opens).min(30_000);
                    (Model::Open { until: now + for_ms, opens: opens + 1 }, None)
                }
                (Model::Half { good, is_out: true, opens }, 3) => {
                    breaker.report(&settings, now, true, GOOD, 0);
                    if *good == 2 { (Model::Closed, None) }
                    else { (Model::Half { good: good + 1, is_out: false, opens: *opens }, None) }
                }
                _ => continue,
            };
            if let Some(expected) = expected {
                prop_assert_eq!(breaker.admit(now, step == 0), expected);
            }
            model = next;
            let state = match model {
                Model::Closed => State::Closed,
                Model::Open { .. } => State::Open,
                Model::Half { .. } => State::HalfOpen,
            };
            prop_assert_eq!(breaker.state(), state);
        }
    }
}
