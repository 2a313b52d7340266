//! Entries of the allow-list as keys of the kernel's trie.

use moat_model::egress::Rule;

/// Most entries of an allow-list; `ALLOW_MAX` in `bpf/moat.h`.
pub const RULES_MAX: usize = 2048;
/// Bits of a key in front of the address: protocol, nothing and port.
const HEAD_BITS: u32 = 32;

/// Length of the prefix in bits and the bytes behind it: protocol, zero, port in network order,
/// address.
#[must_use]
pub fn key_of(rule: &Rule) -> (u32, [u8; 20]) {
    let (address, bits) = rule.mapped();
    let mut bytes = [0; 20];
    let [port_high, port_low] = rule.port.unwrap_or(0).to_be_bytes();
    let head = [rule.protocol as u8, 0, port_high, port_low];
    for (place, byte) in bytes.iter_mut().zip(head.into_iter().chain(address.octets())) {
        *place = byte;
    }
    (HEAD_BITS + u32::from(bits), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_protocol_port_and_mapped_address_in_network_order() {
        let (bits, bytes) = key_of(&"udp:10.1.0.0/16:53".parse().unwrap());
        assert_eq!(bits, 32 + 96 + 16);
        assert_eq!(bytes[..4], [17, 0, 0, 53]);
        assert_eq!(bytes[4..], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 1, 0, 0]);
        let (bits, bytes) = key_of(&"2001:db8::1".parse().unwrap());
        assert_eq!((bits, bytes[..4].to_vec()), (160, vec![6, 0, 0, 0]));
    }
}
