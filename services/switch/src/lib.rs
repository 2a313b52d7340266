//! A small card switch: cards with balances and limits in an embedded database, asked by ISO 8583
//! over mutual TLS 1.3, in two dialects at once.
//!
//! It authorises, declines, takes reversals and advices, and answers a repeat as it answered the
//! original. Terminals can be told to be answered by nobody, so that a gateway before it has
//! something to be unsure of. Cards and their holders are invented.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests"))]

pub mod book;
pub mod desk;
pub mod serve;
pub mod tls;
