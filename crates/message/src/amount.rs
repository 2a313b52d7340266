//! An amount has one value and one canonical form, whatever format it came in.

use moat_audit::anchor::Canonical;
use zeroize::Zeroizing;

/// An exact decimal: a coefficient of at most 38 digits, and how many of them are decimals.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Decimal {
    is_negative: bool,
    coefficient: u128,
    decimals: u8,
}

/// Most digits of an amount.
pub const DIGITS_MAX: usize = 38;

impl Decimal {
    /// Digits with so many decimals, as ISO 8583 has them: `000000001250`, or `D00001250` for what
    /// is owed.
    #[must_use]
    pub fn from_digits(text: &str, decimals: u8) -> Option<Decimal> {
        let (is_negative, digits) = match text.as_bytes() {
            [b'C', ..] => (false, text.get(1..)?),
            [b'D', ..] => (true, text.get(1..)?),
            _ => (false, text),
        };
        if digits.is_empty() {
            return None;
        }
        Some(Decimal { is_negative, coefficient: number(digits)?, decimals })
    }

    /// A decimal number without exponent, as XML Schema has it: `12.50`, `12.`, `.5`, `-1`, `+1`.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Decimal> {
        let (is_negative, rest) = match text.as_bytes() {
            [b'-', ..] => (true, text.get(1..)?),
            [b'+', ..] => (false, text.get(1..)?),
            _ => (false, text),
        };
        let (whole, fraction) = rest.split_once('.').unwrap_or((rest, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let all = Zeroizing::new([whole, fraction].concat());
        let decimals = u8::try_from(fraction.len()).ok()?;
        Some(Decimal { is_negative, coefficient: number(&all)?, decimals })
    }

    /// A whole number with so many decimals, as ASN.1 has minor units.
    #[must_use]
    pub fn from_integer(value: i128, decimals: u8) -> Decimal {
        Decimal { is_negative: value < 0, coefficient: value.unsigned_abs(), decimals }
    }

    /// Decimals after the point, trailing zeros included.
    #[must_use]
    pub fn decimals(&self) -> u8 {
        self.decimals
    }

    /// Whether it is below zero.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.is_negative && self.coefficient != 0
    }

    /// As a number of JSON: `-12.50`.
    #[must_use]
    pub fn to_json(&self) -> Zeroizing<String> {
        let sign = if self.is_negative() { "-" } else { "" };
        let decimals = usize::from(self.decimals);
        let digits = Zeroizing::new(format!("{:0>width$}", self.coefficient, width = decimals + 1));
        let (whole, fraction) = digits.split_at(digits.len() - decimals);
        let point = if decimals == 0 { "" } else { "." };
        Zeroizing::new(format!("{sign}{whole}{point}{fraction}"))
    }

    /// The one form in which the record anchors it.
    #[must_use]
    pub fn canonical(&self) -> Option<Canonical> {
        Canonical::number(&self.to_json()).ok()
    }
}

fn number(digits: &str) -> Option<u128> {
    let digits = digits.trim_start_matches('0').to_owned();
    let digits = Zeroizing::new(digits);
    if digits.len() > DIGITS_MAX || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    if digits.is_empty() { Some(0) } else { digits.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_are_no_amount_are_none() {
        for text in ["", ".", "-", "1e5", "1,5", "--1", " 1", "１", "1.2.3", "+-1", "INF"] {
            assert!(Decimal::from_text(text).is_none(), "{text}");
        }
        for text in ["", "C", "X12", "-12", "1.2", "９"] {
            assert!(Decimal::from_digits(text, 2).is_none(), "{text}");
        }
        assert!(Decimal::from_text(&"9".repeat(DIGITS_MAX + 1)).is_none());
    }

    #[test]
    fn json_has_the_decimals_it_came_with() {
        let json = |amount: Option<Decimal>| amount.map(|a| a.to_json().as_str().to_owned());
        assert_eq!(json(Decimal::from_digits("000000001250", 2)).as_deref(), Some("12.50"));
        assert_eq!(json(Decimal::from_digits("D00000005", 2)).as_deref(), Some("-0.05"));
        assert_eq!(json(Decimal::from_digits("D0", 0)).as_deref(), Some("0"));
        assert_eq!(json(Decimal::from_text("-0.50")).as_deref(), Some("-0.50"));
        assert_eq!(json(Decimal::from_text("+12.")).as_deref(), Some("12"));
        assert_eq!(json(Decimal::from_text(".5")).as_deref(), Some("0.5"));
        assert_eq!(json(Some(Decimal::from_integer(-1250, 3))).as_deref(), Some("-1.250"));
    }
}
