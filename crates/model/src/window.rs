//! The form in which a worker of the gateway publishes what its calls did: words of eight bytes in
//! its own memory, which a program in the kernel reads when the worker's thread pauses. The
//! program's side is `bpf/moat.h` of the crate `moat-kernel`; a test there compares the two.

/// First word.
pub const MAGIC: u64 = 0x6d6f_6174_2d77_696e;
/// Word that counts the windows that have ended.
pub const AT_HEAD: usize = 1;
/// Word with the stage of the poll that is running, plus 1; 0 while none is.
pub const AT_STAGE: usize = 2;
/// Word with the first half of the trace id of that call.
pub const AT_TRACE: usize = 3;
/// Word with the time at which that stage or poll began.
pub const AT_STARTED: usize = 4;
/// Words before the windows.
pub const HEAD_WORDS: usize = 8;
/// Windows that wait to be read. A power of two.
pub const WINDOWS_MAX: usize = 512;
/// Words of a window: kind with status and route; trace id, two; begin; end, from the begin on; the
/// end of each stage, from the begin on, 0 for one that was not. Times are in nanoseconds.
pub const WINDOW_WORDS: usize = 16;
/// Words of a window before its stages.
pub const STAGES_AT: usize = 5;
/// All words of a worker.
pub const WORDS: usize = HEAD_WORDS + WINDOWS_MAX * WINDOW_WORDS;

/// What a window tells of, in the lowest byte of its first word.
pub const KIND_CALL: u64 = 1;
/// See [`KIND_CALL`]: a connection, up to the first byte of its first call.
pub const KIND_CONNECTION: u64 = 2;

/// Stages in the order of work, as reports name them. Not those of [`crate::Stage`], which stand in
/// records: what is masked and recorded on the way out and on the way back is told apart here.
pub const STAGES: [&str; WINDOW_WORDS - STAGES_AT] = [
    "tls",
    "identity",
    "decode",
    "policy",
    "mask",
    "read_before",
    "audit_intent",
    "upstream",
    "mask_back",
    "audit_outcome",
    "reply",
];

/// A part of a call whose time is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The handshake.
    Tls = 0,
    /// Who the caller is.
    Identity = 1,
    /// Head and body, as they come.
    Decode = 2,
    /// The decision.
    Policy = 3,
    /// Route and masks towards the service.
    Mask = 4,
    /// Reading the state before.
    ReadBefore = 5,
    /// The INTENT, until it is durable.
    AuditIntent = 6,
    /// The service, until its answer is there.
    Upstream = 7,
    /// Masks towards the caller.
    MaskBack = 8,
    /// OUTCOME, READ or REFUSAL, until it is durable.
    AuditOutcome = 9,
    /// The answer.
    Reply = 10,
}

impl Part {
    /// Its place in [`STAGES`].
    #[must_use]
    pub const fn place(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_is_the_last_stage() {
        assert_eq!(Part::Reply.place() + 1, STAGES.len());
        assert_eq!(STAGES[Part::AuditIntent.place()], "audit_intent");
        assert!(WINDOWS_MAX.is_power_of_two());
    }
}
