use std::collections::BTreeMap;

use moat_model::Class;
use proptest::prelude::*;
use zeroize::Zeroizing;

use super::{Summary, rewrite, unwrap, walk};
use crate::error::Reason;

const NS: &str = "urn:iso:std:iso:20022:tech:xsd:pacs.008.001.08";

fn document(prefix: &str, inner: &str) -> String {
    let (p, colon) = if prefix.is_empty() { ("", "") } else { (prefix, ":") };
    let transfer = format!("<{p}{colon}CdtTrfTxInf>{inner}</{p}{colon}CdtTrfTxInf>");
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{p}{colon}Document xmlns{colon}{p}=\"{NS}\"><{p}{colon}FIToFICstmrCdtTrf>{transfer}</{p}{colon}FIToFICstmrCdtTrf></{p}{colon}Document>\n"
    )
}

/// Names, or paths where there is no name, and texts.
fn read(document: &str) -> Result<(BTreeMap<String, String>, Summary), Reason> {
    let mut found = BTreeMap::new();
    let summary = walk(document.as_bytes(), |leaf| {
        leaf.check()?;
        let name = leaf.entry().map_or_else(|| leaf.path(), |entry| entry.name.clone());
        found.insert(name, leaf.text()?.into_owned());
        Ok(())
    });
    summary.map(|summary| (found, summary)).map_err(|wrong| wrong.reason)
}

fn refused(document: &str) -> Reason {
    read(document).expect_err(document)
}

#[test]
fn values_have_names_whatever_the_prefix() {
    for prefix in ["", "p", "urn"] {
        let colon = if prefix.is_empty() { "" } else { ":" };
        let tag = |name: &str, text: &str, more: &str| {
            format!("<{prefix}{colon}{name}{more}>{text}</{prefix}{colon}{name}>")
        };
        let inner = [
            tag("PmtId", &tag("UETR", "eb6305c9-1f7f-49de-aed0-16487c27b42d", ""), ""),
            tag("IntrBkSttlmAmt", "12.50", " Ccy=\"CNY\""),
            tag("Dbtr", &tag("Nm", "AT&amp;T <![CDATA[<&>]]>&#x6DF1;", ""), ""),
            tag("Own", "x", ""),
        ];
        let (found, summary) = read(&document(prefix, &inner.concat())).unwrap();
        assert_eq!(found["amount"], "12.50");
        assert_eq!(found["debtor_name"], "AT&T <&>深");
        assert_eq!(found["Document/FIToFICstmrCdtTrf/CdtTrfTxInf/Own"], "x");
        let expected = Summary { kinds: vec!["pacs.008"], transactions: 1, values: 4, unnamed: 1 };
        assert_eq!(summary, expected);
    }
}

#[test]
fn another_namespace_is_another_message() {
    let other = document(
        "",
        "<Dbtr xmlns=\"urn:other\"><Nm>x</Nm></Dbtr><Cdtr xmlns:a=\"urn:b\"><Nm>y</Nm></Cdtr>",
    );
    let (found, summary) = read(&other).unwrap();
    assert_eq!(summary.unnamed, 2, "{found:?}");
    let (found, _) = read(&other.replace(" xmlns:a=\"urn:b\"", "")).unwrap();
    assert_eq!(found["creditor_name"], "y");
    let (found, summary) = read(&other.replace(NS, "urn:swift:pacs.008.001.08")).unwrap();
    assert!(summary.kinds.is_empty() && found.len() == 2);
}

#[test]
fn header_and_body_are_siblings_or_one_in_the_other() {
    let head =
        "<AppHdr xmlns=\"urn:iso:std:iso:20022:tech:xsd:head.001.001.02\"><BizMsgIdr>b</BizMsgIdr>";
    let body = document("", "<Purp><Cd>SALA</Cd></Purp>");
    let body = body.split_once('\n').unwrap().1;
    for text in
        [format!("<Envelope>{head}</AppHdr>{body}</Envelope>"), format!("{head}{body}</AppHdr>")]
    {
        let (found, summary) = read(&text).unwrap();
        assert_eq!(summary.kinds, ["head.001", "pacs.008"]);
        assert_eq!(
            (found["business_message_id"].as_str(), found["purpose"].as_str()),
            ("b", "SALA")
        );
    }
    let wrapped = format!("{{H:02310  20261123}}\r\n{body}");
    let (header, xml) = unwrap(wrapped.as_bytes()).unwrap();
    assert!(header.ends_with(b"}\r\n") && xml == body.as_bytes());
    assert_eq!(unwrap(b"{H:no end").unwrap_err().reason, Reason::Xml);
    assert_eq!(unwrap(b"<a/>").unwrap(), (&b""[..], &b"<a/>"[..]));
}

#[test]
fn what_xml_can_do_beyond_messages_is_refused() {
    for text in [
        "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>",
        "<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><a/>",
        "<a>&x;</a>",
        "<a>&#0;</a>",
        "<a>&#x1F;</a>",
        "<?php x?><a/>",
        "<a><?x y?></a>",
        "<a>1<!-- x -->2</a>",
        "<a xmlns=\"urn&#58;x\"/>",
    ] {
        assert_eq!(refused(text), Reason::XmlRefused, "{text}");
    }
    for text in [
        "",
        "x",
        "<a>",
        "</a>",
        "<a></b>",
        "<a/><b/>",
        "<a/>x",
        "<a>x<b/></a>",
        "<a><b/>x</a>",
        "<a b=1/>",
        "<a b='1' b='2'/>",
        "<a b='<'/>",
        "<a b='1'c='2'/>",
        "<a b/>",
        "<a b='1/>",
        "<a>\u{1}</a>",
        "<1a/>",
        "<a:b:c/>",
        "<:a/>",
        "<?xml version=\"1.0\" encoding=\"GBK\"?><a/>",
        " <?xml version=\"1.0\"?><a/>",
        "<a>x</a",
        "<a><![CDATA[x</a>",
        "<!-- -- --><a/>",
    ] {
        let reason = refused(text);
        assert!(matches!(reason, Reason::Xml | Reason::XmlRefused), "{text}: {reason:?}");
    }
    assert_eq!(walk(b"<a>\xff</a>", |_| Ok(())).unwrap_err().offset, 3);
}

#[test]
fn bounds_hold() {
    let deep = |depth: usize| "<a>".repeat(depth) + &"</a>".repeat(depth);
    assert!(read(&deep(64)).is_ok());
    assert_eq!(refused(&deep(65)), Reason::XmlLimit);
    let wide = |count: usize| {
        let all: Vec<String> = (0..count).map(|at| format!("a{at}=\"\"")).collect();
        format!("<a {}/>", all.join(" "))
    };
    assert!(read(&wide(32)).is_ok());
    assert_eq!(refused(&wide(33)), Reason::XmlLimit);
    let spaces: String = (0..33).map(|at| format!(" xmlns:n{at}=\"u\"")).collect();
    assert_eq!(refused(&format!("<a{spaces}/>")), Reason::XmlLimit);
    assert_eq!(refused(&format!("<a>{}</a>", "x".repeat(1 << 20 | 1))), Reason::XmlLimit);
    assert_eq!(refused(&"x".repeat((16 << 20) + 1)), Reason::XmlLimit);
    let many = |count: usize| {
        let transfer = "<CdtTrfTxInf></CdtTrfTxInf>".repeat(count);
        document("", "").replace("<CdtTrfTxInf></CdtTrfTxInf>", &transfer)
    };
    assert_eq!(read(&many(10_000)).unwrap().1.transactions, 10_000);
    assert_eq!(refused(&many(10_001)), Reason::XmlLimit);
}

#[test]
fn facets_are_checked() {
    for (inner, good) in [
        ("<IntrBkSttlmAmt Ccy=\"JPY\">12</IntrBkSttlmAmt>", true),
        ("<IntrBkSttlmAmt Ccy=\"JPY\">12.5</IntrBkSttlmAmt>", false),
        ("<IntrBkSttlmAmt>12</IntrBkSttlmAmt>", false),
        ("<IntrBkSttlmAmt Ccy=\"CNY\">-0</IntrBkSttlmAmt>", false),
        ("<IntrBkSttlmDt>2026-02-30</IntrBkSttlmDt>", false),
        ("<DbtrAcct><Id><IBAN>GB82WEST12345698765432</IBAN></Id></DbtrAcct>", true),
        ("<DbtrAcct><Id><IBAN>GB82WEST12345698765431</IBAN></Id></DbtrAcct>", false),
    ] {
        let found = read(&document("", inner));
        assert_eq!(found.err(), if good { None } else { Some(Reason::Facet) }, "{inner}");
    }
}

#[test]
fn rewriting_touches_what_it_names_and_nothing_else() {
    let text = document(
        "",
        "<!-- kept -->  <Dbtr><Nm>王 &amp; Co</Nm><PstlAdr ><Ctry>CN</Ctry></PstlAdr></Dbtr><Cdtr><Nm/></Cdtr>",
    );
    let mut out = Vec::new();
    rewrite(text.as_bytes(), &mut out, |leaf| (leaf.class() > Class::C1).then(|| leaf.masked()))
        .unwrap();
    let expected = text.replace("王 &amp; Co", "王***o");
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    let mut out = Vec::new();
    rewrite(text.as_bytes(), &mut out, |_| Some(Zeroizing::new("<&>".into()))).unwrap();
    let (found, _) = read(&String::from_utf8(out).unwrap()).unwrap();
    assert_eq!((found["debtor_name"].as_str(), found["creditor_name"].as_str()), ("<&>", ""));
    let mut out = b"x".to_vec();
    assert!(rewrite(b"<a>x", &mut out, |_| None).is_err() && out == b"x");
}

proptest! {
    #[test]
    fn any_text_comes_back(text in "[ -~深圳é\n\t]{0,40}") {
        let plain = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let cdata = format!("<![CDATA[{}]]>", text.replace("]]>", "]] >"));
        for (inner, expected) in [(plain, text.clone()), (cdata, text.replace("]]>", "]] >"))] {
            let whole = document("", &format!("<Dbtr><Nm>{inner}</Nm></Dbtr>"));
            let (found, _) = read(&whole).unwrap();
            prop_assert_eq!(&found["debtor_name"], &expected);
            let mut out = Vec::new();
            rewrite(whole.as_bytes(), &mut out, |_| None).unwrap();
            prop_assert!(out == whole.as_bytes());
        }
    }

    #[test]
    fn a_document_cut_or_spoilt_is_refused_or_read(at: u16, byte: u8) {
        let whole = document("p", "<p:Dbtr><p:Nm>a</p:Nm></p:Dbtr><p:IntrBkSttlmAmt Ccy=\"CNY\">1</p:IntrBkSttlmAmt>");
        let whole = whole.trim_end().as_bytes();
        let at = usize::from(at) % whole.len();
        prop_assert!(walk(&whole[..at], |_| Ok(())).is_err());
        let mut spoilt = whole.to_vec();
        spoilt[at] = byte;
        let mut out = Vec::new();
        if rewrite(&spoilt, &mut out, |_| None).is_ok() {
            prop_assert!(out == spoilt);
        }
    }
}
