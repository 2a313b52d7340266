//! Money: whole minor units (fen, cents) in 64 bits, read and written as decimal text. No floats.

use core::fmt;
use core::str::FromStr;

/// Largest amount of one posting or balance, in minor units: ten million million yuan. Sums of two
/// stay far inside 64 bits.
pub const AMOUNT_MINOR_MAX: i64 = 1_000_000_000_000_000;

/// An amount in minor units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Money(i64);

impl Money {
    /// An amount in minor units, if it is within [`AMOUNT_MINOR_MAX`] on either side.
    #[must_use]
    pub fn from_minor(minor: i64) -> Option<Money> {
        (-AMOUNT_MINOR_MAX..=AMOUNT_MINOR_MAX).contains(&minor).then_some(Money(minor))
    }

    /// The amount in minor units.
    #[must_use]
    pub fn minor(self) -> i64 {
        self.0
    }

    /// The sum, if it stays within bounds.
    #[must_use]
    pub fn plus(self, other: Money) -> Option<Money> {
        self.0.checked_add(other.0).and_then(Money::from_minor)
    }

    /// The difference, if it stays within bounds.
    #[must_use]
    pub fn minus(self, other: Money) -> Option<Money> {
        self.0.checked_sub(other.0).and_then(Money::from_minor)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let minor = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:02}", minor / 100, minor % 100)
    }
}

/// The text is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadMoney;

impl fmt::Display for BadMoney {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an amount has digits and at most two decimals, for example 100.00")
    }
}

impl core::error::Error for BadMoney {}

impl FromStr for Money {
    type Err = BadMoney;

    /// Reads `100`, `100.5` or `100.50`: no sign, no exponent, no leading zeros, no spaces.
    fn from_str(text: &str) -> Result<Money, BadMoney> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let leading_zero = whole.len() > 1 && whole.starts_with('0');
        if !digits(whole) || !digits(decimals) || leading_zero || decimals.len() > 2 {
            return Err(BadMoney);
        }
        let whole: i64 = whole.parse().map_err(|_| BadMoney)?;
        let tenths: i64 = decimals.parse().map_err(|_| BadMoney)?;
        let cents = if decimals.len() == 1 { tenths * 10 } else { tenths };
        let minor = whole.checked_mul(100).and_then(|minor| minor.checked_add(cents));
        minor.and_then(Money::from_minor).ok_or(BadMoney)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_strictly_and_written_with_two_decimals() {
        for (text, minor, shown) in [
            ("0", 0, "0.00"),
            ("100", 10_000, "100.00"),
            ("100.5", 10_050, "100.50"),
            ("0.07", 7, "0.07"),
            ("10000000000000.00", AMOUNT_MINOR_MAX, "10000000000000.00"),
        ] {
            let money: Money = text.parse().expect(text);
            assert_eq!((money.minor(), money.to_string().as_str()), (minor, shown));
        }
        for text in [
            "",
            ".",
            "1.",
            ".5",
            "1.234",
            "-1",
            "+1",
            "01",
            "1e3",
            " 1",
            "1 ",
            "1,5",
            "１",
            "0x1",
            "10000000000000.01",
            "99999999999999999999",
        ] {
            assert_eq!(text.parse::<Money>(), Err(BadMoney), "{text}");
        }
        assert_eq!(Money(-5).to_string(), "-0.05");
        assert_eq!(Money(AMOUNT_MINOR_MAX).plus(Money(1)), None);
    }
}
