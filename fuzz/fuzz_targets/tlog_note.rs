//! A note, a checkpoint, a verifier key and a private key have one spelling each.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_tlog::checkpoint::{Checkpoint, SignedCheckpoint};
use moat_tlog::cosignature::message;
use moat_tlog::key::VerifierKey;
use moat_tlog::note::Note;
use moat_tlog::secret::SecretKey;
use moat_tlog::token::TokenKey;

fuzz_target!(|data: &[u8]| {
    if let Ok(note) = Note::parse(data) {
        assert_eq!(note.to_string().as_bytes(), data);
        let signed = SignedCheckpoint::parse(data);
        assert_eq!(signed.is_ok(), Checkpoint::parse(note.text()).is_ok());
        if let Ok(signed) = signed {
            assert_eq!(signed.to_string().as_bytes(), data);
            assert!(message(signed.checkpoint(), 1).ends_with(note.text()));
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(checkpoint) = Checkpoint::parse(text) {
        assert_eq!(checkpoint.to_string(), text);
    }
    if let Ok(key) = VerifierKey::parse(text) {
        assert_eq!(key.to_string(), text);
    }
    if let Ok(key) = TokenKey::parse(text) {
        assert_eq!(key.to_string(), text.trim_end_matches('\n'));
    }
    if let Ok(key) = SecretKey::parse(text) {
        assert_eq!(key.encode().as_str(), text.trim_end_matches('\n'));
    }
});
