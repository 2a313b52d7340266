//! The words every other crate speaks: stages, decisions, classes, codes, limits, the clock.
//!
//! This crate does no I/O, opens no file and no socket. It reads the time in exactly one place,
//! [`clock::System`], so that tests can put another [`clock::Clock`] in its stead.

pub mod class;
pub mod clock;
pub mod code;
pub mod egress;
pub mod limit;
pub mod refusal;
pub mod stage;
pub mod window;

pub use class::Class;
pub use clock::Clock;
pub use code::Code;
pub use refusal::Refusal;
pub use stage::Stage;
