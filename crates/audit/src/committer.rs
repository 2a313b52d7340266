//! The one writer of a log: bodies in, one synchronous write per batch, acks out.
//!
//! Knows nothing of sockets or threads. An ack is given only for what one `O_DSYNC` write took
//! whole, or what was read back and compared after a failure. A descriptor whose write failed is
//! never written again: after a failed sync the kernel may call dirty pages clean, and a second
//! try on the same descriptor would succeed without the data being there.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use moat_model::Clock;

use crate::active::{Active, write_whole};
use crate::batch::{Batch, Now, Origin};
use crate::check::Tail;
use crate::fs::{Append as _, LogFs};
use crate::hash::Hash;
pub use crate::link::Ack;
use crate::record::{Body, RecordError, STOP_NOTE};
pub use crate::recovery::{OpenError, Recovery};
use crate::segment::{FOOTER_BYTES_MAX, Footer, Header, SegmentError, file_name};
use crate::sidecar::{HEAD_FILE, HeadMark};

/// Most bodies in one batch.
pub const BATCH_RECORDS_MAX: usize = 4_096;
/// Most bytes of leaves in one batch; one leaf more than that is always taken.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Most hashes kept for whoever builds the tree. Beyond that none is: the segments have them too.
const HASHES_MAX: usize = 65_536;
/// Most files with one first seq: each is a segment begun in vain.
const SAME_NAME_MAX: u32 = 10_000;
/// Least step of the wall clock that is put on record, in nanoseconds.
const STEP_NS_MIN: u64 = 1_000_000_000;

/// How a log is written.
#[derive(Clone, Debug)]
pub struct Options {
    /// The origin of the log.
    pub log_id: String,
    /// When a segment is full, in bytes.
    pub segment_bytes: u64,
    /// Which boot this is.
    pub boot_id: [u8; 16],
    /// How wrong the wall clock may be, in microseconds.
    pub clock_err_us: u32,
    /// How often the sidecar is written, in nanoseconds.
    pub head_every_ns: u64,
    /// Whether the hashes of new records are kept for [`Committer::take_hashes`].
    pub keep_hashes: bool,
    /// Whether who made the open intents still lives and will say what became of them: nothing is
    /// said UNKNOWN when the log is opened.
    pub keep_intents: bool,
}

impl Options {
    /// Segments of 64 MiB, the sidecar each second, an unknown clock error.
    #[must_use]
    pub fn new(log_id: impl Into<String>) -> Options {
        Options {
            log_id: log_id.into(),
            segment_bytes: 64 * 1024 * 1024,
            boot_id: [0; 16],
            clock_err_us: crate::record::CLOCK_ERR_UNKNOWN,
            head_every_ns: 1_000_000_000,
            keep_hashes: false,
            keep_intents: false,
        }
    }
}

/// Why a batch was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The volume is full. Later commits try again.
    #[error("the audit volume is full")]
    DiskFull(#[source] io::Error),
    /// Writing failed, and so did the new segment. Later commits try again.
    #[error("writing the audit log failed")]
    Write(#[source] io::Error),
    /// Nothing was written: one body is none.
    #[error("body {index} of the batch")]
    Body {
        /// Which one.
        index: usize,
        /// Why.
        source: RecordError,
    },
    /// Nothing was written: the batch is larger than one may be.
    #[error("the batch is too large")]
    TooLarge,
}

/// Leaves that may or may not be on the disk; they come first in the next segment, unchanged.
struct Pending {
    batch: Batch,
    /// Whether the record of the failure is in it already.
    explained: bool,
}

/// Counters for whoever watches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Frames written.
    pub frames: u64,
    /// Duration of the last synchronous write, in nanoseconds.
    pub last_sync_ns: u64,
    /// Writes that failed.
    pub failures: u64,
    /// Segments begun.
    pub segments: u64,
}

/// Writes one log. Holds its lock while it lives.
pub struct Committer<F: LogFs> {
    pub(crate) fs: F,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: Options,
    pub(crate) origin: Origin,
    pub(crate) epoch: u64,
    pub(crate) tail: Tail,
    pub(crate) active: Option<Active<F::Append>>,
    pub(crate) mark: HeadMark,
    pub(crate) marked_ns: u64,
    pub(crate) stats: Stats,
    pending: Option<Pending>,
    /// Leaf hashes of the last records, for [`Committer::take_hashes`].
    hashes: Vec<Hash>,
    /// Whether the wall clock stood before the log at the last look.
    behind: bool,
    /// The clocks at the last batch.
    last: Option<Now>,
    lock: F::Lock,
}

impl<F: LogFs> Committer<F> {
    /// A committer that goes on where recovery found the end.
    pub(crate) fn new(
        fs: F,
        lock: F::Lock,
        clock: Arc<dyn Clock>,
        options: Options,
        epoch: u64,
    ) -> Committer<F> {
        let origin = Origin {
            log_id: options.log_id.clone(),
            boot_id: options.boot_id,
            clock_err_us: options.clock_err_us,
        };
        Committer {
            fs,
            clock,
            options,
            origin,
            epoch,
            tail: Tail::default(),
            active: None,
            mark: HeadMark::EMPTY,
            marked_ns: 0,
            stats: Stats::default(),
            pending: None,
            hashes: Vec::new(),
            behind: false,
            last: None,
            lock,
        }
    }

    /// Makes a batch durable by one write and says where each body is.
    ///
    /// # Errors
    /// [`CommitError::Body`] and [`CommitError::TooLarge`] leave the log as it was. After the two
    /// others nothing of this batch is acknowledged, yet it may stand in the log later; the next
    /// commit tries a new segment first.
    pub fn commit(&mut self, bodies: &[&[u8]]) -> Result<Vec<Ack>, CommitError> {
        let bytes: usize = bodies.iter().map(|body| body.len()).sum();
        if bodies.len() > BATCH_RECORDS_MAX || (bytes > BATCH_BYTES_MAX && bodies.len() > 1) {
            return Err(CommitError::TooLarge);
        }
        self.settle_pending()?;
        if bodies.is_empty() {
            return Ok(Vec::new());
        }
        let batch = self.batch(bodies)?;
        self.make_room(batch.payload_len())?;
        self.write_batch(batch, bodies.len())
    }

    /// Seq of the next record.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.tail.next_seq
    }

    /// Root and size of the tree of all durable records.
    #[must_use]
    pub fn tree(&self) -> &crate::merkle::Frontier {
        &self.tail.frontier
    }

    /// The leaf hashes of records made durable since the last call, and the seq of the first. When
    /// there were very many, or none are kept, those before the first are in the segments only.
    pub fn take_hashes(&mut self) -> (u64, Vec<Hash>) {
        let count = u64::try_from(self.hashes.len()).unwrap_or(0);
        (self.tail.next_seq.saturating_sub(count), std::mem::take(&mut self.hashes))
    }

    /// How many intents have no outcome yet.
    #[must_use]
    pub fn open_intents(&self) -> usize {
        self.tail.open.len()
    }

    /// The intents that have no outcome yet, by number.
    #[must_use]
    pub fn unpaired(&self) -> BTreeSet<u64> {
        self.tail.open.keys().copied().collect()
    }

    /// Whether this record is an intent without an outcome.
    #[must_use]
    pub fn is_open(&self, seq: u64) -> bool {
        self.tail.open.contains_key(&seq)
    }

    /// Says UNKNOWN of those of `intents` that have no outcome, because whoever knew is gone.
    /// Gives how many they were.
    ///
    /// # Errors
    /// As [`Committer::commit`]. What was not said may be said again.
    pub fn say_unknown(&mut self, intents: &BTreeSet<u64>) -> Result<usize, CommitError> {
        let mut open = self.tail.unpaired();
        open.retain(|intent| intents.contains(&intent.seq));
        for batch in open.chunks(BATCH_RECORDS_MAX) {
            let bodies = batch.iter().map(|intent| {
                let body = Body::unknown(intent.seq, intent.trace_id, intent.tx_id);
                body.encode().map_err(own_body)
            });
            let bodies = bodies.collect::<Result<Vec<_>, _>>()?;
            let bodies: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
            self.commit(&bodies)?;
        }
        Ok(open.len())
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// The log that is written.
    #[must_use]
    pub fn log_id(&self) -> &str {
        &self.options.log_id
    }

    /// Ends writing cleanly: an ADMIN record, and the sidecar made durable. Gives how many records
    /// the log has.
    ///
    /// # Errors
    /// When the last record or the sidecar cannot be written; the log is whole all the same.
    pub fn close(self) -> Result<u64, CommitError> {
        self.close_locked().0
    }

    /// As [`close`](Committer::close), and gives the lock back: for whoever has the tree behind the
    /// log still to write, which no other process may do meanwhile.
    pub fn close_locked(mut self) -> (Result<u64, CommitError>, F::Lock) {
        let closed = self.write_end();
        (closed.map(|()| self.tail.next_seq), self.lock)
    }

    fn write_end(&mut self) -> Result<(), CommitError> {
        let body = encode_own(STOP_NOTE)?;
        self.commit(&[&body])?;
        self.write_mark(true).map_err(|error| write_error(&error))
    }

    /// Writes the sidecar if it is due; to be called from time to time when nothing is committed.
    /// Says whether another call will be needed.
    pub fn tick(&mut self) -> bool {
        if self.mark.records == self.tail.next_seq {
            return false;
        }
        self.mark_if_due();
        self.mark.records != self.tail.next_seq
    }

    fn mark_if_due(&mut self) {
        if self.clock.mono_ns().saturating_sub(self.marked_ns) >= self.options.head_every_ns {
            // The sidecar only sharpens verification; a record is durable without it.
            let _: io::Result<()> = self.write_mark(false);
        }
    }

    fn now(&self) -> Now {
        Now { wall_ns: self.clock.wall_ns(), mono_ns: self.clock.mono_ns() }
    }

    /// By how much the wall clock went ahead of the monotonic one since the last batch, if that is
    /// more than clocks drift.
    fn stepped_ns(&self, now: &Now) -> Option<u64> {
        let last = self.last.as_ref()?;
        let wall_ns = now.wall_ns.saturating_sub(last.wall_ns);
        let mono_ns = now.mono_ns.saturating_sub(last.mono_ns);
        // 1 in 1,000: twice what a clock may be slewed by.
        let drift_ns = STEP_NS_MIN.max(mono_ns / 1_000);
        wall_ns.checked_sub(mono_ns).filter(|ahead_ns| *ahead_ns > drift_ns)
    }

    fn batch(&mut self, bodies: &[&[u8]]) -> Result<Batch, CommitError> {
        let now = self.now();
        let mut batch = Batch::default();
        let behind_ns = self.tail.last_wall_ns.saturating_sub(now.wall_ns);
        if behind_ns > 0 && !self.behind {
            let text =
                format!("clock stepped back by {behind_ns} ns; the time in the log stands still");
            let body = encode_own(&text)?;
            batch.push(&body, &self.tail, &self.origin, now).map_err(own_body)?;
            batch.mark_own();
        }
        if let Some(ahead_ns) = self.stepped_ns(&now) {
            let text = format!(
                "clock stepped forward by {ahead_ns} ns against the monotonic clock, or the \
                 machine slept"
            );
            let body = encode_own(&text)?;
            batch.push(&body, &self.tail, &self.origin, now).map_err(own_body)?;
            batch.mark_own();
        }
        self.last = Some(now);
        for (index, body) in bodies.iter().enumerate() {
            batch
                .push(body, &self.tail, &self.origin, now)
                .map_err(|source| CommitError::Body { index, source })?;
        }
        self.behind = behind_ns > 0;
        Ok(batch)
    }

    fn write_batch(&mut self, batch: Batch, bodies: usize) -> Result<Vec<Ack>, CommitError> {
        let acks = batch.acks(bodies);
        match self.write_frame(&batch) {
            Ok(()) => {
                self.written(&batch);
                Ok(acks)
            }
            Err(_) => {
                self.stats.failures += 1;
                self.pending = Some(Pending { batch, explained: false });
                self.settle_pending()?;
                Ok(acks)
            }
        }
    }

    fn written(&mut self, batch: &Batch) {
        batch.apply(&mut self.tail);
        if self.options.keep_hashes {
            if self.hashes.len() + batch.len() > HASHES_MAX {
                self.hashes.clear();
            }
            self.hashes.extend(batch.hashes());
        }
        self.stats.frames += 1;
        self.mark_if_due();
    }

    /// Writes one frame to the present segment. On failure the segment is given up.
    fn write_frame(&mut self, batch: &Batch) -> io::Result<()> {
        let active = self.active.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let frame = batch.frame(&active.chain).map_err(io::Error::other)?;
        let start_ns = self.clock.mono_ns();
        active.write(&frame)?;
        self.stats.last_sync_ns = self.clock.mono_ns().saturating_sub(start_ns);
        Ok(())
    }

    /// Writes again, in a new segment, what an earlier write may have lost.
    fn settle_pending(&mut self) -> Result<(), CommitError> {
        if let Some(mut pending) = self.pending.take() {
            let settled = self.rewrite(&mut pending);
            if settled.is_err() {
                self.pending = Some(pending);
            }
            return settled;
        }
        if self.active.as_ref().is_none_or(|active| active.file.is_none() || active.sealed) {
            self.begin_segment()?;
        }
        Ok(())
    }

    fn rewrite(&mut self, pending: &mut Pending) -> Result<(), CommitError> {
        if !pending.explained {
            let name = self.active.as_ref().map_or("", |active| &active.name);
            let text = format!(
                "segment {name} failed; {} records were written again in a new one",
                pending.batch.len()
            );
            let now = self.now();
            let body = encode_own(&text)?;
            pending.batch.push(&body, &self.tail, &self.origin, now).map_err(own_body)?;
            pending.explained = true;
        }
        self.begin_segment()?;
        let Some(active) = self.active.as_mut() else { return Err(CommitError::TooLarge) };
        let frame = pending.batch.frame(&active.chain).map_err(encoding)?;
        let (offset, chain) = (active.valid_len, active.chain);
        let written = active.write(&frame);
        let checked = written.and_then(|()| {
            let file = self.fs.open(&active.name)?;
            let found = crate::store::read_from(&file, offset, frame.len())?;
            if found == frame { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
        });
        if let Err(error) = checked {
            active.give_up(offset, chain);
            self.stats.failures += 1;
            return Err(write_error(&error));
        }
        self.written(&pending.batch);
        Ok(())
    }

    /// Begins another segment when the next frame would not fit into this one.
    fn make_room(&mut self, payload_len: usize) -> Result<(), CommitError> {
        let need = payload_len + crate::segment::FRAME_PREFIX_BYTES + FOOTER_BYTES_MAX;
        let need = u64::try_from(need).unwrap_or(u64::MAX);
        let Some(active) = self.active.as_mut() else { return self.begin_segment() };
        let has_records = self.tail.next_seq > active.first_seq;
        if active.valid_len.saturating_add(need) <= self.options.segment_bytes || !has_records {
            return Ok(());
        }
        let footer = Footer {
            size: self.tail.next_seq,
            count: self.tail.next_seq - active.first_seq,
            last_leaf_hash: self.tail.prev_leaf_hash,
            root_sha256: self.tail.frontier.root(),
            root_sm3: None,
        };
        let bytes = footer.encode(&active.chain).map_err(encoding)?;
        // Without its footer the segment is one that failed; the next header says where it ends.
        if active.write(&bytes).is_ok() {
            active.sealed = true;
        } else {
            self.stats.failures += 1;
        }
        self.begin_segment()
    }

    /// Makes the next segment and its header durable.
    pub(crate) fn begin_segment(&mut self) -> Result<(), CommitError> {
        let header = self.next_header();
        let bytes = header.encode().map_err(encoding)?;
        let (name, mut file) =
            self.create(header.first_seq).map_err(|error| write_error(&error))?;
        let begun = self.prepare(&mut file, &bytes);
        if let Err(error) = begun {
            // Nothing was acknowledged from it. If it cannot be removed either, recovery knows a
            // segment that never came to life.
            let _: io::Result<()> = self.fs.remove(&name);
            return Err(write_error(&error));
        }
        self.stats.segments += 1;
        self.active = Some(Active {
            file: Some(file),
            name,
            index: header.index,
            first_seq: header.first_seq,
            valid_len: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            chain: crate::hash::sha256(&bytes),
            sealed: false,
        });
        Ok(())
    }

    fn prepare(&self, file: &mut F::Append, header: &[u8]) -> io::Result<()> {
        // The whole segment is reserved now, so that a full volume shows here and not at a record.
        file.reserve(self.options.segment_bytes)?;
        write_whole(file, header)?;
        file.sync()?;
        self.fs.sync_dir()
    }

    fn next_header(&self) -> Header {
        let before = self.active.as_ref();
        Header {
            log_id: self.options.log_id.clone(),
            index: before.map_or(0, |active| active.index + 1),
            epoch: self.epoch,
            first_seq: self.tail.next_seq,
            prev_len: before.map_or(0, |active| active.valid_len),
            prev_hash: before.map_or([0; 32], |active| active.chain),
            prev_leaf_hash: self.tail.prev_leaf_hash,
            oldest_open: self.tail.oldest_open(),
            frontier: self.tail.frontier.clone(),
            wrapped_dek: Vec::new(),
        }
    }

    fn create(&self, first_seq: u64) -> io::Result<(String, F::Append)> {
        // Cheaper than trying in vain while the volume is full, and leaves no empty files.
        if self.fs.free_bytes()? < self.options.segment_bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        for again in 0..SAME_NAME_MAX {
            let name = file_name(first_seq, again);
            match self.fs.create(&name) {
                Ok(file) => return Ok((name, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Writes the sidecar: in passing, or durably at the end.
    pub(crate) fn write_mark(&mut self, sync: bool) -> io::Result<()> {
        let mark = HeadMark {
            number: self.mark.number + 1,
            records: self.tail.next_seq,
            last_leaf_hash: self.tail.prev_leaf_hash,
        };
        self.marked_ns = self.clock.mono_ns();
        self.fs.patch(HEAD_FILE, &mark.encode(), mark.offset(), sync)?;
        self.mark = mark;
        Ok(())
    }
}

/// A record in which the log speaks of itself.
pub(crate) fn encode_own(text: &str) -> Result<Vec<u8>, CommitError> {
    Body::admin(text).encode().map_err(own_body)
}

fn own_body(source: RecordError) -> CommitError {
    CommitError::Body { index: 0, source }
}

fn encoding(error: SegmentError) -> CommitError {
    CommitError::Write(io::Error::other(error))
}

pub(crate) fn write_error(error: &io::Error) -> CommitError {
    let copy = error.raw_os_error().map_or_else(
        || io::Error::new(error.kind(), error.to_string()),
        io::Error::from_raw_os_error,
    );
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => CommitError::DiskFull(copy),
        _ => CommitError::Write(copy),
    }
}
