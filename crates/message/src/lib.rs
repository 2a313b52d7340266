//! Financial messages as views: ISO 8583 with its dialects, BER-TLV of EMV, ISO 20022, ASN.1.
//!
//! A view is the caller's bytes and an index of where the fields lie: nothing is copied, nothing
//! allocated, and no value is decoded before it is asked for. What was read is written again byte
//! for byte; of a changed message only what changed is built anew. Dialects are data, a [`Spec`]
//! read from YAML. Hostile input gives an error with field and offset, never with content.
//!
//! There is no socket, no clock and no log here.
//!
//! ```
//! use moat_message::{Check, Decoder, Draft, Index, Read, Spec};
//!
//! let spec = Spec::parse(
//!     "spec: tiny
//! bitmap: hex
//! fields:
//!   2: { name: pan, kind: n, class: PAN, len: { kind: ll, max: 19 } }
//!   4: { name: amount, kind: n, class: C2, len: 12 }
//! ",
//! )?;
//! let message = b"02005000000000000000166222020200112233000000001250";
//! let mut decoder = Decoder::new(&spec, Check::Strict);
//! let mut index = Index::new();
//! let mut view = decoder.decode(message, &mut index)?;
//! let Some(Read::Guarded(card)) = view.read(2) else { panic!("a card number is not handed out") };
//! assert_eq!(card.masked(), "622202***2233");
//!
//! let mut draft = Draft::of(view);
//! draft.set_text(4, "000000009900")?;
//! let mut out = Vec::new();
//! draft.write(&mut out)?;
//! assert_eq!(out, b"02005000000000000000166222020200112233000000009900");
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

pub mod amount;
pub mod asn1;
mod chars;
pub mod ebcdic;
mod error;
pub mod frame;
pub mod iso20022;
pub mod iso8583;
pub mod limit;
pub mod session;
pub mod spec;
pub mod tlv;

pub use amount::Decimal;
pub use error::{MessageError, Reason};
pub use iso8583::json;
pub use iso8583::{
    Check, Decoder, Draft, FieldRef, Guarded, Index, Mti, Observer, Read, Touched, Value, View,
};
pub use spec::{Spec, SpecError};
