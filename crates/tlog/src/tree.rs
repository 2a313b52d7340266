//! Proofs made from tiles. Where the tiles lie is the reader's matter.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use crate::hash::{Hash, TreeHash, fold, parents};
use crate::proof::Head;
use crate::range::{Range, SIZE_MAX, Subtree, consistency, inclusion};
use crate::tile::Tile;

/// Most tiles held, in number. A proof touches at most two paths of 8 tiles and the right edge.
const TILES_MAX: usize = 64;

/// Gives the bytes of tiles.
pub trait TileReader {
    /// Why it could not.
    type Error;

    /// The bytes of a tile. For a partial tile those of the full one may be given instead, which
    /// tlog-tiles lets a log keep alone.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read(&mut self, tile: Tile) -> Result<Vec<u8>, Self::Error>;
}

impl<E, F: FnMut(Tile) -> Result<Vec<u8>, E>> TileReader for F {
    type Error = E;

    fn read(&mut self, tile: Tile) -> Result<Vec<u8>, E> {
        self(tile)
    }
}

/// Why a tree could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError<E> {
    /// The reader could not give a tile.
    #[error("tile {} cannot be read", .0.path())]
    Read(Tile, #[source] E),
    /// A tile is not as wide as the size says.
    #[error("tile {} is cut off or too long", .0.path())]
    Width(Tile),
    /// A size beyond [`SIZE_MAX`], an index beyond the size, or an old size beyond the new.
    #[error("no such size, or no such index in a tree of this size")]
    Size,
}

/// Reads a tile; what is given for it may be the full tile.
pub(crate) fn read_tile<R: TileReader>(
    reader: &mut R,
    tile: Tile,
) -> Result<Vec<Hash>, ReadError<R::Error>> {
    let bytes = reader.read(tile).map_err(|error| ReadError::Read(tile, error))?;
    let found = [Some(tile), tile.full()].into_iter().flatten().find_map(|t| t.decode(&bytes).ok());
    let mut hashes = found.ok_or(ReadError::Width(tile))?;
    hashes.truncate(usize::from(tile.width()));
    Ok(hashes)
}

/// A tree of one size, read from tiles.
///
/// The tiles are not checked: a proof made from wrong ones is refused by whoever verifies it
/// against a signed root, and [`root`](Tree::root) can be compared with one.
#[derive(Debug)]
pub struct Tree<H, R> {
    size: u64,
    reader: R,
    /// Of each tile the rows of the subtree that it spans, its own hashes first.
    tiles: BTreeMap<(u8, u64), Vec<Vec<Hash>>>,
    hash: PhantomData<H>,
}

impl<H: TreeHash, R: TileReader> Tree<H, R> {
    /// A tree of `size` leaves.
    ///
    /// # Errors
    /// When the size is beyond [`SIZE_MAX`].
    pub fn new(size: u64, reader: R) -> Result<Tree<H, R>, ReadError<R::Error>> {
        if size > SIZE_MAX {
            return Err(ReadError::Size);
        }
        Ok(Tree { size, reader, tiles: BTreeMap::new(), hash: PhantomData })
    }

    /// The root.
    ///
    /// # Errors
    /// When a tile cannot be read or is not as wide as it must be.
    pub fn root(&mut self) -> Result<Hash, ReadError<R::Error>> {
        self.range(Range { start: 0, end: self.size })
    }

    /// Size and root.
    ///
    /// # Errors
    /// As [`root`](Tree::root).
    pub fn head(&mut self) -> Result<Head, ReadError<R::Error>> {
        Ok(Head { size: self.size, root: self.root()? })
    }

    /// The hash of a leaf.
    ///
    /// # Errors
    /// As [`root`](Tree::root), and when there is no such leaf.
    pub fn leaf(&mut self, index: u64) -> Result<Hash, ReadError<R::Error>> {
        if index >= self.size {
            return Err(ReadError::Size);
        }
        self.subtree(Subtree { level: 0, index })
    }

    /// The proof that a leaf is in the tree.
    ///
    /// # Errors
    /// As [`leaf`](Tree::leaf).
    pub fn inclusion(&mut self, index: u64) -> Result<Vec<Hash>, ReadError<R::Error>> {
        let ranges = inclusion(index, self.size).map_err(|_| ReadError::Size)?;
        ranges.into_iter().map(|range| self.range(range)).collect()
    }

    /// The proof that the tree grew from one of `old` leaves.
    ///
    /// # Errors
    /// As [`root`](Tree::root), and when the old tree is larger.
    pub fn consistency(&mut self, old: u64) -> Result<Vec<Hash>, ReadError<R::Error>> {
        let ranges = consistency(old, self.size).map_err(|_| ReadError::Size)?;
        ranges.into_iter().map(|range| self.range(range)).collect()
    }

    fn range(&mut self, range: Range) -> Result<Hash, ReadError<R::Error>> {
        let smallest_first: Result<Vec<Hash>, _> =
            range.subtrees().rev().map(|subtree| self.subtree(subtree)).collect();
        Ok(fold::<H>(smallest_first?.into_iter()).unwrap_or_else(H::empty))
    }

    /// The root of a complete subtree: of some hashes of one tile.
    fn subtree(&mut self, subtree: Subtree) -> Result<Hash, ReadError<R::Error>> {
        let level = u8::try_from(subtree.level / 8).map_err(|_| ReadError::Size)?;
        let height = subtree.level % 8;
        let first = subtree.index.checked_shl(height).ok_or(ReadError::Size)?;
        let tile = Tile::in_tree(level, first / 256, self.size).ok_or(ReadError::Size)?;
        let row = usize::try_from(height).map_err(|_| ReadError::Size)?;
        let column = usize::try_from((first % 256) >> height).map_err(|_| ReadError::Size)?;
        let found = self.rows(tile)?.get(row).and_then(|row| row.get(column).copied());
        found.ok_or(ReadError::Width(tile))
    }

    fn rows(&mut self, tile: Tile) -> Result<&[Vec<Hash>], ReadError<R::Error>> {
        let place = (tile.level(), tile.index());
        if !self.tiles.contains_key(&place) {
            if self.tiles.len() >= TILES_MAX {
                self.tiles.clear();
            }
            let mut rows = vec![read_tile(&mut self.reader, tile)?];
            // 256 hashes at most: 8 rows more, the last of one hash.
            while let Some(row) = rows.last().filter(|row| row.len() > 1) {
                rows.push(parents::<H>(row));
            }
            self.tiles.insert(place, rows);
        }
        Ok(self.tiles.get(&place).map_or(&[], Vec::as_slice))
    }
}

#[cfg(test)]
mod tests;
