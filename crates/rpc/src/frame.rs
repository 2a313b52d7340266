//! gRPC's frames: a byte that says whether the message is compressed, its length in four bytes, and
//! the message. Compressed messages are refused: nobody was told that they would be understood.

use crate::Malformed;

/// Bytes before each message.
pub const HEAD_BYTES: usize = 5;

/// A message, and the bytes behind its frame.
pub type Split<'a> = (&'a [u8], &'a [u8]);

/// A message in its frame; nothing of a message that is longer than 4 GiB.
#[must_use]
pub fn framed(message: &[u8]) -> Vec<u8> {
    let Ok(length) = u32::try_from(message.len()) else { return Vec::new() };
    let mut bytes = Vec::with_capacity(HEAD_BYTES + message.len());
    bytes.push(0);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(message);
    bytes
}

/// The one message of a call that has one.
///
/// # Errors
/// [`Malformed`]: compressed, cut off, or more than one.
pub fn only(bytes: &[u8]) -> Result<&[u8], Malformed> {
    match next(bytes)? {
        Some((message, [])) => Ok(message),
        Some(_) => Err(Malformed("more than one message")),
        None => Err(Malformed("a message that is cut off")),
    }
}

/// The next message and what follows it; nothing if it is not all there yet.
///
/// # Errors
/// [`Malformed`]: compressed.
pub fn next(bytes: &[u8]) -> Result<Option<Split<'_>>, Malformed> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
    let [compressed, length @ ..] = *head;
    if compressed != 0 {
        return Err(Malformed("a compressed message"));
    }
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    Ok(rest.split_at_checked(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_out_of_its_frame_and_nothing_else_does() {
        let bytes = framed(b"hello");
        assert_eq!(only(&bytes), Ok(&b"hello"[..]));
        for cut in 0..bytes.len() {
            assert!(only(&bytes[..cut]).is_err(), "{cut}");
            assert_eq!(next(&bytes[..cut]), Ok(None), "{cut}");
        }
        let two = [bytes.clone(), bytes.clone()].concat();
        assert!(only(&two).is_err());
        assert_eq!(next(&two), Ok(Some((&b"hello"[..], bytes.as_slice()))));
        assert!(only(&[1, 0, 0, 0, 0]).is_err());
        assert_eq!(only(&framed(b"")), Ok(&b""[..]));
    }
}
