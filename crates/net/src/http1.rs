//! HTTP/1 on both sides of the gateway: [`server`] answers callers, [`client`] calls services.
//!
//! Every byte is read by the [guard](crate::guard), once; nothing else here looks for the end of a
//! line or of a message. A connection carries one exchange at a time, and one owner has its whole
//! socket: nothing is sent through a channel, and no task stands behind it. What comes behind a
//! request before that is answered waits, at most one read of it.
//!
//! Both sides hold their socket in one piece, beside the bytes that were read of it and are not
//! used yet: a switch of protocols (101) can take over the two as they are. None is served so far.

pub mod client;
mod encode;
mod parts;
mod queue;
pub mod server;
#[cfg(test)]
mod tests;
