//! A hash ring: the same key goes to the same endpoint, and one endpoint more or less moves only
//! the keys that it gains or loses.

use std::net::SocketAddr;

/// Places on the ring of an endpoint of weight 1.
const PLACES: u32 = 100;
/// Most places of one endpoint, whatever its weight.
const PLACES_MAX: u32 = 1_000;

/// A hash that is the same on every node and in every version: FNV-1a, then mixed so that near
/// keys are far apart.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    mix(hash)
}

const fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// See the module. Indices are those of the list it was made of.
#[derive(Debug, Default)]
pub struct Ring(Vec<(u64, usize)>);

impl Ring {
    /// A ring of endpoints by address and weight.
    #[must_use]
    pub fn new(endpoints: impl Iterator<Item = (SocketAddr, u32)>) -> Ring {
        let mut places = Vec::new();
        for (at, (address, weight)) in endpoints.enumerate() {
            let own = hash(address.to_string().as_bytes());
            let count = PLACES.saturating_mul(weight).min(PLACES_MAX);
            places.extend((0..count).map(|n| (mix(own.wrapping_add(u64::from(n))), at)));
        }
        places.sort_unstable();
        Ring(places)
    }

    /// Endpoints in the order of the ring from a key on; each may come several times.
    pub fn from(&self, key: u64) -> impl Iterator<Item = usize> {
        let begin = self.0.partition_point(|(place, _)| *place < key);
        let (before, after) = self.0.split_at(begin.min(self.0.len()));
        after.iter().chain(before).map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(count: u8) -> Vec<SocketAddr> {
        (1..=count).map(|n| SocketAddr::from(([10, 0, 0, n], 443))).collect()
    }

    fn owner(ring: &Ring, all: &[SocketAddr], key: u64) -> Option<SocketAddr> {
        ring.from(hash(&key.to_be_bytes())).next().map(|at| all[at])
    }

    #[test]
    fn hashes_never_change() {
        assert_eq!(hash(b""), 0xefd0_1f60_ba99_2926);
        assert_ne!(hash(b"account/1001"), hash(b"account/1002"));
    }

    #[test]
    fn keys_spread_by_weight() {
        let all = addresses(3);
        let ring = Ring::new(all.iter().zip([1, 1, 2]).map(|(a, w)| (*a, w)));
        let mut counts = [0_u32; 3];
        for key in 0..20_000_u64 {
            counts[ring.from(hash(&key.to_be_bytes())).next().unwrap()] += 1;
        }
        for (count, share) in counts.iter().zip([5_000, 5_000, 10_000]) {
            assert!(count.abs_diff(share) < share / 4, "{counts:?}");
        }
    }

    #[test]
    fn an_endpoint_that_leaves_moves_only_its_own_keys() {
        let (all, fewer) = (addresses(5), addresses(4));
        let ring = Ring::new(all.iter().map(|a| (*a, 1)));
        let smaller = Ring::new(fewer.iter().map(|a| (*a, 1)));
        for key in 0..5_000_u64 {
            let before = owner(&ring, &all, key);
            if before != Some(all[4]) {
                assert_eq!(owner(&smaller, &fewer, key), before);
            }
        }
    }

    #[test]
    fn a_ring_of_nobody_gives_nobody() {
        assert_eq!(Ring::default().from(7).next(), None);
    }
}
