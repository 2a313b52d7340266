//! Where the time of calls goes: what the gateway's workers tell, joined with what the kernel saw.

pub mod book;
mod join;
#[cfg(feature = "bpf")]
pub mod probe;
pub mod report;
mod spread;
