//! A path names one tile; a tile and a bundle are exactly as wide as their path says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_tlog::tile::{Bundle, Tile, put_entry};

fuzz_target!(|data: &[u8]| {
    if let Ok(path) = std::str::from_utf8(data) {
        if let Ok(tile) = Tile::parse(path) {
            assert_eq!(tile.path(), path);
        }
        if let Ok(bundle) = Bundle::parse(path) {
            assert_eq!(bundle.path(), path);
        }
    }
    // The first byte says how many entries there should be.
    let Some((count, bytes)) = data.split_first() else { return };
    let Ok(bundle) = Bundle::new(0, u16::from(*count) + 1) else { return };
    if let Ok(hashes) = bundle.tile().decode(bytes) {
        assert_eq!(Tile::encode(&hashes), bytes);
    }
    if let Ok(entries) = bundle.decode(bytes) {
        let mut again = Vec::new();
        for entry in &entries {
            put_entry(&mut again, entry).expect("it was in a bundle");
        }
        assert_eq!((entries.len(), again.as_slice()), (usize::from(bundle.width()), bytes));
    }
});
