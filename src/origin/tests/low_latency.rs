//! Blocking reloads and hinted parts (RFC 8216bis, 6.2.5 and 6.2.6).

use std::time::Duration;

use http::{Method, StatusCode};
use tokio::task::JoinSet;

use super::answers::field;
use super::fixture::Fixture;
use super::serving::{Running, body, client};
use crate::live::{ChannelSnapshot, Msn};
use crate::origin::answer::Outcome;

const PLAYLIST: &str = "/live/demo/720p/index.m3u8";

/// What asking for `query` comes to: a status and `max-age`, or nothing as long as it is waited for.
fn ask(fixture: &Fixture, query: &str) -> Option<(u16, String)> {
    ask_for(fixture, &format!("{PLAYLIST}?{query}"))
}

fn ask_for(fixture: &Fixture, path: &str) -> Option<(u16, String)> {
    match fixture.outcome(&Method::GET, path, &[]) {
        Outcome::Answer(response) => Some((response.status().as_u16(), field(&response, "cache-control").to_owned())),
        Outcome::Archived(archived) => panic!("{archived:?}"),
        Outcome::Wait(wait) => {
            assert_eq!(wait.patience, Duration::from_secs(15), "three target durations");
            None
        }
    }
}

fn now(max_age: u32) -> Option<(u16, String)> {
    Some((200, format!("public, max-age={max_age}")))
}

fn refused() -> Option<(u16, String)> {
    Some((400, "public, max-age=1".to_owned()))
}

/// The fixture's target duration is 5 s; segments 8 to 10 are complete, the last without media; 11 has one part.
#[test]
fn clause_6_2_5_2_what_is_there_is_answered_and_what_comes_is_waited_for() {
    let fixture = Fixture::low_latency();
    assert_eq!(ask(&fixture, ""), now(1));
    assert_eq!(ask(&fixture, "_HLS_msn=10"), now(30), "six target durations");
    assert_eq!(ask(&fixture, "_HLS_msn=11&_HLS_part=0"), now(30));
    assert_eq!(ask(&fixture, "_HLS_msn=11&_HLS_part=1"), None);
    assert_eq!(ask(&fixture, "_HLS_msn=11"), None, "the whole segment");
    assert_eq!(ask(&fixture, "_HLS_msn=12&_HLS_part=0"), None);
    assert_eq!(ask(&fixture, "_HLS_msn=12"), None);
}

/// Its entries have numbers of their own: the last is 20.
#[test]
fn clause_6_2_5_2_a_list_of_i_frames_is_waited_for_by_its_own_numbers() {
    let fixture = Fixture::low_latency();
    let ask = |query: &str| ask_for(&fixture, &format!("/live/demo/720p/iframes.m3u8?{query}"));
    assert_eq!((ask(""), ask("_HLS_msn=20"), ask("_HLS_msn=19")), (now(1), now(30), now(1)));
    assert_eq!((ask("_HLS_msn=21"), ask("_HLS_msn=22&_HLS_part=0"), ask("_HLS_msn=23")), (None, None, refused()));
    assert_eq!(fixture.get("/live/demo/720p/iframes.m3u8?_HLS_skip=YES").body(), "text of i-frames 720p");
    fixture.change(|rendition| rendition.low_latency.as_mut().unwrap().blocking = false);
    assert_eq!(ask("_HLS_msn=21"), now(1));
}

#[test]
fn clause_6_2_5_2_old_positions_get_the_whole_playlist() {
    let fixture = Fixture::low_latency();
    for query in ["_HLS_msn=0", "_HLS_msn=1&_HLS_part=7", "_HLS_msn=8&_HLS_part=1"] {
        assert_eq!(ask(&fixture, query), now(1), "{query}");
    }
    let response = fixture.get(&format!("{PLAYLIST}?_HLS_msn=1"));
    assert_eq!(response.body(), "text of full 720p");
}

#[test]
fn clause_6_2_5_2_what_is_too_far_ahead_is_refused() {
    let fixture = Fixture::low_latency();
    assert_eq!(ask(&fixture, "_HLS_msn=13"), refused());
    assert_eq!(ask(&fixture, "_HLS_msn=13&_HLS_part=0"), refused());
    // Of 500 ms, six parts beyond the last may be asked for.
    assert_eq!(ask(&fixture, "_HLS_msn=11&_HLS_part=6"), None);
    assert_eq!(ask(&fixture, "_HLS_msn=11&_HLS_part=7"), refused());
    assert_eq!(ask(&fixture, "_HLS_part=1"), refused());
    assert_eq!(ask(&fixture, "_HLS_msn=x"), refused());
}

#[test]
fn clause_6_2_5_2_parts_past_the_end_are_the_next_segments_first() {
    let fixture = Fixture::low_latency();
    assert_eq!(ask(&fixture, "_HLS_msn=11&_HLS_part=5"), None);
    assert_eq!(ask(&fixture, "_HLS_msn=9&_HLS_part=2"), now(30), "number 10 is there");
    fixture.finish_segment();
    assert_eq!(ask(&fixture, "_HLS_msn=11&_HLS_part=0"), now(30));
    assert_eq!(ask(&fixture, "_HLS_msn=11&_HLS_part=5"), None, "number 12 has no part yet");
    fixture.add_part();
    assert_eq!(ask(&fixture, "_HLS_msn=11&_HLS_part=5"), now(30));
}

#[test]
fn a_segment_without_media_has_no_parts_to_wait_for() {
    let fixture = Fixture::low_latency();
    assert_eq!(ask(&fixture, "_HLS_msn=10&_HLS_part=0"), now(30));
}

#[test]
fn clause_6_2_5_directives_end_with_the_programme() {
    let fixture = Fixture::low_latency();
    fixture.live.send_modify(|live| *live = ChannelSnapshot { ended: true, ..(**live).clone() }.into());
    for query in ["_HLS_msn=99", "_HLS_part=1", "_HLS_msn=x", "_HLS_msn=11&_HLS_skip=YES"] {
        assert_eq!(ask(&fixture, query), now(2), "{query}");
    }
}

#[test]
fn a_source_that_stands_still_is_not_waited_for() {
    let fixture = Fixture::low_latency();
    fixture.change(|rendition| rendition.low_latency.as_mut().unwrap().blocking = false);
    assert_eq!(ask(&fixture, "_HLS_msn=11&_HLS_part=1"), now(1), "and the answer is not kept");
    assert_eq!(ask(&fixture, "_HLS_msn=13"), refused());
    assert_eq!(fixture.get("/live/demo/720p/5/11.1.m4s").status(), 404);
}

#[test]
fn clause_6_2_5_1_a_delta_update_is_given_where_there_is_one() {
    let fixture = Fixture::low_latency();
    let text = |query: &str| fixture.get(&format!("{PLAYLIST}?{query}")).into_body();
    assert_eq!(text("_HLS_skip=YES"), "text of delta 720p");
    assert_eq!(text("_HLS_skip=v2&_HLS_msn=11&_HLS_part=0"), "text of delta 720p");
    assert_eq!(text("_HLS_skip=no"), "text of full 720p");
    fixture.change(|rendition| rendition.low_latency.as_mut().unwrap().delta = None);
    assert_eq!(text("_HLS_skip=YES"), "text of full 720p");
}

#[test]
fn clause_6_2_6_hinted_parts_come_and_abandoned_ones_never() {
    let fixture = Fixture::low_latency();
    let part = |msn: u64, index: u32| match fixture.outcome(
        &Method::GET,
        &format!("/live/demo/720p/5/{msn}.{index}.m4s"),
        &[],
    ) {
        Outcome::Answer(response) => Some(response.status()),
        Outcome::Wait(_) | Outcome::Archived(_) => None,
    };
    assert_eq!(part(11, 0), Some(StatusCode::OK));
    assert_eq!(part(11, 1), None);
    assert_eq!(part(11, 2), Some(StatusCode::NOT_FOUND));
    assert_eq!(part(12, 0), Some(StatusCode::NOT_FOUND));
    fixture.finish_segment();
    assert_eq!(part(11, 1), Some(StatusCode::NOT_FOUND), "the segment ended before it");
    assert_eq!(part(12, 0), None);
}

/// Requests on their way, each giving its status and text.
type Requests = JoinSet<(u16, bytes::Bytes)>;

fn send(requests: &mut Requests, running: &Running, path: &'static str) {
    let address = running.address;
    requests.spawn(async move {
        let uri = format!("http://{address}{path}");
        let request = http::Request::get(uri).body(http_body_util::Empty::new()).unwrap();
        let response = client(false).request(request).await.unwrap();
        (response.status().as_u16(), body(response).await)
    });
}

/// Until so many requests wait.
async fn until_waiting(running: &Running, count: i64) {
    while running.metrics.origin_waiting.get() != count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn whoever_waits_is_answered_when_it_is_there_and_no_sooner() {
    let running = Running::start().await;
    let fixture = &running.fixture;
    fixture.live.send_replace(Fixture::low_latency().live.borrow().clone());
    let mut requests = Requests::new();
    send(&mut requests, &running, "/live/demo/720p/index.m3u8?_HLS_msn=11&_HLS_part=1");
    send(&mut requests, &running, "/live/demo/720p/5/11.1.m4s");
    until_waiting(&running, 2).await;
    fixture.change(|rendition| rendition.first_listed = Msn(9));
    tokio::task::yield_now().await;
    assert!(requests.try_join_next().is_none(), "news of something else");
    fixture.add_part();
    let mut answers =
        Vec::from([requests.join_next().await.unwrap().unwrap(), requests.join_next().await.unwrap().unwrap()]);
    answers.sort();
    assert_eq!(answers, [(200, "next part".into()), (200, "text of full 720p".into())]);
    until_waiting(&running, 0).await;
    running.stop().await;
}

#[tokio::test]
async fn who_waits_is_bounded_and_who_leaves_makes_room() {
    let running = Running::start().await;
    running.fixture.live.send_replace(Fixture::low_latency().live.borrow().clone());
    let path = "/live/demo/720p/index.m3u8?_HLS_msn=11&_HLS_part=1";
    let mut first = Requests::new();
    send(&mut first, &running, path);
    let mut second = Requests::new();
    send(&mut second, &running, path);
    until_waiting(&running, 2).await;
    let response = running.get(&client(false), path).await;
    assert_eq!((response.status().as_u16(), &response.headers()["cache-control"]), (503, &"no-store".parse().unwrap()));
    assert!(response.headers().contains_key("retry-after"));
    drop(first);
    until_waiting(&running, 1).await;
    send(&mut second, &running, path);
    until_waiting(&running, 2).await;
    running.fixture.add_part();
    for _ in 0..2 {
        assert_eq!(second.join_next().await.unwrap().unwrap().0, 200);
    }
    running.stop().await;
}

#[tokio::test]
async fn what_was_waited_for_may_vanish() {
    let running = Running::start().await;
    running.fixture.live.send_replace(Fixture::low_latency().live.borrow().clone());
    let mut requests = Requests::new();
    send(&mut requests, &running, "/live/demo/720p/5/11.1.m4s");
    send(&mut requests, &running, "/live/demo/720p/index.m3u8?_HLS_msn=11");
    until_waiting(&running, 2).await;
    let before = running.fixture.live.borrow().clone();
    running.fixture.live.send_replace(ChannelSnapshot::default().into());
    before.renditions.iter().for_each(|rendition| rendition.news.tell());
    for _ in 0..2 {
        assert_eq!(requests.join_next().await.unwrap().unwrap().0, 404);
    }
    running.stop().await;
}

#[tokio::test]
async fn after_three_target_durations_there_is_an_answer() {
    let running = Running::start().await;
    let snapshot = Fixture::low_latency().live.borrow().clone();
    // A target duration of 0 is none that a packager has: so nothing is worth to wait for.
    running.fixture.live.send_replace(ChannelSnapshot { target_duration_secs: 0, ..(*snapshot).clone() }.into());
    let response = running.get(&client(false), "/live/demo/720p/index.m3u8?_HLS_msn=11&_HLS_part=1").await;
    assert_eq!(response.status(), 503);
    running.stop().await;
}
