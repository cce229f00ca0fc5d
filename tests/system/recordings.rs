//! What stays of a programme when it has left the live playlists: recordings, ranges of time, clips; and what goes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::server::{Builder, Server};
use crate::support::{encoders, free_address, hls, http, probe, wait_for};
use crate::{KEYFRAME_EACH_SECOND, PATIENCE, SHORT_WINDOW};

/// What is pushed, and nothing else.
pub(crate) const PASSTHROUGH: &str = "[ladders.default]\nrenditions = [{ name = \"source\", passthrough = true }]\n";

pub(crate) const RECORD: &str = "[recordings]\nrecord = true\n";

fn builder() -> Builder {
    Builder::new().settings(SHORT_WINDOW).settings(PASSTHROUGH)
}

fn kept(server: &Server) -> Value {
    let url = format!("{}/api/v1/channels/demo/recordings", server.admin);
    serde_json::from_slice(&http::fetch(&url).unwrap()).unwrap()
}

/// The only recording, when it is in this state.
pub(crate) fn recording(server: &Server, state: &str) -> Value {
    wait_for(state, PATIENCE, || {
        let kept = kept(server);
        let recordings = kept["recordings"].as_array().unwrap();
        match &recordings[..] {
            [only] if only["state"] == state => Ok(only.clone()),
            _ => Err(kept.to_string()),
        }
    })
}

/// The pictures of a file or a URL: a hash of each, decoded.
fn pictures(source: &str) -> Vec<String> {
    let mut ffmpeg = Command::new("ffmpeg");
    let output = ffmpeg.args(["-v", "error", "-i", source, "-map", "0:v:0", "-f", "framemd5", "-"]).output().unwrap();
    assert!(output.status.success(), "{source}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let frames = text.lines().filter(|line| !line.starts_with('#'));
    frames.map(|line| line.rsplit(',').next().unwrap().trim().to_owned()).collect()
}

/// The media files of the channel that the store has.
fn stored_media(server: &Server) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![server.store().join("live/demo")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                _ if path.is_dir() => folders.push(path),
                Some("m4s" | "mp4") => drop(found.insert(path)),
                _ => {}
            }
        }
    }
    found
}

fn store_url(server: &Server, path: &str) -> String {
    server.store().join("live/demo").join(path).display().to_string()
}

#[test]
fn a_programme_is_recorded_picture_by_picture() {
    let folder = tempfile::tempdir().unwrap();
    let movie = encoders::flash_and_beep(folder.path(), 24);
    let server = builder().settings(RECORD).start();
    let encoder = encoders::push_file(&movie, &server.publish_url());
    let open = recording(&server, "open");
    let url = format!("{}{}", server.origin, open["path"].as_str().unwrap());
    let event = url.replace("index.m3u8", "source/index.m3u8");
    // While it goes on, it is a list that grows, and begins at the beginning.
    let text = wait_for("what has left the live playlist", PATIENCE, || {
        let text = String::from_utf8(http::fetch(&event)?).unwrap();
        if text.matches("#EXTINF").count() > 5 { Ok(text) } else { Err(text) }
    });
    assert!(text.contains("#EXT-X-PLAYLIST-TYPE:EVENT") && !text.contains("ENDLIST"), "{text}");
    assert!(text.contains("#EXT-X-MEDIA-SEQUENCE:1\n"), "{text}");
    assert!(encoder.finish(PATIENCE));
    let done = recording(&server, "published");
    let expected = pictures(&movie.display().to_string());
    assert_eq!(expected.len(), 24 * 30);
    assert_eq!(pictures(&url), expected, "from the origin");
    let in_store = store_url(&server, &format!("recordings/{}/index.m3u8", done["id"]));
    let text = std::fs::read_to_string(in_store.replace("index.m3u8", "source/index.m3u8")).unwrap();
    assert!(text.contains("#EXT-X-PLAYLIST-TYPE:VOD") && text.ends_with("#EXT-X-ENDLIST\n"), "{text}");
    // ffmpeg trusts names of files less than those of servers.
    let files = format!("-allowed_extensions ALL -i {in_store}");
    assert_eq!(pictures_of_files(&files), expected, "from the files of the store alone");
    probe::decode(&url);

    // As one file.
    let movie = server.live(&format!("recordings/{}/source.mp4", done["id"]));
    let whole = wait_for("the file", PATIENCE, || match http::get(&movie)? {
        answer if answer.status == 200 => Ok(answer),
        answer => Err(answer.text()),
    });
    assert_eq!((whole.header("content-type"), whole.header("accept-ranges")), ("video/mp4", "bytes"));
    let range = http::get_with(&movie, &[("range", "bytes=1000-250999")]).unwrap();
    assert_eq!((range.status, range.body.as_slice()), (206, &whole.body[1000..251_000]));
    let file = folder.path().join("whole.mp4");
    std::fs::write(&file, &whole.body).unwrap();
    assert_eq!(probe::streams(&file), ["h264", "aac"]);
    assert_eq!(pictures(file.to_str().unwrap()), expected, "as one file");
    let moov = whole.body.windows(4).position(|four| four == b"moov").unwrap();
    assert!(moov < whole.body.windows(4).position(|four| four == b"mdat").unwrap(), "it plays while it comes");

    // Small pictures of it.
    let vtt = http::get(&server.live(&format!("recordings/{}/storyboard.vtt", done["id"]))).unwrap();
    assert_eq!((vtt.status, vtt.header("content-type")), (200, "text/vtt; charset=utf-8"));
    let text = vtt.text();
    assert!(text.starts_with("WEBVTT\n\n00:00:00.000 --> "), "{text}");
    assert!((3..=5).contains(&text.matches("storyboard-0.jpg#xywh=").count()), "{text}");
    let sheet = http::get(&server.live(&format!("recordings/{}/storyboard-0.jpg", done["id"]))).unwrap();
    assert_eq!((sheet.status, sheet.header("content-type")), (200, "image/jpeg"));
    std::fs::write(folder.path().join("sheet.jpg"), &sheet.body).unwrap();
    assert_eq!(probe::size(&folder.path().join("sheet.jpg")), (800, 90));
    assert!(server.complaints().is_empty(), "{:?}", server.complaints());
}

#[test]
fn a_range_over_two_programmes_is_one_list_and_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let movie = encoders::flash_and_beep(folder.path(), 8);
    let server = builder().settings(RECORD).start();
    for count in 1..=2 {
        assert!(encoders::push_file(&movie, &server.publish_url()).finish(PATIENCE));
        wait_for("a recording", PATIENCE, || {
            let kept = kept(&server);
            let states =
                kept["recordings"].as_array().unwrap().iter().map(|recording| recording["state"] == "published");
            if states.filter(|published| *published).count() == count { Ok(()) } else { Err(kept.to_string()) }
        });
    }
    let expected = pictures(&movie.display().to_string());
    let range = server.live(&format!("range/0/{}", chrono::Utc::now().timestamp_millis()));
    assert_eq!(pictures(&format!("{range}/index.m3u8")), [&expected[..], &expected[..]].concat());
    // The clock of the second programme begins anew; that of the file goes on.
    let file = folder.path().join("both.mp4");
    let whole = wait_for("the file", PATIENCE, || match http::get(&format!("{range}/source.mp4"))? {
        answer if answer.status == 200 => Ok(answer),
        answer => Err(answer.text()),
    });
    std::fs::write(&file, &whole.body).unwrap();
    assert_eq!(pictures(&file.display().to_string()), [&expected[..], &expected[..]].concat());
    let (flashes, beeps) = (probe::flashes(&file), probe::beeps(&file));
    assert_eq!(flashes.len(), 16, "{flashes:?}");
    assert!(flashes.windows(2).all(|pair| (0.9..1.2).contains(&(pair[1] - pair[0]))), "{flashes:?}");
    // The first beep begins the file, behind no silence, and the end ends the last.
    assert!((15..=16).contains(&beeps.len()), "{beeps:?}");
    let in_step = |(flash, beep): (&f64, &f64)| (flash - beep).abs() < 0.06;
    assert!(flashes.iter().skip(1).zip(&beeps).all(in_step), "{flashes:?} {beeps:?}");
    assert!(server.complaints().is_empty(), "{:?}", server.complaints());
}

fn pictures_of_files(input: &str) -> Vec<String> {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error"]).args(input.split(' ')).args(["-map", "0:v:0", "-f", "framemd5", "-"]);
    let output = ffmpeg.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let frames = text.lines().filter(|line| !line.starts_with('#'));
    frames.map(|line| line.rsplit(',').next().unwrap().trim().to_owned()).collect()
}

#[test]
fn a_range_of_time_and_a_clip_of_it() {
    let server = builder().settings(RECORD).start();
    let encoder = encoders::push_live("320x180", 30, &KEYFRAME_EACH_SECOND, &server.publish_url());
    hls::wait_until_live(&server, PATIENCE);
    let open = recording(&server, "open");
    let begins = chrono::DateTime::parse_from_rfc3339(open["begins"].as_str().unwrap()).unwrap();
    let at = |seconds: i64| begins + chrono::TimeDelta::seconds(seconds);
    let text = |path: &str| String::from_utf8(http::fetch(&server.live(path)).unwrap()).unwrap();
    // Until all of it has left the live playlist and is stored.
    let (start, end) = (at(3).timestamp_millis(), at(9).timestamp_millis());
    let path = format!("range/{start}/{end}/");
    wait_for("the range", PATIENCE, || {
        let list = http::get(&server.live(&format!("{path}source/index.m3u8")))?;
        let list = list.text();
        if list.contains("#EXT-X-ENDLIST") && !list.contains("GAP") { Ok(()) } else { Err(list) }
    });
    let list = text(&format!("{path}source/index.m3u8"));
    assert!(list.contains("#EXT-X-PLAYLIST-TYPE:VOD"), "{list}");
    assert_eq!(list.matches("#EXTINF").count(), 4, "3 s to 9 s of segments of 2 s: {list}");
    // The same by a query, with times as people write them.
    let iso = |seconds| at(seconds).to_rfc3339_opts(chrono::SecondsFormat::Secs, true).replace('+', "%2B");
    let whole = |seconds: i64| at(seconds).timestamp();
    for query in [format!("start={}&end={}", iso(4), iso(9)), format!("start={}&end={}", whole(4), whole(9))] {
        let multivariant = text(&format!("index.m3u8?{query}"));
        assert!(multivariant.lines().any(|line| line.starts_with("range/") && line.ends_with("/source/index.m3u8")));
        probe::decode(&server.live(&format!("index.m3u8?{query}")));
        let list = text(&format!("source/index.m3u8?{query}"));
        assert!(list.contains("#EXT-X-PLAYLIST-TYPE:VOD") && list.contains("\n../source/"), "{list}");
    }
    let open_end = text(&format!("range/{start}/open/source/index.m3u8"));
    assert!(open_end.contains("#EXT-X-PLAYLIST-TYPE:EVENT") && !open_end.contains("ENDLIST"), "{open_end}");
    let status = |path: &str| http::get(&server.live(path)).unwrap().status;
    assert_eq!(status("index.m3u8?start=tomorrow"), 400);
    assert_eq!(status(&format!("index.m3u8?start={}&end={}", whole(-600), whole(-500))), 404);

    // A clip of it stays when everything else goes.
    let clips = format!("{}/api/v1/channels/demo/clips", server.admin);
    let wish = |name: &str, end: i64| format!("{{\"name\": \"{name}\", \"start\": {start}, \"end\": {end}}}");
    let made: Value = serde_json::from_str(&http::post(&clips, &wish("goal", end)).unwrap()).unwrap();
    assert_eq!(made["path"], "/live/demo/clips/goal/index.m3u8", "{made}");
    for (name, end, problem) in [("goal", end, "choose another name"), ("next", end + 3_600_000, "in the past")] {
        let answer = http::post(&clips, &wish(name, end)).unwrap();
        assert!(answer.contains(problem), "{answer}");
    }
    encoder.stop(PATIENCE);
    let done = recording(&server, "published");
    let clip = server.live("clips/goal/index.m3u8");
    let before = pictures(&clip);
    assert_eq!(pictures(&server.live("clips/goal/source.mp4")), before);
    assert_eq!(status("clips/goal/240p.mp4"), 404);
    assert_eq!(before.len(), 4 * 60);
    assert_eq!(delete(&format!("{}/api/v1/channels/demo/recordings/{}", server.admin, done["id"])), 200);
    let list = format!("recordings/{}/index.m3u8", done["id"]);
    wait_for("the recording to be gone", PATIENCE, || match (status(&list), stored_media(&server).len()) {
        // The last window is still listed as live.
        (404, media) if media <= 2 * (4 + 5) + 2 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(pictures(&clip), before);
    assert_eq!(delete(&format!("{clips}/goal")), 200);
    wait_for("the clip to be gone", PATIENCE, || match status("clips/goal/index.m3u8") {
        404 => Ok(()),
        other => Err(other.to_string()),
    });
    assert_eq!(delete(&format!("{clips}/goal")), 404);
    assert!(server.complaints().is_empty(), "{:?}", server.complaints());
}

fn delete(url: &str) -> u16 {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    agent.delete(url).call().unwrap().status().as_u16()
}

#[test]
fn a_recording_goes_on_through_a_kill() {
    let data = tempfile::tempdir().unwrap();
    let (listen, folder) = (free_address().to_string(), data.path().display().to_string());
    let store = data.path().join("store").display().to_string();
    let start = || {
        let builder = builder().settings(RECORD).variable("HEADWATER_DATA_DIR", &folder);
        builder.variable("HEADWATER_STORE__PATH", &store).variable("HEADWATER_ORIGIN__LISTEN", &listen).start()
    };
    let push = |server: &Server| encoders::push_live("320x180", 30, &KEYFRAME_EACH_SECOND, &server.publish_url());
    let first = start();
    let encoder = push(&first);
    let open = recording(&first, "open");
    let segments = |server: &Server| {
        let list = http::fetch(&server.live(&format!("recordings/{}/source/index.m3u8", open["id"])))?;
        Ok::<_, String>(hls::listed(&String::from_utf8(list).unwrap()))
    };
    let before = wait_for("segments", PATIENCE, || {
        segments(&first).and_then(|s| if s.len() > 6 { Ok(s) } else { Err(format!("{s:?}")) })
    });
    first.signal("-KILL");
    drop((first, encoder));
    let second = start();
    let encoder = push(&second);
    let again = wait_for("segments behind the kill", PATIENCE, || {
        segments(&second).and_then(|s| if s.len() > before.len() + 4 { Ok(s) } else { Err(format!("{s:?}")) })
    });
    assert!(again.starts_with(&before), "{before:?} {again:?}");
    encoder.stop(PATIENCE);
    let done = recording(&second, "published");
    assert_eq!(done["id"], open["id"]);
    let path = Path::new(&store).join(format!("live/demo/recordings/{}/source", done["id"]));
    let text = std::fs::read_to_string(path.join("index.m3u8")).unwrap();
    assert_eq!(text.matches("#EXT-X-DISCONTINUITY\n").count(), 1, "{text}");
    for uri in hls::listed(&text) {
        assert!(path.join(&uri).is_file(), "{uri}");
    }
    // Each segment of 2 s that is whole has 60 pictures.
    let shown = pictures(&second.live(&format!("recordings/{}/index.m3u8", done["id"]))).len();
    assert!(shown >= 60 * (again.len() - 3), "{shown} of {again:?}");
}

#[test]
fn old_recordings_make_room() {
    let server = builder().settings(RECORD).settings("recordings_max_size = \"64KiB\"\n").start();
    let mut ids = BTreeSet::new();
    for _ in 0..2 {
        let encoder = encoders::push_live("320x180", 30, &KEYFRAME_EACH_SECOND, &server.publish_url());
        wait_for("a recording", PATIENCE, || {
            let kept = kept(&server);
            let open = kept["recordings"]
                .as_array()
                .unwrap()
                .iter()
                .find(|it| it["state"] == "open" && it["bytes"].as_u64() > Some(70_000));
            open.map(|open| ids.insert(open["id"].to_string())).map(drop).ok_or(kept.to_string())
        });
        encoder.stop(PATIENCE);
    }
    assert_eq!(ids.len(), 2);
    wait_for("all to be removed", PATIENCE, || match kept(&server)["recordings"].as_array().unwrap().len() {
        0 => Ok(()),
        more => Err(more.to_string()),
    });
    for id in ids {
        let list = server.live(&format!("recordings/{id}/index.m3u8"));
        wait_for("its playlist to be gone", PATIENCE, || match http::get(&list)?.status {
            404 => Ok(()),
            other => Err(other.to_string()),
        });
    }
    assert!(server.complaints().is_empty(), "{:?}", server.complaints());
}
