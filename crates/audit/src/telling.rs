//! What a verification says, for people and for programs: the same in every program that verifies.

use moat_model::code::audit as codes;
use serde_json::{Value, json};

use crate::evidence::Evidence;
use crate::hash::hex;

impl Evidence {
    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let report = &self.report;
        let findings = report.findings.kept().iter().map(|f| {
            json!({ "code": f.code.id, "segment": f.segment, "offset": f.offset, "seq": f.seq,
                    "text": f.text })
        });
        let checkpoints = self.seen.iter().map(|seen| {
            json!({ "name": seen.name, "size": seen.size, "root_sha256": hex(&seen.root),
                    "accepted": seen.is_accepted, "signed_by": seen.signed_by,
                    "witnesses": seen.witnesses })
        });
        let torn = report.torn.as_ref().map(
            |torn| json!({ "segment": torn.segment, "offset": torn.offset, "bytes": torn.bytes }),
        );
        json!({
            "log": report.log_id,
            "records": report.records,
            "segments": report.segments,
            "bytes": report.bytes,
            "root_sha256": hex(&report.root),
            "whole": report.is_whole(),
            "findings": findings.collect::<Vec<_>>(),
            "more_findings": report.findings.dropped(),
            "signatures_checked": self.is_checked,
            "covered": self.covered,
            "unsigned": self.unsigned,
            "unsigned_max": self.unsigned_max,
            "good": self.is_good(),
            "checkpoints": checkpoints.collect::<Vec<_>>(),
            "sm3": self.second.as_ref().map(|seen| json!({
                "size": seen.size, "root_sm3": hex(&seen.root), "accepted": seen.is_accepted,
                "signed_by": seen.signed_by,
            })),
            "unpaired": report.unpaired.iter().map(|u| u.seq).collect::<Vec<_>>(),
            "torn": torn,
            "removed": report.removed.iter().map(|r| [r.start, r.end - 1]).collect::<Vec<_>>(),
        })
    }

    /// For people: lines that end in newlines.
    #[must_use]
    pub fn text(&self) -> String {
        let report = &self.report;
        let parts = if self.has_segments { "segments" } else { "bundles" };
        let mut lines = vec![
            format!("log          {}", report.log_id.as_deref().unwrap_or("(empty)")),
            format!("records      {} in {} {parts}", report.records, report.segments),
            format!("root         sha256:{}", hex(&report.root)),
            format!("signed       {}", self.signed()),
        ];
        if let Some(second) = &self.second {
            let by = match (second.is_accepted, second.signed_by.join(", ")) {
                (true, by) if !by.is_empty() => format!(", by {by}"),
                _ => "; by whom was not asked".to_owned(),
            };
            lines.push(format!(
                "SM3 tree     {} records, sm3:{}{by}",
                second.size,
                hex(&second.root)
            ));
        }
        lines.extend(report.findings.kept().iter().map(|found| format!("FOUND        {found}")));
        if report.findings.dropped() > 0 {
            lines.push(format!("FOUND        {} more", report.findings.dropped()));
        }
        if let Some(torn) = &report.torn {
            let (bytes, offset, segment) = (torn.bytes, torn.offset, &torn.segment);
            let text = format!("{bytes} bytes at {offset} of {segment}: never acknowledged");
            lines.push(format!("torn tail    {text}"));
        }
        let integrity = if report.is_whole() { "whole" } else { "TAMPERED or damaged" };
        lines.push(format!("integrity    {integrity}"));
        lines.extend(self.coverage().map(|text| format!("coverage     {text}")));
        lines.push(match report.unpaired.len() {
            0 => "completeness every intent has its outcome".to_owned(),
            open => format!("completeness {open} intents have no outcome yet"),
        });
        let removed: u64 = report.removed.iter().map(|range| range.end - range.start).sum();
        if let (Some(first), Some(last)) = (report.removed.first(), report.removed.last()) {
            let (first, last) = (first.start, last.end - 1);
            let text = format!("{removed} records between {first} and {last} were removed");
            lines.push(format!("retention    {text}; their hashes are in the tree"));
        }
        lines.push(String::new());
        lines.join("\n")
    }

    /// Whether enough is under an accepted checkpoint, if that was asked.
    fn coverage(&self) -> Option<String> {
        let max = self.unsigned_max?;
        let unsigned = self.unsigned;
        Some(if self.is_tail_unsigned() {
            let code = &codes::UNSIGNED_TAIL;
            format!(
                "UNSIGNED TAIL: {} {unsigned} records, {max} may be: {}",
                code.id, code.en.title
            )
        } else if unsigned == 0 {
            "every record is under an accepted checkpoint".to_owned()
        } else {
            format!("the last {unsigned} records are not signed yet; {max} may be")
        })
    }

    /// How much is signed, in one line.
    fn signed(&self) -> String {
        let Some(last) = self.seen.iter().rfind(|seen| seen.is_accepted).or(self.seen.last())
        else {
            return "nothing: there is no checkpoint".to_owned();
        };
        let records = format!("{} of {} records", self.covered, self.report.records);
        if !self.is_checked {
            return format!("{records}; by whom was not asked (--key, --policy)");
        }
        let by = [last.signed_by.as_slice(), &last.witnesses].concat().join(", ");
        if last.is_accepted { format!("{records}, by {by}") } else { records }
    }
}
