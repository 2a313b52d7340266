//! A message of the link is read back as it was written, and never from fewer bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_audit::anchor::AnchorKey;
use moat_audit::link::{Message, decode, push_ack, push_commit, push_hello, push_nack};
use zeroize::Zeroizing;

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    while let Ok(Some((message, used))) = decode(rest) {
        assert!(decode(&rest[..used - 1]) == Ok(None), "a message is whole or not there");
        assert_eq!(encode(&message), &rest[..used]);
        rest = &rest[used..];
    }
});

fn encode(message: &Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    match *message {
        Message::Hello { log_id, key_id, key } => {
            let key = AnchorKey::new(key_id, Zeroizing::new(*key)).expect("a checked key id");
            push_hello(&mut out, log_id, &key);
        }
        Message::Commit { req_id, body } => push_commit(&mut out, req_id, body),
        Message::Ack { req_id, ack } => push_ack(&mut out, req_id, &ack),
        Message::Nack { req_id, reason } => push_nack(&mut out, req_id, reason),
    }
    out
}
