//! The programs that look at calls' time, in the running kernel: this process stands for a gateway,
//! and does on purpose what a worker must not.
#![cfg(feature = "bpf")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "tests")]

mod support;

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moat_kernel::calls;
use moat_kernel::code::of_this_program;
use moat_kernel::latency::probe::{Event, Probe, Settings};
use moat_kernel::layout::LatencyEvent;
use moat_model::window::{
    AT_HEAD, AT_STAGE, AT_STARTED, AT_TRACE, HEAD_WORDS, KIND_CALL, MAGIC, Part, WINDOW_WORDS,
    WINDOWS_MAX, WORDS,
};
use rustix::time::{ClockId, clock_gettime};
use support::{Site, has_bpf};

/// Kinds of `latency_kind` in `bpf/moat.h`.
const RUN_QUEUE: u32 = 1;
const BUSY: u32 = 2;
const BLOCKED: u32 = 4;
/// From when on it is a stall here.
const STALL: Duration = Duration::from_millis(30);
const TRACE: u64 = 0x0123_4567_89ab_cdef;

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// What a worker publishes.
#[derive(Clone)]
struct Words(Arc<[AtomicU64]>);

impl Words {
    fn new() -> Words {
        let words = Words((0..WORDS).map(|_| AtomicU64::new(0)).collect());
        words.set(0, MAGIC);
        words
    }

    fn set(&self, at: usize, value: u64) {
        self.0[at].store(value, Ordering::Relaxed);
    }

    fn address(&self) -> u64 {
        self.0.as_ptr().addr() as u64
    }

    /// A poll at this stage begins.
    fn enter(&self, part: Part) {
        self.set(AT_TRACE, TRACE);
        self.set(AT_STARTED, now_ns());
        self.set(AT_STAGE, part.place() as u64 + 1);
    }

    /// A call has ended.
    fn finish(&self, number: u64) {
        let at = HEAD_WORDS + (number as usize % WINDOWS_MAX) * WINDOW_WORDS;
        for (offset, value) in [KIND_CALL, TRACE, number, now_ns(), 1_000].iter().enumerate() {
            self.set(at + offset, *value);
        }
        self.set(AT_HEAD, number + 1);
    }
}

/// This process in a cgroup that is looked at as a gateway's, and what its worker does.
struct Scene {
    site: Site,
    probe: Probe,
    words: Words,
}

impl Scene {
    fn new() -> Scene {
        let site = Site::new();
        let settings = Settings {
            gateway: site.cgroup.path().to_path_buf(),
            auditor: None,
            ports: Vec::new(),
            stall_ns: STALL.as_nanos() as u64,
        };
        let (mut probe, parts) = Probe::attach(&settings).unwrap();
        assert!(parts.iter().all(|(_, attached)| attached.is_ok()), "{parts:?}");
        let words = Words::new();
        probe.set_slots(&[0, 0, 0, words.address()]).unwrap();
        Scene { site, probe, words }
    }

    /// Lets a thread `worker-3` of this process do something; gives what was told.
    fn run(&mut self, work: impl FnOnce(&Words) + Send + 'static) -> Vec<Event> {
        let words = self.words.clone();
        let before = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        self.site.cgroup.add(std::process::id()).unwrap();
        let worker = std::thread::Builder::new().name("worker-3".to_owned()).spawn(move || {
            // It is known from its first pause on.
            std::thread::sleep(Duration::from_millis(5));
            work(&words);
            words.set(AT_STAGE, 0);
            std::thread::sleep(Duration::from_millis(5));
        });
        worker.unwrap().join().unwrap();
        let path = before.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
        let own = moat_kernel::cgroup::mounted().unwrap().join(path.trim_start_matches('/'));
        std::fs::write(own.join("cgroup.procs"), std::process::id().to_string()).unwrap();
        std::iter::from_fn(|| self.probe.take()).map(Option::unwrap).collect()
    }
}

fn seen(events: &[Event], kind: u32) -> Vec<&LatencyEvent> {
    let of_kind = |event: &&LatencyEvent| event.kind == kind && event.number == 3;
    let seen = events.iter().filter_map(|event| match event {
        Event::Seen(event) => Some(event),
        _ => None,
    });
    seen.filter(of_kind).collect()
}

fn stall(events: &[Event]) -> (&LatencyEvent, &[u64]) {
    let stalls = events.iter().filter_map(|event| match event {
        Event::Stall(event, stack) => Some((event, stack.as_slice())),
        _ => None,
    });
    let stalls: Vec<_> = stalls.collect();
    assert_eq!(stalls.len(), 1, "{events:?}");
    stalls[0]
}

/// Names of the functions of this program that a stack holds.
fn names(stack: &[u64]) -> Vec<String> {
    let (begin, end, _) = of_this_program().unwrap();
    let mut names = Vec::new();
    for address in stack.iter().filter(|word| (begin..end).contains(*word)) {
        backtrace::resolve(std::ptr::without_provenance_mut(*address as usize), |symbol| {
            names.extend(symbol.name().map(|name| format!("{name:#}")));
        });
    }
    names
}

/// Waits where it should not.
#[inline(never)]
fn planted_wait() {
    std::thread::sleep(black_box(Duration::from_millis(60)));
    black_box(());
}

/// Works for longer than it should.
#[inline(never)]
fn planted_work() -> u64 {
    let until = Instant::now() + Duration::from_millis(120);
    let mut sum = 0_u64;
    while Instant::now() < until {
        sum = black_box(sum.wrapping_mul(31).wrapping_add(7));
    }
    sum
}

#[test]
fn a_planted_wait_is_named_with_its_call_stage_trace_and_function() {
    if !has_bpf() {
        return;
    }
    let mut scene = Scene::new();
    let events = scene.run(|words| {
        words.enter(Part::Mask);
        planted_wait();
    });
    let (event, stack) = stall(&events);
    assert_eq!(calls::name(event.detail), "clock_nanosleep");
    assert_eq!((event.stage as usize, event.trace), (Part::Mask.place() + 1, TRACE));
    assert!(event.to_ns - event.from_ns >= 50_000_000, "{event:?}");
    let names = names(stack);
    assert!(names.iter().any(|name| name.contains("planted_wait")), "{names:?}");
    let blocked = seen(&events, BLOCKED);
    assert!(blocked.iter().any(|event| event.to_ns - event.from_ns >= 50_000_000), "{blocked:?}");
}

#[test]
fn planted_work_is_named_while_it_lasts() {
    if !has_bpf() {
        return;
    }
    let mut scene = Scene::new();
    let events = scene.run(|words| {
        words.enter(Part::Policy);
        black_box(planted_work());
    });
    let (event, stack) = stall(&events);
    assert_eq!((event.detail, event.stage as usize), (u64::MAX, Part::Policy.place() + 1));
    // Told by a timer, before it was over.
    assert!((30_000_000..118_000_000).contains(&(event.to_ns - event.from_ns)), "{event:?}");
    let names = names(stack);
    assert!(names.iter().any(|name| name.contains("planted_work")), "{names:?}");
    // Pieces that are too short to be told are left out.
    let sum = |kind| seen(&events, kind).iter().map(|e| e.to_ns - e.from_ns).sum::<u64>();
    assert!(sum(BUSY) + sum(RUN_QUEUE) >= 60_000_000, "{events:?}");
}

#[test]
fn every_call_is_told_once_and_in_order_and_what_was_overwritten_is_counted() {
    if !has_bpf() {
        return;
    }
    let mut scene = Scene::new();
    let events = scene.run(|words| {
        for number in 0..300 {
            words.finish(number);
            if number % 50 == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let told = |events: &[Event]| -> Vec<u64> {
        let windows = events.iter().filter_map(|event| match event {
            Event::Window(3, words) => Some(words[2]),
            _ => None,
        });
        windows.collect()
    };
    assert_eq!(told(&events), (0..300).collect::<Vec<_>>());
    let events = scene.run(|words| {
        for number in 300..300 + 3 * WINDOWS_MAX as u64 {
            words.finish(number);
        }
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let counts = scene.probe.counts().unwrap();
    let told = told(&events);
    assert!(told.windows(2).all(|pair| pair[0] < pair[1]), "{told:?}");
    // The scheduler may have let it pause in between, and a timer have taken some.
    let all = told.len() as u64 + counts.windows_lost;
    assert_eq!(all, 3 * WINDOWS_MAX as u64 + 300, "{counts:?}");
    assert_eq!(counts.events_lost, 0);
}

#[test]
fn page_faults_of_a_run_are_told() {
    if !has_bpf() {
        return;
    }
    let mut scene = Scene::new();
    let events = scene.run(|words| {
        words.enter(Part::Mask);
        let mut memory = vec![0_u8; 4 << 20];
        memory.iter_mut().step_by(4_096).for_each(|byte| *byte = 1);
        black_box(&memory);
    });
    let faults: u64 = seen(&events, BUSY).iter().map(|event| event.detail & 0xffff_ffff).sum();
    // Huge pages may take the place of hundreds.
    assert!(faults >= 24, "{events:?}");
}

#[test]
fn a_worker_that_publishes_nothing_sensible_tells_nothing() {
    if !has_bpf() {
        return;
    }
    let mut scene = Scene::new();
    for address in [0, 1, u64::MAX - 7, 0x7fff_ffff_f000] {
        scene.probe.set_slots(&[0, 0, 0, address]).unwrap();
        let events = scene.run(|words| words.finish(0));
        assert!(!events.iter().any(|event| matches!(event, Event::Window(..))), "{events:?}");
    }
    scene.words.set(0, MAGIC + 1);
    scene.probe.set_slots(&[0, 0, 0, scene.words.address()]).unwrap();
    let events = scene.run(|words| words.finish(0));
    assert!(!events.iter().any(|event| matches!(event, Event::Window(..))), "{events:?}");
}
