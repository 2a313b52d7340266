//! ISO 8583: messages of fields that a bitmap names.

mod bitmap;
mod decode;
mod draft;
mod header;
mod index;
pub mod json;
mod mti;
mod observe;
mod op;
mod parts;
mod plan;
#[cfg(test)]
mod tests;
mod value;
mod view;

pub use bitmap::Present;
pub use decode::{Check, Decoder, decode};
pub use draft::Draft;
pub use index::Index;
pub use mti::{Function, MessageClass, Mti, Version};
pub use observe::{FieldRef, Observer, Touched};
pub(crate) use op::Op;
pub use parts::{Inside, Item, Label};
pub(crate) use value::from_hex;
pub use view::{Guarded, Read, Value, View};
