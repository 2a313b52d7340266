//! What processes of our roles did that they have no business doing, as the kernel tells it.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData, RingBuf};
use aya::programs::RawTracePoint;

use crate::layout::BehaviourEvent;
use crate::object;

/// Most roles that are watched; `ROLES_MAX` in `bpf/moat.h`.
pub const ROLES_MAX: usize = 8;
/// The programs and their tracepoints.
const PROGRAMS: [(&str, &str); 3] = [
    ("behaviour_exec", "sched_process_exec"),
    ("behaviour_fork", "sched_process_fork"),
    ("behaviour_signal", "signal_generate"),
];
/// Kinds of acts, in the order of their numbers.
pub const KINDS: [&str; 3] = ["exec", "fork", "forbidden"];

type Error = Box<dyn std::error::Error + Send + Sync>;

/// One act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    /// Index of the role, as it was given.
    pub role: usize,
    /// Index into [`KINDS`].
    pub kind: usize,
    /// Process id.
    pub pid: u32,
    /// Name of the thread, whatever is not printable replaced.
    pub comm: String,
    /// What was executed; else empty.
    pub path: String,
}

impl Deed {
    fn parse(bytes: &[u8]) -> Option<Deed> {
        let event = BehaviourEvent::parse(bytes)?;
        Some(Deed {
            role: usize::try_from(event.role).ok()?,
            kind: usize::try_from(event.kind).ok().filter(|kind| *kind < KINDS.len())?,
            pid: event.pid,
            comm: printable(&event.comm),
            path: printable(&event.path),
        })
    }
}

fn printable(bytes: &[u8]) -> String {
    let text = bytes.iter().take_while(|byte| **byte != 0);
    text.map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '?' }).collect()
}

/// The programs in force. They are gone with the process that holds them.
pub struct Behaviour {
    _bpf: Ebpf,
    counts: Array<MapData, u64>,
    events: RingBuf<MapData>,
    roles: usize,
}

impl Behaviour {
    /// Watches the processes of these cgroups, one a role.
    ///
    /// # Errors
    /// The kernel does not take a program, or there is no such cgroup.
    pub fn watch(cgroups: &[PathBuf]) -> Result<Behaviour, Error> {
        if cgroups.len() > ROLES_MAX {
            return Err(format!("more than {ROLES_MAX} roles").into());
        }
        let mut bpf = Ebpf::load(object::BEHAVIOUR)?;
        for (name, tracepoint) in PROGRAMS {
            let program = bpf.program_mut(name).ok_or_else(|| format!("no program {name}"))?;
            let program: &mut RawTracePoint = program.try_into()?;
            program.load()?;
            program.attach(tracepoint)?;
        }
        let mut take =
            |name: &str| bpf.take_map(name).ok_or_else(|| format!("no map {name} in the object"));
        let counts = take("behaviour_counts")?.try_into()?;
        let events = take("behaviour_events")?.try_into()?;
        let mut roles: HashMap<_, u64, u32> = take("behaviour_roles")?.try_into()?;
        for (number, path) in cgroups.iter().enumerate() {
            // The id of a cgroup is the number of its folder's inode.
            let id = fs::metadata(path).map_err(|e| format!("{}: {e}", path.display()))?.ino();
            roles.insert(id, u32::try_from(number)?, 0)?;
        }
        Ok(Behaviour { _bpf: bpf, counts, events, roles: cgroups.len() })
    }

    /// The next act that was not read yet; `Some(None)` is one of a form that is not known.
    pub fn take(&mut self) -> Option<Option<Deed>> {
        self.events.next().map(|event| Deed::parse(&event))
    }

    /// How often each role did each kind of act.
    ///
    /// # Errors
    /// The kernel does not give it.
    pub fn counts(&self) -> Result<Vec<[u64; 3]>, Error> {
        let mut rows = Vec::with_capacity(self.roles);
        for role in 0..u32::try_from(self.roles)? {
            let at = |kind: u32| self.counts.get(&(role * 3 + kind), 0);
            rows.push([at(0)?, at(1)?, at(2)?]);
        }
        Ok(rows)
    }

    /// Becomes readable when there are events.
    #[must_use]
    pub fn poll_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}
