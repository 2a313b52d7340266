//! What is known of samples.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::EVERY_BYTES;

/// Most samples that are held at once: of 8 GiB.
const SAMPLES_MAX: usize = 16_384;
/// Most stacks that are remembered.
const SITES_MAX: usize = 4_096;

/// A stack that memory was asked from, and how much that is estimated to be.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct Site {
    /// Addresses, or offsets once they were made such; whoever asked last comes first.
    pub stack: Vec<u64>,
    /// Pieces that are held.
    pub held: u64,
    /// Bytes that are held.
    pub held_bytes: u64,
    /// Pieces ever asked for.
    pub asked: u64,
    /// Bytes ever asked for.
    pub asked_bytes: u64,
}

/// Everything at a moment.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct Profile {
    /// Mean distance of samples, in bytes.
    pub every_bytes: u64,
    /// Samples beyond what can be remembered.
    pub missed: u64,
    /// Most bytes held first.
    pub sites: Vec<Site>,
}

impl Profile {
    /// By how much more each site holds than it did in an earlier profile, most first; what does
    /// not hold more is left out.
    #[must_use]
    pub fn grown_since(&self, earlier: &Profile) -> Profile {
        let before: HashMap<&[u64], &Site> =
            earlier.sites.iter().map(|site| (site.stack.as_slice(), site)).collect();
        let grown = self.sites.iter().filter_map(|site| {
            let none = Site::default();
            let before = before.get(site.stack.as_slice()).copied().unwrap_or(&none);
            let held_bytes = site.held_bytes.checked_sub(before.held_bytes).filter(|b| *b > 0)?;
            Some(Site {
                stack: site.stack.clone(),
                held: site.held.saturating_sub(before.held),
                held_bytes,
                asked: site.asked.saturating_sub(before.asked),
                asked_bytes: site.asked_bytes.saturating_sub(before.asked_bytes),
            })
        });
        let mut sites: Vec<Site> = grown.collect();
        sites.sort_by_key(|site| std::cmp::Reverse(site.held_bytes));
        Profile { every_bytes: self.every_bytes, missed: self.missed, sites }
    }
}

/// How many pieces and bytes a sample of this size stands for: one that is smaller than the distance
/// is met as seldom as it is smaller.
fn weight(bytes: u64) -> (u64, u64) {
    match EVERY_BYTES.checked_div(bytes) {
        None => (1, 0),
        Some(pieces) if pieces > 1 => (pieces, pieces.saturating_mul(bytes)),
        Some(_) => (1, bytes),
    }
}

pub(crate) struct Table {
    /// Place of the site and size, by address.
    samples: HashMap<usize, (usize, u64)>,
    /// Place of the site, by stack.
    places: HashMap<Box<[u64]>, usize>,
    sites: Vec<Site>,
    missed: u64,
}

impl Table {
    pub(crate) fn new() -> Table {
        // All room at once: growing would happen within an allocation.
        Table {
            samples: HashMap::with_capacity(SAMPLES_MAX),
            places: HashMap::with_capacity(SITES_MAX),
            sites: Vec::with_capacity(SITES_MAX),
            missed: 0,
        }
    }

    /// Whether there was room.
    pub(crate) fn add(&mut self, place: usize, bytes: u64, stack: &[u64]) -> bool {
        let Some(at) = self.site(stack).filter(|_| self.samples.len() < SAMPLES_MAX) else {
            self.missed += 1;
            return false;
        };
        // What was given out anew without being given back was not seen when it was.
        self.remove(place);
        let Some(site) = self.sites.get_mut(at) else { return false };
        let (pieces, all) = weight(bytes);
        site.held += pieces;
        site.held_bytes = site.held_bytes.saturating_add(all);
        site.asked += pieces;
        site.asked_bytes = site.asked_bytes.saturating_add(all);
        self.samples.insert(place, (at, bytes));
        true
    }

    /// Whether it was a sample.
    pub(crate) fn remove(&mut self, place: usize) -> bool {
        let Some((at, bytes)) = self.samples.remove(&place) else { return false };
        if let Some(site) = self.sites.get_mut(at) {
            let (pieces, all) = weight(bytes);
            site.held = site.held.saturating_sub(pieces);
            site.held_bytes = site.held_bytes.saturating_sub(all);
        }
        true
    }

    fn site(&mut self, stack: &[u64]) -> Option<usize> {
        if let Some(at) = self.places.get(stack) {
            return Some(*at);
        }
        if self.sites.len() >= SITES_MAX {
            return None;
        }
        self.sites.push(Site { stack: stack.to_vec(), ..Site::default() });
        let at = self.sites.len() - 1;
        self.places.insert(stack.into(), at);
        Some(at)
    }

    pub(crate) fn profile(&self) -> Profile {
        let mut sites = self.sites.clone();
        sites.sort_by_key(|site| std::cmp::Reverse(site.held_bytes));
        Profile { every_bytes: EVERY_BYTES, missed: self.missed, sites }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_small_piece_stands_for_many_and_a_large_one_for_itself() {
        assert_eq!(weight(1_024), (512, EVERY_BYTES));
        assert_eq!(weight(EVERY_BYTES), (1, EVERY_BYTES));
        assert_eq!(weight(5 * EVERY_BYTES), (1, 5 * EVERY_BYTES));
        assert_eq!(weight(0), (1, 0));
    }

    #[test]
    fn growth_is_told_by_site_most_first() {
        let mut table = Table::new();
        table.add(1, EVERY_BYTES, &[1, 2]);
        let before = table.profile();
        table.add(2, 3 * EVERY_BYTES, &[3]);
        table.add(3, EVERY_BYTES, &[1, 2]);
        table.remove(1);
        let grown = table.profile().grown_since(&before);
        assert_eq!(grown.sites.len(), 1, "{grown:?}");
        assert_eq!(
            (grown.sites[0].stack.as_slice(), grown.sites[0].held_bytes),
            (&[3][..], 3 * EVERY_BYTES)
        );
    }

    #[test]
    fn what_there_is_no_room_for_is_counted() {
        let mut table = Table::new();
        for place in 0..SAMPLES_MAX + 5 {
            table.add(place, 1, &[u64::try_from(place % SITES_MAX).unwrap()]);
        }
        assert_eq!(table.profile().missed, 5);
        assert!(!table.add(0, 1, &[u64::MAX]));
    }

    proptest! {
        #[test]
        fn what_is_given_back_is_held_no_longer(
            steps in prop::collection::vec((0_usize..20, 1_u64..2_000_000, any::<bool>(), 0_u64..4), 0..200),
        ) {
            let mut table = Table::new();
            for (place, bytes, is_given, stack) in steps {
                if is_given { table.add(place, bytes, &[stack]); } else { table.remove(place); }
            }
            (0..20).for_each(|place| { table.remove(place); });
            let profile = table.profile();
            prop_assert!(profile.sites.iter().all(|site| site.held == 0 && site.held_bytes == 0));
        }
    }
}
