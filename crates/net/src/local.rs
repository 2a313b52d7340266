//! Runs hyper's tasks on the worker's own thread.

use std::future::Future;

/// An executor for a current-thread runtime with a `LocalSet`: nothing here is `Send`.
#[derive(Clone, Copy, Debug)]
pub struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        // The task ends with its connection; nobody waits for it.
        drop(tokio::task::spawn_local(async move {
            future.await;
        }));
    }
}
