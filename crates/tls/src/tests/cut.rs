//! Every message of a handshake cut at every length, and every form of a wrong signature: refused
//! by a code, never a panic.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use moat_model::code::tls;
use moat_sm::sm2::TLS13_ID;
use rustls::crypto::CryptoProvider;
use rustls::crypto::cipher::{
    AeadKey, Iv, MessageDecrypter, MessageEncrypter, OutboundChunks, OutboundOpaqueMessage,
    OutboundPlainMessage, Tls13AeadAlgorithm, UnsupportedOperationError,
};
use rustls::{
    CipherSuiteCommon, ConnectionTrafficSecrets, ContentType, ServerConnection,
    SupportedCipherSuite, Tls13CipherSuite,
};

use super::World;
use super::mixed::{call, chain, rebuilt, rogue_server, sm2_signer};
use super::wire::{finish, hello, new_client, shake};
use crate::national::SM2SIG_SM3;
use crate::{National, Server, Stack};

// Types of messages, RFC 8446 §4.
const ENCRYPTED_EXTENSIONS: u8 = 8;
const CERTIFICATE: u8 = 11;
const CERTIFICATE_REQUEST: u8 = 13;
const CERTIFICATE_VERIFY: u8 = 15;
const FINISHED: u8 = 20;

thread_local! {
    /// The message to cut, and to how many bytes.
    static CUT: Cell<Option<(u8, usize)>> = const { Cell::new(None) };
    /// Type and length of each message that was sent.
    static SENT: RefCell<Vec<(u8, usize)>> = const { RefCell::new(Vec::new()) };
}

/// Walks over whole messages, and cuts the one that is to be cut.
fn cut(mut messages: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let [kind, a, b, c, rest @ ..] = messages {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let (body, after) = rest.split_at(length);
        SENT.with_borrow_mut(|sent| sent.push((*kind, length)));
        let kept = match CUT.get() {
            // Signatures differ in length: always at least the last byte goes.
            Some((wanted, kept)) if wanted == *kind => &body[..kept.min(length - 1)],
            _ => body,
        };
        out.push(*kind);
        out.extend_from_slice(&u32::try_from(kept.len()).unwrap().to_be_bytes()[1..]);
        out.extend_from_slice(kept);
        messages = after;
    }
    out
}

/// An AEAD of a peer that cuts its messages before it encrypts them.
struct Cutting(&'static dyn Tls13AeadAlgorithm);

impl Tls13AeadAlgorithm for Cutting {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(CuttingEncrypter(self.0.encrypter(key, iv)))
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        self.0.decrypter(key, iv)
    }

    fn key_len(&self) -> usize {
        self.0.key_len()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.0.extract_keys(key, iv)
    }
}

struct CuttingEncrypter(Box<dyn MessageEncrypter>);

impl MessageEncrypter for CuttingEncrypter {
    fn encrypt(
        &mut self,
        message: OutboundPlainMessage<'_>,
        seq: u64,
    ) -> Result<OutboundOpaqueMessage, rustls::Error> {
        if message.typ != ContentType::Handshake {
            return self.0.encrypt(message, seq);
        }
        let bytes = cut(&message.payload.to_vec());
        let payload = OutboundChunks::Single(&bytes);
        self.0.encrypt(OutboundPlainMessage { payload, ..message }, seq)
    }

    fn encrypted_payload_len(&self, payload_len: usize) -> usize {
        self.0.encrypted_payload_len(payload_len)
    }
}

/// A provider with one suite of that stack, which cuts.
fn cutting(stack: Stack) -> CryptoProvider {
    let provider = CryptoProvider::clone(&stack.provider());
    let SupportedCipherSuite::Tls13(suite) = provider.cipher_suites[0];
    let suite = Box::leak(Box::new(Tls13CipherSuite {
        common: CipherSuiteCommon {
            suite: suite.common.suite,
            hash_provider: suite.common.hash_provider,
            confidentiality_limit: suite.common.confidentiality_limit,
        },
        hkdf_provider: suite.hkdf_provider,
        aead_alg: Box::leak(Box::new(Cutting(suite.aead_alg))),
        quic: None,
    }));
    CryptoProvider { cipher_suites: vec![SupportedCipherSuite::Tls13(suite)], ..provider }
}

/// From now on every message is sent whole, and noted.
fn send_whole() {
    CUT.set(None);
    SENT.take();
}

/// The sizes of these messages in the handshake since.
fn sizes(kinds: &[u8]) -> Vec<(u8, usize)> {
    let sent = SENT.take();
    let sizes = kinds.iter().map(|kind| *sent.iter().find(|(sent, _)| sent == kind).unwrap());
    sizes.collect()
}

#[test]
fn a_caller_whose_messages_are_cut_anywhere_is_refused() {
    let w = World::new();
    let server = w.server(National::Prefer);
    for (kind, stack) in [Stack::International, Stack::National].into_iter().enumerate() {
        let config = rebuilt(&w.teller[kind], &w.trust, cutting(stack));
        send_whole();
        shake(&server, Arc::clone(&config)).assert_good();
        for (kind, size) in sizes(&[CERTIFICATE, CERTIFICATE_VERIFY, FINISHED]) {
            for length in 0..size {
                CUT.set(Some((kind, length)));
                let ended = shake(&server, Arc::clone(&config));
                // Of a last message without a body rustls waits for the rest, up to our time limit.
                let is_awaited = kind == FINISHED && length == 0;
                let what = format!("{stack:?}, message {kind} cut to {length}");
                assert!(ended.refused.is_some() || is_awaited, "{what}");
                assert!(ended.server.unwrap().is_handshaking());
            }
        }
    }
}

#[test]
fn a_service_whose_messages_are_cut_anywhere_is_refused() {
    let w = World::new();
    let kinds =
        [ENCRYPTED_EXTENSIONS, CERTIFICATE_REQUEST, CERTIFICATE, CERTIFICATE_VERIFY, FINISHED];
    for stack in [Stack::International, Stack::National] {
        let config = Arc::new(rogue_server(&w, cutting(stack), stack, stack));
        let client = w.client(National::Prefer);
        let run = || {
            let attempt = client.attempt();
            let server = ServerConnection::new(Arc::clone(&config)).unwrap();
            let ended = finish(new_client(Arc::clone(&attempt.config)), server, &|_| "refused");
            let is_good = !ended.client.is_handshaking() && attempt.finish(&ended.client).is_ok();
            (ended.client_error, is_good)
        };
        send_whole();
        assert_eq!(run(), (None, true));
        for (kind, size) in sizes(&kinds) {
            for length in 0..size {
                CUT.set(Some((kind, length)));
                let (error, is_good) = run();
                let is_awaited = kind == FINISHED && length == 0;
                let what = format!("{stack:?}, message {kind} cut to {length}");
                assert!((error.is_some() || is_awaited) && !is_good, "{what}");
            }
        }
    }
}

/// A record with one whole handshake message, RFC 8446 §5.1.
fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let whole = u16::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[22, 3, 3, whole[0], whole[1], kind], &length[1..], body].concat()
}

#[test]
fn a_hello_whose_body_ends_early_is_refused_on_both_sides() {
    let w = World::new();
    let server = w.server(National::Prefer);
    let whole = hello(w.client(National::Prefer).attempt().config);
    let body = &whole[9..];
    let take = |body: &[u8]| {
        let mut acceptor = rustls::server::Acceptor::default();
        acceptor.read_tls(&mut record(1, body).as_slice()).unwrap();
        let Ok(accepted) = acceptor.accept() else { return false };
        let accepted = accepted.expect("the message is whole");
        let choice = server.choose(&accepted.client_hello());
        choice.is_some_and(|choice| accepted.into_connection(choice.config).is_ok())
    };
    assert!(take(body));
    for length in 0..body.len() {
        assert!(!take(&body[..length]), "ClientHello cut to {length}");
    }

    let answer = |server: &Server| {
        let mut client = new_client(w.client(National::Only).attempt().config);
        let mut first = Vec::new();
        client.write_tls(&mut first).unwrap();
        let mut acceptor = rustls::server::Acceptor::default();
        acceptor.read_tls(&mut first.as_slice()).unwrap();
        let accepted = acceptor.accept().unwrap().unwrap();
        let choice = server.choose(&accepted.client_hello()).unwrap();
        let mut connection = accepted.into_connection(choice.config).ok().unwrap();
        let mut wire = Vec::new();
        connection.write_tls(&mut wire).unwrap();
        (client, wire)
    };
    let size = usize::from(u16::from_be_bytes([answer(&server).1[3], answer(&server).1[4]])) - 4;
    for length in 0..size {
        let (mut client, wire) = answer(&server);
        assert_eq!((wire[0], wire[5]), (22, 2), "a ServerHello comes first");
        client.read_tls(&mut record(2, &wire[9..9 + length]).as_slice()).unwrap();
        assert!(client.process_new_packets().is_err(), "ServerHello cut to {length}");
    }
}

/// The order of SM2's base point, GB/T 32918.5.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0x72, 0x03, 0xdf, 0x6b, 0x21, 0xc6, 0x05, 0x2b, 0x53, 0xbb, 0xf4, 0x09, 0x39, 0xd5, 0x41, 0x23,
];

/// A DER INTEGER with these bytes as its content.
fn integer(content: &[u8]) -> Vec<u8> {
    [&[2, u8::try_from(content.len()).unwrap()], content].concat()
}

fn sequence(content: &[u8]) -> Vec<u8> {
    [&[0x30, u8::try_from(content.len()).unwrap()], content].concat()
}

/// The content of both integers of a signature.
fn numbers(der: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let r = usize::from(der[3]);
    (der[4..4 + r].to_vec(), der[6 + r..].to_vec())
}

/// The same number without the zero that keeps it positive, or with one too many.
fn respelled(number: &[u8]) -> Vec<u8> {
    if number[0] == 0 { number[1..].to_vec() } else { [&[0], number].concat() }
}

#[test]
fn a_signature_out_of_range_or_not_in_der_is_refused() {
    let w = World::new();
    let teller = &w.teller[1];
    let order = [&[0], ORDER.as_slice()].concat();
    let mut above = order.clone();
    *above.last_mut().unwrap() += 1;
    type Change = dyn Fn(&mut Vec<u8>) + Send + Sync;
    let refused = |change: Box<Change>, what: &str| {
        let signer = sm2_signer(teller, TLS13_ID, move |der| change(der));
        let ended = call(&w, chain(teller), SM2SIG_SM3, signer);
        assert_eq!(ended.refused, Some(tls::BAD_SIGNATURE.id), "{what}");
    };
    for wrong in [vec![0], order, above, vec![0x7f; 33], vec![0xff; 32], vec![]] {
        for is_r in [true, false] {
            let wrong = wrong.clone();
            let what = format!("r: {is_r}, {wrong:02x?}");
            let change = move |der: &mut Vec<u8>| {
                let (r, s) = numbers(der);
                let (r, s) = if is_r { (wrong.clone(), s) } else { (r, wrong.clone()) };
                *der = sequence(&[integer(&r), integer(&s)].concat());
            };
            refused(Box::new(change), &what);
        }
    }
    type Respelling = fn(&[u8], &[u8]) -> Vec<u8>;
    let spellings: [(&str, Respelling); 7] = [
        ("r of another sign or length", |r, s| {
            sequence(&[integer(&respelled(r)), integer(s)].concat())
        }),
        ("s of another sign or length", |r, s| {
            sequence(&[integer(r), integer(&respelled(s))].concat())
        }),
        ("a third number", |r, s| sequence(&[integer(r), integer(s), integer(&[1])].concat())),
        ("one number", |r, _| sequence(&integer(r))),
        ("a length in two bytes", |r, s| {
            let content = [integer(r), integer(s)].concat();
            [&[0x30, 0x81, u8::try_from(content.len()).unwrap()], content.as_slice()].concat()
        }),
        ("an indefinite length", |r, s| {
            [&[0x30, 0x80], integer(r).as_slice(), &integer(s), &[0, 0]].concat()
        }),
        ("a set", |r, s| {
            let mut der = sequence(&[integer(r), integer(s)].concat());
            der[0] = 0x31;
            der
        }),
    ];
    for (what, spelling) in spellings {
        let change = move |der: &mut Vec<u8>| {
            let (r, s) = numbers(der);
            *der = spelling(&r, &s);
        };
        refused(Box::new(change), what);
    }
    // The shortest signature has 8 bytes, the longest 72: each is cut at each length below its own.
    for length in 0..70 {
        let change = move |der: &mut Vec<u8>| der.truncate(length.min(der.len() - 1));
        refused(Box::new(change), &format!("cut to {length}"));
    }
}
