//! The book: cards and what was done with them, in one redb file. Every change is one transaction,
//! durable when the call returns.

use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

const CARDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("cards");
const DEEDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("deeds");
const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");
/// Most deeds kept; the oldest go first.
const DEEDS_MAX: u64 = 100_000;
const DEED_ORDER: TableDefinition<'_, u64, &str> = TableDefinition::new("deed_order");

/// What went wrong with the file itself.
pub type BookError = Box<redb::Error>;

/// A card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// What is left on it, in minor units.
    pub balance_minor: i64,
    /// Most of one transaction, in minor units.
    pub limit_minor: i64,
    /// Whether it was blocked.
    pub is_blocked: bool,
}

/// What a transaction came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ruling {
    /// Done, under an approval code from 1.
    Approved(u64),
    /// There is no such card.
    NoCard,
    /// The card is blocked.
    Blocked,
    /// Above the limit of one transaction.
    OverLimit,
    /// Too little is left.
    TooLittle,
    /// The amount is none.
    BadAmount,
    /// It was taken back before it came.
    TakenBack,
    /// What is to be taken back is not there.
    NoOriginal,
}

/// What was done under one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Deed {
    pan: String,
    amount_minor: i64,
    ruling: Ruling,
    is_reversed: bool,
}

/// What is asked of a card.
#[derive(Clone, Debug)]
pub struct Demand {
    /// What names it: trace number and time of transmission.
    pub key: String,
    /// The card.
    pub pan: String,
    /// How much, in minor units.
    pub amount_minor: i64,
    /// Whether it is already done, and only told.
    pub is_advice: bool,
}

/// The open book.
#[derive(Debug)]
pub struct Book {
    db: Database,
}

impl Book {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// The file cannot be opened or is damaged.
    pub fn open(path: &Path) -> Result<Book, BookError> {
        boxed(|| {
            let db = Database::create(path)?;
            let write = db.begin_write()?;
            write.open_table(CARDS)?;
            write.open_table(DEEDS)?;
            write.open_table(DEED_ORDER)?;
            write.open_table(COUNTERS)?;
            write.commit()?;
            Ok(Book { db })
        })
    }

    /// Adds cards; those that exist stay as they are.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add(&self, cards: &[(&str, Card)]) -> Result<(), BookError> {
        self.write(|write| {
            let mut table = write.open_table(CARDS)?;
            for (pan, card) in cards {
                if table.get(*pan)?.is_none() {
                    table.insert(*pan, encode(card)?.as_slice())?;
                }
            }
            Ok(())
        })
    }

    /// A card.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn card(&self, pan: &str) -> Result<Option<Card>, BookError> {
        boxed(|| {
            let read = self.db.begin_read()?;
            let table = read.open_table(CARDS)?;
            table.get(pan)?.map(|found| decode(found.value())).transpose()
        })
    }

    /// Takes an amount from a card. What was demanded before under the same key gets the ruling it
    /// got then.
    ///
    /// # Errors
    /// The file cannot be read or written; then nothing has changed.
    pub fn spend(&self, demand: &Demand) -> Result<Ruling, BookError> {
        self.write(|write| {
            if let Some(before) = deed(write, &demand.key)? {
                let is_taken_back = before.is_reversed && before.ruling == Ruling::TakenBack;
                return Ok(if is_taken_back { Ruling::TakenBack } else { before.ruling });
            }
            let ruling = rule(write, demand)?;
            let deed = Deed {
                pan: demand.pan.clone(),
                amount_minor: demand.amount_minor,
                ruling,
                is_reversed: false,
            };
            keep(write, &demand.key, &deed)?;
            Ok(ruling)
        })
    }

    /// Takes a transaction back: once, however often it is asked for. What has not come yet is
    /// refused when it comes.
    ///
    /// # Errors
    /// The file cannot be read or written; then nothing has changed.
    pub fn take_back(&self, original: &str) -> Result<Ruling, BookError> {
        self.write(|write| {
            let Some(mut found) = deed(write, original)? else {
                let (pan, ruling) = (String::new(), Ruling::TakenBack);
                let deed = Deed { pan, amount_minor: 0, ruling, is_reversed: true };
                keep(write, original, &deed)?;
                return Ok(Ruling::NoOriginal);
            };
            let Ruling::Approved(number) = found.ruling else {
                return Ok(match found.ruling {
                    Ruling::TakenBack => Ruling::NoOriginal,
                    // Nothing was done, so nothing is left to be taken back.
                    _ => Ruling::Approved(0),
                });
            };
            if !found.is_reversed {
                let mut table = write.open_table(CARDS)?;
                let card = table.get(found.pan.as_str())?.map(|card| decode::<Card>(card.value()));
                if let Some(mut card) = card.transpose()? {
                    card.balance_minor = card.balance_minor.saturating_add(found.amount_minor);
                    table.insert(found.pan.as_str(), encode(&card)?.as_slice())?;
                }
                found.is_reversed = true;
                write.open_table(DEEDS)?.insert(original, encode(&found)?.as_slice())?;
            }
            Ok(Ruling::Approved(number))
        })
    }

    fn write<T>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, BookError> {
        boxed(|| {
            let write = self.db.begin_write()?;
            let done = work(&write)?;
            write.commit()?;
            Ok(done)
        })
    }
}

fn rule(write: &WriteTransaction, demand: &Demand) -> Result<Ruling, redb::Error> {
    let mut table = write.open_table(CARDS)?;
    let card = table.get(demand.pan.as_str())?.map(|card| decode::<Card>(card.value()));
    let Some(mut card) = card.transpose()? else { return Ok(Ruling::NoCard) };
    if demand.amount_minor < 0 {
        return Ok(Ruling::BadAmount);
    }
    // What is only told was done already: limits come too late.
    if !demand.is_advice {
        if card.is_blocked {
            return Ok(Ruling::Blocked);
        }
        if demand.amount_minor > card.limit_minor {
            return Ok(Ruling::OverLimit);
        }
        if demand.amount_minor > card.balance_minor {
            return Ok(Ruling::TooLittle);
        }
    }
    card.balance_minor = card.balance_minor.saturating_sub(demand.amount_minor);
    table.insert(demand.pan.as_str(), encode(&card)?.as_slice())?;
    Ok(Ruling::Approved(count(write, "approvals")?))
}

fn deed(write: &WriteTransaction, key: &str) -> Result<Option<Deed>, redb::Error> {
    let table = write.open_table(DEEDS)?;
    let found = table.get(key)?;
    found.map(|found| decode(found.value())).transpose()
}

fn keep(write: &WriteTransaction, key: &str, deed: &Deed) -> Result<(), redb::Error> {
    let number = count(write, "deeds")?;
    let mut table = write.open_table(DEEDS)?;
    let mut order = write.open_table(DEED_ORDER)?;
    table.insert(key, encode(deed)?.as_slice())?;
    order.insert(number, key)?;
    if let Some(old) = number.checked_sub(DEEDS_MAX)
        && let Some(old) = order.remove(old)?
    {
        table.remove(old.value())?;
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

fn encode(value: &impl Serialize) -> Result<Vec<u8>, redb::Error> {
    serde_json::to_vec(value).map_err(|_| redb::Error::Corrupted("unwritable row".to_owned()))
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, redb::Error> {
    // The error's text would quote the value.
    serde_json::from_slice(bytes).map_err(|_| redb::Error::Corrupted("unreadable row".to_owned()))
}

fn boxed<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, BookError> {
    work().map_err(Box::new)
}

/// The cards of the demonstration; numbers pass the check of Luhn and belong to nobody.
#[must_use]
pub fn seed() -> Vec<(&'static str, Card)> {
    let card = |balance_minor, limit_minor| Card { balance_minor, limit_minor, is_blocked: false };
    vec![
        ("6222020200112233448", card(1_000_000, 500_000)),
        ("6222020200112233455", card(10_000, 500_000)),
        ("6222020200112233463", Card { is_blocked: true, ..card(1_000_000, 500_000) }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book() -> (tempfile::TempDir, Book) {
        let dir = tempfile::tempdir().unwrap();
        let book = Book::open(&dir.path().join("cards.redb")).unwrap();
        book.add(&seed()).unwrap();
        (dir, book)
    }

    fn demand(key: &str, at: usize, amount_minor: i64) -> Demand {
        let pan = seed()[at].0.to_owned();
        Demand { key: key.to_owned(), pan, amount_minor, is_advice: false }
    }

    fn balance(book: &Book, at: usize) -> i64 {
        book.card(seed()[at].0).unwrap().unwrap().balance_minor
    }

    #[test]
    fn a_card_is_spent_from_once_for_each_key() {
        let (_dir, book) = book();
        assert_eq!(book.spend(&demand("a", 0, 2_500)).unwrap(), Ruling::Approved(1));
        assert_eq!(book.spend(&demand("a", 0, 2_500)).unwrap(), Ruling::Approved(1));
        assert_eq!(balance(&book, 0), 997_500);
        assert_eq!(book.spend(&demand("b", 0, 500_001)).unwrap(), Ruling::OverLimit);
        assert_eq!(book.spend(&demand("c", 1, 10_001)).unwrap(), Ruling::TooLittle);
        assert_eq!(book.spend(&demand("d", 2, 1)).unwrap(), Ruling::Blocked);
        let stranger = Demand { pan: "4111111111111111".to_owned(), ..demand("e", 0, 1) };
        assert_eq!(book.spend(&stranger).unwrap(), Ruling::NoCard);
        let told = Demand { is_advice: true, ..demand("f", 1, 10_001) };
        assert_eq!(book.spend(&told).unwrap(), Ruling::Approved(2));
        assert_eq!(balance(&book, 1), -1);
    }

    #[test]
    fn what_is_taken_back_is_taken_back_once_and_never_comes_again() {
        let (_dir, book) = book();
        book.spend(&demand("a", 0, 2_500)).unwrap();
        assert_eq!(book.take_back("a").unwrap(), Ruling::Approved(1));
        assert_eq!(book.take_back("a").unwrap(), Ruling::Approved(1));
        assert_eq!(balance(&book, 0), 1_000_000);
        assert_eq!(book.take_back("later").unwrap(), Ruling::NoOriginal);
        assert_eq!(book.spend(&demand("later", 0, 1)).unwrap(), Ruling::TakenBack);
        assert_eq!(balance(&book, 0), 1_000_000);
    }
}
