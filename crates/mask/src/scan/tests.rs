use super::*;
use proptest::prelude::*;

#[test]
fn every_byte_at_every_place_is_told_as_the_plain_loop_tells_it() {
    for length in [1, 7, 8, 9, 17, 40] {
        for place in 0..length {
            for byte in 0..=255u8 {
                for filler in [b'a', b'!', 0x7f] {
                    let mut text = vec![filler; length];
                    text[place] = byte;
                    let special = |b: &u8| matches!(b, b'"' | b'\\' | 0..=0x1f | 0x80..);
                    let wanted = text.iter().position(special).unwrap_or(length);
                    assert_eq!(plain(&text), wanted, "{text:?}");
                }
                let mut text = vec![0xe4; length];
                text[place] = byte;
                let wanted = text.iter().position(u8::is_ascii).unwrap_or(length);
                assert_eq!(not_ascii(&text), wanted);
                let mut text = vec![b' '; length];
                text[place] = byte;
                let wanted = text.iter().position(|b| !b" \n\r\t".contains(b));
                assert_eq!(space(&text), wanted.unwrap_or(length));
            }
        }
    }
}

/// The masks, byte by byte.
fn naive(block: &[u8; BLOCK_BYTES]) -> Masks {
    let of = |test: &dyn Fn(u8) -> bool| {
        block.iter().enumerate().fold(0, |bits, (at, byte)| bits | (u64::from(test(*byte)) << at))
    };
    Masks {
        quote: of(&|b| b == b'"'),
        slash: of(&|b| b == b'\\'),
        open: of(&|b| b == b'{' || b == b'['),
        close: of(&|b| b == b'}' || b == b']'),
        curly: of(&|b| b & 0x20 != 0),
        colon: of(&|b| b == b':'),
        comma: of(&|b| b == b','),
        space: of(&|b| b" \t\n\r".contains(&b)),
        control: of(&|b| b < 0x20),
        high: of(&|b| b >= 0x80),
    }
}

struct Look<'a>(&'a [u8; BLOCK_BYTES], u64);

impl Walk for Look<'_> {
    type Out = (Masks, u64);

    fn walk<S: Scanner>(self, scanner: S) -> (Masks, u64) {
        (scanner.masks(self.0), scanner.parity(self.1))
    }
}

#[test]
fn all_scanners_tell_every_byte_at_every_place_alike() {
    for byte in 0..=255u8 {
        for filler in [b'a', 0xff, 0, b'"'] {
            for place in 0..BLOCK_BYTES {
                let mut block = [filler; BLOCK_BYTES];
                block[place] = byte;
                let wanted = naive(&block);
                assert_eq!(Portable.masks(&block), wanted);
                assert_eq!(fastest(Look(&block, 0)).0, wanted);
            }
        }
    }
}

proptest! {
    #[test]
    fn all_scanners_agree_on_any_block(bytes in proptest::collection::vec(any::<u8>(), 64), bits: u64) {
        let block: &[u8; BLOCK_BYTES] = bytes.as_slice().try_into().expect("64 bytes");
        let wanted = naive(block);
        prop_assert_eq!(Portable.masks(block), wanted);
        let (masks, parity) = fastest(Look(block, bits));
        prop_assert_eq!(masks, wanted);
        prop_assert_eq!(parity, Portable.parity(bits));
        let slow = (0..64).fold(0u64, |all, at| {
            let ones = (bits & (u64::MAX >> (63 - at))).count_ones();
            all | (u64::from(ones % 2) << at)
        });
        prop_assert_eq!(parity, slow);
    }
}
