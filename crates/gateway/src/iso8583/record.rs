//! The records of messages. What may go on and what may be answered is made here and nowhere else.

use moat_audit::record::{Kind, Outcome};
use moat_audit::recorder::Receipt;
use moat_message::View;
use moat_model::Refusal;
use moat_policy::Permit;
use zeroize::Zeroizing;

use super::fields;
use super::rules::Said;
use crate::call::{Call, Intent, Sent};
use crate::generation::RouteRules;
use crate::record::{body_of, commit, with_subject};

/// A message that may go to the service: it was permitted, and its intent is durable, or it changes
/// nothing. Only [`intent`] makes one.
pub(crate) struct Intended {
    permit: Permit,
    message: Zeroizing<Vec<u8>>,
}

impl Intended {
    /// The message as the service is to see it.
    pub(super) fn message(&self) -> &[u8] {
        &self.message
    }

    /// What permits it, for the way over HTTP.
    pub(crate) fn into_permit(self) -> Permit {
        self.permit
    }
}

/// An answer whose record is durable. Only this module makes one.
pub(super) struct Answerable {
    pub(super) message: Zeroizing<Vec<u8>>,
    pub(super) receipt: Receipt,
}

/// Makes the INTENT of a message durable; lets one pass that changes nothing.
///
/// # Errors
/// A refusal at `record`; nothing was sent.
pub(super) async fn intent(
    call: &Call,
    rules: &RouteRules,
    permit: Permit,
    request: (&mut View<'_>, Zeroizing<Vec<u8>>),
    name: &str,
) -> Result<Intended, Refusal> {
    let (view, message) = request;
    if !rules.changes() {
        return Ok(Intended { permit, message });
    }
    let mut recorded = Vec::new();
    with_subject(call, |subject| {
        if let Some(own) = &rules.message {
            recorded = fields::recorded(view, own, subject);
        }
    })?;
    let mut body = body_of(call, Kind::Intent);
    body.fields.clone_from(&recorded);
    body.reasons = permit.reasons().to_vec();
    noted(&mut body.note, name);
    let receipt = commit(call, body).await?;
    call.set_intent(Intent { receipt, fields: std::rc::Rc::new(recorded) });
    Ok(Intended { permit, message })
}

/// What the service said.
pub(super) struct Answered<'a> {
    pub(super) message: Zeroizing<Vec<u8>>,
    pub(super) said: Said,
    /// The response code; empty without one.
    pub(super) code: &'a str,
    /// Nothing, or why this comes after the caller was told that nothing is known.
    pub(super) late: &'a str,
}

/// Makes the record of an answer durable: OUTCOME after an intent, READ without one.
///
/// # Errors
/// A refusal at `record`: the answer is withheld.
pub(super) async fn outcome(
    call: &Call,
    rules: &RouteRules,
    intent: Option<&Intent>,
    answered: Answered<'_>,
    name: &str,
) -> Result<Answerable, Refusal> {
    let kind = if intent.is_some() { Kind::Outcome } else { Kind::Read };
    let mut body = body_of(call, kind);
    let Answered { message, said, code, late } = answered;
    body.answered = Some(late.is_empty() && !call.is_gone.get());
    body.outcome = Some(match (intent, said) {
        (None, _) => Outcome::Read,
        (Some(_), Said::Done) => Outcome::Committed,
        (Some(_), Said::NotDone) => Outcome::Failed,
        (Some(_), Said::Unknown) => Outcome::Unknown,
    });
    body.bytes_out = u64::try_from(message.len()).unwrap_or(u64::MAX);
    noted(&mut body.note, &format!("{name} rc={code}{late}"));
    match (intent, &rules.message) {
        (Some(intent), _) => {
            body.intent_seq = Some(intent.receipt.seq());
            body.fields.clone_from(&intent.fields);
        }
        (None, Some(own)) if !own.record.is_empty() => {
            let mut index = moat_message::Index::new();
            let read = moat_message::iso8583::decode(
                &own.dialect.spec,
                moat_message::Check::Lazy,
                &message,
                &mut index,
            );
            if let Ok(mut view) = read {
                with_subject(call, |subject| {
                    body.fields = fields::recorded(&mut view, own, subject);
                })?;
            }
        }
        _ => {}
    }
    let receipt = commit(call, body).await?;
    call.close_intent();
    Ok(Answerable { message, receipt })
}

/// Makes the record of a refusal durable. After an intent it is that intent's outcome: FAILED if
/// nothing was sent, UNKNOWN if something may have been.
///
/// # Errors
/// A refusal at `record`: not even the refusal could be recorded.
pub(super) async fn refusal(
    call: &Call,
    refusal: &Refusal,
    name: &str,
    code: &str,
) -> Result<Receipt, Refusal> {
    let intent = call.intent();
    let mut body = body_of(call, if intent.is_some() { Kind::Outcome } else { Kind::Refusal });
    body.stage = Some(refusal.stage);
    refusal.code.id.clone_into(&mut body.code);
    body.reasons.clone_from(&refusal.reasons);
    body.answered = Some(!code.is_empty() && !call.is_gone.get());
    let is_challenge = call.asked().is_some();
    body.outcome = Some(match (&intent, call.sent.get()) {
        (None, _) if is_challenge => Outcome::Challenged,
        (None, _) => Outcome::Refused,
        (Some(_), Sent::Nothing) => Outcome::Failed,
        (Some(_), Sent::Perhaps) => Outcome::Unknown,
    });
    noted(&mut body.note, &format!("{name} rc={code}"));
    if let Some(intent) = intent {
        body.intent_seq = Some(intent.receipt.seq());
        body.fields.clone_from(&intent.fields);
    }
    let receipt = commit(call, body).await?;
    call.close_intent();
    Ok(receipt)
}

/// Makes the record of an answer durable that goes nowhere: to a message about the connection, or to
/// a repeat of what was answered before.
///
/// # Errors
/// A refusal at `record`.
pub(super) async fn own(
    call: &Call,
    message: Zeroizing<Vec<u8>>,
    note: &str,
) -> Result<Answerable, Refusal> {
    let mut body = body_of(call, Kind::Read);
    body.outcome = Some(Outcome::Read);
    body.answered = Some(!call.is_gone.get());
    body.bytes_out = u64::try_from(message.len()).unwrap_or(u64::MAX);
    noted(&mut body.note, note);
    let receipt = commit(call, body).await?;
    Ok(Answerable { message, receipt })
}

/// A note may say of the tries already.
fn noted(note: &mut String, more: &str) {
    if !note.is_empty() {
        note.push(' ');
    }
    note.push_str(more);
}
