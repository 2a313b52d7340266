//! A sealed segment in compressed form: the same bytes, in chunks that are read one by one.
//!
//! The form is Zstandard (RFC 8878) with the seek table of its "seekable format" behind the chunks,
//! so that any program that knows Zstandard gives the segment back byte for byte. What is read here
//! is bounded before it is made: how many chunks there are, how long each is, and how much memory a
//! chunk may ask for. Nothing in the table is evidence; the records inside are verified as ever.

use std::io;
use std::sync::{Mutex, PoisonError};

use ruzstd::decoding::FrameDecoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use crate::segment::HEADER_BYTES_MAX;
use crate::store::{Readable, read_from};

/// What a packed segment has at the end of its name, behind that of the segment.
pub const PACKED_SUFFIX: &str = ".zst";
/// Longest chunk that is written, in bytes before compression: what a reader decompresses to get at
/// one record.
pub const CHUNK_BYTES: usize = 256 * 1024;
/// Longest chunk that is read, in bytes before and after compression.
const CHUNK_BYTES_MAX: u32 = 1024 * 1024;
/// Most chunks of one segment: 16 GiB as they are written.
const CHUNKS_MAX: u32 = 65_536;
/// Most memory that a chunk may ask for as its window, in bytes.
const WINDOW_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// RFC 8878 §3.1.2: a frame that decoders skip.
const SKIPPABLE: u32 = 0x184D_2A5E;
/// The end of a seek table.
const SEEKABLE: u32 = 0x8F92_EAB1;
/// Bytes of the skippable frame's head.
const TABLE_HEAD_BYTES: usize = 8;
/// Bytes of the table's end: count, flags, magic.
const TABLE_END_BYTES: usize = 9;
/// Bytes of an entry: packed and plain length.
const ENTRY_BYTES: usize = 8;

/// Packs all of `plain`; gives the packed bytes in parts to `put`.
///
/// # Errors
/// What the system says, and `InvalidInput` for more than can be packed.
pub fn pack(plain: &impl Readable, mut put: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let size = plain.size()?;
    let (mut table, mut offset, mut count) = (Vec::new(), 0u64, 0u32);
    while offset < size {
        // The header apart, so that a list of segments costs little to read.
        let len = if offset == 0 { HEADER_BYTES_MAX } else { CHUNK_BYTES };
        let left = usize::try_from(size - offset).unwrap_or(usize::MAX);
        let chunk = read_from(plain, offset, len.min(left))?;
        if chunk.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let packed = compress_to_vec(chunk.as_slice(), CompressionLevel::Fastest);
        for len in [packed.len(), chunk.len()] {
            let len = u32::try_from(len).ok().filter(|&len| len <= CHUNK_BYTES_MAX);
            table.extend_from_slice(&len.ok_or(io::ErrorKind::InvalidInput)?.to_le_bytes());
        }
        put(&packed)?;
        offset += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        count += 1;
        if count > CHUNKS_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
    }
    let len = u32::try_from(table.len() + TABLE_END_BYTES).map_err(io::Error::other)?;
    let mut end = [SKIPPABLE.to_le_bytes(), len.to_le_bytes()].concat();
    end.extend_from_slice(&table);
    end.extend_from_slice(&count.to_le_bytes());
    end.push(0);
    end.extend_from_slice(&SEEKABLE.to_le_bytes());
    put(&end)
}

/// Where one chunk is.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    /// In the packed file.
    packed_at: u64,
    packed_len: u32,
    /// In the segment.
    plain_at: u64,
    plain_len: u32,
}

/// A packed segment, read as what was packed.
#[derive(Debug)]
pub struct Packed<F> {
    file: F,
    chunks: Vec<Chunk>,
    size: u64,
    /// The chunk that was read last: its place in the table and its bytes.
    last: Mutex<Option<(usize, Vec<u8>)>>,
}

impl<F: Readable> Packed<F> {
    /// Reads the table of a packed segment.
    ///
    /// # Errors
    /// What the system says, and `InvalidData` when it is no packed segment.
    pub fn open(file: F) -> io::Result<Packed<F>> {
        let bytes = file.size()?;
        let table = read_table(&file, bytes)?;
        let (mut chunks, mut packed_at, mut plain_at) = (Vec::new(), 0u64, 0u64);
        for entry in table.entries.chunks_exact(ENTRY_BYTES) {
            let (packed_len, plain_len) = (le32(entry, 0), le32(entry, 4));
            let is_fit = |len: u32| (1..=CHUNK_BYTES_MAX).contains(&len);
            if !is_fit(packed_len) || !is_fit(plain_len) {
                return Err(bad("a chunk is longer than it may be"));
            }
            chunks.push(Chunk { packed_at, packed_len, plain_at, plain_len });
            packed_at += u64::from(packed_len);
            plain_at += u64::from(plain_len);
        }
        if packed_at != table.starts_at {
            return Err(bad("the chunks do not fill the file"));
        }
        Ok(Packed { file, chunks, size: plain_at, last: Mutex::new(None) })
    }

    fn chunk(&self, chunk: &Chunk) -> io::Result<Vec<u8>> {
        let len = usize::try_from(chunk.packed_len).unwrap_or(usize::MAX);
        let packed = read_from(&self.file, chunk.packed_at, len)?;
        let mut plain = vec![0; usize::try_from(chunk.plain_len).unwrap_or(0)];
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(WINDOW_BYTES_MAX);
        // Into a buffer that does not grow: a chunk that is longer than the table says is refused.
        match decoder.decode_all(&packed, &mut plain) {
            Ok(len) if len == plain.len() => Ok(plain),
            Ok(_) => Err(bad("a chunk is shorter than the table says")),
            Err(error) => Err(bad(&error.to_string())),
        }
    }
}

impl<F: Readable> Readable for Packed<F> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let at = self.chunks.partition_point(|chunk| chunk.plain_at <= offset);
        let Some(at) = at.checked_sub(1) else { return Ok(0) };
        let Some(chunk) = self.chunks.get(at) else { return Ok(0) };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_none_or(|(here, _)| *here != at) {
            *last = Some((at, self.chunk(chunk)?));
        }
        let skip = usize::try_from(offset - chunk.plain_at).unwrap_or(usize::MAX);
        let rest = last.as_ref().and_then(|(_, plain)| plain.get(skip..)).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(rest) {
            *to = *from;
        }
        Ok(len)
    }
}

struct Table {
    /// Where the chunks end.
    starts_at: u64,
    entries: Vec<u8>,
}

fn read_table(file: &impl Readable, bytes: u64) -> io::Result<Table> {
    let end_bytes = u64::try_from(TABLE_END_BYTES).unwrap_or(0);
    let end_at = bytes.checked_sub(end_bytes).ok_or_else(|| bad("it is too short"))?;
    let end = read_from(file, end_at, TABLE_END_BYTES)?;
    let (count, flags, magic) = (le32(&end, 0), end.get(4), le32(&end, 5));
    if magic != SEEKABLE || flags != Some(&0) || count > CHUNKS_MAX {
        return Err(bad("it does not end with a table of chunks"));
    }
    let len = usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(ENTRY_BYTES);
    let whole = u64::try_from(TABLE_HEAD_BYTES + len).unwrap_or(u64::MAX);
    let starts_at = end_at.checked_sub(whole).ok_or_else(|| bad("its table is cut off"))?;
    let table = read_from(file, starts_at, TABLE_HEAD_BYTES + len)?;
    let is_right = le32(&table, 0) == SKIPPABLE
        && usize::try_from(le32(&table, 4)) == Ok(len + TABLE_END_BYTES);
    let entries = table.get(TABLE_HEAD_BYTES..).filter(|entries| is_right && entries.len() == len);
    let entries = entries.ok_or_else(|| bad("its table has another length"))?.to_vec();
    Ok(Table { starts_at, entries })
}

/// Four bytes as a number, the least first; 0 where there are fewer.
fn le32(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
    four.map_or(0, |four| u32::from_le_bytes(*four))
}

fn bad(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("no packed segment: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that compress a little, as records do.
    fn sample(len: usize) -> Vec<u8> {
        let mut state = 7u64;
        let byte = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(n as u64);
            if n.is_multiple_of(3) {
                (state >> 56) as u8
            } else {
                b"spiffe://bank.test/teller"[n % 25]
            }
        };
        (0..len).map(byte).collect()
    }

    fn packed(plain: &Vec<u8>) -> Vec<u8> {
        let mut out = Vec::new();
        pack(plain, |part| {
            out.extend_from_slice(part);
            Ok(())
        })
        .unwrap();
        out
    }

    fn all(packed: Vec<u8>) -> io::Result<Vec<u8>> {
        let packed = Packed::open(packed)?;
        read_from(&packed, 0, packed.size()? as usize)
    }

    #[test]
    fn what_is_packed_comes_back_from_any_place() {
        for len in [1, 100, 4_095, 4_096, 4_097, 266_240, 266_241, 700_000] {
            let plain = sample(len);
            let bytes = packed(&plain);
            let read = Packed::open(bytes.clone()).unwrap();
            assert_eq!(read.size().unwrap(), len as u64);
            assert_eq!(all(bytes).unwrap(), plain);
            for at in [0, 1, len / 3, len / 2, len - 1, len] {
                let part = read_from(&read, at as u64, 5_000).unwrap();
                assert_eq!(part, plain[at..len.min(at + 5_000)], "{len} {at}");
            }
        }
        assert_eq!(all(packed(&Vec::new())).unwrap(), b"");
    }

    #[test]
    fn what_is_cut_or_changed_never_gives_other_lengths_and_never_panics() {
        let plain = sample(10_000);
        let good = packed(&plain);
        for len in 0..good.len() {
            // A shorter file ends with no table.
            assert!(all(good[..len].to_vec()).is_err(), "{len}");
        }
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << (at % 8);
            if let Ok(found) = all(bytes) {
                assert_eq!(found.len(), plain.len(), "{at}");
            }
        }
    }

    #[test]
    fn a_chunk_that_would_unpack_to_more_than_it_says_is_refused() {
        let bomb = compress_to_vec(vec![0u8; 900_000].as_slice(), CompressionLevel::Fastest);
        for (says, is_taken) in [(900_000, true), (4_096, false), (899_999, false)] {
            let table = [bomb.len() as u32, says, 1];
            let [packed_len, plain_len, count] = table.map(u32::to_le_bytes);
            let mut bytes = bomb.clone();
            bytes.extend_from_slice(&SKIPPABLE.to_le_bytes());
            bytes.extend_from_slice(&17u32.to_le_bytes());
            bytes.extend([packed_len, plain_len, count].concat());
            bytes.push(0);
            bytes.extend_from_slice(&SEEKABLE.to_le_bytes());
            assert_eq!(all(bytes).is_ok(), is_taken, "{says}");
        }
        let huge = [SKIPPABLE, 17, 20, u32::MAX, 1].map(u32::to_le_bytes).concat();
        let huge = [huge, vec![0], SEEKABLE.to_le_bytes().to_vec()].concat();
        assert!(all(huge).is_err());
    }
}
