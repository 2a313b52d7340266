//! A `.tlog-proof` file has one spelling.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_tlog::logproof::LogProof;

fuzz_target!(|data: &[u8]| {
    if let Ok(proof) = LogProof::parse(data) {
        assert_eq!(proof.to_string().as_bytes(), data);
        assert!(proof.index() < proof.signed().checkpoint().size());
    }
});
