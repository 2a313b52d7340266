//! A text that is a code is the only text of that code.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_audit::code::{decode, encode};

fuzz_target!(|text: &str| {
    if let Ok(code) = decode(text) {
        assert_eq!(encode(&code).as_deref(), Ok(text));
    }
});
