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
pub mod adaptive;
pub mod admission;
pub mod alarm;
pub mod body;
pub mod breaker;
pub mod budget;
pub mod carriage;
pub mod chance;
pub mod client_io;
pub mod cluster;
pub mod control;
pub mod date;
pub mod dns;
pub mod endpoint;
pub mod frames;
pub mod guard;
pub mod health;
pub mod http1;
pub mod listen;
pub mod local;
pub mod pool;
pub mod rate;
pub mod ring;
mod scratch;
pub mod service;
pub mod sight;
pub mod slots;
pub mod window;
