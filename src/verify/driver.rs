//! Runs an audit: does its jobs, each in a task, until the time is over or nothing is left to do.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};
use url::Url;

use super::audit::{Audit, Job, Outcome};
use super::client::Client;
use super::report::Report;

/// Audits the stream at `url` for so long, or until it has ended.
///
/// # Errors
/// A sentence, where nothing could be read there.
pub async fn run(url: Url, time: Duration) -> Result<Report, String> {
    let client = Client::new().map_err(|error| format!("reading the certificates that the system trusts: {error}"))?;
    let (mut audit, first) = Audit::new(url);
    // As many as the audit asks for: a few for each playlist.
    let mut jobs = JoinSet::new();
    jobs.spawn(perform(client.clone(), first));
    let deadline = tokio::time::Instant::now() + time;
    loop {
        let done = tokio::select! {
            () = sleep_until(deadline) => break,
            done = jobs.join_next() => done,
        };
        match done {
            Some(Ok((job, outcome))) => {
                for job in audit.done(job, outcome) {
                    jobs.spawn(perform(client.clone(), job));
                }
            }
            Some(Err(panic)) => return Err(format!("a bug: {panic}")),
            None => break,
        }
    }
    jobs.shutdown().await;
    audit.finish(client.now())
}

async fn perform(client: Client, job: Job) -> (Job, Outcome) {
    sleep(job.wait).await;
    let outcome = client.fetch(&job).await;
    (job, outcome)
}

#[cfg(test)]
mod tests;
