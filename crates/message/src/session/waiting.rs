//! Requests that wait for their answers on one connection.

use std::collections::HashMap;

use super::key::Key;

/// Why a request cannot wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Another request of the same key waits.
    Collision,
    /// As many wait as may.
    Window,
}

struct Entry<T> {
    number: u64,
    is_late: bool,
    waiter: T,
}

/// A bounded table of who waits for what. `T` is how the one who waits is told.
pub struct Waiting<T> {
    entries: HashMap<Key, Entry<T>>,
    entries_max: usize,
    next: u64,
}

impl<T> Waiting<T> {
    /// An empty table for at most so many.
    #[must_use]
    pub fn new(entries_max: usize) -> Waiting<T> {
        Waiting { entries: HashMap::new(), entries_max, next: 0 }
    }

    /// Lets somebody wait. A repeat takes the place of the one that gave up in time; the number
    /// is for [`Waiting::leave`].
    ///
    /// # Errors
    /// [`Full`], with the one who wanted to wait.
    pub fn enter(&mut self, key: Key, is_repeat: bool, waiter: T) -> Result<u64, (Full, T)> {
        match self.entries.get(&key) {
            Some(other) if !(other.is_late && is_repeat) => return Err((Full::Collision, waiter)),
            None if self.entries.len() >= self.entries_max => return Err((Full::Window, waiter)),
            _ => {}
        }
        let number = self.next;
        self.next += 1;
        self.entries.insert(key, Entry { number, is_late: false, waiter });
        Ok(number)
    }

    /// Notes that the time of a request is over, and that its answer would still be welcome.
    pub fn note_late(&mut self, key: &Key, number: u64) {
        if let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.number == number) {
            entry.is_late = true;
        }
    }

    /// Takes out the one who waits for an answer of this key.
    pub fn answered(&mut self, key: &Key) -> Option<T> {
        self.entries.remove(key).map(|entry| entry.waiter)
    }

    /// Takes out the one of that number, if it still waits.
    pub fn leave(&mut self, key: &Key, number: u64) {
        if self.entries.get(key).is_some_and(|entry| entry.number == number) {
            self.entries.remove(key);
        }
    }

    /// Lets everybody go: the connection is gone.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// How many wait.
    #[must_use]
    pub fn count(&self) -> usize {
        self.entries.len()
    }
}
