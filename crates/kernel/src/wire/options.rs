//! TCP options of a SYN (RFC 9293 §3.1), as they came. Which ones a caller's system sends, and in
//! which order, tells systems apart; whoever wants to look like another can.

/// What the options say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Their kinds in order, without what ends the list.
    pub kinds: Vec<u8>,
    /// Longest segment; 0 if nothing was said.
    pub segment_max: u16,
    /// Window scale (RFC 7323 §2.2).
    pub window_scale: Option<u8>,
}

/// Reads options up to their end, or to the first that does not fit.
#[must_use]
pub fn read(bytes: &[u8]) -> Options {
    let mut options = Options::default();
    let mut rest = bytes;
    while let [kind, after @ ..] = rest {
        match kind {
            0 => break,
            1 => {
                options.kinds.push(1);
                rest = after;
            }
            kind => {
                let Some(length) = after.first().map(|length| usize::from(*length)) else { break };
                let Some(value) = rest.get(2..length) else { break };
                match (kind, value) {
                    (2, [high, low]) => options.segment_max = u16::from_be_bytes([*high, *low]),
                    (3, [scale]) => options.window_scale = Some(*scale),
                    _ => {}
                }
                options.kinds.push(*kind);
                rest = rest.get(length..).unwrap_or_default();
            }
        }
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As Linux sends them: MSS 1460, SACK, time stamps, nothing, window scale 7.
    const LINUX: &[u8] = &[2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];

    #[test]
    fn options_are_read_in_order() {
        let options = read(LINUX);
        assert_eq!(options.kinds, [2, 4, 8, 1, 3]);
        assert_eq!((options.segment_max, options.window_scale), (1460, Some(7)));
        assert_eq!(read(&[1, 0, 2, 4, 5, 0xb4]).kinds, [1], "nothing behind the end counts");
        assert_eq!(read(&[2, 1, 5]), Options::default(), "shorter than itself");
    }

    #[test]
    fn what_is_cut_off_ends_the_list() {
        for length in 0..LINUX.len() {
            let cut = read(&LINUX[..length]);
            assert!(read(LINUX).kinds.starts_with(&cut.kinds), "{length}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..=40)) {
            prop_assert!(read(&bytes).kinds.len() <= bytes.len());
        }
    }
}
