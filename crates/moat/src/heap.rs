//! `moat heap`: who holds the gateway's memory, and whose share grows.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use moat_admin::messages::Heap;
use moat_heap::Profile;
use moat_model::code::system::NOT_RUNNING;

use crate::cli::{HeapArgs, Output};
use crate::latency::places;
use crate::status::{ask, ask_bytes};

/// Sites that are shown, and functions of each.
const SITES: usize = 10;
const FRAMES: usize = 8;
/// Functions that ask for memory on behalf of whoever called them.
const PLUMBING: [&str; 15] = [
    "<alloc::",
    "<core::",
    "<moat_heap::",
    "__rust",
    "__rdl",
    "__rg",
    "alloc::",
    "backtrace::",
    "core::",
    "hashbrown::",
    "moat_heap::",
    "std::",
    "trace",
    "try_with<",
    "with_capacity_in<",
];

pub(crate) fn run(args: &HeapArgs) -> Result<ExitCode> {
    if let Some(path) = &args.pprof {
        let file = ask_bytes(&args.socket, "/debug/pprof/heap")?;
        std::fs::write(path, file).with_context(|| path.display().to_string())?;
    }
    let first = fetch(&args.socket)?;
    let shown = match args.seconds {
        0 => first.profile.clone(),
        seconds => {
            std::thread::sleep(Duration::from_secs(seconds));
            fetch(&args.socket)?.profile.grown_since(&first.profile)
        }
    };
    match args.output {
        Output::Json => println!("{}", json(&shown, &first)),
        Output::Table => print(&shown, &first, args.seconds > 0),
    }
    Ok(ExitCode::SUCCESS)
}

fn fetch(socket: &Path) -> Result<Heap> {
    let (status, body) = ask(socket, "GET", "/v1/heap")?;
    if status != 200 {
        bail!("{}: {}", NOT_RUNNING.id, body.trim());
    }
    serde_json::from_str(&body).context("the answer is no profile")
}

/// Functions on a stack, without those that only pass on.
fn functions(stack: &[u64], heap: &Heap) -> Vec<String> {
    let offset = |address: &u64| match heap.code {
        Some((begin, end, offset)) if (begin..end).contains(address) => address - begin + offset,
        _ => 0,
    };
    let offsets: Vec<u64> = stack.iter().map(offset).filter(|offset| *offset > 0).collect();
    let names = places::names(&offsets).into_iter();
    let is_plumbing = |name: &String| PLUMBING.iter().any(|start| name.starts_with(start));
    names.skip_while(is_plumbing).filter(|name| !is_plumbing(name)).take(FRAMES).collect()
}

fn json(shown: &Profile, heap: &Heap) -> serde_json::Value {
    let row = |site: &moat_heap::Site| {
        serde_json::json!({
            "functions": functions(&site.stack, heap),
            "held": site.held, "held_bytes": site.held_bytes,
            "asked": site.asked, "asked_bytes": site.asked_bytes,
        })
    };
    shown.sites.iter().map(row).collect()
}

fn print(shown: &Profile, heap: &Heap, is_growth: bool) {
    let all: u64 = shown.sites.iter().map(|site| site.held_bytes).sum();
    let what = if is_growth { "more held" } else { "held" };
    println!("{} {what}, estimated of one sample in {} KiB", size(all), shown.every_bytes / 1_024);
    if shown.missed > 0 {
        println!("[-] not seen: {} samples", shown.missed);
    }
    for site in shown.sites.iter().take(SITES).filter(|site| site.held_bytes > 0) {
        println!("{:>10} in {} pieces", size(site.held_bytes), site.held);
        functions(&site.stack, heap).iter().for_each(|name| println!("           {name}"));
    }
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes / 1_000),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
    }
}
