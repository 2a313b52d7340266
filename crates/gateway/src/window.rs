//! What a worker tells of where its calls' time goes: a few stores into its own memory, and no
//! system call. A program of the kernel role reads them while the thread pauses, see
//! [`moat_model::window`]. Nothing here is ever read back.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};
use std::time::Instant;

use moat_model::window::{
    AT_HEAD, AT_STAGE, AT_STARTED, AT_TRACE, HEAD_WORDS, KIND_CALL, KIND_CONNECTION, MAGIC, Part,
    STAGES, STAGES_AT, WINDOW_WORDS, WINDOWS_MAX, WORDS,
};
use rustix::time::{ClockId, clock_gettime};

/// The words of one worker, which outlive it: the kernel role knows where they are.
pub(crate) type Words = Arc<[AtomicU64]>;

/// Words that nothing was written to.
pub(crate) fn words() -> Words {
    let words: Words = (0..WORDS).map(|_| AtomicU64::new(0)).collect();
    if let Some(first) = words.first() {
        first.store(MAGIC, Ordering::Relaxed);
    }
    words
}

/// Where they are.
pub(crate) fn address(words: &Words) -> u64 {
    u64::try_from(words.as_ptr().addr()).unwrap_or(0)
}

/// One worker's side. Only its own thread writes, and whoever reads does so while that thread
/// pauses: so the stores need no order but that of the program.
pub(crate) struct Windows {
    /// Nothing where nobody reads.
    words: Option<Words>,
    /// A moment, and what the kernel's monotonic clock showed then.
    zero: Instant,
    zero_ns: u64,
    head: Cell<u64>,
}

impl Windows {
    pub(crate) fn new(words: Option<Words>) -> Windows {
        let now = clock_gettime(ClockId::Monotonic);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let zero_ns =
            seconds.saturating_mul(1_000_000_000) + u64::try_from(now.tv_nsec).unwrap_or(0);
        Windows { words, zero: Instant::now(), zero_ns, head: Cell::new(0) }
    }

    fn ns_of(&self, at: Instant) -> u64 {
        self.zero_ns + nanos(at.saturating_duration_since(self.zero).as_nanos())
    }

    fn store(&self, at: usize, value: u64) {
        if let Some(word) = self.words.as_ref().and_then(|words| words.get(at)) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// A poll of this call begins.
    pub(crate) fn enter(&self, marks: &Marks, trace: [u8; 16]) {
        if self.words.is_none() {
            return;
        }
        let [first, _] = halves(trace);
        self.store(AT_TRACE, first);
        self.store(AT_STARTED, self.ns_of(Instant::now()));
        self.store(AT_STAGE, u64::from(marks.now.get()) + 1);
    }

    /// The poll has ended.
    pub(crate) fn leave(&self) {
        self.store(AT_STAGE, 0);
    }

    /// A part of a call has ended, and the next one of [`STAGES`] begins.
    pub(crate) fn end(&self, marks: &Marks, started: Instant, part: Part) {
        self.end_at(marks, started, part.place());
    }

    /// Whatever part it is in has ended, with a refusal.
    pub(crate) fn refused(&self, marks: &Marks, started: Instant) {
        self.end_at(marks, started, usize::from(marks.now.get()));
        self.begin(marks, Part::AuditOutcome);
    }

    /// Goes on with a part that is not the next one.
    pub(crate) fn begin(&self, marks: &Marks, part: Part) {
        marks.now.set(u8::try_from(part.place()).unwrap_or(0));
        self.store(AT_STAGE, u64::from(marks.now.get()) + 1);
    }

    fn end_at(&self, marks: &Marks, started: Instant, place: usize) {
        if self.words.is_none() {
            return;
        }
        let now = Instant::now();
        if let Some(end) = marks.ends.get(place) {
            end.set(nanos(now.saturating_duration_since(started).as_nanos()).max(1));
        }
        marks.now.set(u8::try_from(place + 1).unwrap_or(0));
        self.store(AT_STARTED, self.ns_of(now));
        self.store(AT_STAGE, u64::from(marks.now.get()) + 1);
    }

    /// A call has been answered.
    pub(crate) fn finish(
        &self,
        marks: &Marks,
        started: Instant,
        trace: [u8; 16],
        status: u16,
        route: Option<usize>,
    ) {
        let route = route.and_then(|route| u16::try_from(route + 1).ok()).unwrap_or(0);
        let head = KIND_CALL | u64::from(status) << 16 | u64::from(route) << 32;
        self.publish(marks, started, trace, head);
    }

    /// A connection has shown who is at its other end, or has been refused.
    pub(crate) fn connected(&self, marks: &Marks, started: Instant) {
        self.publish(marks, started, [0; 16], KIND_CONNECTION);
    }

    fn publish(&self, marks: &Marks, started: Instant, trace: [u8; 16], kind: u64) {
        if self.words.is_none() {
            return;
        }
        let place = usize::try_from(self.head.get()).unwrap_or(0) % WINDOWS_MAX;
        let at = HEAD_WORDS + place * WINDOW_WORDS;
        let [first, second] = halves(trace);
        let took = nanos(started.elapsed().as_nanos());
        for (offset, value) in [kind, first, second, self.ns_of(started), took].iter().enumerate() {
            self.store(at + offset, *value);
        }
        for (offset, end) in marks.ends.iter().enumerate() {
            self.store(at + STAGES_AT + offset, end.get());
        }
        // The program's order is all that is needed, but that is: head after window.
        compiler_fence(Ordering::Release);
        self.head.set(self.head.get() + 1);
        self.store(AT_HEAD, self.head.get());
    }
}

fn nanos(nanos: u128) -> u64 {
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

fn halves(trace: [u8; 16]) -> [u64; 2] {
    let number = u128::from_be_bytes(trace);
    [nanos(number >> 64), nanos(number & u128::from(u64::MAX))]
}

/// When the parts of one call have ended.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    ends: [Cell<u64>; STAGES.len()],
    now: Cell<u8>,
}

impl Marks {
    /// A call, whose first part is this.
    pub(crate) fn from(part: Part) -> Marks {
        let marks = Marks::default();
        marks.now.set(u8::try_from(part.place()).unwrap_or(0));
        marks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(words: &Words, at: usize) -> u64 {
        words[at].load(Ordering::Relaxed)
    }

    #[test]
    fn a_call_is_told_with_the_ends_of_its_parts() {
        let words = words();
        let windows = Windows::new(Some(Arc::clone(&words)));
        let (marks, started) = (Marks::from(Part::Decode), Instant::now());
        windows.enter(&marks, [7; 16]);
        assert_eq!(word(&words, AT_STAGE), 3, "decode, plus 1");
        assert_eq!(word(&words, AT_TRACE), u64::from_be_bytes([7; 8]));
        windows.end(&marks, started, Part::Decode);
        assert_eq!(word(&words, AT_STAGE), 4);
        windows.refused(&marks, started);
        windows.end(&marks, started, Part::AuditOutcome);
        windows.leave();
        assert_eq!(word(&words, AT_STAGE), 0);
        windows.finish(&marks, started, [7; 16], 403, Some(4));
        assert_eq!((word(&words, 0), word(&words, AT_HEAD)), (MAGIC, 1));
        let at = |offset: usize| word(&words, HEAD_WORDS + offset);
        assert_eq!(at(0), 1 | 403 << 16 | 5 << 32);
        let ends: Vec<u64> = (0..STAGES.len()).map(|stage| at(STAGES_AT + stage)).collect();
        let told: Vec<usize> = (0..ends.len()).filter(|stage| ends[*stage] > 0).collect();
        assert_eq!(told, [2, 3, 9]);
        assert!(ends[2] <= ends[3] && ends[3] <= ends[9] && ends[9] <= at(4));
    }

    #[test]
    fn the_oldest_window_is_overwritten_and_nothing_is_told_where_nobody_reads() {
        let words = words();
        let windows = Windows::new(Some(Arc::clone(&words)));
        for n in 0..=u8::try_from(WINDOWS_MAX % 200).unwrap() {
            windows.finish(&Marks::default(), Instant::now(), [n; 16], 200, None);
        }
        for _ in 0..WINDOWS_MAX {
            windows.connected(&Marks::default(), Instant::now());
        }
        assert!(word(&words, AT_HEAD) > WINDOWS_MAX as u64);
        assert_eq!(word(&words, HEAD_WORDS) & 0xff, KIND_CONNECTION);
        let deaf = Windows::new(None);
        deaf.enter(&Marks::default(), [1; 16]);
        deaf.finish(&Marks::default(), Instant::now(), [1; 16], 200, None);
    }
}
