//! `moat doctor --matrix`: what each role may do and must not, tried act by act by real processes.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};
use moat_kernel::matrix::{ACTS, Act, Outcome, ROLES, name_of};
use moat_kernel::{Jail, Role, User, enter};

use crate::cli::{ActArgs, Output};

/// Stands in for the roles' users, of which one is as good as the other here.
const UID: u32 = 64_000;
/// Exit code for a difference.
const WARNINGS: u8 = 4;

/// One cell: what came of an act.
struct Cell {
    role: Role,
    act: &'static Act,
    wanted: Outcome,
    found: Outcome,
}

pub(crate) fn run(output: Output) -> Result<ExitCode> {
    let dir = std::env::temp_dir().join(format!("moat-matrix-{}", std::process::id()));
    std::fs::create_dir(&dir).with_context(|| dir.display().to_string())?;
    let walked = walk(&dir);
    let _ = std::fs::remove_dir_all(&dir);
    let cells = walked?;
    match output {
        Output::Table => print(&cells),
        Output::Json => println!("{}", json(&cells)),
    }
    let is_good = cells.iter().all(|cell| cell.found == cell.wanted);
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::from(WARNINGS) })
}

fn walk(dir: &Path) -> Result<Vec<Cell>> {
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        std::os::unix::fs::chown(dir, Some(UID), Some(UID))?;
    }
    let program = std::env::current_exe().context("own program")?;
    let mut cells = Vec::new();
    for act in ACTS {
        for (role, wanted) in ROLES.into_iter().zip(act.wanted) {
            let mut child = Command::new(&program);
            child.args(["act", name_of(role), act.name]).arg(dir);
            if is_root {
                child.args(["--uid", &UID.to_string()]);
            }
            let ended = child.stdin(Stdio::null()).stderr(Stdio::null()).status()?;
            let found = Outcome::of(ended.code(), ended.signal());
            cells.push(Cell { role, act, wanted, found });
        }
    }
    Ok(cells)
}

/// Enters the jail, tries, ends with the code of what came of it.
pub(crate) fn act(args: &ActArgs) -> Result<ExitCode> {
    let role =
        ROLES.into_iter().find(|role| name_of(*role) == args.role).context("no such role")?;
    let act = ACTS.iter().find(|act| act.name == args.act).context("no such act")?;
    std::env::set_current_dir(&args.dir)?;
    let user = args.uid.map(|id| User { name: id.to_string(), uid: id, gid: id });
    let has_folder = matches!(role, Role::Auditor | Role::Witness);
    let writable = if has_folder { vec![".".into()] } else { Vec::new() };
    enter(&Jail { role, user, writable })?;
    Ok(ExitCode::from(act.attempt().exit_code()))
}

fn print(cells: &[Cell]) {
    print!("{:<30}", "");
    ROLES.into_iter().for_each(|role| print!(" {:<10}", name_of(role)));
    println!();
    for row in cells.chunks(ROLES.len()) {
        print!("{:<30}", row.first().map_or("", |cell| cell.act.name));
        for Cell { wanted, found, .. } in row {
            let mark = if wanted == found { "" } else { "!" };
            print!(" {:<10}", found.name() + mark);
        }
        println!();
    }
    for Cell { role, act, wanted, found } in cells.iter().filter(|c| c.wanted != c.found) {
        let (role, wanted, found) = (name_of(*role), wanted.name(), found.name());
        println!("[-] {role}: {}: {found}, and ought to be {wanted}", act.name);
    }
}

fn json(cells: &[Cell]) -> serde_json::Value {
    let row = |Cell { role, act, wanted, found }: &Cell| {
        serde_json::json!({
            "role": name_of(*role), "act": act.name, "wanted": wanted.name(),
            "found": found.name(), "holds": wanted == found,
        })
    };
    cells.iter().map(row).collect()
}
