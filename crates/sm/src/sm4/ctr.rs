//! Counter mode (GB/T 17964): a stream of encrypted counters of 128 bits, big-endian.
//!
//! Never use one key and one counter for two texts.

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{BLOCK_BYTES, Block, Sm4};

/// Counters encrypted at once: as many blocks as the widest path has in flight.
const BLOCKS: usize = 96;
/// Counters encrypted at once in a long run. What is left of a run goes in one pass of up to
/// [`BLOCKS`].
const BLOCKS_LONG: usize = 64;

/// A stream. Encrypting and decrypting are the same. It cannot be cloned: two would give out the
/// same bytes.
pub struct Ctr {
    key: Sm4,
    counter: u128,
    /// Key stream; its last `left` bytes are unused.
    stream: Block,
    left: usize,
}

impl Drop for Ctr {
    fn drop(&mut self) {
        self.stream.zeroize();
    }
}

impl ZeroizeOnDrop for Ctr {}

impl core::fmt::Debug for Ctr {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Ctr").finish_non_exhaustive()
    }
}

impl Ctr {
    /// A stream that begins with the counter `first`.
    pub const fn new(key: Sm4, first: Block) -> Self {
        Self { key, counter: u128::from_be_bytes(first), stream: [0; BLOCK_BYTES], left: 0 }
    }

    /// Adds the next bytes of the stream to the data.
    pub fn apply(&mut self, data: &mut [u8]) {
        let data = self.apply_left(data);
        let whole = data.len() / BLOCK_BYTES * BLOCK_BYTES;
        let Some((data, tail)) = data.split_at_mut_checked(whole) else { return };
        add_stream(&self.key, &mut self.counter, data);
        if !tail.is_empty() {
            self.stream = self.key.encrypt(self.counter.to_be_bytes());
            self.counter = self.counter.wrapping_add(1);
            self.left = BLOCK_BYTES;
            self.apply_left(tail);
        }
    }

    /// Uses what is left of a block. Returns the data for the blocks after it.
    fn apply_left<'a>(&mut self, data: &'a mut [u8]) -> &'a mut [u8] {
        let take = self.left.min(data.len());
        let (head, tail) = data.split_at_mut_checked(take).unwrap_or_default();
        let unused = self.stream.get(BLOCK_BYTES - self.left..).unwrap_or_default();
        head.iter_mut().zip(unused).for_each(|(byte, add)| *byte ^= add);
        self.left -= take;
        tail
    }
}

/// How many blocks go into the next pass.
fn pass(blocks: usize) -> usize {
    if blocks > BLOCKS { BLOCKS_LONG } else { blocks }
}

/// Adds encrypted counters to the data; an unfinished block at the end uses one up as well.
pub(super) fn add_stream(key: &Sm4, counter: &mut u128, data: &mut [u8]) {
    let mut rest = data;
    let mut stream = [[0; BLOCK_BYTES]; BLOCKS];
    let mut used = 0;
    while !rest.is_empty() {
        let blocks = pass(rest.len().div_ceil(BLOCK_BYTES));
        used = blocks.max(used);
        let bytes = rest.len().min(blocks * BLOCK_BYTES);
        let Some((now, later)) = rest.split_at_mut_checked(bytes) else { return };
        let Some(stream) = stream.get_mut(..blocks) else { return };
        counters(stream, counter);
        key.encrypt_blocks(stream);
        add(now, stream);
        rest = later;
    }
    wipe(&mut stream, used);
}

/// A short record is done sooner than all of the stream would be wiped.
fn wipe(stream: &mut [Block; BLOCKS], used: usize) {
    let (used, _) = stream.split_at_mut(used.min(BLOCKS));
    used.as_flattened_mut().zeroize();
}

/// The same, and the very first encrypted counter is handed out for a tag. `see` is told each
/// part of the data after it was changed, in whole blocks but for the last.
pub(super) fn add_stream_tagged(
    key: &Sm4,
    mut counter: u128,
    data: &mut [u8],
    mut see: impl FnMut(&[u8]),
) -> Zeroizing<Block> {
    let mut stream = [[0; BLOCK_BYTES]; BLOCKS];
    let first = pass(1 + data.len().div_ceil(BLOCK_BYTES));
    if let Some(stream) = stream.get_mut(..first) {
        counters(stream, &mut counter);
        key.encrypt_blocks(stream);
    }
    let bytes = data.len().min((first - 1) * BLOCK_BYTES);
    let (now, mut rest) = data.split_at_mut_checked(bytes).unwrap_or_default();
    let [mask, then @ ..] = &mut stream;
    add(now, then);
    see(now);
    while !rest.is_empty() {
        let bytes = rest.len().min(BLOCKS_LONG * BLOCK_BYTES);
        let (now, later) = rest.split_at_mut_checked(bytes).unwrap_or_default();
        add_stream(key, &mut counter, now);
        see(now);
        rest = later;
    }
    let mask = Zeroizing::new(*mask);
    wipe(&mut stream, first);
    mask
}

fn counters(stream: &mut [Block], counter: &mut u128) {
    for block in stream {
        *block = counter.to_be_bytes();
        *counter = counter.wrapping_add(1);
    }
}

/// Adds the stream to the data. The stream is at least as long.
fn add(data: &mut [u8], stream: &[Block]) {
    let (blocks, tail) = data.as_chunks_mut::<BLOCK_BYTES>();
    let (whole, last) = stream.split_at_checked(blocks.len()).unwrap_or_default();
    for (block, add) in blocks.iter_mut().zip(whole) {
        *block = (u128::from_ne_bytes(*block) ^ u128::from_ne_bytes(*add)).to_ne_bytes();
    }
    let last = last.first().into_iter().flatten();
    tail.iter_mut().zip(last).for_each(|(byte, add)| *byte ^= add);
}
