//! Who holds the memory: an allocator that looks at one byte in some hundred thousand.
//!
//! It wraps another allocator and passes everything on. Of what is allocated, it takes a sample by
//! size, about one for each 512 KiB, and remembers for it the stack of whoever asked, until the
//! memory is given back. So what is held, and by whom, can be read from a running process, at a cost
//! of a subtraction and a look at one byte for each allocation.
//!
//! Nothing is remembered before [`begin`] was called. What is remembered has bounds; what is beyond
//! is counted.

mod sampler;
mod table;
mod wrapper;

pub use sampler::{begin, profile};
pub use table::{Profile, Site};
pub use wrapper::Sampling;

/// Mean distance between samples, in bytes.
pub const EVERY_BYTES: u64 = 512 * 1024;
