//! From bytes to an index, in one pass: the head, then field by field, or by a plan of the shape.

use super::bitmap::{self, Present};
use super::index::{Index, slot};
use super::mti::Mti;
use super::observe::Observer;
use super::op::Op;
use super::parts;
use super::plan::Plans;
use super::value::{extent, first_wrong};
use super::view::View;
use crate::error::{MessageError, Reason};
use crate::limit::MESSAGE_BYTES_MAX;
use crate::spec::{Enc, Field, Kind, Spec, Tertiary};
use crate::tlv;

/// How much of a message is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Structure and every character.
    Strict,
    /// Structure alone: for messages that are passed on without being looked into.
    Lazy,
}

/// Reads the messages of one spec, and remembers their shapes. One for each worker.
pub struct Decoder<'s> {
    spec: &'s Spec,
    check: Check,
    plans: Plans,
}

impl<'s> Decoder<'s> {
    /// A decoder without plans yet.
    #[must_use]
    pub fn new(spec: &'s Spec, check: Check) -> Decoder<'s> {
        Decoder { spec, check, plans: Plans::new() }
    }

    /// The spec.
    #[must_use]
    pub fn spec(&self) -> &'s Spec {
        self.spec
    }

    /// Reads a message into `index`.
    ///
    /// # Errors
    /// What is wrong first, with field and offset. The same error as [`decode`] gives.
    #[inline]
    pub fn decode<'m>(
        &mut self,
        message: &'m [u8],
        index: &'m mut Index,
    ) -> Result<View<'m, ()>, MessageError>
    where
        's: 'm,
    {
        self.decode_for(message, index, ())
    }

    /// As [`Decoder::decode`], with somebody who wants to know.
    ///
    /// # Errors
    /// The same.
    #[inline]
    pub fn decode_for<'m, O: Observer>(
        &mut self,
        message: &'m [u8],
        index: &'m mut Index,
        observer: O,
    ) -> Result<View<'m, O>, MessageError>
    where
        's: 'm,
    {
        self.read(message, index)?;
        Ok(View::new(self.spec, message, index, observer))
    }
}

impl Decoder<'_> {
    #[inline]
    fn read(&mut self, message: &[u8], index: &mut Index) -> Result<(), MessageError> {
        let (spec, check) = (self.spec, self.check);
        let mti_at = start(spec, message)?;
        if self.plans.run(spec, check, message, mti_at, index) {
            return Ok(());
        }
        self.read_generally(message, mti_at, index)
    }

    /// Away from the path of known shapes, which stays small.
    #[inline(never)]
    fn read_generally(
        &mut self,
        message: &[u8],
        mti_at: usize,
        index: &mut Index,
    ) -> Result<(), MessageError> {
        let is_whole = head(self.spec, message, mti_at, index)?;
        body(self.spec, self.check, message, index)?;
        // Only a good message makes a plan.
        if is_whole {
            self.plans.note(self.spec, message, index);
        }
        Ok(())
    }
}

/// Reads a message without any plan: the general path, and the reference of what plans do.
///
/// # Errors
/// What is wrong first, with field and offset.
pub fn decode<'m>(
    spec: &'m Spec,
    check: Check,
    message: &'m [u8],
    index: &'m mut Index,
) -> Result<View<'m>, MessageError> {
    let mti_at = start(spec, message)?;
    head(spec, message, mti_at, index)?;
    body(spec, check, message, index)?;
    Ok(View::new(spec, message, index, ()))
}

/// Where the message type begins, behind the header.
#[inline]
fn start(spec: &Spec, message: &[u8]) -> Result<usize, MessageError> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(MessageError::new(Reason::TooLong, 0, MESSAGE_BYTES_MAX));
    }
    spec.header.bytes_of(message)
}

/// Message type and the bitmaps in front. Whether no other bitmap can follow.
fn head(
    spec: &Spec,
    message: &[u8],
    mti_at: usize,
    index: &mut Index,
) -> Result<bool, MessageError> {
    let rest = message.get(mti_at..).unwrap_or_default();
    let truncated = || MessageError::new(Reason::Truncated, 0, message.len());
    let (mti, mti_bytes) = if spec.mti == Enc::Bcd {
        (Mti::from_bcd(*rest.first_chunk().ok_or_else(truncated)?), 2)
    } else {
        (Mti::from_text(spec.text, *rest.first_chunk().ok_or_else(truncated)?), 4)
    };
    index.mti = Some(mti.ok_or_else(|| MessageError::new(Reason::Mti, 0, mti_at))?);
    index.mti_at = mti_at;
    let mut at = mti_at + mti_bytes;
    index.bitmap_at = at;
    let mut words = [0; 3];
    for (number, word) in words.iter_mut().enumerate() {
        *word = read_bitmap(spec, message, at, 0)?;
        at += spec.bitmap_bytes();
        let more = *word >> 63 == 1;
        let follows = number == 0 || spec.tertiary == Tertiary::Follows;
        if !(more && follows) || number == 2 {
            break;
        }
    }
    let [first, second, third] = &mut words;
    *first &= u64::MAX >> 1;
    // Field 65 is a field like others where it announces nothing.
    match spec.tertiary {
        Tertiary::Follows => *second &= u64::MAX >> 1,
        Tertiary::None | Tertiary::Field65 => {}
    }
    if *third >> 63 == 1 && spec.tertiary == Tertiary::Follows {
        // Field 129 would announce a fourth bitmap, which no message has.
        return Err(MessageError::new(Reason::Bitmap, 129, at - spec.bitmap_bytes()));
    }
    index.present = Present(words);
    index.body_at = at;
    Ok(!(spec.tertiary == Tertiary::Field65 && index.present.has(65)))
}

#[inline]
fn read_bitmap(spec: &Spec, message: &[u8], at: usize, field: u8) -> Result<u64, MessageError> {
    let rest = message.get(at..).unwrap_or_default();
    let truncated = || MessageError::new(Reason::Truncated, field, message.len());
    if !spec.bitmap_hex {
        return Ok(bitmap::read_binary(*rest.first_chunk().ok_or_else(truncated)?));
    }
    let characters = rest.first_chunk().ok_or_else(truncated)?;
    let wrong = || MessageError::new(Reason::Bitmap, field, at);
    bitmap::read_hex(characters, spec.text).ok_or_else(wrong)
}

/// Walks the fields.
fn body(spec: &Spec, check: Check, message: &[u8], index: &mut Index) -> Result<(), MessageError> {
    let mut at = index.body_at;
    let has_65 = spec.tertiary == Tertiary::Field65 && index.present.has(65);
    let mut slots = index.slots.iter_mut();
    let walk = |number: u8, at: &mut usize| {
        let op = spec.ops.get(usize::from(number)).unwrap_or(&Op::NONE);
        take(spec, op, number, check, message, at)
    };
    if !has_65 {
        for (number, to) in index.present.iter().zip(slots.by_ref()) {
            *to = walk(number, &mut at)?;
        }
        return end(message, at);
    }
    for number in index.present.iter().take_while(|number| *number < 65) {
        if let Some(to) = slots.next() {
            *to = walk(number, &mut at)?;
        }
    }
    // The third bitmap stands where field 65 has its place.
    let third = read_bitmap(spec, message, at, 65)?;
    if let Some(to) = slots.next() {
        *to = slot(at, spec.bitmap_bytes());
    }
    at += spec.bitmap_bytes();
    let Present([_, _, word]) = &mut index.present;
    *word = third;
    for (number, to) in index.present.iter().filter(|number| *number > 65).zip(slots) {
        *to = walk(number, &mut at)?;
    }
    end(message, at)
}

fn end(message: &[u8], at: usize) -> Result<(), MessageError> {
    if at < message.len() { Err(MessageError::new(Reason::Trailing, 0, at)) } else { Ok(()) }
}

/// One field: its slot, and `at` behind it.
#[inline(always)]
pub(super) fn take(
    spec: &Spec,
    op: &Op,
    number: u8,
    check: Check,
    message: &[u8],
    at: &mut usize,
) -> Result<u32, MessageError> {
    if let Some((prefix, bytes)) = op.glance(check, message.get(*at..).unwrap_or_default()) {
        let start = *at + prefix;
        *at = start + bytes;
        return Ok(slot(start, bytes));
    }
    take_by_rule(spec, number, check, message, at)
}

/// What is not good at a glance. It may be good all the same.
#[inline(never)]
fn take_by_rule(
    spec: &Spec,
    number: u8,
    check: Check,
    message: &[u8],
    at: &mut usize,
) -> Result<u32, MessageError> {
    let field = spec.field(number);
    let field = field.ok_or_else(|| MessageError::new(Reason::UnknownField, number, *at))?;
    step(field, number, check, message, at)
}

/// One field by its rule.
pub(super) fn step(
    field: &Field,
    number: u8,
    check: Check,
    message: &[u8],
    at: &mut usize,
) -> Result<u32, MessageError> {
    let rest = message.get(*at..).unwrap_or_default();
    let extent = extent(&field.rule, rest).map_err(|reason| {
        // What is cut ends where the message ends.
        let offset = if reason == Reason::Truncated { message.len() } else { *at };
        MessageError::new(reason, number, offset)
    })?;
    let start = *at + extent.prefix;
    if check == Check::Strict {
        let value = rest.get(extent.prefix..extent.prefix + extent.bytes).unwrap_or_default();
        if let Some(wrong) = first_wrong(&field.rule, extent.count, value) {
            return Err(MessageError::new(Reason::Characters, number, start + wrong));
        }
        look_inside(field, number, value, start)?;
    }
    *at = start + extent.bytes;
    Ok(slot(start, extent.bytes))
}

/// Objects or parts.
fn look_inside(field: &Field, number: u8, value: &[u8], start: usize) -> Result<(), MessageError> {
    let moved = |wrong: MessageError| {
        let inside = usize::try_from(wrong.offset).unwrap_or(usize::MAX);
        MessageError::new(wrong.reason, number, start.saturating_add(inside))
    };
    match (field.rule.kind, &field.parts) {
        (Kind::Tlv, _) => tlv::check(value).map_err(moved),
        (Kind::Composite, Some(parts)) => parts::check(parts, value).map_err(moved),
        _ => Ok(()),
    }
}
