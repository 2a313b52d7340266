//! What supervisor and admin role say to each other, as JSON over the control channel.

use serde::{Deserialize, Serialize};

/// From the supervisor.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ToAdmin {
    /// The probes' listening socket and the admin socket, as descriptors in this order.
    Sockets {},
    /// Everything needed for the start has been sent.
    Begin {},
    /// How things stand; sent whenever something changes, at least every second.
    State(Box<State>),
    /// What the gateway counts by name, in parts.
    Rows {
        /// Number of the part, from 0.
        part: usize,
        /// How many there are.
        of: usize,
        /// The rows.
        rows: Vec<Row>,
    },
    /// Who holds the gateway's memory: a [`Heap`] as JSON, in parts.
    Heap {
        /// Number of the part, from 0.
        part: usize,
        /// How many there are.
        of: usize,
        /// The text.
        text: String,
    },
    /// Where calls' time goes, as JSON in parts.
    Latency {
        /// Number of the part, from 0.
        part: usize,
        /// How many there are.
        of: usize,
        /// The text.
        text: String,
    },
    /// The answer to a question of [`FromAdmin`].
    Reloaded {
        /// Number of the question.
        id: u64,
        /// What came of it, or why nothing did.
        result: Result<serde_json::Value, String>,
    },
    /// End.
    Stop {},
}

/// To the supervisor.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FromAdmin {
    /// The sockets are being served.
    Ready {},
    /// Put the generation before the one in force in force again.
    Rollback {
        /// Number of the question.
        id: u64,
        /// User id of the program that asked, as the kernel says.
        uid: Option<u32>,
    },
    /// Let the program that lies where this one was started from take over.
    Upgrade {
        /// Number of the question.
        id: u64,
        /// User id of the program that asked, as the kernel says.
        uid: Option<u32>,
    },
    /// Say what a reload would change.
    Diff {
        /// Number of the question.
        id: u64,
    },
    /// Ask the gateway who holds its memory.
    Heap {},
    /// Read the configuration again.
    Reload {
        /// Number of the question.
        id: u64,
        /// User id of the program that asked, as the kernel says.
        uid: Option<u32>,
    },
}

/// Who holds a role's memory.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Heap {
    /// Where its code lies: begin, end, offset in the file.
    pub code: Option<(u64, u64, u64)>,
    /// Estimates by stack.
    pub profile: moat_heap::Profile,
}

/// How things stand.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct State {
    /// Version of the program.
    pub version: String,
    /// Active generation.
    pub generation: u64,
    /// Digest of its configuration.
    pub digest: String,
    /// Process id of the supervisor.
    #[serde(default)]
    pub pid: u32,
    /// Why the last reload was refused, if it was.
    pub last_refusal: Option<String>,
    /// The roles.
    pub roles: Vec<RoleState>,
    /// Readiness, condition by condition.
    pub conditions: Vec<Condition>,
    /// The gateway's own counters.
    pub gateway: serde_json::Value,
    /// The auditor's own counters.
    pub auditor: serde_json::Value,
    /// What the kernel watches and enforces.
    #[serde(default)]
    pub kernel: serde_json::Value,
}

impl State {
    /// Whether every worker of the gateway that runs turns its loop.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.gateway.get("stalled").and_then(serde_json::Value::as_u64).unwrap_or(0) == 0
    }

    /// Whether every condition holds; nothing known is not ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.conditions.is_empty() && self.conditions.iter().all(|c| c.holds)
    }
}

/// One role.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RoleState {
    /// Name.
    pub name: String,
    /// Process id; 0 while it is away.
    pub pid: u32,
    /// User id.
    pub uid: u32,
    /// How often it was started again.
    pub restarts: u64,
    /// `full`, `partial` or `none`.
    pub landlock: String,
    /// Whether system calls are filtered.
    pub seccomp: bool,
}

/// One condition of readiness.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Condition {
    /// For example `auditor committing`.
    pub name: String,
    /// Whether it holds.
    pub holds: bool,
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
