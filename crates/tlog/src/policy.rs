//! Whom to believe: logs, witnesses, and how many of them (c2sp.org/tlog-policy).
//!
//! The file belongs to whoever verifies, never to the server. People write it, so space, comments
//! and the order of lines are free, as the specification has it. Stricter than it: the file must
//! be UTF-8.

use std::collections::BTreeSet;
use std::fmt;

use crate::checkpoint::SignedCheckpoint;
use crate::key::{Algorithm, VerifierKey};
use crate::note::{NoteError, Signed};
use crate::sign::Verifier;
use crate::text;

/// Longest file, in bytes.
pub const POLICY_BYTES_MAX: usize = 64 * 1024;
/// Most logs, and most witnesses; the specification asks for 32.
pub const KEYS_MAX: usize = 64;
/// Most groups; the specification asks for 32.
pub const GROUPS_MAX: usize = 64;

/// Why a file is no policy. The line is counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the policy: {what}")]
pub struct BadPolicy {
    /// Which line, 0 for the whole.
    pub line: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

/// Why a checkpoint is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// No log of the policy has the origin of the checkpoint as its name.
    #[error("the log is not one of the policy")]
    UnknownLog,
    /// The log did not sign it.
    #[error("no key of the log signed the checkpoint")]
    NotSigned,
    /// Too few witnesses cosigned it, or the wrong ones.
    #[error("the quorum of witnesses is missing; {cosigned} of {known} cosigned")]
    Quorum {
        /// How many of the policy's witnesses cosigned.
        cosigned: usize,
        /// How many the policy has.
        known: usize,
    },
    /// A signature in the name of a known key is wrong, or cannot be checked.
    #[error(transparent)]
    Note(#[from] NoteError),
}

/// A log.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Log {
    key: VerifierKey,
    url: Option<String>,
}

/// A witness or a group of what stands before it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Party {
    name: String,
    is: Is,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Is {
    Witness { key: VerifierKey, url: Option<String> },
    Group { threshold: usize, members: Vec<usize> },
}

/// Logs, witnesses and a quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<Log>,
    parties: Vec<Party>,
    /// Which party must have witnessed; `None` asks for no witness.
    quorum: Option<usize>,
}

/// A checkpoint that is believed, and because of whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted<'p> {
    /// The keys of the log that signed.
    pub logs: Vec<&'p VerifierKey>,
    /// The witnesses that cosigned, and the latest time that each gave, in seconds since 1970.
    pub witnesses: Vec<(&'p VerifierKey, u64)>,
}

impl Policy {
    /// The policy that asks for `k` of the witnesses; with `k` = 0 for none at all.
    ///
    /// # Errors
    /// When there are fewer witnesses than `k`, a key is twice there, or is not for its use.
    pub fn k_of_n(
        logs: &[VerifierKey],
        witnesses: &[VerifierKey],
        k: usize,
    ) -> Result<Policy, BadPolicy> {
        let mut file = String::new();
        for log in logs {
            file.push_str(&format!("log {log}\n"));
        }
        let names: Vec<String> = (1..=witnesses.len()).map(|n| format!("w{n}")).collect();
        for (name, witness) in names.iter().zip(witnesses) {
            file.push_str(&format!("witness {name} {witness}\n"));
        }
        if k == 0 {
            file.push_str("quorum none\n");
        } else {
            file.push_str(&format!("group q {k} {}\nquorum q\n", names.join(" ")));
        }
        Policy::parse(file.as_bytes())
    }

    /// Reads a policy file.
    ///
    /// # Errors
    /// When it is none; the error names the line.
    pub fn parse(bytes: &[u8]) -> Result<Policy, BadPolicy> {
        let whole = |what| BadPolicy { line: 0, what };
        if bytes.len() > POLICY_BYTES_MAX {
            return Err(whole("the file is too long"));
        }
        let mut rest = std::str::from_utf8(bytes).map_err(|_| whole("the file is not UTF-8"))?;
        let mut reader = Reader::default();
        let mut line = 0;
        while !rest.is_empty() {
            line += 1;
            let bad = |what| BadPolicy { line, what };
            let Some(words) = text::take_line(&mut rest) else {
                return Err(bad("it does not end in a newline"));
            };
            if words.contains(|c: char| (c < ' ' && c != '\t') || c == '\u{7f}') {
                return Err(bad("control character"));
            }
            reader.line(words).map_err(bad)?;
        }
        let Some(quorum) = reader.quorum else { return Err(whole("there is no quorum line")) };
        Ok(Policy { logs: reader.logs, parties: reader.parties, quorum })
    }

    /// The keys of logs, each with the URL where it is.
    pub fn logs(&self) -> impl Iterator<Item = (&VerifierKey, Option<&str>)> {
        self.logs.iter().map(|log| (&log.key, log.url.as_deref()))
    }

    /// The keys of witnesses, each with the URL where it is.
    pub fn witnesses(&self) -> impl Iterator<Item = (&VerifierKey, Option<&str>)> {
        self.parties.iter().filter_map(|party| match &party.is {
            Is::Witness { key, url } => Some((key, url.as_deref())),
            Is::Group { .. } => None,
        })
    }

    /// Whether a checkpoint is signed by its log, and by witnesses enough.
    ///
    /// # Errors
    /// When it is not, or a signature in the name of a known key is wrong.
    pub fn accept<'p>(
        &'p self,
        signed: &SignedCheckpoint,
        verifier: &impl Verifier,
    ) -> Result<Accepted<'p>, PolicyError> {
        let origin = signed.checkpoint().origin();
        let logs = self.logs.iter().map(|log| &log.key);
        // tlog-policy, Defining a log: the name of the key is the origin of the log.
        let logs: Vec<_> = logs.filter(|key| key.name().as_str() == origin).collect();
        if logs.is_empty() {
            return Err(PolicyError::UnknownLog);
        }
        let keys = logs.iter().copied().chain(self.witnesses().map(|(key, _)| key));
        let keys: Vec<VerifierKey> = keys.cloned().collect();
        let found = signed.note().verify(&keys, verifier)?;
        let by =
            |key: &VerifierKey| found.iter().filter(|one| *one.key == *key).collect::<Vec<_>>();
        let logs: Vec<_> = logs.into_iter().filter(|key| !by(key).is_empty()).collect();
        if logs.is_empty() {
            return Err(PolicyError::NotSigned);
        }
        Ok(Accepted { logs, witnesses: self.quorum_of(&found)? })
    }

    /// The witnesses that cosigned a checkpoint, and the latest time that each gave, if they are
    /// enough. For the log itself: who signed as the log is not looked at.
    ///
    /// # Errors
    /// When they are not enough, or a signature in the name of a known witness is wrong.
    pub fn witnessed<'p>(
        &'p self,
        signed: &SignedCheckpoint,
        verifier: &impl Verifier,
    ) -> Result<Vec<(&'p VerifierKey, u64)>, PolicyError> {
        let keys: Vec<VerifierKey> = self.witnesses().map(|(key, _)| key.clone()).collect();
        self.quorum_of(&signed.note().verify(&keys, verifier)?)
    }

    fn quorum_of(&self, found: &[Signed<'_>]) -> Result<Vec<(&VerifierKey, u64)>, PolicyError> {
        let latest = |key: &VerifierKey| {
            found.iter().filter(|one| one.key == key).filter_map(|one| one.time).max()
        };
        let witnesses: Vec<_> =
            self.witnesses().filter_map(|(key, _)| Some((key, latest(key)?))).collect();
        if self.has_quorum(|key| witnesses.iter().any(|(by, _)| *by == key)) {
            return Ok(witnesses);
        }
        Err(PolicyError::Quorum { cosigned: witnesses.len(), known: self.witnesses().count() })
    }

    /// Whether any witness must have cosigned at all.
    #[must_use]
    pub fn asks_for_witnesses(&self) -> bool {
        self.quorum.is_some()
    }

    /// Whether the witnesses of which `has` says so are enough.
    #[must_use]
    pub fn has_quorum(&self, has: impl Fn(&VerifierKey) -> bool) -> bool {
        let Some(quorum) = self.quorum else { return true };
        // Members stand before their group, so one pass decides all.
        let mut witnessed: Vec<bool> = Vec::with_capacity(self.parties.len());
        for party in &self.parties {
            let is = match &party.is {
                Is::Witness { key, .. } => has(key),
                Is::Group { threshold, members } => {
                    let is = |member: &&usize| witnessed.get(**member) == Some(&true);
                    members.iter().filter(is).count() >= *threshold
                }
            };
            witnessed.push(is);
        }
        witnessed.get(quorum) == Some(&true)
    }
}

impl fmt::Display for Policy {
    /// The file, without comments.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after =
            |url: &Option<String>| url.as_ref().map_or(String::new(), |url| format!(" {url}"));
        let name = |index: &usize| self.parties.get(*index).map_or("none", |party| &party.name);
        for Log { key, url } in &self.logs {
            writeln!(f, "log {key}{}", after(url))?;
        }
        for party in &self.parties {
            match &party.is {
                Is::Witness { key, url } => {
                    writeln!(f, "witness {} {key}{}", party.name, after(url))?;
                }
                Is::Group { threshold, members } => {
                    let members: Vec<&str> = members.iter().map(name).collect();
                    writeln!(f, "group {} {threshold} {}", party.name, members.join(" "))?;
                }
            }
        }
        writeln!(f, "quorum {}", self.quorum.as_ref().map_or("none", name))
    }
}

/// What was read so far.
#[derive(Default)]
struct Reader {
    logs: Vec<Log>,
    parties: Vec<Party>,
    grouped: BTreeSet<usize>,
    quorum: Option<Option<usize>>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), &'static str> {
        let words: Vec<&str> = line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
        match words.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with('#') => Ok(()),
            ["log", key] => self.log(key, None),
            ["log", key, url] => self.log(key, Some(url)),
            ["witness", name, key] => self.witness(name, key, None),
            ["witness", name, key, url] => self.witness(name, key, Some(url)),
            ["group", name, threshold, members @ ..] => self.group(name, threshold, members),
            ["quorum", name] => self.quorum(name),
            _ => Err("it is no log, witness, group or quorum"),
        }
    }

    fn log(&mut self, key: &str, url: Option<&str>) -> Result<(), &'static str> {
        let key = VerifierKey::parse(key).map_err(|_| "no verifier key")?;
        if key.algorithm() == Algorithm::CosignatureV1 {
            return Err("the key of a witness is none of a log");
        }
        if self.logs.iter().any(|log| log.key.public() == key.public()) {
            return Err("this log is there already");
        }
        if self.logs.len() >= KEYS_MAX {
            return Err("too many logs");
        }
        self.logs.push(Log { key, url: url.map(str::to_owned) });
        Ok(())
    }

    fn witness(&mut self, name: &str, key: &str, url: Option<&str>) -> Result<(), &'static str> {
        let key = VerifierKey::parse(key).map_err(|_| "no verifier key")?;
        if key.algorithm() != Algorithm::CosignatureV1 {
            return Err("the key is none of a witness");
        }
        let keys = || {
            self.parties.iter().filter_map(|party| match &party.is {
                Is::Witness { key, .. } => Some(key),
                Is::Group { .. } => None,
            })
        };
        if keys().any(|known| known.public() == key.public()) {
            return Err("this witness is there already");
        }
        if keys().count() >= KEYS_MAX {
            return Err("too many witnesses");
        }
        self.party(name, Is::Witness { key, url: url.map(str::to_owned) })
    }

    fn group(&mut self, name: &str, threshold: &str, members: &[&str]) -> Result<(), &'static str> {
        let groups = self.parties.iter().filter(|party| matches!(party.is, Is::Group { .. }));
        if groups.count() >= GROUPS_MAX {
            return Err("too many groups");
        }
        let threshold = match threshold {
            "all" => Some(members.len()),
            "any" => Some(1),
            k => text::decimal(k).and_then(|k| usize::try_from(k).ok()),
        };
        let in_range = |k: &usize| (1..=members.len()).contains(k);
        let threshold = threshold.filter(in_range).ok_or("the group has not so many members")?;
        let mut indices = Vec::new();
        for member in members {
            let index = self.find(member).ok_or("no such member stands before the group")?;
            if !self.grouped.insert(index) {
                return Err("a member is in a group already");
            }
            indices.push(index);
        }
        self.party(name, Is::Group { threshold, members: indices })
    }

    fn quorum(&mut self, name: &str) -> Result<(), &'static str> {
        if self.quorum.is_some() {
            return Err("there is a quorum line already");
        }
        let quorum = match name {
            "none" => None,
            name => Some(self.find(name).ok_or("no such name stands before the quorum")?),
        };
        self.quorum = Some(quorum);
        Ok(())
    }

    fn party(&mut self, name: &str, is: Is) -> Result<(), &'static str> {
        if name == "none" || self.find(name).is_some() {
            return Err("the name is taken");
        }
        self.parties.push(Party { name: name.to_owned(), is });
        Ok(())
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.parties.iter().position(|party| party.name == name)
    }
}

#[cfg(test)]
#[cfg(feature = "aws-lc")]
mod tests;
