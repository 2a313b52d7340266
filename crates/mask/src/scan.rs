//! The byte scanners.
//!
//! [`Scanner::masks`] tells what stands in 64 bytes, one bit a byte, all kinds at once: the walk
//! over a part of a document that no rule names ([`crate::machine`]) is arithmetic on these bits.
//! It has two twins: one in plain integer arithmetic, which is the reference, and one for AVX2
//! with carry-less multiplication, found at run time. This is the only module with `unsafe` code.
//! There is no NEON twin: other processors take the plain one.

#[cfg(target_arch = "x86_64")]
mod x86;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Bytes in one block.
pub(crate) const BLOCK_BYTES: usize = 64;

/// What stands in a block. Bit 0 is the first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Masks {
    /// `"`.
    pub(crate) quote: u64,
    /// `\`.
    pub(crate) slash: u64,
    /// `{` and `[`.
    pub(crate) open: u64,
    /// `}` and `]`.
    pub(crate) close: u64,
    /// Bytes whose sixth bit is set: among brackets, the curly ones.
    pub(crate) curly: u64,
    /// `:`.
    pub(crate) colon: u64,
    /// `,`.
    pub(crate) comma: u64,
    /// White space (RFC 8259 §2).
    pub(crate) space: u64,
    /// Bytes below 0x20.
    pub(crate) control: u64,
    /// Bytes from 0x80 on.
    pub(crate) high: u64,
}

/// One way to look at a block.
pub(crate) trait Scanner: Copy {
    /// What stands in the block.
    fn masks(self, block: &[u8; BLOCK_BYTES]) -> Masks;

    /// Each bit becomes the parity of itself and all below: set from an opening quote on, up to and
    /// without the closing one.
    fn parity(self, bits: u64) -> u64;
}

/// Work that wants the fastest scanner of this processor. Its `walk` must be inlined, so that it
/// is compiled for the same instructions.
pub(crate) trait Walk {
    /// What comes of it.
    type Out;

    /// The work.
    fn walk<S: Scanner>(self, scanner: S) -> Self::Out;
}

/// Does the work with the fastest scanner there is.
pub(crate) fn fastest<W: Walk>(work: W) -> W::Out {
    #[cfg(target_arch = "x86_64")]
    let work = match x86::walk(work) {
        Ok(out) => return out,
        Err(work) => work,
    };
    work.walk(Portable)
}

/// The reference: eight bytes a step in plain integer arithmetic.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Scanner for Portable {
    fn masks(self, block: &[u8; BLOCK_BYTES]) -> Masks {
        let mut masks = Masks::default();
        let (words, _) = block.as_chunks::<8>();
        for (place, word) in words.iter().enumerate() {
            let word = u64::from_le_bytes(*word);
            let shift = place * 8;
            let put = |flags: u64| gather(flags) << shift;
            let folded = word | (ONES * 0x20);
            masks.quote |= put(same(word, b'"'));
            masks.slash |= put(same(word, b'\\'));
            masks.open |= put(same(folded, b'{'));
            masks.close |= put(same(folded, b'}'));
            masks.curly |= put((word << 2) & HIGH);
            masks.colon |= put(same(word, b':'));
            masks.comma |= put(same(word, b','));
            let blank = same(word, b' ') | same(word, b'\t');
            masks.space |= put(blank | same(word, b'\n') | same(word, b'\r'));
            // Of bytes below 0x80, those that need no borrow from 0x20 keep their top bit.
            let controls = !(((word & !HIGH) | HIGH) - ONES * 0x20) & !word & HIGH;
            masks.control |= put(controls);
            masks.high |= put(word & HIGH);
        }
        masks
    }

    fn parity(self, bits: u64) -> u64 {
        [1, 2, 4, 8, 16, 32].iter().fold(bits, |bits, shift| bits ^ (bits << shift))
    }
}

/// Flags exactly the bytes equal to `byte`, in their top bits.
const fn same(word: u64, byte: u8) -> u64 {
    let other = word ^ (ONES * byte as u64);
    !(((other & !HIGH) + !HIGH) | other) & HIGH
}

/// The top bits of eight bytes as eight bits, the first byte lowest.
const fn gather(flags: u64) -> u64 {
    (flags >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

/// Flags bytes below `limit` (at most 0x80), among bytes below 0x80. Only the lowest flag is
/// certainly right, since a borrow may flag bytes above it; nobody asks for more.
const fn below(word: u64, limit: u64) -> u64 {
    word.wrapping_sub(ONES.wrapping_mul(limit)) & !word & HIGH
}

/// Flags bytes equal to `byte`; as [`below`], only the lowest is certain.
const fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ ONES.wrapping_mul(byte as u64), 1)
}

/// How many bytes at the start are plain string content: ASCII, no quote, no backslash, no control
/// character (RFC 8259 §7).
pub(crate) fn plain(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (place, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = (word & HIGH) | below(word, 0x20) | equal(word, b'"') | equal(word, b'\\');
        if found != 0 {
            return place * 8 + (found.trailing_zeros() / 8) as usize;
        }
    }
    let special = |byte: &u8| matches!(*byte, b'"' | b'\\' | 0..=0x1f | 0x80..);
    words.len() * 8 + rest.iter().position(special).unwrap_or(rest.len())
}

/// How many bytes at the start are outside ASCII.
pub(crate) fn not_ascii(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (place, word) in words.iter().enumerate() {
        let ascii = !u64::from_le_bytes(*word) & HIGH;
        if ascii != 0 {
            return place * 8 + (ascii.trailing_zeros() / 8) as usize;
        }
    }
    words.len() * 8 + rest.iter().position(u8::is_ascii).unwrap_or(rest.len())
}

/// How many bytes at the start are white space (RFC 8259 §2).
pub(crate) fn space(bytes: &[u8]) -> usize {
    let blank = |byte: &u8| matches!(*byte, b' ' | b'\n' | b'\r' | b'\t');
    if !bytes.first().is_some_and(blank) {
        return 0;
    }
    let start = usize::from(bytes.first() == Some(&b'\n'));
    let (words, _) = bytes.get(start..).unwrap_or(&[]).as_chunks::<8>();
    let spaces = |word: &&[u8; 8]| **word == *b"        ";
    let indent = start + words.iter().take_while(spaces).count() * 8;
    let rest = bytes.get(indent..).unwrap_or(&[]);
    indent + rest.iter().position(|byte| !blank(byte)).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests;
