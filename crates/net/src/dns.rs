//! Addresses of a name, asked of a server that resolves (RFC 1035), by TCP (RFC 7766): an answer
//! that somebody else slips in does not arrive, and none is cut short.
//!
//! A stub: it asks one question and reads one answer. It keeps nothing, follows aliases only within
//! the answer, and believes nothing but what answers its question.

use core::time::Duration;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest wait for one server, in milliseconds.
const SERVER_MS_MAX: u64 = 2_000;
/// Longest answer that is read, in bytes.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Most records that are looked at.
const RECORDS_MAX: usize = 256;
/// Most aliases from a name to its addresses.
const ALIASES_MAX: usize = 8;
/// Most jumps within one name (RFC 1035 §4.1.4), and its longest form (§3.1), in bytes.
const JUMPS_MAX: usize = 16;
const NAME_BYTES_MAX: usize = 255;
/// Longest part of a name.
const LABEL_BYTES_MAX: usize = 63;
const HEAD_BYTES: usize = 12;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// IPv4.
    A,
    /// IPv6.
    Aaaa,
}

impl Kind {
    const fn number(self) -> u16 {
        match self {
            Kind::A => 1,
            Kind::Aaaa => 28,
        }
    }
}

const CNAME: u16 = 5;
const INTERNET: u16 = 1;

/// Why there is no answer.
#[derive(Debug)]
pub enum Error {
    /// The name cannot be asked for.
    Name,
    /// The server does not answer.
    Io(std::io::Error),
    /// It does not answer in time.
    Late,
    /// What it answers cannot be read, or answers something else.
    Malformed(&'static str),
    /// It says no: the response code (RFC 1035 §4.1.1).
    Refused(u8),
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Error::Name => f.write_str("this is no name"),
            Error::Io(error) => write!(f, "{error}"),
            Error::Late => f.write_str("no answer in time"),
            Error::Malformed(what) => write!(f, "bad answer: {what}"),
            Error::Refused(2) => f.write_str("the server failed (SERVFAIL)"),
            Error::Refused(5) => f.write_str("the server refused (REFUSED)"),
            Error::Refused(code) => write!(f, "response code {code}"),
        }
    }
}

impl core::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Error {
        Error::Io(error)
    }
}

/// Addresses and for how long they hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// In the order of the answer, each once; none if the name has none.
    pub addresses: Vec<IpAddr>,
    /// Seconds.
    pub ttl_s: u32,
}

/// Asks the servers one after the other until one answers: for IPv4 addresses, and where there are
/// none for IPv6. `id` should be a random number.
///
/// # Errors
/// That of the last server.
pub async fn resolve(servers: &[SocketAddr], name: &str, id: u16) -> Result<Found, Error> {
    let mut last = Error::Late;
    for server in servers {
        let limit = Duration::from_millis(SERVER_MS_MAX);
        match tokio::time::timeout(limit, of_server(*server, name, id)).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) => last = error,
            Err(_) => last = Error::Late,
        }
    }
    Err(last)
}

async fn of_server(server: SocketAddr, name: &str, id: u16) -> Result<Found, Error> {
    let mut stream = TcpStream::connect(server).await?;
    let first = exchange(&mut stream, name, Kind::A, id).await?;
    if !first.addresses.is_empty() {
        return Ok(first);
    }
    exchange(&mut stream, name, Kind::Aaaa, id.wrapping_add(1)).await
}

async fn exchange(stream: &mut TcpStream, name: &str, kind: Kind, id: u16) -> Result<Found, Error> {
    let question = question(name, kind, id).ok_or(Error::Name)?;
    let length = u16::try_from(question.len()).map_err(|_| Error::Name)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(&question);
    stream.write_all(&framed).await?;
    let length = usize::from(stream.read_u16().await?);
    if length > ANSWER_BYTES_MAX {
        return Err(Error::Malformed("too long"));
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await?;
    read(&question, &answer)
}

/// The bytes of a question, without the length that stands before it on TCP. None if the name is
/// none.
#[must_use]
pub fn question(name: &str, kind: Kind, id: u16) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + name.len() + 6);
    bytes.extend_from_slice(&id.to_be_bytes());
    // A standard query, recursion desired; one question.
    bytes.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok()?;
        if length == 0 || label.len() > LABEL_BYTES_MAX {
            return None;
        }
        bytes.push(length);
        bytes.extend(label.bytes().map(|b| b.to_ascii_lowercase()));
    }
    bytes.push(0);
    if bytes.len() - HEAD_BYTES > NAME_BYTES_MAX {
        return None;
    }
    bytes.extend_from_slice(&kind.number().to_be_bytes());
    bytes.extend_from_slice(&INTERNET.to_be_bytes());
    Some(bytes)
}

/// Reads the answer to a question of [`question`]. A name that does not exist has no addresses.
///
/// # Errors
/// [`Error::Malformed`] or [`Error::Refused`].
pub fn read(question: &[u8], answer: &[u8]) -> Result<Found, Error> {
    let mut reader = Reader { bytes: answer, at: 0 };
    let head: [u8; HEAD_BYTES] = reader.take()?;
    let [id_a, id_b, flags_a, flags_b, questions_a, questions_b, count_a, count_b, ..] = head;
    if question.get(..2) != Some(&[id_a, id_b]) {
        return Err(Error::Malformed("another number"));
    }
    // A response to a standard query, not truncated (RFC 1035 §4.1.1).
    if flags_a & 0x80 == 0 || flags_a & 0x7a != 0 {
        return Err(Error::Malformed("flags"));
    }
    let is_none = match flags_b & 15 {
        0 => false,
        3 => true,
        code => return Err(Error::Refused(code)),
    };
    let asked = Reader { bytes: question, at: HEAD_BYTES }.question()?;
    if [questions_a, questions_b] != [0, 1] || reader.question()? != asked {
        return Err(Error::Malformed("another question"));
    }
    let (name, kind) = asked;
    let count = usize::from(u16::from_be_bytes([count_a, count_b]));
    if is_none {
        return Ok(Found::default());
    }
    let records = reader.records(count)?;
    Ok(follow(&records, name, kind))
}

/// From the name over its aliases to addresses.
fn follow(records: &[Record], name: Vec<u8>, kind: u16) -> Found {
    let (mut name, mut ttl_s) = (name, u32::MAX);
    for _ in 0..=ALIASES_MAX {
        let own = || records.iter().filter(|record| record.name == name);
        let mut found = Found { addresses: Vec::new(), ttl_s };
        for record in own().filter(|record| record.kind == kind) {
            if let Value::Address(address) = &record.value
                && !found.addresses.contains(address)
            {
                found.addresses.push(*address);
                found.ttl_s = found.ttl_s.min(record.ttl_s);
            }
        }
        if !found.addresses.is_empty() {
            return found;
        }
        let alias = own().find_map(|record| match &record.value {
            Value::Alias(target) => Some((target.clone(), record.ttl_s)),
            _ => None,
        });
        let Some((target, alias_ttl_s)) = alias else { break };
        ttl_s = ttl_s.min(alias_ttl_s);
        name = target;
    }
    Found::default()
}

struct Record {
    name: Vec<u8>,
    kind: u16,
    ttl_s: u32,
    value: Value,
}

enum Value {
    Address(IpAddr),
    Alias(Vec<u8>),
    Other,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

const SHORT: Error = Error::Malformed("cut short");

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let end = self.at.checked_add(N).ok_or(SHORT)?;
        let taken = self.bytes.get(self.at..end).and_then(|b| b.try_into().ok()).ok_or(SHORT)?;
        self.at = end;
        Ok(taken)
    }

    fn u16(&mut self) -> Result<u16, Error> {
        self.take().map(u16::from_be_bytes)
    }

    /// A name in lower case, its labels behind their lengths. Every jump goes backwards, so that
    /// none goes in a circle.
    fn name(&mut self) -> Result<Vec<u8>, Error> {
        let (mut name, mut jumps) = (Vec::new(), 0);
        let (mut at, mut end, mut least) = (self.at, None, self.at);
        loop {
            let length = *self.bytes.get(at).ok_or(SHORT)?;
            at += 1;
            match length {
                0 => break,
                1..=63 => {
                    let stop = at + usize::from(length);
                    let label = self.bytes.get(at..stop).ok_or(SHORT)?;
                    name.push(length);
                    name.extend(label.iter().map(u8::to_ascii_lowercase));
                    if name.len() >= NAME_BYTES_MAX {
                        return Err(Error::Malformed("a name is too long"));
                    }
                    at = stop;
                }
                192.. => {
                    let low = *self.bytes.get(at).ok_or(SHORT)?;
                    end = end.or(Some(at + 1));
                    let target = usize::from(u16::from_be_bytes([length & 63, low]));
                    jumps += 1;
                    if target >= least || jumps > JUMPS_MAX {
                        return Err(Error::Malformed("a name jumps"));
                    }
                    (at, least) = (target, target);
                }
                64..=191 => return Err(Error::Malformed("an unknown kind of label")),
            }
        }
        self.at = end.unwrap_or(at);
        Ok(name)
    }

    fn question(&mut self) -> Result<(Vec<u8>, u16), Error> {
        let name = self.name()?;
        let (kind, class) = (self.u16()?, self.u16()?);
        if class != INTERNET {
            return Err(Error::Malformed("class"));
        }
        Ok((name, kind))
    }

    fn records(&mut self, count: usize) -> Result<Vec<Record>, Error> {
        if count > RECORDS_MAX {
            return Err(Error::Malformed("too many records"));
        }
        (0..count).map(|_| self.record()).collect()
    }

    fn record(&mut self) -> Result<Record, Error> {
        let name = self.name()?;
        let (kind, class) = (self.u16()?, self.u16()?);
        let ttl_s = u32::from_be_bytes(self.take()?);
        // The upper half of the range means nothing (RFC 2181 §8).
        let ttl_s = if ttl_s > i32::MAX.unsigned_abs() { 0 } else { ttl_s };
        let length = usize::from(self.u16()?);
        let end =
            self.at.checked_add(length).filter(|end| *end <= self.bytes.len()).ok_or(SHORT)?;
        let value = match (class, kind, length) {
            (INTERNET, 1, 4) => Value::Address(Ipv4Addr::from(self.take::<4>()?).into()),
            (INTERNET, 28, 16) => Value::Address(Ipv6Addr::from(self.take::<16>()?).into()),
            (INTERNET, CNAME, _) => Value::Alias(self.name()?),
            _ => Value::Other,
        };
        if self.at > end {
            return Err(Error::Malformed("a record runs over its end"));
        }
        self.at = end;
        Ok(Record { name, kind, ttl_s, value })
    }
}

#[cfg(test)]
#[path = "dns_tests.rs"]
mod tests;
