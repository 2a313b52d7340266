//! Paths of the messages as a tree, made of tables.txt once.

use std::sync::LazyLock;

use moat_model::Class;

/// What a value must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Any text.
    Text,
    /// A decimal with a currency beside it.
    Amount,
    /// A decimal.
    Decimal,
    /// A whole number.
    Count,
    /// A date, with or without zone.
    Date,
    /// Date and time, with or without zone.
    DateTime,
    /// ISO 9362.
    Bic,
    /// ISO 13616.
    Iban,
    /// ISO 17442.
    Lei,
    /// A version 4 UUID (RFC 9562).
    Uetr,
}

/// A value that a table names.
#[derive(Debug)]
pub struct Entry {
    /// Its name: the same as in JSON and ISO 8583.
    pub name: String,
    /// Its class.
    pub class: Class,
    /// What it looks like.
    pub kind: Type,
}

/// An element of the tree.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// First letters, name, node.
    children: Vec<(u64, String, u16)>,
    /// What its text is.
    pub(super) entry: Option<Entry>,
    /// Whether it is one transaction.
    pub(super) is_transaction: bool,
}

/// A message type: `pacs.008`, and where its tree begins.
pub(super) struct Table {
    pub(super) kind: &'static str,
    /// The element that the tree begins in: `Document`, `AppHdr`.
    pub(super) root: &'static str,
    pub(super) node: u16,
}

pub(super) struct Tables {
    pub(super) nodes: Vec<Node>,
    pub(super) tables: Vec<Table>,
}

/// Nothing is known of what is in it.
pub(super) const UNKNOWN: u16 = 0;
/// Lines of the file, once components are put in; a table that puts in itself would have no end.
const DEPTH_MAX: usize = 8;

pub(super) static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let mut tables = Tables { nodes: vec![Node::default()], tables: Vec::new() };
    let text = include_str!("tables.txt");
    let mut from = None;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (words.as_slice(), from) {
            (["message", kind, root], _) => from = Some(tables.begin(kind, root)),
            (["component", _], _) => from = None,
            (_, Some(node)) => tables.add(text, node, "", &words, 0),
            (_, None) => {}
        }
    }
    tables
});

impl Tables {
    fn begin(&mut self, kind: &'static str, path: &'static str) -> u16 {
        let (root, inner) = path.split_once('/').unwrap_or((path, ""));
        let node = self.push();
        self.tables.push(Table { kind, root, node });
        self.walk(node, inner)
    }

    fn push(&mut self) -> u16 {
        self.nodes.push(Node::default());
        u16::try_from(self.nodes.len() - 1).unwrap_or(UNKNOWN)
    }

    /// The node at the end of a path, made if need be.
    fn walk(&mut self, from: u16, path: &str) -> u16 {
        let mut at = from;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            at = match self.child(at, name.as_bytes()) {
                UNKNOWN => {
                    let new = self.push();
                    if let Some(node) = self.nodes.get_mut(usize::from(at)) {
                        node.children.push((first_letters(name.as_bytes()), name.to_owned(), new));
                    }
                    new
                }
                known => known,
            };
        }
        at
    }

    /// One line of a message or component: below `from`, names led by `lead`.
    fn add(&mut self, text: &str, from: u16, lead: &str, words: &[&str], depth: usize) {
        let (path, rest) = match words {
            [path, rest @ ..] if !path.starts_with('@') => (*path, rest),
            words => ("", words),
        };
        let (path, is_transaction) = match path.strip_prefix('*') {
            Some(path) => (path, true),
            None => (path, false),
        };
        let node = self.walk(from, path);
        if is_transaction {
            // The marked element is the repeated one: the first two steps at most.
            self.mark(from, path);
        }
        match rest {
            [name, class, kind] => {
                let name =
                    if lead.is_empty() { (*name).to_owned() } else { format!("{lead}_{name}") };
                let entry = class.parse().ok().zip(of(kind));
                if let Some(node) = self.nodes.get_mut(usize::from(node)) {
                    node.entry = entry.map(|(class, kind)| Entry { name, class, kind });
                }
            }
            [component, lead_in @ ..] if depth < DEPTH_MAX => {
                let component = component.trim_start_matches('@');
                let inner = lead_in.first().copied().unwrap_or_default();
                let lead = match (lead.is_empty(), inner.is_empty()) {
                    (true, _) => inner.to_owned(),
                    (false, true) => lead.to_owned(),
                    (false, false) => format!("{lead}_{inner}"),
                };
                let title = format!("component {component}");
                let lines = text.lines().skip_while(|line| *line != title).skip(1);
                for line in lines.take_while(|line| line.starts_with(' ')) {
                    let words: Vec<&str> = line.split_whitespace().collect();
                    self.add(text, node, &lead, &words, depth + 1);
                }
            }
            _ => {}
        }
    }

    /// Marks the element of a path that is one transaction, by its name.
    fn mark(&mut self, from: u16, path: &str) {
        const NAMES: [&str; 8] = [
            "CdtTrfTxInf",
            "DrctDbtTxInf",
            "TxInfAndSts",
            "TxInf",
            "Ntry",
            "CdtInstr",
            "RptgReq",
            "CxlDtls",
        ];
        let steps: Vec<&str> = path.split('/').collect();
        let Some(at) = steps.iter().position(|step| NAMES.contains(step)) else { return };
        let node = self.walk(from, &steps.get(..=at).unwrap_or_default().join("/"));
        if let Some(node) = self.nodes.get_mut(usize::from(node)) {
            node.is_transaction = true;
        }
    }

    /// The child of that name; [`UNKNOWN`] if there is none.
    #[inline]
    pub(super) fn child(&self, at: u16, name: &[u8]) -> u16 {
        if at == UNKNOWN {
            return UNKNOWN;
        }
        let children = self.nodes.get(usize::from(at)).map_or(&[][..], |node| &node.children);
        // Most names differ in their first letters, which are one comparison.
        let first = first_letters(name);
        let is_this = |(letters, child, _): &&(u64, String, u16)| {
            *letters == first
                && child.len() == name.len()
                && (name.len() <= 8 || child.as_bytes() == name)
        };
        children.iter().find(is_this).map_or(UNKNOWN, |(_, _, node)| *node)
    }

    pub(super) fn node(&self, at: u16) -> Option<&Node> {
        if at == UNKNOWN { None } else { self.nodes.get(usize::from(at)) }
    }

    /// The table of a namespace and the element that its tree begins in.
    pub(super) fn table(&self, namespace: &str, root: &[u8]) -> Option<&Table> {
        let kind = namespace.strip_prefix("urn:iso:std:iso:20022:tech:xsd:")?;
        let is_this = |table: &&Table| {
            let version = kind.strip_prefix(table.kind);
            version.is_some_and(|version| version.starts_with('.')) && table.root.as_bytes() == root
        };
        self.tables.iter().find(is_this)
    }
}

/// The first eight bytes of a name as a number. With the length, which is asked too, it says which
/// they are.
#[inline]
fn first_letters(name: &[u8]) -> u64 {
    match name.first_chunk() {
        Some(eight) => u64::from_be_bytes(*eight),
        None => name.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

fn of(kind: &str) -> Option<Type> {
    Some(match kind {
        "text" => Type::Text,
        "amount" => Type::Amount,
        "decimal" => Type::Decimal,
        "count" => Type::Count,
        "date" => Type::Date,
        "datetime" => Type::DateTime,
        "bic" => Type::Bic,
        "iban" => Type::Iban,
        "lei" => Type::Lei,
        "uetr" => Type::Uetr,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_tables_is_understood() {
        let text = include_str!("tables.txt");
        let components: Vec<&str> =
            text.lines().filter_map(|l| l.strip_prefix("component ")).collect();
        for line in text.lines().filter(|line| line.starts_with(' ')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let good = match words.as_slice() {
                [_, component] | [_, component, _] if component.starts_with('@') => {
                    components.contains(&&component[1..])
                }
                [component] => components.contains(&&component[1..]),
                [_, _, class, kind] => class.parse::<Class>().is_ok() && of(kind).is_some(),
                _ => false,
            };
            assert!(good, "{line}");
        }
        assert_eq!(TABLES.tables.len(), 16);
        assert!(TABLES.nodes.len() < usize::from(u16::MAX));
        for table in TABLES.tables.iter().filter(|table| table.kind != "head.001") {
            assert_ne!(TABLES.child(table.node, b"x"), table.node);
        }
    }

    #[test]
    fn paths_lead_to_names() {
        let ns = "urn:iso:std:iso:20022:tech:xsd:pacs.008.001.08";
        let mut at = TABLES.table(ns, b"Document").unwrap().node;
        for name in ["FIToFICstmrCdtTrf", "CdtTrfTxInf", "DbtrAcct", "Id", "IBAN"] {
            at = TABLES.child(at, name.as_bytes());
            assert_eq!(TABLES.node(at).unwrap().is_transaction, name == "CdtTrfTxInf");
        }
        let entry = TABLES.node(at).unwrap().entry.as_ref().unwrap();
        assert_eq!((entry.name.as_str(), entry.kind), ("debtor_iban", Type::Iban));
        assert!(TABLES.table(ns, b"AppHdr").is_none());
        assert!(TABLES.table("urn:iso:std:iso:20022:tech:xsd:pacs.0081", b"Document").is_none());
        assert!(TABLES.table("urn:example:pacs.008.001.08", b"Document").is_none());
    }
}
