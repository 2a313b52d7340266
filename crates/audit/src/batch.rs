//! Bodies on their way into one frame: their leaves, hashes and places, before anything is written.

use crate::check::Tail;
use crate::hash::{Hash, leaf_hash};
use crate::link::Ack;
use crate::record::{Head, Pairing, RecordError, encode_leaf};
use crate::segment::{SegmentError, encode_frame};
use crate::tlv::push_u16;

/// The part of a head that is the same for every record of this process.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) log_id: String,
    pub(crate) boot_id: [u8; 16],
    pub(crate) clock_err_us: u32,
}

/// The times of one batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) wall_ns: u64,
    pub(crate) mono_ns: u64,
}

#[derive(Clone, Debug)]
struct Placed {
    ack: Ack,
    pairing: Pairing,
}

/// Leaves that are to become one frame. Nothing of the log's state changes until they are durable.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    payload: Vec<u8>,
    placed: Vec<Placed>,
    /// How many at its start are the committer's own, so that nobody waits for their acks.
    own: usize,
}

impl Batch {
    pub(crate) fn len(&self) -> usize {
        self.placed.len()
    }

    pub(crate) fn payload_len(&self) -> usize {
        self.payload.len()
    }

    /// Appends one body as the next record after `tail` and what is already here.
    pub(crate) fn push(
        &mut self,
        body: &[u8],
        tail: &Tail,
        origin: &Origin,
        now: Now,
    ) -> Result<(), RecordError> {
        let before = self.placed.last().map(|placed| placed.ack);
        let head = Head {
            log_id: origin.log_id.clone(),
            seq: before.map_or(tail.next_seq, |ack| ack.seq + 1),
            prev_hash: before.map_or(tail.prev_leaf_hash, |ack| ack.leaf_hash),
            t_wall_ns: now.wall_ns.max(before.map_or(tail.last_wall_ns, |ack| ack.t_wall_ns)),
            t_mono_ns: now.mono_ns,
            boot_id: origin.boot_id,
            clock_err_us: origin.clock_err_us,
        };
        let pairing = Pairing::peek(body)?;
        let leaf = encode_leaf(&head, body)?;
        let hash: Hash = leaf_hash(&leaf);
        push_u16(&mut self.payload, &leaf).ok_or(RecordError::TooLong)?;
        let ack = Ack { seq: head.seq, leaf_hash: hash, t_wall_ns: head.t_wall_ns };
        self.placed.push(Placed { ack, pairing });
        Ok(())
    }

    /// Says that what is here so far is the committer's own.
    pub(crate) fn mark_own(&mut self) {
        self.own = self.placed.len();
    }

    /// The frame, for whichever segment it goes to: the leaves do not depend on it.
    pub(crate) fn frame(&self, prev_frame_hash: &Hash) -> Result<Vec<u8>, SegmentError> {
        let first = self.placed.first().map_or(0, |placed| placed.ack.seq);
        let count = u32::try_from(self.placed.len()).map_err(|_| SegmentError::TooLong)?;
        encode_frame(first, count, prev_frame_hash, &self.payload)
    }

    /// Moves the end of the log behind these leaves, now durable.
    pub(crate) fn apply(&self, tail: &mut Tail) {
        for placed in &self.placed {
            tail.push(placed.ack.leaf_hash, placed.ack.t_wall_ns, &placed.pairing);
        }
    }

    /// The hashes of the leaves, in order.
    pub(crate) fn hashes(&self) -> impl Iterator<Item = Hash> {
        self.placed.iter().map(|placed| placed.ack.leaf_hash)
    }

    /// The acks of the first `count` bodies that were not the committer's own.
    pub(crate) fn acks(&self, count: usize) -> Vec<Ack> {
        self.placed.iter().skip(self.own).take(count).map(|placed| placed.ack).collect()
    }
}
