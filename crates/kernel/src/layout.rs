//! The structures of `bpf/moat.h`, as bytes.
//!
//! A structure is read member by member from where it stands, so nothing here is unsafe and
//! nothing depends on how Rust lays out its own. The table of each structure is compared with the
//! BTF of the compiled objects by a test.

/// One member: name, offset and size in bytes.
pub type Member = (&'static str, usize, usize);

/// Declares a structure, its table and its reader. Members stand in order and without gaps.
macro_rules! mirror {
    ($(#[$doc:meta])* $name:ident = $c_name:literal { $($(#[$mdoc:meta])* $member:ident: $kind:tt,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name { $($(#[$mdoc])* pub $member: mirror!(@type $kind),)* }

        impl $name {
            /// Name of the structure in C.
            pub const C_NAME: &'static str = $c_name;
            /// Size in bytes.
            pub const BYTES: usize = 0 $(+ mirror!(@size $kind))*;
            /// Every member.
            pub const MEMBERS: &'static [Member] = &{
                let mut offset = 0;
                [$({
                    let member = (stringify!($member), offset, mirror!(@size $kind));
                    offset += mirror!(@size $kind);
                    // The last one is not read.
                    let _ = offset;
                    member
                }),*]
            };

            /// Reads it from bytes; `None` if there are not exactly enough.
            #[must_use]
            pub fn parse(bytes: &[u8]) -> Option<$name> {
                let rest = bytes;
                $(let (part, rest) = rest.split_first_chunk::<{ mirror!(@size $kind) }>()?;
                  let $member = mirror!(@read $kind part);)*
                rest.is_empty().then_some($name { $($member),* })
            }
        }
    };
    (@type u8) => { u8 };
    (@type u16) => { u16 };
    (@type u32) => { u32 };
    (@type u64) => { u64 };
    (@type [$n:tt]) => { [u8; $n] };
    (@size u8) => { 1 };
    (@size u16) => { 2 };
    (@size u32) => { 4 };
    (@size u64) => { 8 };
    (@size [$n:tt]) => { $n };
    (@read u8 $part:ident) => { $part[0] };
    (@read u16 $part:ident) => { u16::from_ne_bytes(*$part) };
    (@read u32 $part:ident) => { u32::from_ne_bytes(*$part) };
    (@read u64 $part:ident) => { u64::from_ne_bytes(*$part) };
    (@read [$n:tt] $part:ident) => { *$part };
}

mirror! {
    /// An attempt that the egress guard refused.
    EgressEvent = "egress_event" {
        /// When, on the monotonic clock.
        at_ns: u64,
        /// Id of the cgroup.
        cgroup: u64,
        /// Process id; 0 where it is a packet that was refused.
        pid: u32,
        /// User id.
        uid: u32,
        /// Where to: IPv6, or IPv4 mapped into it.
        address: [16],
        /// Port.
        port: u16,
        /// Number of the protocol.
        protocol: u8,
        /// Where it was refused.
        hook: u8,
        /// Zero.
        nothing: [4],
        /// Name of the thread.
        comm: [16],
    }
}

mirror! {
    /// A DNS answer as it came.
    DnsEvent = "dns_event" {
        /// When, on the monotonic clock.
        at_ns: u64,
        /// How much of `answer` there is.
        length: u32,
        /// Zero.
        nothing: u32,
        /// The message.
        answer: [512],
    }
}

mirror! {
    /// A destination, as a key.
    Destination = "destination" {
        /// IPv6, or IPv4 mapped into it.
        address: [16],
        /// Port.
        port: u16,
        /// Number of the protocol.
        protocol: u8,
        /// Zero.
        nothing: [5],
    }
}

mirror! {
    /// What came of the attempts to reach a destination.
    Attempts = "attempts" {
        /// How many passed.
        allowed: u64,
        /// How many did not.
        refused: u64,
        /// The last, on the monotonic clock.
        last_ns: u64,
    }
}

mirror! {
    /// Key of an allow-list.
    AllowKey = "allow_key" {
        /// Length of the prefix, protocol and port counted in.
        prefix_bits: u32,
        /// Number of the protocol.
        protocol: u8,
        /// Zero.
        nothing: u8,
        /// Port in network order; 0 is every port.
        port: u16,
        /// IPv6, or IPv4 mapped into it.
        address: [16],
    }
}

mirror! {
    /// A connection towards a listener.
    Flow = "flow" {
        /// The caller's address: IPv6, or IPv4 mapped into it.
        source: [16],
        /// Ours.
        target: [16],
        /// The caller's port.
        source_port: u16,
        /// Ours.
        port: u16,
        /// Zero.
        nothing: [4],
    }
}

mirror! {
    /// What the SYN of a connection showed.
    FlowBegin = "flow_begin" {
        /// When, on the monotonic clock.
        at_ns: u64,
        /// Window.
        window: u16,
        /// Time to live, or hop limit.
        ttl: u8,
        /// How much of `options` there is.
        option_bytes: u8,
        /// Zero.
        nothing: [4],
        /// TCP options as they came.
        options: [40],
    }
}

mirror! {
    /// A place for a connection that has said nothing yet.
    FlowSlot = "flow_slot" {
        /// Which connection, as [`Flow`].
        flow: [40],
        /// What its SYN showed, as [`FlowBegin`].
        begin: [56],
    }
}

mirror! {
    /// The first thing that a connection said, or why it was dropped.
    TlsEvent = "tls_event" {
        /// When, on the monotonic clock.
        at_ns: u64,
        /// Which connection, as [`Flow`].
        flow: [40],
        /// What its SYN showed, as [`FlowBegin`].
        syn: [56],
        /// What it is.
        kind: u8,
        /// Time to live, or hop limit.
        ttl: u8,
        /// Window.
        window: u16,
        /// Version in the record's header.
        version: u16,
        /// Length in the record's header.
        record_bytes: u16,
        /// Type in the record's header.
        record_type: u8,
        /// 1 if the hello is not whole.
        is_partial: u8,
        /// How much of `hello` there is.
        copied: u16,
        /// Length of what the packet carried.
        payload_bytes: u32,
        /// Its beginning.
        hello: [512],
    }
}

mirror! {
    /// Key of the networks that are admitted.
    AdmitKey = "admit_key" {
        /// Length of the prefix.
        prefix_bits: u32,
        /// IPv6, or IPv4 mapped into it.
        address: [16],
    }
}

mirror! {
    /// Something that a role has no business doing.
    BehaviourEvent = "behaviour_event" {
        /// When, on the monotonic clock.
        at_ns: u64,
        /// Process id.
        pid: u32,
        /// Number of the role.
        role: u32,
        /// What it is.
        kind: u32,
        /// System call, or capability.
        detail: u32,
        /// Name of the thread.
        comm: [16],
        /// What was executed.
        path: [128],
    }
}

/// Every structure: its name in C, its size and its members.
pub const ALL: &[(&str, usize, &[Member])] = &[
    (EgressEvent::C_NAME, EgressEvent::BYTES, EgressEvent::MEMBERS),
    (DnsEvent::C_NAME, DnsEvent::BYTES, DnsEvent::MEMBERS),
    (Destination::C_NAME, Destination::BYTES, Destination::MEMBERS),
    (Attempts::C_NAME, Attempts::BYTES, Attempts::MEMBERS),
    (AllowKey::C_NAME, AllowKey::BYTES, AllowKey::MEMBERS),
    (Flow::C_NAME, Flow::BYTES, Flow::MEMBERS),
    (FlowBegin::C_NAME, FlowBegin::BYTES, FlowBegin::MEMBERS),
    (FlowSlot::C_NAME, FlowSlot::BYTES, FlowSlot::MEMBERS),
    (TlsEvent::C_NAME, TlsEvent::BYTES, TlsEvent::MEMBERS),
    (BehaviourEvent::C_NAME, BehaviourEvent::BYTES, BehaviourEvent::MEMBERS),
    (AdmitKey::C_NAME, AdmitKey::BYTES, AdmitKey::MEMBERS),
    (LatencyEvent::C_NAME, LatencyEvent::BYTES, LatencyEvent::MEMBERS),
    (LatencyStall::C_NAME, LatencyStall::BYTES, LatencyStall::MEMBERS),
    (LatencyWindow::C_NAME, LatencyWindow::BYTES, LatencyWindow::MEMBERS),
    (LatencyThread::C_NAME, LatencyThread::BYTES, LatencyThread::MEMBERS),
];

mirror! {
    /// Something that may have delayed a call.
    LatencyEvent = "latency_event" {
        /// What it is.
        kind: u32,
        /// Whose thread.
        role: u32,
        /// Number of the worker.
        number: u32,
        /// Id of the thread.
        tid: u32,
        /// When it began, on the monotonic clock.
        from_ns: u64,
        /// When it ended.
        to_ns: u64,
        /// More, by its kind.
        detail: u64,
        /// First half of the trace id of the call that was being polled.
        trace: u64,
        /// Its stage, plus 1; 0 if none was.
        stage: u32,
        /// Zero.
        nothing: u32,
    }
}

mirror! {
    /// A thread that stands still.
    LatencyStall = "latency_stall" {
        /// When and which, as [`LatencyEvent`].
        event: [56],
        /// Where it is.
        instruction: u64,
        /// Its stack, 192 words.
        stack: [1536],
    }
}

mirror! {
    /// A call or connection, as its worker has written it.
    LatencyWindow = "latency_window" {
        /// What it is.
        kind: u32,
        /// Number of the worker.
        number: u32,
        /// The words.
        words: [128],
    }
}

mirror! {
    /// A thread that is watched.
    LatencyThread = "latency_thread" {
        /// Since when it does what it does.
        since_ns: u64,
        /// When it was woken.
        woken_ns: u64,
        /// Page faults when it began to run.
        faults_before: u64,
        /// Those that read.
        reads_before: u64,
        /// Windows taken of it.
        taken: u64,
        /// Nanoseconds of each thing it does, 5 words.
        sums_ns: [40],
        /// What it does.
        doing: u32,
        /// Whose thread.
        role: u32,
        /// Number of the worker.
        number: u32,
        /// System call that it waits in.
        call: u32,
        /// Beginning of the stage at which it stood still, if that was told.
        stalled_ns: u64,
        /// When the stage or poll began that it is at.
        started_ns: u64,
        /// First half of the trace id of the call that was being polled.
        trace: u64,
        /// Its stage, plus 1.
        stage: u32,
        /// Zero.
        nothing: u32,
        /// Where it is.
        instruction: u64,
        /// Its stack, 192 words.
        stack: [1536],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_structure_is_read_from_exactly_its_bytes() {
        let bytes: Vec<u8> = (0..64).collect();
        let event = EgressEvent::parse(&bytes).unwrap();
        assert_eq!(event.at_ns, u64::from_ne_bytes([0, 1, 2, 3, 4, 5, 6, 7]));
        assert_eq!(event.comm[0], 48);
        for length in (0..64).chain([65]) {
            assert_eq!(EgressEvent::parse(&vec![0; length]), None);
        }
    }
}
