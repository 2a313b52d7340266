//! One value: its length on the wire, its characters, its text, and back.

use encoding_rs::{Encoding, GB18030, GBK};

use crate::chars::first_bad;
use crate::ebcdic::{self, Page};
use crate::error::Reason;
use crate::spec::{Enc, Kind, LenEnc, Length, Pad, Rule, Unit, value_bytes};

/// Where a value lies behind its length, how long it is, and how many units it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) prefix: usize,
    pub(crate) bytes: usize,
    pub(crate) count: usize,
}

/// Reads the length of the value at the start of `rest`. Whether the bytes are there is asked too.
#[inline]
pub(crate) fn extent(rule: &Rule, rest: &[u8]) -> Result<Extent, Reason> {
    let extent = match rule.length {
        Length::Fixed { count, bytes } => {
            Extent { prefix: 0, bytes: usize::from(bytes), count: usize::from(count) }
        }
        Length::Variable { enc, prefix_bytes, unit, max, includes_itself } => {
            let prefix = usize::from(prefix_bytes);
            let written = rest.get(..prefix).ok_or(Reason::Truncated)?;
            let number = read_length(enc, written).ok_or(Reason::FieldLength)?;
            let itself = if includes_itself { u16::from(prefix_bytes) } else { 0 };
            let count = number.checked_sub(itself).filter(|count| *count <= max);
            let count = count.ok_or(Reason::FieldLength)?;
            let bytes = match (unit, rule.enc) {
                // The common case first: one byte a character.
                (Unit::Digits, Enc::Text(_) | Enc::Binary) | (Unit::Bytes, _) => usize::from(count),
                _ => usize::try_from(value_bytes(*rule, unit, count)).unwrap_or(usize::MAX),
            };
            let count = match (unit, rule.enc) {
                (Unit::Bytes, Enc::Bcd) => usize::from(count) * 2,
                (Unit::Bytes, Enc::Hex(_)) if count % 2 == 1 => return Err(Reason::FieldLength),
                (Unit::Bytes, Enc::Hex(_)) => usize::from(count / 2),
                _ => usize::from(count),
            };
            Extent { prefix, bytes, count }
        }
    };
    if rest.len() < extent.prefix + extent.bytes {
        return Err(Reason::Truncated);
    }
    Ok(extent)
}

#[inline]
fn read_length(enc: LenEnc, written: &[u8]) -> Option<u16> {
    let digit = |byte: u8, zero: u8| {
        let digit = byte.wrapping_sub(zero);
        (digit <= 9).then_some(u16::from(digit))
    };
    match (enc, written) {
        (LenEnc::Text(page), [a, b]) => {
            let zero = if page.is_some() { 0xf0 } else { b'0' };
            Some(digit(*a, zero)? * 10 + digit(*b, zero)?)
        }
        (LenEnc::Text(page), _) => {
            let zero = if page.is_some() { 0xf0 } else { b'0' };
            written.iter().try_fold(0, |number, byte| Some(number * 10 + digit(*byte, zero)?))
        }
        (LenEnc::Bcd, _) => written.iter().try_fold(0, |number, byte| {
            let (tens, ones) = (u16::from(byte >> 4), u16::from(byte & 15));
            (tens <= 9 && ones <= 9).then(|| number * 100 + tens * 10 + ones)
        }),
        (LenEnc::Binary, [one]) => Some(u16::from(*one)),
        (LenEnc::Binary, [a, b]) => Some(u16::from_be_bytes([*a, *b])),
        (LenEnc::Binary, _) => None,
    }
}

fn write_length(enc: LenEnc, prefix_bytes: u8, number: u16, out: &mut Vec<u8>) {
    let [a, b] = number.to_be_bytes();
    let digits = [1_000, 100, 10, 1].map(|unit: u16| u8::try_from(number / unit % 10).unwrap_or(0));
    let skip = usize::from(4_u8.saturating_sub(prefix_bytes));
    match enc {
        LenEnc::Text(page) => {
            let zero = if page.is_some() { 0xf0 } else { b'0' };
            out.extend(digits.iter().skip(skip).map(|digit| zero + digit));
        }
        LenEnc::Bcd => {
            let [m, c, x, i] = digits;
            out.extend([m << 4 | c, x << 4 | i].iter().skip(usize::from(2 - prefix_bytes.min(2))));
        }
        LenEnc::Binary if prefix_bytes == 1 => out.push(b),
        LenEnc::Binary => out.extend([a, b]),
    }
}

/// The first byte of a value that its rule does not allow.
#[inline]
pub(crate) fn first_wrong(rule: &Rule, count: usize, value: &[u8]) -> Option<usize> {
    match (rule.kind, rule.enc) {
        (Kind::Xn, _) => signed(rule, count, value),
        (kind, Enc::Text(page)) => first_bad(kind, page, value),
        (kind, Enc::Bcd) => digits(rule, kind, count, value),
        (_, Enc::Binary) => None,
        (_, Enc::Hex(page)) => value.iter().position(|byte| read_hex_digit(*byte, page).is_none()),
        (_, Enc::Gbk) => chinese(value, false),
        (_, Enc::Gb18030) => chinese(value, true),
    }
}

fn signed(rule: &Rule, count: usize, value: &[u8]) -> Option<usize> {
    let (sign, rest) = value.split_first()?;
    let there = |character| rule.page.map_or(character, |page| ebcdic::from_ascii(page, character));
    if *sign != there(b'C') && *sign != there(b'D') {
        return Some(0);
    }
    let wrong = match rule.enc {
        Enc::Bcd => digits(rule, Kind::N, count, rest),
        Enc::Text(page) => first_bad(Kind::N, page, rest),
        _ => None,
    };
    wrong.map(|at| at + 1)
}

/// Checks digits in half bytes, and the padding of an odd number of them.
fn digits(rule: &Rule, kind: Kind, count: usize, value: &[u8]) -> Option<usize> {
    let pad = rule.pad;
    let is_padded = count % 2 == 1 || is_filled(rule, value);
    if !is_padded {
        return first_wrong_pair(kind, value);
    }
    let good = |byte: u8| {
        let (high, low) = (byte >> 4, byte & 15);
        let (fill, digit) = if pad.is_left() { (high, low) } else { (low, high) };
        fill == pad.nibble() && is_digit(kind, digit)
    };
    if pad.is_left() {
        let (edge, rest) = value.split_first()?;
        return if good(*edge) { first_wrong_pair(kind, rest).map(|at| at + 1) } else { Some(0) };
    }
    let (edge, rest) = value.split_last()?;
    first_wrong_pair(kind, rest).or_else(|| (!good(*edge)).then_some(rest.len()))
}

/// Whether an F at the padded end is no digit: when the length counts bytes, nothing else says how
/// many digits there are.
fn is_filled(rule: &Rule, value: &[u8]) -> bool {
    let counts_bytes = matches!(rule.length, Length::Variable { unit: Unit::Bytes, .. });
    counts_bytes
        && match rule.pad {
            Pad::LeftF => value.first().is_some_and(|byte| byte >> 4 == 15),
            Pad::RightF => value.last().is_some_and(|byte| byte & 15 == 15),
            Pad::Left0 | Pad::Right0 => false,
        }
}

fn is_digit(kind: Kind, nibble: u8) -> bool {
    nibble <= 9 || (kind == Kind::Z && nibble == 0x0d)
}

fn first_wrong_pair(kind: Kind, bytes: &[u8]) -> Option<usize> {
    if kind != Kind::Z && crate::chars::are_packed_digits(bytes) {
        return None;
    }
    bytes.iter().position(|byte| !is_digit(kind, byte >> 4) || !is_digit(kind, byte & 15))
}

/// Printable ASCII, characters of two bytes, and in GB 18030 of four.
fn chinese(value: &[u8], four: bool) -> Option<usize> {
    let mut at = 0;
    while let Some(rest) = value.get(at..) {
        let step = match rest {
            [] => return None,
            [b' '..=b'~', ..] => 1,
            [0x81..=0xfe, 0x40..=0x7e | 0x80..=0xfe, ..] => 2,
            [0x81..=0xfe, 0x30..=0x39, 0x81..=0xfe, 0x30..=0x39, ..] if four => 4,
            _ => return Some(at),
        };
        at += step;
    }
    None
}

fn read_hex_digit(byte: u8, page: Option<Page>) -> Option<u8> {
    let ascii = match page {
        None => byte,
        Some(page) => ebcdic::to_ascii(page).get(usize::from(byte)).copied()?,
    };
    char::from(ascii).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Two upper-case hexadecimal characters.
pub(crate) fn hex_pair(byte: u8) -> [u8; 2] {
    [byte >> 4, byte & 15]
        .map(|nibble| if nibble <= 9 { b'0' + nibble } else { b'A' - 10 + nibble })
}

pub(crate) fn put_hex(bytes: &[u8], out: &mut String) {
    out.extend(bytes.iter().flat_map(|byte| hex_pair(*byte)).map(char::from));
}

/// Pairs of hexadecimal characters as bytes.
pub(crate) fn from_hex(text: &str, out: &mut Vec<u8>) -> Option<()> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    for [high, low] in pairs {
        out.push(read_hex_digit(*high, None)? << 4 | read_hex_digit(*low, None)?);
    }
    Some(())
}

fn charset(enc: Enc) -> Option<&'static Encoding> {
    match enc {
        Enc::Gbk => Some(GBK),
        Enc::Gb18030 => Some(GB18030),
        _ => None,
    }
}

/// Writes the value as text: digits, characters, bytes in hexadecimal. `None`, and `out` as before,
/// when there is no text that stands for exactly these bytes.
pub(crate) fn to_text(rule: &Rule, count: usize, value: &[u8], out: &mut String) -> Option<()> {
    if first_wrong(rule, count, value).is_some() {
        return None;
    }
    match rule.enc {
        Enc::Text(None) => out.push_str(core::str::from_utf8(value).ok()?),
        Enc::Text(Some(page)) => {
            let table = ebcdic::to_ascii(page);
            let read = |byte: &u8| char::from(table.get(usize::from(*byte)).copied().unwrap_or(0));
            out.extend(value.iter().map(read));
        }
        Enc::Bcd => unpack(rule, count, value, out),
        Enc::Binary => put_hex(value, out),
        Enc::Hex(page) => {
            let pairs = value.iter().filter_map(|byte| read_hex_digit(*byte, page));
            let upper = pairs.filter_map(|digit| char::from_digit(u32::from(digit), 16));
            out.extend(upper.map(|c| c.to_ascii_uppercase()));
        }
        Enc::Gbk | Enc::Gb18030 => {
            let charset = charset(rule.enc)?;
            let text = charset.decode_without_bom_handling_and_without_replacement(value)?;
            // Not every pair of bytes is the only one of its character.
            let (again, _, unmappable) = charset.encode(&text);
            if unmappable || again != value {
                return None;
            }
            out.push_str(&text);
        }
    }
    Some(())
}

fn unpack(rule: &Rule, count: usize, value: &[u8], out: &mut String) {
    let mut value = value;
    if rule.kind == Kind::Xn
        && let Some((sign, rest)) = value.split_first()
    {
        let is_credit = *sign == rule.page.map_or(b'C', |page| ebcdic::from_ascii(page, b'C'));
        out.push(if is_credit { 'C' } else { 'D' });
        value = rest;
    }
    let count = count.saturating_sub(usize::from(is_filled(rule, value)));
    let skip = usize::from(rule.pad.is_left()) * (value.len() * 2).saturating_sub(count);
    let nibbles = value.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let shown = nibbles.skip(skip).take(count);
    out.extend(shown.map(|n| char::from(if n <= 9 { b'0' + n } else { b'A' - 10 + n })));
}

/// Appends length and value from their text, as [`to_text`] has it.
pub(crate) fn from_text(rule: &Rule, text: &str, out: &mut Vec<u8>) -> Result<(), Reason> {
    let mut wire = zeroize::Zeroizing::new(Vec::with_capacity(text.len() * 2));
    let units = match rule.enc {
        Enc::Text(None) => {
            wire.extend_from_slice(text.as_bytes());
            wire.len()
        }
        Enc::Text(Some(page)) => {
            for character in text.chars() {
                let ascii = u8::try_from(character).map_err(|_| Reason::Characters)?;
                wire.push(ebcdic::from_ascii(page, ascii));
            }
            wire.len()
        }
        Enc::Bcd => pack(rule, text, &mut wire)?,
        Enc::Binary => {
            from_hex(text, &mut wire).ok_or(Reason::Characters)?;
            wire.len()
        }
        Enc::Hex(page) => {
            if !text.is_ascii() || !text.len().is_multiple_of(2) {
                return Err(Reason::Characters);
            }
            wire.extend(text.bytes().map(|c| page.map_or(c, |p| ebcdic::from_ascii(p, c))));
            wire.len() / 2
        }
        Enc::Gbk | Enc::Gb18030 => {
            let (bytes, _, unmappable) = charset(rule.enc).ok_or(Reason::Value)?.encode(text);
            if unmappable {
                return Err(Reason::Characters);
            }
            wire.extend_from_slice(&bytes);
            wire.len()
        }
    };
    put(rule, units, &wire, out)
}

/// Packs digits; how many there are.
fn pack(rule: &Rule, text: &str, wire: &mut Vec<u8>) -> Result<usize, Reason> {
    let mut text = text;
    if rule.kind == Kind::Xn {
        let sign = *text.as_bytes().first().ok_or(Reason::Value)?;
        text = text.get(1..).ok_or(Reason::Characters)?;
        wire.push(rule.page.map_or(sign, |page| ebcdic::from_ascii(page, sign)));
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'D' | b'=' if rule.kind == Kind::Z => Ok(0x0d),
        _ => Err(Reason::Characters),
    };
    let odd = !text.len().is_multiple_of(2);
    let mut half = (odd && rule.pad.is_left()).then_some(rule.pad.nibble());
    for byte in text.bytes() {
        let low = digit(byte)?;
        match half.take() {
            None => half = Some(low),
            Some(high) => wire.push(high << 4 | low),
        }
    }
    if let Some(high) = half {
        wire.push(high << 4 | rule.pad.nibble());
    }
    Ok(text.len())
}

/// Appends length and value from the bytes of the value as they are sent. `units` is how many
/// digits, characters or bytes they stand for.
pub(crate) fn put(rule: &Rule, units: usize, wire: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let mut counted = units;
    match rule.length {
        Length::Fixed { count, bytes } => {
            let sign = usize::from(rule.kind == Kind::Xn && matches!(rule.enc, Enc::Text(_)));
            if units != usize::from(count) + sign || wire.len() != usize::from(bytes) {
                return Err(Reason::FieldLength);
            }
            counted = usize::from(count);
        }
        Length::Variable { enc, prefix_bytes, unit, max, includes_itself } => {
            let number = match unit {
                Unit::Bytes => wire.len(),
                Unit::Digits | Unit::Nibbles => units,
            };
            let number = u16::try_from(number).ok().filter(|number| *number <= max);
            let number = number.ok_or(Reason::FieldLength)?;
            if unit == Unit::Bytes && rule.enc == Enc::Bcd {
                counted = wire.len() * 2;
                // A zero that pads could not be told from a digit.
                if !units.is_multiple_of(2) && rule.pad.nibble() == 0 {
                    return Err(Reason::FieldLength);
                }
            }
            if first_wrong(rule, counted, wire).is_some() {
                return Err(Reason::Characters);
            }
            let itself = if includes_itself { u16::from(prefix_bytes) } else { 0 };
            write_length(enc, prefix_bytes, number.saturating_add(itself), out);
        }
    }
    if first_wrong(rule, counted, wire).is_some() {
        return Err(Reason::Characters);
    }
    out.extend_from_slice(wire);
    Ok(())
}
