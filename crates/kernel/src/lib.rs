//! What the kernel enforces on our own roles: users, Landlock, seccomp.
//!
//! A role calls [`enter`] once, after it was handed its descriptors and before the first byte from
//! outside. What the kernel cannot do is reported, never assumed.

mod filesystem;
mod sandbox;
mod syscalls;
mod users;

pub use sandbox::{Jail, Report, Role, enter};
pub use users::{User, find_user};
