//! The state machine over the events of the XML reader.

use core::ops::Range;

use moat_model::Class;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use zeroize::Zeroizing;

use super::leaf::{Leaf, escape};
use super::table::{TABLES, UNKNOWN};
use crate::error::{MessageError, Reason};
use crate::limit::{
    XML_ATTRIBUTES_MAX, XML_BYTES_MAX, XML_DEPTH_MAX, XML_NAMESPACES_MAX, XML_TEXT_BYTES_MAX,
    XML_TRANSACTIONS_MAX, XML_WRAPPER_BYTES_MAX,
};

/// What a document holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Message types, such as `pacs.008`, in the order in which they begin; at most four.
    pub kinds: Vec<&'static str>,
    /// Transactions, as the tables mark them.
    pub transactions: u32,
    /// Values.
    pub values: u32,
    /// Values that no table names: of class C2.
    pub unnamed: u32,
}

/// Most messages in one document: a header and a body, twice.
const KINDS_MAX: usize = 4;

/// An element that is open.
#[derive(Clone, Copy)]
struct Open {
    node: u16,
    /// Whether an element was in it.
    has_elements: bool,
    /// Where its local name is.
    name: (u32, u32),
    /// The prefix of its name is as long as this.
    prefix: u8,
    /// How many namespaces were declared when it began.
    namespaces: u8,
}

/// A prefix and its namespace.
#[derive(Clone, Copy)]
struct Declared<'a> {
    prefix: &'a [u8],
    namespace: &'a str,
}

/// The text that is being read.
#[derive(Clone, Copy)]
struct Text {
    start: usize,
    end: usize,
    /// Whether the bytes are the value: no reference, no CDATA.
    is_plain: bool,
    is_there: bool,
}

const NO_TEXT: Text = Text { start: 0, end: 0, is_plain: true, is_there: false };

/// Cuts off the header line `{H:…}` of domestic systems: header, then the XML.
///
/// # Errors
/// When the header does not end within its limit.
pub fn unwrap(document: &[u8]) -> Result<(&[u8], &[u8]), MessageError> {
    if !document.starts_with(b"{H:") {
        return Ok((&[], document));
    }
    let head = document.get(..XML_WRAPPER_BYTES_MAX.min(document.len())).unwrap_or_default();
    let end = head.iter().position(|byte| *byte == b'}');
    let end = end.ok_or_else(|| MessageError::new(Reason::Xml, 0, head.len()))? + 1;
    let rest = document.get(end..).unwrap_or_default();
    let breaks = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    Ok(document.split_at_checked(end + breaks).unwrap_or((document, &[])))
}

/// Calls `on` for every value of the document, in order.
///
/// # Errors
/// What is wrong first, or what `on` refuses.
pub fn walk<'a>(
    document: &'a [u8],
    on: impl FnMut(&Leaf<'a, '_>) -> Result<(), MessageError>,
) -> Result<Summary, MessageError> {
    let text = readable(document)?;
    let mut walker = Walker {
        text,
        reader: Reader::from_str(text),
        open: Vec::with_capacity(XML_DEPTH_MAX),
        namespaces: Vec::new(),
        pending: NO_TEXT,
        currency: None,
        summary: Summary::default(),
        on,
        has_root: false,
    };
    walker.reader.config_mut().check_comments = true;
    while walker.step()? {}
    Ok(walker.summary)
}

/// UTF-8 without control characters, of bounded length.
fn readable(document: &[u8]) -> Result<&str, MessageError> {
    if document.len() > XML_BYTES_MAX {
        return Err(MessageError::new(Reason::XmlLimit, 0, XML_BYTES_MAX));
    }
    let wrong = |at| MessageError::new(Reason::Xml, 0, at);
    let text = core::str::from_utf8(document).map_err(|error| wrong(error.valid_up_to()))?;
    // XML 1.0 §2.2: of control characters only tab, line feed and carriage return.
    let is_bad = |byte: &u8| (*byte < 0x20) & !matches!(*byte, b'\t' | b'\n' | b'\r');
    let any = |chunk: &[u8]| chunk.iter().fold(false, |any, byte| any | is_bad(byte));
    match document.chunks(64).position(any) {
        None => Ok(text),
        Some(chunk) => Err(wrong(chunk * 64)),
    }
}

struct Walker<'a, F> {
    text: &'a str,
    reader: Reader<&'a [u8]>,
    open: Vec<Open>,
    namespaces: Vec<Declared<'a>>,
    pending: Text,
    /// The attribute `Ccy` of the element that began last.
    currency: Option<&'a str>,
    summary: Summary,
    on: F,
    has_root: bool,
}

impl<'a, F: FnMut(&Leaf<'a, '_>) -> Result<(), MessageError>> Walker<'a, F> {
    fn at(&self) -> usize {
        usize::try_from(self.reader.buffer_position()).unwrap_or(usize::MAX)
    }

    /// One event; whether there are more.
    #[inline]
    fn step(&mut self) -> Result<bool, MessageError> {
        let start = self.at();
        let wrong = |reason| MessageError::new(reason, 0, start);
        let event = match self.reader.read_event() {
            Ok(event) => event,
            Err(_) => {
                let at = usize::try_from(self.reader.error_position()).unwrap_or(start);
                return Err(MessageError::new(Reason::Xml, 0, at));
            }
        };
        match event {
            Event::Start(tag) => self.begin(start, &tag)?,
            Event::Empty(tag) => {
                self.begin(start, &tag)?;
                let at = self.at();
                self.end(at)?;
            }
            Event::End(_) => self.end(start)?,
            Event::Text(_) => self.add(start, true)?,
            Event::CData(_) => self.add(start, false)?,
            Event::GeneralRef(reference) => {
                // Any other entity would have to be defined by the document.
                let known = [&b"lt"[..], b"gt", b"amp", b"quot", b"apos"];
                if !known.contains(&reference.as_bytes())
                    && !matches!(reference.resolve_char_ref(), Ok(Some(c)) if is_character(c))
                {
                    return Err(wrong(Reason::XmlRefused));
                }
                self.add(start, false)?;
            }
            // In the middle of a value, two readers could see two values.
            Event::Comment(_) if self.pending.is_there && !self.is_blank() => {
                return Err(wrong(Reason::XmlRefused));
            }
            Event::Comment(_) => self.pending = NO_TEXT,
            Event::Decl(declaration) => {
                let encoding = declaration.encoding();
                let is_utf8 = match &encoding {
                    None => true,
                    Some(Ok(name)) => name.eq_ignore_ascii_case("utf-8"),
                    Some(Err(_)) => false,
                };
                if start != 0 || !is_utf8 {
                    return Err(wrong(Reason::Xml));
                }
            }
            Event::PI(_) | Event::DocType(_) => return Err(wrong(Reason::XmlRefused)),
            Event::Eof => {
                let is_whole = self.open.is_empty() && self.has_root;
                return if is_whole { Ok(false) } else { Err(wrong(Reason::Xml)) };
            }
        }
        Ok(true)
    }

    /// Text from `start` to where the reader is.
    #[inline]
    fn add(&mut self, start: usize, is_plain: bool) -> Result<(), MessageError> {
        let end = self.at();
        if self.pending.is_there {
            self.pending.end = end;
            self.pending.is_plain &= is_plain;
        } else {
            self.pending = Text { start, end, is_plain, is_there: true };
        }
        if self.pending.end - self.pending.start > XML_TEXT_BYTES_MAX {
            return Err(MessageError::new(Reason::XmlLimit, 0, start));
        }
        // Beside elements only white space may stand, and nothing else outside the root.
        let beside = self.open.last().is_none_or(|open| open.has_elements);
        if beside && !self.is_blank() {
            return Err(MessageError::new(Reason::Xml, 0, start));
        }
        Ok(())
    }

    fn is_blank(&self) -> bool {
        let pending = self.text.as_bytes().get(self.pending.start..self.pending.end);
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        pending.is_none_or(|text| text.iter().all(blank))
    }

    fn begin(&mut self, start: usize, tag: &BytesStart<'_>) -> Result<(), MessageError> {
        let wrong = |reason| MessageError::new(reason, 0, start);
        if self.pending.is_there && !self.is_blank() {
            return Err(wrong(Reason::Xml));
        }
        self.pending = NO_TEXT;
        if self.open.len() == XML_DEPTH_MAX {
            return Err(wrong(Reason::XmlLimit));
        }
        let declared_before = self.namespaces.len();
        let (name_bytes, whole) = (tag.name().as_ref().len(), tag.len());
        // The tag as it stands in the document, behind `<`.
        let inside = self.text.get(start + 1..start + 1 + whole).ok_or(wrong(Reason::Xml))?;
        let (qualified, attributes) =
            inside.split_at_checked(name_bytes).ok_or(wrong(Reason::Xml))?;
        if !is_name(qualified) {
            return Err(wrong(Reason::Xml));
        }
        self.currency = None;
        if !attributes.is_empty() {
            self.attributes(start, attributes)?;
        }
        let prefix = qualified.find(':').unwrap_or(0);
        let local = if prefix == 0 { qualified } else { qualified.get(prefix + 1..).unwrap_or("") };
        let has_declared = self.namespaces.len() > declared_before;
        let node = self.node(qualified.get(..prefix).unwrap_or(""), local, has_declared);
        if node.1 {
            self.summary.transactions += 1;
            if self.summary.transactions > XML_TRANSACTIONS_MAX {
                return Err(wrong(Reason::XmlLimit));
            }
        }
        if self.open.is_empty() {
            if self.has_root {
                return Err(wrong(Reason::Xml));
            }
            self.has_root = true;
        }
        if let Some(parent) = self.open.last_mut() {
            parent.has_elements = true;
        }
        let narrow = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let name_at = start + 1 + qualified.len() - local.len();
        self.open.push(Open {
            node: node.0,
            has_elements: false,
            name: (narrow(name_at), narrow(local.len())),
            prefix: u8::try_from(prefix).map_err(|_| wrong(Reason::XmlLimit))?,
            namespaces: u8::try_from(declared_before).unwrap_or(u8::MAX),
        });
        Ok(())
    }

    /// The node of an element, and whether it is one transaction.
    #[inline]
    fn node(&mut self, prefix: &str, local: &str, has_declared: bool) -> (u16, bool) {
        let parent = self.open.last();
        let parent_prefix = parent.and_then(|open| {
            let end = usize::try_from(open.name.0).ok()?;
            let length = usize::from(open.prefix);
            let start = end.checked_sub(length + usize::from(length > 0))?;
            self.text.get(start..start + length)
        });
        // Below its parent, in the namespace of its parent.
        if let Some(parent) = parent
            && parent.node != UNKNOWN
            && !has_declared
            && parent_prefix == Some(prefix)
        {
            let node = TABLES.child(parent.node, local.as_bytes());
            return (node, TABLES.node(node).is_some_and(|node| node.is_transaction));
        }
        let mut declared = self.namespaces.iter().rev();
        let found = declared.find(|declared| declared.prefix == prefix.as_bytes());
        let table = found.and_then(|found| TABLES.table(found.namespace, local.as_bytes()));
        let Some(table) = table else { return (UNKNOWN, false) };
        if self.summary.kinds.len() < KINDS_MAX {
            self.summary.kinds.push(table.kind);
        }
        (table.node, false)
    }

    /// Namespaces and the currency.
    fn attributes(&mut self, start: usize, text: &'a str) -> Result<(), MessageError> {
        let wrong = |reason| MessageError::new(reason, 0, start);
        let mut rest = text.trim_ascii_start();
        let mut seen: [&str; XML_ATTRIBUTES_MAX] = [""; XML_ATTRIBUTES_MAX];
        for place in 0..=XML_ATTRIBUTES_MAX {
            if rest.is_empty() {
                return Ok(());
            }
            let (name, after) = rest.split_once('=').ok_or(wrong(Reason::Xml))?;
            let name = name.trim_ascii_end();
            let after = after.trim_ascii_start();
            let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''));
            let after = after.get(1..).ok_or(wrong(Reason::Xml))?;
            let end = quote.and_then(|quote| after.find(quote)).ok_or(wrong(Reason::Xml))?;
            let (value, after) =
                (after.get(..end).unwrap_or(""), after.get(end + 1..).unwrap_or(""));
            let is_apart = after.is_empty() || after.starts_with([' ', '\t', '\r', '\n']);
            if !is_name(name) || seen.contains(&name) || value.contains('<') || !is_apart {
                return Err(wrong(Reason::Xml));
            }
            *seen.get_mut(place).ok_or(wrong(Reason::XmlLimit))? = name;
            self.attribute(name, value).map_err(wrong)?;
            rest = after.trim_ascii_start();
        }
        Err(wrong(Reason::XmlLimit))
    }

    fn attribute(&mut self, name: &'a str, value: &'a str) -> Result<(), Reason> {
        let prefix = match name.strip_prefix("xmlns") {
            Some("") => Some(""),
            Some(rest) => rest.strip_prefix(':'),
            None => None,
        };
        if name == "Ccy" {
            self.currency = Some(value);
        }
        let Some(prefix) = prefix else { return Ok(()) };
        // A namespace with references in it is none of those that we know, and none that is meant.
        if value.contains('&') {
            return Err(Reason::XmlRefused);
        }
        if self.namespaces.len() == XML_NAMESPACES_MAX {
            return Err(Reason::XmlLimit);
        }
        self.namespaces.push(Declared { prefix: prefix.as_bytes(), namespace: value });
        Ok(())
    }

    fn end(&mut self, start: usize) -> Result<(), MessageError> {
        let Some(open) = self.open.last().copied() else {
            return Err(MessageError::new(Reason::Xml, 0, start));
        };
        if !open.has_elements {
            let pending = self.pending;
            // An empty element has its value, nothing, where it ends.
            let range = if pending.is_there { pending.start..pending.end } else { start..start };
            self.value(open.node, range, pending.is_plain)?;
        }
        self.pending = NO_TEXT;
        self.currency = None;
        self.namespaces.truncate(usize::from(open.namespaces));
        self.open.pop();
        Ok(())
    }

    fn value(
        &mut self,
        node: u16,
        range: Range<usize>,
        is_plain: bool,
    ) -> Result<(), MessageError> {
        let entry = TABLES.node(node).and_then(|node| node.entry.as_ref());
        self.summary.values += 1;
        self.summary.unnamed += u32::from(entry.is_none());
        let raw = self.text.get(range.clone()).unwrap_or("");
        let names = self.open.iter().filter_map(|open| {
            let (start, length) =
                (usize::try_from(open.name.0).ok()?, usize::try_from(open.name.1).ok()?);
            self.text.get(start..start.checked_add(length)?)
        });
        let path = &|| names.clone().collect::<Vec<_>>().join("/");
        let leaf = Leaf { entry, path, range, raw, is_plain, currency: self.currency };
        (self.on)(&leaf)
    }
}

/// XML 1.0 §2.2, without what no message has.
fn is_character(character: char) -> bool {
    character >= ' ' || matches!(character, '\t' | '\n' | '\r')
}

/// A name as messages have them: XML allows more.
fn is_name(name: &str) -> bool {
    let starts = name
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80);
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte) || byte >= 0x80;
    starts
        && name.bytes().all(good)
        && name.bytes().filter(|byte| *byte == b':').count() <= 1
        && !name.ends_with(':')
}

/// Copies the document to `out`, with other texts in place of those for which `other` gives one.
///
/// # Errors
/// As [`walk`]; `out` is as before.
pub fn rewrite(
    document: &[u8],
    out: &mut Vec<u8>,
    mut other: impl FnMut(&Leaf<'_, '_>) -> Option<Zeroizing<String>>,
) -> Result<Summary, MessageError> {
    let start = out.len();
    let mut copied = 0;
    out.reserve(document.len());
    let done = walk(document, |leaf| {
        // Nothing can be put into `<Nm/>` without writing the tag anew, and nothing is to be hidden.
        if leaf.range.is_empty() {
            return Ok(());
        }
        if let Some(text) = other(leaf) {
            out.extend_from_slice(document.get(copied..leaf.range.start).unwrap_or_default());
            escape(&text, out);
            copied = leaf.range.end;
        }
        Ok(())
    });
    match done {
        Ok(_) => out.extend_from_slice(document.get(copied..).unwrap_or_default()),
        Err(_) => out.truncate(start),
    }
    done
}

/// The class of what no table names.
pub(super) const UNNAMED: Class = Class::C2;
