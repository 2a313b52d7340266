//! A policy, written again, is the same policy; and what is in it is bounded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_tlog::policy::{KEYS_MAX, Policy};

fuzz_target!(|data: &[u8]| {
    if let Ok(policy) = Policy::parse(data) {
        assert!(policy.logs().count() <= KEYS_MAX && policy.witnesses().count() <= KEYS_MAX);
        assert_eq!(Policy::parse(policy.to_string().as_bytes()), Ok(policy));
    }
});
