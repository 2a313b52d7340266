//! What is remembered of callers and compared with a call: which parts of the call those are, and how
//! it survives a restart.
//!
//! The file lies with the supervisor, which hands it over open: this role opens none. It holds
//! profiles of hashes under a key at its beginning, so it names nobody.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use moat_config::Route;
use moat_identity::VerifiedPeer;
use moat_identity::token::Token;
use moat_model::Clock;
use moat_policy::BodyValue;
use moat_policy::risk::{Attempt, Key, Memory, Risk, SLOT_BYTES};

use crate::generation::Generation;
use crate::session::Session;

/// How often what has changed is written.
const KEEP: Duration = Duration::from_secs(1);
/// How the file begins; the key follows. The rest of the first slot is empty.
const MAGIC: &[u8; 16] = b"moat risk v1\0\0\0\0";
/// Bytes before the first profile.
const HEAD_BYTES: u64 = SLOT_BYTES as u64;
/// Most profiles that are read back: four times as many as there can be places for.
const READ_MAX: usize = 16_777_216;

/// Who a call is of: its caller, and the person for whom, if a token says so.
pub(crate) fn subject<'a>(peer: &'a VerifiedPeer, token: Option<&'a Token>) -> [&'a str; 3] {
    let (issuer, subject) = token.map_or(("", ""), |token| (&token.issuer, &token.subject));
    [peer.spiffe().as_str(), issuer, subject]
}

/// Whence a call comes.
pub(crate) enum Network<'a> {
    /// A place of the operator's.
    Place(&'a str),
    /// The version of IP and the first 24 or 48 bits of the address.
    Prefix([u8; 7]),
}

impl Network<'_> {
    pub(crate) fn of(generation: &Generation, address: IpAddr) -> Network<'_> {
        let address = address.to_canonical();
        let is_in = |(_, networks): &&(String, Vec<moat_model::egress::Rule>)| {
            networks.iter().any(|network| is_within(address, network.address, network.bits))
        };
        if let Some((name, _)) = generation.places.iter().find(is_in) {
            return Network::Place(name);
        }
        Network::Prefix(match address {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                [4, a, b, c, 0, 0, 0]
            }
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, ..] = address.octets();
                [6, a, b, c, d, e, f]
            }
        })
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Network::Place(name) => name.as_bytes(),
            Network::Prefix(bytes) => bytes,
        }
    }
}

fn is_within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let mapped = |address: IpAddr| match address {
        IpAddr::V4(four) => u128::from(four.to_ipv6_mapped()),
        IpAddr::V6(six) => u128::from(six),
    };
    let bits = u32::from(bits) + if network.is_ipv4() { 96 } else { 0 };
    let apart = mapped(address) ^ mapped(network);
    apart.checked_shr(128_u32.saturating_sub(bits)).unwrap_or(0) == 0
}

/// What of a call is compared.
pub(crate) fn attempt<'a>(
    session: &'a Session,
    route: &Route,
    body: &'a [(String, BodyValue)],
    subject: &'a [&'a str],
    network: &'a Network<'a>,
) -> Attempt<'a> {
    let field = |pointer: &Option<String>| {
        let pointer = pointer.as_ref()?;
        body.iter().find(|(known, _)| known == pointer).map(|(_, value)| value)
    };
    Attempt {
        now_ms: session.worker.clock.wall_ns() / 1_000_000,
        subject,
        device: &session.ja4,
        network: network.as_bytes(),
        stack: &session.stack,
        amount: match field(&route.risk_amount) {
            // What is paid back is an amount like any other.
            Some(BodyValue::Integer(amount)) => Some(amount.unsigned_abs()),
            _ => None,
        },
        counterparty: match field(&route.risk_counterparty) {
            Some(BodyValue::Text(text) | BodyValue::Number(text)) => text,
            _ => "",
        },
    }
}

/// The part of the kernel's view that stays the same for a caller's system: how far its time to live
/// may have been, and the options of its TCP.
pub(crate) fn stack(wire: &moat_policy::Wire) -> String {
    if wire.options.is_empty() {
        return String::new();
    }
    let sent = [64, 128, 255].into_iter().find(|sent| wire.ttl <= *sent).unwrap_or(255);
    format!("{sent} {}", wire.options)
}

/// Where the profiles are kept while the gateway runs, and a thread that writes them.
pub(crate) struct Keeper {
    pub(crate) memory: Arc<Memory>,
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Keeper {
    /// Takes back what the file has and begins to keep what changes.
    ///
    /// # Errors
    /// The file cannot be read or written, or there can be no more threads.
    pub(crate) fn start(fd: OwnedFd, subjects: usize) -> io::Result<Keeper> {
        let mut file = File::from(fd);
        let memory = Arc::new(restore(&mut file, subjects)?);
        let (stop, stopped) = sync_channel(1);
        let kept = Arc::clone(&memory);
        let keep = move || keep(&kept, &mut file, &stopped);
        let thread = std::thread::Builder::new().name("risk".to_owned()).spawn(keep)?;
        Ok(Keeper { memory, stop, thread })
    }

    /// Writes what has changed for the last time.
    pub(crate) fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the last changes of risk profiles were not kept");
        }
    }
}

/// A file without a beginning of ours gets one, with a new key: all are cold then.
fn restore(file: &mut File, subjects: usize) -> io::Result<Memory> {
    let mut head = [0; SLOT_BYTES];
    file.seek(SeekFrom::Start(0))?;
    let is_whole = file.read_exact(&mut head).is_ok();
    let key = head.strip_prefix(MAGIC).filter(|_| is_whole);
    let key: Option<Key> = key.and_then(|rest| rest.first_chunk::<16>()).copied();
    let Some(key) = key else {
        let mut key = Key::default();
        aws_lc_rs::rand::fill(&mut key).map_err(|_| io::Error::other("no randomness"))?;
        let mut head = [0; SLOT_BYTES];
        for (place, byte) in head.iter_mut().zip(MAGIC.iter().chain(&key)) {
            *place = *byte;
        }
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&head)?;
        tracing::info!("risk profiles begin anew: every caller is cold");
        return Ok(Memory::new(subjects, key));
    };
    let memory = Memory::new(subjects, key);
    let mut from = io::BufReader::with_capacity(128 * SLOT_BYTES, file);
    let (mut slot, mut known) = ([0; SLOT_BYTES], 0_u64);
    for _ in 0..READ_MAX {
        match from.read_exact(&mut slot) {
            Ok(()) => known += u64::from(memory.restore(&slot)),
            // The last one may have been written in part.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
    }
    tracing::info!(known, "risk profiles were taken back");
    Ok(memory)
}

fn keep(memory: &Memory, file: &mut File, stopped: &Receiver<()>) {
    let (mut changed, mut is_failing) = (Vec::new(), false);
    loop {
        let is_last = stopped.recv_timeout(KEEP) != Err(RecvTimeoutError::Timeout);
        for part in 0..memory.parts() {
            memory.take_changed(part, &mut changed);
            let written = changed.iter().try_for_each(|(place, bytes)| write(file, *place, bytes));
            if let Err(error) = &written
                && !is_failing
            {
                tracing::error!(%error, "risk profiles are not kept: a restart forgets them");
            }
            is_failing = written.is_err();
        }
        if is_last {
            return;
        }
    }
}

fn write(file: &mut File, place: usize, bytes: &[u8; SLOT_BYTES]) -> io::Result<()> {
    let place = u64::try_from(place).map_err(io::Error::other)?;
    file.seek(SeekFrom::Start(HEAD_BYTES + place * HEAD_BYTES))?;
    file.write_all(bytes)
}

/// The state, score and parts of a call, if anything is remembered.
pub(crate) fn note(risk: Option<Risk>) -> String {
    risk.map_or_else(String::new, |risk| risk.note())
}

#[cfg(test)]
mod tests {
    use moat_policy::risk::{Ended, RiskState};

    use super::*;

    fn attempt<'a>(subject: &'a [&'a str]) -> Attempt<'a> {
        let now_ms = 1_767_603_600_000;
        let (device, network, stack) = ("ja4", b"n".as_slice(), "");
        Attempt { now_ms, subject, device, network, stack, amount: None, counterparty: "" }
    }

    #[test]
    fn what_was_learnt_survives_a_restart() {
        let path = std::env::temp_dir().join(format!("moat-risk-{}", std::process::id()));
        let open = || {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            OwnedFd::from(options.open(&path).unwrap())
        };
        let names: Vec<String> = (0..300).map(|n| format!("spiffe://bank.test/{n}")).collect();
        let keeper = Keeper::start(open(), 10_000).unwrap();
        for name in &names {
            for _ in 0..9 {
                let _ = keeper.memory.attempt(&attempt(&[name]));
                keeper.memory.settle(&attempt(&[name]), Ended::Allowed);
            }
        }
        keeper.stop();
        // Into a larger table, and with a piece of a profile at the end.
        let length = std::fs::metadata(&path).unwrap().len();
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"x").unwrap();
        let keeper = Keeper::start(open(), 40_000).unwrap();
        for name in &names {
            assert_eq!(keeper.memory.look(&attempt(&[name])).state, RiskState::Known, "{name}");
        }
        keeper.stop();
        assert!(length > HEAD_BYTES * 300);
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(9).any(|part| part == b"bank.test"), "it names nobody");
        // What is no file of ours is begun anew: nobody is known.
        std::fs::write(&path, "something else").unwrap();
        let keeper = Keeper::start(open(), 1_000).unwrap();
        assert_eq!(keeper.memory.look(&attempt(&[&names[0]])).state, RiskState::Cold);
        keeper.stop();
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn an_address_is_in_its_network_and_in_no_other() {
        let within = |address: &str, network: &str, bits| {
            is_within(address.parse().unwrap(), network.parse().unwrap(), bits)
        };
        assert!(within("10.1.2.3", "10.1.0.0", 16));
        assert!(!within("10.2.2.3", "10.1.0.0", 16));
        assert!(within("10.2.2.3", "0.0.0.0", 0));
        assert!(!within("2001:db8::1", "0.0.0.0", 0));
        assert!(within("2001:db8::1", "2001:db8::", 32));
        assert!(within("10.0.0.1", "10.0.0.1", 32));
        assert!(!within("10.0.0.2", "10.0.0.1", 32));
    }
}
