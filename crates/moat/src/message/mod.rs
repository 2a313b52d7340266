//! `moat message`: what a message holds, making one, and how two differ. Nothing here prints a
//! card number whole, or any value of SAD.

mod diff;
mod pack;
mod show;
mod shown;

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use moat_message::spec::SHIPPED;
use moat_message::{MessageError, Spec};
use zeroize::Zeroizing;

use crate::cli_message::{MessageCommand, Of};

/// Longest file of messages, in bytes.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

pub(crate) fn run(command: &MessageCommand) -> Result<ExitCode> {
    match command {
        MessageCommand::Show { of, file, lazy, output } => show::run(of, file, *lazy, *output),
        MessageCommand::Pack { of, file } => pack::run(of, file),
        MessageCommand::Diff { of, first, second } => diff::run(of, first, second),
        MessageCommand::Specs { name } => specs(name.as_deref()),
    }
}

fn specs(name: Option<&str>) -> Result<ExitCode> {
    for (shipped, yaml) in SHIPPED {
        match name {
            Some(name) if name == shipped => {
                print!("{yaml}");
                return Ok(ExitCode::SUCCESS);
            }
            Some(_) => {}
            None => println!("{shipped:<22} {}", Spec::parse(yaml)?.about()),
        }
    }
    match name {
        Some(name) => bail!("there is no spec {name}; `moat message specs` lists all"),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// The spec of a name or file.
fn spec(of: &Of) -> Result<Spec> {
    if let Some((_, yaml)) = SHIPPED.iter().find(|(name, _)| *name == of.spec) {
        return Ok(Spec::parse(yaml)?);
    }
    let path = Path::new(&of.spec);
    ensure!(
        path.exists(),
        "{} is no file, and none of the specs that `moat message specs` lists",
        of.spec
    );
    check_file(path)
}

/// Reads and checks the spec in a file.
pub(crate) fn check_file(path: &Path) -> Result<Spec> {
    let bytes = read(path)?;
    let yaml = std::str::from_utf8(&bytes).with_context(|| path.display().to_string())?;
    Spec::parse(yaml).with_context(|| path.display().to_string())
}

/// The bytes of a file; `-` is stdin.
fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    let name = || path.display().to_string();
    if path == Path::new("-") {
        std::io::stdin().lock().take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    } else {
        let file = fs::File::open(path).with_context(name)?;
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).with_context(name)?;
    }
    let is_short = u64::try_from(bytes.len()).is_ok_and(|length| length <= FILE_BYTES_MAX);
    ensure!(is_short, "{} is longer than {FILE_BYTES_MAX} bytes", name());
    Ok(bytes)
}

/// The bytes of messages in a file, out of their hexadecimal form if they are in one.
fn read_messages(of: &Of, path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let bytes = read(path)?;
    if !of.hex {
        return Ok(bytes);
    }
    let digits: Zeroizing<Vec<u8>> = bytes
        .iter()
        .map(u8::to_ascii_uppercase)
        .filter(|b| !b.is_ascii_whitespace())
        .collect::<Vec<_>>()
        .into();
    match data_encoding::HEXUPPER.decode(&digits) {
        Ok(bytes) => Ok(Zeroizing::new(bytes)),
        // The error would name a character of the message.
        Err(_) => bail!("{} is not hexadecimal text", path.display()),
    }
}

/// Calls `each` for every message, cut out of its frames if it is in one.
fn each_message(
    of: &Of,
    spec: &Spec,
    bytes: &[u8],
    mut each: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    if !of.framed {
        return each(bytes);
    }
    let framing = spec.framing().context("the spec has no framing; leave out --framed")?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let frame = framing.take(rest).map_err(|wrong| told(of, wrong))?;
        let frame = frame.context("the file ends inside a frame")?;
        // A frame of length zero only keeps a connection up.
        if !frame.message.is_empty() {
            each(frame.message)?;
        }
        rest = rest.get(frame.used..).unwrap_or_default();
    }
    Ok(())
}

/// A refusal in the language asked for, with what to do.
fn told(of: &Of, wrong: MessageError) -> anyhow::Error {
    let code = wrong.code();
    let (place, field, offset) = (wrong.field > 0, wrong.field, wrong.offset);
    if of.lang.as_deref() == Some("zh") {
        let place = if place { format!("字段 {field}，") } else { String::new() };
        let text = format!(
            "{}：{}（{place}偏移 {offset}）\n处理：{}",
            code.id, code.zh.title, code.zh.fix
        );
        return anyhow::Error::msg(text);
    }
    anyhow::Error::msg(format!("{wrong}\nfix: {}", code.en.fix))
}
