//! Rules compiled into one automaton.
//!
//! Every pattern becomes a row of states, one a step and one at the end; a set of states is a row
//! of bits, and a step down the document is a shift under masks (the shift-and method). The end
//! state of a rule holds for everything below it, so a matched object is treated leaf by leaf.

use core::fmt;
use std::sync::Arc;

use moat_model::code::mask::BAD_STRATEGY;
use moat_model::{Class, Code};

use crate::pointer::Pattern;
use crate::strategy::Strategy;

mod build;

use build::Building;

/// Most rules in one plan.
pub(crate) const RULES_MAX: usize = 256;
/// Most automaton states in one plan: 16 words a level, 65 levels, 8,320 bytes a stream.
pub(crate) const STATES_MAX: usize = 1024;

/// One rule: which fields, of which class, shown how, captured or not.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The fields it names.
    pub pattern: Pattern,
    /// How sensitive they are.
    pub class: Class,
    /// How a [`crate::Rewriter`] shows them; `None` leaves them as they are.
    pub strategy: Option<Strategy>,
    /// The id under which their values are captured, if they are.
    pub capture: Option<u16>,
    /// Whether it only says where discovery looks; it classifies nothing.
    pub(crate) looks: bool,
}

impl Rule {
    /// A rule that neither masks nor captures yet.
    #[must_use]
    pub fn new(pattern: Pattern, class: Class) -> Rule {
        Rule { pattern, class, strategy: None, capture: None, looks: false }
    }

    /// The same rule, masking.
    #[must_use]
    pub fn masked(mut self, strategy: Strategy) -> Rule {
        self.strategy = Some(strategy);
        self
    }

    /// The same rule, capturing under `id`.
    #[must_use]
    pub fn captured(mut self, id: u16) -> Rule {
        self.capture = Some(id);
        self
    }
}

/// Why rules do not make a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// More than 256 rules.
    TooManyRules,
    /// The patterns together have more than 1024 steps and ends.
    TooManyStates,
    /// The strategy would show more than the class allows (PCI DSS v4.0.1, 3.3.1 and 3.4.1).
    TooOpen {
        /// The rule's pattern.
        pattern: String,
        /// The rule's class.
        class: Class,
        /// The strategy.
        strategy: Strategy,
    },
    /// A classified type has no field of this pointer.
    NoField {
        /// The pointer.
        pattern: String,
    },
    /// The class is never revealed: C3, PAN, SAD.
    NeverRevealed {
        /// The pointer.
        pattern: String,
        /// The class.
        class: Class,
    },
}

impl PlanError {
    /// The stable code, always `MOAT-M021`.
    #[must_use]
    pub fn code(&self) -> &'static Code {
        &BAD_STRATEGY
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanError::TooManyRules => write!(f, "more than {RULES_MAX} masking rules"),
            PlanError::TooManyStates => {
                write!(f, "field paths have more than {STATES_MAX} steps together")
            }
            PlanError::TooOpen { pattern, class, strategy } => {
                write!(f, "{pattern}: `{strategy}` shows more than class {class} allows")
            }
            PlanError::NoField { pattern } => write!(f, "there is no field {pattern}"),
            PlanError::NeverRevealed { pattern, class } => {
                write!(f, "{pattern}: class {class} is never revealed")
            }
        }
    }
}

impl core::error::Error for PlanError {}

/// The masks of 64 states.
#[derive(Clone, Copy, Debug, Default)]
struct Word {
    start: u64,
    any: u64,
    deep: u64,
    accept: u64,
    dropping: u64,
}

/// The states that wait for one key.
#[derive(Debug)]
struct Key {
    name: Box<[u8]>,
    states: Vec<u64>,
}

#[derive(Debug)]
struct Inner {
    rules: Vec<Rule>,
    /// The rule whose end each state is; `u16::MAX` for all other states.
    rule_of_state: Vec<u16>,
    words: Vec<Word>,
    keys: Vec<Key>,
    /// For each key length, where its keys start in `keys`, which is ordered by length.
    by_len: Vec<u32>,
    index_keys: bool,
    needs_keys: bool,
    path_needed: bool,
}

/// A compiled set of rules. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Plan(Arc<Inner>);

/// What the rules say about one field.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Action {
    /// Strictest class of the rules that match; `None` if none does.
    pub(crate) class: Option<Class>,
    /// Strategy of the strictest rule that has one, and that rule's class.
    pub(crate) shown: Option<(Strategy, Class)>,
    /// Whether any of the rules captures.
    pub(crate) captures: bool,
    /// Whether discovery looks here, since no other rule says anything.
    pub(crate) looks: bool,
}

/// One step down a document.
#[derive(Clone, Copy)]
pub(crate) enum Down<'a> {
    /// Into the member of this unescaped key.
    Key(&'a [u8]),
    /// Into a member whose key is longer than any rule's.
    LongKey,
    /// Into the array element of this index, from 0.
    Index(u64),
}

impl Plan {
    /// Compiles rules. No rules at all make a plan that only checks the grammar.
    ///
    /// # Errors
    /// Too many rules or steps, or a strategy that shows more than its class allows.
    pub fn compile(rules: &[Rule]) -> Result<Plan, PlanError> {
        if rules.len() > RULES_MAX {
            return Err(PlanError::TooManyRules);
        }
        if let Some((rule, strategy)) = rules
            .iter()
            .filter_map(|rule| rule.strategy.map(|strategy| (rule, strategy)))
            .find(|(rule, strategy)| !strategy.allowed_for(rule.class))
        {
            let pattern = rule.pattern.as_str().to_owned();
            return Err(PlanError::TooOpen { pattern, class: rule.class, strategy });
        }
        let states: usize = rules.iter().map(|rule| rule.pattern.steps().len() + 1).sum();
        if states > STATES_MAX {
            return Err(PlanError::TooManyStates);
        }
        let mut building = Building::new(rules, states);
        for (number, rule) in (0u16..).zip(rules) {
            building.rule(number, rule);
        }
        Ok(Plan(Arc::new(building.finish())))
    }

    /// Whether any rule masks: if not, an answer may be forwarded as it is.
    #[must_use]
    pub fn masks(&self) -> bool {
        self.0.rules.iter().any(|rule| rule.strategy.is_some())
    }

    /// Whether any rule captures: if not, an [`crate::Extractor`] only checks the grammar.
    #[must_use]
    pub fn captures(&self) -> bool {
        self.0.rules.iter().any(|rule| rule.capture.is_some())
    }

    /// Whether any rule shows anchors or tokens: if not, a [`crate::Rewriter`] can do without keys.
    #[must_use]
    pub fn needs_keys(&self) -> bool {
        self.0.needs_keys
    }

    /// Words in one state set.
    pub(crate) fn width(&self) -> usize {
        self.0.words.len()
    }

    /// Whether concrete pointers must be kept: for captures and for anchors.
    pub(crate) fn path_needed(&self) -> bool {
        self.0.path_needed
    }

    /// Writes the states at the root of a document; says whether any rule can match at all.
    pub(crate) fn start(&self, to: &mut [u64]) -> bool {
        let mut live = 0;
        for (word, to) in self.0.words.iter().zip(to) {
            *to = word.start;
            live |= *to;
        }
        live != 0
    }

    /// Writes the states one step below `from`; says whether any rule is still alive there.
    pub(crate) fn down(&self, from: &[u64], step: Down<'_>, to: &mut [u64]) -> bool {
        let mut digits = Digits::default();
        let key = match step {
            Down::Key(name) => self.key(name),
            Down::Index(index) if self.0.index_keys => self.key(digits.of(index)),
            Down::LongKey | Down::Index(_) => None,
        };
        let (mut moved_carry, mut deep_carry, mut live) = (0, 0, 0);
        for (place, (word, (from, to))) in
            self.0.words.iter().zip(from.iter().zip(to.iter_mut())).enumerate()
        {
            let named = key.and_then(|key| key.states.get(place)).copied().unwrap_or(0);
            let moved = from & (word.any | named);
            let mut next = (moved << 1) | moved_carry | (from & (word.deep | word.accept));
            moved_carry = moved >> 63;
            // A waiting `**` may also match no step at all; no two of them stand in a row.
            let deep = next & word.deep;
            next |= (deep << 1) | deep_carry;
            deep_carry = deep >> 63;
            *to = next;
            live |= next;
        }
        live != 0
    }

    /// Whether a rule that drops fields is waiting in this set.
    pub(crate) fn may_drop(&self, set: &[u64]) -> bool {
        self.0.words.iter().zip(set).any(|(word, set)| set & word.dropping != 0)
    }

    /// What the rules that end in this set say.
    pub(crate) fn action(&self, set: &[u64]) -> Action {
        let mut action = Action::default();
        for rule in self.ending(set) {
            if rule.looks {
                action.looks = true;
                continue;
            }
            action.class = action.class.max(Some(rule.class));
            action.captures |= rule.capture.is_some();
            if let Some(strategy) = rule.strategy {
                let stricter = action.shown.is_none_or(|(shown, class)| {
                    (rule.class, strategy.rank()) > (class, shown.rank())
                });
                if stricter {
                    action.shown = Some((strategy, rule.class));
                }
            }
        }
        // A stricter rule may have no strategy of its own; its class still bounds what is shown.
        if let (Some((strategy, _)), Some(class)) = (action.shown, action.class)
            && !strategy.allowed_for(class)
        {
            action.shown = Some((Strategy::Fixed, class));
        }
        action.looks &= action.class.is_none();
        action
    }

    /// The capture ids of the rules that end in this set, each once.
    pub(crate) fn capture_ids(&self, set: &[u64]) -> Vec<u16> {
        let mut ids: Vec<u16> = self.ending(set).filter_map(|rule| rule.capture).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    fn ending<'a>(&'a self, set: &'a [u64]) -> impl Iterator<Item = &'a Rule> {
        let ended = self.0.words.iter().zip(set).map(|(word, set)| set & word.accept);
        ended.enumerate().flat_map(move |(place, mut bits)| {
            core::iter::from_fn(move || {
                let bit = bits.trailing_zeros();
                bits &= bits.wrapping_sub(1);
                (bit < 64).then_some(place * 64 + bit as usize)
            })
            .filter_map(|state| self.0.rule_of_state.get(state))
            .filter_map(|rule| self.0.rules.get(usize::from(*rule)))
        })
    }

    fn key(&self, name: &[u8]) -> Option<&Key> {
        let first = *self.0.by_len.get(name.len())? as usize;
        let last = *self.0.by_len.get(name.len() + 1)? as usize;
        let same_length = self.0.keys.get(first..last)?;
        same_length.iter().find(|key| key.name.eq_ignore_ascii_case(name))
    }
}

/// Room for an array index in decimal.
#[derive(Default)]
struct Digits([u8; 20]);

impl Digits {
    fn of(&mut self, mut value: u64) -> &[u8] {
        let mut start = self.0.len();
        for (place, digit) in self.0.iter_mut().enumerate().rev() {
            *digit = b'0' + u8::try_from(value % 10).unwrap_or(0);
            start = place;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.0.get(start..).unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests;
