//! HTTP message signatures (RFC 9421), as far as an answered challenge needs them: exactly the
//! method, the target and the digest of the content, signed over a nonce.
//!
//! The reader of structured fields (RFC 9651) is strict: what it does not write itself the same
//! way is refused.

use data_encoding::BASE64;

use crate::key::{KEY_ID_BYTES_MAX, PublicKey};

/// `tag` of a signature that answers a challenge.
pub const STEP_UP_TAG: &str = "moat-step-up";
/// What such a signature covers, in any order.
const COVERED: [&str; 3] = ["@method", "@target-uri", "content-digest"];
/// Longest field that is read, in bytes.
const FIELD_BYTES_MAX: usize = 8 * 1024;
/// Most members of a dictionary, of a list and of its parameters.
const MEMBERS_MAX: usize = 16;
/// Longest nonce, in bytes.
const NONCE_BYTES_MAX: usize = 256;
/// Longest signature, in bytes: RSA with 8192 bits.
const SIGNATURE_BYTES_MAX: usize = 1024;

/// Why a signature cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable(&'static str);

impl core::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.0)
    }
}

impl core::error::Error for Unreadable {}

/// A signature that says that it answers a challenge. Not verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepUpSignature {
    /// The nonce that it is over.
    pub nonce: String,
    /// Id of the key.
    pub key_id: String,
    /// When it ends, in seconds since 1970, where it says so.
    pub expires_s: Option<u64>,
    algorithm: Option<String>,
    covered: Vec<String>,
    /// The list and its parameters as they were sent, which is how they are signed.
    parameters: String,
    signature: Vec<u8>,
}

/// What was signed.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// The method.
    pub method: &'a str,
    /// The whole target: `https://host/path?query`.
    pub target_uri: &'a str,
    /// The field `Content-Digest` as it was sent.
    pub content_digest: &'a str,
}

impl StepUpSignature {
    /// Whether `key` made it over `signed`.
    #[must_use]
    pub fn is_by(&self, key: &PublicKey, signed: Signed<'_>) -> bool {
        let agrees = match (&self.algorithm, key.algorithm().http()) {
            (None, _) => true,
            (Some(named), Some(own)) => named == own,
            // No name stands for SM2.
            (Some(_), None) => false,
        };
        agrees && key.verifies(self.base(signed).as_bytes(), &self.signature)
    }

    /// The signature base (RFC 9421 §2.5).
    fn base(&self, signed: Signed<'_>) -> String {
        let mut base = String::with_capacity(512);
        for component in &self.covered {
            let value = match component.as_str() {
                "@method" => signed.method,
                "@target-uri" => signed.target_uri,
                _ => signed.content_digest,
            };
            base.push_str(&format!("\"{component}\": {value}\n"));
        }
        base.push_str(&format!("\"@signature-params\": {}", self.parameters));
        base
    }
}

/// Finds the one signature of a request that answers a challenge: none if no member of
/// `signature_input` has the tag.
///
/// # Errors
/// [`Unreadable`] if a field is malformed, if two signatures have the tag, or if the one that has it
/// covers anything but what it must.
pub fn step_up(
    signature_input: &str,
    signature: &str,
) -> Result<Option<StepUpSignature>, Unreadable> {
    let mut found = None;
    for (label, parameters, member) in inputs(signature_input)? {
        if member.text("tag") != Some(STEP_UP_TAG) {
            continue;
        }
        if found.is_some() {
            return Err(Unreadable("two signatures answer the challenge"));
        }
        found = Some((label, parameters, member));
    }
    let Some((label, parameters, member)) = found else { return Ok(None) };
    let mut sorted = member.list.clone();
    sorted.sort_unstable();
    if sorted != COVERED {
        return Err(Unreadable("it covers other components than it must"));
    }
    for (name, _) in &member.parameters {
        if !["created", "expires", "nonce", "alg", "keyid", "tag"].contains(&name.as_str()) {
            return Err(Unreadable("it has an unknown parameter"));
        }
    }
    let expires_s = match member.get("expires") {
        None => None,
        Some(Item::Integer(at)) => u64::try_from(*at).ok(),
        Some(_) => return Err(Unreadable("`expires` is no time")),
    };
    if member.get("created").is_some_and(|created| !matches!(created, Item::Integer(_))) {
        return Err(Unreadable("`created` is no time"));
    }
    let required = |name, most: usize| {
        let text = member.text(name).filter(|text| (1..=most).contains(&text.len()));
        text.map(str::to_owned).ok_or(Unreadable("`nonce` or `keyid` is missing"))
    };
    let algorithm = match member.get("alg") {
        None => None,
        Some(Item::Text(name)) => Some(name.clone()),
        Some(_) => return Err(Unreadable("`alg` is no text")),
    };
    let bytes = byte_members(signature)?.into_iter().find(|(name, _)| *name == label);
    let signature = bytes.ok_or(Unreadable("`Signature` has no member of that label"))?.1;
    if signature.len() > SIGNATURE_BYTES_MAX {
        return Err(Unreadable("the signature is too long"));
    }
    Ok(Some(StepUpSignature {
        nonce: required("nonce", NONCE_BYTES_MAX)?,
        key_id: required("keyid", KEY_ID_BYTES_MAX)?,
        expires_s,
        algorithm,
        covered: member.list,
        parameters,
        signature,
    }))
}

/// The SHA-256 of a `Content-Digest` field (RFC 9530 §2); digests by other algorithms may stand
/// beside it.
///
/// # Errors
/// [`Unreadable`] if the field is malformed or has no such digest.
pub fn sha256_of(content_digest: &str) -> Result<[u8; 32], Unreadable> {
    let members = byte_members(content_digest)?;
    let digest = members.into_iter().find(|(name, _)| name == "sha-256");
    let digest = digest.ok_or(Unreadable("`Content-Digest` has no sha-256"))?.1;
    digest.try_into().map_err(|_| Unreadable("sha-256 has not 32 bytes"))
}

/// A bare item (RFC 9651 §3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
    /// A token, a boolean, a decimal or a date: read over.
    Other,
}

/// An inner list of texts with its parameters.
struct Member {
    list: Vec<String>,
    parameters: Vec<(String, Item)>,
}

impl Member {
    fn get(&self, name: &str) -> Option<&Item> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, item)| item)
    }

    fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Item::Text(text)) => Some(text),
            _ => None,
        }
    }
}

/// Members of `Signature-Input`: label, list with parameters as sent, and the same read.
fn inputs(field: &str) -> Result<Vec<(String, String, Member)>, Unreadable> {
    let mut cursor = Cursor::new(field)?;
    let mut members: Vec<(String, String, Member)> = Vec::new();
    cursor.members(|cursor, label| {
        let begin = cursor.rest;
        let list = cursor.inner_list()?;
        let parameters = cursor.parameters()?;
        let length = begin.len() - cursor.rest.len();
        let sent = begin.get(..length).unwrap_or("").to_owned();
        members.push((label, sent, Member { list, parameters }));
        Ok(())
    })?;
    Ok(members)
}

/// A dictionary whose members are byte sequences without parameters.
fn byte_members(field: &str) -> Result<Vec<(String, Vec<u8>)>, Unreadable> {
    let mut cursor = Cursor::new(field)?;
    let mut members = Vec::new();
    cursor.members(|cursor, label| match cursor.item()? {
        Item::Bytes(bytes) => {
            members.push((label, bytes));
            Ok(())
        }
        _ => Err(Unreadable("a member is no byte sequence")),
    })?;
    Ok(members)
}

/// What is left to read.
struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn new(field: &'a str) -> Result<Cursor<'a>, Unreadable> {
        if field.len() > FIELD_BYTES_MAX || !field.is_ascii() {
            return Err(Unreadable("a field is too long or not ASCII"));
        }
        Ok(Cursor { rest: field.trim_matches(' ') })
    }

    /// Takes `c` if it comes next.
    fn takes(&mut self, c: char) -> bool {
        let rest = self.rest.strip_prefix(c);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Takes everything up to the first character that does not fit.
    fn while_fits(&mut self, fits: impl Fn(u8) -> bool) -> &'a str {
        let end = self.rest.bytes().position(|b| !fits(b)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    /// The members of a dictionary: `label=…, label=…`, each label once.
    fn members(
        &mut self,
        mut read: impl FnMut(&mut Cursor<'a>, String) -> Result<(), Unreadable>,
    ) -> Result<(), Unreadable> {
        let mut labels: Vec<String> = Vec::new();
        loop {
            let label = self.key()?;
            if labels.contains(&label) || labels.len() >= MEMBERS_MAX {
                return Err(Unreadable("a label stands twice, or there are too many"));
            }
            if !self.takes('=') {
                return Err(Unreadable("a member has no value"));
            }
            labels.push(label.clone());
            read(self, label)?;
            self.while_fits(|b| b == b' ' || b == b'\t');
            if self.rest.is_empty() {
                return Ok(());
            }
            if !self.takes(',') {
                return Err(Unreadable("something follows a member"));
            }
            self.while_fits(|b| b == b' ' || b == b'\t');
        }
    }

    /// RFC 9651 §4.2.3.3.
    fn key(&mut self) -> Result<String, Unreadable> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.*".contains(&b);
        let key = self.while_fits(fits);
        let begins = key.starts_with(|c: char| c.is_ascii_lowercase() || c == '*');
        if begins { Ok(key.to_owned()) } else { Err(Unreadable("a key is missing")) }
    }

    /// A list of texts that have no parameters of their own, one space between two.
    fn inner_list(&mut self) -> Result<Vec<String>, Unreadable> {
        if !self.takes('(') {
            return Err(Unreadable("a member is no list"));
        }
        let mut list = Vec::new();
        loop {
            if self.takes(')') {
                return Ok(list);
            }
            if list.len() >= MEMBERS_MAX || (!list.is_empty() && !self.takes(' ')) {
                return Err(Unreadable("a list is malformed or too long"));
            }
            let Item::Text(text) = self.item()? else {
                return Err(Unreadable("a component is no text"));
            };
            // Parameters of a component (`;sf`, `;req`) change what it is.
            let own = self.parameters()?;
            list.push(if own.is_empty() { text } else { format!("{text};") });
        }
    }

    fn parameters(&mut self) -> Result<Vec<(String, Item)>, Unreadable> {
        let mut parameters: Vec<(String, Item)> = Vec::new();
        while self.takes(';') {
            let key = self.key()?;
            if parameters.iter().any(|(known, _)| *known == key) || parameters.len() >= MEMBERS_MAX
            {
                return Err(Unreadable("a parameter stands twice, or there are too many"));
            }
            let value = if self.takes('=') { self.item()? } else { Item::Other };
            parameters.push((key, value));
        }
        Ok(parameters)
    }

    fn item(&mut self) -> Result<Item, Unreadable> {
        match self.rest.bytes().next() {
            Some(b'"') => self.text().map(Item::Text),
            Some(b':') => self.bytes().map(Item::Bytes),
            Some(b'-' | b'0'..=b'9') => {
                let digits = self.while_fits(|b| b == b'-' || b == b'.' || b.is_ascii_digit());
                let plain = digits.trim_start_matches('-');
                if digits.contains('.') {
                    return Ok(Item::Other);
                }
                let number = digits.parse().ok().filter(|_| plain.len() <= 15);
                number.map(Item::Integer).ok_or(Unreadable("a number is malformed"))
            }
            Some(_) => {
                let token =
                    |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/?@".contains(&b);
                let taken = self.while_fits(token);
                if taken.is_empty() {
                    Err(Unreadable("a value is missing"))
                } else {
                    Ok(Item::Other)
                }
            }
            None => Err(Unreadable("a value is missing")),
        }
    }

    /// RFC 9651 §4.2.5.
    fn text(&mut self) -> Result<String, Unreadable> {
        let unended = Unreadable("a text does not end or has a character that it must not");
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = self.rest.get(at + 1..).unwrap_or("");
                    return Ok(text);
                }
                '\\' => match chars.next() {
                    Some((_, c @ ('"' | '\\'))) => text.push(c),
                    _ => return Err(unended),
                },
                ' '..='~' => text.push(c),
                _ => return Err(unended),
            }
        }
        Err(unended)
    }

    /// RFC 9651 §4.2.7, with the padding that §4.1.8 asks for.
    fn bytes(&mut self) -> Result<Vec<u8>, Unreadable> {
        self.takes(':');
        let encoded = self.while_fits(|b| b != b':');
        if !self.takes(':') {
            return Err(Unreadable("a byte sequence does not end"));
        }
        BASE64.decode(encoded.as_bytes()).map_err(|_| Unreadable("a byte sequence is no base64"))
    }
}

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;
