//! What a connection of messages needs to know, without the connection: where one message ends,
//! which answer belongs to which request, what was answered before. No socket and no clock: bytes
//! and times are arguments.

mod assembler;
mod key;
mod recent;
mod waiting;

#[cfg(test)]
mod tests;

pub use assembler::Assembler;
pub use key::Key;
pub use recent::{Begin, Recent, RecentLimits};
pub use waiting::{Full, Waiting};
