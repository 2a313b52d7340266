//! What a check finds, in words and with its place.

use std::fmt;

use moat_model::Code;
use moat_model::code::audit as codes;

/// One thing that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What sort of thing.
    pub code: &'static Code,
    /// The file.
    pub segment: String,
    /// Where in it, in bytes.
    pub offset: u64,
    /// The first record concerned, where that is known.
    pub seq: Option<u64>,
    /// For people.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} at byte {}", self.code.id, self.segment, self.offset)?;
        if let Some(seq) = self.seq {
            write!(f, ", record {seq}")?;
        }
        write!(f, ": {}: {}", self.code.en.title, self.text)
    }
}

/// Findings, of which only so many are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    kept: Vec<Finding>,
    dropped: u64,
}

/// Most findings that are kept; the rest is counted.
pub const FINDINGS_MAX: usize = 1_000;

impl Findings {
    pub(crate) fn push(&mut self, finding: Finding) {
        if self.kept.len() < FINDINGS_MAX {
            self.kept.push(finding);
        } else {
            self.dropped += 1;
        }
    }

    /// Puts others before these, which go first if there are too many.
    pub(crate) fn prepend(&mut self, findings: Vec<Finding>) {
        let after = std::mem::take(self);
        findings.into_iter().chain(after.kept).for_each(|finding| self.push(finding));
        self.dropped += after.dropped;
    }

    /// Those that were kept: what signatures convict the log of, then the rest in its order.
    #[must_use]
    pub fn kept(&self) -> &[Finding] {
        &self.kept
    }

    /// How many there were beyond those kept.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}

/// An INTENT without an OUTCOME. No tampering: completeness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpaired {
    /// The intent.
    pub seq: u64,
    /// Its trace.
    pub trace_id: [u8; 16],
    /// Its transaction.
    pub tx_id: Option<[u8; 16]>,
}

impl Unpaired {
    /// The code under which it is reported.
    #[must_use]
    pub fn code(&self) -> &'static Code {
        &codes::UNPAIRED_INTENT
    }
}

/// Bytes at the end of the last segment that a crash left behind; nobody was told of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The file.
    pub segment: String,
    /// Where they begin.
    pub offset: u64,
    /// How many there are.
    pub bytes: u64,
}
