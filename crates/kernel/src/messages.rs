//! What supervisor and kernel role say to each other, as JSON over the control channel.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// From the supervisor.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ToKernel {
    /// What is to be watched, before [`ToKernel::Begin`]. With an [`Egress`] as a sealed blob.
    Start {
        /// Folder of the gateway's cgroup.
        cgroup: PathBuf,
        /// Folder for pins, on a BPF file system.
        pins: PathBuf,
        /// What the TLS record view is to do; nothing where no interface is named.
        wire: Option<Wire>,
        /// Cgroups of every role, with its name.
        roles: Vec<(String, PathBuf)>,
        /// How calls' time is looked at; nothing if it is not.
        latency: Option<Latency>,
    },
    /// A new link to the auditor, as a descriptor.
    Link {},
    /// Where hellos go that were seen: one end of a channel to the gateway.
    Sights {},
    /// Everything needed for the start has been sent.
    Begin {},
    /// Puts another allow-list in force: an [`Egress`] as a sealed blob.
    Allow {
        /// Number of the question; 0 if nothing waits for the answer.
        number: u64,
    },
    /// A gateway has begun that tells of its calls' time.
    Windows {
        /// Where, in its memory, by the numbers of its workers.
        slots: Vec<u64>,
        /// Where its code lies: begin, end, offset in the file.
        code: Option<(u64, u64, u64)>,
    },
    /// Asks for a report as [`FromKernel::Latency`].
    Latency {},
    /// Asks for a [`FromKernel::Status`].
    Status {},
    /// Make records of what is left, and end.
    Stop {},
}

/// What the TLS record view is to look at and to do.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct Wire {
    /// Names of network interfaces.
    pub interfaces: Vec<String>,
    /// Ports of the listeners.
    pub ports: Vec<u16>,
    /// Networks that may connect, as `ADDRESS/BITS`; nothing means every network.
    pub admit: Vec<String>,
    /// Whether a connection that begins with anything but a TLS record is dropped.
    pub drops_other: bool,
    /// SYNs of one source in a second; 0 is without bound.
    pub syn_max: u32,
}

/// How calls' time is looked at.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct Latency {
    /// Ports of the listeners.
    pub ports: Vec<u16>,
    /// From when on a worker stands still, in milliseconds.
    pub stall_ms: u64,
}

/// Where processes may connect to.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct Egress {
    /// Entries, as `moat_model::egress::Rule` writes them.
    pub allow: Vec<String>,
    /// Whether what is not on the list passes all the same.
    pub is_observing: bool,
}

/// To the supervisor.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FromKernel {
    /// The role works, with these probes.
    Ready {
        /// What is attached and what is not.
        probes: Vec<Probe>,
    },
    /// The answer to [`ToKernel::Allow`].
    Allowed {
        /// Number of the question.
        number: u64,
        /// Why the list before stays in force.
        refused: Option<String>,
    },
    /// A `latency::report::Report` as JSON, in parts.
    Latency {
        /// Number of the part, from 0.
        part: usize,
        /// How many there are.
        of: usize,
        /// The text.
        text: String,
    },
    /// How things stand.
    Status(Box<Status>),
}

/// One probe.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Probe {
    /// For example `egress`.
    pub name: String,
    /// Whether it is in force.
    pub is_attached: bool,
    /// Why not.
    pub why: String,
}

/// How things stand. Tables are cut to a bound, so that it fits into one message.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Status {
    /// What is attached and what is not.
    pub probes: Vec<Probe>,
    /// The gateway's cgroup; empty without one.
    pub cgroup: String,
    /// The egress guard, if it is in force.
    pub egress: Option<EgressStatus>,
    /// The TLS record view, if it is in force.
    #[serde(default)]
    pub wire: Option<WireStatus>,
    /// What roles did that they have no business doing, if that is watched.
    #[serde(default)]
    pub behaviour: Vec<Evidence>,
    /// Calls' time in short, if it is looked at.
    #[serde(default)]
    pub latency: Option<LatencyStatus>,
    /// Records that wait for the auditor.
    pub waiting: usize,
}

/// How often a role did what it has no business doing, since the kernel role began.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Evidence {
    /// The role.
    pub role: String,
    /// Programs executed.
    pub exec: u64,
    /// Processes made.
    pub fork: u64,
    /// Processes ended for a forbidden system call.
    pub forbidden: u64,
    /// Paths opened.
    #[serde(default)]
    pub open: u64,
    /// System calls refused: EPERM or EACCES.
    #[serde(default)]
    pub refused: u64,
    /// What was granted for a capability.
    #[serde(default)]
    pub capability: u64,
    /// What was opened, each path with its count; the first ones.
    #[serde(default)]
    pub paths: Vec<(String, u64)>,
}

/// Calls' time in short; all of it is in `latency::report::Report`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct LatencyStatus {
    /// Calls told of.
    pub calls: u64,
    /// Calls that nothing is known of.
    pub calls_lost: u64,
    /// Events that found no room.
    pub events_lost: u64,
    /// Slow calls.
    pub slow: u64,
    /// How often a worker stood still.
    pub stalled: u64,
    /// 99th percentile of the last seconds, in microseconds.
    pub p99_us: u64,
}

/// The TLS record view's counters.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct WireStatus {
    /// Interfaces, each with `native` or `generic`.
    pub interfaces: Vec<String>,
    /// Connections that began with a TLS record.
    pub hellos: u64,
    /// Packets that began one with something else.
    pub not_tls: u64,
    /// SYNs of sources that are not admitted.
    pub not_admitted: u64,
    /// SYNs beyond their source's bound.
    pub too_fast: u64,
    /// Events that found no room.
    pub lost: u64,
    /// Fragments that nothing can be told of.
    pub fragments: u64,
    /// Packets whose headers cannot be read.
    pub unreadable: u64,
    /// Hellos that the gateway was not told of.
    pub untold: u64,
}

/// The egress guard's counters and tables.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct EgressStatus {
    /// Whether nothing is refused.
    pub is_observing: bool,
    /// How many entries the list has.
    pub entries: usize,
    /// The first of them.
    pub allow: Vec<String>,
    /// Attempts that passed, as the kernel counts.
    pub allowed: u64,
    /// Attempts refused, as the kernel counts.
    pub refused: u64,
    /// Refusals with a record of their own.
    pub recorded: u64,
    /// Refusals that a record speaks of together, for want of their events.
    pub lost: u64,
    /// Recorded refusals by destination: name or address; `other` beyond the bound, `lost`.
    pub blocked: Vec<(String, u64)>,
    /// Destinations lately tried.
    pub seen: Vec<Seen>,
}

/// A destination.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Seen {
    /// `address:port/protocol`.
    pub destination: String,
    /// Name, if a DNS answer gave one; else empty.
    pub name: String,
    /// Attempts that passed.
    pub allowed: u64,
    /// Attempts that did not.
    pub refused: u64,
}
