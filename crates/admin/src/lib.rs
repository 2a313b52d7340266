//! The admin role: probes for orchestrators and the local admin API.
//!
//! It knows nothing by itself: it asks the supervisor over its control channel. It touches no key,
//! opens no file and never reads the log.

mod api;
mod kernel_metrics;
mod latency_metrics;
pub mod messages;
mod metrics;
mod pprof;
mod role;

pub use role::{Error, Prepared, prepare, run};
