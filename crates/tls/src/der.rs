//! Fields of a certificate, found by their place (RFC 5280 §4.1): webpki, which judges the whole,
//! gives none of them. Nothing is copied, and nothing of what is not one of them is judged.

/// The issuer's name, with its tag; nothing of what is no certificate.
#[must_use]
pub fn issuer(certificate: &[u8]) -> Option<&[u8]> {
    Some(name(from_issuer(certificate)?)?.0)
}

/// The subject's name, with its tag; nothing of what is no certificate.
#[must_use]
pub fn subject(certificate: &[u8]) -> Option<&[u8]> {
    let (_, validity) = name(from_issuer(certificate)?)?;
    let (_, rest) = sequence(validity)?;
    Some(name(rest)?.0)
}

/// What follows version, number and algorithm.
fn from_issuer(certificate: &[u8]) -> Option<&[u8]> {
    let (content, _) = sequence(certificate)?;
    let (mut rest, _) = sequence(content)?;
    if rest.first() == Some(&0xa0) {
        rest = element(rest, 0xa0)?.1;
    }
    let (_, rest) = element(rest, 0x02)?;
    Some(sequence(rest)?.1)
}

/// A name with its tag, and what follows it.
fn name(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, after) = sequence(der)?;
    der.split_at_checked(der.len().checked_sub(after.len())?)
}

/// The content of the algorithm that stands between the signed part and the signature; nothing of
/// what is no certificate.
#[must_use]
pub fn algorithm(certificate: &[u8]) -> Option<&[u8]> {
    let (content, _) = sequence(certificate)?;
    let (_, rest) = sequence(content)?;
    Some(sequence(rest)?.0)
}

/// A certificate or a list of revoked ones in its three parts (RFC 5280 §4.1.1, §5.1.1).
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// What is signed, with its tag.
    pub content: &'a [u8],
    /// The content of the algorithm.
    pub algorithm: &'a [u8],
    /// The signature, without the count of unused bits, which is zero.
    pub signature: &'a [u8],
}

/// The parts of what an authority signed; nothing if it has others.
#[must_use]
pub fn signed(der: &[u8]) -> Option<Signed<'_>> {
    let (whole, rest) = sequence(der)?;
    let (_, after) = sequence(whole)?;
    let content = content(whole, after)?;
    let (algorithm, after) = sequence(after)?;
    let signature = bits(after)?;
    rest.is_empty().then_some(Signed { content, algorithm, signature })
}

/// A SEQUENCE with this content, of less than 16 MiB.
pub(crate) fn sequence_of(content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let digits =
        length.iter().position(|byte| *byte != 0).map_or(&[0][..], |at| length.split_at(at).1);
    let mut der = vec![0x30];
    match digits {
        [short @ 0..0x80] => der.push(*short),
        digits => {
            der.push(0x80 | u8::try_from(digits.len()).unwrap_or(0x7f));
            der.extend_from_slice(digits);
        }
    }
    der.extend_from_slice(content);
    der
}

/// What stands before the rest.
pub(crate) fn content<'a>(whole: &'a [u8], rest: &[u8]) -> Option<&'a [u8]> {
    whole.get(..whole.len().checked_sub(rest.len())?)
}

/// The whole content of a BIT STRING without unused bits, and nothing behind it.
pub(crate) fn bits(der: &[u8]) -> Option<&[u8]> {
    let (bits, end) = element(der, 0x03)?;
    let (unused, bits) = bits.split_first()?;
    (end.is_empty() && *unused == 0).then_some(bits)
}

/// The content of a SEQUENCE, and what follows it.
pub(crate) fn sequence(der: &[u8]) -> Option<(&[u8], &[u8])> {
    element(der, 0x30)
}

/// Longest length: three bytes, 16 MiB. A longer certificate is refused before, by its size.
pub(crate) fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (_, rest) = der.split_first().filter(|(first, _)| **first == tag)?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..0x80 => (usize::from(*first), rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        0x80 | 0x84.. => return None,
    };
    rest.split_at_checked(length)
}
