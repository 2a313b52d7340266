//! Any bytes have the issuer and the algorithm of a certificate inside them, or not; bytes behind
//! change nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_tls::der::{algorithm, issuer};
use moat_tls::{Stack, embedded_timestamps};

fuzz_target!(|der: &[u8]| {
    let _ = Stack::of_certificate(&der.into());
    let found = [issuer(der), algorithm(der)];
    for part in found.into_iter().flatten() {
        let (whole, part) = (der.as_ptr_range(), part.as_ptr_range());
        assert!(whole.start <= part.start && part.end <= whole.end);
    }
    // What the logs saw of it is shorter, and has no timestamps.
    if let Some((timestamps, before)) = embedded_timestamps(der) {
        assert!(timestamps <= 16 && before.len() < der.len());
        assert!(embedded_timestamps(&before).is_none());
    }
    // More bytes behind it change nothing.
    let longer = [der, &[0x30, 0]].concat();
    for (short, long) in found.iter().zip([issuer(&longer), algorithm(&longer)]) {
        assert!(short.is_none() || *short == long);
    }
    // A certificate of another length than its own bytes say has been cut.
    if found[1].is_some()
        && let Some((_, cut)) = der.split_last()
        && algorithm(cut).is_some()
    {
        assert_eq!(algorithm(cut), found[1]);
    }
});
