//! A message to be written: from nothing, or from a view with a few fields changed. What is not
//! touched is copied as bytes.

use core::ops::Range;

use zeroize::Zeroizing;

use super::bitmap::{self, Present};
use super::mti::Mti;
use super::observe::{FieldRef, Observer};
use super::value::{from_text, put};
use super::view::View;
use crate::ebcdic;
use crate::error::{MessageError, Reason};
use crate::limit::{FIELD_MAX, MESSAGE_BYTES_MAX};
use crate::spec::{Enc, Kind, Spec, Tertiary};

/// Where the bytes of a field are, with its length in front.
#[derive(Clone)]
enum Span {
    Nowhere,
    /// In the message that was read.
    There(Range<usize>),
    /// Among those that were set.
    Here(Range<usize>),
}

/// A message to be written.
pub struct Draft<'m, O = ()> {
    spec: &'m Spec,
    mti: Mti,
    header: Vec<u8>,
    source: &'m [u8],
    /// Bitmaps as they were sent, and which fields they name.
    bitmaps: &'m [u8],
    before: Present,
    present: Present,
    spans: Vec<Span>,
    /// Values that were set. May be card numbers: wiped when dropped.
    set: Zeroizing<Vec<u8>>,
    observer: O,
}

impl<'m> Draft<'m> {
    /// A message without fields.
    #[must_use]
    pub fn new(spec: &'m Spec, mti: Mti) -> Draft<'m> {
        Draft {
            spec,
            mti,
            header: Vec::new(),
            source: &[],
            bitmaps: &[],
            before: Present::default(),
            present: Present::default(),
            spans: vec![Span::Nowhere; usize::from(FIELD_MAX) + 1],
            set: Zeroizing::new(Vec::new()),
            observer: (),
        }
    }
}

impl<'m, O: Observer> Draft<'m, O> {
    /// The message of a view, and its observer.
    #[must_use]
    pub fn of(view: View<'m, O>) -> Draft<'m, O> {
        let mut spans = vec![Span::Nowhere; usize::from(FIELD_MAX) + 1];
        for number in view.present().iter() {
            if let (Some((whole, _)), Some(span)) =
                (view.span(number), spans.get_mut(usize::from(number)))
            {
                *span = Span::There(whole);
            }
        }
        Draft {
            spec: view.spec(),
            mti: view.mti(),
            header: view.header().to_vec(),
            source: view.message(),
            bitmaps: view.bitmaps(),
            before: view.present(),
            present: view.present(),
            spans,
            set: Zeroizing::new(Vec::new()),
            observer: view.observer,
        }
    }

    /// Sets the message type.
    pub fn set_mti(&mut self, mti: Mti) {
        self.mti = mti;
    }

    /// Sets what stands before the message type. The length in the header of a switch is written
    /// by [`Draft::write`].
    pub fn set_header(&mut self, header: &[u8]) {
        self.header.clear();
        self.header.extend_from_slice(header);
    }

    /// Turns the header round, for an answer.
    pub fn turn_header(&mut self) {
        self.spec.header.turn(&mut self.header);
    }

    /// Sets a field from its text: characters and digits as such, bytes in hexadecimal.
    ///
    /// # Errors
    /// When the spec has no such field, or the text does not fit it; nothing changes then.
    pub fn set_text(&mut self, number: u8, text: &str) -> Result<(), MessageError> {
        self.set(number, |spec, out| {
            let field = spec.field(number).ok_or(Reason::UnknownField)?;
            from_text(&field.rule, text, out)
        })
    }

    /// Sets a field from the bytes of its value, as they are to be sent. In half bytes an even
    /// number of digits is taken, unless the field has a fixed length.
    ///
    /// # Errors
    /// When the spec has no such field, or the bytes do not fit it; nothing changes then.
    pub fn set_bytes(&mut self, number: u8, bytes: &[u8]) -> Result<(), MessageError> {
        self.set(number, |spec, out| {
            let field = spec.field(number).ok_or(Reason::UnknownField)?;
            let units = match (field.rule.enc, field.rule.length) {
                (Enc::Bcd, crate::spec::Length::Fixed { count, .. }) => usize::from(count),
                (Enc::Bcd, _) => bytes.len() * 2,
                (Enc::Hex(_), _) => bytes.len() / 2,
                _ => bytes.len(),
            };
            put(&field.rule, units, bytes, out)
        })
    }

    fn set(
        &mut self,
        number: u8,
        write: impl FnOnce(&Spec, &mut Vec<u8>) -> Result<(), Reason>,
    ) -> Result<(), MessageError> {
        if self.spec.is_bitmap(number) {
            return Err(MessageError::new(Reason::Reserved, number, 0));
        }
        let start = self.set.len();
        let mut written = write(self.spec, &mut self.set);
        if written.is_ok() {
            written = self.look_inside(number, start);
        }
        if let Err(reason) = written {
            self.set.truncate(start);
            return Err(MessageError::new(reason, number, 0));
        }
        let end = self.set.len();
        if let Some(span) = self.spans.get_mut(usize::from(number)) {
            *span = Span::Here(start..end);
        }
        self.present.set(number, true);
        self.tell(number, end - start);
        Ok(())
    }

    /// What was written must be read again: objects and parts are looked at too.
    fn look_inside(&self, number: u8, start: usize) -> Result<(), Reason> {
        let field = self.spec.field(number).ok_or(Reason::UnknownField)?;
        if !matches!(field.kind(), Kind::Tlv | Kind::Composite) {
            return Ok(());
        }
        let written = self.set.get(start..).unwrap_or_default();
        let (check, mut at) = (super::decode::Check::Strict, 0);
        super::decode::step(field, number, check, written, &mut at)
            .map_err(|wrong| wrong.reason)?;
        Ok(())
    }

    /// Takes a field out.
    pub fn remove(&mut self, number: u8) {
        if self.spec.is_bitmap(number) || !self.present.has(number) {
            return;
        }
        if let Some(span) = self.spans.get_mut(usize::from(number)) {
            *span = Span::Nowhere;
        }
        self.present.set(number, false);
        self.tell(number, 0);
    }

    fn tell(&mut self, number: u8, bytes: usize) {
        let class = self.spec.field(number).map_or(moat_model::Class::C2, |field| field.class());
        let length = u16::try_from(bytes).unwrap_or(u16::MAX);
        let stage = moat_model::Stage::Forward;
        self.observer.changed(FieldRef { id: number, class, offset: 0, length, stage });
    }

    /// The observer, with what it saw.
    #[must_use]
    pub fn into_observer(self) -> O {
        self.observer
    }

    /// Appends the message to `out`.
    ///
    /// # Errors
    /// When it is longer than a message may be, or its header is not that of the spec; `out` is as
    /// before.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), MessageError> {
        let start = out.len();
        let written = self.write_all(start, out);
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    fn write_all(&self, start: usize, out: &mut Vec<u8>) -> Result<(), MessageError> {
        out.extend_from_slice(&self.header);
        match self.spec.mti {
            Enc::Bcd => out.extend_from_slice(&self.mti.to_bcd()),
            _ => {
                let write = |d| self.spec.text.map_or(d, |page| ebcdic::from_ascii(page, d));
                out.extend(self.mti.digits().map(write));
            }
        }
        let present = self.named();
        let is_same = !self.bitmaps.is_empty() && present == self.before;
        if is_same {
            out.extend_from_slice(self.bitmaps);
        } else {
            self.write_bitmaps(present, out);
        }
        for number in present.iter() {
            let bytes = match self.spans.get(usize::from(number)) {
                Some(Span::There(range)) if is_same || !self.spec.is_bitmap(number) => {
                    self.source.get(range.clone())
                }
                Some(Span::Here(range)) => self.set.get(range.clone()),
                _ => None,
            };
            match bytes {
                Some(bytes) => out.extend_from_slice(bytes),
                // Only the third bitmap has no bytes of its own.
                None => self.write_bitmap(present.0[2], out),
            }
        }
        let too_long = || MessageError::new(Reason::TooLong, 0, MESSAGE_BYTES_MAX);
        if out.len() - start > MESSAGE_BYTES_MAX {
            return Err(too_long());
        }
        self.spec.header.set_total(out, start);
        let message = out.get(start..).unwrap_or_default();
        let header = self.spec.header.bytes_of(message)?;
        if header != self.header.len() {
            return Err(MessageError::new(Reason::Header, 0, 0));
        }
        Ok(())
    }

    /// The fields, and field 65 where it announces others.
    fn named(&self) -> Present {
        let mut present = self.present;
        if self.spec.tertiary == Tertiary::Field65 && present != self.before {
            present.set(65, present.0[2] != 0);
        }
        present
    }

    fn write_bitmaps(&self, present: Present, out: &mut Vec<u8>) {
        let [first, mut second, third] = present.0;
        let follows = self.spec.tertiary == Tertiary::Follows;
        let bytes = self.spec.bitmap_bytes();
        // A bitmap that was sent empty stays: its absence would say something else to nobody, but
        // its presence did.
        let third_there = follows && (third != 0 || self.bitmaps.len() > 2 * bytes);
        let second_there = second != 0 || third_there || self.bitmaps.len() > bytes;
        if third_there {
            second |= 1 << 63;
        }
        self.write_bitmap(first | u64::from(second_there) << 63, out);
        if second_there {
            self.write_bitmap(second, out);
        }
        if third_there {
            self.write_bitmap(third, out);
        }
    }

    fn write_bitmap(&self, word: u64, out: &mut Vec<u8>) {
        bitmap::write(word, self.spec.bitmap_hex, self.spec.text, out);
    }
}
