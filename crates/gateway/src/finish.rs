//! A call that is finished even if its caller goes away: what was begun is carried to its end,
//! and its record is made all the same.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::Response;
use moat_model::code::system::INTERNAL;
use moat_model::{Refusal, Stage};
use tokio::sync::OwnedSemaphorePermit;

use crate::body::ReplyBody;
use crate::call::Call;
use crate::pipeline;
use crate::worker::Work;

type Held = (Option<OwnedSemaphorePermit>, Work);
type Running = Pin<Box<dyn Future<Output = Response<ReplyBody>>>>;

/// A call under way, run by its connection while that lives. When the connection drops it
/// unfinished, it goes on as a task of its own.
pub(crate) struct Finishing {
    call: Rc<Call>,
    /// Its place in the session, and what makes a drain wait for it.
    held: Option<Held>,
    /// Nothing once it has ended.
    running: Option<Running>,
    has_panicked: bool,
}

impl Finishing {
    pub(crate) fn new(
        call: Rc<Call>,
        held: Held,
        running: impl Future<Output = Response<ReplyBody>> + 'static,
    ) -> Finishing {
        Finishing { call, held: Some(held), running: Some(Box::pin(running)), has_panicked: false }
    }

    /// A call that panicked is refused like any other, with a record. If that panics too, nothing may
    /// be answered: the panic goes on and ends the connection.
    fn panicked(&mut self, panic: Box<dyn Any + Send>) {
        self.running = None;
        if self.has_panicked {
            resume_unwind(panic);
        }
        self.has_panicked = true;
        let call = Rc::clone(&self.call);
        tracing::error!(trace = call.trace.hex(), "a call panicked");
        self.running = Some(Box::pin(async move {
            pipeline::refuse(&call, Refusal::new(Stage::Reply, &INTERNAL)).await
        }));
    }
}

impl Future for Finishing {
    type Output = Response<ReplyBody>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let call = Rc::clone(&self.call);
        loop {
            let Some(running) = &mut self.running else { return Poll::Pending };
            call.enter();
            let polled = catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(cx)));
            call.leave();
            match polled {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(response)) => {
                    self.running = None;
                    self.held = None;
                    return Poll::Ready(response);
                }
                Err(panic) => self.panicked(panic),
            }
        }
    }
}

impl Drop for Finishing {
    fn drop(&mut self) {
        let Some(running) = self.running.take() else { return };
        self.call.is_gone.set(true);
        // Once the worker has ended there is nothing left to run a task; its drain has waited.
        if !self.call.session.worker.has_ended() {
            let (call, held) = (Rc::clone(&self.call), self.held.take());
            let has_panicked = self.has_panicked;
            let rest = Finishing { call, held, running: Some(running), has_panicked };
            drop(tokio::task::spawn_local(async move { drop(rest.await) }));
        }
    }
}
