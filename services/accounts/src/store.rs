//! The book: accounts, cards and kept answers in one redb file.
//!
//! Every change is one transaction, durable when the call returns. Invariant: transfers never
//! change the sum of all balances.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::account::{Account, Transfer};
use crate::money::Money;

const ACCOUNTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("accounts");
const CARDS: TableDefinition<'_, &str, &str> = TableDefinition::new("cards");
const KEPT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("kept");
const KEPT_ORDER: TableDefinition<'_, u64, &str> = TableDefinition::new("kept_order");
const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");

/// Most answers kept for idempotency; the oldest goes first.
pub const KEPT_ANSWERS_MAX: u64 = 100_000;
/// Most balance changes a watcher may be behind.
const CHANGES_BEHIND_MAX: usize = 1024;

/// What went wrong with the file itself.
pub type StoreError = Box<redb::Error>;

/// A change of one balance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The account.
    pub id: String,
    /// The balance afterwards, in minor units.
    pub balance_minor: i64,
    /// Number of the change, from 1, without gaps.
    pub sequence: u64,
}

/// How a transfer was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ruling {
    /// It was carried out.
    Done {
        /// Unique name of the transfer.
        transfer_id: String,
        /// Balance of the paying account afterwards, in minor units.
        balance_minor: i64,
    },
    /// The paying account does not exist.
    UnknownPayer,
    /// The receiving account or card does not exist.
    UnknownPayee,
    /// Both are the same account.
    SameAccount,
    /// The accounts have different currencies.
    OtherCurrency,
    /// The payer has too little.
    InsufficientFunds,
    /// The payee's balance would leave its bounds.
    TooMuch,
}

/// How a demand with an idempotency key was met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Decided now, or decided before under the same key and body.
    Ruled(Ruling),
    /// The key was used with another body.
    KeyReused,
}

/// An idempotency key and the SHA-256 of the demand it came with.
#[derive(Clone, Debug)]
pub struct Once {
    /// The key as the caller sent it.
    pub key: String,
    /// Digest over path and body.
    pub digest: [u8; 32],
}

#[derive(Serialize, Deserialize)]
struct Kept {
    digest: [u8; 32],
    ruling: Ruling,
}

/// The open book.
#[derive(Debug)]
pub struct Store {
    db: Database,
    changes: broadcast::Sender<Change>,
    /// Held from the start of a write until its changes are told, so that they are told in order.
    writing: Mutex<()>,
}

impl Store {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// The file cannot be opened or is damaged.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        boxed(|| {
            let db = Database::create(path)?;
            let write = db.begin_write()?;
            write.open_table(ACCOUNTS)?;
            write.open_table(CARDS)?;
            write.open_table(KEPT)?;
            write.open_table(KEPT_ORDER)?;
            write.open_table(COUNTERS)?;
            write.commit()?;
            let (changes, _) = broadcast::channel(CHANGES_BEHIND_MAX);
            Ok(Store { db, changes, writing: Mutex::new(()) })
        })
    }

    /// Adds accounts; those that exist stay as they are. Returns how many were added.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add(&self, accounts: &[Account]) -> Result<usize, StoreError> {
        self.write(|write, _| {
            let mut added = 0;
            let (mut table, mut cards) = (write.open_table(ACCOUNTS)?, write.open_table(CARDS)?);
            for account in accounts {
                if table.get(account.id.as_str())?.is_none() {
                    put(&mut table, account)?;
                    cards.insert(account.card.as_str(), account.id.as_str())?;
                    added += 1;
                }
            }
            Ok(added)
        })
    }

    /// One account.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn account(&self, id: &str) -> Result<Option<Account>, StoreError> {
        boxed(|| {
            let read = self.db.begin_read()?;
            get(&read.open_table(ACCOUNTS)?, id)
        })
    }

    /// The sum of all balances, in minor units.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn total_minor(&self) -> Result<i128, StoreError> {
        boxed(|| {
            let read = self.db.begin_read()?;
            let mut total = 0;
            for row in read.open_table(ACCOUNTS)?.iter()? {
                total += i128::from(decode::<Account>(row?.1.value())?.balance_minor);
            }
            Ok(total)
        })
    }

    /// Moves money from one account to another, both or neither. With a key, a demand seen before
    /// gets the ruling it got then.
    ///
    /// # Errors
    /// The file cannot be read or written; then nothing has changed.
    pub fn transfer(&self, transfer: &Transfer, once: Option<&Once>) -> Result<Reply, StoreError> {
        self.write(|write, changes| {
            if let Some(once) = once
                && let Some(kept) = write.open_table(KEPT)?.get(once.key.as_str())?
            {
                let kept: Kept = decode(kept.value())?;
                let same = kept.digest == once.digest;
                return Ok(if same { Reply::Ruled(kept.ruling) } else { Reply::KeyReused });
            }
            let ruling = rule(write, transfer, changes)?;
            if let Some(once) = once {
                keep(write, once, &ruling)?;
            }
            Ok(Reply::Ruled(ruling))
        })
    }

    /// Pays in all entries or none. `None` if one names an unknown account or leaves the bounds.
    ///
    /// # Errors
    /// The file cannot be read or written; then nothing has changed.
    pub fn deposit(&self, entries: &[(String, Money)]) -> Result<Option<Money>, StoreError> {
        self.try_write(|write, changes| {
            let mut table = write.open_table(ACCOUNTS)?;
            let mut total = Money::from_minor(0);
            for (id, amount) in entries {
                let account = get(&table, id)?;
                let after = account.as_ref().and_then(|account| balance(account)?.plus(*amount));
                total = total.and_then(|total| total.plus(*amount));
                let (Some(mut account), Some(after)) = (account, after) else { return Ok(None) };
                account.balance_minor = after.minor();
                put(&mut table, &account)?;
                changes.push((account.id, after.minor()));
            }
            Ok(total)
        })
    }

    /// Every change from now on.
    #[must_use]
    pub fn watch(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// One write transaction that is always committed.
    fn write<T>(
        &self,
        work: impl FnOnce(&WriteTransaction, &mut Changes) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let done = self.try_write(|write, changes| work(write, changes).map(Some))?;
        done.ok_or_else(|| Box::new(redb::Error::Corrupted("no outcome".to_owned())))
    }

    /// One write transaction, committed if the work gives something and undone otherwise. Changes
    /// are told after they are durable.
    fn try_write<T>(
        &self,
        work: impl FnOnce(&WriteTransaction, &mut Changes) -> Result<Option<T>, redb::Error>,
    ) -> Result<Option<T>, StoreError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        boxed(|| {
            let write = self.db.begin_write()?;
            let mut changes = Changes::new();
            let Some(done) = work(&write, &mut changes)? else {
                write.abort()?;
                return Ok(None);
            };
            let mut numbered = Vec::new();
            for (id, balance_minor) in changes {
                let sequence = count(&write, "changes")?;
                numbered.push(Change { id, balance_minor, sequence });
            }
            write.commit()?;
            for change in numbered {
                // Nobody listening is no failure.
                let _ = self.changes.send(change);
            }
            Ok(Some(done))
        })
    }
}

/// Accounts whose balance changes in the transaction at hand, and to what.
type Changes = Vec<(String, i64)>;

/// Decides a transfer and, if it is good, carries it out.
fn rule(
    write: &WriteTransaction,
    transfer: &Transfer,
    changes: &mut Changes,
) -> Result<Ruling, redb::Error> {
    let mut table = write.open_table(ACCOUNTS)?;
    let Some(mut from) = get(&table, &transfer.from)? else { return Ok(Ruling::UnknownPayer) };
    let cards = write.open_table(CARDS)?;
    let by_card = cards.get(transfer.to.as_str())?;
    let to = by_card.map_or_else(|| transfer.to.clone(), |id| id.value().to_owned());
    let Some(mut to) = get(&table, &to)? else { return Ok(Ruling::UnknownPayee) };
    if from.id == to.id {
        return Ok(Ruling::SameAccount);
    }
    if from.currency != to.currency {
        return Ok(Ruling::OtherCurrency);
    }
    let left = balance(&from).and_then(|balance| balance.minus(transfer.amount));
    let Some(left) = left.filter(|left| left.minor() >= 0) else {
        return Ok(Ruling::InsufficientFunds);
    };
    let Some(after) = balance(&to).and_then(|balance| balance.plus(transfer.amount)) else {
        return Ok(Ruling::TooMuch);
    };
    from.balance_minor = left.minor();
    to.balance_minor = after.minor();
    for account in [&from, &to] {
        put(&mut table, account)?;
        changes.push((account.id.clone(), account.balance_minor));
    }
    let transfer_id = format!("t-{:012}", count(write, "transfers")?);
    Ok(Ruling::Done { transfer_id, balance_minor: left.minor() })
}

/// Keeps a ruling under its key and lets the oldest go.
fn keep(write: &WriteTransaction, once: &Once, ruling: &Ruling) -> Result<(), redb::Error> {
    let number = count(write, "kept")?;
    let kept = encode(&Kept { digest: once.digest, ruling: ruling.clone() })?;
    let mut answers = write.open_table(KEPT)?;
    let mut order = write.open_table(KEPT_ORDER)?;
    answers.insert(once.key.as_str(), kept.as_slice())?;
    order.insert(number, once.key.as_str())?;
    if let Some(old) = number.checked_sub(KEPT_ANSWERS_MAX)
        && let Some(key) = order.remove(old)?
    {
        answers.remove(key.value())?;
    }
    Ok(())
}

/// The next number of a counter, from 1.
fn count(write: &WriteTransaction, name: &str) -> Result<u64, redb::Error> {
    let mut counters = write.open_table(COUNTERS)?;
    let next = counters.get(name)?.map_or(0, |last| last.value()).saturating_add(1);
    counters.insert(name, next)?;
    Ok(next)
}

fn balance(account: &Account) -> Option<Money> {
    Money::from_minor(account.balance_minor)
}

fn get(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    id: &str,
) -> Result<Option<Account>, redb::Error> {
    table.get(id)?.map(|found| decode(found.value())).transpose()
}

fn put(table: &mut Table<'_, &str, &[u8]>, account: &Account) -> Result<(), redb::Error> {
    table.insert(account.id.as_str(), encode(account)?.as_slice())?;
    Ok(())
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, redb::Error> {
    serde_json::to_vec(value).map_err(|error| redb::Error::Corrupted(error.to_string()))
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, redb::Error> {
    // The error's text would quote the value.
    serde_json::from_slice(bytes).map_err(|_| redb::Error::Corrupted("unreadable row".to_owned()))
}

fn boxed<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, StoreError> {
    work().map_err(Box::new)
}

#[cfg(test)]
mod tests;
