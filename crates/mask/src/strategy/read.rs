//! Strategies by name.

use core::fmt;

use super::{Show, Strategy, StrategyError};

const NAMES: [(&str, Strategy); 27] = [
    ("id_card", Strategy::ID_CARD),
    ("id_card_strict", Strategy::IdCard(Show::Strict)),
    ("mobile", Strategy::MOBILE),
    ("mobile_strict", Strategy::Mobile(Show::Strict)),
    ("bank_card", Strategy::BANK_CARD),
    ("bank_card_strict", Strategy::BankCard(Show::Strict)),
    ("uscc", Strategy::Uscc(Show::Normal)),
    ("uscc_strict", Strategy::Uscc(Show::Strict)),
    ("passport", Strategy::Passport(Show::Normal)),
    ("passport_strict", Strategy::Passport(Show::Strict)),
    ("plate", Strategy::Plate(Show::Normal)),
    ("plate_strict", Strategy::Plate(Show::Strict)),
    ("name", Strategy::NAME),
    ("name_strict", Strategy::Name(Show::Strict)),
    ("email", Strategy::EMAIL),
    ("email_strict", Strategy::Email(Show::Strict)),
    ("address", Strategy::ADDRESS),
    ("address_strict", Strategy::Address(Show::Strict)),
    ("ip", Strategy::Ip(Show::Normal)),
    ("geo", Strategy::Geo(Show::Normal)),
    ("geo_strict", Strategy::Geo(Show::Strict)),
    ("date_to_year", Strategy::DateToYear),
    ("fixed", Strategy::Fixed),
    ("null", Strategy::Null),
    ("hash_anchor", Strategy::HashAnchor),
    ("fpe", Strategy::Fpe),
    ("drop", Strategy::Drop),
];

/// Names that take arguments, as they are told to whoever wrote another.
const WITH_ARGUMENTS: &str = "keep_first_n_last_m(n,m), keep_from_x_to_y(x,y), \
    mask_first_n_last_m(n,m), mask_from_x_to_y(x,y), mask_before_special_chars(@), \
    mask_after_special_chars(@), range(n)";

/// All names without arguments.
#[cfg(test)]
pub(crate) fn names() -> impl Iterator<Item = (&'static str, Strategy)> {
    NAMES.into_iter()
}

pub(super) fn strategy(text: &str) -> Option<Strategy> {
    let known = NAMES.iter().find(|(name, _)| *name == text).map(|(_, strategy)| *strategy);
    known.or_else(|| with_arguments(text))
}

fn with_arguments(text: &str) -> Option<Strategy> {
    let (name, inner) = text.strip_suffix(')')?.split_once('(')?;
    let pair = || {
        let (a, b) = inner.split_once(',')?;
        Some((number(a)?, number(b)?))
    };
    let places = || pair().filter(|(from, to): &(u8, u8)| from <= to);
    let sign = || {
        let mut signs = inner.chars();
        signs.next().filter(|sign| signs.next().is_none() && !sign.is_alphanumeric())
    };
    Some(match name {
        "keep_first_n_last_m" => {
            let (first, last) = pair()?;
            Strategy::KeepFirstLast { first, last }
        }
        "mask_first_n_last_m" => {
            let (first, last) = pair()?;
            Strategy::MaskFirstLast { first, last }
        }
        "keep_from_x_to_y" => {
            let (from, to) = places()?;
            Strategy::KeepFromTo { from, to }
        }
        "mask_from_x_to_y" => {
            let (from, to) = places()?;
            Strategy::MaskFromTo { from, to }
        }
        "mask_before_special_chars" => Strategy::MaskBefore(sign()?),
        "mask_after_special_chars" => Strategy::MaskAfter(sign()?),
        "range" => Strategy::Range(number(inner).filter(|width| *width > 0)?),
        _ => return None,
    })
}

fn number<N: core::str::FromStr>(text: &str) -> Option<N> {
    let text = text.trim();
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Strategy::KeepFirstLast { first, last } => {
                write!(f, "keep_first_n_last_m({first},{last})")
            }
            Strategy::MaskFirstLast { first, last } => {
                write!(f, "mask_first_n_last_m({first},{last})")
            }
            Strategy::KeepFromTo { from, to } => write!(f, "keep_from_x_to_y({from},{to})"),
            Strategy::MaskFromTo { from, to } => write!(f, "mask_from_x_to_y({from},{to})"),
            Strategy::MaskBefore(sign) => write!(f, "mask_before_special_chars({sign})"),
            Strategy::MaskAfter(sign) => write!(f, "mask_after_special_chars({sign})"),
            Strategy::Range(width) => write!(f, "range({width})"),
            Strategy::Ip(Show::Strict) => f.write_str("fixed"),
            _ => {
                let name = NAMES.iter().find(|(_, strategy)| strategy == self);
                f.write_str(name.map_or("fixed", |(name, _)| name))
            }
        }
    }
}

impl fmt::Display for StrategyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no masking strategy; use ", self.0)?;
        for (name, _) in NAMES {
            write!(f, "{name}, ")?;
        }
        f.write_str(WITH_ARGUMENTS)
    }
}
