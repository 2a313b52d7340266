//! Building the automaton: one row of states a rule.

use super::{Inner, Key, Rule, Word};
use crate::pointer::{KEY_BYTES_MAX, Step};
use crate::strategy::Strategy;

/// The automaton while it is being built.
pub(super) struct Building {
    inner: Inner,
    next: usize,
}

impl Building {
    pub(super) fn new(rules: &[Rule], states: usize) -> Building {
        let keyed = |rule: &Rule| rule.strategy.is_some_and(Strategy::is_keyed);
        let inner = Inner {
            rules: rules.to_vec(),
            rule_of_state: vec![u16::MAX; states],
            words: vec![Word::default(); states.div_ceil(64)],
            keys: Vec::new(),
            by_len: Vec::new(),
            index_keys: false,
            needs_keys: rules.iter().any(keyed),
            path_needed: rules
                .iter()
                .any(|rule| rule.capture.is_some() || rule.looks || keyed(rule)),
        };
        Building { inner, next: 0 }
    }

    pub(super) fn rule(&mut self, number: u16, rule: &Rule) {
        let steps = rule.pattern.steps();
        let first = self.next;
        for step in steps {
            match step {
                Step::Any => self.mark(|word, bit| word.any |= bit),
                Step::Deep => self.mark(|word, bit| word.deep |= bit),
                Step::Key(name) => self.key(name),
            }
            if rule.strategy == Some(Strategy::Drop) {
                self.mark(|word, bit| word.dropping |= bit);
            }
            self.next += 1;
        }
        self.mark(|word, bit| word.accept |= bit);
        if let Some(slot) = self.inner.rule_of_state.get_mut(self.next) {
            *slot = number;
        }
        let end = core::mem::replace(&mut self.next, first);
        self.mark(|word, bit| word.start |= bit);
        if steps.first() == Some(&Step::Deep) {
            self.next += 1;
            self.mark(|word, bit| word.start |= bit);
        }
        self.next = end + 1;
    }

    /// Marks the state being built.
    fn mark(&mut self, set: impl Fn(&mut Word, u64)) {
        if let Some(word) = self.inner.words.get_mut(self.next / 64) {
            set(word, 1 << (self.next % 64));
        }
    }

    fn key(&mut self, name: &str) {
        self.inner.index_keys |= name.bytes().all(|byte| byte.is_ascii_digit());
        let width = self.inner.words.len();
        let keys = &mut self.inner.keys;
        let place =
            keys.iter().position(|key| *key.name == *name.as_bytes()).unwrap_or_else(|| {
                keys.push(Key { name: name.as_bytes().into(), states: vec![0; width] });
                keys.len() - 1
            });
        let states = keys.get_mut(place).map(|key| &mut key.states);
        if let Some(word) = states.and_then(|states| states.get_mut(self.next / 64)) {
            *word |= 1 << (self.next % 64);
        }
    }

    pub(super) fn finish(mut self) -> Inner {
        self.inner.keys.sort_by_key(|key| key.name.len());
        let lengths = 0..=KEY_BYTES_MAX + 1;
        self.inner.by_len = lengths
            .map(|len| self.inner.keys.partition_point(|key| key.name.len() < len))
            .map(|place| u32::try_from(place).unwrap_or(u32::MAX))
            .collect();
        self.inner
    }
}
