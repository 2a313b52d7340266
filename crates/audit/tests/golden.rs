//! The worked example of `docs/record.md`, byte for byte: the format is what stands there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use moat_audit::anchor::{AnchorKey, Canonical, field_id};
use moat_audit::code;
use moat_audit::hash::{hex, leaf_hash, sha256};
use moat_audit::merkle::Frontier;
use moat_audit::record::{Body, Field, Head, Kind, Op, Value, decode_leaf, encode_leaf};
use moat_audit::segment::{Footer, Header, encode_frame};
use moat_model::Class;
use zeroize::Zeroizing;

const DOC: &str = include_str!("../../../docs/record.md");

fn body() -> Body {
    let key = AnchorKey::new("k1", Zeroizing::new([0x11; 32])).unwrap();
    let id = field_id("transfer", "amount", 1);
    let value = Canonical::from_json("12.50").unwrap();
    let anchor = key.anchor("bank", "account/1", &id, &value);
    let masked = Value::Masked { shown: "1*.**".to_owned(), anchor };
    Body {
        tenant: "bank".to_owned(),
        actor: "spiffe://bank.test/teller".to_owned(),
        op: Some(Op::Ins),
        object: "account/1".to_owned(),
        fields: vec![Field::new(id, "amount", Class::C2, Value::Absent, masked).unwrap()],
        ..Body::new(Kind::Intent, [0xaa; 16])
    }
}

fn leaf() -> Vec<u8> {
    let head = Head {
        log_id: "bank.test/1".to_owned(),
        seq: 0,
        prev_hash: [0; 32],
        t_wall_ns: 1_795_392_000_000_000_000,
        t_mono_ns: 5,
        boot_id: [0xbb; 16],
        clock_err_us: 250,
    };
    encode_leaf(&head, &body().encode().unwrap()).unwrap()
}

fn header() -> Vec<u8> {
    let header = Header {
        log_id: "bank.test/1".to_owned(),
        index: 0,
        epoch: 1,
        first_seq: 0,
        prev_len: 0,
        prev_hash: [0; 32],
        prev_leaf_hash: [0; 32],
        oldest_open: None,
        frontier: Frontier::default(),
        wrapped_dek: Vec::new(),
    };
    header.encode().unwrap()
}

fn frame() -> Vec<u8> {
    let leaf = leaf();
    let len = u16::try_from(leaf.len()).unwrap().to_be_bytes();
    encode_frame(0, 1, &sha256(&header()), &[len.as_slice(), &leaf].concat()).unwrap()
}

fn footer() -> Vec<u8> {
    let mut tree = Frontier::default();
    tree.push(leaf_hash(&leaf()));
    let footer = Footer {
        size: 1,
        count: 1,
        last_leaf_hash: leaf_hash(&leaf()),
        root_sha256: tree.root(),
        root_sm3: None,
    };
    footer.encode(&sha256(&frame())).unwrap()
}

/// Hexadecimal in lines of 32 bytes, as the document has it.
fn block(bytes: &[u8]) -> String {
    bytes.chunks(32).map(|line| hex(line) + "\n").collect()
}

#[test]
fn the_document_and_the_code_agree_on_every_byte() {
    let examples = [
        ("leaf", block(&leaf())),
        ("leaf hash", hex(&leaf_hash(&leaf()))),
        ("header", block(&header())),
        ("frame prefix", block(&frame()[..56])),
        ("footer", block(&footer())),
        ("code", code::lines(&body())[0].clone()),
    ];
    for (name, expected) in examples {
        assert!(DOC.contains(&expected), "the document lacks this {name}:\n{expected}");
    }
    assert_eq!(decode_leaf(&leaf()).unwrap().body, body());
}

#[test]
fn the_document_names_every_tag() {
    for (tag, name) in moat_audit::record::tag::ALL {
        let row = format!("| {tag:02x} | `{}` |", name.to_lowercase());
        assert!(DOC.contains(&row), "the document lacks {row}");
    }
}
