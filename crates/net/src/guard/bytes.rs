//! Classes of bytes, and a cursor that counts how often bytes are looked at.

/// The input of one `feed`, and the work done on it.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    steps: u64,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Cursor<'a> {
        Cursor { rest, steps: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// How many bytes were not taken yet.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    /// Looks at one byte and leaves it.
    pub(super) fn peek(&mut self) -> Option<u8> {
        self.steps += 1;
        self.rest.first().copied()
    }

    /// Takes one byte.
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        self.steps += 1;
        Some(*first)
    }

    /// Takes the bytes up to the next control character, at most `most`.
    pub(super) fn plain(&mut self, most: usize) -> &'a [u8] {
        let within = self.rest.get(..most).unwrap_or(self.rest);
        let end = plain_bytes(within);
        let (taken, rest) = self.rest.split_at_checked(end).unwrap_or((&[], self.rest));
        self.rest = rest;
        self.count(taken.len());
        taken
    }

    /// Takes up to `most` bytes unseen: one step, however many they are.
    pub(super) fn bulk(&mut self, most: u64) -> &'a [u8] {
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(self.rest.len());
        let (taken, rest) = self.rest.split_at_checked(most).unwrap_or((self.rest, &[]));
        self.rest = rest;
        self.steps += 1;
        taken
    }

    /// Counts a second look at `bytes` bytes that were held.
    pub(super) fn count(&mut self, bytes: usize) {
        self.steps = self.steps.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps
    }
}

/// How many bytes stand before the first control character, eight at a time.
fn plain_bytes(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let (eights, _) = bytes.as_chunks::<8>();
    let mut plain = 0;
    for eight in eights {
        let word = u64::from_ne_bytes(*eight);
        let is_delete = word ^ (ONES * 0x7f);
        // The high bit of some byte is set if a byte is below 0x20, or is 0x7f.
        let below = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let delete = is_delete.wrapping_sub(ONES) & !is_delete & HIGH;
        if below | delete != 0 {
            break;
        }
        plain += 8;
    }
    let rest = bytes.get(plain..).unwrap_or_default();
    let is_control = |byte: &u8| *byte < 0x20 || *byte == 0x7f;
    plain + rest.iter().position(is_control).unwrap_or(rest.len())
}

/// The characters of a token (RFC 9110 §5.6.2), each byte by its value.
static TOKEN_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    loop {
        let mut marks: &[u8] = b"!#$%&'*+-.^_`|~";
        let mut is_mark = false;
        while let [mark, rest @ ..] = marks {
            is_mark |= *mark == byte;
            marks = rest;
        }
        if let Some((_, [entry, ..])) = table.split_at_mut_checked(byte as usize) {
            *entry = byte.is_ascii_alphanumeric() || is_mark;
        }
        match byte.checked_add(1) {
            Some(next) => byte = next,
            None => break table,
        }
    }
};

/// A character of a token (RFC 9110 §5.6.2).
pub(super) fn is_token_byte(byte: u8) -> bool {
    TOKEN_BYTES.get(usize::from(byte)).copied().unwrap_or(false)
}

/// A whole token.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_token_byte)
}

/// Without spaces and tabs at the beginning: OWS of RFC 9110 §5.6.3, not the wider set of Rust.
pub(super) fn trim_start(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

/// The same at both ends.
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    let mut bytes = trim_start(bytes);
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// `bytes` without `prefix`, whatever the letter case.
pub(super) fn strip_prefix_ignore_case<'a>(bytes: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = bytes.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_character_is_found_wherever_it_stands() {
        for length in 0..40 {
            let plain: Vec<u8> = (0..length).map(|at| 0x20 + (at * 37 % 0xe0) as u8).collect();
            let plain: Vec<u8> =
                plain.into_iter().map(|b| if b == 0x7f { 0xff } else { b }).collect();
            assert_eq!(plain_bytes(&plain), length, "{plain:x?}");
            for at in 0..length {
                for control in (0..0x20).chain([0x7f]) {
                    let mut bytes = plain.clone();
                    bytes[at] = control;
                    assert_eq!(plain_bytes(&bytes), at, "{bytes:x?}");
                }
            }
        }
    }
}
