//! Reading: what is there, what is said of what should not be, and that nothing harms.

use std::time::Duration;

use proptest::prelude::*;

use super::super::testing::{GOOD, MULTIVARIANT, change, media, multivariant, rules};
use super::*;

fn broken(text: &str) -> Vec<Rule> {
    let mut findings = Findings::default();
    let _ = parse(text.as_bytes(), &mut findings);
    rules(findings)
}

#[test]
fn a_low_latency_playlist_is_read_whole() {
    assert_eq!(broken(GOOD), []);
    let playlist = media(GOOD);
    assert_eq!(playlist.needs.0, 6);
    assert_eq!((playlist.media_sequence, playlist.discontinuity_sequence), (10, Some(3)));
    assert_eq!(playlist.part_target.unwrap().0, Duration::from_millis(500));
    let control = playlist.control.as_ref().unwrap();
    assert!(control.can_block_reload && control.can_skip_until == Some(Duration::from_secs(12)));
    let segments: Vec<_> = playlist.segments.iter().map(|s| (s.msn, s.uri.as_str(), s.parts.len())).collect();
    assert_eq!(segments[0], (10, "1/10.m4s", 0));
    assert_eq!(segments[5], (15, "1/15.m4s", 4));
    assert_eq!(playlist.segments[5].map.as_ref().unwrap().uri, "1/init.mp4");
    assert_eq!(playlist.position(), Some((16, 2)));
    assert_eq!(playlist.parts().count(), 10);
    assert!(playlist.parts_of(16).unwrap()[0].independent);
    assert_eq!((playlist.hints[0].kind, playlist.hints[0].uri.as_str()), (HintType::Part, "1/16.2.m4s"));
    assert_eq!((playlist.reports[0].last_msn, playlist.reports[0].last_part), (Some(16), Some(1)));
}

#[test]
fn a_multivariant_playlist_is_read_whole() {
    assert_eq!(broken(MULTIVARIANT), []);
    let playlist = multivariant(MULTIVARIANT);
    assert_eq!(playlist.variants[0].resolution, Some((1280, 720)));
    assert_eq!(playlist.variants[1].uri, "480p/index.m3u8");
    assert_eq!(playlist.group(MediaType::Audio, "audio").count(), 1);
    assert_eq!(playlist.i_frames[0].uri, "720p/iframes.m3u8");
}

#[test]
fn byte_ranges_follow_each_other() {
    let text = "#EXTM3U\n#EXT-X-VERSION:4\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n#EXT-X-BYTERANGE:100@50\na\n#EXTINF:4,\n\
                #EXT-X-BYTERANGE:10\na\n#EXT-X-PART:URI=\"b\",DURATION=1,BYTERANGE=\"5@0\"\n\
                #EXT-X-PART:URI=\"b\",DURATION=1,BYTERANGE=\"7\"\n";
    let playlist = media(text);
    assert_eq!(playlist.segments[1].byte_range, Some(ByteRange { offset: 150, length: 10 }));
    assert_eq!(playlist.open.unwrap().parts[1].byte_range, Some(ByteRange { offset: 5, length: 7 }));
    assert_eq!(broken(text), []);
}

#[test]
fn what_is_skipped_counts() {
    let playlist = media(&change(GOOD, &[("#EXT-X-MAP:URI", "#EXT-X-SKIP:SKIPPED-SEGMENTS=30\n#EXT-X-MAP:URI")]));
    assert_eq!((playlist.segments[0].msn, playlist.needs.0), (40, 9));
}

/// What each rule of syntax says of a playlist that breaks it, and of none else.
#[test]
fn each_fault_of_syntax_is_told() {
    let dated = "#EXT-X-PROGRAM-DATE-TIME:2027-01-15T08:00:00.000Z";
    let cases: &[(Rule, &[(&str, &str)])] = &[
        (Rule::FirstLine, &[("#EXTM3U\n", "")]),
        (Rule::Encoding, &[("#EXTM3U", "\u{feff}#EXTM3U")]),
        (Rule::Encoding, &[("1/10.m4s", "1/10\u{7}.m4s")]),
        (Rule::TagSyntax, &[("#EXT-X-VERSION:6", "#EXT-X-VERSION:six")]),
        (Rule::TagSyntax, &[("#EXT-X-TARGETDURATION:2", "#EXT-X-TARGETDURATION:2.0")]),
        (Rule::TagSyntax, &[(dated, "#EXT-X-PROGRAM-DATE-TIME:soon")]),
        (Rule::TagSyntax, &[("#EXTINF:2.000000,\n1/10.m4s", "#EXTINF:2.000000\n1/10.m4s")]),
        (Rule::TagDuplicate, &[("#EXT-X-VERSION:6", "#EXT-X-VERSION:6\n#EXT-X-VERSION:6")]),
        (Rule::TagPlace, &[("#EXT-X-MEDIA-SEQUENCE:10\n", ""), ("1/10.m4s", "1/10.m4s\n#EXT-X-MEDIA-SEQUENCE:10")]),
        (Rule::AttributeSyntax, &[("PART-TARGET=0.5", "PART-TARGET=0.5,X")]),
        (Rule::AttributeDuplicate, &[("PART-TARGET=0.5", "PART-TARGET=0.5,PART-TARGET=0.5")]),
        (Rule::AttributeMissing, &[("TYPE=PART,URI=\"1/16.2.m4s\"", "TYPE=PART")]),
        (Rule::AttributeValue, &[("CAN-BLOCK-RELOAD=YES", "CAN-BLOCK-RELOAD=NO")]),
        (Rule::AttributeValue, &[("PART-TARGET=0.5", "PART-TARGET=\"0.5\"")]),
        (Rule::PlaylistKind, &[("#EXT-X-PART-INF", "#EXT-X-SESSION-DATA:DATA-ID=\"a\",VALUE=\"b\"\n#EXT-X-PART-INF")]),
        (Rule::SegmentWithoutDuration, &[("#EXTINF:2.000000,\n1/10.m4s", "1/10.m4s")]),
        (Rule::DanglingTag, &[("#EXT-X-RENDITION", "#EXTINF:2.0,\n#EXT-X-RENDITION")]),
        (Rule::ByterangeOffset, &[("1/10.m4s", "#EXT-X-BYTERANGE:10\n1/10.m4s")]),
        (Rule::DateForm, &[(dated, "#EXT-X-PROGRAM-DATE-TIME:2027-01-15T08:00:00Z")]),
        (
            Rule::PartTagsLate,
            &[("#EXT-X-PRELOAD", "#EXT-X-PROGRAM-DATE-TIME:2027-01-15T08:00:12.000Z\n#EXT-X-PRELOAD")],
        ),
    ];
    for (rule, changes) in cases {
        let text = change(GOOD, changes);
        let found = broken(&text);
        // One that is taken for another kind has no more to say.
        let expected = found == [*rule] || *rule == Rule::PlaylistKind && found.contains(rule);
        assert!(expected, "{rule:?}: {found:?}");
    }
    assert_eq!(broken(&change(MULTIVARIANT, &[("480p/index.m3u8\n", "")])), [Rule::VariantUri]);
    assert_eq!(broken(&change(MULTIVARIANT, &[("TYPE=AUDIO", "TYPE=SOUND")])), [Rule::AttributeValue]);
}

#[test]
fn unknown_tags_and_comments_are_nobodys_business() {
    let text = change(GOOD, &[("1/10.m4s", "#EXT-X-CUE-OUT:30\n# a comment\n#EXTVLCOPT:x\n1/10.m4s")]);
    assert_eq!(broken(&text), []);
    assert_eq!(media(&text).segments.len(), 6);
    assert_eq!(broken(&GOOD.replace('\n', "\r\n")), [], "lines may end like this");
}

#[test]
fn what_is_no_playlist_is_none() {
    for text in ["", "<html>", "\n\n"] {
        let mut findings = Findings::default();
        assert_eq!(parse(text.as_bytes(), &mut findings), None, "{text}");
        assert_eq!(rules(findings), [Rule::FirstLine]);
    }
    let mut findings = Findings::default();
    assert!(parse(b"#EXTM3U\n\xff\xfe\n", &mut findings).is_some());
    assert!(rules(findings).contains(&Rule::Encoding));
}

proptest! {
    /// Bytes of any kind, and lines that are nearly right: everything downstream of the parser is run on them too.
    #[test]
    fn no_text_makes_it_panic(
        bytes: Vec<u8>,
        lines in prop::collection::vec((0..GOOD.lines().count() + MULTIVARIANT.lines().count(), "[A-Z=,\"@:0-9.xé-]{0,12}", 0..60_usize), 0..60),
    ) {
        let mut findings = Findings::default();
        let _ = parse(&bytes, &mut findings);
        let known: Vec<&str> = GOOD.lines().chain(MULTIVARIANT.lines()).collect();
        let mut text = String::from("#EXTM3U\n");
        for (index, insert, at) in lines {
            let mut line = known[index].to_owned();
            let at = line.char_indices().map(|(at, _)| at).nth(at).unwrap_or(line.len());
            line.insert_str(at, &insert);
            text.push_str(&line);
            text.push('\n');
        }
        let mut findings = Findings::default();
        if let Some(Playlist::Media(playlist)) = parse(text.as_bytes(), &mut findings) {
            let good = media(GOOD);
            crate::verify::rules::media_playlist(&playlist, &mut findings);
            crate::verify::rules::evolution(&good, &playlist, &mut findings);
            crate::verify::rules::evolution(&playlist, &good, &mut findings);
            crate::verify::rules::renditions(&good, &playlist, &mut findings);
            let _ = crate::verify::rules::expand(&good, &playlist);
        }
    }

    /// Numbers of any size are read, or said not to be.
    #[test]
    fn no_number_overflows(a: u64, b: u64, c: u64) {
        let text = GOOD
            .replace("SEQUENCE:10", &format!("SEQUENCE:{a}"))
            .replace("#EXT-X-MAP", &format!("#EXT-X-SKIP:SKIPPED-SEGMENTS={b}\n#EXT-X-MAP"))
            .replace("TARGETDURATION:2", &format!("TARGETDURATION:{c}"))
            .replace("LAST-MSN=16", &format!("LAST-MSN={c}"));
        let mut findings = Findings::default();
        let playlist = media(&text);
        crate::verify::rules::media_playlist(&playlist, &mut findings);
        crate::verify::rules::evolution(&media(GOOD), &playlist, &mut findings);
        for report in &playlist.reports {
            crate::verify::rules::report(report, &playlist, &media(GOOD), crate::verify::rules::Order::Same, &mut findings);
        }
    }
}
