//! What is measured, as Moat does it.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use moat_message::asn1::{self, Rules};
use moat_message::iso8583::{Check, Decoder, Draft, Index, Touched, decode};
use moat_message::{Spec, iso20022, tlv as emv};
use moat_model::Class;

/// A work, and how often it runs between two readings of the clock.
pub(super) struct Work<'a> {
    run: Box<dyn FnMut() -> bool + 'a>,
    batch: u32,
}

impl<'a> Work<'a> {
    /// A work that says whether it was done; it is tried once.
    fn new(batch: u32, mut run: impl FnMut() -> bool + 'a) -> Result<Work<'a>> {
        ensure!(run(), "the sample is refused");
        Ok(Work { run: Box::new(run), batch })
    }

    /// Runs a second.
    pub(super) fn rate(&mut self, time: Duration) -> Result<f64> {
        let (begun, mut runs) = (Instant::now(), 0_u32);
        loop {
            for _ in 0..self.batch {
                black_box((self.run)());
            }
            runs = runs.saturating_add(self.batch);
            let took = begun.elapsed();
            if took >= time {
                return Ok(f64::from(runs) / took.as_secs_f64());
            }
        }
    }
}

/// Runs between two readings of the clock, of what takes nanoseconds.
const MANY: u32 = 1_000;

type Sample<'a> = (&'a Spec, &'a Vec<u8>);

pub(super) fn planned<'a>((spec, message): Sample<'a>) -> Result<Work<'a>> {
    let (mut decoder, mut index) = (Decoder::new(spec, Check::Strict), Index::new());
    Work::new(MANY, move || decoder.decode(black_box(message), &mut index).is_ok())
}

pub(super) fn lazy<'a>((spec, message): Sample<'a>) -> Result<Work<'a>> {
    let (mut decoder, mut index) = (Decoder::new(spec, Check::Lazy), Index::new());
    Work::new(MANY, move || decoder.decode(black_box(message), &mut index).is_ok())
}

pub(super) fn general<'a>((spec, message): Sample<'a>) -> Result<Work<'a>> {
    let mut index = Index::new();
    Work::new(MANY, move || decode(spec, Check::Strict, black_box(message), &mut index).is_ok())
}

pub(super) fn observed<'a>((spec, message): Sample<'a>) -> Result<Work<'a>> {
    let (mut decoder, mut index) = (Decoder::new(spec, Check::Strict), Index::new());
    let mut touched = Touched::default();
    Work::new(MANY, move || {
        let done = decoder.decode_for(black_box(message), &mut index, &mut touched).is_ok();
        black_box(&touched);
        done
    })
}

pub(super) fn again<'a>((spec, message): Sample<'a>) -> Result<Work<'a>> {
    let (mut decoder, mut index) = (Decoder::new(spec, Check::Strict), Index::new());
    let mut out = Vec::new();
    Work::new(MANY, move || {
        out.clear();
        let view = decoder.decode(black_box(message), &mut index);
        view.is_ok_and(|view| Draft::of(view).write(&mut out).is_ok()) && out == *message
    })
}

pub(super) fn changed<'a>((spec, message): Sample<'a>) -> Result<Work<'a>> {
    let (mut decoder, mut index) = (Decoder::new(spec, Check::Strict), Index::new());
    let mut out = Vec::new();
    Work::new(MANY, move || {
        out.clear();
        let Ok(view) = decoder.decode(black_box(message), &mut index) else { return false };
        let mut draft = Draft::of(view);
        draft.set_text(39, "51").is_ok() && draft.write(&mut out).is_ok()
    })
}

/// How such a message is read without thought: ASCII, a text a field.
pub(super) fn naive(message: &[u8]) -> Result<Work<'_>> {
    Work::new(MANY, move || naive_map(black_box(message)).is_some_and(|fields| fields.len() == 20))
}

fn naive_map(message: &[u8]) -> Option<HashMap<usize, String>> {
    let text = std::str::from_utf8(message).ok()?;
    let mut bits = u128::from(u64::from_str_radix(text.get(4..20)?, 16).ok()?);
    let (mut at, mut count) = (20, 64);
    if bits >> 63 == 1 {
        bits = bits << 64 | u128::from(u64::from_str_radix(text.get(20..36)?, 16).ok()?);
        (at, count) = (36, 128);
    }
    let mut fields = HashMap::new();
    for number in (2..=count).filter(|number| bits >> (count - number) & 1 == 1) {
        let length = match number {
            2 | 32 | 102 => {
                let length: usize = text.get(at..at + 2)?.parse().ok()?;
                at += 2;
                length
            }
            3 | 11 | 12 | 38 => 6,
            4 | 37 => 12,
            7 => 10,
            13 | 14 | 18 => 4,
            22 | 49 => 3,
            25 | 39 => 2,
            41 => 8,
            42 => 15,
            43 => 40,
            _ => return None,
        };
        let value = text.get(at..at + length)?;
        let is_good = match number {
            37..=43 | 102 => value.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
            _ => value.bytes().all(|byte| byte.is_ascii_digit()),
        };
        if !is_good {
            return None;
        }
        fields.insert(number, value.to_owned());
        at += length;
    }
    (at == text.len()).then_some(fields)
}

pub(super) fn tlv(data: &[u8]) -> Result<Work<'_>> {
    Work::new(MANY, move || {
        emv::Objects::new(black_box(data))
            .try_fold(0, |sum, o| o.map(|o| sum + o.value.len()))
            .is_ok()
    })
}

pub(super) fn der(data: &[u8]) -> Result<Work<'_>> {
    Work::new(MANY, move || asn1::check(black_box(data), Rules::Der).is_ok())
}

/// Every value with its name and class.
pub(super) fn walk(document: &[u8]) -> Result<Work<'_>> {
    Work::new(1, move || {
        let mut bytes = 0;
        let done = iso20022::walk(black_box(document), |leaf| {
            bytes += leaf.text()?.len() + usize::from(leaf.class() > Class::C1);
            Ok(())
        });
        black_box(bytes);
        done.is_ok_and(|summary| summary.unnamed == 0)
    })
}

pub(super) fn mask(document: &[u8]) -> Result<Work<'_>> {
    let mut out = Vec::new();
    Work::new(1, move || {
        out.clear();
        let other =
            |leaf: &iso20022::Leaf<'_, '_>| (leaf.class() > Class::C1).then(|| leaf.masked());
        iso20022::rewrite(black_box(document), &mut out, other).is_ok()
    })
}
