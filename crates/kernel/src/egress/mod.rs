//! The egress guard: where the processes of a cgroup may connect to.

mod allow;
#[cfg(feature = "bpf")]
mod guard;
pub mod names;

pub use allow::{RULES_MAX, key_of};
#[cfg(feature = "bpf")]
pub(crate) use guard::destination;
#[cfg(feature = "bpf")]
pub use guard::{Counts, Guard, Hook, Ledger, Refused};
