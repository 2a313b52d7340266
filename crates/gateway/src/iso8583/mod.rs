//! Messages of ISO 8583: the way of one message from a caller's connection to a service's link and
//! back. The stages are those of `pipeline.rs`, and so are the types that hold them together: no
//! message goes on without a `Permit`, none that can change something without its INTENT, and no
//! answer leaves without a `Receipt`.
//!
//! Nothing here decrypts a PIN block, checks a MAC or translates a dialect.

mod answer;
mod bridge;
mod exchange;
mod fields;
mod lately;
mod link;
mod network;
mod record;
mod rules;
mod session;
mod wire;

pub(crate) use bridge::{exchange as bridged, prepare};
pub(crate) use lately::Lately;
pub(crate) use link::Links;
pub(crate) use record::Intended;
pub(crate) use rules::{Dialect, MessageRules, dialect, message_rules};
pub(crate) use session::serve;
