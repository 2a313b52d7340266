//! Numbers and literals.

use moat_model::limit::JSON_SCALAR_BYTES_MAX;

use super::buffer::Kind;
use super::{Cursor, Machine, Sink, State};
use crate::error::{MaskError, Syntax};

/// Where in a number the machine stands (RFC 8259 §6).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

impl Number {
    /// The state after the first byte of a number.
    pub(super) fn first(byte: u8) -> Option<Number> {
        match byte {
            b'-' => Some(Number::Minus),
            b'0' => Some(Number::Zero),
            b'1'..=b'9' => Some(Number::Integer),
            _ => None,
        }
    }

    /// The state after `byte`, if the number goes on with it.
    fn next(self, byte: u8) -> Option<Number> {
        use Number::{
            Exponent, ExponentDigits, ExponentSign, Fraction, Integer, Minus, Point, Zero,
        };
        match (self, byte) {
            (Minus, b'0') => Some(Zero),
            (Minus, b'1'..=b'9') | (Integer, b'0'..=b'9') => Some(Integer),
            (Zero | Integer, b'.') => Some(Point),
            (Point | Fraction, b'0'..=b'9') => Some(Fraction),
            (Zero | Integer | Fraction, b'e' | b'E') => Some(Exponent),
            (Exponent, b'+' | b'-') => Some(ExponentSign),
            (Exponent | ExponentSign | ExponentDigits, b'0'..=b'9') => Some(ExponentDigits),
            _ => None,
        }
    }

    /// Whether a number may end here.
    pub(super) fn complete(self) -> bool {
        matches!(self, Number::Zero | Number::Integer | Number::Fraction | Number::ExponentDigits)
    }
}

/// One of the three literals.
#[derive(Clone, Copy)]
pub(super) struct Literal {
    word: &'static [u8],
    kind: Kind,
    read: usize,
}

impl Literal {
    pub(super) fn first(byte: u8) -> Option<Literal> {
        let (word, kind): (&'static [u8], _) = match byte {
            b't' => (b"true", Kind::Bool(true)),
            b'f' => (b"false", Kind::Bool(false)),
            b'n' => (b"null", Kind::Null),
            _ => return None,
        };
        Some(Literal { word, kind, read: 1 })
    }
}

impl Machine {
    pub(super) fn number<S: Sink>(
        &mut self,
        cur: &mut Cursor<'_, S>,
        number: Number,
    ) -> Result<(), MaskError> {
        self.number_from(cur, number, None)
    }

    /// Reads on in a number. `start` is its first byte, if that stands in this chunk.
    pub(super) fn number_from<S: Sink>(
        &mut self,
        cur: &mut Cursor<'_, S>,
        mut number: Number,
        start: Option<usize>,
    ) -> Result<(), MaskError> {
        let from = start.unwrap_or(cur.at);
        let mut taken = 0;
        for byte in cur.rest() {
            let Some(next) = number.next(*byte) else { break };
            number = next;
            taken += 1;
        }
        cur.at += taken;
        let read = cur.chunk.get(from..cur.at).unwrap_or(&[]);
        let ended = cur.at < cur.chunk.len();
        let whole = start.filter(|_| ended && read.len() <= JSON_SCALAR_BYTES_MAX);
        let whole = whole.and_then(|_| core::str::from_utf8(read).ok());
        if self.collecting && whole.is_none() {
            self.scalar.plain(read);
        }
        if !ended {
            self.state = State::Number(number);
            return Ok(());
        }
        if !number.complete() || cur.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return Err(self.wrong(cur, Syntax::Number));
        }
        self.end_scalar(cur, Kind::Number, whole)
    }

    pub(super) fn literal<S: Sink>(
        &mut self,
        cur: &mut Cursor<'_, S>,
        mut literal: Literal,
    ) -> Result<(), MaskError> {
        while let (Some(wanted), Some(byte)) = (literal.word.get(literal.read), cur.peek()) {
            if byte != *wanted {
                return Err(self.wrong(cur, Syntax::Literal));
            }
            literal.read += 1;
            cur.at += 1;
        }
        if literal.read < literal.word.len() {
            self.state = State::Literal(literal);
            return Ok(());
        }
        if self.collecting {
            self.scalar.spelling(literal.word.len());
        }
        self.end_scalar(cur, literal.kind, None)
    }
}
