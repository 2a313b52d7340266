//! What the kernel enforces on our own roles, and what it says.
//!
//! - Users, Landlock, seccomp: a role calls [`enter`] once, after it was handed its descriptors and
//!   before the first byte from outside.
//! - BPF programs (feature `bpf`), loaded and attached by the kernel role alone: [`role`].
//!
//! What the kernel cannot do is reported, never assumed.

#[cfg(feature = "bpf")]
pub mod attempt;
#[cfg(feature = "bpf")]
pub mod behaviour;
pub mod calls;
pub mod cgroup;
pub mod code;
pub mod egress;
mod filesystem;
pub mod latency;
#[cfg(feature = "bpf")]
pub mod layout;
#[cfg(feature = "bpf")]
pub mod loss;
pub mod matrix;
#[cfg(feature = "bpf")]
pub mod measure;
pub mod messages;
#[cfg(feature = "bpf")]
pub mod object;
#[cfg(feature = "bpf")]
pub mod observe;
#[cfg(feature = "bpf")]
pub mod role;
mod sandbox;
mod syscalls;
mod users;
#[cfg(feature = "bpf")]
pub mod wire;

pub use filesystem::try_landlock;
pub use sandbox::{Jail, Report, Role, enter};
pub use syscalls::{SELDOM, allowed_calls};
pub use users::{User, find_user};
