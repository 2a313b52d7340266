//! JA4: a short name for how a client says hello (FoxIO, "JA4: TLS Client Fingerprinting").
//!
//! Computed from the ClientHello of the stream itself (RFC 8446 §4.1.2), as it was sent. It tells
//! programs apart that do not try to look like others; it proves nothing of anybody.

use aws_lc_rs::digest::{SHA256, digest};

/// Longest ClientHello that is looked at, with its records' headers, in bytes.
pub const HELLO_BYTES_MAX: usize = 17 * 1024;
/// Most cipher suites, extensions and signature schemes: what two digits count.
const SHOWN_MAX: usize = 99;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const SIGNATURE_ALGORITHMS: u16 = 13;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;

/// What a ClientHello lists, in the order sent, without GREASE (RFC 8701).
#[derive(Debug, Default)]
struct Hello {
    version: u16,
    ciphers: Vec<u16>,
    extensions: Vec<u16>,
    signatures: Vec<u16>,
    versions: Vec<u16>,
    alpn: Vec<u8>,
}

/// The fingerprint of the ClientHello at the beginning of a stream; `None` if there is none, or it
/// is not whole.
#[must_use]
pub fn of(stream: &[u8]) -> Option<String> {
    let hello = read(&message(stream)?)?;
    let version = hello.versions.iter().copied().max().unwrap_or(hello.version);
    let version = match version {
        0x0304 => "13",
        0x0303 => "12",
        0x0302 => "11",
        0x0301 => "10",
        0x0300 => "s3",
        _ => "00",
    };
    let named = if hello.extensions.contains(&SERVER_NAME) { 'd' } else { 'i' };
    let count = |list: &[u16]| list.len().min(SHOWN_MAX);
    let head = format!(
        "t{version}{named}{:02}{:02}{}",
        count(&hello.ciphers),
        count(&hello.extensions),
        ends_of(&hello.alpn)
    );
    let mut ciphers = hello.ciphers;
    ciphers.sort_unstable();
    let mut extensions: Vec<u16> =
        hello.extensions.into_iter().filter(|kind| ![SERVER_NAME, ALPN].contains(kind)).collect();
    extensions.sort_unstable();
    let mut second = listed(&extensions);
    if !hello.signatures.is_empty() {
        second = format!("{second}_{}", listed(&hello.signatures));
    }
    Some(format!("{head}_{}_{}", hash(&listed(&ciphers)), hash(&second)))
}

/// First and last character of the first protocol; of its hexadecimal form if they are others than
/// letters and digits.
fn ends_of(alpn: &[u8]) -> String {
    let (Some(first), Some(last)) = (alpn.first(), alpn.last()) else { return "00".to_owned() };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        return [char::from(*first), char::from(*last)].iter().collect();
    }
    let (first, last) = (format!("{first:02x}"), format!("{last:02x}"));
    first.chars().take(1).chain(last.chars().skip(1)).collect()
}

fn listed(numbers: &[u16]) -> String {
    numbers.iter().map(|number| format!("{number:04x}")).collect::<Vec<_>>().join(",")
}

fn hash(text: &str) -> String {
    if text.is_empty() {
        return "000000000000".to_owned();
    }
    digest(&SHA256, text.as_bytes()).as_ref().iter().take(6).map(|b| format!("{b:02x}")).collect()
}

/// The body of the first handshake message, put together from its records.
fn message(stream: &[u8]) -> Option<Vec<u8>> {
    let mut rest = stream.get(..HELLO_BYTES_MAX).unwrap_or(stream);
    let mut joined: Vec<u8> = Vec::new();
    loop {
        if let Some((&[kind, a, b, c], body)) = joined.split_first_chunk::<4>() {
            let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?;
            if kind != CLIENT_HELLO {
                return None;
            }
            if let Some(body) = body.get(..length) {
                return Some(body.to_vec());
            }
        }
        let (&[kind, 3, _, high, low], after) = rest.split_first_chunk::<5>()? else { return None };
        let (part, after) = after.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
        if kind != HANDSHAKE || part.is_empty() {
            return None;
        }
        joined.extend_from_slice(part);
        rest = after;
    }
}

/// A cursor over one message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (part, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(part)
    }

    fn u8(&mut self) -> Option<usize> {
        self.take(1)?.first().map(|byte| usize::from(*byte))
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// What stands behind a length of two bytes.
    fn vector(&mut self) -> Option<Reader<'a>> {
        let length = self.u16()?;
        self.take(usize::from(length)).map(Reader)
    }

    /// Numbers to the end, without GREASE.
    fn numbers(mut self) -> Vec<u16> {
        std::iter::from_fn(|| self.u16()).filter(|number| !is_grease(*number)).collect()
    }
}

/// 0x0a0a, 0x1a1a and so on.
fn is_grease(number: u16) -> bool {
    number & 0x0f0f == 0x0a0a && number >> 8 == number & 0xff
}

fn read(body: &[u8]) -> Option<Hello> {
    let mut body = Reader(body);
    let mut hello = Hello { version: body.u16()?, ..Hello::default() };
    body.take(32)?;
    let session = body.u8()?;
    body.take(session)?;
    hello.ciphers = body.vector()?.numbers();
    let compressions = body.u8()?;
    body.take(compressions)?;
    let Some(mut extensions) = body.vector() else { return Some(hello) };
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let mut content = extensions.vector()?;
        if is_grease(kind) {
            continue;
        }
        hello.extensions.push(kind);
        match kind {
            SIGNATURE_ALGORITHMS => hello.signatures = content.vector()?.numbers(),
            SUPPORTED_VERSIONS => {
                let length = content.u8()?;
                hello.versions = content.take(length).map(Reader)?.numbers();
            }
            ALPN => {
                let mut names = content.vector()?;
                let length = names.u8()?;
                hello.alpn = names.take(length)?.to_vec();
            }
            _ => {}
        }
    }
    Some(hello)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The hello of the specification's example, with GREASE in every list.
    fn hello() -> Vec<u8> {
        let numbers = |list: &[u16]| list.iter().flat_map(|n| n.to_be_bytes()).collect::<Vec<u8>>();
        let vector = |content: &[u8]| {
            let length = u16::try_from(content.len()).unwrap().to_be_bytes();
            [&length, content].concat()
        };
        let extension =
            |kind: u16, content: &[u8]| [kind.to_be_bytes().to_vec(), vector(content)].concat();
        let ciphers = [
            0x1a1a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013,
            0xc014, 0x009c, 0x009d, 0x002f, 0x0035,
        ];
        let schemes = [0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601];
        let mut extensions = extension(0x2a2a, &[]);
        for kind in [0x001b, 0x0000, 0x0033] {
            extensions.extend(extension(kind, &[]));
        }
        extensions.extend(extension(0x0010, &vector(b"\x02h2\x08http/1.1")));
        for kind in [0x4469, 0x0017, 0x002d] {
            extensions.extend(extension(kind, &[]));
        }
        extensions.extend(extension(0x000d, &vector(&numbers(&schemes))));
        for kind in [0x0005, 0x0023, 0x0012] {
            extensions.extend(extension(kind, &[]));
        }
        extensions.extend(extension(0x002b, &[6, 0x3a, 0x3a, 3, 4, 3, 3]));
        for kind in [0xff01, 0x000b, 0x000a, 0x0015] {
            extensions.extend(extension(kind, &[]));
        }
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.push(0);
        body.extend(vector(&numbers(&ciphers)));
        body.extend([1, 0]);
        body.extend(vector(&extensions));
        let mut message = vec![1, 0];
        message.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        message.extend(body);
        message
    }

    fn record(part: &[u8]) -> Vec<u8> {
        let mut record = vec![22, 3, 1];
        record.extend(u16::try_from(part.len()).unwrap().to_be_bytes());
        record.extend(part);
        record
    }

    const WANTED: &str = "t13d1516h2_8daaf6152771_e5627efa2ab1";

    #[test]
    fn the_example_of_the_specification_has_its_fingerprint() {
        assert_eq!(of(&record(&hello())).as_deref(), Some(WANTED));
    }

    #[test]
    fn records_may_cut_the_hello_anywhere_and_a_part_of_it_is_none() {
        let message = hello();
        for cut in 1..message.len() {
            let (a, b) = message.split_at(cut);
            let stream = [record(a), record(b)].concat();
            assert_eq!(of(&stream).as_deref(), Some(WANTED), "{cut}");
            assert_eq!(of(&record(a)), None, "{cut}");
        }
        let whole = record(&message);
        for length in 0..whole.len() {
            assert_eq!(of(&whole[..length]), None, "{length}");
        }
    }

    #[test]
    fn what_is_missing_stands_as_zeros() {
        let mut body = vec![3, 3];
        body.extend([0; 32]);
        body.extend([0, 0, 2, 0, 0x2f, 1, 0]);
        let mut message = vec![1, 0, 0, u8::try_from(body.len()).unwrap()];
        message.extend(body);
        assert_eq!(
            of(&record(&message)).unwrap(),
            format!("t12i010000_{}_000000000000", hash("002f"))
        );
        assert_eq!(ends_of(b"\x02a"), "01");
        assert_eq!(ends_of(b"h"), "hh");
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = of(&bytes);
            let _ = of(&record(&bytes));
        }

        #[test]
        fn any_damage_is_taken(at in 0usize..300, byte: u8) {
            let mut bytes = record(&hello());
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Some(name) = of(&bytes) {
                prop_assert_eq!(name.len(), WANTED.len());
            }
        }
    }
}
