//! How a value is shown. Strategies are data: they change with the configuration, not the program.

use core::str::FromStr;

use moat_model::code::mask::BAD_STRATEGY;
use moat_model::{Class, Code};

use crate::formats::{
    address, bank_card, email, geo, id_card, ip, keep_into, mobile, name, passport, plate, uscc,
};

mod general;
mod read;

#[cfg(test)]
pub(crate) use read::names;

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
    /// `uscc`: first 4 and last 4; strict: last 2 (GB 32100).
    Uscc(Show),
    /// `passport`, for passports and travel permits: first 1 and last 2; strict: nothing.
    Passport(Show),
    /// `plate`: first 2 and last 1; strict: first 2.
    Plate(Show),
    /// `name`: the surname and `*`; strict: `**`.
    Name(Show),
    /// `email`: first character and domain; strict: the domain.
    Email(Show),
    /// `address`: down to the district; strict: the province.
    Address(Show),
    /// `ip`: the network, /24 or /48; strict: nothing.
    Ip(Show),
    /// `geo`: degrees with one decimal; strict: nothing.
    Geo(Show),
    /// `keep_first_n_last_m(n,m)`: that many characters at each end.
    KeepFirstLast {
        /// Characters kept in front.
        first: u8,
        /// Characters kept at the end.
        last: u8,
    },
    /// `keep_from_x_to_y(x,y)`: the characters from place x to place y, counted from 0, y included.
    KeepFromTo {
        /// The first one kept.
        from: u8,
        /// The last one kept.
        to: u8,
    },
    /// `mask_first_n_last_m(n,m)`: all but that many characters at each end.
    MaskFirstLast {
        /// Characters hidden in front.
        first: u8,
        /// Characters hidden at the end.
        last: u8,
    },
    /// `mask_from_x_to_y(x,y)`: all but the characters from place x to place y.
    MaskFromTo {
        /// The first one hidden.
        from: u8,
        /// The last one hidden.
        to: u8,
    },
    /// `mask_before_special_chars(@)`: all from the first such character on.
    MaskBefore(char),
    /// `mask_after_special_chars(@)`: all up to the first such character.
    MaskAfter(char),
    /// `range(n)`: the band of width n that an amount lies in.
    Range(u64),
    /// `date_to_year`: the year of a date.
    DateToYear,
    /// `fixed`: a constant, see [`fixed`].
    Fixed,
    /// `null`: JSON's null, and nothing where there is none.
    Null,
    /// `hash_anchor`: `H:alg:keyid:value`, a keyed hash made by [`crate::Keys`].
    HashAnchor,
    /// `fpe`: a token of the same form, made by [`crate::Keys`] (NIST SP 800-38G, FF1).
    Fpe,
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
    /// `email`.
    pub const EMAIL: Strategy = Strategy::Email(Show::Normal);

    /// The text as this strategy shows it. Any text is accepted: a declared field is masked
    /// whether or not its value is valid, and what does not fit the format is hidden whole.
    ///
    /// `HashAnchor`, `Fpe`, `Null` and `Drop` need more than the text; here they give the fixed mask.
    #[must_use]
    pub fn mask(self, class: Class, text: &str) -> String {
        let mut shown = String::new();
        self.write(class, text, &mut shown);
        shown
    }

    /// [`Strategy::mask`], appended to a text.
    pub fn write(self, class: Class, text: &str, out: &mut String) {
        let before = out.len();
        let fits = match self {
            Strategy::IdCard(show) => id_card::mask(text, show, out),
            Strategy::Mobile(show) => mobile::mask(text, show, out),
            Strategy::BankCard(show) => bank_card::mask(text, show, out),
            Strategy::Uscc(show) => uscc::mask(text, show, out),
            Strategy::Passport(show) => passport::mask(text, show, out),
            Strategy::Plate(show) => plate::mask(text, show, out),
            Strategy::Name(show) => name::mask(text, show, out),
            Strategy::Email(show) => email::mask(text, show, out),
            Strategy::Address(show) => address::mask(text, show, out),
            Strategy::Ip(show) => ip::mask(text, show, out),
            Strategy::Geo(show) => geo::mask(text, show, out),
            Strategy::KeepFirstLast { first, last } => {
                keep_into(text, usize::from(first), usize::from(last), out)
            }
            Strategy::KeepFromTo { from, to } => general::keep_from_to(text, from, to, out),
            Strategy::MaskFirstLast { first, last } => {
                general::mask_first_last(text, first, last, out)
            }
            Strategy::MaskFromTo { from, to } => general::mask_from_to(text, from, to, out),
            Strategy::MaskBefore(sign) => general::mask_before(text, sign, out),
            Strategy::MaskAfter(sign) => general::mask_after(text, sign, out),
            Strategy::Range(width) => general::range(text, width, out),
            Strategy::DateToYear => general::year(text, out),
            Strategy::Fixed
            | Strategy::Null
            | Strategy::HashAnchor
            | Strategy::Fpe
            | Strategy::Drop => false,
        };
        if !fits {
            out.truncate(before);
            out.push_str(fixed(class));
        }
    }

    /// Whether the strategy hides enough for the class: of a PAN at most first 6 and last 4 may be
    /// shown (PCI DSS v4.0.1, 3.4.1), of C3 nothing, and SAD is not even hashed.
    #[must_use]
    pub fn allowed_for(self, class: Class) -> bool {
        match (class, self) {
            (_, Strategy::Fixed | Strategy::Null | Strategy::Drop) | (Class::C1 | Class::C2, _) => {
                true
            }
            (Class::Pan, Strategy::KeepFirstLast { first, last }) => first <= 6 && last <= 4,
            (Class::Pan, Strategy::BankCard(_) | Strategy::HashAnchor | Strategy::Fpe) => true,
            (Class::C3, Strategy::HashAnchor) => true,
            (Class::Pan | Class::C3 | Class::Sad, _) => false,
        }
    }

    /// The class that the strategy is meant for, where nothing declares one.
    #[must_use]
    pub fn usual_class(self) -> Class {
        match self {
            Strategy::BankCard(_) => Class::Pan,
            Strategy::Fixed => Class::C3,
            Strategy::Drop => Class::Sad,
            _ => Class::C2,
        }
    }

    /// Whether a key makes what is shown.
    #[must_use]
    pub fn is_keyed(self) -> bool {
        matches!(self, Strategy::HashAnchor | Strategy::Fpe)
    }

    /// Whether a number is shown as a number.
    pub(crate) fn keeps_numbers(self) -> bool {
        self == Strategy::Fpe
    }

    /// Strictness among strategies of one class: the greater wins.
    pub(crate) fn rank(self) -> u8 {
        match self {
            Strategy::Drop => 6,
            Strategy::Null => 5,
            Strategy::Fixed => 4,
            Strategy::HashAnchor => 3,
            Strategy::Fpe => 2,
            Strategy::IdCard(Show::Strict)
            | Strategy::Mobile(Show::Strict)
            | Strategy::BankCard(Show::Strict)
            | Strategy::Uscc(Show::Strict)
            | Strategy::Passport(Show::Strict)
            | Strategy::Plate(Show::Strict)
            | Strategy::Name(Show::Strict)
            | Strategy::Email(Show::Strict)
            | Strategy::Address(Show::Strict)
            | Strategy::Ip(Show::Strict)
            | Strategy::Geo(Show::Strict) => 1,
            _ => 0,
        }
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

impl core::error::Error for StrategyError {}

impl FromStr for Strategy {
    type Err = StrategyError;

    fn from_str(text: &str) -> Result<Strategy, StrategyError> {
        read::strategy(text).ok_or_else(|| StrategyError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests;
