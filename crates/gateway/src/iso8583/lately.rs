//! What was answered lately, of all workers and over reloads: repeats get their answer again.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use aws_lc_rs::digest::{Context, SHA256};
use moat_message::iso8583::Read;
use moat_message::session::{Begin, Key, Recent, RecentLimits};
use moat_message::{Mti, View};
use zeroize::Zeroizing;

use super::rules::Dialect;

/// How much is remembered, and for how long.
const LIMITS: RecentLimits =
    RecentLimits { entries_max: 131_072, bytes_max: 64 * 1024 * 1024, age_ms: 900_000 };

/// See the module.
pub(crate) struct Lately {
    recent: Mutex<Recent>,
    began: Instant,
    /// Digests are of this process alone: they cover what must never be guessed from a hash.
    salt: [u8; 32],
}

impl Default for Lately {
    fn default() -> Lately {
        let mut salt = [0; 32];
        // Without randomness TLS would not work either; the salt only hardens memory.
        let _ = aws_lc_rs::rand::fill(&mut salt);
        let (recent, began) = (Mutex::new(Recent::new(LIMITS)), Instant::now());
        Lately { recent, began, salt }
    }
}

impl Lately {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Recent, u64) -> T) -> T {
        let now_ms = self.now_ms();
        act(&mut self.recent.lock().unwrap_or_else(PoisonError::into_inner), now_ms)
    }

    pub(super) fn begin(&self, key: &Key, digest: [u8; 32], is_repeat: bool) -> Begin {
        self.with(|recent, now_ms| recent.begin(key, digest, is_repeat, now_ms))
    }

    pub(super) fn answered(&self, key: &Key, number: u64, answer: Zeroizing<Vec<u8>>, record: u64) {
        self.with(|recent, now_ms| recent.answered(key, number, answer, record, now_ms));
    }

    pub(super) fn unknown(&self, key: &Key, number: u64) {
        self.with(|recent, now_ms| recent.unknown(key, number, now_ms));
    }

    pub(super) fn withdraw(&self, key: &Key, number: u64) {
        self.with(|recent, _| recent.withdraw(key, number));
    }

    /// What must be the same in a message that is sent again: everything but the digit that says
    /// so, and what a MAC makes of it.
    pub(super) fn digest(&self, view: &View<'_>, dialect: &Dialect) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        context.update(&self.salt);
        context.update(&view.mti().original().digits());
        for found in view.fields().filter(|found| !super::fields::is_mac(&dialect.spec, found.id)) {
            context.update(&[found.id]);
            context.update(&found.length.to_be_bytes());
            let start = usize::from(found.offset);
            let value = view.message().get(start..start + usize::from(found.length));
            context.update(value.unwrap_or_default());
        }
        context.finish().as_ref().try_into().unwrap_or_default()
    }
}

/// The text of a field of class C1; nothing where there is none.
pub(super) fn text_of(view: &mut View<'_>, number: u8) -> Option<String> {
    let Some(Read::Clear(value)) = view.read(number) else { return None };
    if value.field().class() != moat_model::Class::C1 {
        return None;
    }
    let mut text = String::new();
    value.text(&mut text).ok()?;
    Some(text)
}

/// What names a message in a note: its type and trace number.
pub(super) fn name_of(view: &mut View<'_>) -> String {
    let mti: Mti = view.mti();
    let trace = text_of(view, 11).unwrap_or_default();
    format!("iso8583 {mti} stan={trace}")
}
