//! From YAML to the flat table, and every check in between.

use moat_model::Class;
use moat_model::code::message as codes;

use super::raw::{
    RawBitmap, RawDigits, RawEnc, RawField, RawForm, RawLen, RawLenEnc, RawLengths, RawPart,
    RawParts, RawSpec, RawVariable,
};
use super::{
    Enc, Field, Kind, LenEnc, Length, LengthDigits, Pad, Part, PartForm, Parts, Rule, Spec,
    SpecError, Tertiary, Unit,
};
use crate::ebcdic::{self, Page};
use crate::frame::Framing;
use crate::iso8583::Op;
use crate::limit::{
    FIELD_COUNT_MAX, FIELD_MAX, NAME_BYTES_MAX, SPEC_BYTES_MAX, SPEC_PARTS_MAX, SPEC_TAGS_MAX,
};

/// What is wrong with a field, before its number is known.
type Wrong = String;

/// What a field falls back to.
#[derive(Clone, Copy)]
struct Defaults {
    page: Option<Page>,
    digits: RawDigits,
    lengths: RawLengths,
}

pub(super) fn compile(yaml: &str) -> Result<Spec, SpecError> {
    if yaml.len() > SPEC_BYTES_MAX {
        return Err(syntax(None, format!("it is longer than {SPEC_BYTES_MAX} bytes")));
    }
    let raw: RawSpec = serde_saphyr::from_str(yaml).map_err(|error| {
        let error = error.without_snippet();
        let place = error.location().map(|place| (place.line(), place.column()));
        let text = error.to_string();
        syntax(place, text.lines().next().unwrap_or_default().to_owned())
    })?;
    name(&raw.spec).map_err(|wrong| syntax(None, wrong))?;
    let page = raw.text.page();
    let defaults = Defaults { page, digits: raw.digits, lengths: raw.lengths };
    let mut spec = Spec {
        name: raw.spec,
        about: raw.about,
        text: page,
        mti: if raw.mti == RawDigits::Bcd { Enc::Bcd } else { Enc::Text(page) },
        bitmap_hex: matches!(raw.bitmap, RawBitmap::Hex),
        tertiary: raw.tertiary,
        header: raw.header,
        framing: raw
            .framing
            .map(|f| Framing { form: f.length, includes_itself: f.includes_itself }),
        fields: Vec::new(),
        ops: vec![Op::NONE; usize::from(FIELD_MAX) + 1],
        objects: Class::ALL.into_iter().map(Field::opaque).collect(),
    };
    let mut seen: Vec<&str> = Vec::new();
    spec.fields.resize_with(usize::from(FIELD_MAX) + 1, || None);
    for (number, raw) in &raw.fields {
        let wrong = |message| SpecError {
            code: &codes::SPEC_FIELD,
            field: Some(*number),
            place: None,
            message,
        };
        range(&spec, *number).map_err(wrong)?;
        if seen.contains(&raw.name.as_str()) {
            return Err(wrong(format!("`{}` names another field too", raw.name)));
        }
        seen.push(&raw.name);
        let field = field(raw, defaults).map_err(wrong)?;
        if let Some(op) = spec.ops.get_mut(usize::from(*number)) {
            *op = Op::new(&field.rule);
        }
        if let Some(slot) = spec.fields.get_mut(usize::from(*number)) {
            *slot = Some(field);
        }
    }
    Ok(spec)
}

fn syntax(place: Option<(u64, u64)>, message: String) -> SpecError {
    SpecError { code: &codes::SPEC_SYNTAX, field: None, place, message }
}

fn name(text: &str) -> Result<(), Wrong> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(good) {
        return Err(format!(
            "a name has 1 to {NAME_BYTES_MAX} letters, digits, dots, dashes, underscores"
        ));
    }
    Ok(())
}

fn class(text: &str) -> Result<Class, Wrong> {
    text.parse().map_err(|wrong: moat_model::class::UnknownClass| wrong.to_string())
}

fn range(spec: &Spec, number: u8) -> Result<(), Wrong> {
    let last = if spec.tertiary == Tertiary::None { 128 } else { FIELD_MAX };
    if spec.is_bitmap(number) {
        return Err("this bit announces a bitmap; remove it".to_owned());
    }
    if !(2..=last).contains(&number) {
        return Err(format!("fields go from 2 to {last} here"));
    }
    Ok(())
}

fn field(raw: &RawField, defaults: Defaults) -> Result<Field, Wrong> {
    name(&raw.name)?;
    let rule = rule(raw.kind, raw.enc, raw.pad, raw.len, defaults)?;
    let mut strictest = class(&raw.class)?;
    let tags = tags(raw, &mut strictest)?;
    let parts = match (&raw.parts, raw.kind) {
        (Some(parts), Kind::Composite) => Some(Box::new(compile_parts(parts, defaults)?)),
        (None, Kind::Composite) => return Err("a composite needs `parts`".to_owned()),
        (Some(_), _) => return Err("only a composite has `parts`".to_owned()),
        (None, _) => None,
    };
    let inner = parts.iter().flat_map(|parts| parts.items.iter()).map(|part| part.field.class);
    let class = inner.fold(strictest, Class::max);
    if raw.decimals.is_some_and(|decimals| decimals > 9) {
        return Err("an amount has at most 9 decimals".to_owned());
    }
    if raw.decimals.is_some() && !matches!(raw.kind, Kind::N | Kind::Xn) {
        return Err("only n and xn have `decimals`".to_owned());
    }
    Ok(Field { rule, name: raw.name.clone(), class, decimals: raw.decimals, tags, parts })
}

/// A TLV field is as strict as its strictest tag that is a card number or worse: its bytes as a
/// whole are then not handed out, object by object they are.
fn tags(raw: &RawField, strictest: &mut Class) -> Result<Vec<(u32, Class)>, Wrong> {
    if raw.kind != Kind::Tlv && !raw.tags.is_empty() {
        return Err("only tlv has `tags`".to_owned());
    }
    if raw.tags.len() > SPEC_TAGS_MAX {
        return Err(format!("there are more than {SPEC_TAGS_MAX} tags"));
    }
    let mut tags = Vec::with_capacity(raw.tags.len());
    for (tag, text) in &raw.tags {
        let class = class(text)?;
        let wrong = || format!("`{tag}` is no tag of one to three bytes in hexadecimal");
        tags.push((crate::tlv::Tag::from_hex(tag).ok_or_else(wrong)?.number(), class));
        *strictest = (*strictest).max(class);
    }
    tags.sort_by_key(|(tag, _)| *tag);
    if tags.array_windows().any(|[a, b]| a.0 == b.0) {
        return Err("a tag stands twice, in different letters".to_owned());
    }
    Ok(tags)
}

fn rule(
    kind: Kind,
    enc: Option<RawEnc>,
    pad: Option<Pad>,
    len: RawLen,
    defaults: Defaults,
) -> Result<Rule, Wrong> {
    let enc = encoding(kind, enc, defaults)?;
    if pad.is_some() && enc != Enc::Bcd {
        return Err("only BCD has `pad`".to_owned());
    }
    let usual = if kind == Kind::Z { Pad::RightF } else { Pad::Left0 };
    let rule = Rule {
        kind,
        enc,
        pad: pad.unwrap_or(usual),
        page: defaults.page,
        length: Length::Fixed { count: 0, bytes: 0 },
    };
    let length = match len {
        RawLen::Fixed(count) => fixed(rule, count)?,
        RawLen::Variable(variable) => compile_variable(rule, variable, defaults)?,
    };
    Ok(Rule { length, ..rule })
}

fn encoding(kind: Kind, enc: Option<RawEnc>, defaults: Defaults) -> Result<Enc, Wrong> {
    let usual = match kind {
        Kind::N | Kind::Z | Kind::Xn if defaults.digits == RawDigits::Bcd => RawEnc::Bcd,
        Kind::B | Kind::Tlv => RawEnc::Binary,
        _ => RawEnc::Text,
    };
    let enc = match enc.unwrap_or(usual) {
        RawEnc::Text => Enc::Text(defaults.page),
        RawEnc::Ascii => Enc::Text(None),
        RawEnc::Cp037 => Enc::Text(Some(Page::Cp037)),
        RawEnc::Cp500 => Enc::Text(Some(Page::Cp500)),
        RawEnc::Cp1047 => Enc::Text(Some(Page::Cp1047)),
        RawEnc::Bcd => Enc::Bcd,
        RawEnc::Binary => Enc::Binary,
        RawEnc::Hex => Enc::Hex(defaults.page),
        RawEnc::Gbk => Enc::Gbk,
        RawEnc::Gb18030 => Enc::Gb18030,
    };
    let fits = match kind {
        Kind::N | Kind::Z | Kind::Xn => matches!(enc, Enc::Text(_) | Enc::Bcd),
        Kind::B => matches!(enc, Enc::Binary | Enc::Hex(_)),
        Kind::Tlv => enc == Enc::Binary,
        Kind::A | Kind::An | Kind::As | Kind::Ns => matches!(enc, Enc::Text(_)),
        Kind::Ans => matches!(enc, Enc::Text(_) | Enc::Gbk | Enc::Gb18030),
        Kind::Composite => matches!(enc, Enc::Text(_) | Enc::Binary),
    };
    if fits { Ok(enc) } else { Err("this kind is never in this encoding".to_owned()) }
}

/// Bytes of so many units.
pub(crate) fn value_bytes(rule: Rule, unit: Unit, count: u16) -> u32 {
    let count = u32::from(count);
    let sign = u32::from(rule.kind == Kind::Xn);
    match (unit, rule.enc) {
        (Unit::Bytes, _) | (Unit::Nibbles, Enc::Text(_) | Enc::Gbk | Enc::Gb18030) => count,
        (Unit::Digits | Unit::Nibbles, Enc::Bcd) => count.div_ceil(2) + sign,
        (Unit::Nibbles, Enc::Binary) => count.div_ceil(2),
        (Unit::Nibbles, Enc::Hex(_)) => count,
        (Unit::Digits, Enc::Hex(_)) => count * 2,
        (Unit::Digits, Enc::Text(_)) => count + sign,
        (Unit::Digits, Enc::Binary | Enc::Gbk | Enc::Gb18030) => count,
    }
}

fn fixed(rule: Rule, count: u16) -> Result<Length, Wrong> {
    if count == 0 || count > FIELD_COUNT_MAX {
        return Err(format!("a fixed length is from 1 to {FIELD_COUNT_MAX}"));
    }
    let bytes = value_bytes(rule, Unit::Digits, count);
    let bytes = u16::try_from(bytes).map_err(|_| "it is too long".to_owned())?;
    Ok(Length::Fixed { count, bytes })
}

fn compile_variable(rule: Rule, raw: RawVariable, defaults: Defaults) -> Result<Length, Wrong> {
    let enc = match (raw.enc, defaults.lengths) {
        (Some(RawLenEnc::Ascii), _) => LenEnc::Text(None),
        (Some(RawLenEnc::Text), _) | (None, RawLengths::Text) => LenEnc::Text(defaults.page),
        (Some(RawLenEnc::Bcd), _) | (None, RawLengths::Bcd) => LenEnc::Bcd,
        (Some(RawLenEnc::Binary), _) | (None, RawLengths::Binary) => LenEnc::Binary,
    };
    let (digits, most): (u8, u16) = match raw.kind {
        LengthDigits::L => (1, 9),
        LengthDigits::Ll => (2, 99),
        LengthDigits::Lll => (3, 999),
        LengthDigits::Llll => (4, 9_999),
    };
    let (prefix_bytes, most) = match enc {
        LenEnc::Text(_) => (digits, most),
        LenEnc::Bcd => (digits.div_ceil(2), most),
        LenEnc::Binary if digits <= 2 => (1, 255),
        LenEnc::Binary => (2, FIELD_COUNT_MAX),
    };
    let itself = if raw.includes_itself { u16::from(prefix_bytes) } else { 0 };
    if raw.max == 0 || raw.max.checked_add(itself).is_none_or(|whole| whole > most) {
        return Err(format!("`max` is from 1 to {}", most.saturating_sub(itself)));
    }
    if rule.kind == Kind::Xn {
        return Err("xn has a fixed length".to_owned());
    }
    if raw.unit == Unit::Nibbles && rule.enc != Enc::Bcd {
        return Err("only BCD is counted in nibbles".to_owned());
    }
    let includes_itself = raw.includes_itself;
    Ok(Length::Variable { enc, prefix_bytes, unit: raw.unit, max: raw.max, includes_itself })
}

fn compile_parts(raw: &RawParts, defaults: Defaults) -> Result<Parts, Wrong> {
    if raw.items.is_empty() || raw.items.len() > SPEC_PARTS_MAX {
        return Err(format!("a composite has 1 to {SPEC_PARTS_MAX} parts"));
    }
    let form = match raw.form {
        RawForm::Positional => PartForm::Positional,
        RawForm::Tagged if (1..=4).contains(&raw.tag) && (1..=4).contains(&raw.length) => {
            let (tag_bytes, length_digits) = (raw.tag, raw.length);
            PartForm::Tagged { tag_bytes, length_digits, page: defaults.page }
        }
        RawForm::Tagged => return Err("tags and their lengths have 1 to 4 characters".to_owned()),
        RawForm::Bitmap if (1..=8).contains(&raw.bitmap_bytes) => {
            PartForm::Bitmap { bytes: raw.bitmap_bytes }
        }
        RawForm::Bitmap => return Err("`bitmap_bytes` is from 1 to 8".to_owned()),
    };
    let mut items: Vec<Part> = Vec::with_capacity(raw.items.len());
    for raw in &raw.items {
        let part = part(raw, form, defaults).map_err(|wrong| format!("{}: {wrong}", raw.name))?;
        let again = |other: &Part| match form {
            PartForm::Positional => other.field.name == part.field.name,
            PartForm::Tagged { .. } => other.tag == part.tag,
            PartForm::Bitmap { .. } => other.bit >= part.bit,
        };
        if items.iter().any(again) {
            return Err(format!("{}: it stands twice, or out of order", part.field.name));
        }
        items.push(part);
    }
    Ok(Parts { form, items, unknown: Field::opaque(Class::C2) })
}

fn part(raw: &RawPart, form: PartForm, defaults: Defaults) -> Result<Part, Wrong> {
    name(&raw.name)?;
    let kind = raw.kind.unwrap_or(Kind::Ans);
    if matches!(kind, Kind::Composite | Kind::Tlv) {
        return Err("a part is neither composite nor tlv".to_owned());
    }
    let (len, tag, bit) = match (form, raw.len, &raw.tag, raw.bit) {
        (PartForm::Positional, Some(len), None, None) => (len, Vec::new(), 0),
        (PartForm::Tagged { tag_bytes, page, .. }, None, Some(tag), None) => {
            let tag = written_tag(tag, usize::from(tag_bytes), page)?;
            // The length stands behind the tag: up to what its digits say.
            (RawLen::Fixed(1), tag, 0)
        }
        (PartForm::Bitmap { bytes }, Some(len), None, Some(bit))
            if (1..=bytes.saturating_mul(8)).contains(&bit) =>
        {
            (len, Vec::new(), bit)
        }
        (PartForm::Positional, ..) => return Err("a part by position has `len` only".to_owned()),
        (PartForm::Tagged { .. }, ..) => return Err("a part by tag has `tag` only".to_owned()),
        (PartForm::Bitmap { .. }, ..) => return Err("a part by bitmap has `bit`, `len`".to_owned()),
    };
    let rule = rule(kind, raw.enc, raw.pad, len, defaults)?;
    let (name, class) = (raw.name.clone(), class(&raw.class)?);
    let field = Field { rule, name, class, decimals: None, tags: Vec::new(), parts: None };
    Ok(Part { tag, bit, field })
}

fn written_tag(tag: &str, bytes: usize, page: Option<Page>) -> Result<Vec<u8>, Wrong> {
    if tag.len() != bytes || !tag.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("a tag has {bytes} characters"));
    }
    let write = |byte: u8| page.map_or(byte, |page| ebcdic::from_ascii(page, byte));
    Ok(tag.bytes().map(write).collect())
}
