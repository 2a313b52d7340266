//! Moat.
fn main() {}
