//! SM3 by `moat-sm`.

use moat_sm::sm3;

use super::{Hash, TreeHash};

/// SM3 (GB/T 32905), for a second tree over the same leaves. No specification of C2SP knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sm3;

impl TreeHash for Sm3 {
    const NAME: &'static str = "SM3";

    fn digest(parts: &[&[u8]]) -> Hash {
        let state = parts.iter().fold(sm3::Sm3::new(), |state, part| state.chain(part));
        state.finish()
    }

    fn leaves(entries: &[&[u8]]) -> Vec<Hash> {
        let texts: Vec<Vec<u8>> = entries.iter().map(|entry| [&[0], *entry].concat()).collect();
        let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
        let mut hashes = vec![[0; 32]; texts.len()];
        // Refused for other lengths only.
        if sm3::digest_many(&texts, &mut hashes).is_err() {
            return entries.iter().map(|entry| Self::leaf(entry)).collect();
        }
        hashes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_at_once_are_those_one_by_one_and_the_digest_is_that_of_the_standard() {
        // GB/T 32905-2016, A.1.
        let abc = "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0";
        assert_eq!(data_encoding::HEXLOWER.encode(&Sm3::digest(&[b"a", b"bc"])), abc);
        for count in 0..40 {
            let entries: Vec<Vec<u8>> = (0..count).map(|n| vec![n; usize::from(n) * 7]).collect();
            let entries: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
            let one_by_one: Vec<Hash> = entries.iter().map(|entry| Sm3::leaf(entry)).collect();
            assert_eq!(Sm3::leaves(&entries), one_by_one);
        }
    }
}
