//! Any bytes are a certificate request that its own key has signed, or are refused; a serial number
//! and a certificate to be revoked likewise.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use moat_ca::{Authority, LeafRequest, REQUEST_BYTES_MAX, Request, Serial};

/// 2026-01-01.
const NOW_S: i64 = 1_767_225_600;

static AUTHORITIES: LazyLock<[Authority; 2]> = LazyLock::new(|| {
    [Authority::create("Test", NOW_S), Authority::create_sm2("Test", NOW_S)]
        .map(|made| made.expect("an authority"))
});

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = Request::read(bytes) {
        assert!(bytes.first() != Some(&0x30) || bytes.len() <= REQUEST_BYTES_MAX);
        // Who wishes no name that was not granted gets a certificate of one authority at most.
        let granted = LeafRequest::spiffe("spiffe://bank.test/teller", NOW_S);
        let issued = AUTHORITIES.iter().filter(|ca| ca.issue_for(&request, &granted).is_ok());
        assert!(issued.count() <= 1);
    }
    if let Ok(text) = core::str::from_utf8(bytes)
        && let Ok(serial) = Serial::from_hex(text)
    {
        assert_eq!(Serial::from_hex(&serial.to_string()).ok(), Some(serial));
    }
    if let Ok(der) = moat_ca::first_certificate(bytes) {
        let _ = moat_ca::signed_kind(&der);
        for authority in &*AUTHORITIES {
            assert!(authority.level_of(&der).is_err(), "nobody knows these keys");
        }
    }
});
