//! What is done with a message: its answer, or none.

use std::sync::Arc;

use anyhow::{Context, Result};
use moat_message::iso8583::{self, MessageClass};
use moat_message::{Check, Draft, Index, Spec, json};
use serde_json::Value as Json;
use zeroize::Zeroizing;

use crate::book::{Book, Demand, Ruling};

/// Fields of a request that its answer repeats.
const ECHOED: [u8; 14] = [2, 3, 4, 7, 11, 12, 13, 24, 32, 37, 41, 42, 49, 70];
/// Field 38: the approval code.
const APPROVAL: u8 = 38;
/// Field 39: the response code.
const RESPONSE_CODE: u8 = 39;
/// Field 90 of 1987 and field 56 of 1993: what a reversal takes back.
const ORIGINAL_1987: u8 = 90;
const ORIGINAL_1993: u8 = 56;

/// Reads messages of one dialect and has them carried out.
#[derive(Debug)]
pub struct Desk {
    spec: Spec,
    book: Arc<Book>,
    /// Terminals whose transactions are carried out and not answered.
    silent: Vec<String>,
}

impl Desk {
    /// A desk for one dialect.
    #[must_use]
    pub fn new(spec: Spec, book: Arc<Book>, silent: Vec<String>) -> Desk {
        Desk { spec, book, silent }
    }

    /// The dialect.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The answer to a message; none where the terminal is one of silence, or nothing can be
    /// answered.
    ///
    /// # Errors
    /// The message cannot be read, or the book cannot be written. Never tells a value.
    pub fn answer(&self, message: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let mut index = Index::new();
        let mut view = iso8583::decode(&self.spec, Check::Strict, message, &mut index)?;
        let mti = view.mti();
        let Some(answer) = mti.answer() else { return Ok(None) };
        // An issuer reads its own cards: the form holds them in clear.
        let form: Json = serde_json::from_str(&json::write(&mut view)?)?;
        let fields = Fields { spec: &self.spec, form: form.get("fields").unwrap_or(&Json::Null) };
        let (code, approval) = match mti.class() {
            MessageClass::Network => (Code::Approved, None),
            MessageClass::Authorisation | MessageClass::Financial => {
                let is_advice = mti.function() == iso8583::Function::Advice;
                let ruling = self.book.spend(&fields.demand(is_advice)?)?;
                let terminal = fields.text(41);
                if self.silent.iter().any(|silent| *silent == terminal.trim()) && !mti.is_repeat() {
                    return Ok(None);
                }
                told(ruling)
            }
            MessageClass::Reversal => told(self.book.take_back(&fields.original()?)?),
            _ => (Code::NotSupported, None),
        };
        let mut draft = Draft::new(&self.spec, answer);
        draft.set_header(view.header());
        draft.turn_header();
        for number in ECHOED {
            if self.spec.field(number).is_some() && view.present().has(number) {
                draft.set_text(number, &fields.text(number))?;
            }
        }
        draft.set_text(RESPONSE_CODE, code.text(self.is_of_1993()))?;
        if let Some(approval) = approval {
            draft.set_text(APPROVAL, &format!("{:06}", approval % 1_000_000))?;
        }
        let mut out = Zeroizing::new(Vec::new());
        draft.write(&mut out)?;
        Ok(Some(out))
    }

    fn is_of_1993(&self) -> bool {
        self.spec.field(RESPONSE_CODE).and_then(|field| field.fixed_count()) == Some(3)
    }
}

/// The fields of a message, by number.
struct Fields<'a> {
    spec: &'a Spec,
    form: &'a Json,
}

impl Fields<'_> {
    fn text(&self, number: u8) -> String {
        let name = self.spec.field(number).map_or("", |field| field.name());
        self.form.get(name).and_then(Json::as_str).unwrap_or_default().to_owned()
    }

    fn demand(&self, is_advice: bool) -> Result<Demand> {
        Ok(Demand {
            key: format!("{}/{}", self.text(11), self.text(if self.is_of_1987() { 7 } else { 12 })),
            pan: self.text(2),
            amount_minor: self.text(4).parse().unwrap_or(-1),
            is_advice,
        })
    }

    /// Time of transmission in 1987, local time and date in 1993, tells one trace number from another.
    fn is_of_1987(&self) -> bool {
        self.spec.field(ORIGINAL_1987).is_some()
    }

    /// Type, trace number and time of what is to be taken back stand in front, in that order.
    fn original(&self) -> Result<String> {
        let (number, end) =
            if self.is_of_1987() { (ORIGINAL_1987, 20) } else { (ORIGINAL_1993, 22) };
        let text = self.text(number);
        let trace = text.get(4..10).context("the original is not named")?;
        let time = text.get(10..end).context("the original is not named")?;
        Ok(format!("{trace}/{time}"))
    }
}

/// What is said of a transaction.
#[derive(Clone, Copy)]
enum Code {
    Approved,
    NoCard,
    Blocked,
    OverLimit,
    TooLittle,
    BadAmount,
    NoOriginal,
    NotSupported,
}

impl Code {
    fn text(self, is_of_1993: bool) -> &'static str {
        let (of_1987, of_1993) = match self {
            Code::Approved => ("00", "000"),
            Code::NoCard => ("14", "111"),
            Code::Blocked => ("62", "104"),
            Code::OverLimit => ("61", "121"),
            Code::TooLittle => ("51", "116"),
            Code::BadAmount => ("13", "110"),
            Code::NoOriginal => ("25", "914"),
            Code::NotSupported => ("40", "115"),
        };
        if is_of_1993 { of_1993 } else { of_1987 }
    }
}

fn told(ruling: Ruling) -> (Code, Option<u64>) {
    match ruling {
        Ruling::Approved(number) => (Code::Approved, Some(number)),
        Ruling::NoCard => (Code::NoCard, None),
        Ruling::Blocked => (Code::Blocked, None),
        Ruling::OverLimit => (Code::OverLimit, None),
        Ruling::TooLittle => (Code::TooLittle, None),
        Ruling::BadAmount => (Code::BadAmount, None),
        Ruling::TakenBack | Ruling::NoOriginal => (Code::NoOriginal, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::book::seed;

    fn desk(name: &str) -> (tempfile::TempDir, Desk) {
        let dir = tempfile::tempdir().unwrap();
        let book = Book::open(&dir.path().join("cards.redb")).unwrap();
        book.add(&seed()).unwrap();
        let yaml = moat_message::spec::SHIPPED.iter().find(|(known, _)| *known == name).unwrap().1;
        let spec = Spec::parse(yaml).unwrap();
        (dir, Desk::new(spec, Arc::new(book), vec!["SILENT01".to_owned()]))
    }

    fn ask(desk: &Desk, mti: &str, fields: &[(u8, &str)]) -> Option<Json> {
        let mut draft = Draft::new(desk.spec(), mti.parse().unwrap());
        for (number, text) in fields {
            draft.set_text(*number, text).unwrap();
        }
        let mut out = Vec::new();
        draft.write(&mut out).unwrap();
        let answer = desk.answer(&out).unwrap()?;
        let mut index = Index::new();
        let mut view =
            iso8583::decode(desk.spec(), Check::Strict, &answer, &mut index).expect("an answer");
        Some(serde_json::from_str(&json::write(&mut view).unwrap()).unwrap())
    }

    const PAN: &str = "6222020200112233448";

    #[test]
    fn both_dialects_authorise_decline_and_take_back() {
        let old = [(2, PAN), (3, "000000"), (4, "000000002500"), (7, "1123165000")];
        let (_dir, desk) = desk("iso8583-1987-ascii");
        let with = |more: &[(u8, &'static str)]| {
            let mut all = old.to_vec();
            all.extend_from_slice(more);
            all
        };
        let yes = ask(&desk, "0200", &with(&[(11, "000001"), (41, "TERM0001")])).unwrap();
        assert_eq!(yes["mti"], "0210");
        assert_eq!(yes["fields"]["response_code"], "00");
        let again = ask(&desk, "0201", &with(&[(11, "000001"), (41, "TERM0001")])).unwrap();
        assert_eq!(again["fields"], yes["fields"]);
        let none = ask(&desk, "0200", &with(&[(11, "000002"), (41, "SILENT01")]));
        assert_eq!(none, None);
        assert_eq!(desk.book.card(PAN).unwrap().unwrap().balance_minor, 995_000);
        let original = "0200000002112316500000000000000000000000000000";
        let original = original.get(..42).unwrap();
        let back = ask(&desk, "0400", &[(7, "1123165100"), (11, "000003"), (90, original)]);
        assert_eq!(back.unwrap()["fields"]["response_code"], "00");
        assert_eq!(desk.book.card(PAN).unwrap().unwrap().balance_minor, 997_500);
        let over =
            ask(&desk, "0200", &[(2, PAN), (4, "000000500001"), (7, "1123165000"), (11, "000004")]);
        assert_eq!(over.unwrap()["fields"]["response_code"], "61");
    }

    #[test]
    fn the_dialect_of_1993_has_codes_of_three_digits() {
        let (_dir, desk) = desk("iso8583-1993-bcd");
        let yes =
            ask(&desk, "1100", &[(2, PAN), (4, "000000002500"), (7, "1123165000"), (11, "000001")]);
        let yes = yes.unwrap();
        assert_eq!((&yes["mti"], yes["fields"].as_object().is_some()), (&Json::from("1110"), true));
        let codes: Vec<&str> =
            yes["fields"].as_object().unwrap().values().filter_map(Json::as_str).collect();
        assert!(codes.contains(&"000"), "an action code");
        assert!(ask(&desk, "1804", &[(7, "1123165000"), (11, "000009"), (24, "831")]).is_some());
    }
}
