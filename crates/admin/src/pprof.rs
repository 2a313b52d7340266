//! A heap profile in the format of pprof: protocol buffers (`profile.proto` of google/pprof) within
//! gzip (RFC 1952). Places are addresses with the part of the program's file that they lie in, and
//! have no names: the role that answers cannot read the program.

use moat_heap::Profile;

/// Begin, end and offset in the file, of the program's code.
type Code = (u64, u64, u64);

/// The strings that a profile refers to by their places.
const STRINGS: [&str; 9] = [
    "",
    "alloc_objects",
    "count",
    "alloc_space",
    "bytes",
    "inuse_objects",
    "inuse_space",
    "space",
    "moat",
];
/// Longest part of a stored block (RFC 1951 §3.2.4), in bytes.
const BLOCK_BYTES: usize = 0xffff;

/// A message under way.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
            value >>= 7;
        }
        self.0.push(u8::try_from(value).unwrap_or(0));
    }

    fn number(&mut self, field: u64, value: u64) {
        self.varint(field << 3);
        self.varint(value);
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(u64::try_from(value.len()).unwrap_or(0));
        self.0.extend(value);
    }

    /// Numbers one after the other, packed.
    fn numbers(&mut self, field: u64, values: impl Iterator<Item = u64>) {
        let mut packed = Message::default();
        values.for_each(|value| packed.varint(value));
        self.bytes(field, &packed.0);
    }
}

fn value_type(kind: u64, unit: u64) -> Message {
    let mut message = Message::default();
    message.number(1, kind);
    message.number(2, unit);
    message
}

/// The profile as bytes of a file.
pub(crate) fn encode(profile: &Profile, code: Option<Code>, wall_ns: u64) -> Vec<u8> {
    let mut message = Message::default();
    for (kind, unit) in [(1, 2), (3, 4), (5, 2), (6, 4)] {
        message.bytes(1, &value_type(kind, unit).0);
    }
    let mut addresses: Vec<u64> =
        profile.sites.iter().flat_map(|site| &site.stack).copied().collect();
    addresses.sort_unstable();
    addresses.dedup();
    // Numbers of locations begin at 1.
    let number = |address: &u64| match addresses.binary_search(address) {
        Ok(at) => u64::try_from(at).unwrap_or(0) + 1,
        Err(_) => 0,
    };
    for site in &profile.sites {
        let mut sample = Message::default();
        sample.numbers(1, site.stack.iter().map(number));
        let values = [site.asked, site.asked_bytes, site.held, site.held_bytes];
        sample.numbers(2, values.into_iter());
        message.bytes(2, &sample.0);
    }
    if let Some((begin, end, offset)) = code {
        let mut mapping = Message::default();
        for (field, value) in [(1, 1), (2, begin), (3, end), (4, offset), (5, 8)] {
            mapping.number(field, value);
        }
        message.bytes(3, &mapping.0);
    }
    let is_ours =
        |address: u64| code.is_some_and(|(begin, end, _)| (begin..end).contains(&address));
    for address in &addresses {
        let mut location = Message::default();
        location.number(1, number(address));
        if is_ours(*address) {
            location.number(2, 1);
        }
        location.number(3, *address);
        message.bytes(4, &location.0);
    }
    STRINGS.iter().for_each(|text| message.bytes(6, text.as_bytes()));
    message.number(9, wall_ns);
    message.bytes(11, &value_type(7, 4).0);
    message.number(12, profile.every_bytes);
    gzip(&message.0)
}

/// A file of gzip whose blocks are stored as they are: some tens of kilobytes need no compressor.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut blocks = bytes.chunks(BLOCK_BYTES).peekable();
    if blocks.peek().is_none() {
        file.extend([1, 0, 0, 0xff, 0xff]);
    }
    while let Some(block) = blocks.next() {
        file.push(u8::from(blocks.peek().is_none()));
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        file.extend(length.to_le_bytes());
        file.extend((!length).to_le_bytes());
        file.extend(block);
    }
    file.extend(crc32(bytes).to_le_bytes());
    let length = u32::try_from(bytes.len() & 0xffff_ffff).unwrap_or(0);
    file.extend(length.to_le_bytes());
    file
}

/// RFC 1952 §8.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use moat_heap::Site;

    /// Fields of a message: number, and value or bytes.
    fn fields(mut bytes: &[u8]) -> Vec<(u64, u64, Vec<u8>)> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let value = varint(&mut bytes);
            if key & 7 == 2 {
                let (own, rest) = bytes.split_at(usize::try_from(value).unwrap());
                found.push((key >> 3, 0, own.to_vec()));
                bytes = rest;
            } else {
                assert_eq!(key & 7, 0);
                found.push((key >> 3, value, Vec::new()));
            }
        }
        found
    }

    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return value;
            }
        }
        panic!("a number without an end");
    }

    fn numbers(mut bytes: &[u8]) -> Vec<u64> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            found.push(varint(&mut bytes));
        }
        found
    }

    fn inflate_stored(file: &[u8]) -> Vec<u8> {
        assert_eq!(file[..3], [0x1f, 0x8b, 8]);
        let (mut at, mut bytes) = (10, Vec::new());
        loop {
            let is_last = file[at] == 1;
            let length = usize::from(u16::from_le_bytes([file[at + 1], file[at + 2]]));
            bytes.extend(&file[at + 5..at + 5 + length]);
            at += 5 + length;
            if is_last {
                break;
            }
        }
        assert_eq!(file[at..at + 4], crc32(&bytes).to_le_bytes());
        assert_eq!(file.len(), at + 8);
        bytes
    }

    #[test]
    fn a_profile_has_its_samples_their_places_and_the_part_of_the_file() {
        let site = |stack: &[u64], held: u64| Site {
            stack: stack.to_vec(),
            held,
            held_bytes: held * 1_000,
            asked: held + 1,
            asked_bytes: held * 2_000,
        };
        let sites = vec![site(&[0x5010, 0x5020], 7), site(&[0x5020, 0x9000], 1)];
        let profile = Profile { every_bytes: 524_288, missed: 0, sites };
        let file = encode(&profile, Some((0x5000, 0x6000, 0x400)), 99);
        let all = fields(&inflate_stored(&file));
        let of =
            |field: u64| all.iter().filter(|(number, ..)| *number == field).collect::<Vec<_>>();
        assert_eq!((of(1).len(), of(2).len(), of(3).len(), of(4).len()), (4, 2, 1, 3));
        let sample = fields(&of(2)[0].2);
        assert_eq!(numbers(&sample[0].2), [1, 2]);
        assert_eq!(numbers(&sample[1].2), [8, 14_000, 7, 7_000]);
        let mapping: Vec<u64> = fields(&of(3)[0].2).iter().map(|(_, value, _)| *value).collect();
        assert_eq!(mapping, [1, 0x5000, 0x6000, 0x400, 8]);
        let last = fields(&of(4)[2].2);
        assert_eq!(
            last.iter().map(|(field, value, _)| (*field, *value)).collect::<Vec<_>>(),
            [(1, 3), (3, 0x9000)]
        );
        let strings: Vec<&[u8]> = of(6).iter().map(|(_, _, text)| text.as_slice()).collect();
        assert_eq!(strings[0], b"");
        assert_eq!(strings[6], b"inuse_space");
        assert_eq!(of(12)[0].1, 524_288);
    }

    #[test]
    fn checksums_are_those_of_the_standard_and_long_texts_have_several_blocks() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        for length in [0, 1, BLOCK_BYTES, BLOCK_BYTES + 1, 200_000] {
            let bytes = vec![7; length];
            assert_eq!(inflate_stored(&gzip(&bytes)), bytes, "{length}");
        }
    }
}
