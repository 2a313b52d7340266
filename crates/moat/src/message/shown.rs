//! The fields of a message as they may be shown.

use moat_mask::Scalar;
use moat_mask::view::{AuditView, audit};
use moat_message::iso8583::{Item, Label};
use moat_message::{Read, Value, View};
use moat_model::Class;
use zeroize::Zeroizing;

/// A field or part as it may be shown.
pub(super) struct Shown {
    pub(super) name: String,
    pub(super) class: Class,
    pub(super) depth: usize,
    pub(super) text: String,
    pub(super) parts: Vec<Shown>,
}

/// A field; `None` when it is not there.
pub(super) fn field(view: &mut View<'_>, number: u8, show_c2: bool) -> Option<Shown> {
    let name = view.spec().field(number)?.name().to_owned();
    let class = view.find(number)?.class;
    // A field with parts is shown by them: each has a class of its own.
    let inside: Option<Vec<Shown>> = view
        .open(number)
        .map(|items| items.map_while(Result::ok).map(|i| part(&i, show_c2)).collect());
    let text = match &inside {
        Some(_) => String::new(),
        None => value(&view.read(number)?, show_c2),
    };
    Some(Shown { name, class, depth: 0, text, parts: inside.unwrap_or_default() })
}

fn part(item: &Item<'_>, show_c2: bool) -> Shown {
    let (class, is_template) = match (&item.value, item.label) {
        (Read::Clear(value), Label::Tag(tag)) => (value.field().class(), tag.is_template()),
        (Read::Guarded(guarded), Label::Tag(tag)) => (guarded.class(), tag.is_template()),
        (Read::Clear(value), _) => (value.field().class(), false),
        (Read::Guarded(guarded), _) => (guarded.class(), false),
    };
    let name = match item.label {
        Label::Name(name) => name.to_owned(),
        Label::Unnamed(at) => format!("part {at}"),
        Label::Tag(tag) => tag.to_string(),
    };
    // What is in a template comes next.
    let text = if is_template { String::new() } else { value(&item.value, show_c2) };
    Shown { name, class, depth: item.depth, text, parts: Vec::new() }
}

fn value(read: &Read<'_>, show_c2: bool) -> String {
    match read {
        Read::Guarded(guarded) => guarded.masked(),
        Read::Clear(value) => clear(value, show_c2),
    }
}

/// C1 as it is; C2 as the record would have it, unless it was asked for.
fn clear(value: &Value<'_>, show_c2: bool) -> String {
    let mut text = Zeroizing::new(String::new());
    if value.text(&mut text).is_err() {
        // No text stands for these bytes: the characters were not checked.
        text.push_str("hex:");
        text.push_str(&data_encoding::HEXUPPER.encode(value.bytes()));
    }
    let class = value.field().class();
    if class == Class::C1 || show_c2 {
        return text.as_str().to_owned();
    }
    match audit(class, &Scalar::Text(text), None) {
        AuditView::MaskedAndAnchored(text) => text,
        AuditView::Clear(_) | AuditView::AnchorOnly | AuditView::Nothing => String::new(),
    }
}
