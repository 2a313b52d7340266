//! Growing: which tiles change, and what they hold.

use std::marker::PhantomData;

use crate::hash::{Hash, TreeHash, complete_root, fold};
use crate::range::{BadSize, Range, SIZE_MAX};
use crate::tile::{Bundle, LEVEL_MAX, Tile, WIDTH_MAX};
use crate::tree::{ReadError, TileReader, read_tile};

/// The tiles to write when a tree grows from `old` to `new` leaves, lowest level first.
///
/// Made one by one: from nothing to [`SIZE_MAX`] there are very many.
///
/// # Errors
/// When the tree would shrink, or grow beyond [`SIZE_MAX`].
pub fn tiles(old: u64, new: u64) -> Result<impl Iterator<Item = Tile>, BadSize> {
    if old > new || new > SIZE_MAX {
        return Err(BadSize);
    }
    Ok((0..=LEVEL_MAX).flat_map(move |level| {
        let (from, to) = (old >> (8 * u32::from(level)), new >> (8 * u32::from(level)));
        let changed = if from < to { from / 256..to.div_ceil(256) } else { 0..0 };
        changed.filter_map(move |index| Tile::in_tree(level, index, new))
    }))
}

/// The entry bundles to write when a tree grows from `old` to `new` leaves.
///
/// # Errors
/// As [`tiles`].
pub fn bundles(old: u64, new: u64) -> Result<impl Iterator<Item = Bundle>, BadSize> {
    let level_0 = tiles(old, new)?.take_while(|tile| tile.level() == 0);
    Ok(level_0.filter_map(|tile| Bundle::new(tile.index(), tile.width()).ok()))
}

/// The partial tiles on the right edge of a tree: all that is needed to go on.
///
/// At most 255 hashes in each of 8 levels, 64 KiB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edge<H> {
    size: u64,
    /// The hashes of the partial tile of each level, none where the level has only full tiles.
    levels: Vec<Vec<Hash>>,
    hash: PhantomData<H>,
}

impl<H: TreeHash> Edge<H> {
    /// The edge of the tree without leaves.
    #[must_use]
    pub fn new() -> Edge<H> {
        Edge::default()
    }

    /// The edge of a stored tree, from its partial tiles.
    ///
    /// What was read is not to be trusted before [`root`](Edge::root) is compared with a signed
    /// one.
    ///
    /// # Errors
    /// When the size is none, or a tile cannot be read or has another width.
    pub fn read<R: TileReader>(size: u64, reader: &mut R) -> Result<Edge<H>, ReadError<R::Error>> {
        if size > SIZE_MAX {
            return Err(ReadError::Size);
        }
        let mut edge = Edge { size, levels: Vec::new(), hash: PhantomData };
        for level in 0..=LEVEL_MAX {
            let hashes = size >> (8 * u32::from(level));
            let tile = Tile::in_tree(level, hashes / 256, size);
            edge.levels.push(match tile {
                Some(tile) => read_tile(reader, tile)?,
                None => Vec::new(),
            });
        }
        while edge.levels.pop_if(|level| level.is_empty()).is_some() {}
        Ok(edge)
    }

    /// How many leaves the tree has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends the hash of a leaf; tiles that become full go to `full`, which is what to write.
    ///
    /// # Errors
    /// When the tree is as large as it may be; then nothing changes.
    pub fn push(&mut self, leaf: Hash, full: &mut Vec<(Tile, Vec<u8>)>) -> Result<(), BadSize> {
        if self.size >= SIZE_MAX {
            return Err(BadSize);
        }
        self.size += 1;
        let mut hash = leaf;
        for level in 0..=LEVEL_MAX {
            if self.levels.len() <= usize::from(level) {
                self.levels.push(Vec::new());
            }
            let Some(row) = self.levels.get_mut(usize::from(level)) else { break };
            row.push(hash);
            if row.len() < usize::from(WIDTH_MAX) {
                break;
            }
            let row = std::mem::take(row);
            let hashes = self.size >> (8 * u32::from(level));
            if let Ok(tile) = Tile::new(level, hashes.saturating_sub(1) / 256, WIDTH_MAX) {
                full.push((tile, Tile::encode(&row)));
            }
            let Some(root) = complete_root::<H>(&row) else { break };
            hash = root;
        }
        Ok(())
    }

    /// The partial tiles of the tree as it is: with the full ones, what a checkpoint needs.
    pub fn partial(&self) -> impl Iterator<Item = (Tile, Vec<u8>)> {
        (0..=LEVEL_MAX).zip(&self.levels).filter_map(|(level, row)| {
            let index = (self.size >> (8 * u32::from(level))) / 256;
            let tile = Tile::new(level, index, u16::try_from(row.len()).ok()?).ok()?;
            Some((tile, Tile::encode(row)))
        })
    }

    /// The root of the tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        // Each row falls apart into complete subtrees, and lower rows are smaller ones.
        let subtrees = self.levels.iter().flat_map(|row| {
            let count = u64::try_from(row.len()).unwrap_or(0);
            Range { start: 0, end: count }.subtrees().rev().filter_map(move |part| {
                let start = usize::try_from(part.index << part.level).ok()?;
                let end = usize::try_from((part.index + 1) << part.level).ok()?;
                complete_root::<H>(row.get(start..end)?)
            })
        });
        fold::<H>(subtrees).unwrap_or_else(H::empty)
    }
}

#[cfg(test)]
mod tests;
