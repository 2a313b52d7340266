//! Places on the earth in degrees: one decimal is shown, about 11 km.

use crate::strategy::Show;

/// The number up to its first decimal, not rounded.
fn tenth(text: &str) -> Option<&str> {
    let text = text.trim();
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let fine = (1..=3).contains(&whole.len()) && all_digits(whole) && all_digits(fraction);
    let rest = fraction.len().saturating_sub(1);
    text.get(..text.len() - rest).filter(|_| fine)
}

/// Whether the text is a latitude and a longitude with at least three decimals.
#[must_use]
pub fn is_place(text: &str) -> bool {
    let within = |part: &str, most: f64| {
        let exact = part.split_once('.').is_some_and(|(_, fraction)| fraction.len() >= 3);
        exact && tenth(part).is_some() && part.trim().parse().is_ok_and(|d: f64| d.abs() <= most)
    };
    text.split_once(',').is_some_and(|(lat, lon)| within(lat, 90.0) && within(lon, 180.0))
}

/// One or two numbers with one decimal each; strictly nothing.
pub(crate) fn mask(text: &str, show: Show, out: &mut String) -> bool {
    let (first, second) = match text.split_once(',') {
        Some((first, second)) => (tenth(first), Some(tenth(second))),
        None => (tenth(text), None),
    };
    match (show, first, second) {
        (Show::Normal, Some(first), None) => out.push_str(first),
        (Show::Normal, Some(first), Some(Some(second))) => {
            out.push_str(first);
            out.push(',');
            out.push_str(second);
        }
        _ => return false,
    }
    true
}
