//! What values must look like.

use crate::amount::Decimal;

/// Decimals of currencies that have not two (ISO 4217, table A.1).
const MINOR_UNITS: [(&str, u8); 32] = [
    ("BHD", 3),
    ("BIF", 0),
    ("CLF", 4),
    ("CLP", 0),
    ("DJF", 0),
    ("GNF", 0),
    ("IQD", 3),
    ("ISK", 0),
    ("JOD", 3),
    ("JPY", 0),
    ("KMF", 0),
    ("KRW", 0),
    ("KWD", 3),
    ("LYD", 3),
    ("OMR", 3),
    ("PYG", 0),
    ("RWF", 0),
    ("TND", 3),
    ("UGX", 0),
    ("UYI", 0),
    ("UYW", 4),
    ("VND", 0),
    ("VUV", 0),
    ("XAF", 0),
    ("XOF", 0),
    ("XPF", 0),
    ("XAU", 5),
    ("XAG", 5),
    ("XPT", 5),
    ("XPD", 5),
    ("XDR", 5),
    ("XSU", 5),
];
/// Most digits of an amount, and most of them behind the point.
const DIGITS_MAX: usize = 18;
const FRACTION_MAX: u8 = 5;

/// Decimals of a currency (ISO 4217): as many as its minor unit has; of what has none, five, which
/// is what the messages allow. `None` for what is no code.
#[must_use]
pub fn minor_units(currency: &str) -> Option<u8> {
    if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let found = MINOR_UNITS.iter().find(|(code, _)| *code == currency);
    Some(found.map_or(2, |(_, units)| *units))
}

/// Digits with at most one point; no sign, no exponent.
pub(super) fn decimal(text: &str) -> Option<Decimal> {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    if digits > DIGITS_MAX || !text.starts_with(|c: char| c.is_ascii_digit()) || text.ends_with('.')
    {
        return None;
    }
    Decimal::from_text(text)
}

pub(super) fn amount(text: &str, currency: &str) -> Option<Decimal> {
    let most = minor_units(currency)?.min(FRACTION_MAX);
    decimal(text).filter(|amount| amount.decimals() <= most)
}

/// ISO 9362: four letters or digits, two letters of a country, two and perhaps three more.
pub(super) fn bic(text: &str) -> bool {
    let upper = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    let country = text.as_bytes().get(4..6);
    matches!(text.len(), 8 | 11)
        && text.bytes().all(upper)
        && country.is_some_and(|two| two.iter().all(u8::is_ascii_uppercase))
}

/// The remainder by 97 of letters and digits, letters as 10 to 35 (ISO/IEC 7064, MOD 97-10).
fn mod97(text: impl Iterator<Item = u8>) -> Option<u32> {
    text.into_iter().try_fold(0, |sum, byte| {
        let value = char::from(byte).to_digit(36)?;
        let shift = if value < 10 { 10 } else { 100 };
        Some((sum * shift + value) % 97)
    })
}

/// ISO 13616: country, two check digits, up to 30 letters and digits.
pub(super) fn iban(text: &str) -> bool {
    let bytes = text.as_bytes();
    let Some((head, rest)) = bytes.split_at_checked(4) else { return false };
    let good = matches!(head, [a, b, c, d] if a.is_ascii_uppercase() && b.is_ascii_uppercase()
        && c.is_ascii_digit() && d.is_ascii_digit());
    good && (5..=34).contains(&bytes.len())
        && bytes.iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
        && mod97(rest.iter().chain(head).copied()) == Some(1)
}

/// ISO 17442: 18 letters and digits, two check digits.
pub(super) fn lei(text: &str) -> bool {
    let (upper, digits) = (|byte: u8| byte.is_ascii_uppercase(), |byte: u8| byte.is_ascii_digit());
    text.len() == 20
        && text.bytes().all(|byte| upper(byte) || digits(byte))
        && text.bytes().skip(18).all(digits)
        && mod97(text.bytes()) == Some(1)
}

/// A version 4 UUID in small letters (RFC 9562 §5.4).
pub(super) fn uetr(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            14 => byte == b'4',
            19 => matches!(byte, b'8' | b'9' | b'a' | b'b'),
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// A real day of the calendar.
fn day(text: &str) -> bool {
    let mut parts = text.split('-');
    let (Some(y), Some(m), Some(d), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    if (y.len(), m.len(), d.len()) != (4, 2, 2) {
        return false;
    }
    let (Some(y), Some(m), Some(d)) = (number(y), number(m), number(d)) else { return false };
    let is_leap = y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let last = match m {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        _ => return false,
    };
    (1..=last).contains(&d)
}

/// The zone at the end, if any; then what is before it.
fn without_zone(text: &str) -> &str {
    if let Some(rest) = text.strip_suffix('Z') {
        return rest;
    }
    let Some(at) = text.len().checked_sub(6) else { return text };
    let Some((rest, zone)) = text.split_at_checked(at) else { return text };
    let is_zone = zone.starts_with(['+', '-'])
        && zone.get(3..4) == Some(":")
        && zone.get(1..3).and_then(number).is_some_and(|hours| hours <= 14)
        && zone.get(4..6).and_then(number).is_some_and(|minutes| minutes <= 59);
    if is_zone { rest } else { text }
}

pub(super) fn date(text: &str) -> bool {
    day(text) || day(without_zone(text))
}

pub(super) fn date_time(text: &str) -> bool {
    let Some((date, time)) = text.split_once('T') else { return false };
    let time = without_zone(time);
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut parts = time.split(':');
    let (Some(h), Some(m), Some(s), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let within = |text: &str, most| text.len() == 2 && number(text).is_some_and(|n| n <= most);
    // 60 is a leap second; 24:00:00 is not taken.
    day(date)
        && within(h, 23)
        && within(m, 59)
        && within(s, 60)
        && (1..=9).contains(&fraction.len())
        && fraction.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_check_digits() {
        assert!(iban("GB82WEST12345698765432") && iban("DE89370400440532013000"));
        assert!(!iban("GB82WEST12345698765433") && !iban("gb82WEST12345698765432") && !iban("GB8"));
        assert!(lei("529900T8BM49AURSDO55") && !lei("529900T8BM49AURSDO54"));
        assert!(bic("DEUTDEFF") && bic("DEUTDEFF500") && !bic("DEUTDEF") && !bic("DEUT12FF"));
        assert!(uetr("eb6305c9-1f7f-49de-aed0-16487c27b42d"));
        assert!(
            !uetr("eb6305c9-1f7f-19de-aed0-16487c27b42d")
                && !uetr("EB6305C9-1F7F-49DE-AED0-16487C27B42D")
        );
    }

    #[test]
    fn amounts_have_the_decimals_of_their_currency() {
        for (text, currency) in
            [("1", "JPY"), ("1.50", "CNY"), ("1.500", "BHD"), ("0", "CNY"), ("00.10", "EUR")]
        {
            assert!(amount(text, currency).is_some(), "{text} {currency}");
        }
        for (text, currency) in [
            ("1.5", "JPY"),
            ("1.505", "CNY"),
            ("-1", "CNY"),
            ("+1", "CNY"),
            ("-0", "CNY"),
            ("1e2", "CNY"),
            ("1", ""),
            ("1", "cny"),
            ("1.", "CNY"),
            (".5", "CNY"),
            ("", "CNY"),
            ("1 ", "CNY"),
            ("1234567890123456789", "CNY"),
            ("1,5", "CNY"),
            ("１", "CNY"),
        ] {
            assert!(amount(text, currency).is_none(), "{text} {currency}");
        }
    }

    #[test]
    fn days_and_times_are_real() {
        assert!(date("2024-02-29") && date("2026-11-23Z") && date("2026-11-23+08:00"));
        assert!(
            !date("2026-02-29") && !date("2026-13-01") && !date("2026-1-01") && !date("20261101")
        );
        for text in ["2026-11-23T14:25:30", "2026-11-23T14:25:30.123Z", "2026-11-23T14:25:30+08:00"]
        {
            assert!(date_time(text), "{text}");
        }
        for text in [
            "2026-11-23",
            "2026-11-23T24:00:00",
            "2026-11-23T14:25",
            "2026-11-23T14:25:30.",
            "2026-11-23T14:25:30+15:00",
        ] {
            assert!(!date_time(text), "{text}");
        }
    }
}
