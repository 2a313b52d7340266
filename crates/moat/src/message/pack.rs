//! `moat message pack`.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use moat_message::tlv::{self, Tag};
use moat_message::{Draft, MessageError, Mti, Spec};
use serde_json::{Map, Value as Json};
use zeroize::Zeroizing;

use crate::cli_message::Of;

/// Templates within templates in the JSON; the message allows fewer.
const DEPTH_MAX: usize = 8;

pub(super) fn run(of: &Of, file: &Path) -> Result<ExitCode> {
    let spec = super::spec(of)?;
    let bytes = super::read(file)?;
    // The text of the error could name a value.
    let json: Json = match serde_json::from_slice(&bytes) {
        Ok(json) => json,
        Err(error) => {
            bail!("{} is no JSON: line {}, column {}", file.display(), error.line(), error.column())
        }
    };
    let json = json.as_object().context("the JSON is no object with `mti` and `fields`")?;
    let message = pack(of, &spec, json)?;
    let mut out = Zeroizing::new(Vec::new());
    match spec.framing() {
        Some(framing) if of.framed => {
            framing.put(&message, &mut out).map_err(|wrong| super::told(of, wrong))?;
        }
        None if of.framed => bail!("the spec has no framing; leave out --framed"),
        _ => out.extend_from_slice(&message),
    }
    let mut stdout = std::io::stdout().lock();
    if of.hex {
        let text = Zeroizing::new(data_encoding::HEXUPPER.encode(&out));
        writeln!(stdout, "{}", text.as_str())?;
    } else {
        stdout.write_all(&out)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn pack(of: &Of, spec: &Spec, json: &Map<String, Json>) -> Result<Zeroizing<Vec<u8>>> {
    for key in json.keys() {
        ensure!(["mti", "header", "fields"].contains(&key.as_str()), "there is no key `{key}`");
    }
    let mti = json.get("mti").and_then(Json::as_str).context("`mti` is missing")?;
    let mti: Mti = mti.parse().map_err(|wrong: MessageError| super::told(of, wrong))?;
    let mut draft = Draft::new(spec, mti);
    if let Some(header) = json.get("header") {
        draft.set_header(&bytes(header).context("`header` is not hexadecimal text")?);
    }
    let fields = json.get("fields").and_then(Json::as_object).context("`fields` is missing")?;
    for (key, value) in fields {
        let number = match key.parse() {
            Ok(number) => number,
            Err(_) => spec.named(key).with_context(|| format!("there is no field `{key}`"))?.0,
        };
        let set = match value {
            Json::String(text) => draft.set_text(number, text),
            Json::Object(form) => {
                let hex = form.get("hex").filter(|_| form.len() == 1);
                let bytes = hex.and_then(bytes);
                let bytes = bytes.with_context(|| format!("field `{key}`: use {{\"hex\": …}}"))?;
                draft.set_bytes(number, &bytes)
            }
            Json::Array(objects) => {
                let mut out = Zeroizing::new(Vec::new());
                put_objects(objects, &mut out, 0).with_context(|| format!("field `{key}`"))?;
                draft.set_bytes(number, &out)
            }
            _ => bail!("field `{key}`: a value is text, {{\"hex\": …}}, or a list of objects"),
        };
        set.map_err(|wrong| super::told(of, wrong))?;
    }
    let mut out = Zeroizing::new(Vec::new());
    draft.write(&mut out).map_err(|wrong| super::told(of, wrong))?;
    Ok(out)
}

fn bytes(json: &Json) -> Option<Zeroizing<Vec<u8>>> {
    let upper = Zeroizing::new(json.as_str()?.to_ascii_uppercase());
    data_encoding::HEXUPPER.decode(upper.as_bytes()).ok().map(Zeroizing::new)
}

fn put_objects(objects: &[Json], out: &mut Vec<u8>, depth: usize) -> Result<()> {
    ensure!(depth < DEPTH_MAX, "templates are nested too deep");
    for object in objects {
        let tag = object.get("tag").and_then(Json::as_str).and_then(Tag::from_hex);
        let tag = tag.context("`tag` is no tag in hexadecimal")?;
        let mut value = Zeroizing::new(Vec::new());
        match (object.get("value"), object.get("objects").and_then(Json::as_array)) {
            (Some(hex), None) => {
                value = bytes(hex).with_context(|| format!("{tag}: `value` is not hexadecimal"))?;
            }
            (None, Some(inner)) => put_objects(inner, &mut value, depth + 1)?,
            _ => bail!("{tag}: give `value` in hexadecimal, or `objects`"),
        }
        tlv::put(tag, &value, out)?;
    }
    Ok(())
}
