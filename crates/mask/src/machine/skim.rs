//! Skimming: the part of a document that no rule names, 64 bytes a step.
//!
//! The grammar is checked without looking at single tokens. In a block, every token (a bracket, a
//! colon, a comma, the first byte of a string, number or literal) is a bit; adding the bits of one
//! kind to the gaps between tokens carries each of them to the token that follows it. So "after a
//! colon comes a value" is one addition and one comparison for the whole block. Only brackets,
//! numbers, literals and escapes are visited one by one.
//!
//! Skimming never judges. What is surely well-formed is passed over; at anything else it goes back
//! to where all was well and leaves the rest to the machine, which finds the same error at the same
//! byte wherever the document was cut.

use moat_model::limit::JSON_DEPTH_MAX;

use crate::scan::{BLOCK_BYTES, Masks, Scanner, Walk};

/// Bytes outside ASCII that are checked in one go, so that little is looked at twice.
const UTF8_RUN_BYTES: usize = 4 * 1024;

/// What stands in front of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// An opening bracket.
    Open,
    /// A comma.
    Comma,
    /// A colon.
    Colon,
    /// A key.
    Key,
    /// A value.
    Value,
    /// The container has ended.
    Close,
    /// The beginning of a string.
    String {
        /// Whether it is a key.
        is_key: bool,
    },
}

/// A place between two tokens, and the containers that are open there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) at: usize,
    /// A bit for each open container, the innermost lowest: whether it is an object.
    pub(super) kinds: u64,
    pub(super) depth: usize,
    pub(super) after: After,
}

/// Where skimming ended.
pub(super) struct Skimmed {
    /// All before it is well-formed.
    pub(super) place: Place,
    /// Up to here nothing more is to be had by skimming in this chunk.
    pub(super) tried: usize,
}

/// The bits that go from one block to the next: one of them says what the last token was.
#[derive(Clone, Copy, Default)]
struct Carry {
    open: u64,
    comma: u64,
    colon: u64,
    key: u64,
    value: u64,
    /// All ones within a string.
    string: u64,
    /// Whether the first byte is escaped.
    escaped: u64,
    /// Whether a number or literal goes on.
    scalar: u64,
}

/// A walk to the end of the container that is open at depth `floor`.
pub(super) struct Skim<'a> {
    chunk: &'a [u8],
    floor: usize,
    at: usize,
    kinds: u64,
    depth: usize,
    carry: Carry,
    /// From where on UTF-8 is unchecked.
    unchecked: Option<usize>,
    /// Where a low surrogate may stand.
    low_at: usize,
}

enum Block {
    Passed,
    /// The container ended at this byte of the block.
    Ended(usize),
    Unclear,
}

impl<'a> Skim<'a> {
    /// A walk from a place within the container that is open at depth `floor`.
    pub(super) fn new(chunk: &'a [u8], floor: usize, from: Place) -> Skim<'a> {
        let mut carry = Carry::default();
        match from.after {
            After::Open => carry.open = 1,
            After::Comma => carry.comma = 1,
            After::Colon => carry.colon = 1,
            After::Key => carry.key = 1,
            After::Value | After::Close | After::String { .. } => carry.value = 1,
        }
        let Place { at, kinds, depth, .. } = from;
        Skim { chunk, floor, at, kinds, depth, carry, unchecked: None, low_at: usize::MAX }
    }

    fn place(&self) -> Place {
        let Carry { open, comma, colon, key, string, .. } = self.carry;
        let after = match () {
            () if string != 0 => After::String { is_key: key != 0 },
            () if open != 0 => After::Open,
            () if comma != 0 => After::Comma,
            () if colon != 0 => After::Colon,
            () if key != 0 => After::Key,
            () => After::Value,
        };
        Place { at: self.at.min(self.chunk.len()), kinds: self.kinds, depth: self.depth, after }
    }

    /// Whether bytes up to `end` are UTF-8, as far as they were not checked.
    fn is_utf8(&mut self, end: usize) -> bool {
        self.unchecked.take().is_none_or(|from| {
            self.chunk.get(from..end).is_some_and(|run| simdutf8::basic::from_utf8(run).is_ok())
        })
    }

    /// One block: see the module's text.
    #[inline(always)]
    fn block<S: Scanner>(&mut self, scanner: S, found: &Masks) -> Block {
        let (escapes, escaped) = self.escapes(found.slash);
        let quotes = found.quote & !escaped;
        let inside = scanner.parity(quotes) ^ self.carry.string;
        let outside = !inside;
        let brackets = (found.open | found.close) & outside;
        let (colon, comma) = (found.colon & outside, found.comma & outside);
        let string = quotes & inside;
        let other = outside & !(quotes | brackets | colon | comma | found.space);
        let scalar = other & !((other << 1) | self.carry.scalar);
        let Some((objects, kept, ended)) = self.containers(brackets, found) else {
            return Block::Unclear;
        };
        let tokens = brackets | colon | comma | string | scalar;
        let open = found.open & brackets;
        let close = found.close & brackets;
        let starts = open | string | scalar;

        let after_open = follow(tokens, open, &mut self.carry.open);
        let after_comma = follow(tokens, comma, &mut self.carry.comma);
        let after_colon = follow(tokens, colon, &mut self.carry.colon);
        let keys = string & objects & (after_open | after_comma);
        let after_key = follow(tokens, keys, &mut self.carry.key);
        let values = (string & !keys) | scalar | close;
        let after_value = follow(tokens, values, &mut self.carry.value);

        let wrong = (after_open & objects & !(string | close))
            | (after_open & !objects & !(starts | close))
            | (after_comma & objects & !string)
            | (after_comma & !objects & !starts)
            | (after_colon & !starts)
            | (after_key & !colon)
            | (after_value & !(comma | close))
            | (found.control & inside);
        self.carry.string = 0u64.wrapping_sub(inside >> 63);
        self.carry.scalar = other >> 63;
        let sound = wrong & kept == 0
            && self.scalars(scalar & kept)
            && self.escapes_are_known(escapes & inside & kept);
        if !sound {
            return Block::Unclear;
        }
        if found.high & kept != 0 {
            self.unchecked.get_or_insert(self.at);
        } else if !self.is_utf8(self.at) {
            return Block::Unclear;
        }
        ended.map_or(Block::Passed, Block::Ended)
    }

    /// The backslashes that begin an escape, and the bytes that they escape: every second one of a
    /// run. Subtracting from the odd places lets a borrow run through each run of backslashes.
    #[inline(always)]
    fn escapes(&mut self, slashes: u64) -> (u64, u64) {
        const ODD: u64 = 0xaaaa_aaaa_aaaa_aaaa;
        let first = core::mem::take(&mut self.carry.escaped);
        if slashes == 0 {
            return (0, first);
        }
        let may_begin = slashes & !first;
        let flipped = ((may_begin << 1) | ODD).wrapping_sub(may_begin) ^ ODD;
        let escaped = flipped ^ (slashes | first);
        let begins = flipped & slashes;
        self.carry.escaped = begins >> 63;
        (begins, escaped)
    }

    /// Opens and closes containers. Gives the bytes whose innermost container is an object (a bracket
    /// that opens belongs to what is around it), the bytes up to the end of the walk, and that end.
    #[inline(always)]
    fn containers(&mut self, brackets: u64, found: &Masks) -> Option<(u64, u64, Option<usize>)> {
        let (mut objects, mut done, mut rest) = (0, 0, brackets);
        let mut fill = 0u64.wrapping_sub(self.kinds & 1);
        while rest != 0 {
            let bit = rest & rest.wrapping_neg();
            let upto = bit | (bit - 1);
            objects |= fill & upto & !done;
            done = upto;
            let is_object = u64::from(found.curly & bit != 0);
            if found.open & bit != 0 {
                if self.depth >= JSON_DEPTH_MAX {
                    return None;
                }
                self.depth += 1;
                self.kinds = (self.kinds << 1) | is_object;
            } else {
                if self.kinds & 1 != is_object {
                    return None;
                }
                self.depth -= 1;
                self.kinds >>= 1;
                if self.depth < self.floor {
                    return Some((objects, upto, Some(bit.trailing_zeros() as usize)));
                }
            }
            fill = 0u64.wrapping_sub(self.kinds & 1);
            rest &= rest - 1;
        }
        Some((objects | (fill & !done), u64::MAX, None))
    }

    /// Whether all numbers and literals that start at these bytes are well-formed, and end in this
    /// chunk.
    #[inline(always)]
    fn scalars(&self, mut starts: u64) -> bool {
        while starts != 0 {
            let at = self.at + starts.trailing_zeros() as usize;
            if !self.chunk.get(at..).is_some_and(is_scalar) {
                return false;
            }
            starts &= starts - 1;
        }
        true
    }

    /// Whether all escapes that start at these bytes are those of RFC 8259 §7, surrogates in pairs.
    #[inline(always)]
    fn escapes_are_known(&mut self, mut starts: u64) -> bool {
        while starts != 0 {
            let at = self.at + starts.trailing_zeros() as usize;
            match self.chunk.get(at + 1) {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {}
                Some(b'u') if self.is_unit(at) => {}
                _ => return false,
            }
            starts &= starts - 1;
        }
        true
    }

    /// Whether the escape at this byte is a UTF-16 unit that may stand there.
    fn is_unit(&mut self, at: usize) -> bool {
        match self.unit(at) {
            Some(0xdc00..=0xdfff) => self.low_at == at,
            Some(0xd800..=0xdbff) => {
                self.low_at = at + 6;
                self.chunk.get(at + 6..at + 8) == Some(b"\\u")
                    && matches!(self.unit(at + 6), Some(0xdc00..=0xdfff))
            }
            found => found.is_some(),
        }
    }

    fn unit(&self, at: usize) -> Option<u32> {
        let digits = self.chunk.get(at + 2..at + 6)?;
        digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
    }
}

impl Walk for Skim<'_> {
    type Out = Skimmed;

    #[inline(always)]
    fn walk<S: Scanner>(mut self, scanner: S) -> Skimmed {
        let mut good = self.place();
        while let Some(rest) = self.chunk.get(self.at..).filter(|rest| !rest.is_empty()) {
            let mut padded = [b' '; BLOCK_BYTES];
            let block = match rest.first_chunk::<BLOCK_BYTES>() {
                Some(block) => block,
                None => pad(rest, &mut padded),
            };
            let found = scanner.masks(block);
            let passed = match self.block(scanner, &found) {
                Block::Unclear => false,
                Block::Passed => true,
                Block::Ended(bit) => {
                    let at = self.at + bit + 1;
                    if self.is_utf8(at) {
                        let Skim { kinds, depth, .. } = self;
                        let place = Place { at, kinds, depth, after: After::Close };
                        return Skimmed { place, tried: at };
                    }
                    false
                }
            };
            if !passed {
                return Skimmed { place: good, tried: self.at + BLOCK_BYTES };
            }
            self.at += BLOCK_BYTES;
            let settled = self.carry.string == 0 && self.carry.scalar == 0;
            let run = self.unchecked.map_or(0, |from| self.at - from);
            let at = self.at.min(self.chunk.len());
            if settled && (run == 0 || run > UTF8_RUN_BYTES) {
                if !self.is_utf8(at) {
                    return Skimmed { place: good, tried: self.at };
                }
                good = self.place();
            }
        }
        let end = self.chunk.len();
        if self.is_utf8(end) {
            good = self.place();
        }
        Skimmed { place: good, tried: end }
    }
}

/// The end of a chunk, with spaces behind it. Kept apart: inlined, the compiler builds every block
/// from single bytes.
#[inline(never)]
fn pad<'b>(rest: &[u8], block: &'b mut [u8; BLOCK_BYTES]) -> &'b [u8; BLOCK_BYTES] {
    block.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    block
}

/// The tokens that follow a token of `class`. The carry says whether the last token before the
/// block was one, and afterwards whether the last one in it was.
#[inline(always)]
fn follow(tokens: u64, class: u64, carry: &mut u64) -> u64 {
    let (sum, over) = (!tokens).overflowing_add((class << 1) | *carry);
    *carry = u64::from(over) | (class >> 63);
    sum & tokens
}

/// Whether a number or literal (RFC 8259 §3, §6) stands at the start and ends before the last byte.
#[inline(always)]
fn is_scalar(bytes: &[u8]) -> bool {
    let length = match bytes.first() {
        Some(b't') if bytes.starts_with(b"true") => 4,
        Some(b'f') if bytes.starts_with(b"false") => 5,
        Some(b'n') if bytes.starts_with(b"null") => 4,
        Some(b'-' | b'0'..=b'9') => match number(bytes) {
            Some(length) => length,
            None => return false,
        },
        _ => return false,
    };
    matches!(bytes.get(length), Some(b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t'))
}

/// Length of the number at the start.
#[inline(always)]
fn number(bytes: &[u8]) -> Option<usize> {
    let digits = |from: usize| {
        let rest = bytes.get(from..).unwrap_or(&[]);
        from + rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
    };
    let first = usize::from(bytes.first() == Some(&b'-'));
    let mut end = match bytes.get(first) {
        Some(b'0') => first + 1,
        Some(b'1'..=b'9') => digits(first + 1),
        _ => return None,
    };
    if bytes.get(end) == Some(&b'.') {
        let fraction = end + 1;
        end = digits(fraction);
        if end == fraction {
            return None;
        }
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = end + 1 + sign;
        end = digits(exponent);
        if end == exponent {
            return None;
        }
    }
    Some(end)
}
