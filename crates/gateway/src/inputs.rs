//! Inputs of decisions, kept so that another bundle can be asked the same later: one line of JSON
//! each, in a file that the supervisor opened.
//!
//! What is kept goes by class: a field of a body that is not C1, or has no class, is left out and
//! named, and so are headers and what a token says of a person, unless the operator wants them. A
//! line that cannot be kept is counted and no call waits for it: its record does not depend on it.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use moat_config::Route;
use moat_model::Class;
use moat_policy::{BodyValue, Decision, Question, kept};

use crate::fields::is_spelled_as;

/// Most lines that wait to be written; about 16 MiB of the usual ones.
const WAITING_MAX: usize = 8_192;
/// Longest line, in bytes.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// Most bytes that are written at once.
const BATCH_BYTES_MAX: usize = 256 * 1024;

enum Order {
    Line(String),
    File(File),
}

/// See the module. Shared by all workers.
pub(crate) struct Inputs {
    orders: SyncSender<Order>,
    lost: AtomicU64,
    keeps_headers: bool,
    keeps_person: bool,
}

/// The thread that writes.
pub(crate) struct Writer {
    pub(crate) inputs: Arc<Inputs>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// # Errors
    /// There can be no more threads.
    pub(crate) fn start(
        fd: OwnedFd,
        keeps_headers: bool,
        keeps_person: bool,
    ) -> std::io::Result<Writer> {
        let (orders, received) = sync_channel(WAITING_MAX);
        let mut file = File::from(fd);
        let write = move || write_all(&mut file, &received);
        let thread = std::thread::Builder::new().name("inputs".to_owned()).spawn(write)?;
        let lost = AtomicU64::new(0);
        let inputs = Inputs { orders, lost, keeps_headers, keeps_person };
        Ok(Writer { inputs: Arc::new(inputs), thread })
    }

    /// Writes on into another file.
    pub(crate) fn turn_to(&self, fd: OwnedFd) {
        if self.inputs.orders.send(Order::File(File::from(fd))).is_err() {
            tracing::error!("inputs of decisions are kept no longer");
        }
    }

    /// Writes what waits. Only once no worker has the other end any more.
    pub(crate) fn stop(self) {
        drop(self.inputs);
        if self.thread.join().is_err() {
            tracing::error!("the last inputs of decisions were not kept");
        }
    }
}

impl Inputs {
    /// Keeps one question and its answer.
    pub(crate) fn keep(
        &self,
        route: &Route,
        question: &Question<'_>,
        bundle: &str,
        trace: &str,
        decision: &Decision,
    ) {
        let mut absent = Vec::new();
        let body: Vec<(String, BodyValue)> = question
            .body
            .iter()
            .filter(|(pointer, _)| is_c1(route, pointer) || !leave(&mut absent, "body", pointer))
            .cloned()
            .collect();
        let mut fewer = Question { body: &body, ..question.clone() };
        if !self.keeps_headers && !question.headers.is_empty() {
            absent.push("request.headers".to_owned());
            fewer.headers = &[];
        }
        if let Some(token) = fewer.token.as_mut().filter(|_| !self.keeps_person) {
            absent.extend(["token.sub", "token.claims"].map(str::to_owned));
            (token.subject, token.claims) = ("", &[]);
        }
        let line = kept::line(&fewer, &route.policy, bundle, trace, &absent, decision);
        let Some(line) = line.filter(|line| line.len() <= LINE_BYTES_MAX) else {
            return self.lose();
        };
        match self.orders.try_send(Order::Line(line)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.lose(),
        }
    }

    fn lose(&self) {
        let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
        if lost.is_power_of_two() {
            tracing::warn!(lost, "inputs of decisions were not kept");
        }
    }

    /// How many were not kept.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// Whether the route says that a field is C1.
fn is_c1(route: &Route, concrete: &str) -> bool {
    let named = route.audit.fields.iter().filter(|field| is_spelled_as(&field.pointer, concrete));
    let mut classes = named.map(|field| field.class.parse::<Class>().ok()).peekable();
    classes.peek().is_some() && classes.all(|class| class == Some(Class::C1))
}

/// Notes a pointer as left out.
fn leave(absent: &mut Vec<String>, part: &str, pointer: &str) -> bool {
    absent.push(format!("{part}{}", pointer.replace('/', ".")));
    true
}

fn write_all(file: &mut File, orders: &Receiver<Order>) {
    let mut is_failing = false;
    let mut batch = Vec::new();
    while let Ok(first) = orders.recv() {
        let mut next = Some(first);
        let mut turned = None;
        while let Some(order) = next.take() {
            match order {
                Order::Line(line) => {
                    batch.extend_from_slice(line.as_bytes());
                    batch.push(b'\n');
                }
                Order::File(other) => turned = Some(other),
            }
            if turned.is_none() && batch.len() < BATCH_BYTES_MAX {
                next = orders.try_recv().ok();
            }
        }
        let written = file.write_all(&batch);
        if let Err(error) = &written
            && !is_failing
        {
            tracing::error!(%error, "inputs of decisions are not kept");
        }
        is_failing = written.is_err();
        batch.clear();
        if let Some(other) = turned {
            *file = other;
        }
    }
}
