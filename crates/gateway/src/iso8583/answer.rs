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

#[cfg(test)]
mod tests {
    use moat_model::code::{audit, identity, limit, policy, upstream};

    use super::super::rules::{Dialect, Said, dialect};
    use super::*;

    fn of(spec: &str) -> std::sync::Arc<Dialect> {
        let shipped = moat_message::spec::SHIPPED.iter().find(|(name, _)| *name == spec);
        dialect(&moat_config::Messages {
            spec: shipped.expect("it is shipped").1.to_owned(),
            length: moat_message::frame::LengthForm::Binary2,
            length_includes_itself: false,
            match_on: vec![7, 11],
            in_flight_max: 1,
            codes: vec![("over_limit".to_owned(), "61".to_owned())],
            approved: Vec::new(),
            unknown: Vec::new(),
            message_ms: 1,
            unread_ms: 1,
            idle_ms: 1,
            echo_ms: 0,
            sign_on: false,
        })
        .expect("a dialect")
    }

    #[test]
    fn what_may_have_been_sent_is_never_called_declined() {
        let (old, newer) = (of("iso8583-1987-ascii"), of("iso8583-1993-bcd"));
        for stage in Stage::ALL {
            for code in [&upstream::TIMEOUT, &codes::DUPLICATE, &audit::AUDITOR_AWAY] {
                let refusal = Refusal::new(stage, code);
                assert_eq!(code_of(&old, Sent::Perhaps, &refusal), "68", "{stage}");
                assert_eq!(code_of(&newer, Sent::Perhaps, &refusal), "911", "{stage}");
            }
        }
    }

    #[test]
    fn refusals_have_codes_by_their_kind_or_by_their_name() {
        let (old, newer) = (of("iso8583-1987-ascii"), of("iso8583-1993-bcd"));
        for (stage, code, of_1987, of_1993) in [
            (Stage::Authorize, &policy::DENIED, "57", "119"),
            (Stage::Identify, &identity::EXPIRED, "63", "122"),
            (Stage::Record, &audit::AUDITOR_AWAY, "96", "909"),
            (Stage::Decode, &codes::NO_ROUTE, "12", "902"),
            (Stage::Decode, &codes::UNDER_WAY, "09", "923"),
            (Stage::Decode, &codes::DUPLICATE, "94", "913"),
            (Stage::Forward, &codes::DUPLICATE, "94", "913"),
            (Stage::Decode, &codes::CHARACTERS, "30", "904"),
            (Stage::Decode, &limit::RATE, "91", "907"),
            (Stage::Forward, &upstream::CONNECT, "91", "907"),
        ] {
            let refusal = Refusal::new(stage, code);
            assert_eq!(code_of(&old, Sent::Nothing, &refusal), of_1987, "{}", code.id);
            assert_eq!(code_of(&newer, Sent::Nothing, &refusal), of_1993, "{}", code.id);
        }
        let denied = Refusal::new(Stage::Authorize, &policy::DENIED);
        let denied = denied.with_reasons(vec!["other".to_owned(), "over_limit".to_owned()]);
        assert_eq!(code_of(&old, Sent::Nothing, &denied), "61");
    }

    #[test]
    fn response_codes_say_what_became_of_it() {
        let (old, newer) = (of("iso8583-1987-ascii"), of("iso8583-1993-bcd"));
        for (code, said) in [
            ("00", Said::Done),
            ("10", Said::Done),
            ("05", Said::NotDone),
            ("51", Said::NotDone),
            ("68", Said::Unknown),
            ("91", Said::Unknown),
            ("", Said::Unknown),
            ("  ", Said::Unknown),
        ] {
            assert_eq!(old.said(code), said, "{code}");
        }
        for (code, said) in [
            ("000", Said::Done),
            ("002", Said::Done),
            ("100", Said::NotDone),
            ("911", Said::Unknown),
        ] {
            assert_eq!(newer.said(code), said, "{code}");
        }
    }
}
