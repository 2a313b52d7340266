//! Listeners and connections: what stands between a socket and the pipeline.

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

pub mod guard;
