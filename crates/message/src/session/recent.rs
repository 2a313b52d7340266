//! What was asked and answered not long ago, so that a message that is sent again is not carried
//! out again.

use std::collections::{HashMap, VecDeque};

use zeroize::Zeroizing;

use super::key::Key;

/// Bounds of a [`Recent`].
#[derive(Clone, Copy, Debug)]
pub struct RecentLimits {
    /// Most exchanges remembered.
    pub entries_max: usize,
    /// Most bytes of keys and answers.
    pub bytes_max: usize,
    /// How long one is remembered after it ended, in milliseconds.
    pub age_ms: u64,
}

/// What may be done with a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Begin {
    /// It is new, or repeats what was left unknown: it goes on, under this number.
    Go(u64),
    /// It repeats what was answered: this is the answer again, and the number of its record.
    Again(Zeroizing<Vec<u8>>, u64),
    /// The same exchange is under way.
    UnderWay,
    /// Its key was used for something else, or for the same without being marked as a repeat.
    Used,
    /// Nothing can be remembered: all that is, is under way.
    Full,
}

enum State {
    UnderWay,
    /// The answer, and the number of its record.
    Answered(Zeroizing<Vec<u8>>, u64),
    Unknown,
}

struct Entry {
    number: u64,
    digest: [u8; 32],
    state: State,
    ended_ms: u64,
}

impl Entry {
    fn answer_bytes(&self) -> usize {
        if let State::Answered(answer, _) = &self.state { answer.len() } else { 0 }
    }
}

/// Exchanges by key. Those under way are never forgotten; of the others the oldest go first.
pub struct Recent {
    limits: RecentLimits,
    entries: HashMap<Key, Entry>,
    /// Ended, in order of time; the number says whether the entry is still that one.
    ended: VecDeque<(Key, u64)>,
    bytes: usize,
    next: u64,
}

impl Recent {
    /// Nothing is remembered yet.
    #[must_use]
    pub fn new(limits: RecentLimits) -> Recent {
        Recent { limits, entries: HashMap::new(), ended: VecDeque::new(), bytes: 0, next: 0 }
    }

    /// A request comes. `digest` covers what must be the same in a repeat.
    pub fn begin(&mut self, key: &Key, digest: [u8; 32], is_repeat: bool, now_ms: u64) -> Begin {
        self.forget(now_ms);
        if let Some(entry) = self.entries.get(key) {
            let is_same = entry.digest == digest;
            match &entry.state {
                State::UnderWay if is_same => return Begin::UnderWay,
                State::Answered(answer, record) if is_same && is_repeat => {
                    return Begin::Again(answer.clone(), *record);
                }
                State::Unknown if is_same && is_repeat => self.drop_entry(key),
                _ => return Begin::Used,
            }
        }
        while self.entries.len() >= self.limits.entries_max || self.bytes > self.limits.bytes_max {
            if !self.forget_oldest() {
                return Begin::Full;
            }
        }
        let number = self.next;
        self.next += 1;
        self.bytes += key.size();
        let entry = Entry { number, digest, state: State::UnderWay, ended_ms: 0 };
        self.entries.insert(key.clone(), entry);
        Begin::Go(number)
    }

    /// It was answered; what is remembered is the answer.
    pub fn answered(
        &mut self,
        key: &Key,
        number: u64,
        answer: Zeroizing<Vec<u8>>,
        record: u64,
        now_ms: u64,
    ) {
        self.end(key, number, State::Answered(answer, record), now_ms);
    }

    /// Nobody knows what became of it: a repeat may go on.
    pub fn unknown(&mut self, key: &Key, number: u64, now_ms: u64) {
        self.end(key, number, State::Unknown, now_ms);
    }

    /// Nothing was sent: it is as if it had never come.
    pub fn withdraw(&mut self, key: &Key, number: u64) {
        if self.entries.get(key).is_some_and(|entry| entry.number == number) {
            self.drop_entry(key);
        }
    }

    /// How many are remembered.
    #[must_use]
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of keys and answers.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn end(&mut self, key: &Key, number: u64, state: State, now_ms: u64) {
        let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.number == number) else {
            return;
        };
        self.bytes = self.bytes.saturating_sub(entry.answer_bytes());
        entry.state = state;
        entry.ended_ms = now_ms;
        self.bytes += entry.answer_bytes();
        self.ended.push_back((key.clone(), number));
        while self.bytes > self.limits.bytes_max && self.forget_oldest() {}
    }

    fn drop_entry(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes = self.bytes.saturating_sub(entry.answer_bytes() + key.size());
        }
    }

    fn forget(&mut self, now_ms: u64) {
        while let Some((key, number)) = self.ended.front() {
            let entry = self.entries.get(key).filter(|entry| entry.number == *number);
            let is_old = entry
                .is_none_or(|entry| entry.ended_ms.saturating_add(self.limits.age_ms) <= now_ms);
            if !is_old || !self.forget_oldest() {
                return;
            }
        }
    }

    /// Takes out the one that ended first; whether there was one.
    fn forget_oldest(&mut self) -> bool {
        let Some((key, number)) = self.ended.pop_front() else { return false };
        let is_ended =
            |entry: &Entry| entry.number == number && !matches!(entry.state, State::UnderWay);
        if self.entries.get(&key).is_some_and(is_ended) {
            self.drop_entry(&key);
        }
        true
    }
}
