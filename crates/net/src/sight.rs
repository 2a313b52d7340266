//! What the kernel role tells the gateway of a connection: one fixed message, over a
//! `SOCK_SEQPACKET` pair of their own.
//!
//! The kernel role sees the connection before the gateway accepts it. What does not come in time,
//! or finds no room, is absent, and said to be so.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Length of a message, in bytes.
pub const BYTES: usize = 72;
/// Most TCP options whose kinds are told.
pub const OPTIONS_MAX: usize = 16;

/// How a connection began, as the network card saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// The caller's end.
    pub source: SocketAddr,
    /// Port of the listener.
    pub port: u16,
    /// Whether the first packet held the whole hello.
    pub is_partial: bool,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Window of the SYN.
    pub window: u16,
    /// Longest segment; 0 if nothing was said.
    pub segment_max: u16,
    /// Window scale; 255 if nothing was said.
    pub window_scale: u8,
    /// Kinds of the SYN's TCP options, in order; at most [`OPTIONS_MAX`].
    pub options: Vec<u8>,
    /// From the SYN to the first bytes, in nanoseconds.
    pub waited_ns: u64,
}

impl Sight {
    /// The message.
    #[must_use]
    pub fn encode(&self) -> [u8; BYTES] {
        let address = match self.source.ip() {
            IpAddr::V4(four) => four.to_ipv6_mapped(),
            IpAddr::V6(six) => six,
        };
        let count = self.options.len().min(OPTIONS_MAX);
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.extend(address.octets());
        bytes.extend(self.source.port().to_be_bytes());
        bytes.extend(self.port.to_be_bytes());
        bytes.extend([u8::from(self.is_partial), self.ttl]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend(self.segment_max.to_be_bytes());
        bytes.extend([self.window_scale, u8::try_from(count).unwrap_or(0)]);
        bytes.extend(self.waited_ns.to_be_bytes());
        bytes.extend(self.options.iter().take(OPTIONS_MAX));
        let mut message = [0; BYTES];
        for (place, byte) in message.iter_mut().zip(bytes) {
            *place = byte;
        }
        message
    }

    /// Reads a message; `None` if it is none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Sight> {
        let (address, rest) = bytes.split_first_chunk::<16>()?;
        let (&[p0, p1, l0, l1, partial, ttl, w0, w1, s0, s1, scale, count], rest) =
            rest.split_first_chunk::<12>()?;
        let (waited, rest) = rest.split_first_chunk::<8>()?;
        let count = usize::from(count);
        if bytes.len() != BYTES || count > OPTIONS_MAX || partial > 1 {
            return None;
        }
        let address = IpAddr::from(Ipv6Addr::from(*address)).to_canonical();
        Some(Sight {
            source: SocketAddr::new(address, u16::from_be_bytes([p0, p1])),
            port: u16::from_be_bytes([l0, l1]),
            is_partial: partial == 1,
            ttl,
            window: u16::from_be_bytes([w0, w1]),
            segment_max: u16::from_be_bytes([s0, s1]),
            window_scale: scale,
            options: rest.get(..count)?.to_vec(),
            waited_ns: u64::from_be_bytes(*waited),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(source: &str) -> Sight {
        Sight {
            source: source.parse().unwrap(),
            port: 8443,
            is_partial: true,
            ttl: 57,
            window: 64240,
            segment_max: 1460,
            window_scale: 7,
            options: vec![2, 4, 8, 1, 3],
            waited_ns: 1_234_567,
        }
    }

    #[test]
    fn a_sight_survives_its_message() {
        for source in ["10.0.0.1:4000", "[2001:db8::1]:4000"] {
            assert_eq!(Sight::decode(&sight(source).encode()), Some(sight(source)));
        }
        let many = Sight { options: vec![1; 40], ..sight("10.0.0.1:1") };
        assert_eq!(Sight::decode(&many.encode()).unwrap().options.len(), OPTIONS_MAX);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let good = sight("10.0.0.1:1").encode();
        for length in 0..BYTES {
            assert_eq!(Sight::decode(&good[..length]), None);
        }
        assert_eq!(Sight::decode(&[&good[..], &[0]].concat()), None);
        let mut bad = good;
        bad[27] = 17;
        assert_eq!(Sight::decode(&bad), None, "more options than there can be");
    }
}
