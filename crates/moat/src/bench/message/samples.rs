//! The messages that are measured.

use std::path::Path;

use anyhow::{Context, Result};
use moat_message::spec::SHIPPED;
use moat_message::tlv::{Tag, put};
use moat_message::{Draft, Mti, Spec};

/// An ordinary purchase.
const FIELDS: [(u8, &str); 20] = [
    (2, "4111111111111111"),
    (3, "000000"),
    (4, "000000010000"),
    (7, "1123142530"),
    (11, "123456"),
    (12, "142530"),
    (13, "1123"),
    (14, "2812"),
    (18, "5411"),
    (22, "051"),
    (25, "00"),
    (32, "123456"),
    (37, "123456789012"),
    (38, "A1B2C3"),
    (39, "00"),
    (41, "TERM0001"),
    (42, "MERCHANT0000001"),
    (43, "SOME SHOP              SHENZHEN      CN "),
    (49, "156"),
    (102, "ACC 1234567890"),
];
/// What a terminal sends of a chip, and how many bytes each has.
const TAGS: [(&str, usize); 25] = [
    ("9F26", 8),
    ("9F27", 1),
    ("9F10", 19),
    ("9F37", 4),
    ("9F36", 2),
    ("95", 5),
    ("9A", 3),
    ("9C", 1),
    ("9F02", 6),
    ("5F2A", 2),
    ("82", 2),
    ("9F1A", 2),
    ("9F03", 6),
    ("9F33", 3),
    ("9F34", 3),
    ("9F35", 1),
    ("9F1E", 8),
    ("84", 8),
    ("9F09", 2),
    ("9F41", 4),
    ("5F34", 1),
    ("9F63", 16),
    ("8A", 2),
    ("5F24", 3),
    ("9F07", 2),
];
/// A certificate of `moat ca`: public, and of nobody.
const CERTIFICATE: &str = include_str!("certificate.pem");

pub(super) struct Specs {
    pub(super) ascii: Spec,
    pub(super) bcd: Spec,
    pub(super) ebcdic: Spec,
}

pub(super) struct Samples {
    pub(super) specs: Specs,
    pub(super) ascii: Vec<u8>,
    pub(super) bcd: Vec<u8>,
    pub(super) ebcdic: Vec<u8>,
    pub(super) tlv: Vec<u8>,
    pub(super) certificate: Vec<u8>,
    pub(super) one: Vec<u8>,
    pub(super) many: Vec<u8>,
}

impl Samples {
    pub(super) fn make() -> Result<Samples> {
        let [ascii, bcd, ebcdic] = ["ascii", "bcd", "ebcdic"].map(spec);
        let specs = Specs { ascii: ascii?, bcd: bcd?, ebcdic: ebcdic? };
        let mut tlv = Vec::new();
        for (tag, bytes) in TAGS {
            let tag = Tag::from_hex(tag).context("a tag")?;
            put(tag, [0x15; 32].get(..bytes).context("a value")?, &mut tlv)?;
        }
        let body: String = CERTIFICATE.lines().filter(|line| !line.starts_with("--")).collect();
        let certificate = data_encoding::BASE64.decode(body.as_bytes())?;
        let [ascii, bcd, ebcdic] = [
            message(&specs.ascii, &[])?,
            message(&specs.bcd, &[0x60, 0, 1, 0, 2])?,
            message(&specs.ebcdic, &[])?,
        ];
        let (one, many) = (transfer(1), transfer(1_000));
        Ok(Samples { specs, ascii, bcd, ebcdic, tlv, certificate, one, many })
    }

    /// For the program of the peers.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let all = [
            ("ascii.bin", &self.ascii),
            ("certificate.der", &self.certificate),
            ("one.xml", &self.one),
            ("many.xml", &self.many),
        ];
        for (name, bytes) in all {
            std::fs::write(folder.join(name), bytes).context("a sample")?;
        }
        Ok(())
    }
}

fn spec(form: &str) -> Result<Spec> {
    let name = format!("iso8583-1987-{form}");
    let found = SHIPPED.iter().find(|(shipped, _)| *shipped == name);
    Ok(Spec::parse(found.context("a shipped spec")?.1)?)
}

fn message(spec: &Spec, header: &[u8]) -> Result<Vec<u8>> {
    let mti: Mti = "0200".parse()?;
    let mut draft = Draft::new(spec, mti);
    draft.set_header(header);
    for (number, text) in FIELDS {
        draft.set_text(number, text)?;
    }
    let mut out = Vec::new();
    draft.write(&mut out)?;
    Ok(out)
}

/// A pacs.008 with so many transactions.
fn transfer(count: usize) -> Vec<u8> {
    let one = |at: usize| {
        format!(
            "    <CdtTrfTxInf>\n      <PmtId><InstrId>I{at:08}</InstrId><EndToEndId>E{at:08}</EndToEndId><TxId>T{at:08}</TxId><UETR>eb6305c9-1f7f-49de-aed0-{at:012x}</UETR></PmtId>\n      <PmtTpInf><SvcLvl><Cd>SEPA</Cd></SvcLvl><CtgyPurp><Cd>SUPP</Cd></CtgyPurp></PmtTpInf>\n      <IntrBkSttlmAmt Ccy=\"CNY\">{at}.50</IntrBkSttlmAmt><IntrBkSttlmDt>2026-11-23</IntrBkSttlmDt><ChrgBr>SLEV</ChrgBr>\n      <Dbtr><Nm>Payer Number {at}</Nm><PstlAdr><StrtNm>Science Park Road</StrtNm><BldgNb>{at}</BldgNb><PstCd>518000</PstCd><TwnNm>Shenzhen</TwnNm><Ctry>CN</Ctry></PstlAdr></Dbtr>\n      <DbtrAcct><Id><Othr><Id>62220202{at:011}</Id></Othr></Id></DbtrAcct>\n      <DbtrAgt><FinInstnId><BICFI>DEUTDEFF500</BICFI></FinInstnId></DbtrAgt><CdtrAgt><FinInstnId><BICFI>DEUTDEFF</BICFI></FinInstnId></CdtrAgt>\n      <Cdtr><Nm>Receiver &amp; Sons {at}</Nm><PstlAdr><TwnNm>Shanghai</TwnNm><Ctry>CN</Ctry></PstlAdr></Cdtr>\n      <CdtrAcct><Id><IBAN>GB82WEST12345698765432</IBAN></Id></CdtrAcct>\n      <Purp><Cd>SUPP</Cd></Purp><RmtInf><Ustrd>Invoice {at} of November, thank you for your order</Ustrd></RmtInf>\n    </CdtTrfTxInf>\n"
        )
    };
    let all: String = (1..=count).map(one).collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Document xmlns=\"urn:iso:std:iso:20022:tech:xsd:pacs.008.001.08\">\n  <FIToFICstmrCdtTrf>\n    <GrpHdr><MsgId>M1</MsgId><CreDtTm>2026-11-23T14:25:30Z</CreDtTm><NbOfTxs>{count}</NbOfTxs><SttlmInf><SttlmMtd>CLRG</SttlmMtd></SttlmInf></GrpHdr>\n{all}  </FIToFICstmrCdtTrf>\n</Document>\n"
    )
    .into_bytes()
}
