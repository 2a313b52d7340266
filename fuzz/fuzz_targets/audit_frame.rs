//! What the audit decoders accept has exactly one encoding: the bytes they were given.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_audit::record::{decode_leaf, encode_leaf};
use moat_audit::segment::{Footer, Frame, decode_frame, decode_header, encode_frame};

fuzz_target!(|data: &[u8]| {
    leaf(data);
    if let Ok((header, used)) = decode_header(data) {
        assert_eq!(header.encode().as_deref(), Ok(&data[..used]));
    }
    if let Ok(found) = decode_frame(data) {
        frame(&found);
    }
    // A checksum is not found by chance, so the payload also goes in behind a right one.
    let count = data.first().map_or(0, |&count| u32::from(count % 4));
    if let Ok(bytes) = encode_frame(7, count, &[9; 32], data.get(1..).unwrap_or_default())
        && let Ok(found) = decode_frame(&bytes)
    {
        assert_eq!((found.seq_first, found.count, found.bytes), (7, count, bytes.as_slice()));
        frame(&found);
    }
});

fn frame(frame: &Frame<'_>) {
    if frame.is_footer {
        if let Ok(footer) = Footer::decode(frame) {
            assert_eq!(footer.encode(&frame.prev_frame_hash).as_deref(), Ok(frame.bytes));
        }
        return;
    }
    let again = encode_frame(frame.seq_first, frame.count, &frame.prev_frame_hash, frame.payload);
    assert_eq!(again.as_deref(), Ok(frame.bytes));
    assert_eq!(u32::try_from(frame.leaves().count()), Ok(frame.count));
    frame.leaves().for_each(leaf);
}

fn leaf(bytes: &[u8]) {
    if let Ok(leaf) = decode_leaf(bytes) {
        let body = leaf.body.encode().expect("what was decoded can be encoded");
        assert_eq!(encode_leaf(&leaf.head, &body).as_deref(), Ok(bytes));
    }
}
