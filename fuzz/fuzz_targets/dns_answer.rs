//! A DNS answer names what it names, printable and bounded, whatever it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_kernel::egress::names::{Names, parse};

fuzz_target!(|data: &[u8]| {
    let Some(answer) = parse(data) else { return };
    assert!(answer.name.len() <= 255 && answer.name.bytes().all(|byte| byte.is_ascii_graphic()));
    // A record with an address has at least 15 bytes.
    assert!(answer.addresses.len() <= data.len() / 15);
    let mut names = Names::default();
    names.hear(data);
    assert!(answer.addresses.iter().all(|address| names.of(*address) == Some(&answer.name)));
});
