//! One read buffer a thread, so that ten thousand idle connections hold none.

use std::cell::RefCell;

/// Size of the buffer, in bytes: one TLS record.
pub(crate) const BYTES: usize = 16 * 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; BYTES]);
}

/// Lends the buffer for the time of one call. Not re-entrant: `take` finds a fresh, empty one then.
pub(crate) fn with<T>(run: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with(|scratch| match scratch.try_borrow_mut() {
        Ok(mut bytes) => run(&mut bytes),
        Err(_) => run(&mut vec![0; BYTES]),
    })
}
