//! The XDP program: loaded, told what to do, attached to interfaces. It is gone with the process
//! that holds it; the gateway reads and refuses by itself.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, Map, MapData, RingBuf};
use aya::programs::{Xdp, XdpMode};
use moat_model::egress::Rule;

use super::options::{self, Options};
use crate::layout::{Flow, FlowBegin, TlsEvent};
pub use crate::messages::Wire as Settings;
use crate::object;

/// Places for connections; `FLOWS_MAX` in `bpf/tls_records.bpf.c`.
const FLOWS_MAX: u64 = 65_536;

/// Why the view is not in force.
type Error = Box<dyn std::error::Error + Send + Sync>;

/// How the program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver, before the kernel has made anything of a packet.
    Native,
    /// In the kernel's own network code, where the driver has no place for it. Slower.
    Generic,
}

/// What an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The beginning of a TLS connection.
    Hello,
    /// Something else.
    NotTls,
    /// A source that is not admitted; dropped.
    NotAdmitted,
    /// A source that connects too fast; dropped.
    TooFast,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What it is.
    pub kind: Kind,
    /// The caller's end.
    pub source: SocketAddr,
    /// Our end.
    pub target: SocketAddr,
    /// When the first bytes came, on the monotonic clock in nanoseconds.
    pub at_ns: u64,
    /// When the SYN came; 0 if this is about one.
    pub syn_at_ns: u64,
    /// Time to live or hop limit of this packet.
    pub ttl: u8,
    /// Window of the SYN.
    pub window: u16,
    /// TCP options of the SYN.
    pub options: Options,
    /// Version in the record's header.
    pub version: u16,
    /// Length in the record's header.
    pub record_bytes: u16,
    /// Whether the hello is not whole in `hello`.
    pub is_partial: bool,
    /// The beginning of the first record.
    pub hello: Vec<u8>,
}

impl Seen {
    /// Reads an event; `None` if it has another form.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Seen> {
        let event = TlsEvent::parse(bytes)?;
        let (flow, syn) = (Flow::parse(&event.flow)?, FlowBegin::parse(&event.syn)?);
        let end = |address: [u8; 16], port| {
            SocketAddr::new(IpAddr::from(Ipv6Addr::from(address)).to_canonical(), port)
        };
        Some(Seen {
            kind: match event.kind {
                1 => Kind::Hello,
                2 => Kind::NotTls,
                3 => Kind::NotAdmitted,
                4 => Kind::TooFast,
                _ => return None,
            },
            source: end(flow.source, flow.source_port),
            target: end(flow.target, flow.port),
            at_ns: event.at_ns,
            syn_at_ns: syn.at_ns,
            ttl: event.ttl,
            window: syn.window,
            options: options::read(syn.options.get(..usize::from(syn.option_bytes))?),
            version: event.version,
            record_bytes: event.record_bytes,
            is_partial: event.is_partial != 0,
            hello: event.hello.get(..usize::from(event.copied))?.to_vec(),
        })
    }
}

/// What the program has counted since it was attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that began with a TLS record.
    pub hellos: u64,
    /// Packets that began a connection with something else.
    pub not_tls: u64,
    /// SYNs of sources that are not admitted.
    pub not_admitted: u64,
    /// SYNs beyond their source's bound.
    pub too_fast: u64,
    /// Events without room.
    pub lost: u64,
    /// Fragments that nothing can be told of.
    pub fragments: u64,
    /// Packets whose headers cannot be read.
    pub unreadable: u64,
}

/// The program in force.
pub struct View {
    bpf: Ebpf,
    counts: Array<MapData, u64>,
    events: RingBuf<MapData>,
    interfaces: Vec<(String, Mode)>,
    seed: u32,
}

impl View {
    /// Loads the program and tells it what to do. It sees nothing yet.
    ///
    /// # Errors
    /// The kernel does not take it, or a network cannot be read.
    pub fn load(settings: &Settings) -> Result<View, Error> {
        let mut bpf = Ebpf::load(object::TLS_RECORDS)?;
        // Before a map is taken: a map that is dropped is closed, and the program needs them all.
        let program: &mut Xdp = bpf.program_mut("tls_records").ok_or("no program")?.try_into()?;
        program.load()?;
        set_ports(&mut bpf, &settings.ports)?;
        set_admitted(&mut bpf, &settings.admit)?;
        let mut control: Array<_, u32> = map(&mut bpf, "tls_control")?.try_into()?;
        control.set(0, u32::from(!settings.admit.is_empty()), 0)?;
        control.set(1, u32::from(settings.drops_other), 0)?;
        control.set(2, settings.syn_max, 0)?;
        let seed = seed();
        control.set(3, seed, 0)?;
        let counts = map(&mut bpf, "tls_counts")?.try_into()?;
        let events = map(&mut bpf, "tls_events")?.try_into()?;
        Ok(View { bpf, counts, events, interfaces: Vec::new(), seed })
    }

    /// Attaches it to an interface: in the driver if that can be, else behind it.
    ///
    /// # Errors
    /// There is no such interface, or another program stands there.
    pub fn attach(&mut self, interface: &str) -> Result<Mode, Error> {
        let program = self.program()?;
        let mode = match program.attach(interface, XdpMode::Driver) {
            Ok(_) => Mode::Native,
            Err(native) => match program.attach(interface, XdpMode::Skb) {
                Ok(_) => Mode::Generic,
                Err(generic) => {
                    let why = format!("{interface}: {generic} (in the driver: {native})");
                    return Err(why.into());
                }
            },
        };
        self.interfaces.push((interface.to_owned(), mode));
        Ok(mode)
    }

    /// The program, for a test run.
    ///
    /// # Errors
    /// Never once it was loaded.
    pub fn program(&mut self) -> Result<&mut Xdp, Error> {
        Ok(self.bpf.program_mut("tls_records").ok_or("no program")?.try_into()?)
    }

    /// Where it is attached, and how.
    #[must_use]
    pub fn interfaces(&self) -> &[(String, Mode)] {
        &self.interfaces
    }

    /// What it has counted.
    ///
    /// # Errors
    /// The kernel does not give it.
    pub fn counts(&self) -> Result<Counts, Error> {
        let at = |place: u32| self.counts.get(&place, 0);
        Ok(Counts {
            hellos: at(0)?,
            not_tls: at(1)?,
            not_admitted: at(2)?,
            too_fast: at(3)?,
            lost: at(4)?,
            fragments: at(5)?,
            unreadable: at(6)?,
        })
    }

    /// The next event that was not read yet; `Some(None)` is one of a form that is not known.
    pub fn take(&mut self) -> Option<Option<Seen>> {
        self.events.next().map(|event| Seen::parse(&event))
    }

    /// Id of the table of connections that have said nothing yet, and the place of one in it, given
    /// as [`Flow`]: for looking at it by other tools.
    #[must_use]
    pub fn place_of(&self, flow: &[u8; Flow::BYTES]) -> Option<(u32, u32)> {
        let Some(Map::Array(table)) = self.bpf.map("tls_flows") else { return None };
        let mut mixed = u64::from(self.seed);
        let (words, _) = flow.as_chunks::<8>();
        for word in words {
            mixed = (mixed ^ u64::from_ne_bytes(*word)).wrapping_mul(0xff51_afd7_ed55_8ccd);
            mixed ^= mixed >> 33;
        }
        let place = u32::try_from(mixed & (FLOWS_MAX - 1)).ok()?;
        Some((table.info().ok()?.id(), place))
    }

    /// Becomes readable when there are events.
    #[must_use]
    pub fn poll_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

/// A number that nobody outside knows: the standard library's own tables begin with one.
fn seed() -> u32 {
    let [a, b, c, d, ..] = RandomState::new().build_hasher().finish().to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
}

fn map(bpf: &mut Ebpf, name: &str) -> Result<Map, Error> {
    Ok(bpf.take_map(name).ok_or_else(|| format!("no map {name} in the object"))?)
}

fn set_ports(bpf: &mut Ebpf, ports: &[u16]) -> Result<(), Error> {
    let mut bits: Array<_, u64> = map(bpf, "tls_ports")?.try_into()?;
    for port in ports {
        let word = u32::from(port >> 6);
        let known = bits.get(&word, 0)?;
        bits.set(word, known | 1 << (port & 63), 0)?;
    }
    Ok(())
}

fn set_admitted(bpf: &mut Ebpf, networks: &[String]) -> Result<(), Error> {
    let mut admit: LpmTrie<_, [u8; 16], u32> = map(bpf, "tls_admit")?.try_into()?;
    for text in networks {
        let network: Rule = text.parse().map_err(|why| format!("{text}: {why}"))?;
        let (address, bits) = network.mapped();
        admit.insert(&Key::new(u32::from(bits), address.octets()), 1, 0)?;
    }
    Ok(())
}
