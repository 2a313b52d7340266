//! Load of new connections, by callers of our own: oha cannot be told which key-agreement group to
//! offer, and sides that agree on keys in different groups do not the same work.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustls::NamedGroup;
use tokio::task::{JoinSet, LocalSet};

use super::load::{CONNECTIONS, Load, Seen};
use super::process::Interrupt;
use super::site::TARGET;
use crate::demo::client::{Client, get};

/// How often a run is looked at.
const STEP: Duration = Duration::from_millis(50);

/// The caller of the bench.
pub(crate) fn teller(dir: &Path, port: u16, group: Option<NamedGroup>) -> Result<Client> {
    let read = |name: &str| {
        let path = dir.join("pki").join(name);
        std::fs::read(&path).with_context(|| path.display().to_string())
    };
    let (trust, chain, key) = (read("root.pem")?, read("teller.pem")?, read("teller.key")?);
    Client::offering(port, &trust, Some((&chain, &key)), group)
}

/// One run.
struct Run {
    client: Client,
    left: Cell<u64>,
    /// From the begin of each connection to the end of its answer.
    taken: RefCell<Vec<Duration>>,
}

/// Makes the calls, one on each connection, offering `group` and no other. An error unless every
/// one was answered 200, and after `most`.
pub(crate) fn run(
    load: &Load<'_>,
    group: NamedGroup,
    most: Duration,
    interrupt: &Interrupt,
    mut meanwhile: impl FnMut() -> Result<()>,
) -> Result<Seen> {
    let client = teller(load.dir, load.port, Some(group))?;
    let (left, taken) = (Cell::new(load.calls), RefCell::default());
    let run = Rc::new(Run { client, left, taken });
    let begun = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let mut callers = JoinSet::new();
        for _ in 0..CONNECTIONS {
            callers.spawn_local(Rc::clone(&run).call_until_done());
        }
        let mut look = tokio::time::interval(STEP);
        loop {
            tokio::select! {
                ended = callers.join_next() => match ended {
                    Some(ended) => ended??,
                    None => return Ok(()),
                },
                _ = look.tick() => {
                    interrupt.pause(Duration::ZERO)?;
                    ensure!(begun.elapsed() < most, "the calls took over {} s", most.as_secs());
                    meanwhile()?;
                }
            }
        }
    })?;
    seen(run.taken.take(), begun.elapsed()).context("no calls were made")
}

impl Run {
    async fn call_until_done(self: Rc<Self>) -> Result<()> {
        while let Some(left) = self.left.get().checked_sub(1) {
            self.left.set(left);
            let begun = Instant::now();
            let reply = self.client.call(get(TARGET)?).await?;
            ensure!(reply.status == 200, "a call was answered {}", reply.status);
            self.taken.borrow_mut().push(begun.elapsed());
        }
        Ok(())
    }
}

/// None of nothing.
fn seen(mut taken: Vec<Duration>, whole: Duration) -> Option<Seen> {
    taken.sort_unstable();
    // The first that is not longer than so many of a hundred.
    let at = |percent: usize| Some(taken.get(taken.len() * percent / 100)?.as_secs_f64() * 1e3);
    let per_s = taken.len() as f64 / whole.as_secs_f64();
    Some(Seen { p50_ms: at(50)?, p99_ms: at(99)?, per_s })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Seen, seen};

    #[test]
    fn percentiles_are_those_of_the_sorted_times() {
        let taken = (0..100).rev().map(Duration::from_millis).collect();
        let wanted = Seen { p50_ms: 50.0, p99_ms: 99.0, per_s: 50.0 };
        assert_eq!(seen(taken, Duration::from_secs(2)), Some(wanted));
        assert_eq!(seen(Vec::new(), Duration::from_secs(2)), None);
    }
}
