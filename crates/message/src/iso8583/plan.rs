//! Shape plans: what a bitmap says about the fields is worked out once and kept.
//!
//! Traffic repeats its bitmaps. A plan merges neighbouring fields of fixed length into one question
//! whether the bytes are there, one check for each run of equal characters, and slots that only
//! need the place added. What a plan does not like goes the general way, which alone says what is
//! wrong: so both ways give the same results and the same errors.

use super::bitmap::Present;
use super::decode::{Check, step};
use super::index::{Index, Slot, slot};
use super::value::first_wrong;
use crate::chars::{are_packed_digits, first_bad};
use crate::ebcdic::Page;
use crate::limit::{MESSAGES_PER_PLAN, PLANS_MAX};
use crate::spec::{Enc, Kind, Length, Spec};

/// Plans of one set of the table.
const WAYS: usize = 4;
const SETS: usize = PLANS_MAX / WAYS;

/// The plans of one decoder.
pub(super) struct Plans {
    sets: Vec<[Option<Plan>; WAYS]>,
    /// Set and way of the last message.
    last: (usize, usize),
    made: usize,
    /// Messages since a plan was made that went the general way.
    since: u32,
    clock: u64,
}

struct Plan {
    present: Present,
    steps: Vec<Step>,
    used: u64,
}

enum Step {
    /// Neighbouring fields of fixed length.
    Fixed { bytes: usize, slots: Vec<Slot>, runs: Vec<Run> },
    /// A field with a length in front.
    Variable(u8),
}

/// Neighbouring fields with the same characters.
struct Run {
    at: usize,
    bytes: usize,
    characters: Characters,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Characters {
    Text(Kind, Option<Page>),
    Packed,
    /// What does not merge with its neighbours.
    Field(u8),
}

impl Plans {
    pub(super) fn new() -> Plans {
        let sets = (0..SETS).map(|_| [const { None }; WAYS]).collect();
        Plans { sets, last: (0, 0), made: 0, since: 0, clock: 0 }
    }

    /// Whether a plan read the message. If not, the general path must.
    #[inline]
    pub(super) fn run(
        &mut self,
        spec: &Spec,
        check: Check,
        message: &[u8],
        index: &mut Index,
        is_whole: bool,
    ) -> bool {
        if !is_whole {
            return false;
        }
        let (set, way) = self.last;
        if let Some(Some(plan)) = self.sets.get(set).and_then(|ways| ways.get(way))
            && plan.present == index.present
        {
            return plan.read(spec, check, message, index).is_some();
        }
        self.look(spec, check, message, index)
    }

    fn look(&mut self, spec: &Spec, check: Check, message: &[u8], index: &mut Index) -> bool {
        self.clock += 1;
        let at = set_of(index.present);
        let Some(ways) = self.sets.get_mut(at) else { return false };
        let is_this = |way: &Option<Plan>| way.as_ref().is_some_and(|p| p.present == index.present);
        if let Some(way) = ways.iter().position(is_this) {
            self.last = (at, way);
            let Some(Some(plan)) = ways.get_mut(way) else { return false };
            plan.used = self.clock;
            return plan.read(spec, check, message, index).is_some();
        }
        self.since += 1;
        if self.made >= PLANS_MAX && self.since < MESSAGES_PER_PLAN {
            return false;
        }
        let Some(plan) = Plan::make(spec, index.present, self.clock) else { return false };
        (self.made, self.since) = (self.made + 1, 0);
        let is_good = plan.read(spec, check, message, index).is_some();
        let oldest = ways.iter_mut().min_by_key(|way| way.as_ref().map_or(0, |plan| plan.used));
        if let Some(oldest) = oldest {
            *oldest = Some(plan);
        }
        is_good
    }
}

fn set_of(present: Present) -> usize {
    let [a, b, c] = present.0;
    let mixed = (a ^ b.rotate_left(23) ^ c.rotate_left(41)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from(mixed >> 32).unwrap_or(0) % SETS
}

impl Plan {
    /// None when the spec lacks a field: the general path says which.
    fn make(spec: &Spec, present: Present, used: u64) -> Option<Plan> {
        let mut steps = Vec::new();
        for number in present.iter() {
            let field = spec.field(number)?;
            let Length::Fixed { bytes, .. } = field.rule.length else {
                steps.push(Step::Variable(number));
                continue;
            };
            if !matches!(steps.last(), Some(Step::Fixed { .. })) {
                steps.push(Step::Fixed { bytes: 0, slots: Vec::new(), runs: Vec::new() });
            }
            if let Some(Step::Fixed { bytes: whole, slots, runs }) = steps.last_mut() {
                let bytes = usize::from(bytes);
                slots.push(slot(*whole, bytes));
                if let Some(characters) = characters(spec, number) {
                    add(runs, Run { at: *whole, bytes, characters });
                }
                *whole += bytes;
            }
        }
        Some(Plan { present, steps, used })
    }

    /// Fills the slots; `None` when anything is not as it should be.
    #[inline]
    fn read(&self, spec: &Spec, check: Check, message: &[u8], index: &mut Index) -> Option<()> {
        let mut at = index.body_at;
        let mut free = index.slots.as_mut_slice();
        for step_of in &self.steps {
            match step_of {
                Step::Fixed { bytes, slots, runs } => {
                    let part = message.get(at..at + bytes)?;
                    if check == Check::Strict {
                        runs.iter().try_for_each(|run| run.check(spec, part))?;
                    }
                    let base = slot(at, 0);
                    let (to, rest) = free.split_at_mut_checked(slots.len())?;
                    for (to, from) in to.iter_mut().zip(slots) {
                        *to = from.wrapping_add(base);
                    }
                    free = rest;
                    at += bytes;
                }
                Step::Variable(number) => {
                    let (to, rest) = free.split_first_mut()?;
                    *to = step(spec.field(*number)?, *number, check, message, &mut at).ok()?;
                    free = rest;
                }
            }
        }
        (at == message.len()).then_some(())
    }
}

fn add(runs: &mut Vec<Run>, run: Run) {
    if let Some(last) = runs.last_mut()
        && last.characters == run.characters
        && last.at + last.bytes == run.at
    {
        last.bytes += run.bytes;
        return;
    }
    runs.push(run);
}

/// What is to be checked of a field of fixed length, if anything.
fn characters(spec: &Spec, number: u8) -> Option<Characters> {
    let rule = spec.field(number)?.rule;
    let Length::Fixed { count, .. } = rule.length else { return None };
    match (rule.kind, rule.enc) {
        (Kind::B, Enc::Binary) => None,
        (Kind::Xn | Kind::Composite | Kind::Tlv, _) => Some(Characters::Field(number)),
        (kind, Enc::Text(page)) => Some(Characters::Text(kind, page)),
        (Kind::N, Enc::Bcd) if count % 2 == 0 => Some(Characters::Packed),
        _ => Some(Characters::Field(number)),
    }
}

impl Run {
    #[inline]
    fn check(&self, spec: &Spec, part: &[u8]) -> Option<()> {
        let value = part.get(self.at..self.at + self.bytes)?;
        let is_good = match self.characters {
            Characters::Text(kind, page) => first_bad(kind, page, value).is_none(),
            Characters::Packed => are_packed_digits(value),
            Characters::Field(number) => {
                let field = spec.field(number)?;
                let Length::Fixed { count, .. } = field.rule.length else { return None };
                let mut at = 0;
                match field.rule.kind {
                    Kind::Composite | Kind::Tlv => {
                        step(field, number, Check::Strict, value, &mut at).is_ok()
                    }
                    _ => first_wrong(&field.rule, usize::from(count), value).is_none(),
                }
            }
        };
        is_good.then_some(())
    }
}
