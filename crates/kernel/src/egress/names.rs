//! Names of addresses, from DNS answers (RFC 1035) that the guarded processes got.
//!
//! For people who read a record: an answer is only what a resolver said, so nothing is allowed or
//! refused by it. An answer that cannot be read names nothing.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Most addresses whose names are known; the oldest goes first.
pub const NAMES_MAX: usize = 1024;
/// Most records of one answer that are looked at.
const ANSWERS_MAX: u16 = 64;
/// Longest name, in bytes (RFC 1035 §3.1).
const NAME_BYTES_MAX: usize = 255;

/// What an answer says: the name that was asked for and its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// In lower case, without the dot at its end.
    pub name: String,
    /// Addresses, those behind aliases among them.
    pub addresses: Vec<IpAddr>,
}

/// Reads a DNS message; `None` unless it is a good answer to one question.
///
/// The name is that of the question: what an application asked for, whatever aliases led on.
#[must_use]
pub fn parse(message: &[u8]) -> Option<Answer> {
    let flags = u16_at(message, 2)?;
    // QR set, opcode 0, RCODE 0 (RFC 1035 §4.1.1).
    let is_good_answer = flags & 0xf80f == 0x8000;
    if !is_good_answer || u16_at(message, 4)? != 1 {
        return None;
    }
    let (name, at) = question(message)?;
    let mut at = at + 4;
    let mut addresses = Vec::new();
    for _ in 0..u16_at(message, 6)?.min(ANSWERS_MAX) {
        // A message that was cut off still names what it has.
        let Some((record, next)) = record(message, at) else { break };
        addresses.extend(record);
        at = next;
    }
    Some(Answer { name, addresses })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_be_bytes(*pair))
}

/// The name of the question, which is never compressed, and where it ends.
fn question(message: &[u8]) -> Option<(String, usize)> {
    let (mut name, mut at) = (String::new(), 12);
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            return (!name.is_empty()).then_some((name, at));
        }
        let label = message.get(at..at + length).filter(|_| length < 64)?;
        at += length;
        if !name.is_empty() {
            name.push('.');
        }
        // What is not a host name (RFC 952) stands as `?`: it ends up in front of people.
        name.extend(label.iter().map(|byte| match byte.to_ascii_lowercase() {
            byte @ (b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_') => char::from(byte),
            _ => '?',
        }));
        if name.len() > NAME_BYTES_MAX {
            return None;
        }
    }
}

/// The address of a resource record, if it is one, and where the next begins.
fn record(message: &[u8], at: usize) -> Option<(Option<IpAddr>, usize)> {
    let at = skip_name(message, at)?;
    let (kind, class) = (u16_at(message, at)?, u16_at(message, at + 2)?);
    let length = usize::from(u16_at(message, at + 8)?);
    let data = message.get(at + 10..at + 10 + length)?;
    let address = match (kind, class) {
        (1, 1) => <[u8; 4]>::try_from(data).ok().map(|four| Ipv4Addr::from(four).into()),
        (28, 1) => <[u8; 16]>::try_from(data).ok().map(|six| Ipv6Addr::from(six).into()),
        _ => None,
    };
    Some((address, at + 10 + length))
}

/// Where a name ends that may end in a pointer (RFC 1035 §4.1.4). Pointers are not followed.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = *message.get(at)?;
        at += 1;
        match length {
            0 => return Some(at),
            1..64 => at += usize::from(length),
            192.. => return message.get(at).map(|_| at + 1),
            _ => return None,
        }
    }
}

/// Which name an address was last given for.
#[derive(Debug, Default)]
pub struct Names {
    known: HashMap<IpAddr, String>,
    order: VecDeque<IpAddr>,
}

impl Names {
    /// Remembers what a DNS message says, if it says anything.
    pub fn hear(&mut self, message: &[u8]) {
        let Some(answer) = parse(message) else { return };
        for address in answer.addresses {
            let address = address.to_canonical();
            if self.known.insert(address, answer.name.clone()).is_none() {
                self.order.push_back(address);
            }
            while self.order.len() > NAMES_MAX {
                if let Some(oldest) = self.order.pop_front() {
                    self.known.remove(&oldest);
                }
            }
        }
    }

    /// The name, if an answer gave one.
    #[must_use]
    pub fn of(&self, address: IpAddr) -> Option<&str> {
        self.known.get(&address.to_canonical()).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An answer: 163.com is an alias with an IPv4 and an IPv6 address.
    fn message() -> Vec<u8> {
        let mut bytes = vec![0xab, 0xcd, 0x81, 0x80, 0, 1, 0, 3, 0, 0, 0, 0];
        bytes.extend(b"\x03163\x03CoM\x00\x00\x01\x00\x01");
        bytes.extend(b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x04\x01x\xc0\x10");
        bytes.extend(b"\x01x\xc0\x10\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xcb\x00\x71\x07");
        bytes.extend(b"\xc0\x25\x00\x1c\x00\x01\x00\x00\x00\x3c\x00\x10");
        bytes.extend("2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        bytes
    }

    #[test]
    fn an_answer_names_its_addresses_by_what_was_asked_for() {
        let answer = parse(&message()).unwrap();
        assert_eq!(answer.name, "163.com");
        let wanted: [IpAddr; 2] = ["203.0.113.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        assert_eq!(answer.addresses, wanted);
        let mut names = Names::default();
        names.hear(&message());
        assert_eq!(names.of("203.0.113.7".parse().unwrap()), Some("163.com"));
        assert_eq!(names.of("::ffff:203.0.113.7".parse().unwrap()), Some("163.com"));
        assert_eq!(names.of("203.0.113.8".parse().unwrap()), None);
    }

    #[test]
    fn what_is_cut_off_names_at_most_what_it_has() {
        let whole = message();
        for length in 0..whole.len() {
            if let Some(answer) = parse(&whole[..length]) {
                assert!(answer.addresses.len() < 2 && answer.name == "163.com", "{length}");
            }
        }
    }

    #[test]
    fn questions_errors_and_odd_names_are_no_answers() {
        let altered = |at: usize, byte: u8| {
            let mut bytes = message();
            bytes[at] = byte;
            parse(&bytes)
        };
        assert_eq!(altered(2, 0x01), None, "a question");
        assert_eq!(altered(3, 0x83), None, "no such name");
        assert_eq!(altered(5, 2), None, "two questions");
        assert_eq!(altered(12, 0xc0), None, "a pointer in the question");
        assert_eq!(altered(13, b'\n').unwrap().name, "?63.com");
    }

    #[test]
    fn no_more_names_are_kept_than_the_bound() {
        let mut names = Names::default();
        let mut bytes = message();
        for number in 0..NAMES_MAX + 500 {
            let [high, low] = u16::try_from(number).unwrap().to_be_bytes();
            let at = bytes.windows(2).position(|pair| pair == b"\xcb\x00").unwrap();
            bytes[at + 2..at + 4].copy_from_slice(&[high, low]);
            names.hear(&bytes);
        }
        assert_eq!((names.known.len(), names.order.len()), (NAMES_MAX, NAMES_MAX));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_damage_is_taken(at in 0usize..90, byte: u8) {
            let mut bytes = message();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Some(answer) = parse(&bytes) {
                prop_assert!(answer.name.is_ascii() && answer.addresses.len() <= 2);
            }
        }
    }
}
