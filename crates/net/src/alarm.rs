//! A timer that is cheap to postpone.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::time::Sleep;

/// Fires at a deadline that moves with every call. Postponing costs nothing: the timer underneath
/// is set again only when it has fired too early, or when the deadline comes nearer.
#[derive(Debug)]
pub struct Alarm(Pin<Box<Sleep>>);

impl Alarm {
    /// One that fires then at first.
    #[must_use]
    pub fn at(deadline: Instant) -> Alarm {
        Alarm(Box::pin(tokio::time::sleep_until(deadline.into())))
    }

    /// Whether `deadline` has passed; if not, the task is woken then.
    pub fn is_over(&mut self, cx: &mut Context<'_>, deadline: Instant) -> bool {
        if self.0.deadline() > deadline.into() {
            self.0.as_mut().reset(deadline.into());
        }
        while self.0.as_mut().poll(cx) == Poll::Ready(()) {
            if Instant::now() >= deadline {
                return true;
            }
            self.0.as_mut().reset(deadline.into());
        }
        false
    }
}
