//! The thread that packs segments that are full and signed, and removes those that nothing asks to
//! keep any longer.
//!
//! It never touches what is still written. Before it removes anything it has the loop put that on
//! record, and waits until the record is signed. What goes wrong here stops no record.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use moat_audit::entries::removed_ranges;
use moat_audit::fs::{LogFs as _, RealFs};
use moat_audit::hash::{hex, sha256};
use moat_audit::keep::{Old, Retention, first_needed, keep_until, old_segments, retire, seal};
use moat_audit::mirror::FROZEN_FILE;
use moat_audit::record::{Body, Kind};
use moat_audit::sealed::removal_note;
use moat_audit::stamps::{
    RECORDED_SUFFIX, STAMPS_FOLDER, TOKEN_BYTES_MAX, TOKEN_SUFFIX, stamp_note,
};
use moat_audit::store::{Store as _, read_file};
use moat_audit::tiles::{checkpoint, witnessed};
use moat_model::Clock;
use serde_json::{Value, json};

use crate::AuditorOptions;

/// How long it rests between two looks at the folder, in milliseconds.
const REST_MS: u64 = 5_000;
/// Most segments that are removed at once.
const REMOVED_MAX: usize = 64;
/// Most stretches of removed records that are put on record at once.
const NOTES_MAX: usize = 1_000;
/// Most segments of which it remembers until when they are kept.
const REMEMBERED_MAX: usize = 65_536;

/// What is done with segments that are full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// Whether they are packed.
    pub is_packing: bool,
    /// How long their records are kept; for ever without.
    pub retention: Option<Retention>,
    /// How long the keeper rests, in milliseconds.
    pub rest_ms: u64,
}

impl Default for Keeping {
    fn default() -> Keeping {
        Keeping { is_packing: true, retention: None, rest_ms: REST_MS }
    }
}

/// The thread, as the auditor's loop has it.
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    /// Apart from the rest: the loop looks at it in every turn.
    is_frozen: AtomicBool,
}

#[derive(Default)]
struct State {
    is_stopping: bool,
    /// What must be on record before more is removed.
    asked: Vec<Body>,
    /// Whether it is.
    is_granted: bool,
    packed: u64,
    removed: u64,
    trouble: Option<String>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in there is left half done by a panic that would matter.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits; false when it is time to stop.
    fn rest(&self, rest: Duration) -> bool {
        let state = self.lock();
        let quiet = |state: &mut State| !state.is_stopping && !state.is_granted;
        let waited = self.wake.wait_timeout_while(state, rest, quiet);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !state.is_stopping
    }
}

impl Keeper {
    /// Starts the thread, if it has anything to do.
    pub(crate) fn start(options: &AuditorOptions) -> io::Result<Keeper> {
        let shared = Arc::new(Shared::default());
        let keeping = options.keeping;
        let found = is_frozen(&RealFs::open(&options.dir)?)?;
        shared.is_frozen.store(found, Ordering::Relaxed);
        let work = Work {
            dir: options.dir.clone(),
            keeping,
            is_witnessed: options.witnessing.is_some(),
            clock: Arc::clone(&options.clock),
            shared: Arc::clone(&shared),
            until: BTreeMap::new(),
            waits_for: None,
            stamps: Vec::new(),
        };
        let thread = std::thread::Builder::new().spawn(move || work.run())?;
        Ok(Keeper { shared, thread: Some(thread) })
    }

    /// What it asks to be put on record.
    pub(crate) fn asked(&self) -> Vec<Body> {
        let state = self.shared.lock();
        if state.is_granted { Vec::new() } else { state.asked.clone() }
    }

    /// What it asked for is on record.
    pub(crate) fn grant(&self) {
        self.shared.lock().is_granted = true;
        self.shared.wake.notify_one();
    }

    /// Whether it was found that the log has two signed histories.
    pub(crate) fn is_frozen(&self) -> bool {
        self.shared.is_frozen.load(Ordering::Relaxed)
    }

    /// For the status.
    pub(crate) fn status(&self) -> Value {
        let state = self.shared.lock();
        let mut status = json!({ "packed": state.packed, "removed": state.removed,
            "frozen": self.is_frozen() });
        if let (Some(why), Some(status)) = (&state.trouble, status.as_object_mut()) {
            status.insert("code".into(), json!(moat_model::code::audit::CANNOT_SEAL.id));
            status.insert("why".into(), json!(why));
        }
        status
    }

    /// Ends the thread; at most one segment is still packed.
    pub(crate) fn stop(&mut self) {
        self.shared.lock().is_stopping = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic in it has been told by the panic itself.
            let _: Result<(), _> = thread.join();
        }
    }
}

struct Work {
    dir: PathBuf,
    keeping: Keeping,
    is_witnessed: bool,
    clock: Arc<dyn Clock>,
    shared: Arc<Shared>,
    /// Until when a segment is kept, in nanoseconds of UTC, by its name.
    until: BTreeMap<String, u64>,
    /// What was asked to be removed, and how many records were signed when it was on record.
    waits_for: Option<(Vec<Old>, Option<u64>)>,
    /// Tokens that are to be on record, by the names of their files less the suffix.
    stamps: Vec<String>,
}

impl Work {
    fn run(mut self) {
        let rest = Duration::from_millis(self.keeping.rest_ms);
        while self.shared.rest(rest) {
            let done = RealFs::open(&self.dir).and_then(|fs| self.look(&fs));
            self.shared.lock().trouble = done.err().map(|error| error.to_string());
        }
    }

    /// Has time stamps that came in put on record; one step of it.
    fn record_stamps(&mut self) -> io::Result<()> {
        let path = self.dir.join(STAMPS_FOLDER);
        if self.waits_for.is_some() || !path.is_dir() {
            return Ok(());
        }
        let folder = RealFs::open(&path)?;
        if !self.stamps.is_empty() {
            if self.shared.lock().is_granted {
                for stem in std::mem::take(&mut self.stamps) {
                    folder.replace(&format!("{stem}{RECORDED_SUFFIX}"), b"\n")?;
                }
                let mut state = self.shared.lock();
                state.asked.clear();
                state.is_granted = false;
            }
            return Ok(());
        }
        let names = folder.list()?;
        let mut asked = Vec::new();
        for stem in names.iter().filter_map(|name| name.strip_suffix(TOKEN_SUFFIX)) {
            if names.contains(&format!("{stem}{RECORDED_SUFFIX}")) || asked.len() >= NOTES_MAX {
                continue;
            }
            let token = read_file(&folder, &format!("{stem}{TOKEN_SUFFIX}"), TOKEN_BYTES_MAX)?;
            let (Some(token), Ok(size)) = (token, stem.parse()) else { continue };
            let note = stamp_note(size, &hex(&sha256(&token)));
            asked.push(Body { note, ..Body::new(Kind::Check, [0; 16]) });
            self.stamps.push(stem.to_owned());
        }
        self.shared.lock().asked = asked;
        Ok(())
    }

    /// How many records are signed, and witnessed if they must be.
    fn signed(&self, fs: &RealFs) -> io::Result<u64> {
        let read = if self.is_witnessed { witnessed(fs)? } else { checkpoint(fs)? };
        Ok(read.and_then(Result::ok).map_or(0, |signed| signed.checkpoint().size()))
    }

    fn look(&mut self, fs: &RealFs) -> io::Result<()> {
        let is_frozen = is_frozen(fs)?;
        self.shared.is_frozen.store(is_frozen, Ordering::Relaxed);
        if is_frozen {
            // It is evidence as it is.
            return Ok(());
        }
        self.record_stamps()?;
        let signed = self.signed(fs)?;
        let old = old_segments(fs, signed)?;
        if let Some(retention) = self.keeping.retention {
            self.remove(fs, &old, signed, &retention)?;
        }
        if !self.keeping.is_packing {
            return Ok(());
        }
        for segment in &old {
            let go_on = || !self.shared.lock().is_stopping;
            match seal(fs, &segment.name, &go_on) {
                Ok(true) => self.shared.lock().packed += 1,
                Ok(false) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted && !go_on() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// One step of a removal: ask, wait until it is on record and signed, remove.
    fn remove(
        &mut self,
        fs: &RealFs,
        old: &[Old],
        signed: u64,
        retention: &Retention,
    ) -> io::Result<()> {
        let Some((segments, after)) = self.waits_for.take() else {
            if !self.stamps.is_empty() {
                return Ok(());
            }
            return self.ask(fs, old, retention);
        };
        if !self.shared.lock().is_granted {
            self.waits_for = Some((segments, after));
            return Ok(());
        }
        // The record that says so is below what is signed once more is signed than was before.
        match after {
            None => {
                let durable = first_unsigned(fs, signed)?;
                self.waits_for = Some((segments, Some(durable)));
            }
            Some(durable) if signed < durable => self.waits_for = Some((segments, after)),
            Some(_) => {
                for segment in &segments {
                    retire(fs, &segment.name)?;
                    self.until.remove(&segment.name);
                    self.shared.lock().removed += 1;
                }
                let mut state = self.shared.lock();
                state.asked.clear();
                state.is_granted = false;
            }
        }
        Ok(())
    }

    fn ask(&mut self, fs: &RealFs, old: &[Old], retention: &Retention) -> io::Result<()> {
        let (now_ns, needed) = (self.clock.wall_ns(), first_needed(fs)?);
        let mut expired: Vec<Old> = Vec::new();
        for segment in old.iter().filter(|segment| segment.end <= needed) {
            let until = match self.until.get(&segment.name) {
                Some(until) => Some(*until),
                None => keep_until(fs, segment, retention)?,
            };
            let Some(until) = until else { continue };
            if until <= now_ns && expired.len() < REMOVED_MAX {
                expired.push(segment.clone());
            } else if self.until.len() < REMEMBERED_MAX {
                self.until.insert(segment.name.clone(), until);
            }
        }
        if expired.is_empty() {
            return Ok(());
        }
        // What went before is said again: the records that said it may go now.
        let mut ranges: Vec<(u64, u64)> =
            removed_ranges(fs)?.iter().map(|r| (r.start, r.end)).collect();
        ranges.extend(expired.iter().map(|segment| (segment.first, segment.end)));
        ranges.sort_unstable();
        let mut notes: Vec<(u64, u64)> = Vec::new();
        for (first, end) in ranges {
            match notes.last_mut() {
                Some(last) if last.1 >= first => last.1 = last.1.max(end),
                _ => notes.push((first, end)),
            }
        }
        if notes.len() > NOTES_MAX {
            return Err(io::Error::other("too many stretches of records were removed apart"));
        }
        let why = "older than `audit.retention` asks to keep";
        let mut state = self.shared.lock();
        let note = |(first, end): &(u64, u64)| Body::admin(removal_note(*first, *end, why));
        state.asked = notes.iter().map(note).collect();
        state.is_granted = false;
        drop(state);
        self.waits_for = Some((expired, None));
        Ok(())
    }
}

/// Whether whoever compared the log with its mirror has found two histories.
fn is_frozen(fs: &RealFs) -> io::Result<bool> {
    Ok(read_file(fs, FROZEN_FILE, 1)?.is_some())
}

/// A size that the tree reaches only with all that is durable now.
fn first_unsigned(fs: &RealFs, signed: u64) -> io::Result<u64> {
    let next = moat_audit::entries::each_leaf(fs, signed..u64::MAX, |_, _| {
        std::ops::ControlFlow::Continue(())
    })?;
    Ok(next)
}
