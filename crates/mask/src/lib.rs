//! Masking of classified JSON fields, in a stream, in constant memory.
//!
//! A [`Plan`] is compiled from [`Rule`]s (JSON pointers with wildcards, a class, a strategy, a
//! capture id). A [`Rewriter`] carries a document through it: what matches is masked or captured,
//! everything else leaves as it came, byte for byte. An [`Extractor`] only captures.
//!
//! There is no DOM here, no socket, no clock and no log. Values of fields never stand in an error
//! or in `Debug` text. What cannot be parsed is refused: a half-understood document is not masked.
//!
//! ```
//! use moat_mask::{Plan, Rewriter, Rule, Strategy};
//! use moat_model::Class;
//!
//! let plan = Plan::compile(&[
//!     Rule::new("/owner/mobile".parse()?, Class::C2).masked(Strategy::MOBILE),
//!     Rule::new("/to/account".parse()?, Class::Pan).captured(7),
//! ])?;
//! let mut rewriter = Rewriter::new(&plan);
//! let mut out = Vec::new();
//! rewriter.push(br#"{"owner":{"mobile":"13800138000"},"#, &mut out)?;
//! rewriter.push(br#" "to":{"account":"6222020200112233445"}}"#, &mut out)?;
//! let captures = rewriter.finish(&mut out)?;
//! assert_eq!(out, br#"{"owner":{"mobile":"138****8000"}, "to":{"account":"6222020200112233445"}}"#);
//! assert_eq!(captures.first(7).map(|capture| capture.pointer.as_str()), Some("/to/account"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
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

// What the derive macro writes names the crate from outside.
#[cfg(test)]
extern crate self as moat_mask;

pub mod body;
mod capture;
mod classified;
pub mod discover;
mod error;
pub mod ff1;
pub mod formats;
mod machine;
mod plan;
mod pointer;
mod rewriter;
mod scan;
mod strategy;
mod token;
pub mod view;

pub use capture::{Capture, Captures, Scalar};
pub use classified::{
    Classified, Classify, FieldRow, FieldSpec, Fields, Leaf, Nested, TypePlan, Value, Visitor,
    is_stricter, may_show, strictest,
};
pub use error::{MaskError, Syntax};
pub use moat_mask_derive::Classify;
pub use moat_model::Class;
pub use plan::{Plan, PlanError, Rule};
pub use pointer::{Pattern, PatternError};
pub use rewriter::{Extractor, Keys, Rewriter};
pub use strategy::{Show, Strategy, StrategyError, fixed};
pub use token::{TokenKey, TokenKind, Tokens};
