use super::*;
use proptest::prelude::*;

fn header() -> Header {
    Header {
        log_id: "log/1".into(),
        index: 3,
        epoch: 9,
        first_seq: 5,
        prev_len: 1000,
        prev_hash: [1; 32],
        prev_leaf_hash: [2; 32],
        oldest_open: Some(4),
        frontier: Frontier::from_parts(5, vec![[3; 32], [4; 32]]).unwrap(),
        wrapped_dek: Vec::new(),
    }
}

fn frame() -> Vec<u8> {
    encode_frame(5, 2, &[7; 32], &[0, 3, b'a', b'b', b'c', 0, 0]).unwrap()
}

fn footer() -> Footer {
    Footer { size: 7, count: 2, last_leaf_hash: [1; 32], root_sha256: [2; 32], root_sm3: None }
}

#[test]
fn header_frame_and_footer_survive() {
    let bytes = header().encode().unwrap();
    assert_eq!(decode_header(&bytes), Ok((header(), bytes.len())));
    let with_dek = Header { wrapped_dek: vec![1], oldest_open: None, ..header() };
    assert_eq!(decode_header(&with_dek.encode().unwrap()).unwrap().0, with_dek);

    let bytes = frame();
    let frame = decode_frame(&bytes).unwrap();
    assert_eq!((frame.seq_first, frame.count, frame.is_footer), (5, 2, false));
    assert_eq!(frame.leaves().collect::<Vec<_>>(), [b"abc".as_slice(), b""]);

    for footer in [footer(), Footer { root_sm3: Some([3; 32]), ..footer() }] {
        let bytes = footer.encode(&[9; 32]).unwrap();
        assert!(bytes.len() <= FOOTER_BYTES_MAX);
        let frame = decode_frame(&bytes).unwrap();
        assert_eq!(frame.prev_frame_hash, [9; 32]);
        assert_eq!(frame.leaves().count(), 0);
        assert_eq!(Footer::decode(&frame), Ok(footer));
    }
}

#[test]
fn the_longest_header_is_within_its_bound() {
    let longest = Header {
        log_id: "l".repeat(LOG_ID_BYTES_MAX),
        first_seq: i64::MAX as u64,
        frontier: Frontier::from_parts(i64::MAX as u64, vec![[3; 32]; 63]).unwrap(),
        ..header()
    };
    assert_eq!(decode_header(&longest.encode().unwrap()).unwrap().0, longest);
}

#[test]
fn every_truncation_is_cut_off_and_every_flip_is_found() {
    type Accepts = fn(&[u8]) -> Result<(), SegmentError>;
    let cases: [(Vec<u8>, Accepts); 3] = [
        (header().encode().unwrap(), |bytes| decode_header(bytes).map(drop)),
        (frame(), |bytes| decode_frame(bytes).map(drop)),
        (footer().encode(&[0; 32]).unwrap(), |bytes| {
            Footer::decode(&decode_frame(bytes)?).map(drop)
        }),
    ];
    for (bytes, accepts) in cases {
        assert_eq!(accepts(&bytes), Ok(()));
        for len in 0..bytes.len() {
            assert_eq!(accepts(&bytes[..len]), Err(SegmentError::CutOff));
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(accepts(&flipped).is_err(), "byte {at} bit {bit}");
            }
        }
    }
}

#[test]
fn a_frame_must_hold_as_many_leaves_as_it_says() {
    for (count, payload) in [(1, b"".as_slice()), (0, b""), (2, &[0, 0]), (1, &[0, 1]), (1, &[0])] {
        let bytes = encode_frame(0, count, &[0; 32], payload).unwrap();
        assert_eq!(decode_frame(&bytes), Err(SegmentError::Payload));
    }
    let too_long = vec![0; PAYLOAD_BYTES_MAX + 1];
    assert_eq!(encode_frame(0, 1, &[0; 32], &too_long), Err(SegmentError::TooLong));
    assert_eq!(frame_len(b"MFRM\xff\xff\xff\xff"), Err(SegmentError::TooLong));
}

#[test]
fn names_come_back_and_others_are_no_segments() {
    for (first_seq, again) in [(0, 0), (42, 0), (42, 3), (u64::MAX, u32::MAX)] {
        assert_eq!(parse_file_name(&file_name(first_seq, again)), Some((first_seq, again)));
    }
    assert_eq!(file_name(42, 0), "00000000000000000042.seg");
    for name in ["42.seg", "00000000000000000042.0.seg", "00000000000000000042.01.seg", "head", ""]
    {
        assert_eq!(parse_file_name(name), None);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_taken_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode_header(&bytes);
        let _ = decode_frame(&bytes);
        let framed = encode_frame(1, 1, &[0; 32], &bytes).unwrap();
        let _ = decode_frame(&framed);
    }
}

#[test]
fn a_header_beyond_the_largest_tree_is_refused() {
    for first_seq in [(1 << 63) + 1, u64::MAX] {
        let nodes = vec![[3; 32]; first_seq.count_ones() as usize];
        assert!(Frontier::from_parts(first_seq, nodes).is_none(), "{first_seq}");
    }
}
