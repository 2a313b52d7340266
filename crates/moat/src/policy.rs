//! `moat policy`.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use moat_policy::{Bundle, BundleFile};

use crate::cli::PolicyCommand;

mod bundle;
mod replay;

/// Longest input document, in bytes.
const INPUT_BYTES_MAX: u64 = 16 * 1024 * 1024;

pub(crate) fn run(command: &PolicyCommand) -> Result<ExitCode> {
    match command {
        PolicyCommand::Bundle(command) => bundle::run(command),
        PolicyCommand::Test { bundle } => test(bundle),
        PolicyCommand::Eval { bundle, input, rule } => {
            println!("{}", moat_policy::eval(&load(bundle)?, rule, &read(input)?)?);
            Ok(ExitCode::SUCCESS)
        }
        PolicyCommand::Replay(arguments) => replay::run(arguments),
        PolicyCommand::Why { bundle, input, trace, inputs, package } => {
            let (asked, text) = match trace {
                Some(trace) => replay::find(inputs, trace)?,
                None => (String::new(), read(input)?),
            };
            why(bundle, &text, package.as_ref().unwrap_or(&asked))
        }
    }
}

fn test(bundle: &Path) -> Result<ExitCode> {
    let results = moat_policy::run_tests(&load(bundle)?)?;
    let failed = results.iter().filter(|r| !r.passed).count();
    for result in &results {
        let mark = if result.passed { "pass" } else { "FAIL" };
        println!("{mark}  {}  {}", result.name, result.detail);
    }
    println!("{} passed, {failed} failed", results.len() - failed);
    if results.is_empty() {
        bail!("there is no rule whose name begins with test_");
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn why(bundle: &Path, input: &str, package: &str) -> Result<ExitCode> {
    let told = moat_policy::explain(&load(bundle)?, package, input)?;
    if told.answers.is_empty() {
        bail!("the package {package} has no rule deny, challenge or allow");
    }
    for (rule, value) in &told.answers {
        println!("{rule} = {value}");
    }
    show_risk(input);
    for line in &told.lines {
        let mark = if line.reached { "reached    " } else { "not reached" };
        println!("{mark}  {}:{}  {}", line.file, line.line, line.text);
    }
    println!("The first line not reached in a rule stands behind the condition that failed.");
    Ok(ExitCode::SUCCESS)
}

/// Score and parts, if the input has them.
fn show_risk(input: &str) {
    let input: serde_json::Value = serde_json::from_str(input).unwrap_or_default();
    let Some(risk) = input.get("risk") else { return };
    let text = |name: &str| risk.get(name).map_or_else(String::new, ToString::to_string);
    println!("risk = {} {}", text("state").trim_matches('"'), text("score"));
    for (part, points) in
        risk.get("parts").and_then(|parts| parts.as_object()).into_iter().flatten()
    {
        println!("    {points:>4}  {part}");
    }
}

/// Every Rego module and JSON document below the folder.
fn load(root: &Path) -> Result<Bundle> {
    Ok(Bundle::new(files_of(root)?)?)
}

/// Every file below a folder.
pub(crate) fn files_of(root: &Path) -> Result<Vec<BundleFile>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
            files.push(BundleFile { path: name, bytes });
        }
    }
    Ok(files)
}

fn read(path: &Path) -> Result<String> {
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().take(INPUT_BYTES_MAX).read_to_string(&mut text)?;
    } else {
        let file = fs::File::open(path).with_context(|| path.display().to_string())?;
        file.take(INPUT_BYTES_MAX).read_to_string(&mut text)?;
    }
    Ok(text)
}
