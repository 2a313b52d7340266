//! Messages of every shipped spec, made from the table of the spec by a writer of its own: what it
//! writes must be read back, written again byte for byte, and refused once it is spoilt.

use proptest::prelude::*;

use super::{Check, Decoder, Draft, Index, Label, Mti, Read, Touched, View, decode};
use crate::ebcdic::{self, Page};
use crate::error::Reason;
use crate::spec::{
    Enc, Header, Kind, LenEnc, Length, PartForm, Parts, Rule, SHIPPED, Spec, Tertiary, Unit,
};

/// Numbers from a seed, so that a failing case can be made again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    fn text(&mut self, alphabet: &str, count: usize) -> String {
        let all: Vec<char> = alphabet.chars().collect();
        (0..count).map(|_| all[self.roll(all.len())]).collect()
    }
}

const DIGITS: &str = "0123456789";
const LETTERS: &str = "ABCXYZabcxyz ";
const SIGNS: &str = "!#$%&()*+,-./:;<=>?@[]^_{|}~";

fn alphabet(kind: Kind) -> String {
    match kind {
        Kind::N | Kind::Xn => DIGITS.to_owned(),
        Kind::A => LETTERS.to_owned(),
        Kind::An => [LETTERS, DIGITS].concat(),
        Kind::As => [LETTERS, SIGNS].concat(),
        Kind::Ns => [DIGITS, SIGNS, " "].concat(),
        Kind::Ans => [LETTERS, DIGITS, SIGNS].concat(),
        Kind::Z => "0123456789D".to_owned(),
        Kind::B | Kind::Tlv | Kind::Composite => "0123456789ABCDEF".to_owned(),
    }
}

fn there(page: Option<Page>, text: &str) -> Vec<u8> {
    text.bytes().map(|byte| page.map_or(byte, |page| ebcdic::from_ascii(page, byte))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap())
        .collect()
}

/// A value of the kind with so many units: what people see.
fn value(dice: &mut Dice, rule: &Rule, count: usize) -> String {
    match (rule.kind, rule.enc) {
        (Kind::B, _) => dice.text("0123456789ABCDEF", count * 2),
        (Kind::Xn, _) => ["C", "D"][dice.roll(2)].to_owned() + &dice.text(DIGITS, count),
        (Kind::Ans, Enc::Gbk | Enc::Gb18030) => {
            let wide = dice.roll(count / 2 + 1);
            dice.text("深圳银行储蓄卡", wide) + &dice.text("AZ09 ", count - wide * 2)
        }
        (kind, _) => dice.text(&alphabet(kind), count),
    }
}

/// The bytes of a value; how the table says it, in the plainest way.
fn wire(rule: &Rule, text: &str) -> Vec<u8> {
    match rule.enc {
        Enc::Text(page) => there(page, text),
        Enc::Binary => unhex(text),
        Enc::Hex(page) => there(page, text),
        Enc::Gbk | Enc::Gb18030 => encoding_rs::GB18030.encode(text).0.into_owned(),
        Enc::Bcd => {
            let (sign, digits) = if rule.kind == Kind::Xn { text.split_at(1) } else { ("", text) };
            let fill = if rule.pad.nibble() == 0 { "0" } else { "F" };
            let digits = match (digits.len() % 2, rule.pad.is_left()) {
                (0, _) => digits.to_owned(),
                (_, true) => [fill, digits].concat(),
                (_, false) => [digits, fill].concat(),
            };
            [there(rule.page, sign), unhex(&digits)].concat()
        }
    }
}

fn prefix(rule: &Rule, units: usize, bytes: usize) -> Vec<u8> {
    let Length::Variable { enc, prefix_bytes, unit, includes_itself, .. } = rule.length else {
        return Vec::new();
    };
    let number = if unit == Unit::Bytes { bytes } else { units };
    let number = number + usize::from(includes_itself) * usize::from(prefix_bytes);
    let width = usize::from(prefix_bytes);
    match enc {
        LenEnc::Text(page) => there(page, &format!("{number:0width$}")),
        LenEnc::Bcd => unhex(&format!("{number:0width$}", width = width * 2)),
        LenEnc::Binary => number.to_be_bytes()[8 - width..].to_vec(),
    }
}

/// Some field: what people see, and its bytes with the length in front.
fn field(dice: &mut Dice, rule: &Rule, parts: Option<&Parts>) -> (String, Vec<u8>) {
    let most = match rule.length {
        Length::Fixed { count, .. } => usize::from(count),
        Length::Variable { max, unit, .. } => {
            let most = usize::from(max).min(40);
            let halves = if unit == Unit::Bytes && rule.enc == Enc::Bcd { 2 } else { 1 };
            dice.roll(most + 1) * halves
        }
    };
    let text = match (rule.kind, parts) {
        (Kind::Tlv, _) => tlv(dice, most),
        (Kind::Composite, Some(parts)) => composite(dice, parts, rule.enc),
        _ => value(dice, rule, most),
    };
    let bytes = wire(rule, &text);
    let units = match (rule.kind, rule.enc) {
        (Kind::Xn, _) => text.len() - 1,
        (_, Enc::Binary | Enc::Gbk | Enc::Gb18030) => bytes.len(),
        (_, Enc::Hex(_)) => bytes.len() / 2,
        _ => text.len(),
    };
    let bytes = [prefix(rule, units, bytes.len()), bytes].concat();
    (text, bytes)
}

fn tlv(dice: &mut Dice, most: usize) -> String {
    let mut out = String::new();
    while out.len() / 2 + 12 < most {
        let count = dice.roll(8);
        let tag = ["5A", "9F26", "DF8101", "82", "9F1F"][dice.roll(5)];
        let inner = format!("{tag}{count:02X}{}", dice.text("0123456789ABCDEF", count * 2));
        out += &match dice.roll(4) {
            0 => format!("70{:02X}{inner}", inner.len() / 2),
            1 => format!("00{inner}"),
            _ => inner,
        };
    }
    out
}

fn composite(dice: &mut Dice, parts: &Parts, enc: Enc) -> String {
    let mut bytes = Vec::new();
    let mut bits = 0_u64;
    for part in &parts.items {
        let rule = &part.field.rule;
        match parts.form {
            PartForm::Positional => {
                if dice.roll(6) == 0 && !bytes.is_empty() {
                    break;
                }
                bytes.extend(field(dice, rule, None).1);
            }
            PartForm::Tagged { length_digits, page, .. } => {
                let count = dice.roll(9);
                let width = usize::from(length_digits);
                bytes.extend(&part.tag);
                bytes.extend(there(page, &format!("{count:0width$}")));
                bytes.extend(wire(rule, &value(dice, rule, count)));
            }
            PartForm::Bitmap { bytes: map } => {
                if dice.roll(2) == 0 {
                    bits |= 1 << (u32::from(map) * 8 - u32::from(part.bit));
                    bytes.extend(field(dice, rule, None).1);
                }
            }
        }
    }
    if let PartForm::Bitmap { bytes: map } = parts.form {
        let map = bits.to_be_bytes()[8 - usize::from(map)..].to_vec();
        bytes = [map, bytes].concat();
    }
    match enc {
        Enc::Binary => hex(&bytes),
        Enc::Text(Some(page)) => bytes
            .iter()
            .map(|byte| char::from(ebcdic::to_ascii(page)[usize::from(*byte)]))
            .collect(),
        _ => String::from_utf8(bytes).unwrap(),
    }
}

/// A message of a spec: what people see of each field, and the bytes.
struct Sample {
    mti: Mti,
    header: Vec<u8>,
    fields: Vec<(u8, String)>,
    bytes: Vec<u8>,
}

fn sample(spec: &Spec, seed: u64) -> Sample {
    let mut dice = Dice(seed);
    let mti: Mti = ["0100", "0200", "0210", "0421", "0800", "1804"][dice.roll(6)].parse().unwrap();
    let (mut fields, mut body, mut bits) = (Vec::new(), Vec::new(), [0_u64; 3]);
    let sparse = 2 + dice.roll(12);
    let mut third_at = None;
    for (number, of) in spec.all() {
        // Composites whose bitmap is among text cannot be written as text; they have a test below.
        let by_bitmap = matches!(of.parts().map(|parts| parts.form), Some(PartForm::Bitmap { .. }));
        if dice.roll(sparse) != 0 || (by_bitmap && of.rule.enc != Enc::Binary) {
            continue;
        }
        if number > 65 && third_at.is_none() {
            third_at = Some(body.len());
        }
        let (text, bytes) = field(&mut dice, &of.rule, of.parts());
        fields.push((number, text));
        body.extend(bytes);
        bits[usize::from(number - 1) / 64] |= 1 << (63 - (number - 1) % 64);
    }
    let put = |word: u64| match spec.bitmap_hex {
        true => there(spec.text, &format!("{word:016X}")),
        false => word.to_be_bytes().to_vec(),
    };
    if bits[2] != 0 {
        assert_eq!(spec.tertiary, Tertiary::Field65);
        bits[1] |= 1 << 63;
        let third = put(bits[2]);
        body.splice(third_at.unwrap()..third_at.unwrap(), third);
    }
    // Sometimes a second bitmap with nothing in it.
    let second = bits[1] != 0 || dice.roll(8) == 0;
    bits[0] |= u64::from(second) << 63;
    let mut bytes = match spec.mti {
        Enc::Bcd => unhex(&mti.to_string()),
        _ => there(spec.text, &mti.to_string()),
    };
    bytes.extend(put(bits[0]));
    if second {
        bytes.extend(put(bits[1]));
    }
    bytes.extend(body);
    let mut header = match spec.header {
        Header::None => Vec::new(),
        Header::Tpdu => vec![0x60, 0, 1, 0, 2],
        Header::Counted => vec![4, 1, 2, 3],
        Header::Switch46 => {
            let mut header = vec![b'0'; 46];
            (header[0], header[1]) = (0x2e, 0x82);
            header
        }
    };
    let total = header.len() + bytes.len();
    if spec.header == Header::Switch46 {
        header[2..6].copy_from_slice(format!("{total:04}").as_bytes());
    }
    let bytes = [header.clone(), bytes].concat();
    Sample { mti, header, fields, bytes }
}

fn shipped() -> impl Iterator<Item = &'static Spec> {
    static ALL: std::sync::LazyLock<Vec<Spec>> =
        std::sync::LazyLock::new(|| SHIPPED.map(|(_, yaml)| Spec::parse(yaml).unwrap()).into());
    ALL.iter()
}

/// The text of a field, past every guard.
fn text(view: &mut View<'_>, number: u8) -> Option<String> {
    let value = match view.read(number)? {
        Read::Clear(value) => value,
        Read::Guarded(guarded) => guarded.inner(),
    };
    let mut text = String::new();
    value.text(&mut text).ok()?;
    Some(text)
}

/// Both ways to read, in both strengths, say the same of any bytes; what is read is written again.
fn agree(spec: &Spec, decoders: &mut [Decoder<'_>; 2], bytes: &[u8]) -> bool {
    let (mut a, mut b) = (Index::new(), Index::new());
    let mut accepted = false;
    for (decoder, check) in decoders.iter_mut().zip([Check::Strict, Check::Lazy]) {
        let general = decode(spec, check, bytes, &mut a);
        for _ in 0..2 {
            let planned = decoder.decode(bytes, &mut b);
            match (&general, planned) {
                (Ok(general), Ok(planned)) => {
                    assert!(general.fields().eq(planned.fields()));
                    assert_eq!(general.mti(), planned.mti());
                    let mut out = Vec::new();
                    Draft::of(planned).write(&mut out).unwrap();
                    assert!(out == bytes);
                }
                (Err(general), Err(planned)) => assert_eq!(*general, planned),
                _ => panic!("only one way accepts it"),
            }
        }
        accepted |= general.is_ok() && check == Check::Strict;
    }
    accepted
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn what_the_table_writes_is_read_and_written_again(seed: u64, spoils: [(u16, u8, u8); 12]) {
        for spec in shipped() {
            let made = sample(spec, seed);
            let mut decoders =
                [Decoder::new(spec, Check::Strict), Decoder::new(spec, Check::Lazy)];
            let mut index = Index::new();
            let mut view = decode(spec, Check::Strict, &made.bytes, &mut index)
                .unwrap_or_else(|wrong| panic!("{}: {wrong}", spec.name()));
            prop_assert_eq!(view.mti(), made.mti);
            prop_assert_eq!(view.header(), &made.header[..]);
            for (number, expected) in &made.fields {
                let found = text(&mut view, *number);
                prop_assert_eq!(found.as_ref(), Some(expected), "{}", number);
            }
            let named = view.present().iter().filter(|number| !spec.is_bitmap(*number)).count();
            prop_assert_eq!(named, made.fields.len());
            prop_assert!(agree(spec, &mut decoders, &made.bytes));

            let mut draft = Draft::new(spec, made.mti);
            draft.set_header(&made.header);
            for (number, text) in made.fields.iter().rev() {
                draft.set_text(*number, text).unwrap();
            }
            let mut out = Vec::new();
            draft.write(&mut out).unwrap();
            // A second bitmap with nothing in it is not written anew.
            if made.fields.iter().any(|(number, _)| *number > 64) {
                prop_assert!(out == made.bytes);
            }

            for (at, byte, how) in spoils {
                let mut spoilt = made.bytes.clone();
                let at = usize::from(at) % spoilt.len();
                match how % 4 {
                    0 => spoilt[at] ^= byte,
                    1 => spoilt.truncate(at),
                    2 => spoilt.insert(at, byte),
                    _ => drop(spoilt.remove(at)),
                }
                agree(spec, &mut decoders, &spoilt);
            }
        }
    }

    #[test]
    fn the_json_form_gives_every_field_back_to_the_byte(seed: u64) {
        for spec in shipped() {
            let sample = sample(spec, seed);
            let (mut a, mut b) = (Index::new(), Index::new());
            let mut view = decode(spec, Check::Strict, &sample.bytes, &mut a).unwrap();
            let text = super::json::write(&mut view).unwrap();
            let again = super::json::read(spec, text.as_bytes()).unwrap();
            let other = decode(spec, Check::Strict, &again, &mut b).unwrap();
            prop_assert_eq!((view.mti(), view.header()), (other.mti(), other.header()));
            let fields = |view: &View<'_>| -> Vec<(u8, Vec<u8>)> {
                let bytes = |number: u8| view.span(number).map(|(_, bytes)| bytes.to_vec());
                let real = view.present().iter().filter(|number| !spec.is_bitmap(*number));
                real.filter_map(|number| Some((number, bytes(number)?))).collect()
            };
            prop_assert_eq!(fields(&view), fields(&other));
        }
    }

    #[test]
    fn any_bytes_are_read_the_same_way_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for spec in shipped() {
            let mut decoders =
                [Decoder::new(spec, Check::Strict), Decoder::new(spec, Check::Lazy)];
            agree(spec, &mut decoders, &bytes);
        }
    }
}

#[test]
fn a_message_cut_anywhere_is_refused() {
    for spec in shipped() {
        for seed in 0..8 {
            let made = sample(spec, seed);
            let mut decoders = [Decoder::new(spec, Check::Strict), Decoder::new(spec, Check::Lazy)];
            for cut in 0..made.bytes.len() {
                assert!(!agree(spec, &mut decoders, &made.bytes[..cut]), "{} {cut}", spec.name());
            }
        }
    }
}

fn parse(fields: &str) -> Spec {
    Spec::parse(&format!("spec: s\n{fields}")).unwrap_or_else(|wrong| panic!("{wrong}"))
}

fn refused(spec: &Spec, message: &[u8]) -> (Reason, u8, u32) {
    let mut index = Index::new();
    let wrong = decode(spec, Check::Strict, message, &mut index).err().expect("refused");
    (wrong.reason, wrong.field, wrong.offset)
}

#[test]
fn each_bit_alone_names_its_field_or_is_refused() {
    let spec = parse("bitmap: hex\nfields:\n  3: { name: code, kind: n, class: C1, len: 6 }\n");
    for field in 2..=64_u8 {
        let message = format!("0200{:016X}000000", 1_u64 << (64 - field));
        let mut index = Index::new();
        match decode(&spec, Check::Strict, message.as_bytes(), &mut index) {
            Ok(mut view) => assert_eq!((field, text(&mut view, 3)), (3, Some("000000".into()))),
            Err(wrong) => assert_eq!((wrong.reason, wrong.field), (Reason::UnknownField, field)),
        }
    }
    // Bit 1 with a second bitmap that is empty is legal; without one the message is cut.
    assert!(
        decode(&spec, Check::Strict, b"020080000000000000000000000000000000", &mut Index::new())
            .is_ok()
    );
    assert_eq!(refused(&spec, b"02008000000000000000"), (Reason::Truncated, 0, 20));
}

#[test]
fn what_is_wrong_is_named_with_field_and_offset_and_never_shown() {
    let spec = parse(
        "bitmap: hex\nfields:\n  2: { name: pan, kind: n, class: PAN, len: { kind: ll, max: 19 } }\n  3: { name: code, kind: n, class: C1, len: 6 }\n",
    );
    let message = |rest: &str| format!("02006000000000000000{rest}").into_bytes();
    for (rest, expected) in [
        ("0441111234560", (Reason::Trailing, 0, 32)),
        ("044111123456", (Reason::Truncated, 3, 32)),
        ("20", (Reason::FieldLength, 2, 20)),
        ("1x", (Reason::FieldLength, 2, 20)),
        ("1", (Reason::Truncated, 2, 21)),
        ("0441x1123456", (Reason::Characters, 2, 24)),
        ("0441111234 6", (Reason::Characters, 3, 30)),
    ] {
        // The last one above has six characters in field 3.
        let expected = if rest == "044111123456" { None } else { Some(expected) };
        let mut index = Index::new();
        let found = decode(&spec, Check::Strict, &message(rest), &mut index).err();
        let place = found.map(|wrong| (wrong.reason, wrong.field, wrong.offset));
        assert_eq!(place, expected, "{rest}");
        if let Some(wrong) = found {
            assert!(!wrong.to_string().contains("4111") && !format!("{wrong:?}").contains("4111"));
        }
    }
    assert_eq!(refused(&spec, b"3200"), (Reason::Mti, 0, 0));
    assert_eq!(refused(&spec, b"0200600000000000000G"), (Reason::Bitmap, 0, 4));
    assert_eq!(refused(&spec, &vec![b'0'; 65_536]), (Reason::TooLong, 0, 65_535));
}

#[test]
fn absent_and_empty_and_spaces_are_three_things() {
    let spec = parse(
        "bitmap: hex\nfields:\n  44: { name: data, kind: ans, class: C1, len: { kind: ll, max: 9 } }\n",
    );
    let mut index = Index::new();
    let mut read =
        |message: &[u8]| text(&mut decode(&spec, Check::Strict, message, &mut index).unwrap(), 44);
    assert_eq!(read(b"02000000000000000000"), None);
    assert_eq!(read(b"0200000000000010000000"), Some(String::new()));
    assert_eq!(read(b"0200000000000010000002  "), Some("  ".to_owned()));
}

#[test]
fn an_edit_touches_what_it_names_and_tells_the_observer() {
    let spec = parse(
        "bitmap: hex\nfields:\n  2: { name: pan, kind: n, class: PAN, len: { kind: ll, max: 19 } }\n  11: { name: trace, kind: n, class: C1, len: 6 }\n  70: { name: code, kind: n, class: C1, len: 3 }\n",
    );
    // The bitmap is in small letters, which stays while the fields stay.
    let message = b"0800c0200000000000000400000000000000044111000012001";
    let mut decoder = Decoder::new(&spec, Check::Strict);
    let (mut index, mut touched) = (Index::new(), Touched::default());
    let mut view = decoder.decode_for(message, &mut index, &mut touched).unwrap();
    let Some(Read::Guarded(pan)) = view.read(2) else { panic!("guarded") };
    assert_eq!((pan.masked().as_str(), format!("{pan:?}").as_str()), ("***", "PAN(..)"));
    assert!(pan.canonical().is_some());
    let mut draft = Draft::of(view);
    let mut out = Vec::new();
    draft.set_text(11, "000099").unwrap();
    draft.write(&mut out).unwrap();
    assert_eq!(out, b"0800c0200000000000000400000000000000044111000099001");
    draft.remove(70);
    assert_eq!(draft.set_text(11, "12345").unwrap_err().reason, Reason::FieldLength);
    assert_eq!(draft.set_text(11, "12345x").unwrap_err().reason, Reason::Characters);
    assert_eq!(draft.set_text(1, "1").unwrap_err().reason, Reason::Reserved);
    assert_eq!(draft.set_text(12, "1").unwrap_err().reason, Reason::UnknownField);
    out.clear();
    draft.write(&mut out).unwrap();
    assert_eq!(out, b"0800C0200000000000000000000000000000044111000099");
    drop(draft);
    assert_eq!(touched.read.iter().collect::<Vec<_>>(), [2]);
    assert_eq!(touched.changed.iter().collect::<Vec<_>>(), [11, 70]);
    assert_eq!(touched.classes(&spec), [2, 0, 1, 0, 0]);
}

#[test]
fn a_third_bitmap_follows_the_second_or_is_field_65() {
    let yaml = |how: &str| {
        format!(
            "tertiary: {how}\nfields:\n  66: {{ name: a, kind: n, class: C1, len: 1 }}\n  130: {{ name: b, kind: n, class: C1, len: 2 }}\n"
        )
    };
    for (how, expected) in [("follows", "122"), ("field65", "122")] {
        let spec = parse(&yaml(how));
        let mut draft = Draft::new(&spec, "0800".parse().unwrap());
        draft.set_text(130, "22").unwrap();
        draft.set_text(66, "1").unwrap();
        let mut out = Vec::new();
        draft.write(&mut out).unwrap();
        let mut index = Index::new();
        let mut view = decode(&spec, Check::Strict, &out, &mut index).unwrap();
        let both = text(&mut view, 66).unwrap() + &text(&mut view, 130).unwrap();
        assert_eq!((both.as_str(), out.len()), (expected, 4 + 24 + 3));
        let mut draft = Draft::of(decode(&spec, Check::Strict, &out, &mut index).unwrap());
        draft.remove(130);
        let mut less = Vec::new();
        draft.write(&mut less).unwrap();
        assert!(decode(&spec, Check::Strict, &less, &mut Index::new()).is_ok());
        draft.set_text(130, "22").unwrap();
        let mut again = Vec::new();
        draft.write(&mut again).unwrap();
        assert!(again == out);
    }
    // Bit 1 of the third bitmap would announce a fourth.
    let spec = parse(&yaml("follows"));
    let bits = [1_u64 << 63, 1 << 63, 1 << 63].map(u64::to_be_bytes).concat();
    assert_eq!(refused(&spec, &[b"0800", &bits[..]].concat()), (Reason::Bitmap, 129, 20));
}

#[test]
fn odd_digits_are_filled_on_either_side() {
    for (pad, bytes) in [
        ("left0", [0x01, 0x23]),
        ("leftf", [0xf1, 0x23]),
        ("right0", [0x12, 0x30]),
        ("rightf", [0x12, 0x3f]),
    ] {
        let spec = parse(&format!(
            "digits: bcd\nfields:\n  49: {{ name: currency, kind: n, class: C1, len: 3, pad: {pad} }}\n"
        ));
        let mut draft = Draft::new(&spec, "0200".parse().unwrap());
        draft.set_text(49, "123").unwrap();
        let mut out = Vec::new();
        draft.write(&mut out).unwrap();
        assert_eq!(out[12..], bytes, "{pad}");
        for wrong in [[0xa1, 0x23], [0x12, 0x3a], [0x1b, 0x23], [0x91, 0x29]] {
            out.truncate(12);
            out.extend(wrong);
            assert_eq!(refused(&spec, &out).0, Reason::Characters, "{pad}");
        }
    }
}

#[test]
fn parts_have_names_and_classes_of_their_own() {
    let spec = Spec::parse(SHIPPED[5].1).unwrap();
    let mut draft = Draft::new(&spec, "0200".parse().unwrap());
    let mut header = vec![b'0'; 46];
    (header[0], header[1]) = (0x2e, 0x82);
    draft.set_header(&header);
    draft.set_text(48, "AA003abcZZ001!").unwrap();
    draft.set_text(60, "00012").unwrap();
    draft.set_text(61, &format!("{:<22}06123456", "11010519491231002X")).unwrap();
    draft.set_bytes(62, b"\xa004road05phone").unwrap();
    draft.set_text(55, "5A0862220202001122339F2602ABCD").unwrap();
    assert_eq!(draft.set_text(48, "AA009abc").unwrap_err().reason, Reason::Parts);
    assert_eq!(draft.set_text(60, "0001x").unwrap_err().reason, Reason::Characters);
    assert_eq!(draft.set_text(55, "5A09").unwrap_err().reason, Reason::TlvLength);
    let mut out = Vec::new();
    draft.write(&mut out).unwrap();
    let mut index = Index::new();
    let mut view = decode(&spec, Check::Strict, &out, &mut index).unwrap();
    let mut seen = Vec::new();
    for number in [48, 55, 60, 61, 62] {
        assert!(view.find(2).is_none() && view.open(2).is_none());
        for item in view.open(number).unwrap() {
            let item = item.unwrap();
            let shown = match item.value {
                Read::Clear(value) => {
                    let mut text = String::new();
                    value.text(&mut text).unwrap();
                    text
                }
                Read::Guarded(guarded) => format!("{guarded:?}"),
            };
            let label = match item.label {
                Label::Name(name) => name.to_owned(),
                Label::Unnamed(at) => format!("#{at}"),
                Label::Tag(tag) => tag.to_string(),
            };
            seen.push(format!("{label}={shown}"));
        }
    }
    assert_eq!(
        seen.join(" "),
        "billing=abc #1=21 5A=PAN(..) 9F26=ABCD reason_code=0001 account_type=2 \
         id_number=11010519491231002X     cvv2_check=SAD(..) route=road contact=phone"
    );
}

#[test]
fn shapes_that_never_come_again_make_few_plans_and_read_the_same() {
    let spec = shipped().next().unwrap();
    let mut decoders = [Decoder::new(spec, Check::Strict), Decoder::new(spec, Check::Lazy)];
    for seed in 0..600 {
        assert!(agree(spec, &mut decoders, &sample(spec, seed).bytes), "{seed}");
    }
}
