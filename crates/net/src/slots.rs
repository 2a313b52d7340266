//! How many connections to one endpoint may be open, over all workers; who has none waits in the
//! order of arrival.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// See the module.
#[derive(Debug)]
pub struct Slots {
    places: usize,
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
    /// Told when somebody begins to wait, so that idle connections make room.
    wanted: Notify,
}

/// One connection's place, for as long as it lives.
#[derive(Debug)]
pub struct Slot {
    _permit: OwnedSemaphorePermit,
}

/// So many wait already that one more may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

/// Counts one that waits, also when it gives up.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Slots {
    /// So many places, and so many that may wait for one.
    #[must_use]
    pub fn new(places: usize, waiting_max: usize) -> Arc<Slots> {
        let places = places.min(Semaphore::MAX_PERMITS);
        Arc::new(Slots {
            places,
            free: Arc::new(Semaphore::new(places)),
            waiting: AtomicUsize::new(0),
            waiting_max,
            wanted: Notify::new(),
        })
    }

    /// A place, if one is free and nobody waits for it.
    #[must_use]
    pub fn try_take(&self) -> Option<Slot> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(Slot { _permit: permit })
    }

    /// Waits for a place behind those that wait already. Whoever stops waiting leaves the row.
    ///
    /// # Errors
    /// [`TooMany`], at once.
    pub async fn wait(&self) -> Result<Slot, TooMany> {
        // Counted first, so that two workers cannot take the last place both.
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= self.waiting_max {
            return Err(TooMany);
        }
        self.wanted.notify_waiters();
        // The semaphore is never closed.
        let permit = Arc::clone(&self.free).acquire_owned().await.map_err(|_| TooMany)?;
        Ok(Slot { _permit: permit })
    }

    /// Connections that are open or being opened.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.places.saturating_sub(self.free.available_permits())
    }

    /// Whether somebody waits.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Resolves when somebody begins to wait.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_came_first_is_served_first_and_who_left_is_not() {
        let slots = Slots::new(1, 8);
        let only = slots.try_take().unwrap();
        assert!(slots.try_take().is_none());
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for name in 0..4 {
            let (slots, order) = (Arc::clone(&slots), Arc::clone(&order));
            tasks.push(tokio::spawn(async move {
                let slot = slots.wait().await.unwrap();
                order.lock().unwrap().push(name);
                tokio::time::sleep(Duration::from_millis(10)).await;
                drop(slot);
            }));
            tokio::task::yield_now().await;
        }
        tasks.remove(1).abort();
        tokio::task::yield_now().await;
        drop(only);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), [0, 2, 3]);
        assert!(!slots.is_wanted());
        assert!(slots.try_take().is_some(), "nothing is lost");
    }

    #[tokio::test(start_paused = true)]
    async fn the_row_is_bounded_and_does_not_fill_with_those_who_gave_up() {
        let slots = Slots::new(1, 2);
        let _only = slots.try_take().unwrap();
        for _ in 0..10 {
            let waits = (slots.wait(), slots.wait(), slots.wait());
            let (first, second) =
                (tokio::time::timeout(Duration::from_millis(1), waits.0), waits.1);
            let (first, second, third) = tokio::join!(
                first,
                tokio::time::timeout(Duration::from_millis(1), second),
                waits.2
            );
            assert!(first.is_err() && second.is_err());
            assert_eq!(third.err(), Some(TooMany));
        }
        assert!(!slots.is_wanted());
    }
}
