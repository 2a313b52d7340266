//! The bytes of a segment file: a header, frames, and a footer once it is full.
//!
//! Sans-IO. Each frame holds the hash of the one before, the first that of the header, and the
//! header that of the last frame of the segment before: one chain through all files, beside the
//! chain of the leaves. Layout with offsets in `docs/record.md`.

use crate::hash::{Hash, sha256};
use crate::merkle::Frontier;
use crate::record::{LOG_ID_BYTES_MAX, is_log_id};
use crate::tlv::{Reader, TlvError, Writer, split_u16};

/// First bytes of a segment.
pub const MAGIC: &[u8; 8] = b"MOATSEG1";
/// First bytes of a frame with leaves.
pub const FRAME_MAGIC: &[u8; 4] = b"MFRM";
/// First bytes of the footer, which is a frame without leaves.
pub const FOOTER_MAGIC: &[u8; 4] = b"MEND";
/// The version in the header.
pub const FORMAT: u16 = 1;
/// Bytes before the fields of a header: magic, length, CRC.
pub const HEADER_PREFIX_BYTES: usize = 16;
/// Longest header, in bytes: 64 subtree roots and every other field at its longest.
pub const HEADER_BYTES_MAX: usize = 4096;
/// Bytes before the payload of a frame.
pub const FRAME_PREFIX_BYTES: usize = 56;
/// Longest payload of a frame, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Longest footer with its prefix, in bytes.
pub const FOOTER_BYTES_MAX: usize = 256;

const _: () = assert!(64 * 32 + LOG_ID_BYTES_MAX + 512 < HEADER_BYTES_MAX);

/// Why bytes are no header, frame or footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// More bytes are needed than there are.
    #[error("cut off")]
    CutOff,
    /// Other first bytes.
    #[error("wrong magic")]
    Magic,
    /// A length beyond its bound.
    #[error("a length beyond its bound")]
    TooLong,
    /// The checksum does not match.
    #[error("wrong checksum")]
    Checksum,
    /// The payload is not `count` leaves.
    #[error("the payload does not hold as many leaves as it says")]
    Payload,
    /// The fields of header or footer.
    #[error("malformed fields: {0}")]
    Tlv(#[from] TlvError),
}

mod tag {
    pub(super) const FORMAT: u8 = 0x01;
    pub(super) const LOG_ID: u8 = 0x02;
    pub(super) const INDEX: u8 = 0x03;
    pub(super) const EPOCH: u8 = 0x04;
    pub(super) const FIRST_SEQ: u8 = 0x05;
    pub(super) const PREV_LEN: u8 = 0x06;
    pub(super) const PREV_HASH: u8 = 0x07;
    pub(super) const PREV_LEAF_HASH: u8 = 0x08;
    pub(super) const OLDEST_OPEN: u8 = 0x09;
    pub(super) const FRONTIER: u8 = 0x0a;
    pub(super) const WRAPPED_DEK: u8 = 0x0b;
    pub(super) const SIZE: u8 = 0x01;
    pub(super) const COUNT: u8 = 0x02;
    pub(super) const LAST_LEAF_HASH: u8 = 0x03;
    pub(super) const ROOT_SHA256: u8 = 0x04;
    pub(super) const ROOT_SM3: u8 = 0x05;
}

/// What a segment says of itself and of the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The log.
    pub log_id: String,
    /// Number of the segment, from 0.
    pub index: u64,
    /// Which opening of the log made it.
    pub epoch: u64,
    /// Seq of its first leaf.
    pub first_seq: u64,
    /// How many bytes of the segment before count; 0 for the first.
    pub prev_len: u64,
    /// Hash of the last frame that counts in the segment before; zero for the first.
    pub prev_hash: Hash,
    /// Leaf hash of seq `first_seq - 1`; zero for the first.
    pub prev_leaf_hash: Hash,
    /// The oldest INTENT that had no OUTCOME then; how far back recovery must read.
    pub oldest_open: Option<u64>,
    /// The tree of size `first_seq`.
    pub frontier: Frontier,
    /// The wrapped data key when the log is encrypted; empty otherwise.
    pub wrapped_dek: Vec<u8>,
}

impl Header {
    /// The bytes at the start of the file.
    ///
    /// # Errors
    /// When the log id is longer than one may be.
    pub fn encode(&self) -> Result<Vec<u8>, SegmentError> {
        let mut w = Writer::default();
        w.put(tag::FORMAT, &FORMAT.to_be_bytes());
        w.text(tag::LOG_ID, &self.log_id);
        w.put(tag::INDEX, &self.index.to_be_bytes());
        w.put(tag::EPOCH, &self.epoch.to_be_bytes());
        w.put(tag::FIRST_SEQ, &self.first_seq.to_be_bytes());
        w.put(tag::PREV_LEN, &self.prev_len.to_be_bytes());
        w.put(tag::PREV_HASH, &self.prev_hash);
        w.put(tag::PREV_LEAF_HASH, &self.prev_leaf_hash);
        w.optional(tag::OLDEST_OPEN, self.oldest_open.map(u64::to_be_bytes));
        if !self.frontier.nodes().is_empty() {
            w.put(tag::FRONTIER, self.frontier.nodes().as_flattened());
        }
        if !self.wrapped_dek.is_empty() {
            w.put(tag::WRAPPED_DEK, &self.wrapped_dek);
        }
        let fields = w.finish()?;
        if fields.len() > HEADER_BYTES_MAX - HEADER_PREFIX_BYTES {
            return Err(SegmentError::TooLong);
        }
        let len = u32::try_from(fields.len()).map_err(|_| SegmentError::TooLong)?.to_be_bytes();
        let crc = checksum(&[MAGIC, &len, &fields]).to_be_bytes();
        Ok([MAGIC.as_slice(), &len, &crc, &fields].concat())
    }
}

/// The header at the start of `bytes` and how long it is.
///
/// # Errors
/// When there is none, or not yet.
pub fn decode_header(bytes: &[u8]) -> Result<(Header, usize), SegmentError> {
    let (prefix, rest) =
        bytes.split_first_chunk::<HEADER_PREFIX_BYTES>().ok_or(SegmentError::CutOff)?;
    let [m0, m1, m2, m3, m4, m5, m6, m7, l0, l1, l2, l3, c0, c1, c2, c3] = *prefix;
    if [m0, m1, m2, m3, m4, m5, m6, m7] != *MAGIC {
        return Err(SegmentError::Magic);
    }
    let len_bytes = [l0, l1, l2, l3];
    let len = usize::try_from(u32::from_be_bytes(len_bytes)).unwrap_or(usize::MAX);
    if len > HEADER_BYTES_MAX - HEADER_PREFIX_BYTES {
        return Err(SegmentError::TooLong);
    }
    let fields = rest.get(..len).ok_or(SegmentError::CutOff)?;
    if checksum(&[MAGIC, &len_bytes, fields]) != u32::from_be_bytes([c0, c1, c2, c3]) {
        return Err(SegmentError::Checksum);
    }
    Ok((decode_header_fields(fields)?, HEADER_PREFIX_BYTES + len))
}

fn decode_header_fields(fields: &[u8]) -> Result<Header, TlvError> {
    let mut r = Reader::new(fields);
    if r.must(tag::FORMAT)? != FORMAT.to_be_bytes() {
        return Err(TlvError::Value(tag::FORMAT));
    }
    let log_id = r.text(tag::LOG_ID)?.to_owned();
    if !is_log_id(&log_id) {
        return Err(TlvError::Value(tag::LOG_ID));
    }
    let index = u64::from_be_bytes(r.must(tag::INDEX)?);
    let epoch = u64::from_be_bytes(r.must(tag::EPOCH)?);
    let first_seq = u64::from_be_bytes(r.must(tag::FIRST_SEQ)?);
    let header = Header {
        log_id,
        index,
        epoch,
        first_seq,
        prev_len: u64::from_be_bytes(r.must(tag::PREV_LEN)?),
        prev_hash: r.must(tag::PREV_HASH)?,
        prev_leaf_hash: r.must(tag::PREV_LEAF_HASH)?,
        oldest_open: r.number(tag::OLDEST_OPEN)?,
        frontier: decode_frontier(first_seq, r.take(tag::FRONTIER)?)?,
        wrapped_dek: match r.take(tag::WRAPPED_DEK)? {
            Some([]) => return Err(TlvError::Value(tag::WRAPPED_DEK)),
            dek => dek.unwrap_or_default().to_vec(),
        },
    };
    r.finish()?;
    Ok(header)
}

fn decode_frontier(size: u64, nodes: Option<&[u8]>) -> Result<Frontier, TlvError> {
    let bad = TlvError::Value(tag::FRONTIER);
    let (nodes, rest) = nodes.unwrap_or_default().as_chunks::<32>();
    if !rest.is_empty() {
        return Err(bad);
    }
    Frontier::from_parts(size, nodes.to_vec()).ok_or(bad)
}

/// One frame, borrowed from the bytes that hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Whether it is the footer.
    pub is_footer: bool,
    /// Seq of its first leaf; of a footer, the seq after the last leaf.
    pub seq_first: u64,
    /// How many leaves; 0 for a footer.
    pub count: u32,
    /// Hash of the frame before, or of the header.
    pub prev_frame_hash: Hash,
    /// The leaves, each with a 16-bit length (tlog-tiles entry bundle), or the footer's fields.
    pub payload: &'a [u8],
    /// All its bytes.
    pub bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Hash that the next frame must hold.
    #[must_use]
    pub fn hash(&self) -> Hash {
        sha256(self.bytes)
    }

    /// The leaves in order.
    pub fn leaves(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = if self.is_footer { &[] } else { self.payload };
        std::iter::from_fn(move || {
            let (leaf, after) = split_u16(rest)?;
            rest = after;
            Some(leaf)
        })
    }
}

/// The bytes of a frame with leaves; `payload` holds `count` leaves with their lengths.
///
/// # Errors
/// When the payload is longer than one may be.
pub fn encode_frame(
    seq_first: u64,
    count: u32,
    prev_frame_hash: &Hash,
    payload: &[u8],
) -> Result<Vec<u8>, SegmentError> {
    encode_any(FRAME_MAGIC, seq_first, count, prev_frame_hash, payload)
}

fn encode_any(
    magic: &[u8; 4],
    seq_first: u64,
    count: u32,
    prev_frame_hash: &Hash,
    payload: &[u8],
) -> Result<Vec<u8>, SegmentError> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(SegmentError::TooLong);
    }
    let len = u32::try_from(payload.len()).map_err(|_| SegmentError::TooLong)?.to_be_bytes();
    let (seq, count) = (seq_first.to_be_bytes(), count.to_be_bytes());
    let crc = checksum(&[magic, &len, &seq, &count, prev_frame_hash, payload]).to_be_bytes();
    Ok([magic.as_slice(), &len, &crc, &seq, &count, prev_frame_hash, payload].concat())
}

/// The frame or footer at the start of `bytes`.
///
/// # Errors
/// When there is none, or not all of it.
pub fn decode_frame(bytes: &[u8]) -> Result<Frame<'_>, SegmentError> {
    let len = frame_len(bytes)?;
    let bytes = bytes.get(..len).ok_or(SegmentError::CutOff)?;
    let (magic, rest) = bytes.split_first_chunk::<4>().ok_or(SegmentError::CutOff)?;
    let (len, rest) = rest.split_first_chunk::<4>().ok_or(SegmentError::CutOff)?;
    let (crc, covered) = rest.split_first_chunk::<4>().ok_or(SegmentError::CutOff)?;
    if checksum(&[magic, len, covered]) != u32::from_be_bytes(*crc) {
        return Err(SegmentError::Checksum);
    }
    let (seq_first, rest) = covered.split_first_chunk::<8>().ok_or(SegmentError::CutOff)?;
    let (count, rest) = rest.split_first_chunk::<4>().ok_or(SegmentError::CutOff)?;
    let (prev_frame_hash, payload) = rest.split_first_chunk::<32>().ok_or(SegmentError::CutOff)?;
    let frame = Frame {
        is_footer: magic == FOOTER_MAGIC,
        seq_first: u64::from_be_bytes(*seq_first),
        count: u32::from_be_bytes(*count),
        prev_frame_hash: *prev_frame_hash,
        payload,
        bytes,
    };
    if holds_its_count(&frame) { Ok(frame) } else { Err(SegmentError::Payload) }
}

/// How long the frame at the start of `bytes` is, from its first eight bytes.
///
/// # Errors
/// When these are not there, or begin no frame.
pub fn frame_len(bytes: &[u8]) -> Result<usize, SegmentError> {
    let (magic, rest) = bytes.split_first_chunk::<4>().ok_or(SegmentError::CutOff)?;
    if magic != FRAME_MAGIC && magic != FOOTER_MAGIC {
        return Err(SegmentError::Magic);
    }
    let (len, _) = rest.split_first_chunk::<4>().ok_or(SegmentError::CutOff)?;
    let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
    if len > PAYLOAD_BYTES_MAX {
        return Err(SegmentError::TooLong);
    }
    Ok(FRAME_PREFIX_BYTES + len)
}

fn holds_its_count(frame: &Frame<'_>) -> bool {
    if frame.is_footer {
        return frame.count == 0;
    }
    let (mut rest, mut count) = (frame.payload, 0u32);
    while !rest.is_empty() {
        let Some((_, after)) = split_u16(rest) else { return false };
        rest = after;
        count += 1;
    }
    count == frame.count && count > 0
}

/// What a full segment says at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Size of the tree after the last leaf.
    pub size: u64,
    /// Leaves in this segment.
    pub count: u64,
    /// Leaf hash of the last.
    pub last_leaf_hash: Hash,
    /// Root of the tree of `size` leaves over SHA-256.
    pub root_sha256: Hash,
    /// The same over SM3, where it is kept.
    pub root_sm3: Option<Hash>,
}

impl Footer {
    /// The footer as a frame.
    ///
    /// # Errors
    /// Never in practice: a footer is short.
    pub fn encode(&self, prev_frame_hash: &Hash) -> Result<Vec<u8>, SegmentError> {
        let mut w = Writer::default();
        w.put(tag::SIZE, &self.size.to_be_bytes());
        w.put(tag::COUNT, &self.count.to_be_bytes());
        w.put(tag::LAST_LEAF_HASH, &self.last_leaf_hash);
        w.put(tag::ROOT_SHA256, &self.root_sha256);
        w.optional(tag::ROOT_SM3, self.root_sm3);
        encode_any(FOOTER_MAGIC, self.size, 0, prev_frame_hash, &w.finish()?)
    }

    /// The footer in a frame.
    ///
    /// # Errors
    /// When the frame is none.
    pub fn decode(frame: &Frame<'_>) -> Result<Footer, SegmentError> {
        if !frame.is_footer {
            return Err(SegmentError::Magic);
        }
        let mut r = Reader::new(frame.payload);
        let footer = Footer {
            size: u64::from_be_bytes(r.must(tag::SIZE)?),
            count: u64::from_be_bytes(r.must(tag::COUNT)?),
            last_leaf_hash: r.must(tag::LAST_LEAF_HASH)?,
            root_sha256: r.must(tag::ROOT_SHA256)?,
            root_sm3: r.hash(tag::ROOT_SM3)?,
        };
        r.finish()?;
        Ok(footer)
    }
}

/// CRC-32C over several parts. Finds accidents; the hashes find intent.
pub(crate) fn checksum(parts: &[&[u8]]) -> u32 {
    parts.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part))
}

/// The name of a segment; `again` counts files with the same first seq.
#[must_use]
pub fn file_name(first_seq: u64, again: u32) -> String {
    if again == 0 { format!("{first_seq:020}.seg") } else { format!("{first_seq:020}.{again}.seg") }
}

/// First seq and count of a name that [`file_name`] made.
#[must_use]
pub fn parse_file_name(name: &str) -> Option<(u64, u32)> {
    let stem = name.strip_suffix(".seg")?;
    let (first_seq, again) = stem.split_once('.').unwrap_or((stem, "0"));
    let parsed = (first_seq.parse().ok()?, again.parse().ok()?);
    (file_name(parsed.0, parsed.1) == name).then_some(parsed)
}

#[cfg(test)]
#[path = "segment_tests.rs"]
mod tests;
