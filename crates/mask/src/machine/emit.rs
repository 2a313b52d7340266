//! What leaves the machine: forwarded bytes, masks, captures.

use moat_model::Class;
use moat_model::limit::CAPTURES_MAX;

use super::buffer::Kind;
use super::string::Reader;
use super::{Cursor, Literal, Machine, Number, Route, Sink, State};
use crate::capture::{Capture, Scalar};
use crate::error::{MaskError, Syntax};
use crate::pointer::KEY_BYTES_MAX;
use crate::strategy::{Strategy, fixed};

/// Most white space held in front of a member that may be dropped; what is beyond is let go.
const HOLD_SPACE_MAX: usize = 2048;
/// Most bytes held for such a member. A key that a rule can name takes at most 6 × 128 + 14.
const HOLD_BYTES_MAX: usize = 4096;

const _: () = assert!(HOLD_BYTES_MAX - HOLD_SPACE_MAX > 6 * KEY_BYTES_MAX + 14);

impl Machine {
    /// Sends what has been read where the route says.
    pub(super) fn flush<S: Sink>(&mut self, cur: &mut Cursor<'_, S>) {
        match self.route {
            Route::Forward => cur.out.put(cur.pending()),
            Route::Hold => {
                let in_key = matches!(self.state, State::String);
                let max = if in_key { HOLD_BYTES_MAX } else { HOLD_SPACE_MAX };
                let room = max - self.hold.len().min(max);
                let pending = cur.pending();
                self.hold.extend_from_slice(pending.get(..room).unwrap_or(pending));
            }
            Route::Discard => {}
        }
        cur.from = cur.at;
    }

    pub(super) fn begin_scalar<S: Sink>(
        &mut self,
        cur: &mut Cursor<'_, S>,
        byte: u8,
    ) -> Result<(), MaskError> {
        self.replacing = self.rewriting && self.dropping.is_none() && self.action.shown.is_some();
        self.collecting = self.replacing || self.action.captures || self.action.looks;
        if self.replacing {
            self.flush(cur);
            self.route = Route::Discard;
        }
        if byte == b'"' {
            let reader = if self.collecting { Reader::Scalar } else { Reader::Nobody };
            self.begin_string(cur, reader, false)?;
        } else if let Some(number) = Number::first(byte) {
            let start = cur.at;
            cur.at += 1;
            self.number_from(cur, number, Some(start))?;
        } else if let Some(literal) = Literal::first(byte) {
            cur.at += 1;
            self.state = State::Literal(literal);
        } else {
            let bom = byte == 0xef && self.before == 0 && cur.at == 0;
            return Err(self.wrong(cur, if bom { Syntax::ByteOrderMark } else { Syntax::Value }));
        }
        Ok(())
    }

    /// A scalar has been read; the cursor stands behind it. `whole` is its text, if it stands as it
    /// is in this chunk.
    pub(super) fn end_scalar<S: Sink>(
        &mut self,
        cur: &mut Cursor<'_, S>,
        kind: Kind,
        whole: Option<&str>,
    ) -> Result<(), MaskError> {
        if self.collecting {
            self.collecting = false;
            if core::mem::replace(&mut self.replacing, false) {
                self.write_mask(cur, kind, whole);
                cur.from = cur.at;
                self.route = Route::Forward;
            }
            if self.action.captures {
                self.capture(cur, self.scalar.value(kind, whole))?;
            }
            if self.action.looks
                && let (Some(findings), Some(text)) =
                    (&mut self.findings, whole.or_else(|| self.scalar.text()))
            {
                findings.look(&self.path, text);
            }
            if whole.is_none() {
                self.scalar.wipe();
            }
        }
        self.end_value(cur);
        Ok(())
    }

    fn write_mask<S: Sink>(&mut self, cur: &mut Cursor<'_, S>, kind: Kind, whole: Option<&str>) {
        let Some((strategy, class)) = self.action.shown else { return };
        if matches!(kind, Kind::Null) || strategy == Strategy::Null {
            return cur.out.put(b"null");
        }
        let mut shown = core::mem::take(&mut self.shown);
        shown.clear();
        let text = whole.or_else(|| self.scalar.text());
        match (kind, text) {
            (_, text) if strategy.is_keyed() => {
                let made = self.keyed(strategy, class, kind, text);
                shown.push_str(made.as_deref().unwrap_or(fixed(class)));
            }
            (Kind::Number | Kind::Text, Some(text)) => strategy.write(class, text, &mut shown),
            _ => shown.push_str(fixed(class)),
        }
        if matches!(kind, Kind::Number) && strategy.keeps_numbers() && is_number(&shown) {
            cur.out.put(shown.as_bytes());
        } else {
            cur.out.put(b"\"");
            put_escaped(&shown, cur.out);
            cur.out.put(b"\"");
        }
        self.shown = shown;
    }

    fn keyed(
        &self,
        strategy: Strategy,
        class: Class,
        kind: Kind,
        text: Option<&str>,
    ) -> Option<String> {
        let keys = self.keys.as_ref()?;
        let value = self.scalar.value(kind, text);
        match strategy {
            Strategy::HashAnchor => keys.anchor(&self.path, class, &value),
            _ => keys.token(&self.path, class, &value),
        }
    }

    fn capture<S: Sink>(&mut self, cur: &Cursor<'_, S>, value: Scalar) -> Result<(), MaskError> {
        let class = self.action.class.unwrap_or(Class::C1);
        let value = if class == Class::Sad { Scalar::Withheld } else { value };
        let ids = self.plan.capture_ids(self.set());
        if self.captures.len() + ids.len() > CAPTURES_MAX {
            return Err(MaskError::TooManyFields { offset: self.offset(cur) });
        }
        // Nearly always there is one id: it takes what was read, only further ones need copies.
        let Some((last, others)) = ids.split_last() else { return Ok(()) };
        for &id in others {
            let (pointer, value) = (self.path.clone(), value.clone());
            self.captures.push(Capture { id, pointer, class, value });
        }
        self.captures.push(Capture { id: *last, pointer: self.path.clone(), class, value });
        Ok(())
    }
}

/// Whether a text is a number as JSON spells it, without sign, point and exponent.
fn is_number(text: &str) -> bool {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits && (text == "0" || !text.starts_with('0'))
}

/// Writes the content of a JSON string (RFC 8259 §7).
pub(crate) fn put_escaped<S: Sink>(text: &str, out: &mut S) {
    let mut rest = text.as_bytes();
    while let Some(place) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)) {
        let (plain, special) = rest.split_at(place);
        out.put(plain);
        if let Some((byte, after)) = special.split_first() {
            match byte {
                b'"' => out.put(b"\\\""),
                b'\\' => out.put(b"\\\\"),
                control => out.put(format!("\\u{control:04x}").as_bytes()),
            }
            rest = after;
        }
    }
    out.put(rest);
}
