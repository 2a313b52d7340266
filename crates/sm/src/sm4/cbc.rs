//! Cipher block chaining (GB/T 17964). It hides but does not authenticate: for TLCP with its MAC,
//! and for encrypted key files.

use alloc::vec::Vec;
use core::hint::black_box;

use zeroize::Zeroizing;

use super::{BLOCK_BYTES, Block, Sm4};
use crate::error::Error;

/// Blocks decrypted at once.
const BLOCKS: usize = 64;

/// Encrypts whole blocks in place. `chain` is the initialisation vector, afterwards the last
/// block, for a next call.
pub fn encrypt(key: &Sm4, chain: &mut Block, blocks: &mut [Block]) {
    for block in blocks {
        *block = key.encrypt(add(*block, *chain));
        *chain = *block;
    }
}

/// Decrypts whole blocks in place. `chain` as in [`encrypt`].
pub fn decrypt(key: &Sm4, chain: &mut Block, blocks: &mut [Block]) {
    let mut before = [[0; BLOCK_BYTES]; BLOCKS];
    for blocks in blocks.chunks_mut(BLOCKS) {
        before.iter_mut().zip(&*blocks).for_each(|(copy, block)| *copy = *block);
        key.decrypt_blocks(blocks);
        for (block, next) in blocks.iter_mut().zip(&before) {
            *block = add(*block, *chain);
            *chain = *next;
        }
    }
}

/// Encrypts a text of any length, padded by 1 to 16 bytes that tell their number (PKCS #7).
pub fn encrypt_padded(key: &Sm4, iv: &Block, text: &[u8]) -> Vec<u8> {
    let pad = BLOCK_BYTES - text.len() % BLOCK_BYTES;
    let mut out = Vec::with_capacity(text.len() + pad);
    out.extend_from_slice(text);
    #[expect(clippy::cast_possible_truncation, reason = "at most 16")]
    out.resize(text.len() + pad, pad as u8);
    encrypt(key, &mut iv.clone(), out.as_chunks_mut().0);
    out
}

/// Decrypts what [`encrypt_padded`] made, for key files only: the result and the time tell whoever
/// may send many texts where the padding ends, and so the text. A record of TLCP needs an opener of
/// its own, which checks padding and MAC together in constant time.
///
/// # Errors
///
/// [`Error::Length`] if it is no whole number of blocks, [`Error::Padding`].
pub fn decrypt_padded(key: &Sm4, iv: &Block, text: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    if text.is_empty() || !text.len().is_multiple_of(BLOCK_BYTES) {
        return Err(Error::Length);
    }
    let mut out = Zeroizing::new(text.to_vec());
    decrypt(key, &mut iv.clone(), out.as_chunks_mut().0);
    let pad = out.last_chunk::<BLOCK_BYTES>().and_then(pad_bytes).ok_or(Error::Padding)?;
    let length = out.len() - pad;
    out.truncate(length);
    Ok(out)
}

/// How many bytes of the last block are padding, if it is well-formed. Looks at every byte.
fn pad_bytes(last: &Block) -> Option<usize> {
    let pad = last[BLOCK_BYTES - 1];
    let mut wrong = u8::from(pad == 0) | u8::from(usize::from(pad) > BLOCK_BYTES);
    for (from_end, byte) in (1..=16_u8).zip(last.iter().rev()) {
        let inside = u8::from(from_end <= pad).wrapping_neg();
        wrong = black_box(wrong | (inside & (byte ^ pad)));
    }
    (wrong == 0).then_some(usize::from(pad))
}

fn add(a: Block, b: Block) -> Block {
    (u128::from_ne_bytes(a) ^ u128::from_ne_bytes(b)).to_ne_bytes()
}
