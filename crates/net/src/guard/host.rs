//! The authority of a request: `Host`, and the authority of an absolute target.
//!
//! Stricter than RFC 3986 §3.2.2: names are letters, digits, `-`, `_` and `.`, never
//! percent-encoded and without sub-delimiters, for no name in DNS has them and parsers differ.

use core::net::Ipv6Addr;

use moat_model::limit::HOST_NAME_BYTES_MAX;

/// Whether `authority` is `host [":" port]`, without user information (RFC 9110 §4.2.4).
pub(super) fn is_authority(authority: &[u8]) -> bool {
    if let Some(rest) = authority.strip_prefix(b"[") {
        let mut parts = rest.splitn(2, |byte| *byte == b']');
        let (Some(address), Some(rest)) = (parts.next(), parts.next()) else { return false };
        return is_ipv6(address) && is_port_part(rest);
    }
    let end = authority.iter().position(|byte| *byte == b':').unwrap_or(authority.len());
    authority.split_at_checked(end).is_some_and(|(name, rest)| is_name(name) && is_port_part(rest))
}

fn is_ipv6(address: &[u8]) -> bool {
    core::str::from_utf8(address).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

/// Nothing, or a colon and a port from 1 to 65535.
fn is_port_part(rest: &[u8]) -> bool {
    let Some(digits) = rest.strip_prefix(b":") else { return rest.is_empty() };
    if digits.is_empty() || digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let port = digits.iter().fold(0_u32, |port, digit| port * 10 + u32::from(digit - b'0'));
    (1..=u32::from(u16::MAX)).contains(&port)
}

/// Labels between single dots; one dot at the end is allowed.
fn is_name(name: &[u8]) -> bool {
    let labels = name.strip_suffix(b".").unwrap_or(name);
    name.len() <= HOST_NAME_BYTES_MAX && labels.split(|byte| *byte == b'.').all(is_label)
}

fn is_label(label: &[u8]) -> bool {
    !label.is_empty()
        && label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}
