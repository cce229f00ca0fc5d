//! For tests: playlists, good ones and such with one thing changed.

use super::finding::Findings;
use super::playlist::{self, MediaPlaylist, Multivariant, Playlist};
use super::rule::Rule;

/// A low-latency playlist that keeps all rules: segments 10 to 15 of 2 s, the last two of them and the open one in parts of
/// 0.5 s.
pub(super) const GOOD: &str = "\
#EXTM3U
#EXT-X-VERSION:6
#EXT-X-TARGETDURATION:2
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12.0,PART-HOLD-BACK=1.5
#EXT-X-PART-INF:PART-TARGET=0.5
#EXT-X-MEDIA-SEQUENCE:10
#EXT-X-DISCONTINUITY-SEQUENCE:3
#EXT-X-MAP:URI=\"1/init.mp4\"
#EXT-X-PROGRAM-DATE-TIME:2027-01-15T08:00:00.000Z
#EXTINF:2.000000,
1/10.m4s
#EXT-X-PROGRAM-DATE-TIME:2027-01-15T08:00:02.000Z
#EXTINF:2.000000,
1/11.m4s
#EXT-X-PROGRAM-DATE-TIME:2027-01-15T08:00:04.000Z
#EXTINF:2.000000,
1/12.m4s
#EXT-X-PROGRAM-DATE-TIME:2027-01-15T08:00:06.000Z
#EXTINF:2.000000,
1/13.m4s
#EXT-X-PROGRAM-DATE-TIME:2027-01-15T08:00:08.000Z
#EXT-X-PART:DURATION=0.5,URI=\"1/14.0.m4s\",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.5,URI=\"1/14.1.m4s\"
#EXT-X-PART:DURATION=0.5,URI=\"1/14.2.m4s\"
#EXT-X-PART:DURATION=0.5,URI=\"1/14.3.m4s\"
#EXTINF:2.000000,
1/14.m4s
#EXT-X-PROGRAM-DATE-TIME:2027-01-15T08:00:10.000Z
#EXT-X-PART:DURATION=0.5,URI=\"1/15.0.m4s\",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.5,URI=\"1/15.1.m4s\"
#EXT-X-PART:DURATION=0.5,URI=\"1/15.2.m4s\"
#EXT-X-PART:DURATION=0.5,URI=\"1/15.3.m4s\"
#EXTINF:2.000000,
1/15.m4s
#EXT-X-PROGRAM-DATE-TIME:2027-01-15T08:00:12.000Z
#EXT-X-PART:DURATION=0.5,URI=\"1/16.0.m4s\",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.5,URI=\"1/16.1.m4s\"
#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"1/16.2.m4s\"
#EXT-X-RENDITION-REPORT:URI=\"../audio/index.m3u8\",LAST-MSN=16,LAST-PART=1
";

/// [`GOOD`], one segment later.
pub(super) fn next() -> String {
    change(
        GOOD,
        &[
            ("#EXT-X-MEDIA-SEQUENCE:10", "#EXT-X-MEDIA-SEQUENCE:11"),
            ("#EXT-X-PROGRAM-DATE-TIME:2027-01-15T08:00:00.000Z\n#EXTINF:2.000000,\n1/10.m4s\n", ""),
            (
                "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"1/16.2.m4s\"\n",
                "#EXT-X-PART:DURATION=0.5,URI=\"1/16.2.m4s\"\n#EXT-X-PART:DURATION=0.5,URI=\"1/16.3.m4s\"\n\
                 #EXTINF:2.000000,\n1/16.m4s\n#EXT-X-PROGRAM-DATE-TIME:2027-01-15T08:00:14.000Z\n\
                 #EXT-X-PART:DURATION=0.5,URI=\"1/17.0.m4s\",INDEPENDENT=YES\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"1/17.1.m4s\"\n",
            ),
            ("LAST-MSN=16,LAST-PART=1", "LAST-MSN=17,LAST-PART=0"),
        ],
    )
}

/// A multivariant playlist that keeps all rules.
pub(super) const MULTIVARIANT: &str = "\
#EXTM3U
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MEDIA:TYPE=AUDIO,URI=\"audio/index.m3u8\",GROUP-ID=\"audio\",NAME=\"Main\",LANGUAGE=\"en\",DEFAULT=YES,AUTOSELECT=YES
#EXT-X-STREAM-INF:BANDWIDTH=3136000,AVERAGE-BANDWIDTH=2834000,CODECS=\"avc1.64001f,mp4a.40.2\",RESOLUTION=1280x720,FRAME-RATE=29.97,AUDIO=\"audio\"
720p/index.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=1636000,AVERAGE-BANDWIDTH=1484000,CODECS=\"avc1.64001f,mp4a.40.2\",RESOLUTION=854x480,FRAME-RATE=29.97,AUDIO=\"audio\"
480p/index.m3u8
#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=300000,CODECS=\"avc1.64001f\",RESOLUTION=1280x720,URI=\"720p/iframes.m3u8\"
";

/// `text` with replacements, each of which must apply.
pub(super) fn change(text: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from} is in {text}");
        text.replace(from, to)
    })
}

pub(super) fn media(text: &str) -> MediaPlaylist {
    match playlist::parse(text.as_bytes(), &mut Findings::default()) {
        Some(Playlist::Media(playlist)) => *playlist,
        other => panic!("{other:?}"),
    }
}

pub(super) fn multivariant(text: &str) -> Multivariant {
    match playlist::parse(text.as_bytes(), &mut Findings::default()) {
        Some(Playlist::Multivariant(playlist)) => *playlist,
        other => panic!("{other:?}"),
    }
}

/// The rules that were found broken, each once, in the order of the table.
pub(super) fn rules(findings: Findings) -> Vec<Rule> {
    let mut rules: Vec<Rule> = findings.into_iter().map(|finding| finding.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    rules
}

/// What a test compares with a file of `golden/`; `UPDATE_GOLDEN=1` writes the file instead.
pub(super) fn golden(file: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/verify/golden").join(file);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).expect("the golden file is there");
    assert_eq!(text, expected, "{file}; UPDATE_GOLDEN=1 rewrites it");
}

fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len() + 8).unwrap();
    [&size.to_be_bytes(), kind.as_slice(), body].concat()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// An initialisation section of one track, of video or sound, with a timescale of 1000.
pub(super) fn init(video: bool) -> Vec<u8> {
    let tkhd = boxed(b"tkhd", &words(&[0, 0, 0, 1, 0]));
    let mdhd = boxed(b"mdhd", &words(&[0, 0, 0, 1_000, 0, 0]));
    let handler = u32::from_be_bytes(if video { *b"vide" } else { *b"soun" });
    let hdlr = boxed(b"hdlr", &words(&[0, 0, handler, 0, 0, 0]));
    let trak = boxed(b"trak", &[tkhd, boxed(b"mdia", &[mdhd, hdlr].concat())].concat());
    let trex = boxed(b"trex", &words(&[0, 1, 1, 50, 0, 0x0001_0000]));
    let moov = boxed(b"moov", &[trak, boxed(b"mvex", &trex)].concat());
    [boxed(b"ftyp", b"iso6\0\0\0\0"), moov].concat()
}

/// A fragment of `count` samples of 50 ms from `start` ms on, the first of which needs no other if it is a `key`; of
/// `bytes` of media.
pub(super) fn fragment(start: u64, count: u32, key: bool, bytes: usize) -> Vec<u8> {
    let tfhd = boxed(b"tfhd", &words(&[0x0002_0000, 1]));
    let tfdt = boxed(b"tfdt", &[words(&[0x0100_0000]), start.to_be_bytes().to_vec()].concat());
    let first = if key { 0x0200_0000 } else { 0x0101_0000 };
    let trun = boxed(b"trun", &words(&[0x0000_0005, count, 0, first]));
    let traf = boxed(b"traf", &[tfhd, tfdt, trun].concat());
    [boxed(b"moof", &traf), boxed(b"mdat", &vec![0; bytes])].concat()
}
