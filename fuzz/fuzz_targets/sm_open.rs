//! Ciphertexts from outside: every path of the processor gives the same verdict, and none opens
//! what was not sealed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_sm::cpu::Cpu;
use moat_sm::sm2::SecretKey;
use moat_sm::sm4::{Sm4, cbc, ccm::Ccm, gcm::Gcm};

const KEY: [u8; 16] = [7; 16];

fuzz_target!(|input: &[u8]| {
    let (nonce, rest) = input.split_first_chunk().map_or(([0; 12], input), |(n, rest)| (*n, rest));
    let (tag, text) = rest.split_at(rest.len().min(16));
    for cpu in Cpu::all() {
        let (gcm, ccm) = (Gcm::with_cpu(&KEY, cpu), Ccm::with_cpu(&KEY, cpu));
        let mut out = text.to_vec();
        assert!(gcm.open(&nonce, b"", &mut out, tag).is_err());
        assert_eq!(out, text);
        let right = gcm.seal(&nonce, b"", &mut out).expect("short");
        assert_eq!(gcm.open(&nonce, b"", &mut out, &right), Ok(()));
        assert_eq!(out, text);
        assert!(ccm.open(&nonce, b"", &mut out, tag).is_err());
        assert!(out.iter().all(|byte| *byte == 0));
    }
    let open = |cpu| cbc::decrypt_padded(&Sm4::with_cpu(&KEY, cpu), &[0; 16], text);
    for cpu in Cpu::all() {
        assert_eq!(open(cpu), open(Cpu::PORTABLE));
    }
    let key = SecretKey::from_bytes(&[1; 32]).expect("in range");
    assert!(key.decrypt(input).is_err());
});
