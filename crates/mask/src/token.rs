//! Tokens: values of the same form as the original, made by FF1 with a key of the tenant.
//!
//! What of a card stays clear is a matter of arithmetic: at least a million values must remain. So of
//! 16 digits BIN and last four may stay, of 13 they may not, and a mobile number shown by its ends is
//! masked, not encrypted. Luhn is left alone: a token with BIN and last four clear that were walked
//! until its check digit fits would have a tenth of the values. One token in ten passes Luhn by chance.
//!
//! The version of the key is told beside the token, never in it.

use core::fmt;

use crate::ff1::{self, Aes};
use crate::formats::id_card::{check_character, days_of, digits_of_day};
use crate::formats::{bank_card, fold};

/// Digits that stay clear in front of a card's token, and behind it.
const CARD_ENDS: (usize, usize) = (6, 4);
/// Sequence numbers of a day.
const SEQUENCES: u64 = 1_000;
/// Most walks until a rank falls into its domain: each fails with 27 %, so none is ever needed.
const WALKS_MAX: usize = 256;

/// What a token stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A card: BIN and last four stay.
    Card,
    /// An identity number: the region stays, the check character is right.
    IdCard,
    /// Any digits: all are encrypted.
    Digits,
}

/// A key and its version.
pub struct TokenKey {
    version: u32,
    cipher: Aes,
}

impl TokenKey {
    /// A key of 16 or 32 bytes; nothing for another length.
    #[must_use]
    pub fn new(version: u32, key: &[u8]) -> Option<TokenKey> {
        Some(TokenKey { version, cipher: Aes::new(key)? })
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").field("version", &self.version).finish_non_exhaustive()
    }
}

/// The keys of a tenant: the first encrypts, all decrypt.
#[derive(Debug)]
pub struct Tokens {
    tenant: String,
    keys: Vec<TokenKey>,
}

impl Tokens {
    /// Keys of a tenant, the newest first; nothing without a key.
    #[must_use]
    pub fn new(tenant: &str, keys: Vec<TokenKey>) -> Option<Tokens> {
        (!keys.is_empty()).then(|| Tokens { tenant: tenant.to_owned(), keys })
    }

    /// Version of the key that encrypts.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.keys.first().map_or(0, |key| key.version)
    }

    /// The token of a value in a field; nothing if the value has not the form, or too few values
    /// would remain.
    #[must_use]
    pub fn encrypt(&self, kind: TokenKind, field: &str, text: &str) -> Option<String> {
        self.run(self.keys.first()?, kind, field, text, true)
    }

    /// The value of a token that a key of this version made.
    #[must_use]
    pub fn decrypt(
        &self,
        version: u32,
        kind: TokenKind,
        field: &str,
        token: &str,
    ) -> Option<String> {
        let key = self.keys.iter().find(|key| key.version == version)?;
        self.run(key, kind, field, token, false)
    }

    fn run(
        &self,
        key: &TokenKey,
        kind: TokenKind,
        field: &str,
        text: &str,
        encrypts: bool,
    ) -> Option<String> {
        let turn = |clear: &str, numerals: &mut [u8]| {
            let tweak = tweak(&[&self.tenant, field, clear]);
            let done = match encrypts {
                true => ff1::encrypt(&key.cipher, &tweak, 10, numerals),
                false => ff1::decrypt(&key.cipher, &tweak, 10, numerals),
            };
            done.ok()
        };
        match kind {
            TokenKind::Card => card(text, turn),
            TokenKind::IdCard => id_card(text, turn),
            TokenKind::Digits => {
                let mut numerals = numerals(text)?;
                // A number that is a number stays one: no zero in front.
                let is_number = numerals.first().is_some_and(|first| *first != 0);
                for _ in 0..WALKS_MAX {
                    turn("", &mut numerals)?;
                    if !is_number || numerals.first().is_some_and(|first| *first != 0) {
                        return Some(spelled(&numerals));
                    }
                }
                None
            }
        }
    }
}

/// Each part with its length in front, so that no two lists of parts read alike.
fn tweak(parts: &[&str]) -> Vec<u8> {
    let mut tweak = Vec::new();
    for part in parts {
        let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
        tweak.extend_from_slice(&length.to_be_bytes());
        tweak.extend_from_slice(part.as_bytes());
    }
    tweak
}

fn numerals(text: &str) -> Option<Vec<u8>> {
    let numeral = |c: char| u8::try_from(c.to_digit(10)?).ok();
    text.chars().map(fold).map(numeral).collect()
}

fn spelled(numerals: &[u8]) -> String {
    numerals.iter().map(|numeral| char::from(b'0' + numeral % 10)).collect()
}

fn card(text: &str, turn: impl Fn(&str, &mut [u8]) -> Option<()>) -> Option<String> {
    let card = bank_card::card(text)?;
    let digits = card.as_str();
    let end = digits.len().checked_sub(CARD_ENDS.1)?;
    let (bin, last) = (digits.get(..CARD_ENDS.0)?, digits.get(end..)?);
    let mut middle = numerals(digits.get(CARD_ENDS.0..end)?)?;
    turn(&format!("{bin}{last}"), &mut middle)?;
    Some(format!("{bin}{}{last}", spelled(&middle)))
}

/// Day of birth and sequence are one number; it is encrypted until it is one again.
fn id_card(text: &str, turn: impl Fn(&str, &mut [u8]) -> Option<()>) -> Option<String> {
    let folded: String = text.trim().chars().map(|c| fold(c).to_ascii_uppercase()).collect();
    let valid = folded.len() == 18 && crate::formats::id_card::is_id_card(&folded);
    let region = folded.get(..6).filter(|_| valid)?;
    let day = days_of(folded.get(6..14)?)?;
    let sequence: u64 = folded.get(14..17)?.parse().ok()?;
    let days = days_of("20991231")? + 1;
    let mut rank = format!("{:08}", day * SEQUENCES + sequence);
    for _ in 0..WALKS_MAX {
        let mut digits = numerals(&rank)?;
        turn(region, &mut digits)?;
        rank = spelled(&digits);
        let number: u64 = rank.parse().ok()?;
        if number < days * SEQUENCES {
            let day = digits_of_day(number / SEQUENCES)?;
            let body = format!("{region}{day}{:03}", number % SEQUENCES);
            let check = check_character(body.as_bytes())?;
            return Some(format!("{body}{}", char::from(check)));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::id_card::is_id_card;

    fn tokens() -> Tokens {
        let key = |version| TokenKey::new(version, &[version as u8; 32]).expect("a key");
        Tokens::new("default", vec![key(2), key(1)]).expect("keys")
    }

    #[test]
    fn cards_keep_bin_and_last_four_where_a_million_values_remain() {
        let tokens = tokens();
        for card in ["4111111111111111", "6222020200112233445", "62220202001122334"] {
            let token = tokens.encrypt(TokenKind::Card, "/card", card).expect("a token");
            assert_ne!(token, card);
            assert_eq!(token.len(), card.len());
            assert_eq!(
                (&token[..6], &token[token.len() - 4..]),
                (&card[..6], &card[card.len() - 4..])
            );
            let back = tokens.decrypt(2, TokenKind::Card, "/card", &token);
            assert_eq!(back.as_deref(), Some(card));
            assert_ne!(tokens.encrypt(TokenKind::Card, "/other", card), Some(token));
        }
        assert_eq!(tokens.encrypt(TokenKind::Card, "/card", "4222222222222"), None);
        assert_eq!(tokens.encrypt(TokenKind::Card, "/card", "411111111111111"), None);
        assert_eq!(tokens.encrypt(TokenKind::Card, "/card", "no card"), None);
    }

    #[test]
    fn identity_numbers_stay_valid_in_their_region_and_come_back() {
        let tokens = tokens();
        for number in ["11010519491231002X", "440524188001010014", "110105194912310021"] {
            let token = tokens.encrypt(TokenKind::IdCard, "/id", number);
            // 1880 is before the domain's first day, and the last one has a wrong check.
            assert_eq!(token.is_some(), number.ends_with('X'));
            if let Some(token) = token {
                assert!(is_id_card(&token) && token.starts_with("110105") && token != number);
                let back = tokens.decrypt(2, TokenKind::IdCard, "/id", &token);
                assert_eq!(back.as_deref(), Some(number));
            }
        }
    }

    #[test]
    fn days_are_counted_both_ways() {
        let last = days_of("20991231").expect("a day");
        assert_eq!(last + 1, 73_049);
        for day in 0..=last {
            let digits = digits_of_day(day).expect("a day");
            assert_eq!(days_of(&digits), Some(day), "{digits}");
        }
        assert_eq!(digits_of_day(0).as_deref(), Some("19000101"));
        assert_eq!(
            (days_of("18991231"), days_of("21000101"), days_of("20230229")),
            (None, None, None)
        );
    }

    #[test]
    fn digits_stay_digits_and_old_keys_decrypt() {
        let tokens = tokens();
        for text in ["123456", "13800138000", "1000000"] {
            let token = tokens.encrypt(TokenKind::Digits, "/n", text).expect("a token");
            assert!(!token.starts_with('0') && token.len() == text.len());
            assert_eq!(tokens.decrypt(2, TokenKind::Digits, "/n", &token).as_deref(), Some(text));
            assert_ne!(tokens.decrypt(1, TokenKind::Digits, "/n", &token).as_deref(), Some(text));
            assert_eq!(tokens.decrypt(3, TokenKind::Digits, "/n", &token), None);
        }
        assert_eq!(tokens.encrypt(TokenKind::Digits, "/n", "12345"), None);
        assert_eq!(tokens.encrypt(TokenKind::Digits, "/n", "12a456"), None);
        assert!(format!("{tokens:?}").contains("version"));
    }
}
