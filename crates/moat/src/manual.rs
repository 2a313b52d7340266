//! `moat completions` and `moat man`: made from the same definitions as the help.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;

pub(crate) fn completions(shell: Shell) -> Result<ExitCode> {
    clap_complete::generate(shell, &mut Cli::command(), "moat", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn pages(dir: &Path) -> Result<ExitCode> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    page(dir, &command)?;
    Ok(ExitCode::SUCCESS)
}

/// The page of a command, and those below it.
fn page(dir: &Path, command: &Command) -> Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut text)?;
    let path = dir.join(format!("{name}.1"));
    std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    println!("{}", path.display());
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        page(dir, below)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_that_is_shown_has_a_page_and_is_completed() {
        let dir = tempfile::tempdir().unwrap();
        pages(dir.path()).unwrap();
        let top = std::fs::read_to_string(dir.path().join("moat.1")).unwrap();
        assert!(top.contains(".TH moat 1"), "{top}");
        let verify = std::fs::read_to_string(dir.path().join("moat-audit-verify.1")).unwrap();
        assert!(verify.contains("exit 0 or 3"), "{verify}");
        assert!(!dir.path().join("moat-role.1").exists(), "what only the supervisor does");
        let mut script = Vec::new();
        clap_complete::generate(Shell::Bash, &mut Cli::command(), "moat", &mut script);
        let script = String::from_utf8(script).unwrap();
        assert!(script.contains("verify") && script.contains("reload"));
    }
}
