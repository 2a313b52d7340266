//! What a request and its answer have in common.

use crate::iso8583::{MessageClass, Observer, Read, View};

/// Fields that name a message about the connection itself: it has no terminal and no acquirer.
const OF_NETWORK: [u8; 2] = [7, 11];
/// Stands for a field that is not there; longer than any value.
const ABSENT: u16 = u16::MAX;

/// Version and class of a message, and the values of the fields by which its dialect tells one
/// exchange from another.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key(Box<[u8]>);

impl core::fmt::Debug for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// The key of a message. Values are compared as they were sent; a field that is not there is
    /// another thing than an empty one. Of guarded fields nothing is taken.
    pub fn of<O: Observer>(view: &mut View<'_, O>, match_on: &[u8]) -> Key {
        let mti = view.mti();
        let [version, class, ..] = mti.digits();
        let mut bytes = vec![version, class];
        let is_network = mti.class() == MessageClass::Network;
        for number in match_on.iter().filter(|at| !is_network || OF_NETWORK.contains(at)) {
            match view.read(*number) {
                Some(Read::Clear(value)) => {
                    let length = u16::try_from(value.bytes().len()).unwrap_or(ABSENT - 1);
                    bytes.extend_from_slice(&length.to_be_bytes());
                    bytes.extend_from_slice(value.bytes());
                }
                Some(Read::Guarded(_)) | None => bytes.extend_from_slice(&ABSENT.to_be_bytes()),
            }
        }
        Key(bytes.into())
    }

    /// The same key, of one party among others.
    #[must_use]
    pub fn of_party(&self, party: &str) -> Key {
        let length = u32::try_from(party.len()).unwrap_or(u32::MAX);
        Key([&length.to_be_bytes(), party.as_bytes(), &self.0].concat().into())
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.len()
    }
}
