//! Bytes as they come, cut into messages.

use zeroize::{Zeroize, Zeroizing};

use crate::error::MessageError;
use crate::frame::Framing;

/// Collects bytes until a message is whole. What it holds was received: nothing is set aside for a
/// length that was only announced. Wiped when dropped.
pub struct Assembler {
    framing: Framing,
    held: Zeroizing<Vec<u8>>,
    /// How much of `held` was taken.
    taken: usize,
    is_broken: bool,
}

impl Assembler {
    /// An empty one.
    #[must_use]
    pub fn new(framing: Framing) -> Assembler {
        Assembler { framing, held: Zeroizing::new(Vec::new()), taken: 0, is_broken: false }
    }

    /// Adds what was received.
    pub fn push(&mut self, received: &[u8]) {
        if self.taken > 0 {
            self.held.drain(..self.taken);
            self.taken = 0;
        }
        let needed = self.held.len() + received.len();
        if needed > self.held.capacity() {
            // Grown by hand: what is left behind may hold card numbers, and must be wiped.
            let mut grown = Zeroizing::new(Vec::with_capacity(needed.next_power_of_two()));
            grown.extend_from_slice(&self.held);
            self.held.zeroize();
            self.held = grown;
        }
        self.held.extend_from_slice(received);
    }

    /// The next whole message; `None` while there is none. An empty message keeps a connection up.
    ///
    /// # Errors
    /// When a length is malformed or too large. After that nothing can be cut any more.
    pub fn next_message(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, MessageError> {
        let rest = self.held.get(self.taken..).unwrap_or_default();
        if self.is_broken {
            return Ok(None);
        }
        match self.framing.take(rest) {
            Ok(Some(frame)) => {
                let message = Zeroizing::new(frame.message.to_vec());
                self.taken += frame.used;
                Ok(Some(message))
            }
            Ok(None) => Ok(None),
            Err(wrong) => {
                self.is_broken = true;
                Err(wrong)
            }
        }
    }

    /// Whether a message has begun and is not whole.
    #[must_use]
    pub fn is_within(&self) -> bool {
        self.held.len() > self.taken
    }
}
