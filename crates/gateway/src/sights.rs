//! What the kernel has seen of connections before they were accepted, joined with them by both
//! ends. Bounded in number and time; what is not there is absent, and the policy is told so.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use moat_net::control::Channel;
use moat_net::sight::Sight;
use moat_policy::Wire;

/// Most connections that are remembered until they are asked for; the oldest goes first.
const SIGHTS_MAX: usize = 16_384;
/// How long one is remembered: longer than a handshake may take.
const REMEMBERED: Duration = Duration::from_secs(10);

type Key = (SocketAddr, u16);

#[derive(Debug, Default)]
struct Table {
    sights: HashMap<Key, (Instant, Sight)>,
    order: VecDeque<(Instant, Key)>,
    /// Whether somebody sends.
    is_fed: bool,
}

/// See the module. Shared by all workers and touched once a connection, never by a call.
#[derive(Debug, Default)]
pub(crate) struct Sights(Mutex<Table>);

impl Sights {
    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing in here can be half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, sight: Sight, now: Instant) {
        let mut table = self.table();
        let key = (sight.source, sight.port);
        table.order.push_back((now, key));
        table.sights.insert(key, (now, sight));
        while let Some((since, key)) = table.order.front().copied() {
            if table.order.len() <= SIGHTS_MAX && now.duration_since(since) < REMEMBERED {
                break;
            }
            table.order.pop_front();
            // A later connection may have the same ends.
            if table.sights.get(&key).is_some_and(|(known, _)| *known == since) {
                table.sights.remove(&key);
            }
        }
    }

    /// What was seen of the connection with these ends; it is forgotten.
    pub(crate) fn take(&self, remote: SocketAddr, port: u16, now: Instant) -> View {
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        let mut table = self.table();
        match table.sights.remove(&(remote, port)) {
            Some((since, sight)) if now.duration_since(since) < REMEMBERED => View::of(&sight),
            _ if table.is_fed => View::absent("absent"),
            _ => View::absent("off"),
        }
    }

    /// Takes what a kernel role sends, on a thread of its own, until it ends.
    ///
    /// # Errors
    /// There can be no more threads.
    pub(crate) fn feed(self: &Arc<Sights>, fd: OwnedFd) -> std::io::Result<()> {
        let (sights, channel) = (Arc::clone(self), Channel::from_fd(fd));
        sights.table().is_fed = true;
        std::thread::Builder::new().name("sights".to_owned()).spawn(move || {
            while let Ok(Some((bytes, _))) = channel.recv() {
                if let Some(sight) = Sight::decode(&bytes) {
                    sights.put(sight, Instant::now());
                }
            }
            // Its successor comes with a channel of its own and sets it again.
            sights.table().is_fed = false;
        })?;
        Ok(())
    }
}

/// What is known of one connection, as the policy and the record are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) wire: Wire,
    /// The same as one line; empty where nobody looks.
    pub(crate) note: String,
}

impl View {
    /// Where there is no such connection.
    pub(crate) fn off() -> View {
        View::absent("off")
    }

    fn absent(state: &'static str) -> View {
        let note = if state == "off" { String::new() } else { state.to_owned() };
        View { wire: Wire { state, ..Wire::default() }, note }
    }

    fn of(sight: &Sight) -> View {
        let mut options = String::new();
        for kind in &sight.options {
            let dash = if options.is_empty() { "" } else { "-" };
            let _ = write!(options, "{dash}{kind}");
        }
        let state = if sight.is_partial { "partial" } else { "seen" };
        let waited_us = sight.waited_ns / 1_000;
        let Sight { ttl, window, segment_max, .. } = sight;
        let note = format!(
            "{state} ttl={ttl} window={window} mss={segment_max} options={options} \
             waited_us={waited_us}"
        );
        let wire = Wire {
            state,
            ttl: u64::from(*ttl),
            window: u64::from(*window),
            segment_max: u64::from(*segment_max),
            options,
            waited_us,
        };
        View { wire, note }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(port: u16) -> Sight {
        Sight {
            source: SocketAddr::new([10, 0, 0, 1].into(), port),
            port: 8443,
            is_partial: false,
            ttl: 64,
            window: 64240,
            segment_max: 1460,
            window_scale: 7,
            options: vec![2, 4, 8, 1, 3],
            waited_ns: 5_000,
        }
    }

    #[test]
    fn a_sight_is_found_once_by_both_ends_and_in_time() {
        let (sights, now) = (Sights::default(), Instant::now());
        let remote = |port| sight(port).source;
        assert_eq!(sights.take(remote(1), 8443, now).wire.state, "off");
        sights.table().is_fed = true;
        sights.put(sight(1), now);
        sights.put(sight(2), now);
        assert_eq!(sights.take(remote(1), 9, now).wire.state, "absent", "another listener");
        let view = sights.take("[::ffff:10.0.0.1]:1".parse().unwrap(), 8443, now);
        assert_eq!(view.note, "seen ttl=64 window=64240 mss=1460 options=2-4-8-1-3 waited_us=5");
        assert_eq!(sights.take(remote(1), 8443, now).wire.state, "absent", "only once");
        assert_eq!(sights.take(remote(2), 8443, now + REMEMBERED).wire.state, "absent", "too late");
    }

    #[test]
    fn no_more_are_kept_than_the_bound_and_none_for_long() {
        let (sights, now) = (Sights::default(), Instant::now());
        for port in 0..=u16::MAX {
            sights.put(sight(port), now);
        }
        let kept = |table: &Table| (table.sights.len(), table.order.len());
        assert_eq!(kept(&sights.table()), (SIGHTS_MAX, SIGHTS_MAX));
        sights.put(sight(1), now + REMEMBERED);
        assert_eq!(sights.table().sights.len(), 1);
    }
}
