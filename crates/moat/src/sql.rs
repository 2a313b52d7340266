//! `moat audit sql`: the records as statements for SQLite, so that analysts can ask with what they know.
//!
//! A copy for reading: nothing in it is evidence, and nothing reads it back.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use moat_audit::code;
use moat_audit::hash::hex;
use moat_audit::search::leaves;
use moat_model::clock::rfc3339_ms;

const TABLES: &str = "PRAGMA journal_mode=OFF;
BEGIN;
CREATE TABLE record (seq INTEGER PRIMARY KEY, time TEXT NOT NULL, t_wall_ns INTEGER NOT NULL,
  kind TEXT NOT NULL, outcome TEXT, code TEXT, stage TEXT, actor TEXT, method TEXT, op TEXT,
  object TEXT, route TEXT, listener TEXT, tenant TEXT, trace TEXT NOT NULL, intent_seq INTEGER,
  parent_seq INTEGER, http_status INTEGER, duration_us INTEGER, upstream TEXT, policy TEXT,
  generation INTEGER, note TEXT, leaf_hash TEXT NOT NULL);
CREATE TABLE field (seq INTEGER NOT NULL REFERENCES record (seq), name TEXT NOT NULL,
  class TEXT NOT NULL, line TEXT NOT NULL);
";
const INDEXES: &str = "CREATE INDEX record_actor ON record (actor);
CREATE INDEX record_object ON record (object);
CREATE INDEX record_trace ON record (trace);
CREATE INDEX field_name ON field (name);
COMMIT;
";

/// A text as SQL has it; an empty one is NULL.
fn text(value: &str) -> String {
    if value.is_empty() {
        return "NULL".to_owned();
    }
    // SQLite ends a text at a NUL.
    format!("'{}'", value.replace('\'', "''").replace('\0', "\u{fffd}"))
}

fn number(value: Option<u64>) -> String {
    value.map_or_else(|| "NULL".to_owned(), |value| value.to_string())
}

/// Writes the records from `from` to `to`.
pub(crate) fn run(dir: &Path, from: u64, to: Option<u64>) -> Result<ExitCode> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    write!(out, "{TABLES}")?;
    for found in leaves(dir).with_context(|| dir.display().to_string())?.starting_at(from) {
        let found = found.context("the log cannot be read any further; `moat audit verify`")?;
        let (head, body) = (&found.leaf.head, &found.leaf.body);
        if to.is_some_and(|to| head.seq > to) {
            break;
        }
        let values = [
            head.seq.to_string(),
            text(&rfc3339_ms(head.t_wall_ns)),
            head.t_wall_ns.to_string(),
            text(body.kind.name()),
            text(body.outcome.map_or("", |outcome| outcome.name())),
            text(&body.code),
            text(body.stage.map_or("", |stage| stage.name())),
            text(&body.actor),
            text(&body.method),
            text(body.op.map_or("", |op| op.name())),
            text(&body.object),
            text(&body.route),
            text(&body.listener),
            text(&body.tenant),
            text(&hex(&body.trace_id)),
            number(body.intent_seq),
            number(body.parent_seq),
            number(body.http_status.map(u64::from)),
            body.duration_us.to_string(),
            text(&body.upstream),
            text(&body.policy_ver),
            body.generation.to_string(),
            text(&body.note),
            text(&hex(&found.leaf_hash)),
        ];
        writeln!(out, "INSERT INTO record VALUES ({});", values.join(","))?;
        for (field, line) in body.fields.iter().zip(code::lines(body)) {
            let (name, class) = (text(field.name()), text(field.class().name()));
            let seq = head.seq;
            writeln!(out, "INSERT INTO field VALUES ({seq},{name},{class},{});", text(&line))?;
        }
    }
    write!(out, "{INDEXES}")?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_its_quotes() {
        assert_eq!(text("O'Hara'; DROP TABLE record; --"), "'O''Hara''; DROP TABLE record; --'");
        assert_eq!(text("a\0b"), "'a\u{fffd}b'");
        assert_eq!(text(""), "NULL");
    }
}
