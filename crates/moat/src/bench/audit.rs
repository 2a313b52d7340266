//! `moat bench audit`: what the log costs and what it gives, beside PostgreSQL, SQLite and the bare
//! disk in the same run.
//!
//! The databases get one row a transaction, synchronously, in a folder on the same disk. Longer than
//! most files here: each figure is one function, and they share the records.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use moat_audit::anchor::field_id;
use moat_audit::committer::{Committer, Options};
use moat_audit::compare::{Compared, compare};
use moat_audit::entries::each_leaf;
use moat_audit::evidence::{Against, verify_evidence};
use moat_audit::fs::RealFs;
use moat_audit::keep::{old_segments, seal};
use moat_audit::record::{Anchor, AnchorAlg, Body, Field, Kind, Op, Value};
use moat_audit::store::Dir;
use moat_audit::tiles::{CHECKPOINT_FILE, LogHash, Stored};
use moat_audit::tree::{Home, LogTree};
use moat_auditor::bench::{Goal, Row, measure};
use moat_auditor::{log_signer, make_log_key, read_key};
use moat_model::Class;
use moat_tlog::checkpoint::Checkpoint;
use moat_tlog::growth::Edge;
use moat_tlog::key::Algorithm;
use moat_tlog::sign::{AwsLc, Renamed, Signer, Sm};
use moat_tlog::tree::Tree;
use moat_tlog::{Head, Sha256, Sm3, TreeHash as _};
use rustix::time::{ClockId, clock_gettime};

use super::Folder;
use super::machine;
use super::process::Interrupt;
use crate::mirror::compare_folders;

/// The log that is measured.
const LOG: &str = "bench.test/audit/1";
/// Records of the log that is verified.
const RECORDS: u64 = 400_000;
/// Records of each log that is compared with its mirror.
const NODE_RECORDS: u64 = 20_000;
/// Records of a frame when that log is made.
const FRAME_RECORDS: usize = 1_024;
/// Leaves of the tree that proofs are made of.
const LEAVES: u64 = 10_000_000;
/// Proofs that are timed.
const PROOFS: u64 = 2_000;
/// Nodes that are compared with their mirrors.
const NODES: usize = 128;
/// Clients of PostgreSQL; the best counts.
const CLIENTS: [u32; 3] = [1, 64, 256];
/// Rows that SQLite takes.
const SQLITE_ROWS: usize = 400;
/// Longest wait for PostgreSQL to start.
const START: Duration = Duration::from_secs(30);

/// What is measured, and how long.
pub(crate) struct Settings {
    /// Seconds for each rate.
    pub(crate) seconds: u64,
    /// Where PostgreSQL's programs are.
    pub(crate) postgres: PathBuf,
}

pub(crate) fn run(dir: &Path, settings: &Settings, interrupt: &Interrupt) -> Result<Vec<Row>> {
    let folder = Folder::make(dir)?;
    machine::describe(&folder.0)?;
    let postgres = postgres_rates(&folder.0.join("pg"), settings, interrupt)?;
    let sqlite = sqlite_rate(&folder.0.join("sqlite"))?;
    interrupt.pause(Duration::ZERO)?;
    let mut rows = measure(&folder.0.join("append"), Duration::from_secs(settings.seconds))?;
    let best = postgres.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    for (clients, rate) in &postgres {
        rows.push(Row::new(&format!("PostgreSQL, {clients} clients, one row"), *rate, "rows/s"));
    }
    rows.push(Row::new("SQLite, WAL and FULL, one row", sqlite, "rows/s"));
    let full = rows.iter().filter(|row| row.figure.starts_with("1024 in flight"));
    let full = full.map(|row| row.value).fold(0.0, f64::max);
    let against = |name: &str, peer: f64, goal| {
        Row::new("durable records, 1024 in flight", full, "records/s")
            .beside(name, peer)
            .should_be(Goal::RatioAtLeast(goal))
    };
    rows.push(against("PostgreSQL at its best", best, 10.0));
    rows.push(against("SQLite", sqlite, 300.0));
    rows.push(
        Row::new("durable records, 1024 in flight", full, "records/s")
            .should_be(Goal::AtLeast(100_000.0)),
    );
    rows.extend(log_rows(&folder.0, interrupt)?);
    rows.extend(tree_rows(&folder.0.join("tree"), interrupt)?);
    Ok(rows)
}

/// A record that changes one field.
fn sample(n: u64) -> Result<Vec<u8>> {
    let anchor = |byte: u8| {
        let mut mac = [byte; 32];
        for (to, from) in mac.iter_mut().zip(Sha256::leaf(&n.to_be_bytes())) {
            *to ^= from;
        }
        Anchor::new(AnchorAlg::HmacSha256, "2026-1", mac)
    };
    let masked = |byte| -> Option<Value> {
        Some(Value::Masked { shown: "1*.**".to_owned(), anchor: anchor(byte)? })
    };
    let values = masked(1).zip(masked(2)).context("no anchor")?;
    let id = field_id("account", "balance", 1);
    let field = Field::new(id, "balance", Class::C2, values.0, values.1)?;
    let mut trace = [0; 16];
    for (to, from) in trace.iter_mut().zip(Sha256::leaf(&[1])) {
        *to = from ^ u8::try_from(n % 251).unwrap_or(0);
    }
    let body = Body {
        actor: "spiffe://bank.test/teller".to_owned(),
        op: Some(Op::Upd),
        object: format!("account/{}", 1_000 + n % 5_000),
        fields: vec![field],
        ..Body::new(Kind::Check, trace)
    };
    Ok(body.encode()?)
}

/// CPU that this thread has used.
fn cpu() -> Duration {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(spent.tv_sec).unwrap_or(0),
        u32::try_from(spent.tv_nsec).unwrap_or(0),
    )
}

fn per_second(count: u64, took: Duration) -> f64 {
    count_of(count) / took.as_secs_f64()
}

/// A count as a number for a figure.
fn count_of(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}

/// Figures of one log: CPU, bytes, verification, comparison of many.
fn log_rows(dir: &Path, interrupt: &Interrupt) -> Result<Vec<Row>> {
    let log = dir.join("log");
    let (records, body_bytes) = write_log(&log, RECORDS, interrupt)?;
    let mut rows = cpu_rows(&log, records)?;
    let plain = bytes_of(&log)?;
    rows.push(
        Row::new("bytes a record, both trees", count_of(plain) / count_of(records), "bytes")
            .should_be(Goal::AtMost(400.0)),
    );
    rows.push(Row::new("of them the body", count_of(body_bytes), "bytes"));
    let against = Against::default();
    let (one, both) = (dir.join("one"), &log);
    copy_without_second(&log, &one)?;
    for (name, folder, least) in
        [("SHA-256", one.as_path(), 1.5e6), ("both trees", both.as_path(), 0.4e6)]
    {
        let begun = Instant::now();
        let found = verify_evidence(&Dir::new(folder), &against, &(AwsLc, Sm))?;
        ensure!(found.is_good() && found.covered == records, "{}", found.text());
        let rate = per_second(records, begun.elapsed());
        let row = Row::new(&format!("verified, one core, {name}"), rate, "records/s");
        rows.push(row.should_be(Goal::AtLeast(least)));
    }
    interrupt.pause(Duration::ZERO)?;
    let fs = RealFs::open(&log)?;
    let begun = cpu();
    for old in old_segments(&fs, records)? {
        seal(&fs, &old.name, &|| true)?;
    }
    let packing = cpu().saturating_sub(begun);
    let packed = count_of(bytes_of(&log)?) / count_of(records);
    rows.push(Row::new("the same, packed", packed, "bytes").should_be(Goal::AtMost(150.0)));
    let each = packing.as_secs_f64() * 1e6 / count_of(records);
    rows.push(Row::new("CPU to pack a record", each, "us"));
    let node = dir.join("node");
    write_log(&node, NODE_RECORDS, interrupt)?;
    rows.push(compare_row(dir, &node)?);
    Ok(rows)
}

/// Makes a log with both trees. Gives how many records it has, and the bytes of a body.
fn write_log(log: &Path, wanted: u64, interrupt: &Interrupt) -> Result<(u64, u64)> {
    let fs = RealFs::open(log)?;
    let home = Home::new(RealFs::open(log)?, LOG);
    home.begin::<Sha256>().and_then(|()| home.begin::<Sm3>())?;
    let options = Options { segment_bytes: 16 * 1024 * 1024, ..Options::new(LOG) };
    let clock = Arc::new(moat_model::clock::System::new());
    let (mut committer, _) = Committer::open(fs, clock, options)?;
    let (mut n, mut bytes) = (0, 0);
    while committer.next_seq() < wanted {
        let bodies: Vec<Vec<u8>> = (n..).take(FRAME_RECORDS).map(sample).collect::<Result<_>>()?;
        n += u64::try_from(bodies.len())?;
        bytes = bodies.first().map_or(0, Vec::len);
        let bodies: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
        committer.commit(&bodies)?;
        interrupt.pause(Duration::ZERO)?;
    }
    let records = committer.close()?;
    let key = log.with_extension("key");
    make_log_key(&key, LOG, Algorithm::Ed25519)?;
    let signer = log_signer(&read_key(std::fs::File::open(&key)?)?).context("no key")?;
    sign::<Sha256>(log, records, &*signer)?;
    let second = format!("{LOG}{}", Sm3::ORIGIN);
    sign::<Sm3>(log, records, &Renamed::new(&*signer, &second)?)?;
    Ok((records, u64::try_from(bytes)?))
}

fn sign<H: LogHash>(log: &Path, records: u64, signer: &dyn Signer) -> Result<()> {
    let home = Home::new(RealFs::open(log)?, LOG);
    let mut tree = LogTree::<_, H>::open(home, records, &|| true)?;
    tree.read_to(records, &|| true)?;
    tree.publish(&[signer])?;
    Ok(())
}

/// What a record costs beside the write: its frame and chain, and the two trees.
fn cpu_rows(log: &Path, records: u64) -> Result<Vec<Row>> {
    let shm = Path::new("/dev/shm").join(format!("moat-bench-{}", std::process::id()));
    let shm = Folder::make(&shm)?;
    let options = Options { segment_bytes: 64 * 1024 * 1024, ..Options::new(LOG) };
    let clock = Arc::new(moat_model::clock::System::new());
    let (mut committer, _) = Committer::open(RealFs::open(&shm.0)?, clock, options)?;
    let bodies: Vec<Vec<u8>> = (0..).take(FRAME_RECORDS).map(sample).collect::<Result<_>>()?;
    let bodies: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
    let (begun, rounds) = (cpu(), 100);
    for _ in 0..rounds {
        committer.commit(&bodies)?;
    }
    let count = f64::from(rounds) * count_of(u64::try_from(FRAME_RECORDS)?);
    let frames_us = cpu().saturating_sub(begun).as_secs_f64() * 1e6 / count;
    let (mut leaves, end) = (Vec::new(), records.min(100_000));
    each_leaf(&Dir::new(log), 0..end, |_, leaf| {
        leaves.push(leaf.to_vec());
        ControlFlow::Continue(())
    })?;
    let trees_us = {
        let begun = cpu();
        let (mut one, mut other, mut full) =
            (Edge::<Sha256>::new(), Edge::<Sm3>::new(), Vec::new());
        for some in leaves.chunks(64) {
            let some: Vec<&[u8]> = some.iter().map(Vec::as_slice).collect();
            for hash in Sha256::leaves(&some) {
                one.push(hash, &mut full).map_err(|_| anyhow!("too large"))?;
            }
            for hash in Sm3::leaves(&some) {
                other.push(hash, &mut full).map_err(|_| anyhow!("too large"))?;
            }
            full.clear();
        }
        cpu().saturating_sub(begun).as_secs_f64() * 1e6 / count_of(end)
    };
    Ok(vec![
        Row::new("CPU a record, SHA-256 only", frames_us, "us").should_be(Goal::AtMost(2.0)),
        Row::new("CPU a record, both trees", frames_us + trees_us, "us")
            .should_be(Goal::AtMost(5.0)),
    ])
}

/// Bytes of a folder with all below it.
fn bytes_of(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        bytes += if path.is_dir() { bytes_of(&path)? } else { std::fs::metadata(&path)?.len() };
    }
    Ok(bytes)
}

/// The same log without its SM3 tree, by hard links.
fn copy_without_second(log: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(log)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        let is_second = name == "sm3" || name.to_string_lossy().ends_with(".sm3");
        let to = to.join(name);
        match (path.is_dir(), is_second) {
            (_, true) => {}
            (true, false) => copy_without_second(&path, &to)?,
            (false, false) => std::fs::hard_link(&path, &to)?,
        }
    }
    Ok(())
}

/// Many logs and their mirrors: the same bytes under many names, each read by itself.
fn compare_row(dir: &Path, log: &Path) -> Result<Row> {
    let (logs, mirrors) = (dir.join("logs"), dir.join("mirrors"));
    for folder in [&logs, &mirrors] {
        std::fs::create_dir(folder)?;
        for n in 0..NODES {
            std::os::unix::fs::symlink(log, folder.join(format!("edge-{n:03}")))?;
        }
    }
    let begun = Instant::now();
    let bad = compare_folders(&logs, &mirrors, None, None)?.iter().filter(|v| !v.is_good).count();
    ensure!(bad == 0, "{bad} logs are not good");
    let took = begun.elapsed().as_secs_f64();
    let name =
        format!("{NODES} nodes of {NODE_RECORDS} records compared and re-hashed, both trees");
    Ok(Row::new(&name, took, "s").should_be(Goal::AtMost(60.0)))
}

/// Proofs and location in a large tree.
fn tree_rows(dir: &Path, interrupt: &Interrupt) -> Result<Vec<Row>> {
    let (good, other) = (dir.join("good"), dir.join("other"));
    let key = dir.with_extension("key");
    make_log_key(&key, LOG, Algorithm::Ed25519)?;
    let signer = log_signer(&read_key(std::fs::File::open(&key)?)?).context("no key")?;
    let flipped = LEAVES / 3;
    write_tree(&good, None, None, &*signer, interrupt)?;
    write_tree(&other, Some(flipped), Some(&good), &*signer, interrupt)?;
    let mut times = Vec::new();
    for n in 0..PROOFS {
        let index = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % LEAVES;
        let begun = Instant::now();
        let store = Dir::new(&good);
        let tree = Tree::<Sha256, _>::new(LEAVES, Stored::new(&store, LEAVES));
        tree.and_then(|mut tree| tree.inclusion(index)).map_err(|error| anyhow!("{error}"))?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let p99 = times.get(times.len() * 99 / 100).copied().unwrap_or(f64::MAX);
    let begun = Instant::now();
    let found = compare(&Dir::new(&good), &Dir::new(&other))?;
    let took = begun.elapsed().as_secs_f64() * 1e3;
    let Compared::Forked(fork) = found else { bail!("the flipped bit was not found") };
    ensure!(fork.first == flipped, "found record {} for {flipped}", fork.first);
    Ok(vec![
        Row::new("inclusion proof at 10^7 leaves, p99", p99, "ms").should_be(Goal::AtMost(1.0)),
        Row::new("one flipped bit among 10^7 records located", took, "ms")
            .should_be(Goal::AtMost(50.0)),
    ])
}

/// Writes tiles and a checkpoint, with one leaf that differs; tiles that `like` has too are linked.
fn write_tree(
    dir: &Path,
    differs: Option<u64>,
    like: Option<&Path>,
    signer: &dyn Signer,
    interrupt: &Interrupt,
) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let (mut edge, mut full) = (Edge::<Sha256>::new(), Vec::new());
    let put = |path: &str, bytes: &[u8]| -> Result<()> {
        let to = dir.join(path);
        std::fs::create_dir_all(to.parent().unwrap_or(dir))?;
        let twin = like.map(|like| like.join(path));
        match twin.filter(|twin| std::fs::read(twin).is_ok_and(|found| found == bytes)) {
            Some(twin) => std::fs::hard_link(twin, &to)?,
            None => std::fs::write(&to, bytes)?,
        }
        Ok(())
    };
    for n in 0..LEAVES {
        let hash = Sha256::leaf(&(n | (u64::from(differs == Some(n)) << 63)).to_be_bytes());
        edge.push(hash, &mut full).map_err(|_| anyhow!("too large"))?;
        for (tile, bytes) in full.drain(..) {
            put(&tile.path(), &bytes)?;
        }
        if n.is_multiple_of(100_000) {
            interrupt.pause(Duration::ZERO)?;
        }
    }
    for (tile, bytes) in edge.partial() {
        put(&tile.path(), &bytes)?;
    }
    let checkpoint = Checkpoint::new(LOG, Head { size: LEAVES, root: edge.root() })?;
    put(CHECKPOINT_FILE, checkpoint.sign(&[signer])?.to_string().as_bytes())
}

/// One-row transactions a second of PostgreSQL, with synchronous commit, by clients.
fn postgres_rates(
    dir: &Path,
    settings: &Settings,
    interrupt: &Interrupt,
) -> Result<Vec<(u32, f64)>> {
    std::fs::create_dir_all(dir)?;
    let program = |name: &str| settings.postgres.join(name);
    ensure!(program("initdb").is_file(), "{} has no initdb", settings.postgres.display());
    let is_root = rustix::process::geteuid().is_root();
    // PostgreSQL refuses to run as root.
    let command = |name: &str| {
        if !is_root {
            return Command::new(program(name));
        }
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program(name));
        command
    };
    if is_root {
        done(Command::new("chown").arg("postgres").arg(dir))?;
    }
    let data = dir.join("data");
    done(command("initdb").args(["-A", "trust", "-U", "bench", "-D"]).arg(&data))?;
    let listen = format!("-k {} -c listen_addresses='' -c max_connections=300", dir.display());
    let control = |action: &str| {
        let mut control = command("pg_ctl");
        control.arg(action).args(["-w", "-s", "-t", &START.as_secs().to_string(), "-D"]).arg(&data);
        control.stdin(Stdio::null());
        control
    };
    done(control("start").args(["-o", &listen, "-l"]).arg(dir.join("log")))?;
    let rates = insert_rates(dir, settings, interrupt, &command);
    done(control("stop").args(["-m", "fast"]))?;
    rates
}

fn insert_rates(
    dir: &Path,
    settings: &Settings,
    interrupt: &Interrupt,
    command: &impl Fn(&str) -> Command,
) -> Result<Vec<(u32, f64)>> {
    let at = dir.display().to_string();
    let to = ["-h", &at, "-U", "bench"];
    let table = "create table audit (seq bigserial primary key, at timestamptz default now(), body \
                 bytea not null)";
    done(command("psql").args(to).args(["-q", "-c", table, "postgres"]))?;
    let script = dir.join("insert.sql");
    let row = "insert into audit (body) values (decode(repeat('5a', 300), 'hex'));\n";
    std::fs::write(&script, row)?;
    let mut rates = Vec::new();
    for clients in CLIENTS {
        interrupt.pause(Duration::ZERO)?;
        let (count, seconds) = (clients.to_string(), settings.seconds.to_string());
        let mut bench = command("pgbench");
        bench
            .args(to)
            .args(["-n", "-M", "prepared", "-c", &count, "-j", "2", "-T", &seconds, "-f"]);
        let out = done(bench.arg(&script).arg("postgres"))?;
        let tps = out.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next());
        rates.push((clients, tps.context("pgbench told no tps")?.parse()?));
    }
    Ok(rates)
}

/// Runs a command to its end and gives what it printed.
fn done(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let out = command.output().with_context(|| name.clone())?;
    ensure!(out.status.success(), "{name}: {}", String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// One-row transactions a second of SQLite, by its own program.
fn sqlite_rate(dir: &Path) -> Result<f64> {
    std::fs::create_dir_all(dir)?;
    let (script, file) = (dir.join("rows.sql"), dir.join("db"));
    let table = "pragma journal_mode=wal; pragma synchronous=full; create table audit (seq integer \
                 primary key, at text, body blob not null);\n";
    done(Command::new("sqlite3").arg(&file).arg(table))?;
    let row = format!("insert into audit (body) values (x'{}');\n", "5a".repeat(300));
    let rows = row.repeat(SQLITE_ROWS);
    std::fs::write(&script, format!("pragma synchronous=full;\n{rows}"))?;
    let begun = Instant::now();
    done(Command::new("sqlite3").arg(&file).stdin(std::fs::File::open(&script)?))?;
    Ok(per_second(u64::try_from(SQLITE_ROWS)?, begun.elapsed()))
}
