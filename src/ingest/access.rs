//! Who may publish, and to which channel: first the keys of the config, then the webhook.
//!
//! Every stream key that anybody tries, over RTMP or HTTP, is checked here and nowhere else, so that no port lets keys be
//! guessed when another has had enough.
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
use crate::guard::Guard;
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
    /// Who may try a key.
    pub guard: Guard,
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
    /// Says where a publisher may publish.
    ///
    /// # Errors
    /// Why it may not.
    pub(crate) async fn authorise(&self, address: &PublishAddress, peer: SocketAddr) -> Result<Grant, Close> {
        if let Some(left) = self.guard.barred_for(peer.ip()) {
            return Err(Close::Barred(left));
        }
        let decided = self.decide(address, peer).await;
        if let Err(Close::WrongKey | Close::HookRefused(_)) = &decided {
            self.guard.wrong_key(peer.ip(), &format!("{}/{}", address.app, address.name));
        }
        decided
    }

    async fn decide(&self, address: &PublishAddress, peer: SocketAddr) -> Result<Grant, Close> {
        let known = match self.keys.find(address, wall_clock()) {
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

#[expect(clippy::disallowed_methods, reason = "stream keys expire by the calendar")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{HooksConfig, KeyConfig, StreamKey};
    use crate::ingest::scripted::rtmp_config;
    use crate::ingest::webhook::client::scripted::{Hook, answer, config};
    use crate::metrics::Metrics;

    /// The channel `demo` with the key `known` and the expired key `old`, and what is asked for beside it.
    fn access(hooks: HooksConfig) -> (Access, mpsc::Receiver<OpenRequest>) {
        let demo = ChannelName::new("demo").unwrap();
        let key = |text: &str| KeyConfig::from(StreamKey::Plain(text.into()));
        let old = KeyConfig { expires: Some(SystemTime::UNIX_EPOCH), ..key("old") };
        let keys = StreamKeys::new([(demo.clone(), key("known")), (demo.clone(), old)]);
        let (webhook, _) = Webhook::new(hooks, Metrics::default()).unwrap();
        // Of each only one is sent.
        let ((requests, _), (opens, asked)) = (mpsc::channel(1), mpsc::channel(1));
        let hooks = Some(Hooks { webhook, opens });
        let mut limits = rtmp_config(([127, 0, 0, 1], 0).into()).limits;
        limits.wrong_keys_per_minute = 3;
        (Access { keys, channels: BTreeMap::from([(demo, requests)]), hooks, guard: Guard::new(limits) }, asked)
    }

    async fn authorise(access: &Access, name: &str) -> Result<(String, Option<String>), Close> {
        let address = PublishAddress { app: "live".into(), name: name.into(), ..PublishAddress::default() };
        let grant = access.authorise(&address, ([192, 0, 2, 7], 4000).into()).await?;
        Ok((grant.channel.to_string(), grant.ladder))
    }

    fn told(result: Result<(String, Option<String>), Close>) -> String {
        result.unwrap_err().status().unwrap().1
    }

    #[tokio::test]
    async fn the_hook_decides_on_keys_that_no_channel_has() {
        let yes = answer("200 OK", r#"{"code":0,"data":{"channel":"show","ladder":"small"}}"#);
        let no = answer("200 OK", r#"{"code":1,"message":"your account is closed"}"#);
        let hook = Hook::start(&[&yes, &no, &answer("200 OK", "0"), &answer("200 OK", "0")]).await;
        let (access, _) = access(config(&hook.url()));
        assert_eq!(authorise(&access, "known").await.unwrap(), ("demo".into(), None), "the hook is not asked");
        assert_eq!(authorise(&access, "other").await.unwrap(), ("show".into(), Some("small".into())));
        assert_eq!(told(authorise(&access, "other").await), "your account is closed");
        assert_eq!(authorise(&access, "demo?token=1").await.unwrap().0, "demo", "the stream's name is the channel's");
        assert!(told(authorise(&access, "secret").await).contains("no channel is set up"), "and is else no name");
    }

    #[tokio::test]
    async fn without_an_answer_nobody_is_let_in_whom_the_hook_decides_on() {
        let hook = Hook::start(&[""]).await;
        let dead = config(&hook.url());
        let (lenient, _) = access(dead.clone());
        assert!(authorise(&lenient, "known").await.is_ok());
        assert!(matches!(authorise(&lenient, "old").await, Err(Close::ExpiredKey)));
        assert!(matches!(authorise(&lenient, "/").await, Err(Close::NoKey)));
        assert!(told(authorise(&lenient, "other").await).contains("could not check the stream key"));
        let (strict, _) = access(HooksConfig { always: true, timeout: Duration::from_millis(50), ..dead });
        assert!(matches!(authorise(&strict, "known").await, Err(Close::HookFailed)));
        assert!(matches!(authorise(&strict, "old").await, Err(Close::ExpiredKey)), "and is not asked");
    }

    #[tokio::test]
    async fn row_4_what_the_hook_refuses_is_a_guess_and_what_it_does_not_answer_is_none() {
        let no = answer("200 OK", "1");
        let hook = Hook::start(&[&no, &no, &no, &no]).await;
        let (guessed, _) = access(config(&hook.url()));
        for guess in ["a", "b", "c", "d"] {
            assert!(matches!(authorise(&guessed, guess).await, Err(Close::HookRefused(None))));
        }
        assert!(matches!(authorise(&guessed, "known").await, Err(Close::Barred(_))), "not even the right one");
        let hook = Hook::start(&[""]).await;
        let timeout = Duration::from_millis(50);
        let (unanswered, _) = access(HooksConfig { timeout, ..config(&hook.url()) });
        for key in ["a", "b", "c", "d", "e"] {
            assert!(matches!(authorise(&unanswered, key).await, Err(Close::HookFailed)));
        }
        assert!(authorise(&unanswered, "known").await.is_ok());
    }

    #[tokio::test]
    async fn a_channel_that_the_config_lacks_is_asked_for() {
        let hook = Hook::start(&[&answer("200 OK", r#"{"code":0,"data":{"channel":"show","ladder":"small"}}"#)]).await;
        let (access, mut asked) = access(config(&hook.url()));
        let address = PublishAddress { name: "other".into(), ..PublishAddress::default() };
        let grant = access.authorise(&address, ([192, 0, 2, 7], 4000).into()).await.unwrap();
        let supervisor = async {
            let request = asked.recv().await.unwrap();
            assert_eq!((request.channel.as_str(), request.ladder.as_deref()), ("show", Some("small")));
            request.reply.send(Err(Refusal::Full)).unwrap();
        };
        let (requests, ()) = tokio::join!(access.requests(&grant), supervisor);
        assert!(matches!(requests, Err(Close::Refused(Refusal::Full))));
    }
}
