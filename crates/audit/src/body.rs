//! What the recorder says of one exchange: the second half of a leaf.

use moat_model::Stage;

use crate::hash::Hash;
use crate::record::{RecordError, tag};
use crate::tlv::{Reader, TlvError, Writer, push_u16, split_u16};
use crate::value::Field;

/// What a record has without its fields, and what a field has, in bytes: as a rule.
const BYTES_USUAL: usize = 768;
const FIELD_BYTES_USUAL: usize = 160;

/// Longest body, in bytes. What is left of a leaf belongs to the head.
pub const BODY_BYTES_MAX: usize = moat_model::limit::LEAF_BYTES_MAX - 512;

/// A closed set of names, each with its byte.
macro_rules! closed {
    ($(#[$doc:meta])* $type:ident { $($(#[$vdoc:meta])* $variant:ident = $byte:literal $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $type { $($(#[$vdoc])* $variant = $byte,)* }

        impl $type {
            /// Every member, in the order of its byte.
            pub const ALL: &'static [$type] = &[$($type::$variant),*];

            /// The name people read.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $($type::$variant => $name,)* }
            }

            /// The byte in a record.
            #[must_use]
            pub const fn to_byte(self) -> u8 {
                self as u8
            }

            /// The member that `byte` stands for.
            #[must_use]
            pub const fn from_byte(byte: u8) -> Option<$type> {
                match byte { $($byte => Some($type::$variant),)* _ => None }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

closed! {
    /// What sort of record it is.
    Kind {
        /// A change is about to be sent upstream.
        Intent = 1 "INTENT",
        /// What became of an intent; names its seq.
        Outcome = 2 "OUTCOME",
        /// Something was read.
        Read = 3 "READ",
        /// A call was refused.
        Refusal = 4 "REFUSAL",
        /// Bytes were restored from a copy.
        Repair = 5 "REPAIR",
        /// A late arrival, always explicit.
        Backfill = 6 "BACKFILL",
        /// The result of a comparison.
        Check = 7 "CHECK",
        /// The log speaks of itself, or an operator acted.
        Admin = 8 "ADMIN",
    }
}

closed! {
    /// How it ended.
    Outcome {
        /// The change was made.
        Committed = 1 "COMMITTED",
        /// The change was undone.
        RolledBack = 2 "ROLLED_BACK",
        /// It failed, and nothing was changed.
        Failed = 3 "FAILED",
        /// Nobody knows yet; provisional.
        Unknown = 4 "UNKNOWN",
        /// Moat refused the call.
        Refused = 5 "REFUSED",
        /// Moat asked for a further proof first.
        Challenged = 6 "CHALLENGED",
        /// The answer was read and given.
        Read = 7 "READ",
        /// The head of a stream was passed on; a closing record follows.
        Streaming = 8 "STREAMING",
        /// The stream came to its proper end.
        Closed = 9 "CLOSED",
        /// The stream broke off.
        Aborted = 10 "ABORTED",
        /// A call that somebody else carries out was permitted; what became of it is not seen here.
        Permitted = 11 "PERMITTED",
    }
}

closed! {
    /// What was done to the fields.
    Op {
        /// Created.
        Ins = 1 "INS",
        /// Changed.
        Upd = 2 "UPD",
        /// Removed.
        Del = 3 "DEL",
        /// Read.
        Sel = 4 "SEL",
    }
}

/// The body of a record. Empty texts, zero counts and `None` are left out of the encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the record's own; docs/record.md explains each")]
pub struct Body {
    pub kind: Kind,
    pub trace_id: [u8; 16],
    pub tx_id: Option<[u8; 16]>,
    /// The INTENT that this record answers.
    pub intent_seq: Option<u64>,
    /// The head record of the stream that this record closes.
    pub parent_seq: Option<u64>,
    pub tenant: String,
    pub listener: String,
    pub route: String,
    /// SPIFFE id; empty when the caller has none.
    pub actor: String,
    /// Subject of the caller's certificate, as RFC 4514 text.
    pub actor_subject: String,
    /// SHA-256 of the caller's certificate.
    pub peer_cert_hash: Option<Hash>,
    /// Hash of the ClientHello as seen.
    pub device_hash: Option<Hash>,
    /// User agent as claimed; never authenticates.
    pub user_agent: String,
    pub method: String,
    pub op: Option<Op>,
    /// For example `account/123456`.
    pub object: String,
    pub fields: Vec<Field>,
    /// None for INTENT, CHECK and ADMIN.
    pub outcome: Option<Outcome>,
    /// Whether the caller got the answer; `None` when nothing was to be answered.
    pub answered: Option<bool>,
    /// Where it ended.
    pub stage: Option<Stage>,
    /// For example `MOAT-P001`; empty when nothing went wrong.
    pub code: String,
    pub reasons: Vec<String>,
    /// Digest of the policy bundle that decided.
    pub policy_ver: String,
    /// Generation of the configuration.
    pub generation: u64,
    pub decision_id: String,
    pub http_status: Option<u16>,
    pub upstream: String,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// SHA-256 of the body received.
    pub body_digest_in: Option<Hash>,
    /// SHA-256 of the body sent.
    pub body_digest_out: Option<Hash>,
    pub duration_us: u64,
    pub upstream_us: u64,
    pub sql_fingerprint: String,
    pub lsn: Option<u64>,
    pub ticket: String,
    /// Free text of an ADMIN, CHECK or REPAIR record.
    pub note: String,
    /// Cipher suite of the caller's connection, for example `TLS_SM4_GCM_SM3`.
    pub suite: String,
    /// Key-agreement group of the caller's connection, for example `curveSM2`.
    pub group: String,
    /// Cipher suite of the connection to the service, once the request went there.
    pub upstream_suite: String,
    /// Key-agreement group of the connection to the service.
    pub upstream_group: String,
    /// What the caller's answer to a challenge came to: `satisfied …` or `failed CODE`.
    pub step_up: String,
    /// JA4 of the caller's ClientHello, from the stream itself.
    pub ja4: String,
    /// What the network card saw of the connection's beginning, or `absent`; empty where nobody
    /// looks.
    pub wire: String,
    /// Protections of the kernel that were not in force, separated by commas.
    pub unguarded: String,
    /// How the call compared with what its subject did before: `known 350 new_device=200 …`.
    pub risk: String,
}

impl Body {
    /// A body of which nothing is said yet but its kind and trace.
    #[must_use]
    pub fn new(kind: Kind, trace_id: [u8; 16]) -> Body {
        Body {
            kind,
            trace_id,
            tx_id: None,
            intent_seq: None,
            parent_seq: None,
            tenant: String::new(),
            listener: String::new(),
            route: String::new(),
            actor: String::new(),
            actor_subject: String::new(),
            peer_cert_hash: None,
            device_hash: None,
            user_agent: String::new(),
            method: String::new(),
            op: None,
            object: String::new(),
            fields: Vec::new(),
            outcome: None,
            answered: None,
            stage: None,
            code: String::new(),
            reasons: Vec::new(),
            policy_ver: String::new(),
            generation: 0,
            decision_id: String::new(),
            http_status: None,
            upstream: String::new(),
            bytes_in: 0,
            bytes_out: 0,
            body_digest_in: None,
            body_digest_out: None,
            duration_us: 0,
            upstream_us: 0,
            sql_fingerprint: String::new(),
            lsn: None,
            ticket: String::new(),
            note: String::new(),
            suite: String::new(),
            group: String::new(),
            upstream_suite: String::new(),
            upstream_group: String::new(),
            step_up: String::new(),
            ja4: String::new(),
            wire: String::new(),
            unguarded: String::new(),
            risk: String::new(),
        }
    }

    /// Makes it what [`Body::new`] gives, and keeps the memory of the texts that most records have:
    /// a record a call would else cost a score of allocations.
    pub fn renew(&mut self, kind: Kind, trace_id: [u8; 16]) {
        let emptied = |text: &mut String| {
            text.clear();
            core::mem::take(text)
        };
        self.fields.clear();
        *self = Body {
            fields: core::mem::take(&mut self.fields),
            tenant: emptied(&mut self.tenant),
            listener: emptied(&mut self.listener),
            route: emptied(&mut self.route),
            actor: emptied(&mut self.actor),
            actor_subject: emptied(&mut self.actor_subject),
            user_agent: emptied(&mut self.user_agent),
            method: emptied(&mut self.method),
            object: emptied(&mut self.object),
            policy_ver: emptied(&mut self.policy_ver),
            upstream: emptied(&mut self.upstream),
            suite: emptied(&mut self.suite),
            group: emptied(&mut self.group),
            upstream_suite: emptied(&mut self.upstream_suite),
            upstream_group: emptied(&mut self.upstream_group),
            ja4: emptied(&mut self.ja4),
            wire: emptied(&mut self.wire),
            unguarded: emptied(&mut self.unguarded),
            ..Body::new(kind, trace_id)
        };
    }

    /// An ADMIN record in which the log speaks of itself.
    #[must_use]
    pub fn admin(note: impl Into<String>) -> Body {
        Body { note: note.into(), ..Body::new(Kind::Admin, [0; 16]) }
    }

    /// The provisional outcome of an intent whose end nobody saw.
    #[must_use]
    pub fn unknown(intent_seq: u64, trace_id: [u8; 16], tx_id: Option<[u8; 16]>) -> Body {
        Body {
            tx_id,
            intent_seq: Some(intent_seq),
            outcome: Some(Outcome::Unknown),
            ..Body::new(Kind::Outcome, trace_id)
        }
    }

    /// An INTENT answers nothing and has no outcome; an OUTCOME names its intent and its end.
    fn check(&self) -> Result<(), RecordError> {
        let fits = match self.kind {
            Kind::Intent => self.outcome.is_none() && self.intent_seq.is_none(),
            Kind::Outcome => self.outcome.is_some() && self.intent_seq.is_some(),
            Kind::Refusal => {
                matches!(self.outcome, Some(Outcome::Refused | Outcome::Challenged))
            }
            Kind::Read => self.outcome.is_some(),
            Kind::Repair | Kind::Backfill | Kind::Check | Kind::Admin => true,
        };
        if fits { Ok(()) } else { Err(RecordError::Kind(self.kind)) }
    }

    /// The one canonical encoding.
    ///
    /// # Errors
    /// When it is longer than [`BODY_BYTES_MAX`], or kind and outcome do not go together.
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        self.encode_within(Vec::with_capacity(self.estimate()))
    }

    /// The same, into a buffer that is emptied first.
    ///
    /// # Errors
    /// As [`Body::encode`].
    pub fn encode_within(&self, buffer: Vec<u8>) -> Result<Vec<u8>, RecordError> {
        self.check()?;
        let mut w = Writer::within(buffer);
        w.put(tag::KIND, &[self.kind.to_byte()]);
        w.put(tag::TRACE_ID, &self.trace_id);
        w.optional(tag::TX_ID, self.tx_id);
        w.optional(tag::INTENT_SEQ, self.intent_seq.map(u64::to_be_bytes));
        w.optional(tag::PARENT_SEQ, self.parent_seq.map(u64::to_be_bytes));
        w.text(tag::TENANT, &self.tenant);
        w.text(tag::LISTENER, &self.listener);
        w.text(tag::ROUTE, &self.route);
        w.text(tag::ACTOR, &self.actor);
        w.text(tag::ACTOR_SUBJECT, &self.actor_subject);
        w.optional(tag::PEER_CERT_HASH, self.peer_cert_hash);
        w.optional(tag::DEVICE_HASH, self.device_hash);
        w.text(tag::USER_AGENT, &self.user_agent);
        w.text(tag::METHOD, &self.method);
        w.optional(tag::OP, self.op.map(|op| [op.to_byte()]));
        w.text(tag::OBJECT, &self.object);
        self.encode_fields(&mut w)?;
        w.optional(tag::OUTCOME, self.outcome.map(|outcome| [outcome.to_byte()]));
        w.optional(tag::ANSWERED, self.answered.map(|answered| [u8::from(answered)]));
        w.optional(tag::STAGE, self.stage.map(|stage| [stage.to_byte()]));
        w.text(tag::CODE, &self.code);
        self.encode_reasons(&mut w)?;
        w.text(tag::POLICY_VER, &self.policy_ver);
        w.count(tag::GENERATION, self.generation);
        w.text(tag::DECISION_ID, &self.decision_id);
        w.optional(tag::HTTP_STATUS, self.http_status.map(u16::to_be_bytes));
        w.text(tag::UPSTREAM, &self.upstream);
        w.count(tag::BYTES_IN, self.bytes_in);
        w.count(tag::BYTES_OUT, self.bytes_out);
        w.optional(tag::BODY_DIGEST_IN, self.body_digest_in);
        w.optional(tag::BODY_DIGEST_OUT, self.body_digest_out);
        w.count(tag::DURATION_US, self.duration_us);
        w.count(tag::UPSTREAM_US, self.upstream_us);
        w.text(tag::SQL_FINGERPRINT, &self.sql_fingerprint);
        w.optional(tag::LSN, self.lsn.map(u64::to_be_bytes));
        w.text(tag::TICKET, &self.ticket);
        w.text(tag::NOTE, &self.note);
        w.text(tag::SUITE, &self.suite);
        w.text(tag::GROUP, &self.group);
        w.text(tag::UPSTREAM_SUITE, &self.upstream_suite);
        w.text(tag::UPSTREAM_GROUP, &self.upstream_group);
        w.text(tag::STEP_UP, &self.step_up);
        w.text(tag::JA4, &self.ja4);
        w.text(tag::WIRE, &self.wire);
        w.text(tag::UNGUARDED, &self.unguarded);
        w.text(tag::RISK, &self.risk);
        let bytes = w.finish()?;
        if bytes.len() > BODY_BYTES_MAX { Err(RecordError::TooLong) } else { Ok(bytes) }
    }

    /// About how many bytes it will have, so that its buffer is made once.
    fn estimate(&self) -> usize {
        BYTES_USUAL + FIELD_BYTES_USUAL * self.fields.len()
    }

    fn encode_fields(&self, w: &mut Writer) -> Result<(), RecordError> {
        if self.fields.is_empty() {
            return Ok(());
        }
        let mut out = Vec::with_capacity(FIELD_BYTES_USUAL * self.fields.len());
        for field in &self.fields {
            field.encode(&mut out).ok_or(RecordError::TooLong)?;
        }
        w.put(tag::FIELDS, &out);
        Ok(())
    }

    fn encode_reasons(&self, w: &mut Writer) -> Result<(), RecordError> {
        if self.reasons.is_empty() {
            return Ok(());
        }
        let mut out = Vec::new();
        for reason in &self.reasons {
            push_u16(&mut out, reason.as_bytes()).ok_or(RecordError::TooLong)?;
        }
        w.put(tag::REASONS, &out);
        Ok(())
    }

    /// Decodes the canonical encoding and refuses every other.
    ///
    /// # Errors
    /// When the bytes are not what [`Body::encode`] makes of some body.
    pub fn decode(bytes: &[u8]) -> Result<Body, RecordError> {
        if bytes.len() > BODY_BYTES_MAX {
            return Err(RecordError::TooLong);
        }
        let mut r = Reader::new(bytes);
        let kind = r.one_of(tag::KIND, Kind::from_byte)?.ok_or(TlvError::Missing(tag::KIND))?;
        // The fields of a struct expression are evaluated in the order written: that of the tags.
        let body = Body {
            kind,
            trace_id: r.must(tag::TRACE_ID)?,
            tx_id: r.array(tag::TX_ID)?,
            intent_seq: r.number(tag::INTENT_SEQ)?,
            parent_seq: r.number(tag::PARENT_SEQ)?,
            tenant: r.text(tag::TENANT)?.to_owned(),
            listener: r.text(tag::LISTENER)?.to_owned(),
            route: r.text(tag::ROUTE)?.to_owned(),
            actor: r.text(tag::ACTOR)?.to_owned(),
            actor_subject: r.text(tag::ACTOR_SUBJECT)?.to_owned(),
            peer_cert_hash: r.hash(tag::PEER_CERT_HASH)?,
            device_hash: r.hash(tag::DEVICE_HASH)?,
            user_agent: r.text(tag::USER_AGENT)?.to_owned(),
            method: r.text(tag::METHOD)?.to_owned(),
            op: r.one_of(tag::OP, Op::from_byte)?,
            object: r.text(tag::OBJECT)?.to_owned(),
            fields: decode_fields(r.take(tag::FIELDS)?)?,
            outcome: r.one_of(tag::OUTCOME, Outcome::from_byte)?,
            answered: r.one_of(tag::ANSWERED, |byte| match byte {
                0 => Some(false),
                1 => Some(true),
                _ => None,
            })?,
            stage: r.one_of(tag::STAGE, Stage::from_byte)?,
            code: r.text(tag::CODE)?.to_owned(),
            reasons: decode_reasons(r.take(tag::REASONS)?)?,
            policy_ver: r.text(tag::POLICY_VER)?.to_owned(),
            generation: r.count(tag::GENERATION)?,
            decision_id: r.text(tag::DECISION_ID)?.to_owned(),
            http_status: r.array(tag::HTTP_STATUS)?.map(u16::from_be_bytes),
            upstream: r.text(tag::UPSTREAM)?.to_owned(),
            bytes_in: r.count(tag::BYTES_IN)?,
            bytes_out: r.count(tag::BYTES_OUT)?,
            body_digest_in: r.hash(tag::BODY_DIGEST_IN)?,
            body_digest_out: r.hash(tag::BODY_DIGEST_OUT)?,
            duration_us: r.count(tag::DURATION_US)?,
            upstream_us: r.count(tag::UPSTREAM_US)?,
            sql_fingerprint: r.text(tag::SQL_FINGERPRINT)?.to_owned(),
            lsn: r.number(tag::LSN)?,
            ticket: r.text(tag::TICKET)?.to_owned(),
            note: r.text(tag::NOTE)?.to_owned(),
            suite: r.text(tag::SUITE)?.to_owned(),
            group: r.text(tag::GROUP)?.to_owned(),
            upstream_suite: r.text(tag::UPSTREAM_SUITE)?.to_owned(),
            upstream_group: r.text(tag::UPSTREAM_GROUP)?.to_owned(),
            step_up: r.text(tag::STEP_UP)?.to_owned(),
            ja4: r.text(tag::JA4)?.to_owned(),
            wire: r.text(tag::WIRE)?.to_owned(),
            unguarded: r.text(tag::UNGUARDED)?.to_owned(),
            risk: r.text(tag::RISK)?.to_owned(),
        };
        r.finish()?;
        body.check()?;
        Ok(body)
    }
}

fn decode_fields(value: Option<&[u8]>) -> Result<Vec<Field>, TlvError> {
    decode_list(tag::FIELDS, value, Field::decode)
}

fn decode_reasons(value: Option<&[u8]>) -> Result<Vec<String>, TlvError> {
    decode_list(tag::REASONS, value, |bytes| std::str::from_utf8(bytes).ok().map(str::to_owned))
}

/// A list is left out when empty, so an empty one is refused.
fn decode_list<T>(
    tag: u8,
    value: Option<&[u8]>,
    one: impl Fn(&[u8]) -> Option<T>,
) -> Result<Vec<T>, TlvError> {
    let Some(mut rest) = value else { return Ok(Vec::new()) };
    let mut list = Vec::new();
    while !rest.is_empty() {
        let (item, after) = split_u16(rest).ok_or(TlvError::Value(tag))?;
        list.push(one(item).ok_or(TlvError::Value(tag))?);
        rest = after;
    }
    if list.is_empty() { Err(TlvError::Value(tag)) } else { Ok(list) }
}

/// What the committer must know of a body to pair intents with outcomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pairing {
    /// The kind of the record.
    pub kind: Kind,
    /// Its trace.
    pub trace_id: [u8; 16],
    /// Its transaction.
    pub tx_id: Option<[u8; 16]>,
    /// The intent it answers.
    pub intent_seq: Option<u64>,
}

impl From<&Body> for Pairing {
    fn from(body: &Body) -> Pairing {
        Pairing {
            kind: body.kind,
            trace_id: body.trace_id,
            tx_id: body.tx_id,
            intent_seq: body.intent_seq,
        }
    }
}

impl Pairing {
    /// Reads only the first tags of a body that was checked before.
    ///
    /// # Errors
    /// When even those are not canonical.
    pub fn peek(body: &[u8]) -> Result<Pairing, RecordError> {
        let mut r = Reader::new(body);
        let kind = r.one_of(tag::KIND, Kind::from_byte)?.ok_or(TlvError::Missing(tag::KIND))?;
        Ok(Pairing {
            kind,
            trace_id: r.must(tag::TRACE_ID)?,
            tx_id: r.array(tag::TX_ID)?,
            intent_seq: r.number(tag::INTENT_SEQ)?,
        })
    }
}
