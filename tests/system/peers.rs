//! Hostile peers, made by hand, against the real server: those that are slow, those that are many, and those that lie.
//!
//! Memory and file descriptors are those of the server's process, before and after.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rml_amf0::Amf0Value;

use crate::support::movie::Movie;
use crate::support::publisher::{Form, Publisher, Push, packets};
use crate::support::server::{Builder, Server};
use crate::support::{encoders, hls, http, wait_for};
use crate::{KEYFRAME_EACH_SECOND, PATIENCE, SHORT_SEGMENTS, SMALL_LADDER};

/// Deadlines short enough to wait for.
const SHORT_DEADLINES: &str = "[rtmp]\nhandshake_timeout = \"1s\"\npublish_timeout = \"2s\"\n\
    first_media_timeout = \"3s\"\nidle_timeout = \"3s\"\n[channel]\ntakeover_silence = \"1s\"\n";
/// What a deadline may be late on a busy machine.
const LATE: Duration = Duration::from_secs(4);
/// What the process may hold more than before: the allocator gives not everything back at once.
const RSS_MIB_MORE: u64 = 32;
/// Threads of the runtime and sockets of the last players come and go.
const FDS_MORE: usize = 8;

/// A peer of the RTMP port.
struct Peer(TcpStream);

impl Peer {
    fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(server.rtmp.trim_start_matches("rtmp://").trim_end_matches("/live")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    /// After the handshake.
    fn shaken(server: &Server) -> Self {
        let mut peer = Self::connect(server);
        let hello = [&[3][..], &[7; 1536]].concat();
        peer.send(&hello);
        let mut answer = vec![0; 1 + 2 * 1536];
        peer.0.read_exact(&mut answer).unwrap();
        peer.send(&answer[1..=1536]);
        peer
    }

    /// After `connect` and its answer.
    fn connected(server: &Server) -> Self {
        let mut peer = Self::shaken(server);
        peer.send(&message(20, 0, &connect()));
        peer.hear("NetConnection.Connect.Success");
        peer
    }

    /// After `publish` and its answer.
    fn publishing(server: &Server, key: &str) -> Self {
        let mut peer = Self::connected(server);
        peer.send(&message(20, 1, &command("publish", vec![Amf0Value::Null, Amf0Value::Utf8String(key.into())])));
        peer.hear("NetStream.Publish.Start");
        peer
    }

    /// Sends, unless the server has closed.
    fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    /// Reads until the server has said `text`.
    fn hear(&mut self, text: &str) {
        let (mut heard, mut piece) = (Vec::new(), [0; 4096]);
        while !heard.windows(text.len()).any(|window| window == text.as_bytes()) {
            let length = self.0.read(&mut piece).unwrap();
            assert!(length > 0, "closed before `{text}`: {}", String::from_utf8_lossy(&heard));
            heard.extend_from_slice(&piece[..length]);
        }
    }

    /// Waits for the server to close.
    fn wait_for_close(&mut self) {
        let mut piece = [0; 4096];
        loop {
            match self.0.read(&mut piece) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted) => {
                    return;
                }
                Err(error) => panic!("not closed: {error}"),
            }
        }
    }

    /// Sends these bytes one by one, slowly, again and again, until the server closes. How long that took.
    fn trickle(mut self, bytes: &[u8]) -> Duration {
        #[expect(clippy::disallowed_methods, reason = "tests of real processes live in real time")]
        let begun = Instant::now();
        if bytes.is_empty() {
            self.wait_for_close();
            return begun.elapsed();
        }
        self.0.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        for byte in bytes.iter().cycle().take(600) {
            self.send(&[*byte]);
            match self.0.read(&mut [0; 4096]) {
                Ok(0) => return begun.elapsed(),
                Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return begun.elapsed();
                }
                _ => {}
            }
        }
        panic!("it is still connected after {:?}", begun.elapsed());
    }
}

fn command(name: &str, arguments: Vec<Amf0Value>) -> Vec<u8> {
    let mut values = vec![Amf0Value::Utf8String(name.into()), Amf0Value::Number(1.0)];
    values.extend(arguments);
    rml_amf0::serialize(&values).unwrap()
}

fn connect() -> Vec<u8> {
    command("connect", vec![Amf0Value::Object([("app".to_owned(), Amf0Value::Utf8String("live".into()))].into())])
}

/// A message on chunk stream 3, in chunks of 128 bytes.
fn message(kind: u8, stream: u8, body: &[u8]) -> Vec<u8> {
    let mut chunks = body.chunks(128);
    let mut bytes = header(kind, stream, body.len());
    bytes.extend_from_slice(chunks.next().unwrap_or_default());
    for chunk in chunks {
        bytes.push(0xc3);
        bytes.extend_from_slice(chunk);
    }
    bytes
}

/// A header of type 0 that claims a length.
fn header(kind: u8, stream: u8, length: usize) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(length).unwrap().to_be_bytes();
    [&[3, 0, 0, 0][..], &length, &[kind, stream, 0, 0, 0]].concat()
}

/// A ping, which may be sent at any time and changes nothing.
fn ping() -> Vec<u8> {
    message(4, 0, &[0, 6, 0, 0, 0, 1])
}

fn open_files(server: &Server) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count()
}

/// Waits until the process holds no more than it did.
fn wait_for_rest(server: &Server, rss_mib: u64, files: usize) {
    wait_for("return of memory and file descriptors", PATIENCE, || {
        let now = (server.memory_mib("VmRSS"), open_files(server));
        let rests = now.0 <= rss_mib + RSS_MIB_MORE && now.1 <= files + FDS_MORE;
        if rests { Ok(()) } else { Err(format!("RSS {rss_mib} MiB and {files} files became {now:?}")) }
    });
    println!("RSS {rss_mib} -> {} MiB, files {files} -> {}", server.memory_mib("VmRSS"), open_files(server));
}

/// Sends too slowly; says how long it could.
type Trickling<'a> = Box<dyn FnOnce() -> Duration + Send + 'a>;

#[test]
fn row_3_a_slow_loris_is_closed_at_every_stage() {
    let server = Builder::new().settings(SHORT_SEGMENTS).settings(SMALL_LADDER).settings(SHORT_DEADLINES).start();
    let (rss, files) = (server.memory_mib("VmRSS"), open_files(&server));
    let (connecting, pings) = (message(20, 0, &connect()), ping());
    std::thread::scope(|scope| {
        let server = &server;
        let stages: [(&str, u64, Trickling<'_>); 5] = [
            ("before the handshake", 1, Box::new(|| Peer::connect(server).trickle(&[]))),
            ("in the handshake", 1, Box::new(|| Peer::connect(server).trickle(&[3]))),
            ("after the handshake", 2, Box::new(|| Peer::shaken(server).trickle(&connecting))),
            ("after connect", 2, Box::new(|| Peer::connected(server).trickle(&pings))),
            ("publishing without a picture", 3, Box::new(|| Peer::publishing(server, &server.key).trickle(&pings))),
        ];
        let running = stages.map(|(stage, deadline, run)| (stage, deadline, scope.spawn(run)));
        for (stage, deadline, running) in running {
            let (took, deadline) = (running.join().unwrap(), Duration::from_secs(deadline));
            assert!(took > deadline / 2 && took < deadline + LATE, "{stage}: closed after {took:?}");
        }
    });
    wait_for_rest(&server, rss, files);
}

#[test]
fn lesson_26_ten_thousand_connections_leave_nothing_and_the_live_channel_does_not_notice() {
    let channels = "[[channels]]\nname = \"demo\"\n[[channels]]\nname = \"other\"\nstream_key = \"others-key\"\n";
    let server = Builder::new().settings(SHORT_SEGMENTS).settings(SMALL_LADDER).settings(channels).start();
    let encoder = encoders::push_live("320x180", 30, &KEYFRAME_EACH_SECOND, &server.publish_url());
    let names = hls::wait_until_live(&server, PATIENCE);
    let (rss, files) = (server.memory_mib("VmRSS"), open_files(&server));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let server = &server;
            scope.spawn(move || (0..2_500).for_each(|n| come_and_go(server, thread + n)));
        }
        scope.spawn(|| send_single_bytes(&server));
    });
    let before = hls::media(&server, "source").unwrap().segments.len();
    let recordings = hls::record(&server, &names, before + 1, PATIENCE);
    let quiet = recordings.values().all(|recording| recording.segments.values().all(|(s, _)| !s.discontinuity));
    assert!(quiet, "the channel did not notice");
    wait_for_rest(&server, rss, files);
    wait_for("the encoder alone to be left", PATIENCE, || {
        let open = server.metric("headwater_rtmp_connections");
        if open == Some(1.0) { Ok(()) } else { Err(format!("{open:?} connections")) }
    });
    drop(encoder);
}

/// Connects, goes as far as its number says, and is gone.
fn come_and_go(server: &Server, number: usize) {
    match number % 50 {
        0 => drop(Peer::connected(server)),
        1..5 => drop(Peer::shaken(server)),
        5..15 => drop(Peer::connect(server).send(&[&[3][..], &[0; 700]].concat())),
        15..25 => drop(Peer::connect(server).send(b"GET / HTTP/1.1\r\n\r\n")),
        _ => drop(Peer::connect(server)),
    }
}

/// A publisher with a key of its own that sends each byte alone, and then what is no RTMP.
fn send_single_bytes(server: &Server) {
    let mut peer = Peer::publishing(server, "others-key");
    for byte in ping().iter().cycle().take(40_000) {
        assert!(peer.send(&[*byte]), "single bytes are no reason to close");
    }
    peer.send(&[0xff; 5_000]);
    peer.wait_for_close();
}

#[test]
fn row_29_lesson_32_lying_lengths_and_nested_values_cost_nothing() {
    let server = Builder::new().settings(SHORT_SEGMENTS).settings(SMALL_LADDER).start();
    let (rss, files) = (server.memory_mib("VmRSS"), open_files(&server));
    // Sixteen megabytes are claimed, and sent: it ends at the header.
    let nested = [&command("connect", vec![])[..], &[3, 0, 1, b'a'].repeat(4 << 20)].concat();
    let mut peer = Peer::shaken(&server);
    peer.send(&message(20, 0, &nested[..0xff_fff0]));
    peer.wait_for_close();
    // As much as a stranger may send: it ends at the depth.
    let mut peer = Peer::shaken(&server);
    peer.send(&message(20, 0, &nested[..60_000]));
    peer.wait_for_close();
    // Two hundred strangers that claim all they may and send nothing of it.
    let claims: Vec<_> = (0..200)
        .map(|_| {
            let mut peer = Peer::shaken(&server);
            peer.send(&header(20, 0, 64 << 10));
            peer
        })
        .collect();
    wait_for_rest(&server, rss, files + claims.len());
    drop(claims);
    // With a key, eight megabytes may be sent, and are passed over.
    let mut peer = Peer::publishing(&server, &server.key);
    assert!(peer.send(&message(20, 1, &nested[..8 << 20])), "a command that no publisher needs is passed over");
    assert!(peer.send(&ping()));
    peer.send(&header(20, 1, 0xff_ffff));
    peer.wait_for_close();
    wait_for_rest(&server, rss, files);
    assert!(!server.log().contains("panicked"));
}

/// Two seconds of noise at about 50 Mbit/s, with a keyframe each second.
fn heavy_movie(server: &Server) -> Movie {
    let picture = "testsrc2=s=1280x720:r=30,noise=alls=80:allf=t";
    let inputs = ["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", "sine=1000:r=48000", "-t", "2"];
    let video = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "30", "-bf", "0"];
    let rate = ["-b:v", "50M", "-minrate", "50M", "-maxrate", "50M", "-bufsize", "25M", "-c:a", "aac"];
    Movie::make(server.directory.path(), "heavy", &[&inputs[..], &video, &rate].concat())
}

#[test]
fn row_34_fifty_megabits_a_second_are_passed_on_whole_and_others_do_not_notice() {
    let hls = "[hls]\nsegment_duration = \"2s\"\npart_duration = \"500ms\"\nwindow = \"8s\"\n";
    let ladder = "[ladders.default]\nrenditions = [{ name = \"source\", passthrough = true }]\n";
    let channels = "[[channels]]\nname = \"demo\"\n[[channels]]\nname = \"other\"\nstream_key = \"others-key\"\n";
    let server = Builder::new().settings(hls).settings(ladder).settings(channels).start();
    let other = format!("{}/others-key", server.rtmp);
    let encoder = encoders::push_live("320x180", 30, &KEYFRAME_EACH_SECOND, &other);
    let movie = heavy_movie(&server);
    let packets = packets(&movie, Form::Legacy, Form::Legacy);
    let sent: usize = movie.picture.iter().flat_map(|stream| &stream.samples).map(|sample| sample.data.len()).sum();
    assert!(sent > 10_000_000, "{sent} bytes in two seconds");
    let push = Push::start(Publisher::start(&server.rtmp, &server.key).unwrap(), packets, movie.millis);
    let names = hls::wait_until_live(&server, PATIENCE);
    let recordings = hls::record(&server, &names, 8, PATIENCE);
    for (segment, body) in recordings["source"].segments.values() {
        assert!(!segment.discontinuity && segment.duration > 0.9, "{segment:?}");
        let megabits = body.len() as f32 * 8.0 / segment.duration / 1e6;
        assert!(megabits > 40.0, "{megabits} Mbit/s");
    }
    // What is listed, as much again, and what is under way: a second more of each is some 6 MiB.
    let rss = server.memory_mib("VmHWM");
    assert!(rss < 512, "{rss} MiB");
    let text = http::fetch(&format!("{}/live/other/source/index.m3u8", server.origin)).unwrap();
    let playlist = m3u8_rs::parse_media_playlist_res(&text).unwrap();
    assert!(playlist.segments.len() >= 3 && playlist.segments.iter().all(|segment| !segment.discontinuity));
    assert_eq!(server.complaints(), Vec::<String>::new());
    drop(push);
    drop(encoder);
}
