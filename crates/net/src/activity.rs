//! What a connection is doing: how many calls are open, since when it is idle, whether a reader
//! has stopped reading. One per connection, shared between its socket side and its calls.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

/// Longest time a connection may stay without a call.
pub const IDLE: Duration = Duration::from_secs(60);
/// Longest time from the first byte of a head to its last.
pub const HEAD: Duration = Duration::from_secs(3);
/// Longest time a peer may leave bytes unread that are ready for it.
pub const UNREAD: Duration = Duration::from_secs(10);

/// Shared state of one connection.
#[derive(Debug)]
pub struct Activity {
    open: Cell<usize>,
    since: Cell<Instant>,
    readers: RefCell<Vec<Weak<Reader>>>,
}

/// One answer on its way out: when a part of it became ready and was not fetched since.
#[derive(Debug, Default)]
pub struct Reader {
    ready_since: Cell<Option<Instant>>,
}

impl Reader {
    /// A part is ready for the connection to take.
    pub fn offered(&self, now: Instant) {
        self.ready_since.set(Some(now));
    }

    /// The connection asks for the next part.
    pub fn asked(&self) {
        self.ready_since.set(None);
    }
}

/// Counts one open call for as long as it lives.
#[derive(Debug)]
pub struct Open(Rc<Activity>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get().saturating_sub(1));
        self.0.since.set(Instant::now());
    }
}

impl Activity {
    /// A connection that has just been made.
    #[must_use]
    pub fn new(now: Instant) -> Rc<Activity> {
        Rc::new(Activity {
            open: Cell::new(0),
            since: Cell::new(now),
            readers: RefCell::new(Vec::new()),
        })
    }

    /// A call begins.
    #[must_use]
    pub fn open(self: &Rc<Activity>) -> Open {
        self.open.set(self.open.get() + 1);
        Open(Rc::clone(self))
    }

    /// Whether no call is open.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.open.get() == 0
    }

    /// Watches whether the peer goes on reading one answer.
    #[must_use]
    pub fn reader(&self) -> Rc<Reader> {
        let reader = Rc::new(Reader::default());
        let mut readers = self.readers.borrow_mut();
        readers.retain(|known| known.strong_count() > 0);
        readers.push(Rc::downgrade(&reader));
        reader
    }

    /// When the connection should be looked at again, or `None` if its time is over: it was idle
    /// too long, or an answer lay ready too long.
    #[must_use]
    pub fn next_check(&self, now: Instant) -> Option<Instant> {
        let mut next = if self.is_quiet() { self.since.get() + IDLE } else { now + UNREAD };
        for reader in self.readers.borrow().iter().filter_map(Weak::upgrade) {
            if let Some(ready) = reader.ready_since.get() {
                next = next.min(ready + UNREAD);
            }
        }
        (next > now).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_connections_end_and_busy_ones_do_not() {
        let start = Instant::now();
        let activity = Activity::new(start);
        assert_eq!(activity.next_check(start), Some(start + IDLE));
        assert_eq!(activity.next_check(start + IDLE), None);
        let open = activity.open();
        assert!(activity.next_check(start + IDLE * 5).is_some());
        drop(open);
        assert!(activity.is_quiet());
    }

    #[test]
    fn an_answer_that_nobody_fetches_ends_the_connection() {
        let start = Instant::now();
        let activity = Activity::new(start);
        let _open = activity.open();
        let reader = activity.reader();
        reader.offered(start);
        assert_eq!(activity.next_check(start), Some(start + UNREAD));
        assert_eq!(activity.next_check(start + UNREAD), None);
        reader.asked();
        assert!(activity.next_check(start + UNREAD).is_some());
    }
}
