//! Framing: the length that stands before each message on a connection.

use crate::error::{MessageError, Reason};
use crate::limit::MESSAGE_BYTES_MAX;

/// How the length is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LengthForm {
    /// Two bytes, the greater first.
    Binary2,
    /// Four bytes, the greatest first.
    Binary4,
    /// Four ASCII digits.
    Ascii4,
    /// Four digits in two bytes.
    Bcd2,
}

/// A framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// How the length is written.
    pub form: LengthForm,
    /// Whether the length counts its own bytes.
    pub includes_itself: bool,
}

/// One message cut out of what was received.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The message; empty in a frame of length zero, by which some networks keep a connection up.
    pub message: &'a [u8],
    /// How many bytes the frame takes, its length included.
    pub used: usize,
}

impl Framing {
    /// How many bytes the length takes.
    #[must_use]
    pub const fn prefix_bytes(self) -> usize {
        match self.form {
            LengthForm::Binary2 | LengthForm::Bcd2 => 2,
            LengthForm::Binary4 | LengthForm::Ascii4 => 4,
        }
    }

    /// Longest message that the framing can carry, in bytes.
    #[must_use]
    pub const fn message_bytes_max(self) -> usize {
        let written = match self.form {
            LengthForm::Binary2 | LengthForm::Binary4 => MESSAGE_BYTES_MAX,
            LengthForm::Ascii4 | LengthForm::Bcd2 => 9_999,
        };
        match (self.includes_itself, self.form) {
            // Four bytes can say more than a message may have.
            (false, _) | (true, LengthForm::Binary4) => written,
            (true, _) => written.saturating_sub(self.prefix_bytes()),
        }
    }

    /// The first frame of `received`; `None` while it is not whole.
    ///
    /// # Errors
    /// As soon as the length is there and is no number, below its own size or above the maximum,
    /// so that nobody waits for such a message.
    pub fn take(self, received: &[u8]) -> Result<Option<Frame<'_>>, MessageError> {
        let Some((prefix, rest)) = received.split_at_checked(self.prefix_bytes()) else {
            return Ok(None);
        };
        let wrong = |reason| MessageError::new(reason, 0, 0);
        let declared = self.read(prefix).ok_or_else(|| wrong(Reason::FrameLength))?;
        let itself = if self.includes_itself { prefix.len() } else { 0 };
        let bytes = declared.checked_sub(itself).ok_or_else(|| wrong(Reason::FrameLength))?;
        if bytes > MESSAGE_BYTES_MAX {
            return Err(wrong(Reason::TooLong));
        }
        Ok(rest.get(..bytes).map(|message| Frame { message, used: prefix.len() + bytes }))
    }

    /// Appends a frame with `message` to `out`.
    ///
    /// # Errors
    /// When the message is longer than the framing can say; `out` is as before.
    pub fn put(self, message: &[u8], out: &mut Vec<u8>) -> Result<(), MessageError> {
        let too_long = || MessageError::new(Reason::TooLong, 0, 0);
        if message.len() > self.message_bytes_max() {
            return Err(too_long());
        }
        let itself = if self.includes_itself { self.prefix_bytes() } else { 0 };
        let declared = u32::try_from(message.len() + itself).map_err(|_| too_long())?;
        let [_, _, high, low] = declared.to_be_bytes();
        let digits = digits(declared);
        match self.form {
            LengthForm::Binary2 => out.extend_from_slice(&[high, low]),
            LengthForm::Binary4 => out.extend_from_slice(&declared.to_be_bytes()),
            LengthForm::Ascii4 => out.extend(digits.map(|digit| b'0' + digit)),
            LengthForm::Bcd2 => {
                let [a, b, c, d] = digits;
                out.extend_from_slice(&[a << 4 | b, c << 4 | d]);
            }
        }
        out.extend_from_slice(message);
        Ok(())
    }

    fn read(self, prefix: &[u8]) -> Option<usize> {
        let base = if self.form == LengthForm::Bcd2 { 100 } else { 256 };
        prefix.iter().try_fold(0_usize, |number, byte| {
            let (base, digit) = match self.form {
                LengthForm::Binary2 | LengthForm::Binary4 => (base, usize::from(*byte)),
                LengthForm::Ascii4 => {
                    (10, usize::from(byte.checked_sub(b'0').filter(|d| *d <= 9)?))
                }
                LengthForm::Bcd2 => {
                    let (tens, ones) = (byte >> 4, byte & 0x0f);
                    (base, (tens <= 9 && ones <= 9).then(|| usize::from(tens * 10 + ones))?)
                }
            };
            number.checked_mul(base)?.checked_add(digit)
        })
    }
}

/// The last four decimal digits.
fn digits(number: u32) -> [u8; 4] {
    [1_000, 100, 10, 1].map(|unit| u8::try_from(number / unit % 10).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMS: [LengthForm; 4] =
        [LengthForm::Binary2, LengthForm::Binary4, LengthForm::Ascii4, LengthForm::Bcd2];

    fn every() -> impl Iterator<Item = Framing> {
        FORMS
            .into_iter()
            .flat_map(|form| [false, true].map(|includes_itself| Framing { form, includes_itself }))
    }

    #[test]
    fn what_is_put_is_taken_and_never_before_it_is_whole() {
        for framing in every() {
            for length in [0, 1, 99, 100, 255, 256, framing.message_bytes_max()] {
                let message = vec![0x30; length];
                let mut out = Vec::new();
                framing.put(&message, &mut out).expect("it fits");
                for cut in [0, 1, framing.prefix_bytes(), out.len().saturating_sub(1)] {
                    if cut < out.len() {
                        assert!(framing.take(&out[..cut]) == Ok(None), "{framing:?} {cut}");
                    }
                }
                let used = out.len();
                out.extend_from_slice(b"next");
                let taken = framing.take(&out).expect("a length").expect("whole");
                assert!(taken.message == message && taken.used == used, "{framing:?} {length}");
            }
        }
    }

    #[test]
    fn a_message_that_the_length_cannot_say_is_not_put() {
        for framing in every() {
            let mut out = vec![7];
            let long = vec![0; framing.message_bytes_max() + 1];
            let wrong = framing.put(&long, &mut out).expect_err("too long");
            assert_eq!((wrong.reason, out.len()), (Reason::TooLong, 1));
        }
    }

    #[test]
    fn lengths_that_are_none_are_refused_before_the_message_comes() {
        for (form, itself, prefix, reason) in [
            (LengthForm::Ascii4, false, &b"00 9"[..], Reason::FrameLength),
            (LengthForm::Ascii4, true, b"0003", Reason::FrameLength),
            (LengthForm::Bcd2, false, b"\x0a\x00", Reason::FrameLength),
            (LengthForm::Bcd2, false, b"\x00\xf0", Reason::FrameLength),
            (LengthForm::Binary2, true, b"\x00\x01", Reason::FrameLength),
            (LengthForm::Binary4, false, b"\x00\x01\x00\x00", Reason::TooLong),
            (LengthForm::Binary4, false, b"\xff\xff\xff\xff", Reason::TooLong),
        ] {
            let framing = Framing { form, includes_itself: itself };
            let wrong = framing.take(prefix).err().map(|wrong| wrong.reason);
            assert_eq!(wrong, Some(reason), "{framing:?}");
        }
    }
}
