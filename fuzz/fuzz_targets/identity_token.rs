//! Tokens, key sets and message signatures: any bytes are read or refused, and nothing verifies.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_identity::signature;
use moat_identity::token::{self, Issuer};

fuzz_target!(|text: &str| {
    let keys = moat_identity::read_keys(text.as_bytes()).unwrap_or_default();
    for key in &keys {
        assert!(!key.id.is_empty());
        assert!(!key.key.verifies(b"", text.as_bytes()));
    }
    let (name, audience) = ("i".to_owned(), "a".to_owned());
    let issuers = [Issuer { name, audience, keys, claims: vec!["c".to_owned()] }];
    assert!(token::verify(text, &issuers, &[0; 32], 1).is_err());
    let (input, rest) = text.split_once('\n').unwrap_or((text, "moat=:AA==:"));
    if let Ok(Some(found)) = signature::step_up(input, rest) {
        assert!(!found.nonce.is_empty() && !found.key_id.is_empty());
    }
    let _ = signature::sha256_of(text);
});
