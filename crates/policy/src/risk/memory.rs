//! The profiles of all subjects, in a table that never grows.
//!
//! A subject's place is one of [`WAYS`] that its key names. Where all are taken, the one goes that was
//! not used since it was last passed over (second chance). Whoever is forgotten is cold again.

use std::hash::Hasher;
use std::sync::{Mutex, MutexGuard, PoisonError};

use siphasher::sip128::{Hasher128, SipHasher24};

use super::counter::excess;
use super::profile::{Hashes, Profile, Seen};
use super::sketch::Sketch;
use super::{Attempt, Ended, Part, Risk, RiskState};

/// Bytes of a profile as it is kept.
pub const SLOT_BYTES: usize = 512;
/// Places among which a subject has one.
const WAYS: usize = 8;
/// Parts of the table, each with a lock of its own.
const SHARDS: usize = 64;
/// Attempts towards one counterparty, and refusals from one network, within an hour that are
/// granted.
const CROWD_GRANTED: u64 = 200;
const NETWORK_FAILURES_GRANTED: u64 = 30;

/// The key under which everything is hashed: what is kept names nobody to who has it not.
pub type Key = [u8; 16];

/// See the module. Shared by all workers; each attempt takes one lock of `SHARDS` twice, for well
/// under a microsecond.
pub struct Memory {
    key: Key,
    shards: Vec<Mutex<Shard>>,
    sets: usize,
    sketch: Sketch,
}

struct Shard {
    slots: Vec<Option<Slot>>,
}

struct Slot {
    profile: Profile,
    /// Used since it was passed over.
    is_used: bool,
    /// Changed since it was kept.
    is_dirty: bool,
}

impl Memory {
    /// A table for about so many subjects: rounded up to whole sets in every part.
    #[must_use]
    pub fn new(subjects: usize, key: Key) -> Memory {
        let sets = subjects.div_ceil(SHARDS * WAYS).max(1);
        let shard = || {
            let slots = (0..sets * WAYS).map(|_| None).collect();
            Mutex::new(Shard { slots })
        };
        let shards = (0..SHARDS).map(|_| shard()).collect();
        Memory { key, shards, sets, sketch: Sketch::new() }
    }

    /// How many subjects have room.
    #[must_use]
    pub fn places(&self) -> usize {
        SHARDS * self.sets * WAYS
    }

    /// Counts an attempt and compares it with the subject's history.
    #[must_use]
    pub fn attempt(&self, attempt: &Attempt<'_>) -> Risk {
        let hashes = self.hashes(attempt);
        let mut risk = Risk::of(RiskState::Cold);
        self.with(self.subject(attempt), |slot| {
            slot.profile.roll(attempt.now_ms / 1_000);
            slot.profile.count(&hashes);
            slot.profile.score(attempt, &hashes, &mut risk);
        });
        self.add_of_many(attempt, &hashes, true, &mut risk);
        risk
    }

    /// Compares without counting: what the risk of an open stream is now.
    #[must_use]
    pub fn look(&self, attempt: &Attempt<'_>) -> Risk {
        let (key, hashes) = (self.subject(attempt), self.hashes(attempt));
        let mut risk = Risk::of(RiskState::Cold);
        let known = self.set(key).and_then(|(mut shard, first)| {
            shard.place_of(first, key).map(|slot| slot.profile.clone())
        });
        let mut profile = known.unwrap_or_else(|| Profile::new(key));
        profile.roll(attempt.now_ms / 1_000);
        profile.score(attempt, &hashes, &mut risk);
        self.add_of_many(attempt, &hashes, false, &mut risk);
        risk
    }

    /// Says how an attempt ended.
    pub fn settle(&self, attempt: &Attempt<'_>, ended: Ended) {
        let (hashes, now_s) = (self.hashes(attempt), attempt.now_ms / 1_000);
        self.with(self.subject(attempt), |slot| {
            slot.profile.roll(now_s);
            match ended {
                Ended::Allowed => slot.profile.learn(attempt, &hashes),
                Ended::Asked => {}
                Ended::Refused => {
                    let failures = &mut slot.profile.failures;
                    failures.taken = failures.taken.saturating_add(1);
                }
            }
        });
        if ended == Ended::Refused {
            self.sketch.count(self.hash(b'n', &[attempt.network]), now_s, true);
        }
    }

    fn add_of_many(&self, attempt: &Attempt<'_>, hashes: &Hashes, counts: bool, risk: &mut Risk) {
        let now_s = attempt.now_ms / 1_000;
        if hashes.counterparty != 0 {
            let (now, last) = self.sketch.count(hashes.counterparty, now_s, counts);
            let last = u32::try_from(last).unwrap_or(u32::MAX);
            risk.add(Part::Crowd, excess(now, last, CROWD_GRANTED), 100);
        }
        let network = self.hash(b'n', &[attempt.network]);
        let (now, last) = self.sketch.count(network, now_s, false);
        let last = u32::try_from(last).unwrap_or(u32::MAX);
        risk.add(Part::NetworkFailures, excess(now, last, NETWORK_FAILURES_GRANTED), 100);
    }

    fn hashes(&self, attempt: &Attempt<'_>) -> Hashes {
        let short = |kind: u8, bytes: &[u8]| match bytes {
            [] => 0,
            // Never 0, which is nothing.
            bytes => u32::try_from(self.hash(kind, &[bytes]) >> 32).unwrap_or(1) | 1,
        };
        Hashes {
            device: short(b'd', attempt.device.as_bytes()),
            network: short(b'n', attempt.network),
            stack: short(b's', attempt.stack.as_bytes()),
            counterparty: match attempt.counterparty {
                "" => 0,
                text => self.hash(b'c', &[text.as_bytes()]) | 1,
            },
        }
    }

    fn subject(&self, attempt: &Attempt<'_>) -> u128 {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        for part in attempt.subject {
            hasher.write_u64(u64::try_from(part.len()).unwrap_or(u64::MAX));
            hasher.write(part.as_bytes());
        }
        hasher.finish128().as_u128()
    }

    fn hash(&self, kind: u8, parts: &[&[u8]]) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write_u8(kind);
        parts.iter().for_each(|part| hasher.write(part));
        hasher.finish()
    }

    fn shard(&self, at: usize) -> Option<MutexGuard<'_, Shard>> {
        // A profile that was left half done is one of a caller whose numbers are a little off.
        self.shards.get(at).map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The part of the table that a subject is in, locked, and the first place of its set.
    fn set(&self, key: u128) -> Option<(MutexGuard<'_, Shard>, usize)> {
        let shard = usize::try_from(key % SHARDS as u128).ok()?;
        let set = usize::try_from((key >> 64) % self.sets as u128).ok()?;
        Some((self.shard(shard)?, set * WAYS))
    }

    fn with(&self, key: u128, change: impl FnOnce(&mut Slot)) {
        let Some((mut shard, first)) = self.set(key) else { return };
        if shard.place_of(first, key).is_none() {
            shard.make_room(first, Profile::new(key));
        }
        if let Some(slot) = shard.place_of(first, key) {
            (slot.is_used, slot.is_dirty) = (true, true);
            change(slot);
        }
    }

    /// Gives the profiles that have changed since they were given last, each with its place: at most
    /// those of one part of the table are copied under its lock.
    pub fn take_changed(&self, part: usize, keep: &mut Vec<(usize, [u8; SLOT_BYTES])>) {
        keep.clear();
        let Some(mut shard) = self.shard(part) else { return };
        let first = part * self.sets * WAYS;
        for (at, slot) in shard.slots.iter_mut().enumerate() {
            if let Some(slot) = slot.as_mut().filter(|slot| slot.is_dirty) {
                slot.is_dirty = false;
                keep.push((first + at, encode(&slot.profile)));
            }
        }
    }

    /// How many parts [`Memory::take_changed`] knows.
    #[must_use]
    pub fn parts(&self) -> usize {
        self.shards.len()
    }

    /// Takes a profile back that was kept; of two of one subject the later one stays. Gives whether
    /// the bytes are a profile.
    pub fn restore(&self, bytes: &[u8; SLOT_BYTES]) -> bool {
        let Some(profile) = decode(bytes) else { return false };
        let Some((mut shard, first)) = self.set(profile.key) else { return false };
        match shard.place_of(first, profile.key) {
            Some(slot) if slot.profile.last_s >= profile.last_s => {}
            Some(slot) => slot.profile = profile,
            None => shard.make_room(first, profile),
        }
        true
    }
}

impl Shard {
    fn place_of(&mut self, first: usize, key: u128) -> Option<&mut Slot> {
        let set = self.slots.get_mut(first..first + WAYS)?;
        set.iter_mut().flatten().find(|slot| slot.profile.key == key)
    }

    /// Puts a profile into a set. Those that were used are passed over once.
    fn make_room(&mut self, first: usize, profile: Profile) {
        let Some(set) = self.slots.get_mut(first..first + WAYS) else { return };
        let fresh = Some(Slot { profile, is_used: true, is_dirty: true });
        if let Some(free) = set.iter_mut().find(|slot| slot.is_none()) {
            *free = fresh;
            return;
        }
        let since = |slot: &&mut Option<Slot>| slot.as_ref().map_or(0, |slot| slot.profile.last_s);
        let unused = |slot: &&mut Option<Slot>| slot.as_ref().is_none_or(|slot| !slot.is_used);
        if let Some(victim) = set.iter_mut().filter(unused).min_by_key(since) {
            *victim = fresh;
            return;
        }
        set.iter_mut().flatten().for_each(|slot| slot.is_used = false);
        if let Some(victim) = set.iter_mut().min_by_key(since) {
            *victim = fresh;
        }
    }
}

/// Version of the layout, as the first byte.
const VERSION: u8 = 1;
/// Where the check sum stands.
const SUM_AT: usize = SLOT_BYTES - 8;

struct Out<'a> {
    bytes: &'a mut [u8; SLOT_BYTES],
    at: usize,
}

impl Out<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let end = self.at + bytes.len();
        if let Some(place) = self.bytes.get_mut(self.at..end) {
            place.copy_from_slice(bytes);
        }
        self.at = end;
    }
}

struct In<'a>(&'a [u8]);

impl In<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (part, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*part)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn seen(&mut self, list: &mut [Seen]) -> Option<()> {
        for one in list {
            *one = Seen { hash: self.u32()?, last_min: self.u32()? };
        }
        Some(())
    }

    fn counter(&mut self, counter: &mut super::counter::Counter) -> Option<()> {
        counter.window = self.u32()?;
        counter.taken = self.u32()?;
        counter.before = self.u32()?;
        counter.allowed = self.u32()?;
        counter.usual = self.u32()?;
        Some(())
    }
}

/// The sum finds what was written in part, or decays; who may write the file needs no fault.
fn sum(bytes: &[u8]) -> [u8; 8] {
    let mut hasher = SipHasher24::new_with_key(b"moat/risk/v1/sum");
    hasher.write(bytes);
    hasher.finish().to_le_bytes()
}

fn encode(profile: &Profile) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    let mut out = Out { bytes: &mut bytes, at: 0 };
    out.put(&[VERSION]);
    out.put(&profile.key.to_le_bytes());
    out.put(&profile.last_s.to_le_bytes());
    out.put(&profile.allowed.to_le_bytes());
    for list in [profile.devices.as_slice(), &profile.networks, &profile.stacks] {
        for seen in list {
            out.put(&seen.hash.to_le_bytes());
            out.put(&seen.last_min.to_le_bytes());
        }
    }
    for counter in profile.velocity.iter().chain([&profile.failures]) {
        let super::counter::Counter { window, taken, before, allowed, usual } = counter;
        for number in [window, taken, before, allowed, usual] {
            out.put(&number.to_le_bytes());
        }
    }
    out.put(&profile.spread.to_le_bytes());
    out.put(&profile.spread_window.to_le_bytes());
    out.put(&profile.spread_usual.to_le_bytes());
    out.put(&profile.hours);
    out.put(&profile.hours_learnt.to_le_bytes());
    out.put(&profile.hour_last.to_le_bytes());
    out.put(&profile.amounts_learnt.to_le_bytes());
    out.put(&profile.amount_mean.to_le_bytes());
    out.put(&profile.amount_deviation.to_le_bytes());
    debug_assert!(out.at <= SUM_AT, "a profile has room in its slot");
    let sum = sum(bytes.get(..SUM_AT).unwrap_or_default());
    if let Some(place) = bytes.get_mut(SUM_AT..) {
        place.copy_from_slice(&sum);
    }
    bytes
}

fn decode(bytes: &[u8; SLOT_BYTES]) -> Option<Profile> {
    let (content, kept) = bytes.split_at_checked(SUM_AT)?;
    let mut from = In(content);
    if from.take::<1>()? != [VERSION] || sum(content).as_slice() != kept {
        return None;
    }
    let mut profile = Profile::new(u128::from_le_bytes(from.take()?));
    profile.last_s = u64::from_le_bytes(from.take()?);
    profile.allowed = from.u32()?;
    from.seen(&mut profile.devices)?;
    from.seen(&mut profile.networks)?;
    from.seen(&mut profile.stacks)?;
    for counter in &mut profile.velocity {
        from.counter(counter)?;
    }
    from.counter(&mut profile.failures)?;
    profile.spread = u64::from_le_bytes(from.take()?);
    profile.spread_window = from.u32()?;
    profile.spread_usual = from.u32()?;
    profile.hours = from.take()?;
    profile.hours_learnt = from.u16()?;
    profile.hour_last = from.u32()?;
    profile.amounts_learnt = from.u16()?;
    // No logarithm of 64 bits is larger, so nothing that is worked out with them can overflow.
    let logarithm = |bytes| i32::from_le_bytes(bytes).clamp(0, 64 * 256);
    profile.amount_mean = logarithm(from.take()?);
    profile.amount_deviation = logarithm(from.take()?);
    Some(profile)
}
