//! One value, one byte string, whatever notation it came in.
//!
//! An amount as JSON number `12.50`, as fixed-point field and as PostgreSQL numeric must give the
//! same anchor. Numbers are compared as exact decimals on their text; no float is ever made.

use zeroize::Zeroizing;

/// Largest power of ten of a number, in either direction. No real amount comes near it.
pub const EXPONENT_MAX: i64 = 4096;

/// The token is no JSON scalar, or a number too large to be meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value is no scalar that can be anchored")]
pub struct BadScalar;

/// A typed value in its one canonical form. Holds clear text: no `Debug`, and wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Canonical(Zeroizing<Vec<u8>>);

impl Canonical {
    fn tagged(tag: u8, bytes: &[u8]) -> Canonical {
        let mut all = Vec::with_capacity(bytes.len() + 1);
        all.push(tag);
        all.extend_from_slice(bytes);
        Canonical(Zeroizing::new(all))
    }

    /// Null.
    #[must_use]
    pub fn null() -> Canonical {
        Canonical::tagged(b'0', &[])
    }

    /// True or false.
    #[must_use]
    pub fn boolean(value: bool) -> Canonical {
        Canonical::tagged(b'?', &[u8::from(value)])
    }

    /// Text, as unchanged UTF-8.
    #[must_use]
    pub fn text(value: &str) -> Canonical {
        Canonical::tagged(b't', value.as_bytes())
    }

    /// Bytes.
    #[must_use]
    pub fn bytes(value: &[u8]) -> Canonical {
        Canonical::tagged(b'b', value)
    }

    /// A moment: nanoseconds of UTC since 1970, negative before.
    #[must_use]
    pub fn utc_ns(value: i128) -> Canonical {
        Canonical::tagged(b'u', &value.to_be_bytes())
    }

    /// An integer; equal to the decimal of the same value.
    #[must_use]
    pub fn integer(value: i128) -> Canonical {
        // Every i128 is a number within bounds, so the other arm is never taken.
        Canonical::number(&value.to_string()).unwrap_or_else(|_| Canonical::null())
    }

    /// A number in JSON notation (RFC 8259 §6), as exact decimal without trailing zeros.
    ///
    /// # Errors
    /// When the text is no JSON number, or its power of ten is beyond [`EXPONENT_MAX`].
    pub fn number(token: &str) -> Result<Canonical, BadScalar> {
        let (negative, rest) = match token.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, token),
        };
        let (mantissa, power) = match rest.split_once(['e', 'E']) {
            Some((mantissa, power)) => (mantissa, Some(power)),
            None => (rest, None),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (mantissa, None),
        };
        let digits_only = |text: &str| {
            if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
                Ok(())
            } else {
                Err(BadScalar)
            }
        };
        digits_only(whole)?;
        if whole.len() > 1 && whole.starts_with('0') {
            return Err(BadScalar);
        }
        fraction.map_or(Ok(()), digits_only)?;
        let unsigned = power.map(|power| power.strip_prefix(['+', '-']).unwrap_or(power));
        unsigned.map_or(Ok(()), digits_only)?;

        let fraction = fraction.unwrap_or("");
        let all = Zeroizing::new([whole, fraction].concat());
        let digits = all.trim_start_matches('0').trim_end_matches('0');
        if digits.is_empty() {
            return Ok(Canonical::tagged(b'n', b"0e0"));
        }
        let trailing = all.len() - all.trim_end_matches('0').len();
        let shift = i64::try_from(trailing).ok().zip(i64::try_from(fraction.len()).ok());
        let (trailing, fraction) = shift.ok_or(BadScalar)?;
        let exponent = power
            .map_or(Some(0), parse_power)
            .and_then(|power| power.checked_add(trailing)?.checked_sub(fraction));
        let exponent = exponent.filter(|e| e.abs() <= EXPONENT_MAX).ok_or(BadScalar)?;
        let sign = if negative { "-" } else { "" };
        let text = Zeroizing::new(format!("{sign}{digits}e{exponent}"));
        Ok(Canonical::tagged(b'n', text.as_bytes()))
    }

    /// The value of a JSON scalar token as it stands in the document: `12.50`, `"text"`, `true`.
    ///
    /// # Errors
    /// When the token is no scalar, or a number beyond the bound.
    pub fn from_json(token: &str) -> Result<Canonical, BadScalar> {
        match token {
            "null" => Ok(Canonical::null()),
            "true" => Ok(Canonical::boolean(true)),
            "false" => Ok(Canonical::boolean(false)),
            _ if token.starts_with('"') => {
                let text: String = serde_json::from_str(token).map_err(|_| BadScalar)?;
                Ok(Canonical::text(&Zeroizing::new(text)))
            }
            _ => Canonical::number(token),
        }
    }

    /// The canonical bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The power of ten after the `e`; none when it is longer than any that is meant.
fn parse_power(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Some(0);
    }
    let value: i64 = digits.parse().ok()?;
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(token: &str) -> Option<String> {
        let canonical = Canonical::from_json(token).ok()?;
        Some(String::from_utf8_lossy(canonical.as_bytes()).into_owned())
    }

    #[test]
    fn one_amount_has_one_form() {
        for token in ["12.5", "12.50", "12.500000", "125e-1", "1.25E+1", "0.125e2", "1250e-2"] {
            assert_eq!(text(token).as_deref(), Some("n125e-1"), "{token}");
        }
        for token in ["0", "-0", "0.00", "0e99999999999999999999", "-0.0e-5"] {
            assert_eq!(text(token).as_deref(), Some("n0e0"), "{token}");
        }
        assert_eq!(text("1200").as_deref(), Some("n12e2"));
        assert_eq!(text("-1200").as_deref(), Some("n-12e2"));
        assert!(Canonical::integer(1200) == Canonical::number("1.2e3").unwrap());
        assert!(
            Canonical::integer(i128::MIN) == Canonical::number(&i128::MIN.to_string()).unwrap()
        );
    }

    #[test]
    fn types_are_kept_apart_and_escapes_are_undone() {
        assert_eq!(text("\"12.5\"").as_deref(), Some("t12.5"));
        assert_eq!(text(r#""\u00e9\n""#).as_deref(), Some("té\n"));
        assert_eq!(text("true").as_deref(), Some("?\u{1}"));
        assert_eq!(text("null").as_deref(), Some("0"));
        assert_eq!(text("\"\"").as_deref(), Some("t"));
    }

    #[test]
    fn what_is_no_scalar_is_refused() {
        for token in [
            "",
            "-",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "1e+",
            "1e5000",
            "1e-5000",
            "0x10",
            "NaN",
            "Infinity",
            "1 ",
            " 1",
            "{}",
            "[]",
            "\"",
            "\"a",
            "\"\\ud800\"",
            "True",
            "1e9999999999",
            "--1",
            "1_000",
            "1e1.5",
            "\"a\"x",
        ] {
            assert_eq!(text(token), None, "{token}");
        }
    }

    proptest! {
        #[test]
        fn zeros_and_shifts_do_not_matter(value in any::<i64>(), zeros in 0usize..6, shift in 0i64..6) {
            let plain = Canonical::integer(i128::from(value));
            let padded = format!("{value}.{}", "0".repeat(zeros + 1));
            prop_assert!(Canonical::number(&padded).unwrap() == plain);
            let shifted = format!("{value}{}e-{shift}", "0".repeat(shift as usize));
            if value != 0 {
                prop_assert!(Canonical::number(&shifted).unwrap() == plain);
            }
        }

        #[test]
        fn any_token_is_refused_or_taken(token in ".*|[-+0-9.eE]{0,12}") {
            let _ = Canonical::from_json(&token);
        }
    }
}
