//! Tasks that start and end together.

use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// The tasks of a stage.
pub(super) struct Stage {
    name: &'static str,
    tasks: JoinSet<()>,
    /// Tells them to stop.
    pub(super) stop: CancellationToken,
}

impl Stage {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, tasks: JoinSet::new(), stop: CancellationToken::new() }
    }

    pub(super) fn spawn<F: Future<Output = ()> + Send + 'static>(&mut self, task: impl FnOnce(CancellationToken) -> F) {
        self.tasks.spawn(task(self.stop.clone()));
    }

    /// Waits for one task to end; for ever where there is none. Cancel safe.
    pub(super) async fn next(&mut self) {
        match self.tasks.join_next().await {
            Some(ended) => self.report(ended),
            None => std::future::pending().await,
        }
    }

    /// Waits for all tasks, and says which of them panicked.
    pub(super) async fn join(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            self.report(ended);
        }
    }

    fn report(&self, ended: Result<(), JoinError>) {
        if let Err(panic) = ended {
            error!(stage = self.name, %panic, "a task failed");
        }
    }

    /// Tells the tasks to stop and waits for them; what is not done by the deadline is dropped.
    pub(super) async fn end(&mut self, deadline: Duration) {
        self.stop.cancel();
        if timeout(deadline, self.join()).await.is_err() {
            warn!(stage = self.name, ?deadline, "did not stop in time");
            self.tasks.shutdown().await;
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }
}
