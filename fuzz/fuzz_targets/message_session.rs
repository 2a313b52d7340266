//! Any bytes on a connection are cut into the same messages however they come; what is read has a
//! key and a JSON form, and nothing is carried out twice.
#![no_main]

use std::collections::HashSet;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use moat_message::frame::{Framing, LengthForm};
use moat_message::session::{Assembler, Begin, Key, Recent, RecentLimits, Waiting};
use moat_message::spec::SHIPPED;
use moat_message::{Check, Index, Spec, iso8583, json};

const FORMS: [LengthForm; 4] =
    [LengthForm::Binary2, LengthForm::Binary4, LengthForm::Ascii4, LengthForm::Bcd2];
const LIMITS: RecentLimits = RecentLimits { entries_max: 8, bytes_max: 4_096, age_ms: 50 };

fn specs() -> &'static [Spec] {
    static SPECS: OnceLock<Vec<Spec>> = OnceLock::new();
    SPECS.get_or_init(|| {
        SHIPPED.iter().map(|(_, yaml)| Spec::parse(yaml).expect("it is shipped")).collect()
    })
}

fn cut(framing: Framing, wire: &[u8], step: usize) -> (Vec<Vec<u8>>, bool) {
    let (mut assembler, mut messages) = (Assembler::new(framing), Vec::new());
    for part in wire.chunks(step.max(1)) {
        assembler.push(part);
        loop {
            match assembler.next_message() {
                Ok(Some(message)) => messages.push(message.to_vec()),
                Ok(None) => break,
                Err(_) => return (messages, true),
            }
        }
    }
    (messages, false)
}

fuzz_target!(|data: &[u8]| {
    let [head, wire @ ..] = data else { return };
    let framing = Framing { form: FORMS[usize::from(head & 3)], includes_itself: head & 4 != 0 };
    let spec = &specs()[usize::from(head >> 3) % specs().len()];
    let (messages, is_broken) = cut(framing, wire, wire.len());
    for step in [1, 7] {
        assert_eq!(cut(framing, wire, step), (messages.clone(), is_broken));
    }
    let (mut waiting, mut recent) = (Waiting::new(4), Recent::new(LIMITS));
    let mut under_way: HashSet<Key> = HashSet::new();
    for (now_ms, message) in (0_u64..).zip(&messages) {
        let mut index = Index::new();
        let Ok(mut view) = iso8583::decode(spec, Check::Strict, message, &mut index) else {
            continue;
        };
        let key = Key::of(&mut view, &[7, 11, 32, 41]);
        let text = json::write(&mut view).expect("what was read strictly has a form");
        if let Ok(again) = json::read(spec, text.as_bytes()) {
            let mut index = Index::new();
            let mut view = iso8583::decode(spec, Check::Strict, &again, &mut index)
                .expect("what is written can be read");
            assert!(Key::of(&mut view, &[7, 11, 32, 41]) == key, "another key");
            assert_eq!(*json::write(&mut view).expect("a form"), *text);
        } else {
            panic!("a form that cannot be read");
        }
        let mti = iso8583::decode(spec, Check::Strict, message, &mut Index::new())
            .expect("it was read")
            .mti();
        if mti.function().is_answer() {
            assert_eq!(waiting.answered(&key).is_some(), under_way.remove(&key));
            continue;
        }
        let begun = recent.begin(&key, [message.len() as u8; 32], mti.is_repeat(), now_ms);
        if let Begin::Go(number) = begun {
            match waiting.enter(key.clone(), mti.is_repeat(), ()) {
                Ok(_) => {
                    assert!(under_way.insert(key.clone()), "twice under way");
                    recent.unknown(&key, number, now_ms);
                }
                Err(_) => recent.withdraw(&key, number),
            }
        }
        assert!(waiting.count() <= 4 && recent.count() <= 8);
    }
});
