//! The guard's programs and maps: loaded, attached to a cgroup, pinned.
//!
//! Everything pinned lies in one folder, named after the digest of the object. A later process
//! with the same object takes over what is pinned; one with another object attaches its own
//! programs first and then removes the old ones, so the cgroup is never without a guard.

use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData, RingBuf};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSockAddr};
use aya::{Ebpf, EbpfLoader};
use moat_model::egress::{Protocol, Rule};

use super::{RULES_MAX, key_of};
use crate::cgroup::unpin;
use crate::layout::{Attempts, Destination, DnsEvent, EgressEvent};
use crate::object;

/// Programs at a call, all of them in one go.
const CALLS: [&str; 4] =
    ["egress_connect4", "egress_connect6", "egress_sendmsg4", "egress_sendmsg6"];
/// Programs at a packet.
const PACKETS: [(&str, CgroupSkbAttachType); 2] = [
    ("egress_packet", CgroupSkbAttachType::Egress),
    ("egress_answers", CgroupSkbAttachType::Ingress),
];
/// What links are attached with: the kernel takes no flag from them and lets several programs stand
/// beside each other, all of which must agree.
const MODE: CgroupAttachMode = CgroupAttachMode::Single;
/// Places in `egress_control`.
const CONTROL_LIST: u32 = 0;
const CONTROL_OBSERVE: u32 = 1;

/// Why the guard is not in force, or could not be changed.
type Error = Box<dyn std::error::Error + Send + Sync>;
type Trie = LpmTrie<MapData, [u8; 20], u32>;

/// Where an attempt was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// At connect(2).
    Connect,
    /// At sendto(2) or sendmsg(2) of a socket that is not connected.
    Send,
    /// At a packet that came by another way.
    Packet,
}

impl Hook {
    /// The word for it in records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Hook::Connect => "connect",
            Hook::Send => "send",
            Hook::Packet => "packet",
        }
    }
}

/// An attempt that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Process id; 0 where it is a packet that was refused.
    pub pid: u32,
    /// User id.
    pub uid: u32,
    /// Name of the thread, whatever is not printable replaced.
    pub comm: String,
    /// Where to.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// Number of the protocol.
    pub protocol: u8,
    /// Where it was refused.
    pub hook: Hook,
}

impl Refused {
    fn parse(bytes: &[u8]) -> Option<Refused> {
        let event = EgressEvent::parse(bytes)?;
        let comm = event.comm.iter().take_while(|byte| **byte != 0);
        let printable = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '?' };
        Some(Refused {
            pid: event.pid,
            uid: event.uid,
            comm: comm.map(printable).collect(),
            address: Ipv6Addr::from(event.address).to_canonical(),
            port: event.port,
            protocol: event.protocol,
            hook: match event.hook {
                1 => Hook::Connect,
                2 => Hook::Send,
                _ => Hook::Packet,
            },
        })
    }

    /// `address:port/protocol`.
    #[must_use]
    pub fn destination(&self) -> String {
        destination(self.address, self.port, self.protocol)
    }
}

/// `address:port/protocol`, as records and tables have it.
#[must_use]
pub(crate) fn destination(address: IpAddr, port: u16, protocol: u8) -> String {
    let protocol = Protocol::name_of(protocol);
    format!("{}/{protocol}", std::net::SocketAddr::new(address, port))
}

/// What the kernel has counted since the guard was first attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Attempts that passed.
    pub allowed: u64,
    /// Attempts that were refused (or would have been, while observing).
    pub refused: u64,
    /// Of those, how many found no room for their event.
    pub lost: u64,
}

/// What has been recorded since the guard was first attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Refusals that have a record of their own.
    pub recorded: u64,
    /// Of those without room for their event, how many a record speaks of.
    pub lost: u64,
    /// Others that a record speaks of: whoever had read their events ended before.
    pub missed: u64,
}

impl Ledger {
    /// How many refusals records speak of.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.recorded + self.lost + self.missed
    }
}

/// The guard in force. Dropping it leaves the guard in force: it is pinned.
pub struct Guard {
    even: Trie,
    odd: Trie,
    control: Array<MapData, u32>,
    counts: Array<MapData, u64>,
    ledger: Array<MapData, u64>,
    seen: HashMap<MapData, [u8; 24], [u8; 24]>,
    events: RingBuf<MapData>,
    answers: RingBuf<MapData>,
}

impl Guard {
    /// Puts the guard in force for a cgroup, with nothing allowed unless a guard was in force
    /// there before. `pins` is a folder on a BPF file system, which is made.
    ///
    /// # Errors
    /// The kernel does not take or attach a program, or something cannot be pinned.
    pub fn attach(cgroup: &Path, pins: &Path) -> Result<Guard, Error> {
        let pins = pins.join(object::digest(object::EGRESS));
        fs::create_dir_all(&pins).map_err(|e| format!("{}: {e}", pins.display()))?;
        let mut bpf = EbpfLoader::new().default_map_pin_directory(&pins).load(object::EGRESS)?;
        let cgroup = fs::File::open(cgroup).map_err(|e| format!("{}: {e}", cgroup.display()))?;
        for name in CALLS {
            if is_attached(&pins.join(name)) {
                continue;
            }
            let program: &mut CgroupSockAddr = program(&mut bpf, name)?;
            program.load()?;
            let id = program.attach(&cgroup, MODE)?;
            let link: FdLink = program.take_link(id)?.try_into()?;
            link.pin(pins.join(name))?;
        }
        for (name, side) in PACKETS {
            if is_attached(&pins.join(name)) {
                continue;
            }
            let program: &mut CgroupSkb = program(&mut bpf, name)?;
            program.load()?;
            let id = program.attach(&cgroup, side, MODE)?;
            let link: FdLink = program.take_link(id)?.try_into()?;
            link.pin(pins.join(name))?;
        }
        remove_others(&pins);
        Guard::open(&mut bpf)
    }

    fn open(bpf: &mut Ebpf) -> Result<Guard, Error> {
        let mut take =
            |name: &str| bpf.take_map(name).ok_or_else(|| format!("no map {name} in the object"));
        Ok(Guard {
            even: take("allow_even")?.try_into()?,
            odd: take("allow_odd")?.try_into()?,
            control: take("egress_control")?.try_into()?,
            counts: take("egress_counts")?.try_into()?,
            ledger: take("egress_ledger")?.try_into()?,
            seen: take("egress_seen")?.try_into()?,
            events: take("egress_events")?.try_into()?,
            answers: take("dns_answers")?.try_into()?,
        })
    }

    /// Puts another list in force, all of it at once: the list that is not in force is written and
    /// then made the one that is.
    ///
    /// # Errors
    /// More than [`RULES_MAX`] rules, or the kernel refuses one. The list before stays in force.
    pub fn allow(&mut self, rules: &[Rule], is_observing: bool) -> Result<(), Error> {
        if rules.len() > RULES_MAX {
            return Err(format!("{} entries are more than {RULES_MAX}", rules.len()).into());
        }
        let other = u32::from(self.control.get(&CONTROL_LIST, 0)? == 0);
        let list = if other == 0 { &mut self.even } else { &mut self.odd };
        let old: Vec<Key<[u8; 20]>> = list.keys().collect::<Result<_, _>>()?;
        for key in old {
            list.remove(&key)?;
        }
        for rule in rules {
            let (bits, bytes) = key_of(rule);
            list.insert(&Key::new(bits, bytes), 1, 0)?;
        }
        // To refuse less comes last, to refuse more first.
        if !is_observing {
            self.control.set(CONTROL_OBSERVE, 0, 0)?;
        }
        self.control.set(CONTROL_LIST, other, 0)?;
        if is_observing {
            self.control.set(CONTROL_OBSERVE, 1, 0)?;
        }
        Ok(())
    }

    /// What the kernel has counted.
    ///
    /// # Errors
    /// The kernel does not give it.
    pub fn counts(&self) -> Result<Counts, Error> {
        let at = |place: u32| self.counts.get(&place, 0);
        Ok(Counts { allowed: at(0)?, refused: at(1)?, lost: at(2)? })
    }

    /// What has been recorded, by whoever held the guard before too.
    ///
    /// # Errors
    /// The kernel does not give it.
    pub fn ledger(&self) -> Result<Ledger, Error> {
        let at = |place: u32| self.ledger.get(&place, 0);
        Ok(Ledger { recorded: at(0)?, lost: at(1)?, missed: at(2)? })
    }

    /// Notes what has been recorded.
    ///
    /// # Errors
    /// The kernel does not take it.
    pub fn note(&mut self, ledger: &Ledger) -> Result<(), Error> {
        for (place, value) in [(0, ledger.recorded), (1, ledger.lost), (2, ledger.missed)] {
            self.ledger.set(place, value, 0)?;
        }
        Ok(())
    }

    /// The next refusal that was not read yet. `Some(None)` is one that cannot be read, which
    /// nothing but a fault of ours can bring about.
    pub fn take(&mut self) -> Option<Option<Refused>> {
        self.events.next().map(|event| Refused::parse(&event))
    }

    /// Gives each DNS answer that was not read yet.
    pub fn answers(&mut self, mut hear: impl FnMut(&[u8])) {
        while let Some(event) = self.answers.next() {
            let Some(DnsEvent { length, answer, .. }) = DnsEvent::parse(&event) else { continue };
            let length = usize::try_from(length).unwrap_or(0);
            hear(answer.get(..length).unwrap_or(&answer));
        }
    }

    /// Becomes readable when there are refusals.
    #[must_use]
    pub fn poll_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Destinations and what came of the attempts, in no order.
    pub fn seen(&self) -> impl Iterator<Item = (IpAddr, u16, u8, Attempts)> + '_ {
        self.seen.iter().filter_map(|entry| {
            let (key, value) = entry.ok()?;
            let Destination { address, port, protocol, .. } = Destination::parse(&key)?;
            let address = Ipv6Addr::from(address).to_canonical();
            Some((address, port, protocol, Attempts::parse(&value)?))
        })
    }
}

/// Whether a link is pinned there, and with it in force.
fn is_attached(path: &Path) -> bool {
    path.exists() && PinnedLink::from_pin(path).is_ok()
}

fn program<'a, P>(bpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, Error>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = aya::programs::ProgramError>,
{
    let program = bpf.program_mut(name).ok_or_else(|| format!("no program {name}"))?;
    Ok(program.try_into()?)
}

/// Removes what an earlier object has pinned beside: with the last pin of a link goes the link.
fn remove_others(pins: &Path) {
    let beside = pins.parent().and_then(|folder| fs::read_dir(folder).ok());
    for entry in beside.into_iter().flatten().flatten().map(|entry| entry.path()) {
        if entry != pins && entry.is_dir() {
            unpin(&entry);
        }
    }
}
