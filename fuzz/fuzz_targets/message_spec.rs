//! Any text is a spec, or is refused with a code. What is a spec reads and refuses without panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_message::iso8583::{Check, Draft, Index, Mti, decode};
use moat_message::spec::Spec;

fuzz_target!(|data: &[u8]| {
    let Ok(yaml) = std::str::from_utf8(data) else { return };
    let spec = match Spec::parse(yaml) {
        Ok(spec) => spec,
        Err(wrong) => {
            assert!(wrong.code.id == "MOAT-F020" || wrong.code.id == "MOAT-F021");
            return;
        }
    };
    for message in [yaml.as_bytes(), &[0; 64], &[0xff; 300], b"0200FFFFFFFFFFFFFFFF0000000000"] {
        let mut index = Index::new();
        if let Ok(view) = decode(&spec, Check::Strict, message, &mut index) {
            let mut out = Vec::new();
            Draft::of(view).write(&mut out).expect("it was read");
            assert_eq!(out, message);
        }
    }
    let mut draft = Draft::new(&spec, Mti::new(*b"0200").expect("a type"));
    for (number, _) in spec.all() {
        let _ = draft.set_text(number, "0012");
    }
    let mut out = Vec::new();
    if draft.write(&mut out).is_ok() {
        assert!(decode(&spec, Check::Strict, &out, &mut Index::new()).is_ok());
    }
});
