//! `cargo bench -p moat-auditor -- DIR SECONDS`: how fast records become durable on the disk of DIR.

use std::path::PathBuf;
use std::time::Duration;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let dir = arguments.next();
    let seconds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(3);
    let dir = dir.map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = dir.join(format!("moat-bench-{}", std::process::id()));
    match moat_auditor::bench::measure(&dir, Duration::from_secs(seconds)) {
        Ok(rows) => {
            for row in &rows {
                let holds = row.holds().map_or("", |holds| if holds { "holds" } else { "MISSED" });
                let ratio = row.ratio().map_or(String::new(), |ratio| format!("{ratio:.2} x raw"));
                let (figure, value, unit) = (&row.figure, row.value, row.unit);
                println!("{figure:32} {value:>12.1} {unit:10} {ratio:12} {holds}");
            }
        }
        Err(error) => eprintln!("{error}: {:?}", std::error::Error::source(&error)),
    }
    let _: std::io::Result<()> = std::fs::remove_dir_all(&dir);
}
