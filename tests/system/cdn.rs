//! Caches before the origin, with the configurations that are shipped: what players get through them, how old it can be, and what
//! it costs the origin.

use std::time::{Duration, Instant};

use crate::crowd::{WATCHED, answered, crowd, follow, poll};
use crate::support::cache::{Cache, Kind};
use crate::support::edge::{Edge, Playlist};
use crate::support::free_address;
use crate::support::server::{Builder, Server};
use crate::support::{encoders, hls, http, wait_for};
use crate::{KEYFRAME_EACH_SECOND, PATIENCE, SHORT_SEGMENTS, SMALL_LADDER, small_server};

/// The age of a plain playlist that either configuration allows, and a busy machine.
const OLDEST_PLAYLIST: Duration = Duration::from_millis(2500);

#[test]
fn players_behind_nginx_get_what_the_origin_says() {
    players_get_what_the_origin_says(Kind::Nginx);
}

#[test]
fn players_behind_varnish_get_what_the_origin_says() {
    players_get_what_the_origin_says(Kind::Varnish);
}

fn players_get_what_the_origin_says(kind: Kind) {
    let server = small_server();
    let cache = Cache::before(&server.origin, kind);
    let encoder = encoders::push_live("320x180", 30, &KEYFRAME_EACH_SECOND, &server.publish_url());
    hls::wait_until_live(&server, PATIENCE);
    let media = hls::media(&server, "source").unwrap();
    let segment = format!("source/{}", media.segments[0].uri);
    let init = format!("source/{}", media.segments[0].map.as_ref().unwrap().uri);
    for path in ["index.m3u8", &segment, &init, "source/1/1.m4s", "source/index.m3u8?_HLS_part=1"] {
        let get = |url: &str| http::get_with(url, &[("accept-encoding", "gzip")]).unwrap();
        let (direct, cached) = (get(&server.live(path)), get(&cache.live(path)));
        assert_eq!(cached.status, direct.status, "{path}");
        for name in ["cache-control", "content-type", "content-encoding", "etag", "vary", "access-control-allow-origin"]
        {
            assert_eq!(cached.header(name), direct.header(name), "{path}: {name}");
        }
        assert_eq!(cached.body, direct.body, "{path}");
    }
    // Nothing of the query splits the cache of what never changes; a range comes out of the whole.
    let again = http::get(&cache.live(&format!("{segment}?session=4711&x"))).unwrap();
    assert_eq!((again.status, again.header("x-cache-status")), (200, "HIT"));
    let range = http::get_with(&cache.live(&segment), &[("range", "bytes=4-7")]).unwrap();
    assert_eq!((range.status, range.header("x-cache-status"), &range.body[..]), (206, "HIT", &again.body[4..8]));
    // Browsers spell it in many ways, and share a copy.
    let ask = |coding: &str| {
        let response = http::get_with(&cache.live("index.m3u8"), &[("accept-encoding", coding)]).unwrap();
        (response.header("x-cache-status").to_owned(), response.header("content-encoding").to_owned())
    };
    wait_for("a copy for all spellings", PATIENCE, || {
        let all = ["gzip", "gzip, deflate, br, zstd", "br;q=1.0, gzip;q=0.8, *;q=0.1"].map(ask);
        assert!(all.iter().all(|(_, coding)| coding == "gzip"), "{all:?}");
        // Its second may have ended in between.
        if all.iter().skip(1).all(|(status, _)| status == "HIT") { Ok(()) } else { Err(format!("{all:?}")) }
    });
    assert_eq!(ask("br").1, "");
    assert_eq!(http::get(&format!("{}/api/v3/GetClientConfiguration", cache.url)).unwrap().status, 404);
    drop(encoder);
}

#[test]
fn through_nginx_no_404_and_no_playlist_outlives_its_second() {
    no_404_and_no_playlist_outlives_its_second(Kind::Nginx);
}

#[test]
fn through_varnish_no_404_and_no_playlist_outlives_its_second() {
    no_404_and_no_playlist_outlives_its_second(Kind::Varnish);
}

#[expect(clippy::disallowed_methods, reason = "tests of real processes live in real time")]
fn no_404_and_no_playlist_outlives_its_second(kind: Kind) {
    let server = small_server();
    let cache = Cache::before(&server.origin, kind);
    let (direct, cached) = (server.live("source/index.m3u8"), cache.live("source/index.m3u8"));
    assert_eq!(http::get(&cached).unwrap().status, 404);
    let encoder = encoders::push_live("320x180", 30, &KEYFRAME_EACH_SECOND, &server.publish_url());
    // Viewers ask all the time, so that the 404 is always in the cache.
    let live_at = wait_for("the channel to go live", PATIENCE, || {
        drop(http::get(&cached));
        http::fetch(&direct).map(|_| Instant::now())
    });
    wait_for("the cache to see it", PATIENCE, || http::fetch(&cached));
    assert!(live_at.elapsed() < OLDEST_PLAYLIST, "{:?}", live_at.elapsed());

    // When which number was first seen at the origin.
    let mut seen: Vec<(Instant, u64)> = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        let asked_at = Instant::now();
        let through = edge(&cached).unwrap();
        let due = seen.iter().rev().find(|(at, _)| *at + OLDEST_PLAYLIST < asked_at).map_or(0, |(_, edge)| *edge);
        assert!(through >= due, "{through} where {due} was there {OLDEST_PLAYLIST:?} before");
        seen.push((Instant::now(), edge(&direct).unwrap()));
    }
    assert!(seen.last().unwrap().1 >= seen[0].1 + 3, "there was something to see");

    // Nobody asks for a while; the next one gets what is there now.
    let before = edge(&cached).unwrap();
    wait_for("three more segments", PATIENCE, || match edge(&direct)? {
        now if now >= before + 3 => Ok(()),
        now => Err(format!("at {now}")),
    });
    assert!(edge(&cached).unwrap() >= before + 3);
    drop(encoder);
}

fn read(url: &str) -> Result<m3u8_rs::MediaPlaylist, String> {
    m3u8_rs::parse_media_playlist_res(&http::fetch(url)?).map_err(|error| format!("{error:?}"))
}

/// The number behind the last that a playlist lists.
fn edge(url: &str) -> Result<u64, String> {
    let media = read(url)?;
    Ok(media.media_sequence + media.segments.len() as u64)
}

/// Players at one time.
const CROWD: usize = 500;

#[test]
fn a_crowd_that_polls_behind_nginx_costs_the_origin_one_request_a_second() {
    let (server, cache, encoder) = live_behind(Kind::Nginx);
    let before = [answered(&server, "playlist"), answered(&server, "segment")];
    let tally = crowd(&cache.live("source/"), CROWD, poll);
    let [playlists, segments] = [answered(&server, "playlist") - before[0], answered(&server, "segment") - before[1]];
    assert!(tally.requests >= CROWD * 3, "{} requests", tally.requests);
    // One a second, for as long as the last of them to begin takes.
    assert!(playlists <= 2 * WATCHED.as_secs(), "more than one a second: {playlists}");
    assert_eq!(segments, tally.media.len() as u64, "each once");
    drop(encoder);
}

#[test]
fn a_low_latency_crowd_behind_nginx_costs_the_origin_one_request_a_url() {
    a_low_latency_crowd_costs_one_request_a_url(Kind::Nginx);
}

#[test]
fn a_low_latency_crowd_behind_varnish_costs_the_origin_one_request_a_url() {
    a_low_latency_crowd_costs_one_request_a_url(Kind::Varnish);
}

fn a_low_latency_crowd_costs_one_request_a_url(kind: Kind) {
    let (server, cache, encoder) = live_behind(kind);
    let before = [answered(&server, "playlist"), answered(&server, "part")];
    let tally = crowd(&cache.live("source/"), CROWD, follow);
    let [playlists, parts] = [answered(&server, "playlist") - before[0], answered(&server, "part") - before[1]];
    println!(
        "{kind:?}: {} requests; the origin answered {playlists} for playlists and {parts} for parts",
        tally.requests
    );
    println!("{kind:?}: from the first player's answer to each other's: {}", tally.spread());
    // Each player asks twice for a part of half a second: for the playlist that holds it, and for itself. How often they
    // come to it is the machine's.
    assert!(tally.requests >= CROWD * 4, "{} requests", tally.requests);
    assert!(tally.playlists.len() >= 3, "{:?}", tally.playlists);
    // Those who first ask without directives are answered out of the seconds in which they do.
    let plain = 2 * WATCHED.as_secs();
    assert!(playlists <= tally.playlists.len() as u64 + plain, "{playlists} for {:?}", tally.playlists);
    assert!(parts <= tally.media.len() as u64, "{parts} for {:?}", tally.media);
    drop(encoder);
}

/// A live channel, and a cache before it.
fn live_behind(kind: Kind) -> (Server, Cache, encoders::Encoder) {
    let server = small_server();
    let encoder = encoders::push_live("320x180", 30, &KEYFRAME_EACH_SECOND, &server.publish_url());
    let names = hls::wait_until_live(&server, PATIENCE);
    hls::record(&server, &names, 2, PATIENCE);
    let source = Edge { server: &server, rendition: "source" };
    wait_for("parts", PATIENCE, || Playlist::read(&source.ask("").text()).hint.ok_or_else(|| "no hint".to_owned()));
    let cache = Cache::before(&server.origin, kind);
    (server, cache, encoder)
}

#[test]
fn an_origin_that_is_killed_under_nginx_goes_on_when_it_is_back() {
    an_origin_that_is_killed_goes_on_when_it_is_back(Kind::Nginx);
}

#[test]
fn an_origin_that_is_killed_under_varnish_goes_on_when_it_is_back() {
    an_origin_that_is_killed_goes_on_when_it_is_back(Kind::Varnish);
}

#[expect(clippy::disallowed_methods, reason = "tests of real processes live in real time")]
fn an_origin_that_is_killed_goes_on_when_it_is_back(kind: Kind) {
    let data = tempfile::tempdir().unwrap();
    let (origin, path) = (free_address().to_string(), data.path().display().to_string());
    let start = || {
        let builder = Builder::new().settings(SHORT_SEGMENTS).settings(SMALL_LADDER);
        let builder = builder.variable("HEADWATER_ORIGIN__LISTEN", &origin).variable("HEADWATER_DATA_DIR", &path);
        builder.variable("HEADWATER_STORE__PATH", &format!("{path}/store")).start()
    };
    let first = start();
    let cache = Cache::before(&first.origin, kind);
    let encoder = encoders::push_live("320x180", 30, &KEYFRAME_EACH_SECOND, &first.publish_url());
    let names = hls::wait_until_live(&first, PATIENCE);
    hls::record(&first, &names, 3, PATIENCE);
    let playlist = cache.live("source/index.m3u8");
    let media = read(&playlist).unwrap();
    let segment = cache.live(&format!("source/{}", media.segments[0].uri));
    let bytes = http::fetch(&segment).unwrap();

    first.signal("-KILL");
    drop((first, encoder));
    // What never changes is still there; what would be old is not.
    assert_eq!(http::fetch(&segment).unwrap(), bytes);
    wait_for("the playlist to go", Duration::from_secs(6), || match http::get(&playlist)?.status {
        502..=504 => Ok(()),
        status => Err(format!("{status}")),
    });

    let second = start();
    let up_at = Instant::now();
    // What was listed still is, and what had been told of and is lost is a gap; its encoder is yet to return.
    let back = wait_for("the playlist through the cache", PATIENCE, || read(&playlist));
    assert!(up_at.elapsed() < OLDEST_PLAYLIST, "{:?}", up_at.elapsed());
    let uris =
        |list: &m3u8_rs::MediaPlaylist| list.segments.iter().map(|segment| segment.uri.clone()).collect::<Vec<_>>();
    assert_eq!(uris(&back)[..media.segments.len()], uris(&media), "it goes on from what it was");
    assert_eq!(http::fetch(&segment).unwrap(), bytes);

    let encoder = encoders::push_live("320x180", 30, &KEYFRAME_EACH_SECOND, &second.publish_url());
    let again = wait_for("media behind the seam", PATIENCE, || {
        let again = read(&playlist)?;
        let seam = again.segments.iter().position(|segment| segment.discontinuity);
        if seam.is_some_and(|seam| seam + 2 < again.segments.len()) { Ok(again) } else { Err(format!("{seam:?}")) }
    });
    assert_eq!(uris(&again)[..media.segments.len()], uris(&media));
    assert_eq!(again.segments.iter().filter(|segment| segment.discontinuity).count(), 1, "one discontinuity");
    for new in again.segments.iter().filter(|new| new.unknown_tags.iter().all(|tag| tag.tag != "X-GAP")) {
        http::fetch(&cache.live(&format!("source/{}", new.uri))).unwrap();
    }
    drop(encoder);
}
