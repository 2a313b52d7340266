//! Addresses of the Internet: the network is shown, /24 of IPv4 and /48 of IPv6.

use core::fmt::Write;
use core::net::IpAddr;

use crate::strategy::Show;

/// Whether the text is an address.
#[must_use]
pub fn is_ip(text: &str) -> bool {
    text.trim().parse::<IpAddr>().is_ok()
}

/// The network; strictly nothing.
pub(crate) fn mask(text: &str, show: Show, out: &mut String) -> bool {
    let (Ok(address), Show::Normal) = (text.trim().parse::<IpAddr>(), show) else { return false };
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            write!(out, "{a}.{b}.{c}.0/24").is_ok()
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            write!(out, "{a:x}:{b:x}:{c:x}::/48").is_ok()
        }
    }
}
