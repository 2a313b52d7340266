//! `moat demo`: the whole gateway on this machine, shown in a dozen calls.
//!
//! Nothing here is staged: certificates are issued, the roles and the accounts service run as their
//! own processes, calls go over mutual TLS, and every line is checked against the log.

mod answer;
mod cards;
pub(crate) mod client;
mod latency;
mod say;
pub(crate) mod setup;
mod steps;

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::cli::DemoArgs;
use say::Say;

pub(crate) fn run(args: &DemoArgs) -> Result<ExitCode> {
    let say = Say::new(args.lang.as_deref());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, show(args, say))
}

async fn show(args: &DemoArgs, mut say: Say) -> Result<ExitCode> {
    say.title(
        "Moat demo: everything it makes lies in ./.moat-demo",
        "Moat 演示：所有产物位于 ./.moat-demo",
    );
    let mut setup = setup::Setup::make(args.port_base, &mut say)?;
    setup.start(&mut say).await?;
    say.step("calls over mutual TLS", "经双向 TLS 的调用");
    steps::calls(&mut setup, &mut say).await?;
    say.step("card messages, ISO 8583", "银行卡报文（ISO 8583）");
    cards::show(&setup, &mut say).await?;
    say.step("the log", "审计日志");
    steps::proven(&setup, &mut say).await?;
    steps::log(&setup, &mut say)?;
    say.step("latency, measured by the caller", "时延（由调用方测得）");
    latency::table(&setup, &mut say).await?;
    let good = say.summary();
    if args.exit {
        setup.stop();
        return Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    say.farewell(&setup);
    tokio::signal::ctrl_c().await.context("waiting for Ctrl-C")?;
    setup.stop();
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
