//! ISO 20022: XML read by pulling, without a tree, and without anything that XML can do beyond
//! elements, attributes and text.
//!
//! [`walk`] calls back for each value: the text of an element that has no elements in it. Nothing
//! is copied; a value is decoded when it is asked for. Document types, entities and processing
//! instructions are refused, so nothing expands and nothing is fetched. [`rewrite`] puts other
//! texts in place of some and copies everything else as bytes.

mod facet;
mod leaf;
mod table;
#[cfg(test)]
mod tests;
mod walk;

pub use facet::minor_units;
pub use leaf::Leaf;
pub use table::{Entry, Type};
pub use walk::{Summary, rewrite, unwrap, walk};
