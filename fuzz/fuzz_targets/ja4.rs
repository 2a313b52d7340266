//! A fingerprint has its one form, whatever the hello, and a longer stream has the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_tls::ja4::of;

fuzz_target!(|data: &[u8]| {
    let Some(name) = of(data) else { return };
    assert_eq!(name.len(), 36);
    assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
    assert_eq!(of(&[data, &[0x17, 3, 3, 0, 1, 0]].concat()), Some(name));
});
