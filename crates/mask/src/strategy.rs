//! How a value is shown. Strategies are data: they change with the configuration, not the program.

use core::fmt;
use core::str::FromStr;

use moat_model::code::mask::BAD_STRATEGY;
use moat_model::{Class, Code};

use crate::formats::{self, address, bank_card, email, id_card, mobile, name};

/// How much of a format stays visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Show {
    /// Enough for a person to recognise the value.
    Normal,
    /// Enough to tell two values apart.
    Strict,
}

/// How a value is shown to a caller and, for class C2, in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Strategy {
    /// `id_card`: first 3 and last 4; strict: first 1 and last 1 (GB 11643).
    IdCard(Show),
    /// `mobile`: first 3 and last 4; strict: last 2.
    Mobile(Show),
    /// `bank_card`: first 6 and last 4 (PCI DSS v4.0.1, 3.4.1); strict: last 4.
    BankCard(Show),
    /// `name`: the surname and `*`; strict: `**`.
    Name(Show),
    /// `email`: first character and domain.
    Email,
    /// `address`: down to the district; strict: the province.
    Address(Show),
    /// `keep_first_n_last_m(n,m)`: that many characters at each end.
    KeepFirstLast {
        /// Characters kept in front.
        first: u8,
        /// Characters kept at the end.
        last: u8,
    },
    /// `fixed`: a constant, see [`fixed`].
    Fixed,
    /// `hash_anchor`: `H:alg:keyid:value`, a keyed hash made by [`crate::Anchors`].
    HashAnchor,
    /// `drop`: the member leaves the object; an array element becomes `null`.
    Drop,
}

/// The mask that says nothing but that there is a value. Stands for everything that is too long,
/// too short or not text.
#[must_use]
pub const fn fixed(class: Class) -> &'static str {
    match class {
        Class::C1 | Class::C2 | Class::Pan => "***",
        Class::C3 | Class::Sad => "******",
    }
}

const NAMES: [(&str, Strategy); 14] = [
    ("id_card", Strategy::ID_CARD),
    ("id_card_strict", Strategy::IdCard(Show::Strict)),
    ("mobile", Strategy::MOBILE),
    ("mobile_strict", Strategy::Mobile(Show::Strict)),
    ("bank_card", Strategy::BANK_CARD),
    ("bank_card_strict", Strategy::BankCard(Show::Strict)),
    ("name", Strategy::NAME),
    ("name_strict", Strategy::Name(Show::Strict)),
    ("email", Strategy::Email),
    ("address", Strategy::ADDRESS),
    ("address_strict", Strategy::Address(Show::Strict)),
    ("fixed", Strategy::Fixed),
    ("hash_anchor", Strategy::HashAnchor),
    ("drop", Strategy::Drop),
];

impl Strategy {
    /// `id_card`.
    pub const ID_CARD: Strategy = Strategy::IdCard(Show::Normal);
    /// `mobile`.
    pub const MOBILE: Strategy = Strategy::Mobile(Show::Normal);
    /// `bank_card`.
    pub const BANK_CARD: Strategy = Strategy::BankCard(Show::Normal);
    /// `name`.
    pub const NAME: Strategy = Strategy::Name(Show::Normal);
    /// `address`.
    pub const ADDRESS: Strategy = Strategy::Address(Show::Normal);

    /// The text as this strategy shows it. Any text is accepted: a declared field is masked
    /// whether or not its value is valid, and what does not fit the format is hidden whole.
    ///
    /// `HashAnchor` and `Drop` need more than the text; here both give the fixed mask.
    #[must_use]
    pub fn mask(self, class: Class, text: &str) -> String {
        let shown = match self {
            Strategy::IdCard(show) => id_card::mask(text, show),
            Strategy::Mobile(show) => mobile::mask(text, show),
            Strategy::BankCard(show) => bank_card::mask(text, show),
            Strategy::Name(show) => name::mask(text, show),
            Strategy::Email => email::mask(text),
            Strategy::Address(show) => address::mask(text, show),
            Strategy::KeepFirstLast { first, last } => {
                formats::keep(text, usize::from(first), usize::from(last))
            }
            Strategy::Fixed | Strategy::HashAnchor | Strategy::Drop => None,
        };
        shown.unwrap_or_else(|| fixed(class).to_owned())
    }

    /// Whether the strategy hides enough for the class: of a PAN at most first 6 and last 4 may be
    /// shown (PCI DSS v4.0.1, 3.4.1), of C3 nothing, and SAD is not even hashed.
    #[must_use]
    pub fn allowed_for(self, class: Class) -> bool {
        match (class, self) {
            (_, Strategy::Fixed | Strategy::Drop) | (Class::C1 | Class::C2, _) => true,
            (Class::Pan, Strategy::KeepFirstLast { first, last }) => first <= 6 && last <= 4,
            (Class::Pan, Strategy::BankCard(_) | Strategy::HashAnchor) => true,
            (Class::C3, Strategy::HashAnchor) => true,
            (Class::Pan | Class::C3 | Class::Sad, _) => false,
        }
    }

    /// Strictness among strategies of one class: the greater wins.
    pub(crate) fn rank(self) -> u8 {
        match self {
            Strategy::Drop => 4,
            Strategy::Fixed => 3,
            Strategy::HashAnchor => 2,
            Strategy::IdCard(Show::Strict)
            | Strategy::Mobile(Show::Strict)
            | Strategy::BankCard(Show::Strict)
            | Strategy::Name(Show::Strict)
            | Strategy::Address(Show::Strict) => 1,
            _ => 0,
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Strategy::KeepFirstLast { first, last } = self {
            return write!(f, "keep_first_n_last_m({first},{last})");
        }
        let name = NAMES.iter().find(|(_, strategy)| strategy == self);
        f.write_str(name.map_or("fixed", |(name, _)| name))
    }
}

/// The text names no strategy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrategyError(pub String);

impl StrategyError {
    /// The stable code, always `MOAT-M021`.
    #[must_use]
    pub fn code(&self) -> &'static Code {
        &BAD_STRATEGY
    }
}

impl fmt::Display for StrategyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no masking strategy; use ", self.0)?;
        for (name, _) in NAMES {
            write!(f, "{name}, ")?;
        }
        f.write_str("or keep_first_n_last_m(n,m)")
    }
}

impl core::error::Error for StrategyError {}

impl FromStr for Strategy {
    type Err = StrategyError;

    fn from_str(text: &str) -> Result<Strategy, StrategyError> {
        let known = NAMES.iter().find(|(name, _)| *name == text).map(|(_, strategy)| *strategy);
        known.or_else(|| keep_arguments(text)).ok_or_else(|| StrategyError(text.to_owned()))
    }
}

/// Reads `keep_first_n_last_m(3,4)`.
fn keep_arguments(text: &str) -> Option<Strategy> {
    let inner = text.strip_prefix("keep_first_n_last_m(")?.strip_suffix(')')?;
    let (first, last) = inner.split_once(',')?;
    let number = |text: &str| {
        let text = text.trim();
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
    };
    Some(Strategy::KeepFirstLast { first: number(first)?, last: number(last)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_comes_back_to_the_same_strategy() {
        for (name, strategy) in NAMES {
            assert_eq!(name.parse(), Ok(strategy));
            assert_eq!(strategy.to_string(), name);
        }
        let keep = Strategy::KeepFirstLast { first: 3, last: 4 };
        assert_eq!("keep_first_n_last_m(3,4)".parse(), Ok(keep));
        assert_eq!("keep_first_n_last_m( 3 , 4 )".parse(), Ok(keep));
        assert_eq!(keep.to_string(), "keep_first_n_last_m(3,4)");
    }

    #[test]
    fn other_names_are_refused() {
        for text in ["", "md5", "Mobile", "keep_first_n_last_m(3)", "keep_first_n_last_m(+3,4)"] {
            assert_eq!(text.parse::<Strategy>(), Err(StrategyError(text.into())), "{text}");
        }
        for text in ["keep_first_n_last_m(300,4)", "keep_first_n_last_m(,)"] {
            assert!(text.parse::<Strategy>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_strategy_may_not_show_more_than_the_class_allows() {
        let keep = |first, last| Strategy::KeepFirstLast { first, last };
        assert!(keep(6, 4).allowed_for(Class::Pan));
        assert!(!keep(7, 4).allowed_for(Class::Pan));
        assert!(!keep(6, 5).allowed_for(Class::Pan));
        assert!(keep(60, 50).allowed_for(Class::C2));
        assert!(!Strategy::MOBILE.allowed_for(Class::C3));
        assert!(Strategy::HashAnchor.allowed_for(Class::C3));
        assert!(!Strategy::HashAnchor.allowed_for(Class::Sad));
        assert!(!Strategy::BANK_CARD.allowed_for(Class::Sad));
        for class in Class::ALL {
            assert!(Strategy::Fixed.allowed_for(class) && Strategy::Drop.allowed_for(class));
        }
    }

    #[test]
    fn characters_are_counted_and_never_cut() {
        let keep =
            |first, last, text| Strategy::KeepFirstLast { first, last }.mask(Class::C2, text);
        assert_eq!(keep(1, 1, "护城河网关"), "护***关");
        assert_eq!(keep(0, 0, "abc"), "***");
        assert_eq!(keep(3, 4, "1234567"), "***");
        assert_eq!(keep(3, 4, "12345678"), "123*5678");
        assert_eq!(keep(1, 0, ""), "***");
        assert_eq!(keep(0, 1, "护城"), "*城");
        assert_eq!(keep(2, 0, "护城河"), "护城*");
        for (first, last) in [(5, 0), (0, 5), (3, 3), (200, 200), (2, 3)] {
            assert_eq!(keep(first, last, "abcde"), "***", "{first} {last}");
        }
        assert_eq!(Strategy::Fixed.mask(Class::C3, "secret"), "******");
    }
}
