//! The calls against a small server on loopback.

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::scripted::{Hook, answer, config, header};
use super::*;
use crate::ingest::keys::PublishAddress;

fn webhook(url: &str) -> (Arc<Webhook>, mpsc::Receiver<Notice>) {
    Webhook::new(config(url), Metrics::default()).unwrap()
}

fn subject() -> Subject {
    let address = PublishAddress { app: "live".into(), name: "topsecret".into(), tc_url: "rtmp://h/live".into() };
    Subject { client_id: "c1".into(), peer: ([192, 0, 2, 7], 4000).into(), address, channel: None }
}

#[tokio::test]
async fn a_call_is_signed_and_its_answer_decides() {
    let yes = answer("200 OK", r#"{"code":0,"data":{"channel":"show","ladder":"small"}}"#);
    let no = answer("200 OK", r#"{"code":1,"message":"not today"}"#);
    let mut hook = Hook::start(&[&yes, &no]).await;
    let (webhook, _notices) = webhook(&hook.url());
    let allowed = Verdict::Allow { channel: Some(ChannelName::new("show").unwrap()), ladder: Some("small".to_owned()) };
    assert_eq!(webhook.may_publish(&subject()).await, Ok(allowed));
    assert_eq!(webhook.may_publish(&subject()).await, Ok(Verdict::Refuse(Some("not today".to_owned()))));

    let call = hook.calls.recv().await.unwrap();
    let (head, body) = call.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /hook HTTP/1.1\r\n"), "{head}");
    let timestamp: u64 = header(head, "x-headwater-timestamp").unwrap().parse().unwrap();
    assert!(unix_time() - timestamp < 60);
    let signed = signature("s3cret", timestamp, body.as_bytes());
    assert_eq!(header(head, "x-headwater-signature"), Some(signed.as_str()));
    let event = header(head, "x-headwater-event").unwrap();
    assert!(body.contains(&format!(r#""event_id":"{event}""#)) && body.contains(r#""stream":"topsecret""#), "{body}");
}

#[tokio::test]
async fn whatever_is_no_answer_is_a_fault_in_time() {
    let long = answer("200 OK", &"0".repeat(ANSWER_BYTES_MAX + 1));
    let endless = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n0";
    let hook = Hook::start(&[&answer("200 OK", "<html>"), &answer("502 Bad", "0"), &long, endless, ""]).await;
    let (webhook, _notices) = webhook(&hook.url());
    assert!(matches!(webhook.may_publish(&subject()).await, Err(HookFault::Garbage(_))));
    assert_eq!(webhook.may_publish(&subject()).await, Err(HookFault::Status(502)));
    assert_eq!(webhook.may_publish(&subject()).await, Err(HookFault::TooLong));
    assert!(matches!(webhook.may_publish(&subject()).await, Err(HookFault::Call(_))), "cut short");
    let began = Instant::now();
    assert_eq!(webhook.may_publish(&subject()).await, Err(HookFault::Timeout(Duration::from_millis(500))));
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(webhook.metrics.hook_faults.get_or_create(&KindLabel { kind: "on_publish" }).get(), 5);
}

#[tokio::test]
async fn a_dead_hook_is_a_fault_and_its_secret_stays_one() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (webhook, _notices) = webhook(&format!("http://{gone}/hook"));
    let fault = webhook.may_publish(&subject()).await.unwrap_err();
    assert!(matches!(&fault, HookFault::Call(text) if text.contains("refused")), "{fault}");
    let shown = format!("{webhook:?} {fault:?} {:?}", subject());
    assert!(!shown.contains("s3cret") && !shown.contains("topsecret"), "{shown}");
}

#[tokio::test]
async fn calls_beyond_the_bound_wait_no_longer_than_the_deadline() {
    let hook = Hook::start(&["", ""]).await;
    let (webhook, _notices) = webhook(&hook.url());
    let mut asking = JoinSet::new();
    for _ in 0..20 {
        let webhook = Arc::clone(&webhook);
        asking.spawn(async move { webhook.may_publish(&subject()).await });
    }
    let began = Instant::now();
    while let Some(verdict) = asking.join_next().await {
        assert!(matches!(verdict.unwrap(), Err(HookFault::Timeout(_))));
    }
    assert!(began.elapsed() < Duration::from_secs(5), "all at once, and not one after the other");
}

#[tokio::test]
async fn an_end_is_told_until_it_is_heard() {
    let mut hook = Hook::start(&[&answer("503 No", ""), &answer("200 OK", "0")]).await;
    let (webhook, notices) = webhook(&hook.url());
    let published = webhook.published(subject(), ChannelName::new("show").unwrap());
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(notify(Arc::clone(&webhook), notices, stop.clone()));
    drop(published);
    let [first, second] = [hook.calls.recv().await.unwrap(), hook.calls.recv().await.unwrap()];
    let event = |call: &str| header(call, "x-headwater-event").map(str::to_owned);
    assert_eq!(event(&first), event(&second), "the hook can tell that it is the same");
    assert!(second.contains(r#""action":"on_unpublish""#) && second.contains(r#""channel":"show""#), "{second}");
    stop.cancel();
    tasks.join_next().await.unwrap().unwrap();
}

#[tokio::test]
async fn notices_that_find_no_room_are_counted() {
    let (webhook, _notices) = webhook("http://127.0.0.1:9/");
    for _ in 0..=NOTICES_MAX {
        drop(webhook.published(subject(), ChannelName::new("show").unwrap()));
    }
    assert_eq!(webhook.metrics.hook_dropped.get(), 1);
}
