//! A message as a view: the caller's bytes and an index. Values are decoded when they are asked for.

use core::fmt;

use moat_audit::anchor::Canonical;
use moat_mask::view::{Declared, PolicyView, policy};
use moat_mask::{Scalar, fixed};
use moat_model::{Class, Stage};
use zeroize::Zeroizing;

use super::bitmap::Present;
use super::index::Index;
use super::mti::Mti;
use super::observe::{FieldRef, Observer};
use super::value::{extent, to_text};
use crate::amount::Decimal;
use crate::error::{MessageError, Reason};
use crate::spec::{Field, Kind, Length, Rule, Spec};

/// A message that was read.
pub struct View<'m, O = ()> {
    spec: &'m Spec,
    message: &'m [u8],
    index: &'m Index,
    stage: Stage,
    pub(super) observer: O,
}

impl<'m, O: Observer> View<'m, O> {
    #[inline]
    pub(super) fn new(
        spec: &'m Spec,
        message: &'m [u8],
        index: &'m Index,
        mut observer: O,
    ) -> View<'m, O> {
        observer.parsed(index.present);
        View { spec, message, index, stage: Stage::Decode, observer }
    }

    /// From now on, what is read is read in this stage.
    pub fn enter(&mut self, stage: Stage) {
        self.stage = stage;
    }

    /// The spec it was read by.
    #[must_use]
    pub fn spec(&self) -> &'m Spec {
        self.spec
    }

    /// The whole message, as it came, for passing it on. Holds every value in clear.
    #[must_use]
    pub fn message(&self) -> &'m [u8] {
        self.message
    }

    /// What stands before the message type.
    #[must_use]
    pub fn header(&self) -> &'m [u8] {
        self.message.get(..self.index.mti_at).unwrap_or_default()
    }

    /// Message type and bitmaps as they were sent.
    pub(super) fn bitmaps(&self) -> &'m [u8] {
        self.message.get(self.index.bitmap_at..self.index.body_at).unwrap_or_default()
    }

    /// The message type.
    #[must_use]
    pub fn mti(&self) -> Mti {
        // Set by every decoding that succeeds, and a view is made by no other.
        self.index.mti.unwrap_or(Mti::ZERO)
    }

    /// The fields that are there.
    #[must_use]
    pub fn present(&self) -> Present {
        self.index.present
    }

    /// Everything of a field but its bytes; `None` when it is not there.
    #[must_use]
    pub fn find(&self, number: u8) -> Option<FieldRef> {
        let (offset, bytes) = self.index.find(number)?;
        let narrow = |value| u16::try_from(value).unwrap_or(u16::MAX);
        let class = self.spec.field(number).map_or(Class::C2, Field::class);
        let (offset, length) = (narrow(offset), narrow(bytes));
        Some(FieldRef { id: number, class, offset, length, stage: self.stage })
    }

    /// Every field that is there.
    pub fn fields(&self) -> impl Iterator<Item = FieldRef> {
        self.index.present.iter().filter_map(|number| self.find(number))
    }

    /// The bytes of a field with its length in front, and those of the value alone.
    pub(super) fn span(&self, number: u8) -> Option<(core::ops::Range<usize>, &'m [u8])> {
        let (offset, bytes) = self.index.find(number)?;
        let field = self.spec.field(number);
        let prefix = field.map_or(0, |field| match field.rule.length {
            Length::Fixed { .. } => 0,
            Length::Variable { prefix_bytes, .. } => usize::from(prefix_bytes),
        });
        let end = offset.checked_add(bytes)?;
        Some((offset.checked_sub(prefix)?..end, self.message.get(offset..end)?))
    }

    /// The value of a field; `None` when it is not there. An empty value is there.
    #[inline]
    pub fn read(&mut self, number: u8) -> Option<Read<'m>> {
        let found = self.find(number)?;
        let field = self.spec.field(number)?;
        let (whole, bytes) = self.span(number)?;
        let extent = extent(&field.rule, self.message.get(whole)?).ok()?;
        self.observer.read(found);
        let value = Value { field, count: extent.count, bytes };
        Some(match field.class {
            Class::C1 | Class::C2 => Read::Clear(value),
            Class::Pan | Class::C3 | Class::Sad => Read::Guarded(Guarded { value }),
        })
    }
}

/// A value, or what may be known of one.
pub enum Read<'m> {
    /// Of class C1 or C2.
    Clear(Value<'m>),
    /// Of class C3, PAN or SAD.
    Guarded(Guarded<'m>),
}

/// A value of class C1 or C2.
#[derive(Clone, Copy)]
pub struct Value<'m> {
    pub(super) field: &'m Field,
    pub(super) count: usize,
    pub(super) bytes: &'m [u8],
}

impl<'m> Value<'m> {
    /// Its field in the spec.
    #[must_use]
    pub fn field(&self) -> &'m Field {
        self.field
    }

    /// As it was sent, without its length.
    #[must_use]
    pub fn bytes(&self) -> &'m [u8] {
        self.bytes
    }

    fn rule(&self) -> &'m Rule {
        &self.field.rule
    }

    /// Appends the value as text: characters and digits as such, bytes in hexadecimal.
    ///
    /// # Errors
    /// When no text stands for exactly these bytes; `out` is as before.
    pub fn text(&self, out: &mut String) -> Result<(), MessageError> {
        let wrong = || MessageError::new(Reason::Characters, 0, 0);
        to_text(self.rule(), self.count, self.bytes, out).ok_or_else(wrong)
    }

    fn clear(&self) -> Option<Zeroizing<String>> {
        let mut text = Zeroizing::new(String::with_capacity(self.bytes.len() * 2));
        self.text(&mut text).ok()?;
        Some(text)
    }

    /// The amount in a field of digits, with so many decimals: those of the spec, or else those of
    /// the currency, which the caller knows from its own field.
    ///
    /// # Errors
    /// When it is no field of digits, or too many of them.
    pub fn amount(&self, decimals: u8) -> Result<Decimal, MessageError> {
        let wrong = MessageError::new(Reason::Value, 0, 0);
        if !matches!(self.field.kind(), Kind::N | Kind::Xn) {
            return Err(wrong);
        }
        let text = self.clear().ok_or(wrong)?;
        let decimals = self.field.decimals.unwrap_or(decimals);
        Decimal::from_digits(&text, decimals).ok_or(wrong)
    }

    /// The value for the record: an amount where the spec says the decimals, otherwise text, and
    /// bytes as bytes.
    #[must_use]
    pub fn canonical(&self) -> Option<Canonical> {
        if let Some(decimals) = self.field.decimals {
            return self.amount(decimals).ok()?.canonical();
        }
        match self.field.kind() {
            Kind::B | Kind::Tlv => Some(Canonical::bytes(self.bytes)),
            _ => self.clear().map(|text| Canonical::text(&text)),
        }
    }
}

/// A value that is not handed out: a card number, sensitive authentication data. What may be
/// known of it is what the methods say.
#[derive(Clone, Copy)]
pub struct Guarded<'m> {
    value: Value<'m>,
}

impl fmt::Debug for Guarded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(..)", self.class())
    }
}

impl<'m> Guarded<'m> {
    pub(super) fn new(value: Value<'m>) -> Guarded<'m> {
        Guarded { value }
    }

    /// The value, for looking at what is inside: each part has a class of its own.
    pub(super) fn inner(&self) -> Value<'m> {
        self.value
    }

    /// Its class.
    #[must_use]
    pub fn class(&self) -> Class {
        self.value.field.class
    }

    /// First six and last four digits of a card number; of anything else nothing.
    #[must_use]
    pub fn bin_and_last4(&self) -> Option<(String, String)> {
        let scalar = Scalar::Text(self.value.clear()?);
        match policy(self.class(), &scalar, Declared::No) {
            PolicyView::Card { bin, last4 } if self.class() == Class::Pan => Some((bin, last4)),
            _ => None,
        }
    }

    /// What a person may see: of a card number first six and last four (PCI DSS v4.0.1, 3.4.1), of
    /// anything else that there is a value.
    #[must_use]
    pub fn masked(&self) -> String {
        match self.bin_and_last4() {
            Some((bin, last4)) => format!("{bin}{}{last4}", fixed(self.class())),
            None => fixed(self.class()).to_owned(),
        }
    }

    /// The value for a keyed anchor; of SAD there is none (PCI DSS v4.0.1, 3.3.1).
    #[must_use]
    pub fn canonical(&self) -> Option<Canonical> {
        if self.class() == Class::Sad { None } else { self.value.canonical() }
    }

    /// Whether both are the same bytes. Takes the same time wherever they differ.
    #[must_use]
    pub fn is_same(&self, other: &Guarded<'_>) -> bool {
        let (a, b) = (self.value.bytes, other.value.bytes);
        a.len() == b.len() && a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
    }
}
