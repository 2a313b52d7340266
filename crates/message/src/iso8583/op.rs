//! What a field's rule comes down to when it only has to be measured and checked: a few bytes, so
//! that the table of a spec stays near the processor. What an op does not settle, the rule does.

use super::decode::Check;
use crate::chars::Quick;
use crate::spec::{Enc, Kind, LenEnc, Length, Rule, Unit};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    /// `max` is the number of bytes.
    Fixed,
    /// So many digits of text, from this zero; a byte a unit.
    Text { digits: u8, zero: u8 },
    /// One byte of two digits; a byte a unit, or two units.
    Bcd1 { halves: bool },
    /// One byte; a byte a unit, or two units.
    Binary1 { halves: bool },
    /// Ask the rule.
    Rule,
}

/// The short form of a rule.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Op {
    measure: Measure,
    pub(super) quick: Quick,
    /// The quick check must know that the number of digits is even, or that a zero fills in front.
    is_packed: bool,
    /// Objects or parts are inside.
    is_open: bool,
    max: u16,
    /// Units of a fixed length.
    count: u16,
}

impl Op {
    pub(crate) fn new(rule: &Rule) -> Op {
        let (measure, max, count) = match rule.length {
            Length::Fixed { count, bytes } => (Measure::Fixed, bytes, count),
            Length::Variable { enc, prefix_bytes, unit, max, includes_itself } => {
                let halves = unit != Unit::Bytes && rule.enc == Enc::Bcd;
                let one_each = match rule.enc {
                    Enc::Text(_) | Enc::Gbk | Enc::Gb18030 => true,
                    Enc::Binary => unit != Unit::Nibbles,
                    Enc::Bcd | Enc::Hex(_) => false,
                };
                let measure = match (enc, prefix_bytes) {
                    _ if includes_itself || !(halves || one_each) => Measure::Rule,
                    (LenEnc::Text(page), digits) if one_each => {
                        Measure::Text { digits, zero: if page.is_some() { 0xf0 } else { b'0' } }
                    }
                    (LenEnc::Bcd, 1) => Measure::Bcd1 { halves },
                    (LenEnc::Binary, 1) => Measure::Binary1 { halves },
                    _ => Measure::Rule,
                };
                (measure, max, 0)
            }
        };
        let quick = match (rule.kind, rule.enc) {
            (Kind::Xn, _) => Quick::Never,
            (kind, Enc::Text(page)) => Quick::of(kind, page),
            (Kind::N, Enc::Bcd) => Quick::Packed,
            (_, Enc::Binary) => Quick::Any,
            (_, Enc::Bcd | Enc::Hex(_) | Enc::Gbk | Enc::Gb18030) => Quick::Never,
        };
        let is_open = matches!(rule.kind, Kind::Tlv | Kind::Composite);
        Op { measure, quick, is_packed: quick == Quick::Packed, is_open, max, count }
    }

    /// Of a number that is no field.
    pub(crate) const NONE: Op = Op {
        measure: Measure::Rule,
        quick: Quick::Never,
        is_packed: false,
        is_open: false,
        max: 0,
        count: 0,
    };

    /// Bytes of the length and of the value at the start of `rest`, if all is good at a glance.
    #[inline(always)]
    pub(super) fn glance(&self, check: Check, rest: &[u8]) -> Option<(usize, usize)> {
        let (prefix, bytes, count) = self.measure(rest)?;
        let value = rest.get(prefix..)?.get(..bytes)?;
        let is_good = check == Check::Lazy || (!self.is_open && self.is_good(count, value));
        is_good.then_some((prefix, bytes))
    }

    /// Bytes of the length, bytes and units of the value, if that is simple.
    #[inline(always)]
    fn measure(&self, rest: &[u8]) -> Option<(usize, usize, usize)> {
        match self.measure {
            Measure::Fixed => Some((0, usize::from(self.max), usize::from(self.count))),
            Measure::Text { digits, zero } => text(digits, zero, self.max, rest),
            Measure::Bcd1 { halves } => rest.first().and_then(|byte| {
                let (tens, ones) = (byte >> 4, byte & 15);
                let count = usize::from(tens) * 10 + usize::from(ones);
                let is_good = tens <= 9 && ones <= 9 && count <= usize::from(self.max);
                is_good.then(|| (1, if halves { count.div_ceil(2) } else { count }, count))
            }),
            Measure::Binary1 { halves } => rest.first().and_then(|byte| {
                let count = usize::from(*byte);
                let is_good = count <= usize::from(self.max);
                is_good.then(|| (1, if halves { count.div_ceil(2) } else { count }, count))
            }),
            Measure::Rule => None,
        }
    }

    /// Whether the value is good at a glance.
    #[inline]
    fn is_good(&self, count: usize, value: &[u8]) -> bool {
        // A digit that fills must be looked at by itself.
        (!self.is_packed || count.is_multiple_of(2)) && self.quick.is_good(value)
    }

    /// Whether the value is of so many bytes and in no need of a look of its own, so that it may be
    /// looked at together with its neighbours.
    pub(super) fn merges(&self) -> bool {
        self.measure == Measure::Fixed
            && !self.is_open
            && self.quick != Quick::Never
            && !(self.is_packed && self.count % 2 == 1)
    }
}

#[inline]
fn text(digits: u8, zero: u8, max: u16, rest: &[u8]) -> Option<(usize, usize, usize)> {
    let digit = |byte: u8| {
        let digit = byte.wrapping_sub(zero);
        (digit <= 9).then_some(usize::from(digit))
    };
    let count = match (digits, rest) {
        (2, [a, b, ..]) => digit(*a)? * 10 + digit(*b)?,
        (3, [a, b, c, ..]) => digit(*a)? * 100 + digit(*b)? * 10 + digit(*c)?,
        _ => return None,
    };
    (count <= usize::from(max)).then_some((usize::from(digits), count, count))
}
