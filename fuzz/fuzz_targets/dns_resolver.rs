//! Any bytes answer a question about a name, or do not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_net::dns::{Kind, question, read};

fuzz_target!(|tail: &[u8]| {
    let question = question("accounts.bank.test", Kind::A, 0x1234).unwrap_or_default();
    let _ = read(&question, tail);
    // The same behind a head and a question that fit, so that records are reached.
    let mut answer = question.clone();
    answer[2] = 0x81;
    answer[7] = tail.first().copied().unwrap_or(0);
    answer.extend_from_slice(tail.get(1..).unwrap_or_default());
    if let Ok(found) = read(&question, &answer) {
        for address in &found.addresses {
            let std::net::IpAddr::V4(address) = address else {
                panic!("nobody asked for {address}")
            };
            let octets = address.octets();
            assert!(answer.windows(4).any(|bytes| bytes == octets));
        }
        assert!(found.addresses.len() <= usize::from(answer[7]));
    }
});
