//! Messages about the connection itself: sign-on, sign-off, echo. Those of callers are answered here
//! where no route takes them; towards services Moat speaks them itself.

use moat_message::{Draft, Mti, View};
use moat_model::code::message::NO_ROUTE;
use moat_model::{Refusal, Stage};
use zeroize::Zeroizing;

use super::answer::{self, Reply};
use super::exchange::Request;
use super::rules::Dialect;
use super::{lately, record};

/// Fields of the code that says what a network message is for: since 1993, and in 1987.
const FUNCTION_1993: u8 = 24;
const FUNCTION_1987: u8 = 70;

/// What is said about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    SignOn,
    SignOff,
    Echo,
}

impl Function {
    const ALL: [Function; 3] = [Function::SignOn, Function::SignOff, Function::Echo];

    fn code(self, is_of_1993: bool) -> &'static str {
        match (self, is_of_1993) {
            (Function::SignOn, false) => "001",
            (Function::SignOff, false) => "002",
            (Function::Echo, false) => "301",
            (Function::SignOn, true) => "801",
            (Function::SignOff, true) => "802",
            (Function::Echo, true) => "831",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Function::SignOn => "sign-on",
            Function::SignOff => "sign-off",
            Function::Echo => "echo",
        }
    }
}

fn function_field(dialect: &Dialect) -> u8 {
    if dialect.is_of_1993() { FUNCTION_1993 } else { FUNCTION_1987 }
}

/// Answers sign-on, sign-off and echo of a caller, on record.
///
/// # Errors
/// `NO_ROUTE` for everything else: keys are exchanged with a service, so a route must say which.
pub(super) async fn answer(
    request: &Request,
    mut view: View<'_>,
) -> Result<Option<Reply>, Refusal> {
    let dialect = &request.conn.dialect;
    let said = lately::text_of(&mut view, function_field(dialect)).unwrap_or_default();
    let is_of_1993 = dialect.is_of_1993();
    let function = Function::ALL.into_iter().find(|one| one.code(is_of_1993) == said);
    let no = || Refusal::new(Stage::Decode, &NO_ROUTE);
    let function = function.ok_or_else(no)?;
    let code = answer::approved(dialect);
    let message = answer::answer_of(dialect, view, code).ok_or_else(no)?;
    let note = format!("{} {} rc={code}", request.name, function.name());
    let answerable = record::own(&request.call, message, &note).await?;
    Ok(answer::reply(dialect, &answerable))
}

/// A network message of ours.
pub(super) fn ask(
    dialect: &Dialect,
    function: Function,
    trace: u32,
    wall_s: u64,
) -> Option<Zeroizing<Vec<u8>>> {
    let is_of_1993 = dialect.is_of_1993();
    let mti = if is_of_1993 { "1804".parse().ok()? } else { Mti::NETWORK_REQUEST };
    let mut draft = Draft::new(&dialect.spec, mti);
    if let Some(header) = blank_header(dialect) {
        draft.set_header(&header);
    }
    // A spec without one of these fields has other ways; then the message goes without it.
    let _ = draft.set_text(7, &transmission_time(wall_s));
    draft.set_text(11, &format!("{:06}", trace % 1_000_000)).ok()?;
    draft.set_text(function_field(dialect), function.code(is_of_1993)).ok()?;
    let mut out = Zeroizing::new(Vec::new());
    draft.write(&mut out).ok()?;
    Some(out)
}

/// A header for messages that begin here: without addresses, which are the network's to give.
fn blank_header(dialect: &Dialect) -> Option<Vec<u8>> {
    use moat_message::spec::Header;
    match dialect.spec.header() {
        Header::None => None,
        Header::Tpdu => Some(vec![0x60, 0, 0, 0, 0]),
        Header::Counted => Some(vec![1]),
        Header::Switch46 => {
            let mut header = vec![0x2e, 0x82];
            header.extend_from_slice(b"0000");
            header.extend_from_slice(&[b' '; 22]);
            header.extend_from_slice(&[0; 3]);
            header.extend_from_slice(b"0");
            header.extend_from_slice(b"00000000");
            header.extend_from_slice(b"0");
            header.extend_from_slice(b"00000");
            Some(header)
        }
    }
}

/// `MMDDhhmmss` in UTC (field 7).
fn transmission_time(wall_s: u64) -> String {
    let (days, rest) = (wall_s / 86_400, wall_s % 86_400);
    let (month, day) = month_and_day(days);
    format!("{month:02}{day:02}{:02}{:02}{:02}", rest / 3_600, rest / 60 % 60, rest % 60)
}

/// Of a day since 1970, in the Gregorian calendar.
fn month_and_day(days: u64) -> (u64, u64) {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let (mut year, mut left) = (1970, days);
    // One step a year: a few dozen.
    while left >= 365 + u64::from(is_leap(year)) {
        left -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    for (month, length) in (1..).zip(months) {
        if left < length {
            return (month, left + 1);
        }
        left -= length;
    }
    (12, 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_transmission_are_those_of_the_calendar() {
        assert_eq!(transmission_time(0), "0101000000");
        assert_eq!(transmission_time(951_782_400), "0229000000");
        assert_eq!(transmission_time(1_709_251_199), "0229235959");
        assert_eq!(transmission_time(1_735_689_599), "1231235959");
        assert_eq!(transmission_time(4_107_542_400), "0301000000", "2100 has no leap day");
    }
}
