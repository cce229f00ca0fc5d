//! The driver of the webhook: calls with a deadline, a bounded number at once, and notices that are told until heard.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::aws_lc_rs;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{ANSWER_BYTES_MAX, Action, HookFault, Subject, Verdict, body, hex, signature, verdict};
use crate::config::HooksConfig;
use crate::ingest::throttle::SharedThrottle;
use crate::metrics::{KindLabel, Metrics};
use crate::source::ChannelName;

/// The hooks of the config, ready to be called.
#[derive(Debug)]
pub struct Webhook {
    config: HooksConfig,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Bounds the calls that decide. Who waits for one too long is refused by the deadline.
    calls: Semaphore,
    server_id: String,
    notices: mpsc::Sender<Notice>,
    metrics: Metrics,
    /// Of the lines about calls that failed, which strangers can cause.
    faults: SharedThrottle,
}

/// A publisher that is gone, still to be told.
#[derive(Debug)]
pub struct Notice {
    event_id: String,
    subject: Subject,
}

/// Tells that a publisher is gone once it is dropped, however its connection ended.
#[derive(Debug)]
pub struct Published {
    webhook: Arc<Webhook>,
    subject: Subject,
}

/// Notices that wait. When it is full, because the hook does not hear, further ones are dropped and counted.
const NOTICES_MAX: usize = 1024;
/// Between the first two attempts to tell the same notice; it doubles from there.
const RETRY: Duration = Duration::from_secs(1);
/// It grows no longer than this.
const RETRY_MAX: Duration = Duration::from_secs(30);

impl Webhook {
    /// From the config, with the notices that [`notify`] is to tell.
    ///
    /// # Errors
    /// Where the system's certificates cannot be read.
    pub fn new(config: HooksConfig, metrics: Metrics) -> std::io::Result<(Arc<Self>, mpsc::Receiver<Notice>)> {
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(aws_lc_rs::default_provider())?
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let (notices, receiver) = mpsc::channel(NOTICES_MAX);
        let calls = Semaphore::new(config.calls_max);
        let (server_id, faults) = (random_id(), SharedThrottle::default());
        Ok((Arc::new(Self { config, client, calls, server_id, notices, metrics, faults }), receiver))
    }

    /// The hook decides also of keys that the config has.
    #[must_use]
    pub fn decides_always(&self) -> bool {
        self.config.always && self.decides()
    }

    /// There is a hook that decides.
    #[must_use]
    pub fn decides(&self) -> bool {
        self.config.on_publish.is_some()
    }

    /// Asks whether `subject` may publish.
    ///
    /// # Errors
    /// [`HookFault`], by the deadline at the latest.
    pub async fn may_publish(&self, subject: &Subject) -> Result<Verdict, HookFault> {
        let url = self.config.on_publish.as_deref().unwrap_or_default();
        let asked = async {
            let _permit = self.calls.acquire().await.map_err(|closed| HookFault::Call(closed.to_string()))?;
            let (status, answer) = self.call(url, Action::Publish, subject, &random_id()).await?;
            verdict(status, &answer)
        };
        let limit = self.config.timeout;
        let verdict = timeout(limit, asked).await.unwrap_or(Err(HookFault::Timeout(limit)));
        if let Err(fault) = &verdict {
            self.metrics.hook_faults.get_or_create(&KindLabel { kind: "on_publish" }).inc();
            if let Some(left_out) = self.faults.pass(Instant::now()) {
                warn!(peer = %subject.peer, %fault, left_out, "the webhook did not say who may publish: refused");
            }
        }
        verdict
    }

    /// What tells the end of `subject`, which publishes to `channel`. None where no hook wants to know.
    #[must_use]
    pub fn published(self: &Arc<Self>, subject: Subject, channel: ChannelName) -> Option<Published> {
        self.config.on_unpublish.as_ref()?;
        let subject = Subject { channel: Some(channel), ..subject };
        Some(Published { webhook: Arc::clone(self), subject })
    }

    async fn call(&self, url: &str, action: Action, subject: &Subject, event: &str) -> Result<(u16, Bytes), HookFault> {
        let failed = |error: &dyn std::error::Error| HookFault::Call(causes(error));
        let body = body(action, subject, &self.server_id, event);
        let timestamp = unix_time();
        let mut request = Request::post(url)
            .header("Content-Type", "application/json")
            .header("User-Agent", concat!("headwater/", env!("CARGO_PKG_VERSION")))
            .header("X-Headwater-Event", event)
            .header("X-Headwater-Timestamp", timestamp);
        if let Some(secret) = &self.config.secret {
            request = request.header("X-Headwater-Signature", signature(secret.as_str(), timestamp, &body));
        }
        let request = request.body(Full::from(body)).map_err(|error| failed(&error))?;
        let response = self.client.request(request).await.map_err(|error| failed(&error))?;
        let status = response.status().as_u16();
        let answer = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        match answer {
            Ok(answer) => Ok((status, answer.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => Err(HookFault::TooLong),
            Err(error) => Err(failed(error.as_ref())),
        }
    }

    /// True where the hook has heard it.
    async fn tell(&self, url: &str, notice: &Notice) -> bool {
        let told = self.call(url, Action::Unpublish, &notice.subject, &notice.event_id);
        let fault = match timeout(self.config.timeout, told).await {
            Ok(Ok((status, _))) if (200..300).contains(&status) => return true,
            Ok(Ok((status, _))) => HookFault::Status(status),
            Ok(Err(fault)) => fault,
            Err(_) => HookFault::Timeout(self.config.timeout),
        };
        self.metrics.hook_faults.get_or_create(&KindLabel { kind: "on_unpublish" }).inc();
        debug!(%fault, "the webhook was not told that a publisher is gone; it will be told again");
        false
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        let notice = Notice { event_id: random_id(), subject: self.subject.clone() };
        if self.webhook.notices.try_send(notice).is_err() {
            self.webhook.metrics.hook_dropped.inc();
            warn!(peer = %self.subject.peer, "the webhook will not be told that a publisher is gone: too many such notices wait");
        }
    }
}

/// Tells the notices in their order, each until it is heard, until `stop`; then what is left, once each.
pub async fn notify(webhook: Arc<Webhook>, mut notices: mpsc::Receiver<Notice>, stop: CancellationToken) {
    let Some(url) = webhook.config.on_unpublish.clone() else { return };
    loop {
        let notice = tokio::select! {
            () = stop.cancelled() => break,
            notice = notices.recv() => notice,
        };
        let Some(notice) = notice else { return };
        let mut wait = RETRY;
        while !webhook.tell(&url, &notice).await {
            tokio::select! {
                () = stop.cancelled() => {
                    webhook.metrics.hook_dropped.inc();
                    break;
                }
                () = sleep(wait) => wait = (wait * 2).min(RETRY_MAX),
            }
        }
    }
    while let Ok(notice) = notices.try_recv() {
        if !webhook.tell(&url, &notice).await {
            webhook.metrics.hook_dropped.inc();
        }
    }
}

/// 64 random bits, as text.
pub(crate) fn random_id() -> String {
    let mut bytes = [0_u8; 8];
    // Without random bytes ids repeat, which only makes logs harder to read.
    let _ = getrandom::fill(&mut bytes);
    hex(&bytes)
}

/// An error and what caused it: the outermost alone says too little.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[expect(clippy::disallowed_methods, reason = "calls are dated, so that an old one is not taken for a new one")]
fn unix_time() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default()
}

#[cfg(test)]
pub(in crate::ingest) mod scripted;
#[cfg(test)]
mod tests;
