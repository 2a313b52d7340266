//! Steps with a number, a name and a time, and a table of them at the end.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// The steps of one task.
pub(crate) struct Steps {
    total: usize,
    done: Vec<Step>,
    began: Instant,
}

struct Step {
    name: String,
    took: Duration,
    /// What it found in a few words; `None` if it failed.
    result: Option<String>,
}

impl Steps {
    /// So many steps are to come.
    pub(crate) fn new(total: usize) -> Steps {
        Steps { total, done: Vec::new(), began: Instant::now() }
    }

    /// Runs one step; `work` says in a few words what came of it.
    pub(crate) fn step(&mut self, name: &str, work: impl FnOnce() -> Result<String>) -> Result<()> {
        let place = format!("[{}/{}]", self.done.len() + 1, self.total);
        eprintln!("{place} {name} …");
        let began = Instant::now();
        let worked = work();
        let took = began.elapsed();
        let word = if worked.is_ok() { "ok" } else { "FAILED" };
        eprintln!("{place} {name}: {word}, {}", seconds(took));
        let result = worked.as_ref().ok().cloned();
        self.done.push(Step { name: name.to_owned(), took, result });
        worked.map(|_| ()).with_context(|| format!("{place} {name}"))
    }

    /// Prints the table: every step with its time and result, and what was not reached.
    pub(crate) fn summary(&self) {
        let width = self.done.iter().map(|step| step.name.chars().count()).max().unwrap_or(0);
        eprintln!();
        for Step { name, took, result } in &self.done {
            let result = match result {
                Some(note) => format!("ok      {note}"),
                None => "FAILED".to_owned(),
            };
            eprintln!("{name:width$}  {:>9}  {}", seconds(*took), result.trim_end());
        }
        let left = self.total.saturating_sub(self.done.len());
        if left > 0 {
            eprintln!("{:width$}  {:>9}  not reached: {left}", "", "");
        }
        eprintln!("{:width$}  {:>9}", "total", seconds(self.began.elapsed()));
    }
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}
