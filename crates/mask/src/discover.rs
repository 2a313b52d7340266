//! Discovery: which fields that no rule names hold what ought to be classified. It only counts.
//!
//! By default only formats with a check digit are looked for, of which chance gives one in ten or
//! fewer. A finding is a place and a number of times; the value itself is never kept.

use core::fmt;
use std::collections::BTreeMap;

use moat_model::Class;

use crate::error::MaskError;
use crate::formats::{bank_card, email, fold, geo, id_card, mobile, passport, plate, uscc};
use crate::machine::{Machine, Nowhere};
use crate::plan::{Plan, PlanError, Rule};
use crate::pointer::Pattern;

/// Most places of which findings are counted apart, and longest name of one, in bytes.
const PLACES_MAX: usize = 256;
const PLACE_BYTES_MAX: usize = 256;

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Found {
    /// A card: length, first digits of a known network, Luhn.
    BankCard,
    /// An identity number: region, date, check character.
    IdCard,
    /// A credit code of an organisation: both check symbols.
    Uscc,
    /// A mobile number: no check digit.
    Mobile,
    /// A mail address.
    Email,
    /// A passport or travel permit: no check digit.
    Passport,
    /// A plate of a vehicle.
    Plate,
    /// A place on the earth.
    Geo,
}

impl Found {
    /// The strategy that is meant for it.
    #[must_use]
    pub const fn strategy(self) -> &'static str {
        match self {
            Found::BankCard => "bank_card",
            Found::IdCard => "id_card",
            Found::Uscc => "uscc",
            Found::Mobile => "mobile",
            Found::Email => "email",
            Found::Passport => "passport",
            Found::Plate => "plate",
            Found::Geo => "geo",
        }
    }

    /// The class that it ought to have.
    #[must_use]
    pub const fn class(self) -> Class {
        match self {
            Found::BankCard => Class::Pan,
            _ => Class::C2,
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.strategy())
    }
}

/// What is looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Looking {
    /// Formats with a check digit.
    #[default]
    Checked,
    /// Others too: expect findings that are none.
    Everything,
}

/// Counts by place and kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    looking: Looking,
    counts: BTreeMap<(String, Found), u64>,
    /// Findings at places beyond the bound.
    elsewhere: u64,
    /// Values looked at.
    looked: u64,
}

impl Findings {
    pub(crate) fn look(&mut self, pointer: &str, text: &str) {
        self.looked += 1;
        if let Some(found) = found(text, self.looking) {
            let key = (place(pointer), found);
            if self.counts.len() < PLACES_MAX || self.counts.contains_key(&key) {
                *self.counts.entry(key).or_default() += 1;
            } else {
                self.elsewhere += 1;
            }
        }
    }

    /// Place, kind and count of each, by place. An index of an array is `*`.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Found, u64)> {
        self.counts.iter().map(|((place, found), count)| (place.as_str(), *found, *count))
    }

    /// How many more there were, at places beyond the bound.
    #[must_use]
    pub fn elsewhere(&self) -> u64 {
        self.elsewhere
    }

    /// How many values were looked at.
    #[must_use]
    pub fn looked(&self) -> u64 {
        self.looked
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.elsewhere == 0
    }
}

/// A pointer with `*` for every index. A long one is cut.
fn place(pointer: &str) -> String {
    let mut place = String::new();
    for step in pointer.split('/').skip(1) {
        let is_index = !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit());
        // A key may be a value itself, such as a card that an object is named after.
        let is_value = !is_index && found(step, Looking::Checked).is_some();
        let step = if is_index || is_value { "*" } else { step };
        if place.len() + step.len() >= PLACE_BYTES_MAX {
            place.push_str("/…");
            break;
        }
        place.push('/');
        place.push_str(step);
    }
    place
}

/// What a text is, or has in it.
#[must_use]
pub fn found(text: &str, looking: Looking) -> Option<Found> {
    let whole = one(text, looking);
    whole.or_else(|| {
        let is_sign = |c: char| !fold(c).is_ascii_alphanumeric();
        let words = text.split(is_sign).filter(|word| word.len() >= SHORTEST && *word != text);
        words.filter_map(|word| one(word, Looking::Checked)).next()
    })
}

/// Shortest thing with a check digit.
const SHORTEST: usize = 13;

fn one(text: &str, looking: Looking) -> Option<Found> {
    if text.len() > 64 {
        return None;
    }
    if text.len() >= SHORTEST {
        if id_card::is_id_card(text) && text.trim().chars().count() == 18 {
            return Some(Found::IdCard);
        }
        if is_card(text) {
            return Some(Found::BankCard);
        }
        if uscc::is_uscc(text) {
            return Some(Found::Uscc);
        }
    }
    if looking == Looking::Checked {
        return None;
    }
    let kinds = [
        (mobile::is_mobile(text), Found::Mobile),
        (email::is_email(text), Found::Email),
        (passport::is_passport(text) || passport::is_permit(text), Found::Passport),
        (plate::is_plate(text), Found::Plate),
        (geo::is_place(text), Found::Geo),
    ];
    kinds.iter().find(|(is, _)| *is).map(|(_, found)| *found)
}

/// A card of a known network (ISO/IEC 7812) with a right check digit.
fn is_card(text: &str) -> bool {
    let Some(card) = bank_card::card(text) else { return false };
    let digits = card.as_str();
    let prefix = |length: usize| digits.get(..length).and_then(|d| d.parse::<u32>().ok());
    let known = matches!(
        prefix(2),
        Some(62 | 81 | 40..=49 | 51..=55 | 34 | 37 | 35 | 30 | 36 | 38 | 39 | 60 | 64 | 65)
    ) || matches!(prefix(4), Some(2221..=2720));
    known && bank_card::luhn(digits)
}

/// Looks through the fields of JSON documents that no rule names.
pub struct Discovery {
    plan: Plan,
    findings: Box<Findings>,
}

impl Discovery {
    /// Discovery beside the rules of a plan.
    ///
    /// # Errors
    /// As [`Plan::compile`].
    pub fn new(rules: &[Rule], looking: Looking) -> Result<Discovery, PlanError> {
        let mut rules = rules.to_vec();
        let everywhere = Rule::new(Pattern::everywhere(), Class::C1);
        rules.push(Rule { looks: true, ..everywhere });
        let findings = Box::new(Findings { looking, ..Findings::default() });
        Ok(Discovery { plan: Plan::compile(&rules)?, findings })
    }

    /// Looks through one document.
    ///
    /// # Errors
    /// It is not JSON, or too deep. What was found before that counts.
    pub fn document(&mut self, text: &[u8]) -> Result<(), MaskError> {
        let mut machine = Machine::new(&self.plan, false);
        machine.set_findings(core::mem::take(&mut self.findings));
        let mut done = machine.push(text, &mut Nowhere);
        self.findings = machine.take_findings().unwrap_or_default();
        if done.is_ok() {
            // A number at the root ends only here; it is no field and not looked at.
            done = machine.finish(&mut Nowhere).map(drop);
        }
        done
    }

    /// What was found so far.
    #[must_use]
    pub fn findings(&self) -> &Findings {
        &self.findings
    }
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovery").field("findings", &self.findings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unnamed_fields_with_check_digits_are_counted_by_place() {
        let card = Rule::new("/card".parse().expect("pattern"), Class::Pan);
        let mut discovery = Discovery::new(&[card], Looking::Checked).expect("plan");
        let text = r#"{"card":"4111111111111111","notes":["paid with 4111-1111-1111-1111",
            "ref 11010519491231002X, thanks","4111111111111112","9991111111111111"],
            "number":6222020200112233440,"mobile":"13800138000","x":"91350100M000100Y43",
            "6222020200112233440":{"a":"11010519491231002X"}}"#;
        discovery.document(text.as_bytes()).expect("JSON");
        let found: Vec<_> = discovery.findings().iter().collect();
        let luhn = bank_card::luhn("6222020200112233440");
        assert!(found.contains(&("/notes/*", Found::IdCard, 1)));
        assert!(found.contains(&("/x", Found::Uscc, 1)));
        assert_eq!(found.contains(&("/number", Found::BankCard, 1)), luhn);
        assert!(!found.iter().any(|(place, ..)| *place == "/card" || *place == "/mobile"));
        assert!(!format!("{discovery:?}").contains("4111"));
        assert!(discovery.document(b"{").is_err());
        assert!(!discovery.findings().is_empty() && discovery.findings().looked() > 5);
    }

    #[test]
    fn plain_patterns_are_found_only_when_asked_for() {
        for (text, wanted) in [
            ("13800138000", Found::Mobile),
            ("a@b.test", Found::Email),
            ("E12345678", Found::Passport),
            ("京A12345", Found::Plate),
            ("39.90872,116.39748", Found::Geo),
        ] {
            assert_eq!(found(text, Looking::Checked), None);
            assert_eq!(found(text, Looking::Everything), Some(wanted));
        }
    }

    #[test]
    fn places_are_bounded() {
        let mut findings = Findings::default();
        for n in 0..300 {
            findings.look(&format!("/k{n}x"), "4111111111111111");
        }
        findings.look("/k0x", "4111111111111111");
        assert_eq!((findings.iter().count(), findings.elsewhere()), (PLACES_MAX, 300 - 256));
        assert_eq!(place(&format!("/{}", "x".repeat(300))), "/…");
    }
}
