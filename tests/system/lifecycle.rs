//! Publishers that leave, return, are killed and fight; a server that is told to stop.

use std::time::Duration;

use crate::support::server::Builder;
use crate::support::{encoders, hls, http, probe, wait_for};
use crate::{KEYFRAME_EACH_SECOND, PATIENCE, SHORT_SEGMENTS, SMALL_LADDER, small_server};

#[test]
fn row_36_lesson_8_a_killed_publisher_returns_into_the_same_playlists() {
    let server = small_server();
    let push = || encoders::push_live("640x360", 30, &KEYFRAME_EACH_SECOND, &server.publish_url());
    let first = push();
    let names = hls::wait_until_live(&server, PATIENCE);
    hls::record(&server, &names, 3, PATIENCE);
    first.kill();
    server.wait_for_log("the publisher was lost; it may return", PATIENCE);
    let before = hls::media(&server, "source").unwrap();
    assert!(!before.end_list, "the programme goes on");

    let second = push();
    let count = before.segments.len() + 3;
    let recordings = hls::record(&server, &names, count, PATIENCE);
    let seams: Vec<_> = recordings
        .iter()
        .map(|(name, recording)| {
            let seams = recording.segments.iter().filter(|(_, (segment, _))| segment.discontinuity);
            let seams: Vec<_> = seams.map(|(number, _)| *number).collect();
            assert_eq!(seams.len(), 1, "{name}: one discontinuity: {seams:?}");
            assert_eq!(recording.inits.len(), 2, "{name}: an initialisation segment for each publisher");
            seams[0]
        })
        .collect();
    assert!(seams.iter().all(|seam| *seam == seams[0]), "all renditions have it at one number: {seams:?}");
    let media = hls::media(&server, "source").unwrap();
    assert_eq!(media.media_sequence, before.media_sequence, "the window has room for all");

    second.stop(PATIENCE);
    wait_for("ENDLIST", PATIENCE, || match hls::media(&server, "audio")? {
        media if media.end_list => Ok(()),
        _ => Err("none yet".into()),
    });
    probe::decode(&server.live("index.m3u8"));
}

#[test]
fn row_37_the_programme_ends_when_the_grace_is_over() {
    let grace = "[channel]\ngrace = \"2s\"\n";
    let server = Builder::new().settings(SHORT_SEGMENTS).settings(SMALL_LADDER).settings(grace).start();
    let encoder = encoders::push_live("320x180", 30, &KEYFRAME_EACH_SECOND, &server.publish_url());
    let names = hls::wait_until_live(&server, PATIENCE);
    encoder.kill();
    let recordings = hls::record(&server, &names, usize::MAX, PATIENCE);
    assert!(recordings.values().all(|recording| recording.ended));
    let last = recordings["source"].segments.keys().last().copied().unwrap();

    // A new publisher begins a new programme: a playlist without what was before, and without a number used twice.
    let encoder = encoders::push_live("320x180", 30, &KEYFRAME_EACH_SECOND, &server.publish_url());
    let media = wait_for("a new programme", PATIENCE, || match hls::media(&server, "source")? {
        media if media.end_list => Err("the old one".into()),
        media => Ok(media),
    });
    assert!(media.media_sequence > last, "{} is after {last}", media.media_sequence);
    drop(encoder);
}

#[test]
fn row_39_a_second_publisher_is_told_why_it_is_refused() {
    let server = small_server();
    let first = encoders::push_live("320x180", 30, &KEYFRAME_EACH_SECOND, &server.publish_url());
    hls::wait_until_live(&server, PATIENCE);
    let second = encoders::push_live("320x180", 30, &KEYFRAME_EACH_SECOND, &server.publish_url());
    assert!(!second.finish(PATIENCE), "the second is refused");
    server.wait_for_log("refused: the channel is being published to by another encoder", PATIENCE);
    let status: serde_json::Value =
        serde_json::from_str(&http::get(&format!("{}/api/v1/channels", server.admin)).unwrap().text()).unwrap();
    assert!(status.to_string().contains("publishing"), "the first goes on: {status}");
    let before = hls::media(&server, "source").unwrap();
    wait_for("further segments of the first", PATIENCE, || {
        let now = hls::media(&server, "source")?;
        if now.segments.len() > before.segments.len() { Ok(()) } else { Err("none yet".into()) }
    });
    drop(first);
}

#[test]
fn row_38_an_encoder_takes_over_from_its_own_frozen_connection() {
    let server = small_server();
    let push = || encoders::push_live("640x360", 30, &KEYFRAME_EACH_SECOND, &server.publish_url());
    let first = push();
    let names = hls::wait_until_live(&server, PATIENCE);
    hls::record(&server, &names, 2, PATIENCE);
    first.freeze();
    let second = push();
    server.wait_for_log("the publisher is silent and another asks: it takes over", PATIENCE);
    let count = hls::media(&server, "source").unwrap().segments.len() + 2;
    assert!(!server.log().contains("nothing came from it any more"), "before the idle timeout");
    let recordings = hls::record(&server, &names, count, PATIENCE);
    for (name, recording) in &recordings {
        let seams = recording.segments.values().filter(|(segment, _)| segment.discontinuity);
        assert_eq!(seams.count(), 1, "{name}: one discontinuity");
        assert!(!recording.ended, "{name}: the programme goes on");
    }
    drop((first, second));
}

#[test]
fn a_wrong_key_is_refused() {
    let server = small_server();
    let encoder = encoders::push_live("320x180", 30, &KEYFRAME_EACH_SECOND, &format!("{}/wrong", server.rtmp));
    assert!(!encoder.finish(PATIENCE));
    assert!(!server.log().contains(&server.key) || server.log().matches(&server.key).count() == 1, "shown once only");
    assert_eq!(http::get(&server.live("index.m3u8")).unwrap().status, 404);
}

#[test]
fn sigterm_finishes_what_is_open_and_exits_with_0() {
    let mut server = small_server();
    let encoder = encoders::push_live("320x180", 30, &KEYFRAME_EACH_SECOND, &server.publish_url());
    hls::wait_until_live(&server, PATIENCE);
    server.signal("-TERM");
    let status = server.wait(Duration::from_secs(25));
    assert_eq!(status.code(), Some(0));
    drop(encoder);
    let playlist = std::fs::read_to_string(server.store().join("live/demo/source/index.m3u8")).unwrap();
    assert!(playlist.trim_end().ends_with("#EXT-X-ENDLIST"), "{playlist}");
    probe::decode(server.store().join("live/demo/index.m3u8").to_str().unwrap());
}

#[test]
fn row_41_lesson_26_publishers_that_come_and_go_leave_nothing_behind() {
    let server = small_server();
    let once = |last: u64| {
        let encoder = encoders::push_live("320x180", 30, &KEYFRAME_EACH_SECOND, &server.publish_url());
        let newest = wait_for("a new programme", PATIENCE, || {
            let media = hls::media(&server, "180p")?;
            let newest = media.media_sequence + media.segments.len() as u64;
            if !media.end_list && newest > last { Ok(newest) } else { Err(format!("at {newest}")) }
        });
        encoder.stop(PATIENCE);
        wait_for("ENDLIST", PATIENCE, || match hls::media(&server, "180p")? {
            media if media.end_list => Ok(()),
            _ => Err("none yet".into()),
        });
        newest
    };
    let mut last = once(0);
    let count = |what: &str| std::fs::read_dir(format!("/proc/{}/{what}", server.pid())).unwrap().count();
    let (threads, files) = (count("task"), count("fd"));
    for _ in 0..5 {
        last = once(last);
    }
    for (what, before) in [("task", threads), ("fd", files)] {
        wait_for(what, PATIENCE, || match count(what) {
            now if now <= before + 2 => Ok(()),
            now => Err(format!("{now}, {before} after the first publisher")),
        });
    }
    assert_eq!(server.complaints(), Vec::<String>::new());
}
