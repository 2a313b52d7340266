//! What supervisor and gateway say to each other, as JSON over the control channel.

use serde::{Deserialize, Serialize};

/// From the supervisor.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ToGateway {
    /// Listening sockets of one worker, as descriptors, in the order of the listeners.
    Sockets {
        /// Number of the worker, from 0.
        worker: usize,
    },
    /// A new link to the auditor for one worker, as a descriptor.
    Link {
        /// Number of the worker.
        worker: usize,
    },
    /// A configuration generation, as a sealed blob: postcard of `moat_config::Hot`.
    Generation {
        /// Its number.
        number: u64,
        /// Digest of the configuration.
        digest: String,
        /// Who asked for it; empty for what a start brings along, which is no reload.
        asker: String,
    },
    /// A reload that was refused before it became a generation: to be recorded.
    Unreadable {
        /// Number that the generation would have had.
        number: u64,
        /// Code of the reason.
        code: String,
        /// Who asked for it.
        asker: String,
    },
    /// The file of risk profiles, open, as a descriptor.
    Risk {
        /// Most subjects that are remembered.
        subjects: usize,
    },
    /// A file for the inputs of decisions, open, as a descriptor: the first, or the next.
    Inputs {
        /// Whether declared headers are kept.
        keeps_headers: bool,
        /// Whether subject and claims of tokens are kept.
        keeps_person: bool,
    },
    /// What a kernel role sees of connections comes over this descriptor.
    Sights {},
    /// Everything needed for the start has been sent.
    Begin {
        /// Protections of the kernel that are not in force; it stands in every record.
        unguarded: String,
        /// Whether somebody reads what workers tell of their calls' time.
        #[serde(default)]
        tells_time: bool,
    },
    /// Asks for a [`FromGateway::Status`].
    Status {},
    /// Asks for [`FromGateway::Rows`].
    Rows {},
    /// Asks for [`FromGateway::Heap`].
    Heap {},
    /// Stop accepting, finish what is open, end.
    Stop {},
    /// Let what is recorded next wait for the next link, and say when nothing is under way on those
    /// of now: another auditor comes.
    Hold {},
    /// Another program takes over: to be recorded.
    Upgrade {
        /// Version of this program and of the other.
        versions: String,
        /// Who asked for it.
        asker: String,
    },
}

/// To the supervisor.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FromGateway {
    /// The generation is active in every worker.
    Active {
        /// Its number.
        number: u64,
    },
    /// The generation was refused; the one before stays active.
    Refused {
        /// Its number.
        number: u64,
        /// Code of the reason.
        code: String,
        /// What was wrong.
        detail: String,
    },
    /// Who holds memory, as JSON in parts: `code` and `profile`.
    Heap {
        /// Number of the part, from 0.
        part: usize,
        /// How many there are.
        of: usize,
        /// The text.
        text: String,
    },
    /// Where workers tell of their calls' time, in the gateway's memory; nothing if they do not.
    Windows {
        /// Addresses, by the workers' numbers.
        slots: Vec<u64>,
        /// Where its code lies: begin, end, offset in the file.
        code: Option<(u64, u64, u64)>,
    },
    /// Every worker listens and has its link.
    Ready {},
    /// Nothing is under way on the links; see [`ToGateway::Hold`].
    Held {},
    /// How it goes.
    Status(Status),
    /// What is counted by name, in parts.
    Rows {
        /// Number of the part, from 0.
        part: usize,
        /// How many there are.
        of: usize,
        /// The rows.
        rows: Vec<Row>,
    },
}

/// Counters since the start of the role.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Status {
    /// Active generation.
    pub generation: u64,
    /// Open connections.
    pub connections: u64,
    /// Calls begun.
    pub calls: u64,
    /// Calls refused, identity and handshake included.
    pub refused: u64,
    /// Answers withheld because no record could be made.
    pub withheld: u64,
    /// Records made durable.
    pub records: u64,
    /// Connections turned away because the listener was full, or had too many unfinished handshakes
    /// of their source.
    pub turned_away: u64,
    /// Connections cut since their caller would not be let in any more.
    pub cut: u64,
    /// Bytes of certificates that callers showed and that were not needed.
    pub spared_bytes: u64,
    /// Inputs of decisions that were not kept.
    #[serde(default)]
    pub inputs_lost: u64,
    /// Whether every worker has a link to the auditor.
    pub linked: bool,
    /// Workers that have not turned their loop for a second.
    pub stalled: u64,
    /// How much of the calls is refused for load: 0 to 3,000, of the worst worker.
    pub pressure: u64,
    /// Whether a certificate that callers are shown has ended.
    #[serde(default)]
    pub has_expired: bool,
}

/// One value with its labels, for metrics.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Row {
    /// What is counted.
    pub name: String,
    /// Names and values.
    pub labels: Vec<(String, String)>,
    /// The count; 0 for a histogram.
    #[serde(default)]
    pub value: u64,
    /// Latencies, if that is what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub histogram: Option<Histogram>,
}

/// Latencies by bucket; the last one has no bound.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Histogram {
    /// Of all, in microseconds.
    pub sum_us: u64,
    /// How many in each bucket.
    pub counts: Vec<u64>,
}

impl Row {
    pub(crate) fn count(name: &str, labels: Vec<(String, String)>, value: u64) -> Row {
        Row { name: name.to_owned(), labels, value, histogram: None }
    }

    pub(crate) fn histogram(
        name: &str,
        labels: Vec<(String, String)>,
        histogram: Histogram,
    ) -> Row {
        Row { histogram: Some(histogram), ..Row::count(name, labels, 0) }
    }
}
