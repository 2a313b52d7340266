//! National cryptography: SM2, SM3 and SM4, with the modes that TLS 1.3 (RFC 8998) asks for.
//!
//! No input or output, no TLS, no clock and no source of randomness: entropy is an argument.
//! What touches a secret takes the same time for every secret; verification, which sees public
//! values only, may take different times. docs/crypto.md says what is tested and what is not.

#![cfg_attr(not(any(feature = "std", test)), no_std)]

extern crate alloc;

pub mod backend;
pub mod cpu;
mod ct;
mod error;
mod ghash;
pub mod hkdf;
pub mod hmac;
pub mod pbkdf2;
pub mod pem;
pub mod sm2;
pub mod sm3;
pub mod sm4;

#[cfg(test)]
mod testing;

pub use error::Error;
