use proptest::prelude::*;

use super::*;

#[test]
fn the_paths_of_the_specification() {
    // tlog-tiles: "index 1234067 will be encoded as x001/x234/067".
    assert_eq!(Tile::new(0, 1_234_067, 256).unwrap().path(), "tile/0/x001/x234/067");
    assert_eq!(Tile::new(2, 0, 1).unwrap().path(), "tile/2/000.p/1");
    assert_eq!(Tile::new(1, 1000, 255).unwrap().path(), "tile/1/x001/000.p/255");
    assert_eq!(Bundle::new(1_234_067, 8).unwrap().path(), "tile/entries/x001/x234/067.p/8");
    let last = Tile::new(0, (1 << 55) - 1, 256).unwrap();
    assert_eq!(last.path(), "tile/0/x036/x028/x797/x018/x963/967");
    assert_eq!(Tile::parse(&last.path()), Ok(last));
}

#[test]
fn a_path_has_one_spelling() {
    for path in [
        "",
        "tile/0",
        "tile/0/",
        "tile//000",
        "/tile/0/000",
        "tile/00/000",
        "tile/+0/000",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/x001/x002",
        "tile/0/X001/002",
        "tile/0/x001//002",
        "tile/0/000/",
        "tile/0/000.p",
        "tile/0/000.p/",
        "tile/0/000.p/0",
        "tile/0/000.p/08",
        "tile/0/000.p/256",
        "tile/0/000.p/8/",
        "tile/0/000.p/8.p/8",
        "tile/0/0٣0",
        "tile/8/000",
        "tile/64/000",
        "tile/0/x036/x028/x797/x018/x963/968",
        "tile/0/x999/x999/x999/x999/x999/x999/999",
        "tile/-1/000",
        "tile/entries/000",
    ] {
        assert!(Tile::parse(path).is_err(), "{path}");
    }
    assert!(Bundle::parse("tile/0/000").is_err());
    assert!(Bundle::parse("tile/entries/x000/001").is_err());
}

#[test]
fn every_truncation_of_a_path_is_refused_or_another_path() {
    for whole in ["tile/0/x001/x234/067.p/255", "tile/entries/x001/x234/067.p/255"] {
        for end in 0..whole.len() {
            let path = &whole[..end];
            if let Ok(tile) = Tile::parse(path) {
                assert_eq!(tile.path(), path);
            }
            if let Ok(bundle) = Bundle::parse(path) {
                assert_eq!(bundle.path(), path);
            }
        }
    }
}

#[test]
fn a_tile_is_as_wide_as_the_specification_says() {
    // tlog-tiles: "a tree of size 70,000 will be represented by 273 full level 0 tiles, one
    // partial level 0 tile of width 112, one full level 1 tile, one partial level 1 tile of width
    // 17, and one partial level 2 tile of width 1".
    let width = |level, index| Tile::in_tree(level, index, 70_000).map(|tile| tile.width());
    assert_eq!(width(0, 272), Some(256));
    assert_eq!(width(0, 273), Some(112));
    assert_eq!(width(0, 274), None);
    assert_eq!((width(1, 0), width(1, 1), width(1, 2)), (Some(256), Some(17), None));
    assert_eq!((width(2, 0), width(2, 1), width(3, 0)), (Some(1), None, None));
    assert_eq!(Tile::in_tree(0, 0, 0), None);
    assert_eq!(Tile::in_tree(u8::MAX, 0, SIZE_MAX), None);
    assert_eq!(Tile::in_tree(0, u64::MAX, SIZE_MAX), None);
}

#[test]
fn places_outside_every_tree_are_refused() {
    assert_eq!(Tile::new(0, 0, 0), Err(TileError::Place));
    assert_eq!(Tile::new(0, 0, 257), Err(TileError::Place));
    assert_eq!(Tile::new(0, 1 << 55, 1), Err(TileError::Place));
    assert!(Tile::new(7, 0, 128).is_ok());
    assert_eq!(Tile::new(7, 0, 129), Err(TileError::Place));
    assert_eq!(Tile::new(8, 0, 1), Err(TileError::Place));
    assert_eq!(Tile::new(255, u64::MAX, 256), Err(TileError::Place));
}

#[test]
fn a_tile_spans_its_leaves() {
    let tile = Tile::new(1, 3, 2).unwrap();
    // The third of 65,536 leaves each, and two of 256 leaves of it.
    assert_eq!((tile.first_leaf(), tile.end_leaf()), (3 << 16, (3 << 16) + 512));
    assert_eq!(tile.full(), Tile::new(1, 3, 256).ok());
    let top = Tile::new(7, 0, 128).unwrap();
    assert_eq!((top.first_leaf(), top.end_leaf(), top.full()), (0, SIZE_MAX, None));
}

#[test]
fn every_truncation_of_a_tile_or_a_bundle_is_refused() {
    let hashes = vec![[7; 32]; 3];
    let bytes = Tile::encode(&hashes);
    let tile = Tile::new(0, 0, 3).unwrap();
    assert_eq!(tile.decode(&bytes), Ok(hashes));
    let mut bundle = Vec::new();
    for entry in [b"one".as_slice(), b"", b"three"] {
        put_entry(&mut bundle, entry).unwrap();
    }
    let place = Bundle::new(0, 3).unwrap();
    assert_eq!(place.decode(&bundle).unwrap(), [b"one".as_slice(), b"", b"three"]);
    assert_eq!(bundle, b"\0\x03one\0\0\0\x05three");
    for end in 0..bytes.len() {
        assert_eq!(tile.decode(&bytes[..end]), Err(TileError::Content), "{end}");
    }
    for end in 0..bundle.len() {
        assert_eq!(place.decode(&bundle[..end]), Err(TileError::Content), "{end}");
    }
    bundle.push(0);
    assert_eq!(place.decode(&bundle), Err(TileError::Content));
}

#[test]
fn an_entry_longer_than_its_prefix_is_refused() {
    let mut bundle = Vec::new();
    assert_eq!(put_entry(&mut bundle, &vec![0; 65_536]), Err(TileError::EntryTooLong));
    assert!(bundle.is_empty());
    put_entry(&mut bundle, &vec![0; 65_535]).unwrap();
    assert_eq!(Bundle::new(0, 1).unwrap().decode(&bundle).unwrap()[0].len(), ENTRY_BYTES_MAX);
}

proptest! {
    #[test]
    fn a_place_survives_its_path(
        level in 0_u8..=7, bits in 0_u32..56, seed: u64, width in 1_u16..=256,
    ) {
        let index = seed >> (63 - bits);
        if let Ok(tile) = Tile::new(level, index, width) {
            prop_assert_eq!(Tile::parse(&tile.path()), Ok(tile));
        }
        if let Ok(bundle) = Bundle::new(index, width) {
            prop_assert_eq!(Bundle::parse(&bundle.path()), Ok(bundle));
        }
    }

    #[test]
    fn what_parses_as_a_path_is_written_so(
        path in "tile/(entries|[0-9]{1,2})(/x?[0-9]{3}){1,4}(\\.p/[0-9]{1,3})?",
    ) {
        if let Ok(tile) = Tile::parse(&path) {
            prop_assert_eq!(tile.path(), path.clone());
        }
        if let Ok(bundle) = Bundle::parse(&path) {
            prop_assert_eq!(bundle.path(), path);
        }
    }

    #[test]
    fn entries_survive_their_bundle(
        entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..=256),
    ) {
        let mut bytes = Vec::new();
        for entry in &entries {
            put_entry(&mut bytes, entry).unwrap();
        }
        let bundle = Bundle::new(0, entries.len() as u16).unwrap();
        prop_assert_eq!(bundle.decode(&bytes).unwrap(), entries);
    }
}
