//! Reading a log directory: what verification, search and recovery have in common.
//!
//! Never writes. The directory may be a live one: another process may append meanwhile.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::segment::parse_file_name;

/// How much is read ahead, in bytes.
const READ_AHEAD_BYTES: usize = 256 * 1024;

/// A directory that can be read.
pub trait Store {
    /// An open file.
    type File: Readable;
    /// The names in the directory, in any order.
    ///
    /// # Errors
    /// What the system says.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Opens one file for reading.
    ///
    /// # Errors
    /// What the system says.
    fn open(&self, name: &str) -> io::Result<Self::File>;
}

/// A file that can be read.
pub trait Readable {
    /// Bytes of the file now.
    ///
    /// # Errors
    /// What the system says.
    fn size(&self) -> io::Result<u64>;
    /// Reads at an offset; 0 at the end.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

/// A directory of the file system.
#[derive(Clone, Debug)]
pub struct Dir(PathBuf);

impl Dir {
    /// The directory at `path`.
    #[must_use]
    pub fn new(path: &Path) -> Dir {
        Dir(path.to_owned())
    }
}

impl Store for Dir {
    type File = File;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.0)? {
            // A name that is no UTF-8 is no segment.
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    /// Only what is a file is opened: a pipe of that name would make the reader wait for ever.
    fn open(&self, name: &str) -> io::Result<File> {
        let path = self.0.join(name);
        if std::fs::metadata(&path)?.is_file() {
            return File::open(path);
        }
        let text = format!("{name} is no regular file");
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    }
}

impl Readable for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buffer, offset)
    }
}

/// What is in memory reads like a file.
impl Readable for Vec<u8> {
    fn size(&self) -> io::Result<u64> {
        u64::try_from(self.len()).map_err(io::Error::other)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.get(at..).unwrap_or_default();
        buffer.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        Ok(rest.len().min(buffer.len()))
    }
}

/// The names of the segments in the order in which they were made, each once, in whatever form it is
/// there; [`crate::sealed::open_segment`] opens them.
///
/// # Errors
/// What the system says.
pub fn segment_names(store: &impl Store) -> io::Result<Vec<String>> {
    let mut names: Vec<_> = store
        .list()?
        .into_iter()
        .filter_map(|name| {
            let name = crate::sealed::segment_of(&name);
            parse_file_name(name).map(|order| (order, name.to_owned()))
        })
        .collect();
    names.sort();
    names.dedup();
    Ok(names.into_iter().map(|(_, name)| name).collect())
}

/// All of a file that should be small; at most `bytes_max` bytes of it.
///
/// # Errors
/// What the system says.
pub fn read_start(file: &impl Readable, bytes_max: usize) -> io::Result<Vec<u8>> {
    read_from(file, 0, bytes_max)
}

/// A whole file that should be small, at most `bytes_max` bytes of it; `None` if there is none.
///
/// # Errors
/// What the system says.
pub fn read_file(store: &impl Store, path: &str, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
    match store.open(path) {
        Ok(file) => read_start(&file, bytes_max).map(Some),
        // A file where a folder is asked for: the path is not there either.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// `len` bytes from `offset`, or fewer when the file ends before.
pub(crate) fn read_from(file: &impl Readable, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut window = Window { ahead_bytes: 0, ..Window::default() };
    Ok(window.at(file, offset, len)?.to_vec())
}

/// A stretch of a file kept in memory, moved along as it is asked for.
#[derive(Debug)]
pub(crate) struct Window {
    start: u64,
    bytes: Vec<u8>,
    ahead_bytes: usize,
}

impl Default for Window {
    fn default() -> Window {
        Window { start: 0, bytes: Vec::new(), ahead_bytes: READ_AHEAD_BYTES }
    }
}

impl Window {
    /// A window over a file of so many bytes.
    pub(crate) fn over(size: u64) -> Window {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        Window { ahead_bytes: size.min(READ_AHEAD_BYTES), ..Window::default() }
    }

    /// `want` bytes from `offset`, or fewer when the file ends before.
    pub(crate) fn at(
        &mut self,
        file: &impl Readable,
        offset: u64,
        want: usize,
    ) -> io::Result<&[u8]> {
        let skip = offset.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        match skip.filter(|&skip| skip <= self.bytes.len()) {
            Some(skip) if self.bytes.len() - skip >= want => {
                return Ok(self.bytes.get(skip..skip + want).unwrap_or_default());
            }
            Some(skip) => drop(self.bytes.drain(..skip)),
            None => self.bytes.clear(),
        }
        self.start = offset;
        self.fill(file, want)?;
        Ok(self.bytes.get(..want).unwrap_or(&self.bytes))
    }

    fn fill(&mut self, file: &impl Readable, want: usize) -> io::Result<()> {
        while self.bytes.len() < want {
            let held = self.bytes.len();
            self.bytes.resize(held + self.ahead_bytes.max(want - held), 0);
            let offset = self.start + u64::try_from(held).unwrap_or(u64::MAX);
            let read = match self.bytes.get_mut(held..).map(|free| file.read_at(free, offset)) {
                Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
                Some(read) => read.map(Some),
                None => Ok(Some(0)),
            };
            let more = match read {
                Ok(more) => more,
                Err(error) => {
                    self.bytes.truncate(held);
                    return Err(error);
                }
            };
            self.bytes.truncate(held + more.unwrap_or(0));
            if more == Some(0) {
                break;
            }
        }
        Ok(())
    }
}
