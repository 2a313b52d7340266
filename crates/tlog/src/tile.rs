//! Tiles and entry bundles: their places, their bytes (c2sp.org/tlog-tiles).

use std::fmt;

use crate::hash::{HASH_BYTES, Hash};
use crate::range::SIZE_MAX;
use crate::text::decimal;

/// How many hashes a full tile has, and how many entries a full bundle.
pub const WIDTH_MAX: u16 = 256;
/// The highest level that a tree of [`SIZE_MAX`] leaves has.
pub const LEVEL_MAX: u8 = 7;
/// Longest entry, in bytes: its length is written in two.
pub const ENTRY_BYTES_MAX: usize = 65_535;
/// Longest bundle, in bytes.
pub const BUNDLE_BYTES_MAX: usize = 256 * (2 + ENTRY_BYTES_MAX);
/// Longest path, in bytes, rounded up.
const PATH_BYTES_MAX: usize = 64;

/// Why bytes or a path are no tile or bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// The path is none, or not in its one spelling.
    #[error("no path of a tile")]
    Path,
    /// There is no such tile in any tree.
    #[error("no tree has a tile there")]
    Place,
    /// Not as many bytes as the tile is wide, or entries that do not fill the bundle exactly.
    #[error("the content does not fit the width")]
    Content,
    /// An entry longer than [`ENTRY_BYTES_MAX`].
    #[error("an entry is too long")]
    EntryTooLong,
}

/// The place of a tile of hashes: level, index in the level, width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    level: u8,
    index: u64,
    width: u16,
}

impl Tile {
    /// A place.
    ///
    /// # Errors
    /// When the width is not 1 to 256, or no tree up to [`SIZE_MAX`] leaves has such a tile.
    pub fn new(level: u8, index: u64, width: u16) -> Result<Tile, TileError> {
        let wide = (1..=WIDTH_MAX).contains(&width);
        let end_leaf = leaf_under(level, index, width).filter(|end_leaf| *end_leaf <= SIZE_MAX);
        if wide && end_leaf.is_some() {
            Ok(Tile { level, index, width })
        } else {
            Err(TileError::Place)
        }
    }

    /// The tile at a place, as wide as it is in a tree of `size` leaves; `None` if it is empty.
    #[must_use]
    pub fn in_tree(level: u8, index: u64, size: u64) -> Option<Tile> {
        let hashes = size.checked_shr(8 * u32::from(level))?;
        let here = hashes.checked_sub(index.checked_mul(256)?)?;
        Tile::new(level, index, u16::try_from(here.min(256)).ok()?).ok()
    }

    /// The level: 0 holds the hashes of leaves.
    #[must_use]
    pub fn level(&self) -> u8 {
        self.level
    }

    /// The index in the level.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// How many hashes it has, 1 to 256.
    #[must_use]
    pub fn width(&self) -> u16 {
        self.width
    }

    /// Whether it has 256 hashes.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.width == WIDTH_MAX
    }

    /// The full tile at the same place, which may be served in its stead; `None` if no tree is
    /// large enough for it.
    #[must_use]
    pub fn full(&self) -> Option<Tile> {
        Tile::new(self.level, self.index, WIDTH_MAX).ok()
    }

    /// The first leaf under it.
    #[must_use]
    pub fn first_leaf(&self) -> u64 {
        leaf_under(self.level, self.index, 0).unwrap_or(SIZE_MAX)
    }

    /// The leaf after the last under it; what lies at or below a log's minimum index is prunable.
    #[must_use]
    pub fn end_leaf(&self) -> u64 {
        // A tile exists only if these are in range: see `new`.
        leaf_under(self.level, self.index, self.width).unwrap_or(SIZE_MAX)
    }

    /// The path below the log's prefix: `tile/0/x001/x234/067.p/8`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("tile/{}/{}", self.level, Place(self.index, self.width))
    }

    /// Reads a path.
    ///
    /// # Errors
    /// When it is none that [`path`](Tile::path) writes.
    pub fn parse(path: &str) -> Result<Tile, TileError> {
        let (level, place) = strip_tile(path)?.split_once('/').ok_or(TileError::Path)?;
        let level = decimal(level).and_then(|level| u8::try_from(level).ok());
        let (index, width) = parse_place(place)?;
        Tile::new(level.ok_or(TileError::Path)?, index, width)
    }

    /// The bytes of hashes.
    #[must_use]
    pub fn encode(hashes: &[Hash]) -> Vec<u8> {
        hashes.as_flattened().to_vec()
    }

    /// The hashes of this tile.
    ///
    /// # Errors
    /// When the bytes are not exactly as many as the width asks for.
    pub fn decode(&self, bytes: &[u8]) -> Result<Vec<Hash>, TileError> {
        let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
        let fits = rest.is_empty() && hashes.len() == usize::from(self.width);
        if fits { Ok(hashes.to_vec()) } else { Err(TileError::Content) }
    }
}

/// The place of a bundle of entries: index and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bundle {
    index: u64,
    width: u16,
}

impl Bundle {
    /// A place.
    ///
    /// # Errors
    /// As for a tile of level 0.
    pub fn new(index: u64, width: u16) -> Result<Bundle, TileError> {
        Tile::new(0, index, width).map(Bundle::of)
    }

    /// The entries whose hashes are in a tile of level 0.
    fn of(tile: Tile) -> Bundle {
        Bundle { index: tile.index, width: tile.width }
    }

    /// The bundle at an index, as wide as it is in a tree of `size` leaves; `None` if it is empty.
    #[must_use]
    pub fn in_tree(index: u64, size: u64) -> Option<Bundle> {
        Tile::in_tree(0, index, size).map(Bundle::of)
    }

    /// The tile with the hashes of these entries.
    #[must_use]
    pub fn tile(&self) -> Tile {
        Tile { level: 0, index: self.index, width: self.width }
    }

    /// Which bundle it is.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// How many entries it has, 1 to 256.
    #[must_use]
    pub fn width(&self) -> u16 {
        self.width
    }

    /// The path below the log's prefix: `tile/entries/x001/x234/067.p/8`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("tile/entries/{}", Place(self.index, self.width))
    }

    /// Reads a path.
    ///
    /// # Errors
    /// When it is none that [`path`](Bundle::path) writes.
    pub fn parse(path: &str) -> Result<Bundle, TileError> {
        let place = strip_tile(path)?.strip_prefix("entries/").ok_or(TileError::Path)?;
        let (index, width) = parse_place(place)?;
        Bundle::new(index, width)
    }

    /// Splits the bytes into this bundle's entries.
    ///
    /// # Errors
    /// When an entry is cut off, or there are not exactly as many as the width says.
    pub fn decode<'a>(&self, mut bytes: &'a [u8]) -> Result<Vec<&'a [u8]>, TileError> {
        let mut entries = Vec::with_capacity(usize::from(self.width));
        for _ in 0..self.width {
            let (length, rest) = bytes.split_first_chunk().ok_or(TileError::Content)?;
            let length = usize::from(u16::from_be_bytes(*length));
            let (entry, rest) = rest.split_at_checked(length).ok_or(TileError::Content)?;
            entries.push(entry);
            bytes = rest;
        }
        if bytes.is_empty() { Ok(entries) } else { Err(TileError::Content) }
    }
}

/// The first leaf under a hash of a tile.
fn leaf_under(level: u8, index: u64, hash: u16) -> Option<u64> {
    let node = index.checked_mul(256)?.checked_add(u64::from(hash))?;
    node.checked_mul(256_u64.checked_pow(u32::from(level))?)
}

/// Appends an entry to the bytes of a bundle.
///
/// # Errors
/// When it is longer than its length prefix can say; then nothing is appended.
pub fn put_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), TileError> {
    let length = u16::try_from(entry.len()).map_err(|_| TileError::EntryTooLong)?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// Index and width as a path spells them.
struct Place(u64, u16);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place(index, width) = *self;
        // 2^55 tiles at most: 17 digits, 6 groups.
        for power in (1..7).rev().map(|n| 1000_u64.pow(n)).skip_while(|power| index < *power) {
            write!(f, "x{:03}/", index / power % 1000)?;
        }
        write!(f, "{:03}", index % 1000)?;
        if width < WIDTH_MAX { write!(f, ".p/{width}") } else { Ok(()) }
    }
}

fn strip_tile(path: &str) -> Result<&str, TileError> {
    if path.len() > PATH_BYTES_MAX {
        return Err(TileError::Path);
    }
    path.strip_prefix("tile/").ok_or(TileError::Path)
}

fn parse_place(place: &str) -> Result<(u64, u16), TileError> {
    let (index, width) = match place.split_once(".p/") {
        None => (place, WIDTH_MAX),
        Some((index, width)) => {
            let width = decimal(width).and_then(|width| u16::try_from(width).ok());
            (index, width.filter(|width| *width < WIDTH_MAX).ok_or(TileError::Path)?)
        }
    };
    let (groups, last) = match index.rsplit_once('/') {
        None => (None, index),
        Some((groups, last)) => (Some(groups), last),
    };
    let mut number = 0_u64;
    let groups = groups.into_iter().flat_map(|groups| groups.split('/'));
    for digits in groups.map(|group| group.strip_prefix('x')).chain([Some(last)]) {
        let digits = digits.ok_or(TileError::Path)?;
        if digits.len() != 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(TileError::Path);
        }
        let group: u64 = digits.parse().map_err(|_| TileError::Path)?;
        let shifted = number.checked_mul(1000).and_then(|number| number.checked_add(group));
        number = shifted.ok_or(TileError::Place)?;
    }
    // Groups of zeros in front would be a second spelling.
    let canonical = Place(number, WIDTH_MAX).to_string() == index;
    if canonical { Ok((number, width)) } else { Err(TileError::Path) }
}

#[cfg(test)]
mod tests;
