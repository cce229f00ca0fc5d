//! Answers `GetClientConfiguration`: checks the stream key as for publishing, and has the channel's ladder turned into
//! tracks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::{Asked, Offer, configuration, refusal};
use crate::config::LadderConfig;
use crate::ingest::access::{Access, Grant};
use crate::ingest::close::WRONG_KEY_DELAY;
use crate::ingest::keys::PublishAddress;
use crate::ingest::throttle::SharedThrottle;
use crate::ingest::webhook::client::random_id;
use crate::source::{ChannelName, ClientConfiguration};

/// What answers are made from.
#[derive(Debug)]
pub struct Configurator {
    /// Who may publish.
    pub access: Arc<Access>,
    /// The ladders of the config's channels.
    pub channels: BTreeMap<ChannelName, Arc<LadderConfig>>,
    /// All ladders, by name, for channels that the webhook names.
    pub ladders: BTreeMap<String, Arc<LadderConfig>>,
    /// How long segments are.
    pub segment_duration: Duration,
    /// What encoders reach the RTMP port under, where that is known.
    pub public_url: Option<String>,
    /// The RTMP port.
    pub rtmp_port: u16,
    /// Of the lines about those that may not publish.
    pub refusals: SharedThrottle,
}

#[async_trait]
impl ClientConfiguration for Configurator {
    async fn answer(&self, request: Bytes, peer: SocketAddr, host: Option<&str>) -> Bytes {
        let config_id = random_id();
        let answer = match self.configure(&request, peer, host, &config_id).await {
            Ok(answer) => answer,
            Err(text) => refusal(&text, &config_id),
        };
        Bytes::from(answer.to_string())
    }
}

impl Configurator {
    async fn configure(
        &self,
        request: &[u8],
        peer: SocketAddr,
        host: Option<&str>,
        config_id: &str,
    ) -> Result<Value, String> {
        let asked = Asked::read(request)?;
        let grant = self.authorise(&asked, peer).await?;
        let ladder = self.ladder(&grant).ok_or("the ladder that was chosen for this stream does not exist")?;
        let url = self.url(host).ok_or("the server does not know its own address: set rtmp.public_url")?;
        let segment_secs = self.segment_duration.as_secs_f64();
        let answer = configuration(&asked, &Offer { ladder, segment_secs, url: &url, config_id })?;
        info!(%peer, channel = %grant.channel, config_id, "an encoder asked which tracks to send");
        Ok(answer)
    }

    async fn authorise(&self, asked: &Asked, peer: SocketAddr) -> Result<Grant, String> {
        let address =
            PublishAddress { app: "live".into(), name: asked.authentication.clone(), ..PublishAddress::default() };
        let authorised = self.access.authorise(&address, peer).await;
        match authorised {
            Ok(grant) => Ok(grant),
            Err(close) => {
                if let Some(left_out) = self.refusals.pass(Instant::now()) {
                    warn!(%peer, reason = %close, left_out, "an encoder that asked which tracks to send may not publish");
                }
                if close.is_failed_key() {
                    sleep(WRONG_KEY_DELAY).await;
                }
                Err(close.status().map_or_else(|| close.to_string(), |(_, text)| text))
            }
        }
    }

    fn ladder(&self, grant: &Grant) -> Option<&LadderConfig> {
        let ladder = self.channels.get(&grant.channel);
        let named = || self.ladders.get(grant.ladder.as_deref().unwrap_or("default"));
        ladder.or_else(named).map(Arc::as_ref)
    }

    /// Where to publish: as the config says, or else where the client reached this server.
    fn url(&self, host: Option<&str>) -> Option<String> {
        if let Some(url) = &self.public_url {
            let has_app = url.split_once("://").is_some_and(|(_, rest)| rest.trim_end_matches('/').contains('/'));
            return Some(if has_app { url.clone() } else { format!("{}/live", url.trim_end_matches('/')) });
        }
        let host = host?.parse::<http::uri::Authority>().ok()?;
        let port = match self.rtmp_port {
            1935 => String::new(),
            port => format!(":{port}"),
        };
        Some(format!("rtmp://{}{port}/live", host.host()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::config::{self, AddressLimits, StreamKey};
    use crate::guard::Guard;
    use crate::ingest::StreamKeys;
    use crate::networks::Networks;

    fn configurator(public_url: Option<&str>) -> Configurator {
        let config = config::load(None, []).unwrap();
        let channel = config.channels[0].clone();
        let keys = StreamKeys::new([(channel.name.clone(), StreamKey::Plain("key".into()))]);
        // Nobody publishes here.
        let (requests, _) = mpsc::channel(1);
        let channels = BTreeMap::from([(channel.name.clone(), requests)]);
        let limits = AddressLimits { wrong_keys_per_minute: 3, exempt: Networks::default(), ..config.rtmp.limits };
        Configurator {
            access: Arc::new(Access { keys, channels, hooks: None, guard: Guard::new(limits) }),
            channels: BTreeMap::from([(channel.name, channel.ladder)]),
            ladders: config.ladders,
            segment_duration: config.hls.segment_duration,
            public_url: public_url.map(str::to_owned),
            rtmp_port: 1936,
            refusals: SharedThrottle::default(),
        }
    }

    async fn ask(configurator: &Configurator, key: &str, host: Option<&str>) -> Value {
        let request = format!(
            r#"{{"authentication":"{key}","preferences":{{"canvases":[{{"width":640,"height":360,
            "framerate":{{"numerator":30,"denominator":1}}}}]}}}}"#
        );
        let peer = ([192, 0, 2, 7], 4000).into();
        serde_json::from_slice(&configurator.answer(request.into(), peer, host).await).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_good_key_gets_tracks_and_the_address() {
        let url = |answer: &Value| answer["ingest_endpoints"][0]["url_template"].as_str().map(str::to_owned);
        let answer = ask(&configurator(None), "key", Some("h.example:8080")).await;
        assert_eq!(answer["status"]["result"], "success");
        assert_eq!(url(&answer).as_deref(), Some("rtmp://h.example:1936/live/{stream_key}"));
        let answer = ask(&configurator(None), "key?bandwidthtest=true", Some("[::1]:8080")).await;
        assert_eq!(url(&answer).as_deref(), Some("rtmp://[::1]:1936/live/{stream_key}"));
        let answer = ask(&configurator(Some("rtmps://live.example/")), "key", None).await;
        assert_eq!(url(&answer).as_deref(), Some("rtmps://live.example/live/{stream_key}"));
        assert_eq!(answer["ingest_endpoints"][0]["protocol"], "RTMPS");
    }

    #[tokio::test(start_paused = true)]
    async fn row_4_keys_are_not_guessed_here_either() {
        let configurator = configurator(None);
        for guess in ["a", "b", "c", "d"] {
            assert_eq!(ask(&configurator, guess, Some("h")).await["status"]["result"], "error");
        }
        let answer = ask(&configurator, "key", Some("h")).await;
        let text = answer["status"]["html_en_us"].as_str().unwrap();
        assert!(text.contains("too many wrong stream keys were tried from your address: wait"), "{text}");
        let guard = &configurator.access.guard;
        assert!(guard.barred_for([192, 0, 2, 7].into()).is_some() && guard.barred_for([192, 0, 2, 8].into()).is_none());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(ask(&configurator, "key", Some("h")).await["status"]["result"], "success");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_key_gets_the_reason_and_not_at_once() {
        let began = tokio::time::Instant::now();
        let answer = ask(&configurator(None), "wrong", Some("h")).await;
        assert_eq!(answer["status"]["result"], "error");
        let text = answer["status"]["html_en_us"].as_str().unwrap();
        assert!(text.contains("no channel has this stream key"), "{text}");
        assert_eq!(began.elapsed(), WRONG_KEY_DELAY);
        let answer = ask(&configurator(None), "key", Some("a b")).await;
        assert_eq!(answer["status"]["result"], "error");
    }
}
