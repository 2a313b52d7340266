//! `moat explain`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use moat_model::code;

use crate::cli::ExplainArgs;

pub(crate) fn run(args: &ExplainArgs) -> Result<ExitCode> {
    let (english, chinese) = match args.lang.as_deref() {
        Some("en") => (true, false),
        Some("zh") => (false, true),
        _ => (true, true),
    };
    let Some(id) = &args.code else {
        for code in code::all() {
            let title = if english { code.en.title } else { code.zh.title };
            println!("{}  {title}", code.id);
        }
        return Ok(ExitCode::SUCCESS);
    };
    let Some(code) = code::find(id) else {
        bail!("there is no code {id}; `moat explain` lists all");
    };
    println!("{}", code.id);
    if code.status > 0 {
        println!("HTTP {} / grpc-status {}", code.status, code.grpc_status());
    }
    for (wanted, text, fix) in [(english, code.en, "fix"), (chinese, code.zh, "处理")] {
        if wanted {
            println!("\n{}\n{fix}: {}", text.title, text.fix);
        }
    }
    Ok(ExitCode::SUCCESS)
}
