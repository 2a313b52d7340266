//! Values that leave only as views, and types made of them.
//!
//! A [`Classified`] value has no `Debug`, `Display`, `Serialize`, `Deref`, `AsRef`, `PartialEq` or
//! `Hash`: that it stands in no log is a matter of types. `#[derive(Classify)]` gives a type the four
//! views; a field without a class does not compile.
//!
//! ```
//! use moat_mask::{Classified, Classify, TypePlan, Strategy};
//!
//! #[derive(Classify)]
//! struct Owner {
//!     #[class(C2, mask = "name")]
//!     name: Classified<String>,
//!     #[class(C2, mask = "mobile")]
//!     mobile: Classified<String>,
//! }
//!
//! #[derive(Classify)]
//! struct Account {
//!     #[class(C1)]
//!     id: Classified<String>,
//!     #[class(PAN, mask = "bank_card")]
//!     card: Classified<String>,
//!     #[class(C3)]
//!     password: Classified<String>,
//!     #[class(nested)]
//!     owner: Owner,
//! }
//!
//! let account = Account {
//!     id: Classified::new("acc-1".to_owned()),
//!     card: Classified::new("4111111111111111".to_owned()),
//!     password: Classified::new("hunter2".to_owned()),
//!     owner: Owner {
//!         name: Classified::new("欧阳修".to_owned()),
//!         mobile: Classified::new("13800138000".to_owned()),
//!     },
//! };
//! let plan = TypePlan::of::<Account>();
//! let mut shown = Vec::new();
//! plan.client(&account, &mut shown);
//! assert_eq!(String::from_utf8_lossy(&shown),
//!     r#"{"id":"acc-1","card":"411111******1111","owner":{"name":"欧阳*","mobile":"138****8000"}}"#);
//!
//! let auditor = plan.with("/card", "bank_card_strict".parse::<Strategy>()?)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A field without a class does not compile:
//! ```compile_fail
//! use moat_mask::{Classified, Classify};
//! #[derive(Classify)]
//! struct Account { card: Classified<String> }
//! ```
//! A mask that the class does not allow does not compile:
//! ```compile_fail
//! use moat_mask::{Classified, Classify};
//! #[derive(Classify)]
//! struct Login { #[class(C3, mask = "mobile")] password: Classified<String> }
//! fn visited(login: &Login, visitor: &mut dyn moat_mask::Visitor) { login.visit(0, visitor) }
//! ```
//! Nor does a class below the highest of a nested type:
//! ```compile_fail
//! use moat_mask::{Classified, Classify};
//! #[derive(Classify)]
//! struct Card { #[class(PAN)] number: Classified<String> }
//! #[derive(Classify)]
//! struct Account { #[class(nested, C1)] card: Card }
//! fn visited(account: &Account, visitor: &mut dyn moat_mask::Visitor) { account.visit(0, visitor) }
//! ```
//! A plain field, a class that there is not, and a view as text do not compile either:
//! ```compile_fail
//! # use moat_mask::{Classified, Classify};
//! #[derive(Classify)]
//! struct Account { #[class(C1)] id: String }
//! ```
//! ```compile_fail
//! # use moat_mask::{Classified, Classify};
//! #[derive(Classify)]
//! struct Account { #[class(C4)] id: Classified<String> }
//! ```
//! ```compile_fail
//! # use moat_mask::Classified;
//! println!("{:?}", Classified::new("4111111111111111".to_owned()));
//! ```
//! ```compile_fail
//! # use moat_mask::{Classified, Leaf};
//! fn open(card: &Classified<String>) -> moat_mask::Scalar { card.scalar() }
//! ```
//! ```compile_fail
//! # use moat_mask::Classified;
//! #[derive(serde::Serialize)]
//! struct Account { card: Classified<String> }
//! ```

use moat_model::Class;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::capture::Scalar;
use crate::machine::put_escaped;
use crate::plan::PlanError;
use crate::strategy::{Strategy, fixed};
use crate::view::{self, AuditView, Declared, PolicyView};

/// A value that leaves this crate only as a view. Wiped when dropped, compared in constant time.
pub struct Classified<T: Value>(T);

impl<T: Value> Classified<T> {
    /// Takes a value in.
    pub fn new(value: T) -> Classified<T> {
        Classified(value)
    }

    /// Whether two values are the same. Takes as long for any two of one length.
    #[must_use]
    pub fn is_same(&self, other: &Classified<T>) -> bool {
        let (mine, theirs) = (self.0.scalar(), other.0.scalar());
        match (mine.as_text(), theirs.as_text()) {
            (Some(mine), Some(theirs)) => mine.as_bytes().ct_eq(theirs.as_bytes()).into(),
            _ => false,
        }
    }
}

impl<T: Value> Drop for Classified<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Something that can be looked at as a scalar; only for this crate's eyes.
///
/// Its methods take an argument that only this crate can make.
pub trait Leaf: sealed::Sealed {
    #[doc(hidden)]
    fn scalar(&self, with: sealed::Opener) -> Scalar;
    /// Writes the value as JSON.
    #[doc(hidden)]
    fn write(&self, out: &mut Vec<u8>, with: sealed::Opener);
    /// The text, if it is one already.
    #[doc(hidden)]
    fn text(&self, with: sealed::Opener) -> Option<&str>;
}

/// What can be classified: texts, numbers, booleans, and any of them or nothing.
pub trait Value: Zeroize + sealed::Sealed {
    #[doc(hidden)]
    fn scalar(&self) -> Scalar;
    #[doc(hidden)]
    fn text(&self) -> Option<&str> {
        None
    }
    #[doc(hidden)]
    fn write(&self, out: &mut Vec<u8>);
}

mod sealed {
    /// Only the types of this module can be classified.
    pub trait Sealed {}

    /// Opens a classified value.
    #[derive(Clone, Copy)]
    pub struct Opener(pub(super) ());
}

const OPEN: sealed::Opener = sealed::Opener(());

impl<T: Value> sealed::Sealed for Classified<T> {}

impl<T: Value> Leaf for Classified<T> {
    fn scalar(&self, _: sealed::Opener) -> Scalar {
        self.0.scalar()
    }

    fn write(&self, out: &mut Vec<u8>, _: sealed::Opener) {
        self.0.write(out);
    }

    fn text(&self, _: sealed::Opener) -> Option<&str> {
        self.0.text()
    }
}

impl sealed::Sealed for String {}

impl Value for String {
    fn scalar(&self) -> Scalar {
        Scalar::Text(Zeroizing::new(self.clone()))
    }

    fn text(&self) -> Option<&str> {
        Some(self)
    }

    fn write(&self, out: &mut Vec<u8>) {
        put_text(self, out);
    }
}

impl sealed::Sealed for bool {}

impl Value for bool {
    fn scalar(&self) -> Scalar {
        Scalar::Bool(*self)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if *self { b"true" } else { b"false" });
    }
}

macro_rules! numbers {
    ($($kind:ty)*) => {$(
        impl sealed::Sealed for $kind {}

        impl Value for $kind {
            fn scalar(&self) -> Scalar {
                Scalar::Number(Zeroizing::new(self.to_string()))
            }

            fn write(&self, out: &mut Vec<u8>) {
                // Writing to a vector does not fail.
                let _ = std::io::Write::write_fmt(out, format_args!("{self}"));
            }
        }
    )*};
}

numbers!(i16 i32 i64 i128 u16 u32 u64 u128);

impl<T: Value> sealed::Sealed for Option<T> {}

impl<T: Value> Value for Option<T> {
    fn scalar(&self) -> Scalar {
        self.as_ref().map_or(Scalar::Null, Value::scalar)
    }

    fn text(&self) -> Option<&str> {
        self.as_ref()?.text()
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.write(out),
            None => out.extend_from_slice(b"null"),
        }
    }
}

/// A field of a classified type, as declared.
pub struct FieldSpec {
    name: &'static str,
    kind: SpecKind,
}

enum SpecKind {
    Leaf(Class, Option<&'static str>),
    Nested(fn(&str, &mut Vec<FieldRow>)),
}

impl FieldSpec {
    /// A classified value.
    #[must_use]
    pub const fn leaf(name: &'static str, class: Class, mask: Option<&'static str>) -> FieldSpec {
        FieldSpec { name, kind: SpecKind::Leaf(class, mask) }
    }

    /// A value of a classified type.
    #[must_use]
    pub const fn nested(name: &'static str, table: fn(&str, &mut Vec<FieldRow>)) -> FieldSpec {
        FieldSpec { name, kind: SpecKind::Nested(table) }
    }
}

/// A row of a type's table: the place in it is the field's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRow {
    /// Where the field stands, as a pattern.
    pub pointer: String,
    /// Its class.
    pub class: Class,
    /// How it is declared to be shown; none for C1.
    pub strategy: Option<Strategy>,
}

/// A type whose fields are classified; made by `#[derive(Classify)]`.
pub trait Classify {
    /// The fields in their order.
    const FIELDS: &'static [FieldSpec];
    /// How many ids they take, nested ones included.
    const COUNT: usize;
    /// The strictest class among them.
    const HIGHEST: Class;

    /// Shows each field to a visitor; `at` is the id of the first.
    fn visit(&self, at: usize, visitor: &mut dyn Visitor);
}

/// Shows the fields of an object to a visitor.
pub type Fields<'a> = &'a mut dyn FnMut(&mut dyn Visitor);

/// What the fields of a value are shown to. Only this crate has one.
pub trait Visitor {
    /// A classified value.
    fn leaf(&mut self, id: usize, name: &'static str, class: Class, value: &dyn Leaf);
    /// A value of a classified type, or a list of such.
    fn nested(&mut self, name: &'static str, visit: Fields<'_>);
    /// A list begins; nothing follows the last of `length` elements.
    fn list(&mut self, length: usize, each: &mut dyn FnMut(usize, &mut dyn Visitor));
    /// An object, or nothing.
    fn object(&mut self, visit: Option<Fields<'_>>);
}

/// A classified type, a list of them, or one or nothing.
pub trait Nested {
    /// See [`Classify::COUNT`].
    const COUNT: usize;
    /// See [`Classify::HIGHEST`].
    const HIGHEST: Class;

    /// The rows of the fields below `pointer`.
    fn table(pointer: &str, rows: &mut Vec<FieldRow>);
    /// Shows what is there to a visitor.
    fn visit(&self, at: usize, visitor: &mut dyn Visitor);
}

impl<T: Classify> Nested for T {
    const COUNT: usize = T::COUNT;
    const HIGHEST: Class = T::HIGHEST;

    fn table(pointer: &str, rows: &mut Vec<FieldRow>) {
        for field in T::FIELDS {
            let pointer = format!("{pointer}/{}", field.name);
            match field.kind {
                SpecKind::Nested(table) => table(&pointer, rows),
                SpecKind::Leaf(class, mask) => {
                    let declared = mask.and_then(|name| name.parse().ok());
                    let strategy = declared.or(default_mask(class));
                    rows.push(FieldRow { pointer, class, strategy });
                }
            }
        }
    }

    fn visit(&self, at: usize, visitor: &mut dyn Visitor) {
        visitor.object(Some(&mut |visitor| Classify::visit(self, at, visitor)));
    }
}

impl<T: Classify> Nested for Option<T> {
    const COUNT: usize = T::COUNT;
    const HIGHEST: Class = T::HIGHEST;

    fn table(pointer: &str, rows: &mut Vec<FieldRow>) {
        <T as Nested>::table(pointer, rows);
    }

    fn visit(&self, at: usize, visitor: &mut dyn Visitor) {
        match self {
            Some(value) => Nested::visit(value, at, visitor),
            None => visitor.object(None),
        }
    }
}

impl<T: Classify> Nested for Vec<T> {
    const COUNT: usize = T::COUNT;
    const HIGHEST: Class = T::HIGHEST;

    fn table(pointer: &str, rows: &mut Vec<FieldRow>) {
        <T as Nested>::table(&format!("{pointer}/*"), rows);
    }

    fn visit(&self, at: usize, visitor: &mut dyn Visitor) {
        visitor.list(self.len(), &mut |place, visitor| {
            if let Some(value) = self.get(place) {
                Nested::visit(value, at, visitor);
            }
        });
    }
}

/// How a class is shown where nothing is declared.
fn default_mask(class: Class) -> Option<Strategy> {
    match class {
        Class::C1 => None,
        Class::C2 => Some(Strategy::Fixed),
        Class::Pan => Some(Strategy::BANK_CARD),
        Class::C3 | Class::Sad => Some(Strategy::Drop),
    }
}

/// Whether a class is above another. At compile time, for the macro.
#[must_use]
pub const fn is_stricter(class: Class, than: Class) -> bool {
    rank(class) > rank(than)
}

/// The strictest of some classes. At compile time, for the macro.
#[must_use]
pub const fn strictest(classes: &[Class]) -> Class {
    let mut highest = Class::C1;
    let mut rest = classes;
    while let Some((class, others)) = rest.split_first() {
        if is_stricter(*class, highest) {
            highest = *class;
        }
        rest = others;
    }
    highest
}

const fn rank(class: Class) -> u8 {
    class as u8
}

/// Masks without arguments, and the highest class that each may show, for the macro.
const MASKS: [(&str, Class); 7] = [
    ("fixed", Class::Sad),
    ("null", Class::Sad),
    ("drop", Class::Sad),
    ("hash_anchor", Class::C3),
    ("bank_card", Class::Pan),
    ("bank_card_strict", Class::Pan),
    ("fpe", Class::Pan),
];
/// Masks that show too much of everything above C2.
const MASKS_OF_C2: [&str; 20] = [
    "id_card",
    "id_card_strict",
    "mobile",
    "mobile_strict",
    "uscc",
    "uscc_strict",
    "passport",
    "passport_strict",
    "plate",
    "plate_strict",
    "name",
    "name_strict",
    "email",
    "email_strict",
    "address",
    "address_strict",
    "ip",
    "geo",
    "geo_strict",
    "date_to_year",
];

/// Whether a mask is known and hides enough for a class. At compile time, for the macro.
#[must_use]
pub const fn may_show(class: Class, mask: &str) -> bool {
    let mut rest: &[(&str, Class)] = &MASKS;
    while let Some(((name, highest), others)) = rest.split_first() {
        if same(name, mask) {
            return !is_stricter(class, *highest);
        }
        rest = others;
    }
    let mut rest: &[&str] = &MASKS_OF_C2;
    while let Some((name, others)) = rest.split_first() {
        if same(name, mask) {
            return matches!(class, Class::C1 | Class::C2);
        }
        rest = others;
    }
    false
}

const fn same(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while let (Some((x, more_a)), Some((y, more_b))) = (a.split_first(), b.split_first()) {
        if *x != *y {
            return false;
        }
        (a, b) = (more_a, more_b);
    }
    a.is_empty() && b.is_empty()
}

/// How the fields of a type are shown. Data: it may change from one call to the next, and one view is
/// wholly by one plan, which it is handed.
#[derive(Clone, Debug)]
pub struct TypePlan {
    rows: Vec<FieldRow>,
}

impl TypePlan {
    /// As the type declares.
    #[must_use]
    pub fn of<T: Classify>() -> TypePlan {
        let mut rows = Vec::with_capacity(T::COUNT);
        <T as Nested>::table("", &mut rows);
        TypePlan { rows }
    }

    /// The rows, in the order of ids.
    #[must_use]
    pub fn rows(&self) -> &[FieldRow] {
        &self.rows
    }

    /// The same, with another strategy for the field of this pointer.
    ///
    /// # Errors
    /// There is no such field, or the strategy shows more than its class allows.
    pub fn with(mut self, pointer: &str, strategy: Strategy) -> Result<TypePlan, PlanError> {
        let row = self.row(pointer)?;
        if !strategy.allowed_for(row.class) {
            let (pattern, class) = (pointer.to_owned(), row.class);
            return Err(PlanError::TooOpen { pattern, class, strategy });
        }
        row.strategy = Some(strategy);
        Ok(self)
    }

    /// The same, with the field of this pointer shown as it is. The caller has a permit that names
    /// field and purpose, and records it.
    ///
    /// # Errors
    /// There is no such field, or its class is never revealed: C3, PAN, SAD.
    pub fn revealing(mut self, pointer: &str) -> Result<TypePlan, PlanError> {
        let row = self.row(pointer)?;
        if is_stricter(row.class, Class::C2) {
            return Err(PlanError::NeverRevealed { pattern: pointer.to_owned(), class: row.class });
        }
        row.strategy = None;
        Ok(self)
    }

    fn row(&mut self, pointer: &str) -> Result<&mut FieldRow, PlanError> {
        let row = self.rows.iter_mut().find(|row| row.pointer == pointer);
        row.ok_or_else(|| PlanError::NoField { pattern: pointer.to_owned() })
    }

    /// The client's view, as JSON.
    pub fn client<T: Classify>(&self, value: &T, out: &mut Vec<u8>) {
        let mut writer = Writer { plan: Some(self), out, comma: false, shown: String::new() };
        Nested::visit(value, 0, &mut writer);
    }

    /// The view of the service that owns the data, as JSON: everything in clear. It is for the
    /// connection to that service and nothing else.
    pub fn upstream<T: Classify>(&self, value: &T, out: &mut Vec<u8>) {
        let mut writer = Writer { plan: None, out, comma: false, shown: String::new() };
        Nested::visit(value, 0, &mut writer);
    }

    /// The policy's view: pointer and what it may see. `declared` are the C2 fields it may see.
    pub fn policy<T: Classify>(
        &self,
        value: &T,
        declared: &[&str],
        each: &mut dyn FnMut(&str, PolicyView<'_>),
    ) {
        self.walk(value, &mut |row, pointer, scalar| {
            let known = declared.contains(&row.pointer.as_str());
            let known = if known { Declared::Yes } else { Declared::No };
            each(pointer, view::policy(row.class, scalar, known));
        });
    }

    /// The record's view: pointer, class, what it holds, and the value for an anchor.
    pub fn audit<T: Classify>(
        &self,
        value: &T,
        each: &mut dyn FnMut(&str, Class, AuditView, &Scalar),
    ) {
        self.walk(value, &mut |row, pointer, scalar| {
            let shown = view::audit(row.class, scalar, row.strategy);
            let withheld = Scalar::Withheld;
            let scalar = if row.class == Class::Sad { &withheld } else { scalar };
            each(pointer, row.class, shown, scalar);
        });
    }

    fn walk<T: Classify>(&self, value: &T, each: &mut dyn FnMut(&FieldRow, &str, &Scalar)) {
        let mut walker = Walker { plan: self, path: String::new(), each };
        Nested::visit(value, 0, &mut walker);
    }
}

/// Writes JSON: masked by a plan, or in clear.
struct Writer<'a> {
    plan: Option<&'a TypePlan>,
    out: &'a mut Vec<u8>,
    /// Whether a member stands in front.
    comma: bool,
    shown: String,
}

impl Writer<'_> {
    fn name(&mut self, name: &str) {
        if core::mem::replace(&mut self.comma, true) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn masked(&mut self, strategy: Strategy, class: Class, value: &dyn Leaf) {
        let room;
        let text = match value.text(OPEN) {
            Some(text) => text,
            None => {
                room = value.scalar(OPEN);
                match &room {
                    Scalar::Null => return self.out.extend_from_slice(b"null"),
                    Scalar::Bool(_) => fixed(class),
                    other => other.as_text().unwrap_or(fixed(class)),
                }
            }
        };
        if strategy == Strategy::Null {
            return self.out.extend_from_slice(b"null");
        }
        self.shown.clear();
        strategy.write(class, text, &mut self.shown);
        put_text(&self.shown, self.out);
    }
}

impl Visitor for Writer<'_> {
    fn leaf(&mut self, id: usize, name: &'static str, class: Class, value: &dyn Leaf) {
        let Some(plan) = self.plan else {
            self.name(name);
            return value.write(self.out, OPEN);
        };
        // A field that the plan does not know, which cannot be, is not shown.
        let row = plan.rows.get(id).map_or(Some(Strategy::Drop), |row| row.strategy);
        match row {
            Some(Strategy::Drop) => {}
            Some(strategy) => {
                self.name(name);
                self.masked(strategy, class, value);
            }
            None => {
                self.name(name);
                value.write(self.out, OPEN);
            }
        }
    }

    fn nested(&mut self, name: &'static str, visit: Fields<'_>) {
        self.name(name);
        visit(self);
    }

    fn list(&mut self, length: usize, each: &mut dyn FnMut(usize, &mut dyn Visitor)) {
        self.out.push(b'[');
        for place in 0..length {
            if place > 0 {
                self.out.push(b',');
            }
            each(place, self);
        }
        self.out.push(b']');
    }

    fn object(&mut self, visit: Option<Fields<'_>>) {
        let Some(visit) = visit else { return self.out.extend_from_slice(b"null") };
        self.out.push(b'{');
        let comma = core::mem::replace(&mut self.comma, false);
        visit(self);
        self.comma = comma;
        self.out.push(b'}');
    }
}

/// Tells each field by its concrete pointer.
struct Walker<'a> {
    plan: &'a TypePlan,
    path: String,
    each: &'a mut dyn FnMut(&FieldRow, &str, &Scalar),
}

impl Visitor for Walker<'_> {
    fn leaf(&mut self, id: usize, name: &'static str, _: Class, value: &dyn Leaf) {
        let before = self.path.len();
        self.path.push('/');
        self.path.push_str(name);
        if let Some(row) = self.plan.rows.get(id) {
            (self.each)(row, &self.path, &value.scalar(OPEN));
        }
        self.path.truncate(before);
    }

    fn nested(&mut self, name: &'static str, visit: Fields<'_>) {
        let before = self.path.len();
        self.path.push('/');
        self.path.push_str(name);
        visit(self);
        self.path.truncate(before);
    }

    fn list(&mut self, length: usize, each: &mut dyn FnMut(usize, &mut dyn Visitor)) {
        let before = self.path.len();
        for place in 0..length {
            self.path.push_str(&format!("/{place}"));
            each(place, self);
            self.path.truncate(before);
        }
    }

    fn object(&mut self, visit: Option<Fields<'_>>) {
        if let Some(visit) = visit {
            visit(self);
        }
    }
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    put_escaped(text, out);
    out.push(b'"');
}

#[cfg(test)]
mod tests;
