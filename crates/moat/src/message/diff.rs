//! `moat message diff`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use moat_message::{Check, Index, Read, View, iso8583};

use super::shown::field;
use crate::cli_message::Of;

pub(super) fn run(of: &Of, first: &Path, second: &Path) -> Result<ExitCode> {
    let spec = super::spec(of)?;
    let files = [super::read_messages(of, first)?, super::read_messages(of, second)?];
    let (mut a, mut b) = (Index::new(), Index::new());
    let [first, second] = &files;
    let bytes = [only(of, &spec, first)?, only(of, &spec, second)?];
    let [first, second] = &bytes;
    let told = |wrong| super::told(of, wrong);
    let mut first = iso8583::decode(&spec, Check::Strict, first, &mut a).map_err(told)?;
    let mut second = iso8583::decode(&spec, Check::Strict, second, &mut b).map_err(told)?;
    let lines = differences(&mut first, &mut second, of.show_c2);
    lines.iter().for_each(|line| println!("{line}"));
    Ok(if lines.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The one message of a file.
fn only(of: &Of, spec: &moat_message::Spec, bytes: &[u8]) -> Result<zeroize::Zeroizing<Vec<u8>>> {
    let mut found: Option<zeroize::Zeroizing<Vec<u8>>> = None;
    super::each_message(of, spec, bytes, |message| {
        anyhow::ensure!(found.is_none(), "a file has more than one message");
        found = Some(message.to_vec().into());
        Ok(())
    })?;
    found.ok_or_else(|| anyhow::anyhow!("a file has no message"))
}

fn differences<'m>(first: &mut View<'m>, second: &mut View<'m>, show_c2: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if first.mti() != second.mti() {
        lines.push(format!("mti  {} → {}", first.mti(), second.mti()));
    }
    if first.header() != second.header() {
        let [a, b] = [first.header(), second.header()].map(|h| data_encoding::HEXUPPER.encode(h));
        lines.push(format!("header  {a} → {b}"));
    }
    for number in 2..=moat_message::limit::FIELD_MAX {
        if is_same(first.read(number), second.read(number)) {
            continue;
        }
        let texts = [&mut *first, &mut *second].map(|view| match field(view, number, show_c2) {
            None => "absent".to_owned(),
            Some(shown) if shown.parts.is_empty() => shown.text,
            Some(shown) => {
                let parts = shown.parts.iter().map(|part| format!("{}={}", part.name, part.text));
                parts.collect::<Vec<_>>().join(" ")
            }
        });
        let name = first.spec().field(number).map_or("", |field| field.name());
        let [a, b] = texts;
        // Masks of different values can be the same.
        let note = if a == b { "  (differ where it is masked)" } else { "" };
        lines.push(format!("{number:>3}  {name:<26} {a} → {b}{note}"));
    }
    lines
}

fn is_same(a: Option<Read<'_>>, b: Option<Read<'_>>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(Read::Clear(a)), Some(Read::Clear(b))) => a.bytes() == b.bytes(),
        (Some(Read::Guarded(a)), Some(Read::Guarded(b))) => a.is_same(&b),
        _ => false,
    }
}
