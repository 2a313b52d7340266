//! Any bytes are a certificate with exactly one identity of this domain, or are refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_identity::{SpiffeId, identify};

fuzz_target!(|der: &[u8]| {
    if let Ok(peer) = identify(der, "bank.test") {
        assert_eq!(peer.spiffe().trust_domain(), "bank.test");
        assert_eq!(peer.spiffe().as_str().parse::<SpiffeId>().as_ref(), Ok(peer.spiffe()));
    }
    if let Ok(id) = str::from_utf8(der).unwrap_or_default().parse::<SpiffeId>() {
        assert_eq!(id.as_str(), format!("spiffe://{}{}", id.trust_domain(), id.path()));
    }
});
