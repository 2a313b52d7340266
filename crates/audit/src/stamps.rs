//! Time stamps (RFC 3161) over a log: where the tokens lie, what a record says of one, and between
//! which of them a record was made.
//!
//! A token says that a root existed at a time, so every record below that size was made before it. A
//! record that holds a token's digest was made after the token, and so was every record behind it.
//! The tokens are verified by the caller.

/// Folder of the tokens in that of the log.
pub const STAMPS_FOLDER: &str = "timestamps";
/// What the file of a token has behind the size that it is over.
pub const TOKEN_SUFFIX: &str = ".tsr";
/// What the file has behind the size that says that the token is on record.
pub const RECORDED_SUFFIX: &str = ".recorded";
/// Longest token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 64 * 1024;
/// How far a token's time may lie before the event, in nanoseconds: it may have whole seconds only.
pub const COARSE_NS: u64 = 1_000_000_000;

const NOTE: &str = "time stamp over the first ";

/// The note of the CHECK record that a token is there.
#[must_use]
pub fn stamp_note(size: u64, token_sha256: &str) -> String {
    format!("{NOTE}{size} records: token sha256:{token_sha256}")
}

/// Size and digest in such a note; `None` for any other.
#[must_use]
pub fn stamp_in(note: &str) -> Option<(u64, &str)> {
    let (size, rest) = note.strip_prefix(NOTE)?.split_once(' ')?;
    Some((size.parse().ok()?, rest.strip_prefix("records: token sha256:")?))
}

/// A token that was verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// How many records it is over.
    pub size: u64,
    /// Its time, in nanoseconds of UTC.
    pub time_ns: u64,
    /// How wrong the authority says that it may be, in nanoseconds.
    pub accuracy_ns: u64,
    /// The record that holds its digest.
    pub recorded_at: Option<u64>,
}

/// Between which times a record was made, in nanoseconds of UTC, as far as tokens tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bracket {
    /// Not before this.
    pub not_earlier_ns: Option<u64>,
    /// Not after this.
    pub not_later_ns: Option<u64>,
}

impl Bracket {
    /// Of the record `seq`.
    #[must_use]
    pub fn of(stamps: &[Stamp], seq: u64) -> Bracket {
        let after = stamps.iter().filter(|stamp| stamp.size > seq);
        let before = stamps.iter().filter(|stamp| stamp.recorded_at.is_some_and(|at| at < seq));
        Bracket {
            not_earlier_ns: before.map(|s| s.time_ns.saturating_sub(s.accuracy_ns)).max(),
            not_later_ns: after
                .map(|s| s.time_ns.saturating_add(s.accuracy_ns).saturating_add(COARSE_NS))
                .min(),
        }
    }

    /// Whether a clock that may be wrong by so much can have shown this time.
    #[must_use]
    pub fn allows(&self, wall_ns: u64, error_ns: u64) -> bool {
        self.not_earlier_ns.is_none_or(|least| wall_ns.saturating_add(error_ns) >= least)
            && self.not_later_ns.is_none_or(|most| wall_ns.saturating_sub(error_ns) <= most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_lies_between_the_tokens_around_it() {
        let stamp = |size, seconds: u64, recorded_at| Stamp {
            size,
            time_ns: seconds * 1_000_000_000,
            accuracy_ns: 0,
            recorded_at: Some(recorded_at),
        };
        let stamps = [stamp(10, 100, 12), stamp(20, 200, 25), stamp(40, 400, 41)];
        let of = |seq| {
            let bracket = Bracket::of(&stamps, seq);
            (
                bracket.not_earlier_ns.map(|ns| ns / COARSE_NS),
                bracket.not_later_ns.map(|ns| ns / COARSE_NS),
            )
        };
        assert_eq!(of(0), (None, Some(101)));
        assert_eq!(of(9), (None, Some(101)));
        assert_eq!(of(10), (None, Some(201)));
        assert_eq!(of(12), (None, Some(201)));
        assert_eq!(of(13), (Some(100), Some(201)));
        assert_eq!(of(26), (Some(200), Some(401)));
        assert_eq!(of(42), (Some(400), None));
        let bracket = Bracket::of(&stamps, 15);
        let ns = |seconds: u64| seconds * 1_000_000_000;
        assert!(bracket.allows(ns(150), 0) && bracket.allows(ns(201), 0));
        assert!(!bracket.allows(ns(99), 0) && bracket.allows(ns(99), ns(1)));
        assert!(!bracket.allows(ns(202), 0) && bracket.allows(ns(202), ns(1)));
    }

    #[test]
    fn a_note_of_a_token_is_read_back() {
        assert_eq!(stamp_in(&stamp_note(7, "ab")), Some((7, "ab")));
        assert_eq!(stamp_in("time stamp over the first x records: token sha256:ab"), None);
        assert_eq!(stamp_in("stop"), None);
    }
}
