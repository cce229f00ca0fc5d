//! Who may publish, and to which channel: first the keys of the config, then the webhook.
//!
//! A hook that does not answer lets nobody in. It is asked by the task of the connection that waits for it, so nobody
//! else does.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::{mpsc, oneshot};

use super::close::Close;
use super::keys::{Holder, KeyFault, PublishAddress, StreamKeys};
use super::webhook::client::{Published, Webhook, random_id};
use super::webhook::{Subject, Verdict};
use crate::source::{ChannelName, OpenRequest, PublishRequest, Refusal};

/// What decides on publishers, and where those go that may publish.
#[derive(Debug)]
pub struct Access {
    /// The keys of the config.
    pub keys: StreamKeys,
    /// Where each channel of the config takes requests to publish.
    pub channels: BTreeMap<ChannelName, mpsc::Sender<PublishRequest>>,
    /// What decides where the config does not.
    pub hooks: Option<Hooks>,
}

/// The webhook, and what opens the channels that it names.
#[derive(Debug)]
pub struct Hooks {
    /// Who is asked.
    pub webhook: Arc<Webhook>,
    /// Where channels are asked for that the config does not have.
    pub opens: mpsc::Sender<OpenRequest>,
}

/// Somebody may publish.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    /// To this channel.
    pub(crate) channel: ChannelName,
    /// With this ladder, where the channel is not one of the config.
    pub(crate) ladder: Option<String>,
    /// What the key is called.
    pub(crate) key_name: Option<String>,
    subject: Subject,
}

impl Access {
    /// Says where a publisher may publish. `now` is for keys that expire.
    ///
    /// # Errors
    /// Why it may not.
    pub(crate) async fn authorise(
        &self,
        address: &PublishAddress,
        peer: SocketAddr,
        now: SystemTime,
    ) -> Result<Grant, Close> {
        let known = match self.keys.find(address, now) {
            Ok(holder) => Some(holder),
            Err(KeyFault::Expired) => return Err(Close::ExpiredKey),
            Err(KeyFault::Unknown) => None,
        };
        let channel = known.map(|holder| holder.channel.clone());
        let subject = Subject { client_id: random_id(), peer, address: address.clone(), channel };
        let webhook = self.hooks.as_ref().map(|hooks| &hooks.webhook).filter(|webhook| webhook.decides());
        match (known, webhook) {
            (Some(holder), Some(webhook)) if webhook.decides_always() => self.ask(webhook, subject, Some(holder)).await,
            (Some(holder), _) => Ok(Grant::of(holder, subject)),
            (None, _) if address.is_empty() => Err(Close::NoKey),
            (None, Some(webhook)) => self.ask(webhook, subject, None).await,
            (None, None) => Err(Close::WrongKey),
        }
    }

    /// Has the webhook decide. A channel that it names goes before the key's; where there is neither, the stream's name
    /// may be that of a channel of the config, as it is for other servers.
    async fn ask(&self, webhook: &Webhook, subject: Subject, known: Option<&Holder>) -> Result<Grant, Close> {
        let (named, ladder) = match webhook.may_publish(&subject).await {
            Ok(Verdict::Allow { channel, ladder }) => (channel, ladder),
            Ok(Verdict::Refuse(text)) => return Err(Close::HookRefused(text)),
            Err(_) => return Err(Close::HookFailed),
        };
        let channel = named.or_else(|| subject.channel.clone()).or_else(|| self.streams_name(&subject.address));
        let channel = channel.ok_or(Close::HookNamesNoChannel)?;
        let key_name = known.and_then(|holder| holder.key_name.clone());
        Ok(Grant { channel, ladder, key_name, subject })
    }

    /// A channel of the config only: what the stream is called may be a secret, which must not become a URL.
    fn streams_name(&self, address: &PublishAddress) -> Option<ChannelName> {
        let (_, stream) = address.app_and_stream();
        ChannelName::new(stream).ok().filter(|name| self.channels.contains_key(name))
    }

    /// Where the channel takes requests to publish; it is made where there is none.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub(crate) async fn requests(&self, grant: &Grant) -> Result<mpsc::Sender<PublishRequest>, Close> {
        if let Some(requests) = self.channels.get(&grant.channel) {
            return Ok(requests.clone());
        }
        let gone = || Close::Refused(Refusal::ShuttingDown);
        let hooks = self.hooks.as_ref().ok_or_else(gone)?;
        let (reply, answer) = oneshot::channel();
        let request = OpenRequest { channel: grant.channel.clone(), ladder: grant.ladder.clone(), reply };
        hooks.opens.send(request).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?.map_err(Close::Refused)
    }

    /// What tells the hook, once it is dropped, that the publisher is gone.
    pub(crate) fn published(&self, grant: Grant) -> Option<Published> {
        self.hooks.as_ref()?.webhook.published(grant.subject, grant.channel)
    }
}

impl Grant {
    fn of(holder: &Holder, subject: Subject) -> Self {
        let Holder { channel, key_name, .. } = holder.clone();
        Self { channel, ladder: None, key_name, subject }
    }
}
