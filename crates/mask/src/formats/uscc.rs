//! 统一社会信用代码 (GB 32100-2015): 18 of 31 symbols, the last a check symbol; within it the code of
//! the organisation with a check of its own (GB 11714-1997).

use super::{fold, keep_into};
use crate::strategy::Show;

/// The symbols in the order of their values: no I, O, S, V, Z.
const SYMBOLS: &[u8; 31] = b"0123456789ABCDEFGHJKLMNPQRTUWXY";
const LENGTH: usize = 18;
/// Weights of the organisation's eight symbols.
const WEIGHTS: [u32; 8] = [3, 7, 9, 10, 5, 8, 4, 2];

/// The code in upper case and half width.
fn normal(text: &str) -> Option<[u8; LENGTH]> {
    let mut code = [0; LENGTH];
    let mut symbols = text.trim().chars().map(fold);
    for (slot, symbol) in code.iter_mut().zip(symbols.by_ref()) {
        *slot = u8::try_from(symbol.to_ascii_uppercase()).ok()?;
    }
    (symbols.next().is_none() && code.iter().all(|byte| SYMBOLS.contains(byte))).then_some(code)
}

/// The check symbol over the first 17 (GB 32100, 5.2): weights are powers of 3 modulo 31.
#[must_use]
pub fn check_symbol(code: &[u8]) -> Option<u8> {
    let (mut sum, mut weight) = (0, 1);
    for symbol in code.get(..LENGTH - 1)? {
        sum += SYMBOLS.iter().position(|known| known == symbol)? * weight;
        weight = weight * 3 % 31;
    }
    SYMBOLS.get((31 - sum % 31) % 31).copied()
}

/// The check symbol over the eight symbols of an organisation (GB 11714, MOD 11).
#[must_use]
pub fn organisation_check(code: &[u8]) -> Option<u8> {
    let mut sum = 0;
    for (symbol, weight) in code.get(..WEIGHTS.len())?.iter().zip(WEIGHTS) {
        sum += char::from(*symbol).to_digit(36)? * weight;
    }
    Some(match 11 - sum % 11 {
        10 => b'X',
        11 => b'0',
        digit => b'0' + u8::try_from(digit).ok()?,
    })
}

/// Whether the text is a code with both checks right. Lower case and full width are accepted.
#[must_use]
pub fn is_uscc(text: &str) -> bool {
    let Some(code) = normal(text) else { return false };
    let inner = code.get(8..17).unwrap_or(&[]);
    code.get(2..8).is_some_and(|region| region.iter().all(u8::is_ascii_digit))
        && check_symbol(&code) == code.last().copied()
        && organisation_check(inner) == inner.last().copied()
}

/// First 4 and last 4, or strictly last 2.
pub(crate) fn mask(text: &str, show: Show, out: &mut String) -> bool {
    let text = text.trim();
    match show {
        _ if text.chars().count() < LENGTH => false,
        Show::Normal => keep_into(text, 4, 4, out),
        Show::Strict => keep_into(text, 0, 2, out),
    }
}
