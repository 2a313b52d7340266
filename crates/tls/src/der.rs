//! Two fields of a certificate, found by their place (RFC 5280 §4.1): webpki, which judges the
//! whole, gives neither. Nothing is copied, and nothing of what is not one of them is judged.

/// The issuer's name, with its tag; nothing of what is no certificate.
#[must_use]
pub fn issuer(certificate: &[u8]) -> Option<&[u8]> {
    let (content, _) = sequence(certificate)?;
    let (mut rest, _) = sequence(content)?;
    // Version, if it is there, and number.
    if rest.first() == Some(&0xa0) {
        rest = element(rest, 0xa0)?.1;
    }
    let (_, rest) = element(rest, 0x02)?;
    let (_, name) = sequence(rest)?;
    let (_, after) = sequence(name)?;
    name.get(..name.len().checked_sub(after.len())?)
}

/// The content of the algorithm that stands between the signed part and the signature; nothing of
/// what is no certificate.
#[must_use]
pub fn algorithm(certificate: &[u8]) -> Option<&[u8]> {
    let (content, _) = sequence(certificate)?;
    let (_, rest) = sequence(content)?;
    Some(sequence(rest)?.0)
}

/// The content of a SEQUENCE, and what follows it.
fn sequence(der: &[u8]) -> Option<(&[u8], &[u8])> {
    element(der, 0x30)
}

/// Longest length: three bytes, 16 MiB. A longer certificate is refused before, by its size.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
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
