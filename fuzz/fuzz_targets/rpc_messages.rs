//! Messages of those that ask for decisions and of those that give identities: whatever they are,
//! they are read or refused, and identities that were read are what they are written as.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_rpc::{authzen, ext_authz, frame, workload};

fuzz_target!(|bytes: &[u8]| {
    let message = frame::only(bytes).unwrap_or(bytes);
    if let Ok(check) = ext_authz::Check::decode(message) {
        assert!(check.headers.iter().all(|(name, _)| !name.starts_with(':')));
    }
    if let Ok(several) = authzen::evaluations(message) {
        assert!((1..=authzen::EVALUATIONS_MAX).contains(&several.list.len()));
    }
    let _ = authzen::evaluation(message);
    if let Ok(svids) = workload::decode_svids(message) {
        let again = workload::decode_svids(&workload::encode_svids(&svids));
        assert!(again.is_ok_and(|again| again == svids));
    }
});
