use proptest::collection::vec;
use proptest::prelude::*;
use zeroize::Zeroizing;

use super::{Assembler, Begin, Full, Key, Recent, RecentLimits, Waiting};
use crate::frame::{Framing, LengthForm};
use crate::{Check, Draft, Index, Mti, Spec};

const SPEC: &str = "spec: tiny
fields:
  7: { name: time, kind: n, class: C1, len: 10 }
  11: { name: trace, kind: n, class: C1, len: 6 }
  32: { name: acquirer, kind: n, class: C1, len: { kind: ll, max: 11 } }
  41: { name: terminal, kind: ans, class: C1, len: 8 }
  52: { name: pin, kind: b, class: SAD, len: 8 }
";

fn key(mti: &str, fields: &[(u8, &str)]) -> Key {
    let spec = Spec::parse(SPEC).unwrap();
    let mti: Mti = mti.parse().unwrap();
    let mut draft = Draft::new(&spec, mti);
    for (number, text) in fields {
        draft.set_text(*number, text).unwrap();
    }
    let mut out = Vec::new();
    draft.write(&mut out).unwrap();
    let mut index = Index::new();
    let mut view =
        crate::iso8583::decode(&spec, Check::Strict, &out, &mut index).expect("what was written");
    Key::of(&mut view, &[7, 11, 32, 41, 52])
}

#[test]
fn an_answer_and_a_repeat_have_the_key_of_their_request() {
    let fields = [(7, "1123165000"), (11, "000001"), (41, "TERM0001")];
    let request = key("0200", &fields);
    for mti in ["0210", "0201", "0220", "0230"] {
        assert_eq!(key(mti, &fields), request, "{mti}");
    }
    for mti in ["0100", "1200", "0400"] {
        assert_ne!(key(mti, &fields), request, "{mti}");
    }
    for others in [
        vec![(7, "1123165001"), (11, "000001"), (41, "TERM0001")],
        vec![(7, "1123165000"), (11, "000002"), (41, "TERM0001")],
        vec![(7, "1123165000"), (11, "000001"), (41, "TERM0002")],
        vec![(7, "1123165000"), (11, "000001")],
        vec![(7, "1123165000"), (11, "000001"), (32, ""), (41, "TERM0001")],
    ] {
        assert_ne!(key("0200", &others), request, "{others:?}");
    }
    // A PIN block names nothing.
    let with_pin = [&fields[..], &[(52, "0011223344556677")]].concat();
    assert_eq!(key("0200", &with_pin), request);
    // What a network message says of terminals does not matter.
    assert_eq!(key("0800", &fields), key("0810", &fields[..2]));
    assert_ne!(request.of_party("a"), request.of_party("b"));
}

#[test]
fn a_key_in_flight_is_refused_and_a_late_one_gives_way_to_its_repeat() {
    let one = key("0200", &[(11, "000001")]);
    let mut waiting = Waiting::new(2);
    let number = waiting.enter(one.clone(), false, 'a').unwrap();
    assert_eq!(waiting.enter(one.clone(), true, 'b'), Err((Full::Collision, 'b')));
    waiting.note_late(&one, number);
    assert_eq!(waiting.enter(one.clone(), false, 'b'), Err((Full::Collision, 'b')));
    let again = waiting.enter(one.clone(), true, 'c').unwrap();
    // The one that gave way leaves, and takes nobody with it.
    waiting.leave(&one, number);
    assert_eq!(waiting.count(), 1);
    waiting.enter(key("0200", &[(11, "000002")]), false, 'd').unwrap();
    let third = waiting.enter(key("0200", &[(11, "000003")]), false, 'e');
    assert_eq!(third, Err((Full::Window, 'e')));
    assert_eq!(waiting.answered(&one), Some('c'));
    assert_eq!(waiting.answered(&one), None, "one answer");
    waiting.leave(&one, again);
    assert_eq!(waiting.count(), 1);
}

fn limits(entries_max: usize, bytes_max: usize) -> RecentLimits {
    RecentLimits { entries_max, bytes_max, age_ms: 1_000 }
}

fn answer(text: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(text.as_bytes().to_vec())
}

#[test]
fn a_repeat_gets_the_answer_again_and_nothing_else_does() {
    let mut recent = Recent::new(limits(10, 10_000));
    let one = key("0200", &[(11, "000001")]);
    let Begin::Go(number) = recent.begin(&one, [1; 32], false, 0) else { panic!("new") };
    assert_eq!(recent.begin(&one, [1; 32], true, 0), Begin::UnderWay);
    assert_eq!(recent.begin(&one, [2; 32], true, 0), Begin::Used);
    recent.answered(&one, number, answer("yes"), 7, 10);
    assert_eq!(recent.begin(&one, [1; 32], true, 10), Begin::Again(answer("yes"), 7));
    assert_eq!(recent.begin(&one, [1; 32], false, 10), Begin::Used, "not marked as a repeat");
    assert_eq!(recent.begin(&one, [2; 32], true, 10), Begin::Used, "another body");
    assert!(matches!(recent.begin(&one, [2; 32], false, 1_010), Begin::Go(_)), "forgotten");
}

#[test]
fn what_is_unknown_may_be_repeated_and_what_was_not_sent_may_come_anew() {
    let mut recent = Recent::new(limits(10, 10_000));
    let one = key("0200", &[(11, "000001")]);
    let Begin::Go(number) = recent.begin(&one, [1; 32], false, 0) else { panic!("new") };
    recent.unknown(&one, number, 5);
    assert_eq!(recent.begin(&one, [1; 32], false, 6), Begin::Used, "not marked as a repeat");
    let Begin::Go(again) = recent.begin(&one, [1; 32], true, 6) else { panic!("a repeat") };
    recent.unknown(&one, number, 7);
    assert_eq!(recent.begin(&one, [1; 32], true, 7), Begin::UnderWay, "the first is gone");
    recent.withdraw(&one, again);
    assert!(matches!(recent.begin(&one, [9; 32], false, 8), Begin::Go(_)));
}

#[test]
fn what_is_under_way_is_never_forgotten() {
    let mut recent = Recent::new(limits(2, 10_000));
    let keys: Vec<Key> = (0..3).map(|n| key("0200", &[(11, &format!("{n:06}"))])).collect();
    let Begin::Go(first) = recent.begin(&keys[0], [0; 32], false, 0) else { panic!("new") };
    assert!(matches!(recent.begin(&keys[1], [0; 32], false, 0), Begin::Go(_)));
    assert_eq!(recent.begin(&keys[2], [0; 32], false, 9_999), Begin::Full);
    recent.answered(&keys[0], first, answer("x"), 1, 9_999);
    assert!(matches!(recent.begin(&keys[2], [0; 32], false, 9_999), Begin::Go(_)));
    assert_eq!(recent.begin(&keys[1], [0; 32], true, 9_999), Begin::UnderWay);
}

fn framings() -> impl Strategy<Value = Framing> {
    let forms = [LengthForm::Binary2, LengthForm::Binary4, LengthForm::Ascii4, LengthForm::Bcd2];
    (proptest::sample::select(forms.to_vec()), any::<bool>())
        .prop_map(|(form, includes_itself)| Framing { form, includes_itself })
}

proptest! {
    #[test]
    fn however_the_bytes_come_the_messages_are_the_same(
        framing in framings(),
        messages in vec(vec(any::<u8>(), 0..300), 0..8),
        cuts in vec(1_usize..400, 1..40),
    ) {
        let mut wire = Vec::new();
        for message in &messages {
            framing.put(message, &mut wire).unwrap();
        }
        let (mut assembler, mut found, mut at) = (Assembler::new(framing), Vec::new(), 0);
        for cut in cuts.iter().cycle() {
            let end = wire.len().min(at + cut);
            assembler.push(&wire[at..end]);
            at = end;
            while let Some(message) = assembler.next_message().unwrap() {
                found.push(message.to_vec());
            }
            if at == wire.len() {
                break;
            }
        }
        prop_assert_eq!(found, messages);
        prop_assert!(!assembler.is_within());
    }

    #[test]
    fn every_answer_goes_to_the_one_who_asked_and_to_nobody_else(
        steps in vec((0_u8..4, 0_u8..6, any::<bool>()), 0..200),
    ) {
        let keys: Vec<Key> = (0..6).map(|n| key("0200", &[(11, &format!("{n:06}"))])).collect();
        let mut waiting = Waiting::new(4);
        // Who waits for each key, as the table should have it: waiter, number, late.
        let mut model: [Option<(usize, u64, bool)>; 6] = [None; 6];
        for (step, (act, which, is_repeat)) in steps.into_iter().enumerate() {
            let (key, slot) = (&keys[usize::from(which)], usize::from(which));
            match act {
                0 => {
                    let count = model.iter().flatten().count();
                    let expected = match model[slot] {
                        Some((.., late)) if !(late && is_repeat) => Some(Full::Collision),
                        None if count >= 4 => Some(Full::Window),
                        _ => None,
                    };
                    match waiting.enter(key.clone(), is_repeat, step) {
                        Ok(number) => {
                            prop_assert_eq!(expected, None);
                            model[slot] = Some((step, number, false));
                        }
                        Err((full, waiter)) => {
                            prop_assert_eq!((Some(full), waiter), (expected, step));
                        }
                    }
                }
                1 => {
                    let expected = model[slot].take().map(|(waiter, ..)| waiter);
                    prop_assert_eq!(waiting.answered(key), expected);
                }
                2 => if let Some((_, number, late)) = &mut model[slot] {
                    waiting.note_late(key, *number);
                    *late = true;
                },
                _ => {
                    // Somebody who no longer waits takes nobody's place away.
                    waiting.leave(key, u64::MAX);
                    if is_repeat && let Some((_, number, _)) = model[slot].take() {
                        waiting.leave(key, number);
                    }
                }
            }
            prop_assert_eq!(waiting.count(), model.iter().flatten().count());
        }
    }

    #[test]
    fn nothing_is_carried_out_twice_and_bounds_hold(
        steps in vec((0_u8..4, 0_u8..8, 0_u8..2, any::<bool>()), 0..300),
    ) {
        let keys: Vec<Key> = (0..8).map(|n| key("0200", &[(11, &format!("{n:06}"))])).collect();
        let mut recent = Recent::new(RecentLimits { entries_max: 6, bytes_max: 300, age_ms: 50 });
        let mut going: [Option<u64>; 8] = [None; 8];
        for (now_ms, (act, which, digest, is_repeat)) in (0_u64..).zip(steps) {
            let slot = usize::from(which);
            let key = &keys[slot];
            match act {
                0 => match recent.begin(key, [digest; 32], is_repeat, now_ms) {
                    Begin::Go(number) => {
                        prop_assert_eq!(going[slot], None, "it was under way");
                        going[slot] = Some(number);
                    }
                    Begin::UnderWay => prop_assert!(going[slot].is_some()),
                    Begin::Again(..) => prop_assert!(going[slot].is_none() && is_repeat),
                    Begin::Used | Begin::Full => {}
                },
                1 => if let Some(number) = going[slot].take() {
                    recent.answered(key, number, answer("0210"), now_ms, now_ms);
                },
                2 => if let Some(number) = going[slot].take() {
                    recent.unknown(key, number, now_ms);
                },
                _ => if let Some(number) = going[slot].take() {
                    recent.withdraw(key, number);
                },
            }
            prop_assert!(recent.count() <= 6);
            prop_assert!(recent.count() >= going.iter().flatten().count());
            let most = 300 + going.iter().flatten().count() * 64 + 64;
            prop_assert!(recent.bytes() <= most);
        }
    }
}
