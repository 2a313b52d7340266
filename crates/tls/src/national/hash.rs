//! SM3, HMAC-SM3 and the key schedule over them.

use moat_sm::backend;
use moat_sm::sm3::DIGEST_BYTES;
use rustls::crypto::hash::{Context, Hash, HashAlgorithm, Output};
use rustls::crypto::hmac::{Hmac, Key, Tag};

use super::BACKEND;

/// The number 7 belongs to SM3 in GB/T 38636; in TLS 1.3 it never reaches the wire.
const ALGORITHM: HashAlgorithm = HashAlgorithm::Unknown(7);
/// Parts of a message that are handed on without a heap: HKDF of TLS 1.3 has at most eight.
const PARTS_MAX: usize = 12;

pub(super) struct Sm3;

impl Hash for Sm3 {
    fn start(&self) -> Box<dyn Context> {
        Box::new(Running(BACKEND.sm3()))
    }

    fn hash(&self, data: &[u8]) -> Output {
        let mut hash = BACKEND.sm3();
        hash.update(data);
        Output::new(&hash.finish())
    }

    fn output_len(&self) -> usize {
        DIGEST_BYTES
    }

    fn algorithm(&self) -> HashAlgorithm {
        ALGORITHM
    }
}

struct Running(Box<dyn backend::Hash>);

impl Context for Running {
    fn fork_finish(&self) -> Output {
        Output::new(&self.0.fork().finish())
    }

    fn fork(&self) -> Box<dyn Context> {
        Box::new(Running(self.0.fork()))
    }

    fn finish(self: Box<Self>) -> Output {
        Output::new(&self.0.finish())
    }

    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }
}

pub(super) struct HmacSm3;

impl Hmac for HmacSm3 {
    fn with_key(&self, key: &[u8]) -> Box<dyn Key> {
        Box::new(Keyed(BACKEND.hmac_sm3(key)))
    }

    fn hash_output_len(&self) -> usize {
        DIGEST_BYTES
    }
}

struct Keyed(Box<dyn backend::Mac>);

impl Key for Keyed {
    fn sign_concat(&self, first: &[u8], middle: &[&[u8]], last: &[u8]) -> Tag {
        let mut parts: [&[u8]; PARTS_MAX] = [&[]; PARTS_MAX];
        let all = || std::iter::once(first).chain(middle.iter().copied()).chain([last]);
        if middle.len() + 2 <= PARTS_MAX {
            parts.iter_mut().zip(all()).for_each(|(to, from)| *to = from);
            return Tag::new(&self.0.sign(&parts));
        }
        Tag::new(&self.0.sign(&all().collect::<Vec<_>>()))
    }

    fn tag_len(&self) -> usize {
        DIGEST_BYTES
    }
}
