//! The stages of one exchange, in order.

use core::fmt;

/// Where in the pipeline something happened. The same names stand in errors, records, metrics and
/// documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Stage {
    /// A connection was taken from the listening socket.
    Accept = 1,
    /// The TLS handshake with the caller.
    Handshake = 2,
    /// The caller's certificate becomes an identity.
    Identify = 3,
    /// The request head and body are read and checked.
    Decode = 4,
    /// The policy decides.
    Authorize = 5,
    /// The upstream is chosen.
    Route = 6,
    /// Fields are masked.
    Mask = 7,
    /// The request goes upstream and the answer comes back.
    Forward = 8,
    /// The record becomes durable.
    Record = 9,
    /// The answer goes to the caller.
    Reply = 10,
}

impl Stage {
    /// Every stage in order.
    pub const ALL: [Stage; 10] = [
        Stage::Accept,
        Stage::Handshake,
        Stage::Identify,
        Stage::Decode,
        Stage::Authorize,
        Stage::Route,
        Stage::Mask,
        Stage::Forward,
        Stage::Record,
        Stage::Reply,
    ];

    /// The name used in records, metrics and problem documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Accept => "accept",
            Stage::Handshake => "handshake",
            Stage::Identify => "identify",
            Stage::Decode => "decode",
            Stage::Authorize => "authorize",
            Stage::Route => "route",
            Stage::Mask => "mask",
            Stage::Forward => "forward",
            Stage::Record => "record",
            Stage::Reply => "reply",
        }
    }

    /// The byte that stands for the stage in a record.
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        self as u8
    }

    /// The stage that `byte` stands for, if any.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Stage> {
        Stage::ALL.into_iter().find(|stage| stage.to_byte() == byte)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
