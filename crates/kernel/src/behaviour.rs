//! What processes of our roles did, as the kernel tells it: above all what they have no business
//! doing.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use aya::maps::{Array, HashMap, MapData, RingBuf};
use aya::programs::{BtfTracePoint, RawTracePoint};
use aya::{Btf, Ebpf};

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
/// The one that needs Linux 6.14.
const CAPABLE: (&str, &str) = ("behaviour_capable", "cap_capable");
/// Kinds of acts, in the order of their numbers.
pub const KINDS: [&str; 6] = ["exec", "fork", "forbidden", "open", "refused", "capability"];
/// Place of `open` among them.
pub const OPEN: usize = 3;
/// Place of `refused` among them.
pub const REFUSED: usize = 4;
/// Place of `capability` among them.
pub const CAPABILITY: usize = 5;
/// How often each kind of act was done.
pub type Counts = [u64; KINDS.len()];

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
    /// Number of the system call or capability, where the kind has one.
    pub detail: u32,
    /// Name of the thread, whatever is not printable replaced.
    pub comm: String,
    /// What was executed or opened; else empty.
    pub path: String,
}

impl Deed {
    fn parse(bytes: &[u8]) -> Option<Deed> {
        let event = BehaviourEvent::parse(bytes)?;
        Some(Deed {
            role: usize::try_from(event.role).ok()?,
            kind: usize::try_from(event.kind).ok().filter(|kind| *kind < KINDS.len())?,
            pid: event.pid,
            detail: event.detail,
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
    /// The second part says why the use of capabilities is not watched, if it is not.
    ///
    /// # Errors
    /// The kernel does not take a program, or there is no such cgroup.
    pub fn watch(cgroups: &[PathBuf]) -> Result<(Behaviour, Result<(), String>), Error> {
        if cgroups.len() > ROLES_MAX {
            return Err(format!("more than {ROLES_MAX} roles").into());
        }
        let mut bpf = Ebpf::load(object::BEHAVIOUR)?;
        for (name, tracepoint) in PROGRAMS {
            raw(&mut bpf, name, tracepoint)?;
        }
        let program = bpf.program_mut("behaviour_call").ok_or("no program behaviour_call")?;
        let program: &mut BtfTracePoint = program.try_into()?;
        program.load("sys_exit", &Btf::from_sys_fs()?)?;
        program.attach()?;
        let (name, tracepoint) = CAPABLE;
        let capable = raw(&mut bpf, name, tracepoint).map_err(|error| error.to_string());
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
        Ok((Behaviour { _bpf: bpf, counts, events, roles: cgroups.len() }, capable))
    }

    /// The next act that was not read yet; `Some(None)` is one of a form that is not known.
    pub fn take(&mut self) -> Option<Option<Deed>> {
        self.events.next().map(|event| Deed::parse(&event))
    }

    /// How often each role did each kind of act.
    ///
    /// # Errors
    /// The kernel does not give it.
    pub fn counts(&self) -> Result<Vec<Counts>, Error> {
        let mut rows = Vec::with_capacity(self.roles);
        for role in 0..u32::try_from(self.roles)? {
            let mut row = Counts::default();
            for (kind, count) in (0..).zip(&mut row) {
                *count = self.counts.get(&(role * 6 + kind), 0)?;
            }
            rows.push(row);
        }
        Ok(rows)
    }

    /// Becomes readable when there are events.
    #[must_use]
    pub fn poll_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

fn raw(bpf: &mut Ebpf, name: &str, tracepoint: &str) -> Result<(), Error> {
    let program = bpf.program_mut(name).ok_or_else(|| format!("no program {name}"))?;
    let program: &mut RawTracePoint = program.try_into()?;
    program.load()?;
    program.attach(tracepoint)?;
    Ok(())
}
