//! The programs of `bpf/latency.bpf.c` in force.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use aya::maps::{Array, HashMap, MapData, RingBuf};
use aya::programs::{BtfTracePoint, RawTracePoint};
use aya::{Btf, Ebpf};
use moat_model::window::WINDOW_WORDS;

use super::book::WORKERS_MAX;
use super::report::Thread;
use crate::layout::{LatencyEvent, LatencyStall, LatencyThread, LatencyWindow};
use crate::object;

/// Most ports whose connections are looked at; `PORTS_MAX` in the program.
pub const PORTS_MAX: usize = 512;
/// What is shorter is only added up, in nanoseconds; in the order of `latency_control_at`.
const RUN_QUEUE_NS: u64 = 100_000;
const BUSY_NS: u64 = 500_000;
const FAULT_NS: u64 = 20_000;
const BLOCKED_NS: u64 = 100_000;
const DEVICE_NS: u64 = 5_000_000;
/// Page faults of one run for which it is told, however short.
const FAULTS: u64 = 24;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// What is to be watched.
pub struct Settings {
    /// Cgroup of the gateway.
    pub gateway: PathBuf,
    /// Cgroup of the auditor.
    pub auditor: Option<PathBuf>,
    /// Ports of listeners and services.
    pub ports: Vec<u16>,
    /// From when on a worker stands still, in nanoseconds.
    pub stall_ns: u64,
}

/// Something that came out of the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A worker told of a call.
    Window(u32, [u64; WINDOW_WORDS]),
    /// The kernel saw something.
    Seen(LatencyEvent),
    /// A thread stands still: what it is, where it is, its stack.
    Stall(LatencyEvent, Vec<u64>),
}

/// What was counted, in the order of `latency_count_at`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Windows taken.
    pub windows: u64,
    /// Windows lost.
    pub windows_lost: u64,
    /// Events told.
    pub events: u64,
    /// Events lost.
    pub events_lost: u64,
    /// Time of requests to block devices, in nanoseconds.
    pub device_ns: u64,
    /// How many there were.
    pub device_requests: u64,
    /// TCP segments sent again.
    pub retransmits: u64,
}

/// See the module. The programs are gone with the process that holds them.
pub struct Probe {
    _bpf: Ebpf,
    slots: Array<MapData, u64>,
    threads: HashMap<MapData, u32, [u8; LatencyThread::BYTES]>,
    ports: HashMap<MapData, u32, u32>,
    counts: Array<MapData, u64>,
    events: RingBuf<MapData>,
}

/// A program that may be missing: what it is called among the probes, why it is missing if it is.
pub type Part = (&'static str, Result<(), String>);

impl Probe {
    /// Loads and attaches. Parts without which the rest still says something are told one by one.
    ///
    /// # Errors
    /// The kernel does not take what the rest rests on, or there is no such cgroup.
    pub fn attach(settings: &Settings) -> Result<(Probe, Vec<Part>), Error> {
        let btf = Btf::from_sys_fs()?;
        let mut bpf = Ebpf::load(object::LATENCY)?;
        for (name, tracepoint) in [
            ("latency_switch", "sched_switch"),
            ("latency_wakeup", "sched_wakeup"),
            ("latency_exit", "sched_process_exit"),
        ] {
            let program: &mut BtfTracePoint = program(&mut bpf, name)?.try_into()?;
            program.load(tracepoint, &btf)?;
        }
        let parts = [
            ("latency_stall", &[("latency_timer", "hrtimer_expire_entry")][..]),
            (
                "latency_device",
                &[("latency_issue", "block_rq_issue"), ("latency_complete", "block_rq_complete")],
            ),
            ("latency_retransmit", &[("latency_retransmit", "tcp_retransmit_skb")]),
        ];
        for (_, programs) in &parts {
            for (name, _) in *programs {
                let program: &mut RawTracePoint = program(&mut bpf, name)?.try_into()?;
                program.load()?;
            }
        }
        // Before anything is attached, so that the first event finds all it needs.
        set_up(&mut bpf, settings)?;
        let raw = |bpf: &mut Ebpf, name: &str, at: &str| -> Result<(), Error> {
            let program: &mut RawTracePoint = program(bpf, name)?.try_into()?;
            program.attach(at)?;
            Ok(())
        };
        let mut told = Vec::new();
        for (part, programs) in parts {
            let attached = programs.iter().try_for_each(|(name, at)| raw(&mut bpf, name, at));
            told.push((part, attached.map_err(|error| error.to_string())));
        }
        for name in ["latency_exit", "latency_wakeup", "latency_switch"] {
            let program: &mut BtfTracePoint = program(&mut bpf, name)?.try_into()?;
            program.attach()?;
        }
        let mut take =
            |name: &str| bpf.take_map(name).ok_or_else(|| format!("no map {name} in the object"));
        let slots = take("latency_slots")?.try_into()?;
        let threads = take("latency_threads")?.try_into()?;
        let ports = take("latency_ports")?.try_into()?;
        let counts = take("latency_counts")?.try_into()?;
        let events = take("latency_events")?.try_into()?;
        Ok((Probe { _bpf: bpf, slots, threads, ports, counts, events }, told))
    }

    /// Where workers publish, by their numbers. Those before are forgotten.
    ///
    /// # Errors
    /// The kernel does not take it.
    pub fn set_slots(&mut self, slots: &[u64]) -> Result<(), Error> {
        for number in 0..WORKERS_MAX {
            let slot = slots.get(usize::try_from(number)?).copied().unwrap_or(0);
            self.slots.set(number, slot, 0)?;
        }
        Ok(())
    }

    /// Adds ports to those whose connections are looked at, as far as there is room.
    ///
    /// # Errors
    /// The kernel does not take it.
    pub fn add_ports(&mut self, ports: impl Iterator<Item = u16>) -> Result<(), Error> {
        let known = self.ports.keys().filter_map(Result::ok).count();
        for port in ports.take(PORTS_MAX.saturating_sub(known)) {
            self.ports.insert(u32::from(port), 0, 0)?;
        }
        Ok(())
    }

    /// The next event that was not read yet; `Some(None)` is one of a form that is not known.
    pub fn take(&mut self) -> Option<Option<Event>> {
        self.events.next().map(|bytes| Event::parse(&bytes))
    }

    /// What was counted.
    ///
    /// # Errors
    /// The kernel does not give it.
    pub fn counts(&self) -> Result<Counts, Error> {
        let at = |place: u32| self.counts.get(&place, 0);
        Ok(Counts {
            windows: at(0)?,
            windows_lost: at(1)?,
            events: at(2)?,
            events_lost: at(3)?,
            device_ns: at(4)?,
            device_requests: at(5)?,
            retransmits: at(6)?,
        })
    }

    /// What threads did.
    #[must_use]
    pub fn threads(&self) -> Vec<Thread> {
        let read = self.threads.iter().filter_map(Result::ok);
        let known = read.filter_map(|(_, bytes)| LatencyThread::parse(&bytes));
        let mut threads: Vec<Thread> = known.map(|thread| thread_of(&thread)).collect();
        threads.sort_by(|one, other| one.name.cmp(&other.name));
        threads
    }
}

impl Event {
    /// Reads it from the ring's bytes.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Event> {
        if let Some(window) = LatencyWindow::parse(bytes).filter(|window| window.kind == 0) {
            let words = words(&window.words);
            return Some(Event::Window(window.number, words.try_into().ok()?));
        }
        if let Some(stall) = LatencyStall::parse(bytes) {
            let mut stack = vec![stall.instruction];
            stack.extend(words(&stall.stack));
            return Some(Event::Stall(LatencyEvent::parse(&stall.event)?, stack));
        }
        LatencyEvent::parse(bytes).map(Event::Seen)
    }
}

fn words(bytes: &[u8]) -> Vec<u64> {
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().map(|word| u64::from_ne_bytes(*word)).collect()
}

fn thread_of(thread: &LatencyThread) -> Thread {
    let name =
        if thread.role == 0 { format!("worker-{}", thread.number) } else { "auditor".into() };
    let sums = words(&thread.sums_ns);
    let us = |at: usize| sums.get(at).copied().unwrap_or(0) / 1_000;
    Thread {
        name,
        run_us: us(0),
        ready_us: us(1),
        fault_us: us(2),
        idle_us: us(3),
        blocked_us: us(4),
    }
}

fn program<'a>(bpf: &'a mut Ebpf, name: &str) -> Result<&'a mut aya::programs::Program, Error> {
    bpf.program_mut(name).ok_or_else(|| format!("no program {name}").into())
}

fn set_up(bpf: &mut Ebpf, settings: &Settings) -> Result<(), Error> {
    let control = bpf.map_mut("latency_control").ok_or("no map latency_control")?;
    let mut control: Array<_, u64> = control.try_into()?;
    let bounds =
        [RUN_QUEUE_NS, BUSY_NS, FAULT_NS, BLOCKED_NS, DEVICE_NS, settings.stall_ns, FAULTS];
    for (place, bound) in (0..).zip(bounds) {
        control.set(place, bound, 0)?;
    }
    let roles = bpf.map_mut("latency_roles").ok_or("no map latency_roles")?;
    let mut roles: HashMap<_, u64, u32> = roles.try_into()?;
    let groups = [Some(&settings.gateway), settings.auditor.as_ref()];
    for (role, path) in (0..).zip(groups) {
        let Some(path) = path else { continue };
        // The id of a cgroup is the number of its folder's inode.
        let id = fs::metadata(path).map_err(|e| format!("{}: {e}", path.display()))?.ino();
        roles.insert(id, role, 0)?;
    }
    let ports = bpf.map_mut("latency_ports").ok_or("no map latency_ports")?;
    let mut ports: HashMap<_, u32, u32> = ports.try_into()?;
    for port in settings.ports.iter().take(PORTS_MAX) {
        ports.insert(u32::from(*port), 0, 0)?;
    }
    Ok(())
}
