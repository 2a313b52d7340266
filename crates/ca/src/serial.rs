//! Serial numbers of certificates.

use moat_model::code::ca::NOT_ISSUED;

use crate::authority::bad;
use crate::{Error, x509};

/// RFC 5280 §4.1.2.2: bytes of a serial number.
const SERIAL_BYTES_MAX: usize = 20;

/// A certificate's number, big-endian, without leading zeros.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Serial(Vec<u8>);

impl Serial {
    /// From the content of an INTEGER.
    ///
    /// # Errors
    /// [`moat_model::code::ca::BAD_REQUEST`] if it is empty, zero, negative or longer than 20
    /// bytes.
    pub fn new(bytes: &[u8]) -> Result<Serial, Error> {
        let skip = bytes.iter().take_while(|byte| **byte == 0).count();
        let rest = bytes.get(skip..).unwrap_or_default();
        let is_negative = bytes.first().is_some_and(|first| *first >= 0x80);
        if rest.is_empty() || is_negative || bytes.len() > SERIAL_BYTES_MAX + 1 {
            return Err(bad("this is no serial number"));
        }
        if rest.len() > SERIAL_BYTES_MAX {
            return Err(bad("the serial number is longer than 20 bytes"));
        }
        Ok(Serial(rest.to_vec()))
    }

    /// From hexadecimal digits, with or without colons between the bytes.
    ///
    /// # Errors
    /// [`NOT_ISSUED`] if it is no serial number.
    pub fn from_hex(text: &str) -> Result<Serial, Error> {
        let no = |text: &str| {
            let text: String = text.chars().take(2 * SERIAL_BYTES_MAX).collect();
            let why = format!("`{}` is no serial number", text.escape_debug());
            Error::new(&NOT_ISSUED, why)
        };
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
        // An odd number of digits has a zero in front.
        let pad: &[u8] = if digits.len() % 2 == 1 { b"0" } else { b"" };
        let padded = [pad, &digits].concat();
        if padded.len() > 2 * SERIAL_BYTES_MAX {
            return Err(no(text));
        }
        let bytes = padded.chunks_exact(2).map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        });
        let bytes = bytes.collect::<Option<Vec<u8>>>();
        let bytes = bytes.ok_or_else(|| no(text))?;
        Serial::new(&[&[0], bytes.as_slice()].concat()).map_err(|_| no(text))
    }

    /// As an INTEGER in DER.
    pub(crate) fn to_der(&self) -> Vec<u8> {
        x509::unsigned(&self.0)
    }
}

impl core::fmt::Display for Serial {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
