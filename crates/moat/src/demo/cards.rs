//! Card messages of ISO 8583 in two dialects: authorised, declined by policy, left unknown, taken
//! back. The switch behind the gateway is `moat-switch`.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use moat_audit::record::{Kind, Outcome};
use moat_message::frame::{Framing, LengthForm};
use moat_message::session::Assembler;
use moat_message::spec::SHIPPED;
use moat_message::{Check, Draft, Index, Spec, iso8583, json};
use serde_json::Value as Json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::say::Say;
use super::setup::{SILENT_TERMINAL, Setup};
use super::steps::await_record;

/// Longest wait for an answer.
const WAIT: Duration = Duration::from_secs(10);
/// A card of the demonstration: it belongs to nobody.
const CARD: &str = "6222020200112233448";
/// When the messages say that they were sent (field 7) and made (field 12 of 1993).
const SENT: &str = "0701120000";
const MADE: &str = "260701120000";
const TERMINAL: &str = "TERM0001";

/// A caller's connection in one dialect.
struct Acquirer {
    spec: Spec,
    framing: Framing,
    tls: TlsStream<TcpStream>,
    assembler: Assembler,
}

impl Acquirer {
    async fn connect(setup: &Setup, port: u16, dialect: &str) -> Result<Acquirer> {
        let yaml = SHIPPED.iter().find(|(name, _)| *name == dialect).context("no such spec")?.1;
        let spec = Spec::parse(yaml)?;
        let own = Framing { form: LengthForm::Binary2, includes_itself: false };
        let framing = spec.framing().unwrap_or(own);
        let tls = setup.client_at(port, Some("acquirer"))?.connect(b"").await?;
        Ok(Acquirer { spec, framing, tls, assembler: Assembler::new(framing) })
    }

    /// Sends a message and gives the fields of its answer.
    async fn ask(&mut self, mti: &str, fields: &[(u8, &str)]) -> Result<Json> {
        let mut draft = Draft::new(&self.spec, mti.parse()?);
        for (number, text) in fields {
            draft.set_text(*number, text)?;
        }
        let (mut message, mut frame) = (Vec::new(), Vec::new());
        draft.write(&mut message)?;
        self.framing.put(&message, &mut frame)?;
        self.tls.write_all(&frame).await?;
        self.tls.flush().await?;
        let answer = tokio::time::timeout(WAIT, self.next()).await??;
        let mut index = Index::new();
        let mut view = iso8583::decode(&self.spec, Check::Strict, &answer, &mut index)?;
        Ok(serde_json::from_str(&json::write(&mut view)?)?)
    }

    async fn next(&mut self) -> Result<Vec<u8>> {
        let mut buffer = vec![0; 4096];
        loop {
            if let Some(message) = self.assembler.next_message()? {
                return Ok(message.to_vec());
            }
            let length = self.tls.read(&mut buffer).await?;
            if length == 0 {
                bail!("the gateway closed the connection");
            }
            self.assembler.push(buffer.get(..length).unwrap_or_default());
        }
    }
}

fn text<'a>(answer: &'a Json, field: &str) -> &'a str {
    answer.pointer(&format!("/fields/{field}")).and_then(Json::as_str).unwrap_or_default()
}

/// The lines of the demo about cards.
pub(crate) async fn show(setup: &Setup, say: &mut Say) -> Result<()> {
    let mut acquirer = Acquirer::connect(setup, setup.ports.cards, "iso8583-1987-ascii").await?;
    two_dialects(setup, &mut acquirer, say).await?;
    over_limit(setup, &mut acquirer, say).await?;
    left_unknown(setup, &mut acquirer, say).await?;
    taken_back(setup, &mut acquirer, say).await
}

async fn two_dialects(setup: &Setup, old: &mut Acquirer, say: &mut Say) -> Result<()> {
    let mut newer = Acquirer::connect(setup, setup.ports.cards_1993, "iso8583-1993-bcd").await?;
    let fields = [
        (2, CARD),
        (3, "000000"),
        (4, "000000012500"),
        (7, SENT),
        (11, "000001"),
        (41, TERMINAL),
        (49, "156"),
    ];
    let first = old.ask("0200", &fields).await?;
    let with_time = [&fields[..], &[(12, MADE)]].concat();
    let second = newer.ask("1200", &with_time).await?;
    let mut seen = String::new();
    let mut good = text(&first, "response_code") == "00" && text(&second, "action_code") == "000";
    for (listener, answer, code) in
        [("cards", &first, "response_code"), ("cards-1993", &second, "action_code")]
    {
        let record = await_record(setup, |found| {
            found.leaf.body.kind == Kind::Outcome && found.leaf.body.listener == listener
        })
        .await?;
        let body = record.leaf.body;
        good &= body.outcome == Some(Outcome::Committed) && body.intent_seq.is_some();
        good &= text(answer, "pan") == "6222020000003448";
        seen.push_str(&format!(
            "{listener}: {} code {} card {}; INTENT {}, OUTCOME {}\n",
            answer.get("mti").and_then(Json::as_str).unwrap_or_default(),
            text(answer, code),
            text(answer, "pan"),
            body.intent_seq.unwrap_or_default(),
            record.leaf.head.seq
        ));
    }
    let (en, zh) = (
        "a card purchase in two dialects of ISO 8583: authorised, card number masked",
        "两种 ISO 8583 方言的刷卡消费：已授权，卡号脱敏",
    );
    say.line(good, en, zh, seen.trim_end());
    Ok(())
}

async fn over_limit(setup: &Setup, acquirer: &mut Acquirer, say: &mut Say) -> Result<()> {
    let fields =
        [(2, CARD), (3, "000000"), (4, "000000300100"), (7, SENT), (11, "000002"), (41, TERMINAL)];
    let answer = acquirer.ask("0200", &fields).await?;
    let record = await_record(setup, |found| {
        found.leaf.body.listener == "cards" && found.leaf.body.code == "MOAT-P001"
    })
    .await?;
    let body = record.leaf.body;
    let good = text(&answer, "response_code") == "61"
        && body.kind == Kind::Refusal
        && body.reasons == ["over_card_limit"];
    let seen = format!(
        "0210 code {}: {} in record {}; the switch never saw it",
        text(&answer, "response_code"),
        body.reasons.join(", "),
        record.leaf.head.seq
    );
    let (en, zh) =
        ("over the caller's limit: declined by policy", "超出调用方限额：由策略拒绝，交换未见");
    say.line(good, en, zh, &seen);
    Ok(())
}

async fn left_unknown(setup: &Setup, acquirer: &mut Acquirer, say: &mut Say) -> Result<()> {
    let fields = [
        (2, CARD),
        (3, "000000"),
        (4, "000000020000"),
        (7, SENT),
        (11, "000003"),
        (41, SILENT_TERMINAL),
    ];
    let answer = acquirer.ask("0200", &fields).await?;
    let wanted = format!("terminal/{SILENT_TERMINAL}");
    let record = await_record(setup, |found| {
        found.leaf.body.kind == Kind::Outcome && found.leaf.body.object == wanted
    })
    .await?;
    let body = record.leaf.body;
    let good = text(&answer, "response_code") == "68"
        && body.outcome == Some(Outcome::Unknown)
        && body.code == "MOAT-U003";
    let seen = format!(
        "0210 code {}, never \"declined\"; {} {} in record {}",
        text(&answer, "response_code"),
        body.outcome.map_or("?", Outcome::name),
        body.code,
        record.leaf.head.seq
    );
    let (en, zh) = (
        "the switch does not answer in time: the outcome is UNKNOWN",
        "交换未按时应答：结果记为 UNKNOWN，而非拒绝",
    );
    say.line(good, en, zh, &seen);
    Ok(())
}

async fn taken_back(setup: &Setup, acquirer: &mut Acquirer, say: &mut Say) -> Result<()> {
    let original = format!("0200000003{SENT}{:0>22}", "");
    let fields = [
        (2, CARD),
        (3, "000000"),
        (4, "000000020000"),
        (7, "0701120005"),
        (11, "000004"),
        (41, SILENT_TERMINAL),
        (90, original.as_str()),
    ];
    let answer = acquirer.ask("0400", &fields).await?;
    // The same again, marked as a repeat: the recorded answer, and nothing for the switch.
    let again = acquirer.ask("0401", &fields).await?;
    let record = await_record(setup, |found| {
        found.leaf.body.route == "card-reversal" && found.leaf.body.kind == Kind::Outcome
    })
    .await?;
    let repeated =
        await_record(setup, |found| found.leaf.body.note.contains("again, as in record")).await?;
    let good = text(&answer, "response_code") == "00"
        && record.leaf.body.outcome == Some(Outcome::Committed)
        && again == answer;
    let seen = format!(
        "0410 code {}: COMMITTED in record {}\nthe same marked as a repeat: that answer again, \
         record {}",
        text(&answer, "response_code"),
        record.leaf.head.seq,
        repeated.leaf.head.seq
    );
    let (en, zh) = (
        "the reversal of it: taken back once, answered alike when repeated",
        "对其冲正：只冲一次，重发得到同样应答",
    );
    say.line(good, en, zh, &seen);
    Ok(())
}
