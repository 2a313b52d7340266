//! Shape plans: what message type and bitmap say about the fields is worked out once and kept.
//!
//! Traffic repeats its shapes. A plan knows its message type and bitmaps as they are sent, so that
//! one comparison of bytes stands for reading them. It merges neighbouring fields of fixed length
//! into one question whether the bytes are there, one check for each run of equal characters, and
//! slots that only need the place added. What a plan does not like goes the general way, which
//! alone says what is wrong: so both ways give the same results and the same errors.

use super::bitmap::Present;
use super::decode::{Check, take};
use super::index::{Index, Slot, slot};
use super::mti::Mti;
use super::op::Op;
use crate::chars::Quick;
use crate::limit::{MESSAGES_PER_PLAN, PLANS_MAX};
use crate::spec::{Length, Spec};

/// Plans of one set of the table.
const WAYS: usize = 4;
const SETS: usize = PLANS_MAX / WAYS;

/// The plans of one decoder.
pub(super) struct Plans {
    sets: Vec<[Option<Plan>; WAYS]>,
    made: usize,
    /// Messages since a plan was made that went the general way.
    since: u32,
    clock: u64,
}

struct Plan {
    /// Message type and bitmaps as they are sent.
    head: Vec<u8>,
    mti: Option<Mti>,
    present: Present,
    /// Where the first bitmap begins, from the message type on.
    bitmap: usize,
    steps: Vec<Step>,
    used: u64,
}

enum Step {
    /// Neighbouring fields of fixed length.
    Fixed { bytes: usize, slots: Vec<Slot>, runs: Vec<Run> },
    /// A field with a length in front, or one that must be looked at by itself.
    Alone(u8, Op),
}

/// Neighbouring fields with the same characters.
struct Run {
    at: usize,
    end: usize,
    quick: Quick,
}

impl Plans {
    pub(super) fn new() -> Plans {
        let sets = (0..SETS).map(|_| [const { None }; WAYS]).collect();
        Plans { sets, made: 0, since: 0, clock: 0 }
    }

    /// Whether a plan read the message. If not, the general path must.
    #[inline]
    pub(super) fn run(
        &mut self,
        spec: &Spec,
        check: Check,
        message: &[u8],
        mti_at: usize,
        index: &mut Index,
    ) -> bool {
        let rest = message.get(mti_at..).unwrap_or_default();
        let Some(ways) = self.sets.get_mut(set_of(spec, rest)) else { return false };
        for plan in ways.iter_mut().flatten() {
            if rest.starts_with(&plan.head) {
                self.clock += 1;
                plan.used = self.clock;
                return plan.read(spec, check, message, mti_at, index).is_some();
            }
        }
        false
    }

    /// A message was read the general way. Its shape may be worth a plan.
    pub(super) fn note(&mut self, spec: &Spec, message: &[u8], index: &Index) {
        self.since += 1;
        if self.made >= PLANS_MAX && self.since < MESSAGES_PER_PLAN {
            return;
        }
        let rest = message.get(index.mti_at..).unwrap_or_default();
        let Some(plan) = Plan::make(spec, message, index, self.clock) else { return };
        let Some(ways) = self.sets.get_mut(set_of(spec, rest)) else { return };
        (self.made, self.since) = (self.made + 1, 0);
        let oldest = ways.iter_mut().min_by_key(|way| way.as_ref().map_or(0, |plan| plan.used));
        if let Some(oldest) = oldest {
            *oldest = Some(plan);
        }
    }
}

/// The set of a shape, by its message type and first bitmap.
#[inline]
fn set_of(spec: &Spec, rest: &[u8]) -> usize {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let head = rest.get(..spec.head_bytes()).unwrap_or_default();
    let word = |chunk: Option<&[u8; 8]>| chunk.map_or(0, |chunk| u64::from_le_bytes(*chunk));
    let middle = head.get(4..).and_then(<[u8]>::first_chunk);
    let (a, b, c) = (word(head.first_chunk()), word(middle), word(head.last_chunk()));
    let mixed = (a.wrapping_mul(ODD) ^ b).wrapping_mul(ODD) ^ c.wrapping_mul(ODD);
    usize::try_from(mixed >> 40).unwrap_or(0) % SETS
}

impl Plan {
    fn make(spec: &Spec, message: &[u8], index: &Index, used: u64) -> Option<Plan> {
        let mut steps = Vec::new();
        for number in index.present.iter() {
            let field = spec.field(number)?;
            let op = spec.ops.get(usize::from(number))?;
            let Length::Fixed { bytes, .. } = field.rule.length else {
                steps.push(Step::Alone(number, *op));
                continue;
            };
            if !op.merges() {
                steps.push(Step::Alone(number, *op));
                continue;
            }
            if !matches!(steps.last(), Some(Step::Fixed { .. })) {
                steps.push(Step::Fixed { bytes: 0, slots: Vec::new(), runs: Vec::new() });
            }
            if let Some(Step::Fixed { bytes: whole, slots, runs }) = steps.last_mut() {
                let bytes = usize::from(bytes);
                slots.push(slot(*whole, bytes));
                add(runs, Run { at: *whole, end: *whole + bytes, quick: op.quick });
                *whole += bytes;
            }
        }
        let head = message.get(index.mti_at..index.body_at)?.to_vec();
        let bitmap = index.bitmap_at.checked_sub(index.mti_at)?;
        Some(Plan { head, mti: index.mti, present: index.present, bitmap, steps, used })
    }

    /// Fills the index; `None` when anything is not as it should be.
    #[inline]
    fn read(
        &self,
        spec: &Spec,
        check: Check,
        message: &[u8],
        mti_at: usize,
        index: &mut Index,
    ) -> Option<()> {
        index.mti = self.mti;
        index.present = self.present;
        index.mti_at = mti_at;
        index.bitmap_at = mti_at + self.bitmap;
        index.body_at = mti_at + self.head.len();
        let mut at = index.body_at;
        let mut free = index.slots.as_mut_slice();
        for of in &self.steps {
            match of {
                Step::Fixed { bytes, slots, runs } => {
                    let part = message.get(at..at + bytes)?;
                    if check == Check::Strict {
                        for run in runs {
                            if !run.quick.is_good(part.get(run.at..run.end)?) {
                                return self.look_again(spec, message, mti_at, index);
                            }
                        }
                    }
                    let base = slot(at, 0);
                    let (to, rest) = free.split_at_mut_checked(slots.len())?;
                    for (to, from) in to.iter_mut().zip(slots) {
                        *to = from.wrapping_add(base);
                    }
                    free = rest;
                    at += bytes;
                }
                Step::Alone(number, op) => {
                    let (to, rest) = free.split_first_mut()?;
                    *to = take(spec, op, *number, check, message, &mut at).ok()?;
                    free = rest;
                }
            }
        }
        (at == message.len()).then_some(())
    }

    /// What is no at a glance may still be good: field by field then.
    #[inline(never)]
    fn look_again(
        &self,
        spec: &Spec,
        message: &[u8],
        mti_at: usize,
        index: &mut Index,
    ) -> Option<()> {
        let mut at = mti_at + self.head.len();
        for (number, to) in self.present.iter().zip(&mut index.slots) {
            *to = take(spec, &Op::NONE, number, Check::Strict, message, &mut at).ok()?;
        }
        (at == message.len()).then_some(())
    }
}

fn add(runs: &mut Vec<Run>, run: Run) {
    if run.quick == Quick::Any {
        return;
    }
    match runs.last_mut() {
        Some(last) if last.quick == run.quick && last.end == run.at => last.end = run.end,
        _ => runs.push(run),
    }
}
