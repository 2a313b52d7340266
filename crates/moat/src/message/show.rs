//! `moat message show`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use moat_message::{Check, Decoder, Index, View};
use serde_json::{Map, Value as Json, json};

use super::shown::{Shown, field};
use crate::cli::Output;
use crate::cli_message::Of;

pub(super) fn run(of: &Of, file: &Path, lazy: bool, output: Output) -> Result<ExitCode> {
    let spec = super::spec(of)?;
    let bytes = super::read_messages(of, file)?;
    let mut decoder = Decoder::new(&spec, if lazy { Check::Lazy } else { Check::Strict });
    let mut index = Index::new();
    super::each_message(of, &spec, &bytes, |message| {
        let view = decoder.decode(message, &mut index).map_err(|wrong| super::told(of, wrong))?;
        match output {
            Output::Table => table(view, of.show_c2),
            Output::Json => println!("{}", as_json(view, of.show_c2)),
        }
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

fn table(mut view: View<'_>, show_c2: bool) {
    let mti = view.mti();
    println!(
        "{mti}  {:?} {:?} {:?}, {}, {} bytes",
        mti.version(),
        mti.class(),
        mti.function(),
        view.spec().name(),
        view.message().len()
    );
    if !view.header().is_empty() {
        println!(
            "     header                         {}",
            data_encoding::HEXUPPER.encode(view.header())
        );
    }
    for number in view.present().iter() {
        if let Some(shown) = field(&mut view, number, show_c2) {
            println!("{}", line(&number.to_string(), &shown));
            shown.parts.iter().for_each(|part| println!("{}", line("", part)));
        }
    }
}

fn line(number: &str, shown: &Shown) -> String {
    let indent = if number.is_empty() { 2 + 2 * shown.depth } else { 0 };
    let name = format!("{}{}", " ".repeat(indent), shown.name);
    let text = format!("{number:>3}  {name:<26} {:<4} {}", shown.class.name(), shown.text);
    text.trim_end().to_owned()
}

fn as_json(mut view: View<'_>, show_c2: bool) -> Json {
    let mut fields = Map::new();
    for number in view.present().iter() {
        if let Some(shown) = field(&mut view, number, show_c2) {
            fields.insert(number.to_string(), one(&shown));
        }
    }
    json!({
        "spec": view.spec().name(),
        "mti": view.mti().to_string(),
        "header": data_encoding::HEXUPPER.encode(view.header()),
        "bytes": view.message().len(),
        "fields": fields,
    })
}

fn one(shown: &Shown) -> Json {
    let mut out = json!({ "name": shown.name, "class": shown.class.name() });
    if let Some(out) = out.as_object_mut() {
        if shown.parts.is_empty() {
            out.insert("shown".to_owned(), json!(shown.text));
        } else {
            out.insert("parts".to_owned(), shown.parts.iter().map(one).collect());
        }
    }
    out
}
