//! Calls that come at an even pace, whatever happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use tokio::task::{JoinSet, LocalSet};

use crate::bench::fresh::teller;
use crate::bench::site::{Site, TARGET};
use crate::demo::client::{Client, get};

/// Callers, and how long each rests after a call.
const CALLERS: usize = 2;
const REST: Duration = Duration::from_millis(12);
/// Longest wait for an answer.
const WAIT: Duration = Duration::from_secs(5);

/// Callers at work.
pub(super) struct Paced {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<()>>,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    good: AtomicU64,
    bad: AtomicU64,
}

impl Paced {
    pub(super) fn start(site: &Site) -> Result<Paced> {
        let client = Arc::new(teller(site.dir(), site.gateway, None)?);
        let shared = Arc::<Shared>::default();
        let own = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            LocalSet::new().block_on(&runtime, async {
                let mut callers = JoinSet::new();
                for _ in 0..CALLERS {
                    callers.spawn_local(call(Arc::clone(&client), Arc::clone(&own)));
                }
                while callers.join_next().await.is_some() {}
            });
            Ok(())
        });
        Ok(Paced { shared, thread })
    }

    /// Ends; how many calls were answered.
    pub(super) fn stop(self) -> Result<u64> {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the callers panicked"))??;
        let (good, bad) =
            (self.shared.good.load(Ordering::Relaxed), self.shared.bad.load(Ordering::Relaxed));
        ensure!(bad * 20 <= good, "{bad} calls failed, {good} did not");
        Ok(good)
    }
}

async fn call(client: Arc<Client>, shared: Arc<Shared>) {
    while !shared.is_over.load(Ordering::Relaxed) {
        let Ok(Ok(mut kept)) = tokio::time::timeout(WAIT, client.keep()).await else {
            shared.bad.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(REST).await;
            continue;
        };
        while !shared.is_over.load(Ordering::Relaxed) {
            let Ok(request) = get(TARGET) else { return };
            let reply = tokio::time::timeout(WAIT, kept.call(request)).await;
            let is_good = matches!(reply, Ok(Ok(reply)) if reply.status == 200);
            let count = if is_good { &shared.good } else { &shared.bad };
            count.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(REST).await;
            if !is_good {
                break;
            }
        }
    }
}
