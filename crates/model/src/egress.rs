//! Where processes may connect to: one entry of an allow-list.
//!
//! Written `[tcp:|udp:]ADDRESS[/BITS][:PORT]`, IPv6 with a port in brackets: `10.1.0.0/16`,
//! `10.1.0.5:443`, `udp:10.0.0.53:53`, `[2001:db8::/32]:443`. Without a protocol it is TCP, without
//! a port every port.

use core::fmt;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use core::str::FromStr;

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Protocol {
    /// RFC 9293.
    Tcp = 6,
    /// RFC 768.
    Udp = 17,
}

impl Protocol {
    /// The name of an IP protocol number (RFC 791 §3.1), as far as it has one here.
    #[must_use]
    pub fn name_of(number: u8) -> String {
        match number {
            6 => "tcp".to_owned(),
            17 => "udp".to_owned(),
            other => format!("ip{other}"),
        }
    }
}

/// One entry: what is in it may be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// The protocol.
    pub protocol: Protocol,
    /// The address, with no bit set behind the prefix.
    pub address: IpAddr,
    /// Length of the prefix, in bits.
    pub bits: u8,
    /// The port; `None` is every port.
    pub port: Option<u16>,
}

/// Why a text is no [`Rule`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleError {
    /// A name where an address must stand.
    Name,
    /// No address.
    Address,
    /// A prefix longer than the address, or no number.
    Bits,
    /// Bits behind the prefix.
    HostBits,
    /// Port 0, or no port.
    Port,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RuleError::Name => "names are not looked up: write the address",
            RuleError::Address => "this is no address",
            RuleError::Bits => "the prefix is no number of bits that the address has",
            RuleError::HostBits => "the address has bits behind its prefix",
            RuleError::Port => "this is no port from 1 to 65535",
        })
    }
}

impl core::error::Error for RuleError {}

impl Rule {
    /// The rule for TCP to exactly this address and port.
    #[must_use]
    pub fn to(address: SocketAddr) -> Rule {
        let ip = address.ip().to_canonical();
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        Rule { protocol: Protocol::Tcp, address: ip, bits, port: Some(address.port()) }
    }

    /// The address as IPv6, IPv4 mapped into it (RFC 4291 §2.5.5.2), and its prefix.
    #[must_use]
    pub fn mapped(&self) -> (Ipv6Addr, u8) {
        match self.address {
            IpAddr::V4(four) => (four.to_ipv6_mapped(), self.bits.saturating_add(96)),
            IpAddr::V6(six) => (six, self.bits),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.protocol == Protocol::Udp {
            f.write_str("udp:")?;
        }
        let Rule { address, bits, .. } = self;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let net = if *bits == whole { address.to_string() } else { format!("{address}/{bits}") };
        match (self.port, address.is_ipv6()) {
            (None, _) => f.write_str(&net),
            (Some(port), false) => write!(f, "{net}:{port}"),
            (Some(port), true) => write!(f, "[{net}]:{port}"),
        }
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Rule, RuleError> {
        let (protocol, rest) = match (text.strip_prefix("udp:"), text.strip_prefix("tcp:")) {
            (Some(rest), _) => (Protocol::Udp, rest),
            (_, Some(rest)) => (Protocol::Tcp, rest),
            _ => (Protocol::Tcp, text),
        };
        let (net, port) = split_port(rest)?;
        let (address, bits) = match net.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (net, None),
        };
        let address: IpAddr = address.parse().map_err(|_| not_an_address(address))?;
        // A mapped address is IPv4 to the kernel, so it is here too.
        let (address, shift) = match (address, address.to_canonical()) {
            (IpAddr::V6(_), IpAddr::V4(four)) => (IpAddr::V4(four), 96),
            _ => (address, 0),
        };
        let whole: u8 = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => whole,
            Some(bits) => bits
                .parse::<u8>()
                .ok()
                .and_then(|bits| bits.checked_sub(shift))
                .filter(|bits| *bits <= whole)
                .ok_or(RuleError::Bits)?,
        };
        let rule = Rule { protocol, address, bits, port };
        if has_host_bits(&rule) { Err(RuleError::HostBits) } else { Ok(rule) }
    }
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), RuleError> {
    let port = |port: &str| match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok(Some(port)),
        _ => Err(RuleError::Port),
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (net, rest) = rest.split_once(']').ok_or(RuleError::Address)?;
        return match rest.strip_prefix(':') {
            Some(number) => Ok((net, port(number)?)),
            None if rest.is_empty() => Ok((net, None)),
            None => Err(RuleError::Address),
        };
    }
    match text.split_once(':') {
        // More than one colon is IPv6.
        Some((net, number)) if !number.contains(':') => Ok((net, port(number)?)),
        _ => Ok((text, None)),
    }
}

fn not_an_address(text: &str) -> RuleError {
    let is_name = text.chars().any(|c| c.is_ascii_alphabetic()) && !text.contains(':');
    if is_name { RuleError::Name } else { RuleError::Address }
}

fn has_host_bits(rule: &Rule) -> bool {
    let (address, bits) = rule.mapped();
    address.to_bits().checked_shl(u32::from(bits)).unwrap_or(0) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_and_written_alike() {
        for text in [
            "10.1.0.0/16",
            "10.1.0.5:443",
            "10.1.0.0/16:443",
            "udp:10.0.0.53:53",
            "0.0.0.0/0",
            "2001:db8::1",
            "2001:db8::/32",
            "[2001:db8::/32]:443",
            "[::1]:8443",
            "udp:[2001:db8::53]:53",
        ] {
            assert_eq!(text.parse::<Rule>().map(|rule| rule.to_string()).as_deref(), Ok(text));
        }
        assert_eq!("tcp:10.1.0.5:443".parse::<Rule>(), "10.1.0.5:443".parse());
        assert_eq!("[::ffff:10.1.0.5]:443".parse::<Rule>(), "10.1.0.5:443".parse());
        assert_eq!("::ffff:10.1.0.0/112".parse::<Rule>(), "10.1.0.0/16".parse());
        let address: SocketAddr = "10.1.0.5:443".parse().unwrap();
        assert_eq!(Ok(Rule::to(address)), "10.1.0.5:443".parse());
    }

    #[test]
    fn whatever_is_unclear_is_refused() {
        for (text, why) in [
            ("ocsp.example.test:80", RuleError::Name),
            ("localhost", RuleError::Name),
            ("", RuleError::Address),
            ("10.1.0", RuleError::Address),
            ("10.1.0.5:0", RuleError::Port),
            ("10.1.0.5:65536", RuleError::Port),
            ("10.1.0.5:", RuleError::Port),
            ("10.1.0.0/33", RuleError::Bits),
            ("10.1.0.0/", RuleError::Bits),
            ("10.1.0.5/16", RuleError::HostBits),
            ("2001:db8::1/32", RuleError::HostBits),
            ("::ffff:10.1.0.0/80", RuleError::Bits),
            ("[2001:db8::1]443", RuleError::Address),
            ("[2001:db8::1", RuleError::Address),
            ("2001:db8::/129", RuleError::Bits),
        ] {
            assert_eq!(text.parse::<Rule>(), Err(why), "{text}");
        }
    }

    #[test]
    fn ipv4_stands_mapped_in_front_of_the_kernel() {
        let rule: Rule = "10.1.0.0/16".parse().unwrap();
        let (address, bits) = rule.mapped();
        assert_eq!((address.to_string().as_str(), bits), ("::ffff:10.1.0.0", 112));
    }
}
