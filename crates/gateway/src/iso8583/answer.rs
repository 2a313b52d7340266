//! What goes back to the caller. Every [`Reply`] is made from a [`Receipt`], but one: [`withhold`],
//! for when no record could be made at all.

use moat_audit::recorder::Receipt;
use moat_message::{Check, Draft, Index, View, iso8583};
use moat_model::code::message as codes;
use moat_model::{Refusal, Stage};
use zeroize::Zeroizing;

use super::record::Answerable;
use super::rules::{Dialect, RESPONSE_CODE};
use super::wire;
use crate::call::{Call, Sent};

/// Fields of a request that its answer repeats, as far as the spec has them: what it was, and what
/// it is known by. The card number is not among them.
const ECHOED: [u8; 15] = [3, 4, 7, 11, 12, 13, 15, 32, 33, 37, 41, 42, 49, 70, 90];

/// A message in its frame that may be sent to the caller.
pub(super) struct Reply(Zeroizing<Vec<u8>>);

impl Reply {
    pub(super) fn frame(&self) -> &[u8] {
        &self.0
    }
}

/// The answer to a message that was carried out.
pub(super) fn reply(dialect: &Dialect, answerable: &Answerable) -> Option<Reply> {
    seal(dialect, &answerable.message, &answerable.receipt)
}

/// The answer to a message that was refused; none to what cannot be understood.
pub(super) fn refuse(
    dialect: &Dialect,
    request: &[u8],
    code: &str,
    receipt: &Receipt,
) -> Option<Reply> {
    seal(dialect, &answer_to(dialect, request, code)?, receipt)
}

fn seal(dialect: &Dialect, message: &[u8], _: &Receipt) -> Option<Reply> {
    wire::framed(dialect.framing, message).ok().map(Reply)
}

/// The one answer without a record: that there is none, and so nothing is told.
pub(super) fn withhold(
    call: &Call,
    dialect: &Dialect,
    request: &[u8],
    refusal: &Refusal,
) -> Option<Reply> {
    call.session.worker.counters.withheld.add();
    tracing::warn!(trace = call.trace.hex(), %refusal, "an answer was withheld");
    let code = code_of(dialect, call.sent.get(), refusal);
    let message = answer_to(dialect, request, &code)?;
    wire::framed(dialect.framing, &message).ok().map(Reply)
}

/// An answer of our own to a request: its type, what it is known by, and the code.
pub(super) fn answer_to(
    dialect: &Dialect,
    request: &[u8],
    code: &str,
) -> Option<Zeroizing<Vec<u8>>> {
    let mut index = Index::new();
    // What has bad characters may still have good ones where it matters.
    let view = iso8583::decode(&dialect.spec, Check::Lazy, request, &mut index).ok()?;
    answer_of(dialect, view, code)
}

/// The same of a request that was read.
pub(super) fn answer_of(
    dialect: &Dialect,
    mut view: View<'_>,
    code: &str,
) -> Option<Zeroizing<Vec<u8>>> {
    let mut draft = Draft::new(&dialect.spec, view.mti().answer()?);
    draft.set_header(view.header());
    draft.turn_header();
    for number in ECHOED {
        if let Some(text) = super::lately::text_of(&mut view, number) {
            // What is not as the spec has it is left out.
            let _ = draft.set_text(number, &text);
        }
    }
    draft.set_text(RESPONSE_CODE, code).ok()?;
    let mut out = Zeroizing::new(Vec::new());
    draft.write(&mut out).ok()?;
    Some(out)
}

/// The response code of success.
pub(super) fn approved(dialect: &Dialect) -> &'static str {
    if dialect.is_of_1993() { "000" } else { "00" }
}

/// The response code of a refusal: as the listener's `codes` say for its reason or code, or by its
/// kind. What may have reached the service is never called declined.
pub(super) fn code_of(dialect: &Dialect, sent: Sent, refusal: &Refusal) -> String {
    let named = |name: &str| {
        dialect.codes.iter().find(|(known, _)| known == name).map(|(_, code)| code.clone())
    };
    let own = refusal.reasons.iter().find_map(|reason| named(reason));
    if let Some(code) = own.or_else(|| named(refusal.code.id)) {
        return code;
    }
    let (of_1987, of_1993) = match (sent, refusal.stage) {
        // Too late an answer; issuer timed out.
        (Sent::Perhaps, _) => ("68", "911"),
        // Not permitted to the cardholder.
        (_, Stage::Authorize) => ("57", "119"),
        // Security violation.
        (_, Stage::Identify) => ("63", "122"),
        // Malfunction.
        (_, Stage::Record | Stage::Reply) => ("96", "909"),
        (_, Stage::Decode) => of_decode(refusal),
        // Format.
        (_, Stage::Mask) => ("30", "904"),
        // The switch cannot be reached.
        _ if *refusal.code == codes::DUPLICATE => ("94", "913"),
        _ => ("91", "907"),
    };
    (if dialect.is_of_1993() { of_1993 } else { of_1987 }).to_owned()
}

fn of_decode(refusal: &Refusal) -> (&'static str, &'static str) {
    let is = |code: &moat_model::Code| *refusal.code == *code;
    if is(&codes::NO_ROUTE) {
        ("12", "902")
    } else if is(&codes::UNDER_WAY) {
        ("09", "923")
    } else if is(&codes::DUPLICATE) {
        ("94", "913")
    } else if refusal.code.status == 429 || refusal.code.status == 503 {
        ("91", "907")
    } else {
        ("30", "904")
    }
}
