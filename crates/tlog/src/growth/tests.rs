use std::collections::BTreeMap;

use super::*;
use crate::frontier::Frontier;
use crate::hash::Sha256;
use crate::reference::Reference;
use crate::tree::Tree;

/// Tiles by place, as a folder would hold them.
type Store = BTreeMap<Tile, Vec<u8>>;

fn read(store: &Store) -> impl FnMut(Tile) -> Result<Vec<u8>, ()> {
    |tile| store.get(&tile).cloned().ok_or(())
}

#[test]
fn the_tiles_of_70_000_leaves_are_those_of_the_specification() {
    let all: Vec<Tile> = tiles(0, 70_000).unwrap().collect();
    let count = |level, full| {
        all.iter().filter(|tile| tile.level() == level && tile.is_full() == full).count()
    };
    assert_eq!((count(0, true), count(0, false)), (273, 1));
    assert_eq!((count(1, true), count(1, false)), (1, 1));
    assert_eq!((count(2, true), count(2, false)), (0, 1));
    assert_eq!(all.len(), 277);
    assert_eq!(bundles(0, 70_000).unwrap().count(), 274);
    // "a tree of size 256 will be represented by a full level 0 tile and a partial level 1 tile of
    // width 1".
    let all: Vec<String> = tiles(255, 256).unwrap().map(|tile| tile.path()).collect();
    assert_eq!(all, ["tile/0/000", "tile/1/000.p/1"]);
}

#[test]
fn growth_names_the_tiles_that_changed_and_no_other() {
    let whole = |size| -> Vec<Tile> { tiles(0, size).unwrap().collect() };
    for (old, new) in [(0, 0), (5, 5), (0, 1), (1, 2), (255, 257), (256, 512), (300, 70_000)] {
        let before = whole(old);
        let wanted: Vec<Tile> =
            whole(new).into_iter().filter(|tile| !before.contains(tile)).collect();
        assert_eq!(tiles(old, new).unwrap().collect::<Vec<_>>(), wanted, "{old} {new}");
    }
    assert_eq!(tiles(2, 1).err(), Some(BadSize));
    assert_eq!(tiles(0, SIZE_MAX + 1).err(), Some(BadSize));
    let last = tiles(SIZE_MAX - 1, SIZE_MAX).unwrap().last().unwrap();
    assert_eq!((last.level(), last.index(), last.width()), (7, 0, 128));
}

#[test]
fn the_edge_writes_the_tiles_that_growth_names_and_has_the_root() {
    const LEAVES: u32 = 66_000;
    let reference = Reference::new(LEAVES);
    let mut edge = Edge::<Sha256>::new();
    let mut frontier = Frontier::<Sha256>::new();
    let mut store = Store::new();
    let mut written = 0;
    for n in 0..LEAVES as usize {
        let leaf = reference.leaf(n);
        let mut full = Vec::new();
        edge.push(leaf, &mut full).unwrap();
        frontier.push(leaf).unwrap();
        store.extend(full);
        let size = n as u64 + 1;
        let checkpoint =
            size < 600 || size.is_multiple_of(4099) || (65_530..65_800).contains(&size);
        if !checkpoint {
            continue;
        }
        store.extend(edge.partial());
        for tile in tiles(written, size).unwrap() {
            assert!(store.contains_key(&tile), "{} at {size}", tile.path());
        }
        written = size;
        assert_eq!(edge.root(), frontier.root(), "{size}");
        let stored = Edge::<Sha256>::read(size, &mut read(&store)).unwrap();
        assert_eq!((stored.size(), stored.root()), (size, edge.root()));
        if stored.levels != edge.levels {
            // Levels that have become empty are not stored.
            let mut trimmed = edge.levels.clone();
            while trimmed.pop_if(|row| row.is_empty()).is_some() {}
            assert_eq!(stored.levels, trimmed, "{size}");
        }
        let mut tree = Tree::<Sha256, _>::new(size, read(&store)).unwrap();
        assert_eq!(tree.root(), Ok(frontier.root()), "{size}");
    }
    assert_eq!(frontier.root(), reference.mth(0, LEAVES as usize));
    // Each tile holds what RFC 6962 §2.1 calls MTH(D[(n*256+i)*256**l : (n*256+i+1)*256**l]).
    for (tile, bytes) in &store {
        let span = 256_usize.pow(u32::from(tile.level()));
        let first = tile.index() as usize * 256;
        for (i, hash) in tile.decode(bytes).unwrap().iter().enumerate() {
            let start = (first + i) * span;
            assert_eq!(*hash, reference.mth(start, start + span), "{} {i}", tile.path());
        }
    }
}

#[test]
fn a_missing_or_cut_tile_is_named() {
    let mut empty = |_: Tile| Err(());
    assert_eq!(
        Edge::<Sha256>::read(3, &mut empty),
        Err(ReadError::Read(Tile::new(0, 0, 3).unwrap(), ()))
    );
    let mut cut = |_: Tile| Ok::<_, ()>(vec![0; 95]);
    assert_eq!(
        Edge::<Sha256>::read(3, &mut cut),
        Err(ReadError::Width(Tile::new(0, 0, 3).unwrap()))
    );
    assert_eq!(Edge::<Sha256>::read(SIZE_MAX + 1, &mut cut), Err(ReadError::Size));
    // A full tile may stand for a partial one.
    let mut full = |_: Tile| Ok::<_, ()>(vec![0; 8192]);
    assert_eq!(Edge::<Sha256>::read(3, &mut full).unwrap().levels, [vec![[0; 32]; 3]]);
}
