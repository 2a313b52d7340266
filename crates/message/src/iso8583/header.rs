//! What stands before the message type: nothing, a TPDU, the header of a switch.

use crate::error::{MessageError, Reason};
use crate::spec::Header;

/// Bytes of the header of Chinese card switching; its first byte says so.
const SWITCH_BYTES: usize = 46;
/// Its version and the total length as four digits after that.
const SWITCH_VERSION: u8 = 0x82;

impl Header {
    /// How many bytes of `message` are the header.
    ///
    /// # Errors
    /// When it is not whole, or is not what it should be.
    #[inline]
    pub(crate) fn bytes_of(self, message: &[u8]) -> Result<usize, MessageError> {
        let wrong = |reason, at| MessageError::new(reason, 0, at);
        let bytes = match self {
            Header::None => return Ok(0),
            Header::Tpdu => {
                if message.first().is_some_and(|first| *first != 0x60) {
                    return Err(wrong(Reason::Header, 0));
                }
                5
            }
            Header::Switch46 => {
                check_switch(message)?;
                SWITCH_BYTES
            }
            Header::Counted => match message.first() {
                Some(0) => return Err(wrong(Reason::Header, 0)),
                Some(bytes) => usize::from(*bytes),
                None => 1,
            },
        };
        if message.len() < bytes {
            return Err(wrong(Reason::Truncated, message.len()));
        }
        Ok(bytes)
    }

    /// Turns a header round, for the answer: destination and source change places. An opaque one
    /// stays as it is. Nothing happens to what is no header.
    pub fn turn(self, header: &mut [u8]) {
        match (self, header) {
            (Header::Tpdu, [_, a, b, c, d]) => {
                core::mem::swap(a, c);
                core::mem::swap(b, d);
            }
            (Header::Switch46, header) => {
                if let Some(ids) = header.get_mut(6..28) {
                    ids.rotate_left(11);
                }
            }
            _ => {}
        }
    }

    /// Writes the length of the whole message, header included, where the header has it.
    pub(crate) fn set_total(self, message: &mut [u8], start: usize) {
        let total = message.len().saturating_sub(start);
        if self != Header::Switch46 {
            return;
        }
        let digits = [1_000, 100, 10, 1].map(|unit| u8::try_from(total / unit % 10).unwrap_or(0));
        if let Some(place) = message.get_mut(start + 2..start + 6) {
            for (to, digit) in place.iter_mut().zip(digits) {
                *to = b'0' + digit;
            }
        }
    }
}

fn check_switch(message: &[u8]) -> Result<(), MessageError> {
    let wrong = |reason, at| MessageError::new(reason, 0, at);
    let Some((head, _)) = message.split_first_chunk::<6>() else {
        return Err(wrong(Reason::Truncated, message.len()));
    };
    let [bytes, version, digits @ ..] = head;
    if usize::from(*bytes) != SWITCH_BYTES {
        return Err(wrong(Reason::Header, 0));
    }
    if *version != SWITCH_VERSION {
        return Err(wrong(Reason::Header, 1));
    }
    let total = digits.iter().try_fold(0_usize, |total, digit| {
        digit.is_ascii_digit().then(|| total * 10 + usize::from(digit - b'0'))
    });
    if total != Some(message.len()) {
        return Err(wrong(Reason::Header, 2));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn switch(total: &str) -> Vec<u8> {
        let mut header = vec![0x2e, 0x82];
        header.extend_from_slice(total.as_bytes());
        header.extend_from_slice(b"00010000   ");
        header.extend_from_slice(b"01020000   ");
        header.extend_from_slice(&[0; 3]);
        header.extend_from_slice(b"0");
        header.extend_from_slice(b"00000000");
        header.extend_from_slice(b"0");
        header.extend_from_slice(b"00000");
        header
    }

    #[test]
    fn headers_are_as_long_as_they_say_and_whole() {
        assert_eq!(Header::Tpdu.bytes_of(&[0x60, 0, 1, 0, 2, 9]), Ok(5));
        assert_eq!(Header::Counted.bytes_of(&[3, 1, 1, 9]), Ok(3));
        assert_eq!(Header::Switch46.bytes_of(&switch("0046")), Ok(46));
        for (header, bytes, reason) in [
            (Header::Tpdu, vec![0x61, 0, 1, 0, 2], Reason::Header),
            (Header::Tpdu, vec![0x60, 0, 1, 0], Reason::Truncated),
            (Header::Counted, vec![0, 1], Reason::Header),
            (Header::Counted, vec![9, 1], Reason::Truncated),
            (Header::Counted, vec![], Reason::Truncated),
            (Header::Switch46, switch("0045"), Reason::Header),
            (Header::Switch46, switch("00-6"), Reason::Header),
            (Header::Switch46, vec![0x2e, 0x82, b'0'], Reason::Truncated),
        ] {
            assert_eq!(header.bytes_of(&bytes).unwrap_err().reason, reason, "{header:?}");
        }
    }

    #[test]
    fn an_answer_goes_back_to_where_the_request_came_from() {
        let mut tpdu = [0x60, 0, 1, 0, 2];
        Header::Tpdu.turn(&mut tpdu);
        assert_eq!(tpdu, [0x60, 0, 2, 0, 1]);
        let mut header = switch("0046");
        Header::Switch46.turn(&mut header);
        assert_eq!(&header[6..28], b"01020000   00010000   ");
        Header::Switch46.turn(&mut header);
        assert_eq!(header, switch("0046"));
        header.extend_from_slice(b"0800");
        Header::Switch46.set_total(&mut header, 0);
        assert_eq!(&header[2..6], b"0050");
    }
}
