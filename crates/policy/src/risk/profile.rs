//! What is remembered of one subject: a fixed number of bytes, whatever it does.

use super::counter::{Counter, excess, number};
use super::{Attempt, Part, Risk, RiskState};

/// Windows of velocity, in seconds, and how many calls in each are granted without a history.
pub(super) const VELOCITY: [(u64, u64); 4] = [(60, 30), (600, 120), (3_600, 400), (86_400, 3_000)];
/// The window of failures and of counterparties, in seconds.
const HOUR_S: u64 = 3_600;
/// Allowed calls after which a subject is known.
pub(super) const KNOWN_AFTER: u32 = 8;
/// Devices, networks and stacks that are remembered of a subject; the one not used for longest goes
/// first.
const DEVICES: usize = 8;
const NETWORKS: usize = 8;
const STACKS: usize = 4;
/// Hours of a week.
const HOURS: usize = 168;
/// Hours that must have been learnt before one can be odd.
const HOURS_LEARNT_MIN: u16 = 24;
/// What an hour with an allowed call adds to its place in the week; it fades by an eighth a week.
const HOUR_WEIGHT: u8 = 16;
/// Amounts that must have been learnt before one can be unusual.
const AMOUNTS_LEARNT_MIN: u16 = 8;
/// Share of a new amount in what is usual, once many were seen: 1/16.
const AMOUNT_SHARE: i32 = 16;
/// The least deviation of amounts, as a logarithm to base 2 in 1/256: half a doubling.
const DEVIATION_MIN: i32 = 128;
/// Counterparties within an hour, and refusals, that are granted.
const SPREAD_GRANTED: u64 = 8;
const FAILURES_GRANTED: u64 = 2;

/// Something seen: its hash, and when it was last, in minutes since 1970. Nothing if both are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) hash: u32,
    pub(super) last_min: u32,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Profile {
    pub(super) key: u128,
    pub(super) last_s: u64,
    /// Allowed calls.
    pub(super) allowed: u32,
    pub(super) devices: [Seen; DEVICES],
    pub(super) networks: [Seen; NETWORKS],
    pub(super) stacks: [Seen; STACKS],
    pub(super) velocity: [Counter; VELOCITY.len()],
    pub(super) failures: Counter,
    /// Counterparties of this hour, each as one bit of 64, and how many were usual.
    pub(super) spread: u64,
    pub(super) spread_window: u32,
    pub(super) spread_usual: u32,
    pub(super) hours: [u8; HOURS],
    /// Hours that were learnt, and the last of them.
    pub(super) hours_learnt: u16,
    pub(super) hour_last: u32,
    pub(super) amounts_learnt: u16,
    /// Mean of the logarithms of amounts and their mean deviation, in 1/256.
    pub(super) amount_mean: i32,
    pub(super) amount_deviation: i32,
}

/// The hashes of what an attempt brings; 0 is nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hashes {
    pub(super) device: u32,
    pub(super) network: u32,
    pub(super) stack: u32,
    pub(super) counterparty: u64,
}

impl Profile {
    pub(super) fn new(key: u128) -> Profile {
        Profile {
            key,
            last_s: 0,
            allowed: 0,
            devices: Default::default(),
            networks: Default::default(),
            stacks: Default::default(),
            velocity: Default::default(),
            failures: Counter::default(),
            spread: 0,
            spread_window: 0,
            spread_usual: 0,
            hours: [0; HOURS],
            hours_learnt: 0,
            hour_last: 0,
            amounts_learnt: 0,
            amount_mean: 0,
            amount_deviation: 0,
        }
    }

    fn is_known(&self) -> bool {
        self.allowed >= KNOWN_AFTER
    }

    /// Moves all windows on to now.
    pub(super) fn roll(&mut self, now_s: u64) {
        self.last_s = self.last_s.max(now_s);
        for (counter, (length_s, _)) in self.velocity.iter_mut().zip(VELOCITY) {
            counter.roll(now_s, length_s);
        }
        self.failures.roll(now_s, HOUR_S);
        let window = number(now_s, HOUR_S);
        if window > self.spread_window {
            let seen = self.spread.count_ones();
            self.spread_usual = (self.spread_usual - self.spread_usual.div_ceil(8)).max(seen);
            (self.spread, self.spread_window) = (0, window);
        }
    }

    /// Counts an attempt.
    pub(super) fn count(&mut self, hashes: &Hashes) {
        for counter in &mut self.velocity {
            counter.taken = counter.taken.saturating_add(1);
        }
        self.spread |= spread_bit(hashes);
    }

    /// Adds the parts that this subject's history gives.
    pub(super) fn score(&self, attempt: &Attempt<'_>, hashes: &Hashes, risk: &mut Risk) {
        let now_s = attempt.now_ms / 1_000;
        if self.is_known() {
            risk.state = RiskState::Known;
            let is_new = |seen: &[Seen], hash: u32| hash != 0 && !has(seen, hash);
            risk.add(Part::NewDevice, points(is_new(&self.devices, hashes.device), 200), 200);
            risk.add(Part::NoDevice, points(hashes.device == 0, 100), 100);
            risk.add(Part::NewNetwork, points(is_new(&self.networks, hashes.network), 150), 150);
            let knows_stacks = self.stacks.iter().any(|seen| *seen != Seen::default());
            let is_other = knows_stacks && is_new(&self.stacks, hashes.stack);
            risk.add(Part::NewStack, points(is_other, 60), 60);
        } else {
            risk.add(Part::Cold, 500, 500);
        }
        let over = self.velocity.iter().zip(VELOCITY).map(|(counter, (length_s, granted))| {
            excess(counter.count(now_s, length_s), counter.usual, granted)
        });
        risk.add(Part::Velocity, over.max().unwrap_or(0), 250);
        let spread = u64::from((self.spread | spread_bit(hashes)).count_ones());
        risk.add(Part::Spread, excess(spread, self.spread_usual, SPREAD_GRANTED), 150);
        risk.add(Part::OddHour, self.odd_hour(now_s), 150);
        risk.add(Part::Amount, self.unusual_amount(attempt.amount), 300);
        let failed = self.failures.count(now_s, HOUR_S).saturating_sub(FAILURES_GRANTED);
        risk.add(Part::Failures, failed.saturating_mul(40), 300);
    }

    /// 150 points for an hour of the day without any call in the week, the hours beside it counted
    /// in; 80 if it is only this day of the week that has none.
    fn odd_hour(&self, now_s: u64) -> u64 {
        if self.hours_learnt < HOURS_LEARNT_MIN {
            return 0;
        }
        let hour = hour_of_week(now_s);
        let beside = |hour: usize| [(hour + HOURS - 1) % HOURS, hour, (hour + 1) % HOURS];
        let is_quiet = |hour: usize| beside(hour).iter().all(|at| self.hours.get(*at) == Some(&0));
        if !is_quiet(hour) {
            return 0;
        }
        let is_quiet_each_day = (0..7).all(|day| is_quiet((hour + day * 24) % HOURS));
        if is_quiet_each_day { 150 } else { 80 }
    }

    /// 50 points for an amount over three deviations above the mean, and 100 for each doubling beyond.
    fn unusual_amount(&self, amount: Option<u64>) -> u64 {
        let Some(amount) = amount.filter(|_| self.amounts_learnt >= AMOUNTS_LEARNT_MIN) else {
            return 0;
        };
        let fine = self.amount_mean + 3 * self.amount_deviation.max(DEVIATION_MIN);
        let over = logarithm(amount) - fine;
        if over <= 0 { 0 } else { 50 + u64::try_from(over).unwrap_or(0) * 100 / 256 }
    }

    /// Learns from an allowed call.
    pub(super) fn learn(&mut self, attempt: &Attempt<'_>, hashes: &Hashes) {
        let now_s = attempt.now_ms / 1_000;
        self.allowed = self.allowed.saturating_add(1);
        remember(&mut self.devices, hashes.device, now_s);
        remember(&mut self.networks, hashes.network, now_s);
        remember(&mut self.stacks, hashes.stack, now_s);
        for counter in &mut self.velocity {
            counter.allowed = counter.allowed.saturating_add(1);
        }
        self.learn_hour(now_s);
        if let Some(amount) = attempt.amount {
            self.learn_amount(amount);
        }
    }

    /// An hour is learnt once, however many calls it has.
    fn learn_hour(&mut self, now_s: u64) {
        let hour = number(now_s, HOUR_S);
        if hour <= self.hour_last {
            return;
        }
        let week = |hour: u32| hour / 168;
        if self.hour_last > 0 {
            for _ in 0..(week(hour) - week(self.hour_last)).min(64) {
                self.hours.iter_mut().for_each(|weight| *weight -= weight.div_ceil(8));
            }
        }
        if let Some(weight) = self.hours.get_mut(hour_of_week(now_s)) {
            *weight = weight.saturating_add(HOUR_WEIGHT);
        }
        (self.hour_last, self.hours_learnt) = (hour, self.hours_learnt.saturating_add(1));
    }

    /// The first amounts count alike; after sixteen each new one has a sixteenth. One amount moves
    /// what is usual by no more than three deviations.
    fn learn_amount(&mut self, amount: u64) {
        let share = i32::from(self.amounts_learnt.saturating_add(1)).min(AMOUNT_SHARE);
        let most = 3 * self.amount_deviation.max(DEVIATION_MIN);
        let mut off = logarithm(amount) - self.amount_mean;
        if self.amounts_learnt >= AMOUNTS_LEARNT_MIN {
            off = off.clamp(-most, most);
        }
        self.amount_mean += off / share;
        if self.amounts_learnt > 0 {
            self.amount_deviation += (off.abs() - self.amount_deviation) / share;
        }
        self.amounts_learnt = self.amounts_learnt.saturating_add(1);
    }
}

fn points(holds: bool, points: u64) -> u64 {
    if holds { points } else { 0 }
}

fn has(seen: &[Seen], hash: u32) -> bool {
    seen.iter().any(|one| one.hash == hash)
}

fn remember(seen: &mut [Seen], hash: u32, now_s: u64) {
    if hash == 0 {
        return;
    }
    let last_min = number(now_s, 60).max(1);
    let place = match seen.iter().position(|one| one.hash == hash) {
        Some(at) => seen.get_mut(at),
        None => seen.iter_mut().min_by_key(|one| one.last_min),
    };
    if let Some(place) = place {
        *place = Seen { hash, last_min };
    }
}

fn spread_bit(hashes: &Hashes) -> u64 {
    if hashes.counterparty == 0 { 0 } else { 1 << (hashes.counterparty % 64) }
}

/// From Thursday 00:00 UTC, with which 1970 began.
fn hour_of_week(now_s: u64) -> usize {
    usize::try_from(now_s / HOUR_S % 168).unwrap_or(0)
}

/// Logarithm to base 2 in 1/256, straight between powers of two; 0 for 0.
fn logarithm(amount: u64) -> i32 {
    let Some(whole) = amount.checked_ilog2() else { return 0 };
    let beyond = (u128::from(amount) * 256) >> whole;
    i32::try_from(whole).unwrap_or(0) * 256 + i32::try_from(beyond).unwrap_or(256) - 256
}
