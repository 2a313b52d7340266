//! The TLS record view: thousands of packets through the kernel's own test run, and real clients
//! over a veth pair in a network namespace.
#![cfg(feature = "bpf")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "tests")]

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use aya::programs::{TestRun, TestRunOptions};
use moat_kernel::wire::{Counts, Kind, Mode, Seen, Settings, View};
use support::{has_bpf, has_program};

const DROP: u32 = 1;
const PASS: u32 = 2;
const PORT: u16 = 8443;
/// As Linux sends them.
const OPTIONS: &[u8] = &[2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];

fn settings() -> Settings {
    Settings { ports: vec![PORT], ..Settings::default() }
}

/// How a packet is made.
#[derive(Clone)]
struct Packet {
    source: u8,
    source_port: u16,
    port: u16,
    flags: u8,
    options: Vec<u8>,
    payload: Vec<u8>,
    vlans: usize,
    is_ipv6: bool,
    ip_options: usize,
    extensions: Vec<u8>,
    fragment: u16,
}

impl Packet {
    fn new(source_port: u16, flags: u8, payload: &[u8]) -> Packet {
        Packet {
            source: 1,
            source_port,
            port: PORT,
            flags,
            options: if flags & 2 != 0 { OPTIONS.to_vec() } else { Vec::new() },
            payload: payload.to_vec(),
            vlans: 0,
            is_ipv6: false,
            ip_options: 0,
            extensions: Vec::new(),
            fragment: 0,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut tcp = Vec::new();
        tcp.extend(self.source_port.to_be_bytes());
        tcp.extend(self.port.to_be_bytes());
        tcp.extend([0; 8]);
        tcp.extend([((20 + self.options.len()) / 4 * 16) as u8, self.flags, 0xfa, 0xf0]);
        tcp.extend([0; 4]);
        tcp.extend(&self.options);
        tcp.extend(&self.payload);
        let mut bytes = vec![0; 12];
        for _ in 0..self.vlans {
            bytes.extend([0x81, 0x00, 0, 5]);
        }
        if self.is_ipv6 {
            bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            let mut next: Vec<u8> = self.extensions.clone();
            next.push(6);
            let mut headers = Vec::new();
            for (at, kind) in self.extensions.iter().enumerate() {
                let mut header = vec![next[at + 1], 0, 0, 0, 0, 0, 0, 0];
                match kind {
                    44 => header[2..4].copy_from_slice(&(self.fragment << 3).to_be_bytes()),
                    51 => header[1] = 0,
                    _ => {
                        header[1] = 1;
                        header.extend([0; 8]);
                    }
                }
                headers.extend(header);
            }
            bytes.extend(((headers.len() + tcp.len()) as u16).to_be_bytes());
            bytes.extend([next[0], 57]);
            bytes.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, self.source]);
            bytes.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 99]);
            bytes.extend(headers);
        } else {
            let header = 20 + self.ip_options;
            bytes.extend([8, 0, 0x40 | (header / 4) as u8, 0]);
            bytes.extend(((header + tcp.len()) as u16).to_be_bytes());
            bytes.extend([0, 0]);
            bytes.extend(self.fragment.to_be_bytes());
            bytes.extend([57, 6, 0, 0, 10, 0, 0, self.source, 10, 0, 0, 99]);
            bytes.extend(vec![1; self.ip_options]);
        }
        bytes.extend(tcp);
        // Ethernet pads what is short.
        bytes.resize(bytes.len().max(60), 0);
        bytes
    }
}

fn run(view: &mut View, bytes: &[u8]) -> u32 {
    let mut options = TestRunOptions::new();
    options.data_in = Some(bytes);
    view.program().unwrap().test_run(options).unwrap().return_value
}

fn seen(view: &mut View) -> Vec<Seen> {
    std::iter::from_fn(|| view.take()).map(Option::unwrap).collect()
}

/// A record with a ClientHello of so many bytes.
fn hello(bytes: usize) -> Vec<u8> {
    let length = (bytes + 4) as u16;
    let mut record = vec![22, 3, 1];
    record.extend(length.to_be_bytes());
    record.extend([1, 0, (bytes >> 8) as u8, bytes as u8]);
    record.extend((0..bytes).map(|n| n as u8));
    record
}

#[test]
fn a_connection_is_told_once_with_what_its_wire_showed() {
    if !has_bpf() {
        return;
    }
    let mut view = View::load(&settings()).unwrap();
    let record = hello(300);
    for (number, is_ipv6) in [(0, false), (1, true)] {
        let make = |flags, payload: &[u8]| Packet { is_ipv6, ..Packet::new(4000, flags, payload) };
        assert_eq!(run(&mut view, &make(2, b"").bytes()), PASS);
        assert_eq!(run(&mut view, &make(16, b"").bytes()), PASS);
        assert!(seen(&mut view).is_empty(), "nothing was said yet");
        assert_eq!(run(&mut view, &make(24, &record).bytes()), PASS);
        // What follows is the gateway's alone.
        assert_eq!(run(&mut view, &make(24, b"garbage").bytes()), PASS);
        let told = seen(&mut view);
        assert_eq!(told.len(), 1, "{number}");
        let one = &told[0];
        assert_eq!((one.kind, one.is_partial), (Kind::Hello, false));
        assert_eq!(one.hello, record);
        assert_eq!((one.version, one.record_bytes), (0x0301, 304));
        assert_eq!((one.ttl, one.window), (57, 0xfaf0));
        assert_eq!(one.options.kinds, [2, 4, 8, 1, 3]);
        let wanted = if is_ipv6 { "[2001:db8::1]:4000" } else { "10.0.0.1:4000" };
        assert_eq!(one.source.to_string(), wanted);
        assert!(one.at_ns >= one.syn_at_ns && one.syn_at_ns > 0);
    }
    assert_eq!(view.counts().unwrap(), Counts { hellos: 2, ..Counts::default() });
}

#[test]
fn a_hello_cut_anywhere_is_partial_and_never_clean() {
    if !has_bpf() {
        return;
    }
    let mut view = View::load(&Settings { drops_other: true, ..settings() }).unwrap();
    let record = hello(600);
    for cut in 1..=record.len() {
        let port = 1_000 + cut as u16;
        assert_eq!(run(&mut view, &Packet::new(port, 2, b"").bytes()), PASS);
        assert_eq!(run(&mut view, &Packet::new(port, 24, &record[..cut]).bytes()), PASS);
        let told = seen(&mut view);
        assert_eq!(told.len(), 1, "cut at {cut}");
        // Longer than the copy is partial too.
        assert!(told[0].is_partial, "cut at {cut}");
        assert_eq!(told[0].hello, record[..cut.min(512)], "cut at {cut}");
    }
    // Coalesced with what follows, the hello is whole.
    let port = 9_000;
    run(&mut view, &Packet::new(port, 2, b"").bytes());
    run(&mut view, &Packet::new(port, 24, &[hello(100), hello(50)].concat()).bytes());
    assert!(!seen(&mut view)[0].is_partial);
}

#[test]
fn tags_options_and_extension_headers_are_passed_over() {
    if !has_bpf() {
        return;
    }
    let mut view = View::load(&settings()).unwrap();
    let record = hello(100);
    let mut port = 2_000;
    let mut count = |view: &mut View, shape: &dyn Fn(Packet) -> Packet| {
        port += 1;
        run(view, &shape(Packet::new(port, 2, b"")).bytes());
        run(view, &shape(Packet::new(port, 24, &record)).bytes());
        seen(view).iter().filter(|one| one.kind == Kind::Hello && one.hello == record).count()
    };
    for vlans in 0..=2 {
        assert_eq!(count(&mut view, &|packet| Packet { vlans, ..packet }), 1, "{vlans} tags");
    }
    assert_eq!(count(&mut view, &|packet| Packet { vlans: 3, ..packet }), 0);
    for ip_options in (0..=40).step_by(4) {
        assert_eq!(count(&mut view, &|packet| Packet { ip_options, ..packet }), 1, "{ip_options}");
    }
    for options in (0..=40).step_by(4) {
        let shape = |packet| Packet { options: vec![1; options], ..packet };
        assert_eq!(count(&mut view, &shape), 1, "{options}");
    }
    for extensions in
        [vec![0], vec![0, 60], vec![43, 44, 60], vec![51], vec![0, 60, 43, 44, 51, 60]]
    {
        let shape = |packet| Packet { is_ipv6: true, extensions: extensions.clone(), ..packet };
        assert_eq!(count(&mut view, &shape), 1, "{extensions:?}");
    }
    let many = vec![60; 7];
    let shape = |packet| Packet { is_ipv6: true, extensions: many.clone(), ..packet };
    assert_eq!(count(&mut view, &shape), 0, "more than anybody needs");
    assert_eq!(count(&mut view, &|packet| Packet { port: 80, ..packet }), 0, "another port");
    // Of later fragments nothing is told.
    assert_eq!(count(&mut view, &|packet| Packet { fragment: 10, ..packet }), 0);
    let shape = |packet| Packet { is_ipv6: true, extensions: vec![44], fragment: 10, ..packet };
    assert_eq!(count(&mut view, &shape), 0);
    assert_eq!(view.counts().unwrap().fragments, 4);
}

#[test]
fn what_is_to_be_dropped_is_dropped_counted_and_told() {
    if !has_bpf() {
        return;
    }
    let admit = vec!["10.0.0.0/31".to_owned(), "2001:db8::1".to_owned()];
    let strict = Settings { admit, drops_other: true, syn_max: 3, ..settings() };
    let mut view = View::load(&strict).unwrap();
    let stranger = |is_ipv6| Packet { source: 2, is_ipv6, ..Packet::new(1, 2, b"") };
    assert_eq!(run(&mut view, &stranger(false).bytes()), DROP);
    assert_eq!(run(&mut view, &stranger(true).bytes()), DROP);
    assert_eq!(run(&mut view, &Packet { port: 80, ..stranger(false) }.bytes()), PASS);
    let told = seen(&mut view);
    assert!(told.len() == 2 && told.iter().all(|one| one.kind == Kind::NotAdmitted), "{told:?}");
    // The clock's second may change between: the bound is found within two.
    let verdicts: Vec<u32> =
        (0..12).map(|n| run(&mut view, &Packet::new(100 + n, 2, b"").bytes())).collect();
    let passed = verdicts.iter().filter(|verdict| **verdict == PASS).count();
    assert!((3..=6).contains(&passed), "{verdicts:?}");
    assert!(seen(&mut view).iter().all(|one| one.kind == Kind::TooFast));
    for (number, payload) in [
        b"GET / HTTP/1.1\r\n".as_slice(),
        b"\x16\x02\x00\x00\x05\x01",
        b"\x17\x03\x03\x00\x05\x01",
        b"S",
    ]
    .into_iter()
    .enumerate()
    {
        let packet = Packet::new(100, 24, payload);
        assert_eq!(run(&mut view, &packet.bytes()), DROP, "{number}");
        // Sent again it is dropped again.
        assert_eq!(run(&mut view, &packet.bytes()), DROP, "{number}");
    }
    let counts = view.counts().unwrap();
    assert_eq!((counts.not_admitted, counts.not_tls), (2, 8));
    assert_eq!(seen(&mut view).iter().filter(|one| one.kind == Kind::NotTls).count(), 8);
    // A header cut short, which a first fragment might be.
    let mut tiny = Packet::new(100, 2, b"").bytes();
    tiny.truncate(14 + 20 + 8);
    assert_eq!(run(&mut view, &tiny), DROP);
}

/// A small generator, so that a failure can be had again (xorshift).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, most: usize) -> usize {
        (self.next() % most as u64) as usize
    }
}

#[test]
fn garbage_is_passed_and_makes_no_event_that_cannot_be_read() {
    if !has_bpf() {
        return;
    }
    let mut view = View::load(&settings()).unwrap();
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    for round in 0..6_000_u16 {
        let is_ipv6 = round % 2 == 0;
        let mut packet = Packet { is_ipv6, vlans: chance.below(3), ..Packet::new(round, 2, b"") };
        if is_ipv6 {
            packet.extensions =
                (0..chance.below(4)).map(|_| [0, 43, 44, 51, 60][chance.below(5)]).collect();
        }
        run(&mut view, &packet.bytes());
        packet.flags = 24;
        packet.payload = hello(chance.below(700));
        let mut bytes = packet.bytes();
        for _ in 0..chance.below(8) {
            let at = chance.below(bytes.len());
            bytes[at] = chance.next() as u8;
        }
        // The test run refuses frames shorter than an Ethernet header.
        bytes.truncate(14 + chance.below(bytes.len()));
        assert_eq!(run(&mut view, &bytes), PASS, "{round}");
        for one in seen(&mut view) {
            assert!(one.hello.len() <= 512 && one.options.kinds.len() <= 40);
        }
    }
    assert!(view.counts().unwrap().hellos > 500);
}

/// Reads members by bpftool's eyes: the ring's first event by its bytes, as the BTF of the object
/// lays them out.
#[test]
fn our_reader_and_bpftool_agree_on_a_flow() {
    if !has_bpf() || !has_program("bpftool") {
        return;
    }
    let mut view = View::load(&settings()).unwrap();
    run(&mut view, &Packet::new(4321, 2, b"").bytes());
    // It waits for its first bytes: bpftool shows it, with the names of the C structure.
    let mut flow = [0; 40];
    flow[10..16].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 1]);
    flow[26..32].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 99]);
    flow[32..34].copy_from_slice(&4321_u16.to_ne_bytes());
    flow[34..36].copy_from_slice(&PORT.to_ne_bytes());
    let (id, place) = view.place_of(&flow).unwrap();
    let mut key: Vec<String> = vec![id.to_string(), "key".to_owned()];
    key.extend(place.to_ne_bytes().map(|byte| byte.to_string()));
    let out = Command::new("bpftool").args(["--json", "map", "lookup", "id"]).args(key).output();
    let json: serde_json::Value = serde_json::from_slice(&out.unwrap().stdout).unwrap();
    let theirs = json["formatted"]["value"].clone();
    run(&mut view, &Packet::new(4321, 24, &hello(10)).bytes());
    let ours = seen(&mut view).pop().unwrap();
    let number = |value: &serde_json::Value| value.as_u64().unwrap();
    assert_eq!(number(&theirs["flow"]["port"]), u64::from(ours.target.port()));
    assert_eq!(number(&theirs["begin"]["at_ns"]), ours.syn_at_ns);
    assert_eq!(number(&theirs["begin"]["window"]), u64::from(ours.window));
    assert_eq!(number(&theirs["begin"]["ttl"]), u64::from(ours.ttl));
    assert_eq!(number(&theirs["begin"]["option_bytes"]), OPTIONS.len() as u64);
    let bytes = |value: &serde_json::Value| -> Vec<u8> {
        let texts = value.as_array().unwrap().iter();
        texts
            .map(|one| match one.as_u64() {
                Some(number) => number as u8,
                None => {
                    u8::from_str_radix(one.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
                }
            })
            .collect()
    };
    assert_eq!(bytes(&theirs["flow"]["source"])[10..], [0xff, 0xff, 10, 0, 0, 1]);
    assert_eq!(bytes(&theirs["begin"]["options"])[..OPTIONS.len()], *OPTIONS);
}

/// A namespace with one end of a veth pair; gone with the value.
struct Namespace(String);

impl Namespace {
    fn new() -> Namespace {
        let name = format!("moat{}", std::process::id());
        let (near, far) =
            (format!("mn{}", std::process::id()), format!("mf{}", std::process::id()));
        let script = format!(
            "set -e; ip netns add {name}; ip link add {near} type veth peer name {far} netns {name}; \
             ip addr add 10.213.7.1/30 dev {near}; ip link set {near} up; \
             ip -n {name} addr add 10.213.7.2/30 dev {far}; ip -n {name} link set {far} up; \
             ip -n {name} link set lo up"
        );
        let out = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        Namespace(name)
    }

    fn near(&self) -> String {
        self.0.replace("moat", "mn")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", &self.near()]).output();
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

#[test]
fn real_clients_over_veth_are_seen_and_strangers_to_tls_are_cut_off() {
    if !has_bpf() || !has_program("openssl") {
        return;
    }
    let namespace = Namespace::new();
    let listener = std::net::TcpListener::bind("10.213.7.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let settings = Settings { ports: vec![port], drops_other: true, ..Settings::default() };
    let mut view = View::load(&settings).unwrap();
    assert_eq!(view.attach(&namespace.near()).unwrap(), Mode::Native, "veth has a place for XDP");
    let server = std::thread::spawn(move || {
        use std::io::Read;
        let mut heard = Vec::new();
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            let mut bytes = [0; 2048];
            heard.push(stream.read(&mut bytes).map(|n| bytes[..n].to_vec()).unwrap_or_default());
        }
        heard
    });
    let inside = |program: &[&str]| {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &namespace.0]).args(program);
        command.stdin(std::process::Stdio::null()).output().unwrap()
    };
    let to = format!("10.213.7.1:{port}");
    inside(&[
        "timeout",
        "3",
        "openssl",
        "s_client",
        "-connect",
        &to,
        "-servername",
        "pay.bank.test",
    ]);
    let plain =
        format!("exec 3<>/dev/tcp/10.213.7.1/{port}; printf 'GET / HTTP/1.1\\r\\n\\r\\n' >&3");
    inside(&["timeout", "3", "bash", "-c", &plain]);
    let heard = server.join().unwrap();
    assert_eq!(heard[0].first(), Some(&22), "the TLS hello came through");
    assert!(heard[1].is_empty(), "what is no TLS did not: {:?}", heard[1]);
    let until = Instant::now() + Duration::from_secs(2);
    let mut told = seen(&mut view);
    while told.iter().filter(|one| one.kind == Kind::NotTls).count() == 0 && Instant::now() < until
    {
        told.extend(seen(&mut view));
    }
    let hello = told.iter().find(|one| one.kind == Kind::Hello).unwrap();
    // The two readers of one hello: the card's and the socket's.
    assert_eq!(hello.hello[..], heard[0][..hello.hello.len()]);
    assert_eq!(hello.source.ip().to_string(), "10.213.7.2");
    assert_eq!(hello.ttl, 64);
    assert_eq!(hello.options.kinds, [2, 4, 8, 1, 3], "as Linux sends them");
    assert!(told.iter().any(|one| one.kind == Kind::NotTls));
}
