use proptest::prelude::*;

use super::profile::KNOWN_AFTER;
use super::*;

const KEY: Key = [7; 16];
const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;
/// Monday, 5 January 2026, 09:00 UTC.
const MONDAY_NINE_MS: u64 = 1_767_603_600_000;

fn attempt(now_ms: u64) -> Attempt<'static> {
    Attempt {
        now_ms,
        subject: &["spiffe://bank.test/teller"],
        device: "t13d1516h2_8daaf6152771_e5627efa2ab1",
        network: &[10, 1, 2],
        stack: "64 2-4-8-1-3",
        amount: None,
        counterparty: "",
    }
}

fn allow(memory: &Memory, attempt: &Attempt<'_>) -> Risk {
    let risk = memory.attempt(attempt);
    memory.settle(attempt, Ended::Allowed);
    risk
}

/// A teller who works from nine to five on the five days from Monday, one call each half hour, and
/// moves about 100.00 each time.
fn at_work(weeks: u64) -> Memory {
    let memory = Memory::new(1_000, KEY);
    for day in (0..weeks * 7).filter(|day| day % 7 < 5) {
        for half in 0..16 {
            let now_ms = MONDAY_NINE_MS + day * DAY_MS + half * 30 * MINUTE_MS;
            let amount = Some(8_000 + half * 250);
            allow(&memory, &Attempt { amount, ..attempt(now_ms) });
        }
    }
    memory
}

fn parts(risk: &Risk) -> Vec<(Part, u16)> {
    risk.parts().collect()
}

/// Monday of the week after, at nine.
fn after(weeks: u64) -> u64 {
    MONDAY_NINE_MS + weeks * 7 * DAY_MS
}

#[test]
fn who_is_not_known_is_cold_until_enough_was_allowed() {
    let memory = Memory::new(1_000, KEY);
    for call in 0..u64::from(KNOWN_AFTER) {
        let risk = allow(&memory, &attempt(MONDAY_NINE_MS + call * MINUTE_MS));
        assert_eq!((risk.state, risk.score()), (RiskState::Cold, 500));
        assert_eq!(risk.note(), "cold 500 cold=500");
    }
    let risk = memory.attempt(&attempt(MONDAY_NINE_MS + HOUR_MS));
    assert_eq!((risk.state, risk.score()), (RiskState::Known, 0));
    let other = Attempt { subject: &["spiffe://bank.test/other"], ..attempt(MONDAY_NINE_MS) };
    assert_eq!(memory.look(&other).state, RiskState::Cold);
    // A person behind a service is another subject than the service.
    let person = Attempt { subject: &["spiffe://bank.test/teller", "zhang"], ..other };
    assert_eq!(memory.look(&person).state, RiskState::Cold);
}

#[test]
fn what_was_always_done_has_no_points() {
    let memory = at_work(4);
    let risk = memory.attempt(&Attempt { amount: Some(9_000), ..attempt(after(4)) });
    assert_eq!(risk.note(), "known 0");
}

#[test]
fn each_thing_out_of_the_ordinary_has_its_points() {
    let memory = at_work(4);
    let usual = attempt(after(4));
    let cases = [
        (Attempt { device: "t13d0000h2_0_0", ..usual }, vec![(Part::NewDevice, 200)]),
        (Attempt { device: "", ..usual }, vec![(Part::NoDevice, 100)]),
        (Attempt { network: &[192, 0, 2], ..usual }, vec![(Part::NewNetwork, 150)]),
        (Attempt { stack: "128 2-1-3", ..usual }, vec![(Part::NewStack, 60)]),
        // At three in the night of a Tuesday; at ten on a Saturday, when others days have that hour.
        (attempt(after(4) + 18 * HOUR_MS), vec![(Part::OddHour, 150)]),
        (attempt(after(4) + 5 * DAY_MS + HOUR_MS), vec![(Part::OddHour, 80)]),
        (Attempt { amount: Some(20_000), ..usual }, vec![]),
        (Attempt { amount: Some(1_000_000), ..usual }, vec![(Part::Amount, 300)]),
        (
            Attempt { device: "x", network: &[1], stack: "y", ..usual },
            vec![(Part::NewDevice, 200), (Part::NewNetwork, 150), (Part::NewStack, 60)],
        ),
    ];
    for (attempt, wanted) in cases {
        assert_eq!(parts(&memory.look(&attempt)), wanted, "{attempt:?}");
    }
    let amounts = [40_000, 80_000, 160_000].map(|amount| {
        let risk = memory.look(&Attempt { amount: Some(amount), ..usual });
        risk.score()
    });
    assert!(amounts.is_sorted() && amounts[1] - amounts[0] == 100, "{amounts:?}");
}

#[test]
fn a_burst_is_more_than_usual_and_a_busy_caller_may_be_busy() {
    let memory = at_work(1);
    let burst: Vec<u32> =
        (0..90).map(|call| memory.attempt(&attempt(after(1) + call * 100)).score()).collect();
    assert_eq!(burst[29], 0, "30 calls a minute are granted");
    assert_eq!(burst[59], 100, "twice as many are 100 points");
    assert_eq!(burst[89], 200);
    assert_eq!(memory.look(&attempt(after(1) + 5 * MINUTE_MS)).score(), 0, "it passes");
    // A service that is allowed 100 calls each minute is not suspicious for it.
    let memory = Memory::new(1_000, KEY);
    for minute in 0..60 {
        for call in 0..100 {
            allow(&memory, &attempt(MONDAY_NINE_MS + minute * MINUTE_MS + call * 500));
        }
    }
    let risk = memory.look(&attempt(MONDAY_NINE_MS + HOUR_MS));
    let velocity = risk.parts().find(|(part, _)| *part == Part::Velocity);
    assert!(velocity.is_none_or(|(_, points)| points < 250), "{risk:?}");
}

#[test]
fn who_is_refused_does_not_train_his_own_profile() {
    let memory = at_work(1);
    let thief = |at| Attempt { device: "x", network: &[192, 0, 2], ..attempt(after(1) + at) };
    for call in 0..20 {
        let risk = memory.attempt(&thief(call * MINUTE_MS));
        assert!(risk.parts().any(|part| part == (Part::NewDevice, 200)), "{risk:?}");
        memory.settle(&thief(call * MINUTE_MS), Ended::Refused);
    }
    let risk = memory.look(&thief(20 * MINUTE_MS));
    let failures = risk.parts().find(|(part, _)| *part == Part::Failures);
    assert_eq!(failures, Some((Part::Failures, 300)));
    // The refusals are forgotten after two hours, the device is not learnt ever.
    let later = memory.look(&thief(3 * HOUR_MS));
    assert_eq!(parts(&later), [(Part::NewDevice, 200), (Part::NewNetwork, 150)]);
    // An answer that is only awaited is no failure.
    memory.settle(&thief(3 * HOUR_MS), Ended::Asked);
    assert_eq!(memory.look(&thief(3 * HOUR_MS)), later);
}

#[test]
fn many_counterparties_and_many_towards_one_are_seen() {
    let memory = at_work(1);
    let names: Vec<String> = (0..40).map(|n| format!("account {n}")).collect();
    let mut last = Risk::OFF;
    for (at, name) in names.iter().enumerate() {
        let now_ms = after(1) + at as u64 * MINUTE_MS;
        last = memory.attempt(&Attempt { counterparty: name, ..attempt(now_ms) });
    }
    assert!(last.parts().any(|(part, points)| part == Part::Spread && points == 150), "{last:?}");
    // Six hundred different callers pay one account within an hour.
    let callers: Vec<String> = (0..600).map(|n| format!("caller {n}")).collect();
    for caller in &callers {
        let subject = [caller.as_str()];
        let now_ms = after(1);
        let to = Attempt { counterparty: "mule", subject: &subject, ..attempt(now_ms) };
        last = memory.attempt(&to);
    }
    assert!(last.parts().any(|part| part == (Part::Crowd, 100)), "{last:?}");
}

#[test]
fn refusals_of_anybody_count_against_their_network() {
    let memory = at_work(1);
    for n in 0..100 {
        let name = format!("caller {n}");
        let subject = [name.as_str()];
        let refused = Attempt { subject: &subject, ..attempt(after(1)) };
        memory.settle(&refused, Ended::Refused);
    }
    let risk = memory.look(&attempt(after(1)));
    assert_eq!(parts(&risk), [(Part::NetworkFailures, 100)]);
    let elsewhere = Attempt { network: &[10, 9, 9], ..attempt(after(1)) };
    assert_eq!(parts(&memory.look(&elsewhere)), [(Part::NewNetwork, 150)]);
}

#[test]
fn profiles_survive_being_kept_and_changed_bytes_do_not() {
    let memory = at_work(2);
    let mut kept = Vec::new();
    let mut all = Vec::new();
    for part in 0..memory.parts() {
        memory.take_changed(part, &mut kept);
        all.append(&mut kept);
    }
    assert_eq!(all.len(), 1);
    memory.take_changed(0, &mut kept);
    assert!(kept.is_empty(), "nothing has changed since");
    // Also into a table of another size.
    let next = Memory::new(100_000, KEY);
    let (place, bytes) = all[0];
    assert!(place < memory.places());
    assert!(next.restore(&bytes));
    for at in [after(2), after(2) + 18 * HOUR_MS] {
        let thing = Attempt { amount: Some(500_000), device: "x", ..attempt(at) };
        assert_eq!(next.look(&thing), memory.look(&thing));
    }
    for at in 0..SLOT_BYTES - 8 {
        let mut changed = bytes;
        changed[at] ^= 1;
        assert!(!next.restore(&changed), "byte {at}");
    }
    assert!(!next.restore(&[0; SLOT_BYTES]), "an empty place is no profile");
    // Under another key the same caller is nobody.
    let other = Memory::new(1_000, [8; 16]);
    assert!(other.restore(&bytes));
    assert_eq!(other.look(&attempt(after(2))).state, RiskState::Cold);
}

#[test]
fn a_full_table_forgets_and_who_is_forgotten_is_cold() {
    let memory = Memory::new(1, KEY);
    let places = memory.places();
    for _ in 0..10 {
        allow(&memory, &attempt(MONDAY_NINE_MS));
    }
    assert_eq!(memory.look(&attempt(MONDAY_NINE_MS)).state, RiskState::Known);
    for n in 0..places * 20 {
        let name = format!("caller {n}");
        let _ = memory.attempt(&Attempt { subject: &[&name], ..attempt(MONDAY_NINE_MS + 1_000) });
    }
    assert_eq!(memory.places(), places);
    assert_eq!(memory.look(&attempt(MONDAY_NINE_MS)).state, RiskState::Cold);
}

#[test]
fn without_a_memory_the_score_is_the_highest() {
    assert_eq!(Risk::OFF.note(), "off 1000 off=1000");
    assert_eq!(Risk::OFF.score(), SCORE_MAX);
}

proptest! {
    // Each case makes tables of megabytes.
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever happens: no panic, no score above the most, a known state only after enough allowed
    /// calls, and the same history gives the same points.
    #[test]
    fn any_history_is_scored_and_repeats(
        steps in prop::collection::vec(
            (0_u64..1 << 45, 0_u8..3, 0_u8..4, 0_u8..4, any::<Option<u64>>(), 0_u8..3), 0..60)
    ) {
        let run = || {
            let memory = Memory::new(16, KEY);
            let mut allowed = 0;
            let mut scores = Vec::new();
            for (now_ms, who, device, network, amount, end) in &steps {
                let (who, device) = (who.to_string(), "d".repeat(usize::from(*device)));
                let one = Attempt {
                    now_ms: *now_ms,
                    subject: &[&who],
                    device: &device,
                    network: &[*network],
                    stack: "",
                    amount: *amount,
                    counterparty: &device,
                };
                let risk = memory.attempt(&one);
                prop_assert!(risk.score() <= SCORE_MAX);
                prop_assert!(risk.state == RiskState::Cold || allowed >= KNOWN_AFTER);
                prop_assert_eq!(risk.state == RiskState::Cold, risk.score() >= 500 && risk.parts().any(|(part, _)| part == Part::Cold));
                let ended = [Ended::Allowed, Ended::Asked, Ended::Refused];
                let ended = ended[usize::from(*end)];
                allowed += u32::from(ended == Ended::Allowed);
                memory.settle(&one, ended);
                scores.push(risk);
            }
            Ok(scores)
        };
        prop_assert_eq!(run()?, run()?);
    }

    /// Any bytes at all are refused or harmless.
    #[test]
    fn any_bytes_are_a_profile_or_not(bytes in prop::collection::vec(any::<u8>(), SLOT_BYTES)) {
        let memory = Memory::new(16, KEY);
        let bytes: [u8; SLOT_BYTES] = bytes.try_into().unwrap();
        memory.restore(&bytes);
        let _ = memory.attempt(&attempt(MONDAY_NINE_MS));
    }
}
