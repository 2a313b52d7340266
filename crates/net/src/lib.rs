//! Listeners and connections: what stands between a socket and the pipeline.
//!
//! Nothing here knows policy or records. Every wait has a bound: see [`activity`] for callers and
//! [`pool::Settings`] for services.
#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_possible_wrap,
        clippy::string_slice,
        reason = "tests"
    )
)]

pub mod activity;
mod alarm;
pub mod carriage;
pub mod client_io;
pub mod control;
pub mod frames;
pub mod guard;
pub mod listen;
pub mod local;
pub mod pool;
mod scratch;
pub mod sight;
pub mod upstream_io;
