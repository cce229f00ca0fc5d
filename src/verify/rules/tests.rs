//! Each rule is broken by a playlist that is good but for that, and the report of all of them is a golden file.

use std::fmt::Write as _;
use std::time::Duration;

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Version};

use super::super::finding::{Finding, Findings};
use super::super::rule::Rule;
use super::super::testing::{self, GOOD, MULTIVARIANT, change, golden, media};
use super::*;

type Changes<'a> = &'a [(&'a str, &'a str)];

fn found(check: impl FnOnce(&mut Findings)) -> Vec<Finding> {
    let mut findings = Findings::default();
    check(&mut findings);
    findings.into_iter().collect()
}

/// Asserts that each case breaks its rule and no other, and writes what was said of it.
fn tell(text: &mut String, rule: Rule, findings: &[Finding]) {
    let rules: Vec<Rule> = findings.iter().map(|finding| finding.rule).collect();
    assert!(!rules.is_empty() && rules.iter().all(|found| *found == rule), "{rule:?}: {findings:#?}");
    let Finding { line, seen, .. } = &findings[0];
    writeln!(text, "{} line {line:?}: {seen}", rule.id()).unwrap();
}

const DATE: &str = "#EXT-X-PROGRAM-DATE-TIME:2027-01-15T08:00:";

#[test]
fn one_playlist() {
    assert_eq!(found(|f| media_playlist(&media(GOOD), f)), []);
    let tag = |line: &'static str| [("#EXT-X-PART-INF", line)];
    let (vod, start) =
        (tag("#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-PART-INF"), tag("#EXT-X-START:TIME-OFFSET=-5\n#EXT-X-PART-INF"));
    let cases: &[(Rule, Changes<'_>)] = &[
        (
            Rule::TargetDurationMissing,
            &[("#EXT-X-TARGETDURATION:2\n", ""), ("PART-HOLD-BACK=1.5", "PART-HOLD-BACK=1.5,HOLD-BACK=6")],
        ),
        (Rule::SegmentDuration, &[("#EXTINF:2.000000,\n1/13", "#EXTINF:2.500000,\n1/13")]),
        (Rule::VersionTooLow, &[("VERSION:6", "VERSION:5")]),
        (Rule::VersionTooHigh, &[("VERSION:6", "VERSION:9")]),
        (Rule::PlaylistType, &vod),
        (
            Rule::DateOverlap,
            &[("06.000Z", "04.900Z"), ("08.000Z", "06.900Z"), ("10.000Z", "08.900Z"), ("12.000Z", "10.900Z")],
        ),
        (
            Rule::DateContinuity,
            &[
                ("08:00:08.000Z", "08:00:08.600Z"),
                ("08:00:10.000Z", "08:00:10.600Z"),
                ("08:00:12.000Z", "08:00:12.600Z"),
            ],
        ),
        (Rule::HoldBack, &[("PART-HOLD-BACK=1.5", "PART-HOLD-BACK=1.5,HOLD-BACK=5.9")]),
        (Rule::SkipBoundary, &[("CAN-SKIP-UNTIL=12.0", "CAN-SKIP-UNTIL=11.9")]),
        (Rule::SkipBoundary, &[("CAN-SKIP-UNTIL=12.0", "CAN-SKIP-DATERANGES=YES")]),
        (
            Rule::DiscontinuitySequence,
            &[("#EXT-X-DISCONTINUITY-SEQUENCE:3\n", ""), ("1/11.m4s\n", "1/11.m4s\n#EXT-X-DISCONTINUITY\n")],
        ),
        (Rule::StartOffset, &start),
        (Rule::PartInfMissing, &[("#EXT-X-PART-INF:PART-TARGET=0.5\n", "")]),
        (
            Rule::PartTooShort,
            &[
                ("0.5,URI=\"1/14.1.m4s\"", "0.42,URI=\"1/14.1.m4s\""),
                ("#EXTINF:2.000000,\n1/14.m4s", "#EXTINF:1.92,\n1/14.m4s"),
            ],
        ),
        (Rule::PartTooLong, &[("0.5,URI=\"1/16.1.m4s\"", "0.501,URI=\"1/16.1.m4s\"")]),
        (Rule::PartsSum, &[("#EXTINF:2.000000,\n1/14.m4s", "#EXTINF:1.900000,\n1/14.m4s")]),
        (
            Rule::PartsOld,
            &[
                ("#EXTINF:2.000000,\n1/10", "#EXT-X-PART:DURATION=0.5,URI=\"1/10.0.m4s\"\n#EXTINF:0.5,\n1/10"),
                (&format!("{DATE}00.000Z"), &format!("{DATE}01.500Z")),
            ],
        ),
        (Rule::PartHoldBack, &[("PART-HOLD-BACK=1.5", "PART-HOLD-BACK=0.9")]),
        (Rule::PartHoldBack, &[(",PART-HOLD-BACK=1.5", "")]),
        (Rule::PartHoldBackThree, &[("PART-HOLD-BACK=1.5", "PART-HOLD-BACK=1.4")]),
        (Rule::BlockingAbsent, &[("CAN-BLOCK-RELOAD=YES,", "")]),
        (Rule::HintAfterEnd, &[("#EXT-X-PRELOAD", "#EXT-X-ENDLIST\n#EXT-X-PRELOAD")]),
        (Rule::HintDuplicate, &[("#EXT-X-REND", "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"1/16.3.m4s\"\n#EXT-X-REND")]),
        (Rule::HintListed, &[("TYPE=PART,URI=\"1/16.2.m4s\"", "TYPE=PART,URI=\"1/16.1.m4s\"")]),
        (Rule::HintAbsent, &[("#EXT-X-PRELOAD-HINT:TYPE=PART", "#EXT-X-PRELOAD-HINT:TYPE=MAP")]),
        (Rule::ReportUri, &[("../audio", "http://h/audio")]),
    ];
    let mut text = String::new();
    for (rule, changes) in cases {
        tell(&mut text, *rule, &found(|f| media_playlist(&media(&change(GOOD, changes)), f)));
    }
    let undated: String =
        GOOD.lines().filter(|line| !line.contains("DATE-TIME")).map(|line| format!("{line}\n")).collect();
    tell(&mut text, Rule::DateMissing, &found(|f| media_playlist(&media(&undated), f)));
    let seam = change(GOOD, &[(&format!("{DATE}02.000Z"), "#EXT-X-DISCONTINUITY")]);
    tell(&mut text, Rule::DateAtDiscontinuity, &found(|f| media_playlist(&media(&seam), f)));
    golden("one_playlist.txt", &text);

    let over =
        found(|f| media_playlist(&media(&change(GOOD, &[("#EXTINF:2.000000,\n1/12", "#EXTINF:2.510000,\n1/12")])), f));
    let over: Vec<Rule> = over.into_iter().map(|finding| finding.rule).collect();
    assert!(over.starts_with(&[Rule::SegmentDuration, Rule::SegmentOverrun]), "{over:?}");
}

#[test]
fn clause_4_4_4_9_what_is_excused_may_be_short() {
    let short = |changes: Changes<'_>| {
        let playlist = media(&change(GOOD, changes));
        found(|f| media_playlist(&playlist, f)).iter().any(|finding| finding.rule == Rule::PartTooShort)
    };
    assert!(short(&[("0.5,URI=\"1/16.0.m4s\",INDEPENDENT=YES", "0.3,URI=\"1/16.0.m4s\"")]));
    assert!(!short(&[("0.5,URI=\"1/16.0.m4s\"", "0.3,URI=\"1/16.0.m4s\"")]), "independent");
    assert!(!short(&[("0.5,URI=\"1/16.1.m4s\"", "0.3,URI=\"1/16.1.m4s\"")]), "perhaps the last");
    assert!(!short(&[("0.5,URI=\"1/14.3.m4s\"", "0.1,URI=\"1/14.3.m4s\"")]), "the last");
    assert!(!short(&[("0.5,URI=\"1/14.1.m4s\"", "0.1,URI=\"1/14.1.m4s\",GAP=YES")]), "a gap");
    assert!(!short(&[
        ("0.5,URI=\"1/14.1.m4s\"", "0.1,URI=\"1/14.1.m4s\""),
        ("URI=\"1/14.2.m4s\"", "URI=\"1/14.2.m4s\",GAP=YES")
    ]));
    assert!(!short(&[("0.5,URI=\"1/14.1.m4s\"", "0.425,URI=\"1/14.1.m4s\"")]), "85 %");
}

#[test]
fn two_versions() {
    let after = testing::next();
    assert_eq!(found(|f| media_playlist(&media(&after), f)), [], "the next one is good too");
    let evolve = |before: &str, after: &str| found(|f| evolution(&media(before), &media(after), f));
    assert_eq!(evolve(GOOD, &after), []);
    assert_eq!(evolve(GOOD, GOOD), []);
    let cases: &[(Rule, Changes<'_>)] = &[
        (Rule::SequenceDecreased, &[("SEQUENCE:11", "SEQUENCE:9")]),
        (Rule::SegmentChanged, &[("1/12.m4s", "1/x.m4s")]),
        (Rule::SegmentChanged, &[("#EXTINF:2.000000,\n1/12", "#EXTINF:2.000001,\n1/12")]),
        (Rule::SegmentChanged, &[("08:00:04.000Z", "08:00:04.001Z")]),
        (Rule::SegmentChanged, &[("1/init.mp4", "2/init.mp4")]),
        (Rule::SegmentChanged, &[("1/13.m4s", "#EXT-X-GAP\n1/13.m4s")]),
        (Rule::PartChanged, &[("1/16.1.m4s", "1/16.x.m4s")]),
        (Rule::PartChanged, &[("0.5,URI=\"1/15.1.m4s\"", "0.49,URI=\"1/15.1.m4s\"")]),
        (Rule::TargetDurationChanged, &[("TARGETDURATION:2", "TARGETDURATION:3")]),
        (Rule::PartTargetChanged, &[("PART-TARGET=0.5", "PART-TARGET=0.6")]),
        (Rule::DiscontinuityStep, &[("DISCONTINUITY-SEQUENCE:3", "DISCONTINUITY-SEQUENCE:4")]),
        (Rule::PlaylistType, &[("#EXT-X-PART-INF", "#EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-PART-INF")]),
    ];
    let mut text = String::new();
    for (rule, changes) in cases {
        tell(&mut text, *rule, &evolve(GOOD, &change(&after, changes)));
    }
    tell(
        &mut text,
        Rule::SegmentRemoved,
        &evolve(
            &after,
            &change(
                GOOD,
                &[
                    ("SEQUENCE:10", "SEQUENCE:11"),
                    ("08:00:00.000Z\n#EXTINF:2.000000,\n1/10.m4s\n", "08:00:02.000Z\n#EXTINF:2.000000,\n1/11.m4s\n"),
                    (
                        "#EXT-X-PROGRAM-DATE-TIME:2027-01-15T08:00:02.000Z\n#EXTINF:2.000000,\n1/11.m4s\n#EXT-X-PROGRAM-DATE-TIME:2027-01-15T08:00:04",
                        "#EXT-X-PROGRAM-DATE-TIME:2027-01-15T08:00:04",
                    ),
                ],
            ),
        )[..1],
    );
    tell(
        &mut text,
        Rule::AfterEnd,
        &evolve(&change(GOOD, &[("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"1/16.2.m4s\"", "#EXT-X-ENDLIST")]), GOOD),
    );
    golden("two_versions.txt", &text);
}

#[test]
fn clause_6_2_2_a_window_is_three_target_durations() {
    let short =
        "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:1\n#EXTINF:4,\n1\n#EXTINF:4,\n2\n#EXTINF:3,\n3\n";
    let before = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:4,\n0\n#EXTINF:4,\n1\n#EXTINF:4,\n2\n#EXTINF:3,\n3\n";
    let rules: Vec<Rule> = found(|f| evolution(&media(before), &media(short), f)).iter().map(|f| f.rule).collect();
    assert_eq!(rules, [Rule::WindowShort, Rule::WindowSegments]);
    assert_eq!(found(|f| evolution(&media(short), &media(&format!("{short}#EXTINF:4,\n4\n")), f)), [], "nothing left");
}

#[test]
fn clause_6_2_2_a_discontinuity_may_go_before_its_segment_if_it_is_counted() {
    let before = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:1\n#EXT-X-DISCONTINUITY-SEQUENCE:5\n#EXTINF:4,\n1\n#EXT-X-DISCONTINUITY\n#EXTINF:4,\n2\n#EXTINF:4,\n3\n#EXTINF:4,\n4\n#EXTINF:4,\n5\n#EXTINF:4,\n6\n#EXTINF:4,\n7\n";
    let gone = "#EXT-X-MEDIA-SEQUENCE:2\n#EXT-X-DISCONTINUITY-SEQUENCE:6\n";
    let head = "#EXT-X-MEDIA-SEQUENCE:1\n#EXT-X-DISCONTINUITY-SEQUENCE:5\n#EXTINF:4,\n1\n#EXT-X-DISCONTINUITY\n";
    let kept = "#EXT-X-MEDIA-SEQUENCE:2\n#EXT-X-DISCONTINUITY-SEQUENCE:5\n#EXT-X-DISCONTINUITY\n";
    let wrong = "#EXT-X-MEDIA-SEQUENCE:2\n#EXT-X-DISCONTINUITY-SEQUENCE:5\n";
    let evolve = |to: &str| {
        found(|f| evolution(&media(before), &media(&change(before, &[(head, to)])), f))
            .iter()
            .map(|f| f.rule)
            .collect::<Vec<_>>()
    };
    assert_eq!(evolve(gone), []);
    assert_eq!(evolve(kept), []);
    assert_eq!(evolve(wrong), [Rule::DiscontinuityStep]);
}

#[test]
fn clause_6_2_2_old_parts_leave() {
    let after = testing::next();
    let without = change(
        &after,
        &[(
            "#EXT-X-PART:DURATION=0.5,URI=\"1/14.0.m4s\",INDEPENDENT=YES\n#EXT-X-PART:DURATION=0.5,URI=\"1/14.1.m4s\"\n",
            "",
        )],
    );
    let evolve = |after: &str| found(|f| evolution(&media(GOOD), &media(after), f));
    assert_eq!(evolve(&without), [], "the first may go alone");
    let none = change(
        &without,
        &[("#EXT-X-PART:DURATION=0.5,URI=\"1/14.2.m4s\"\n#EXT-X-PART:DURATION=0.5,URI=\"1/14.3.m4s\"\n", "")],
    );
    assert_eq!(evolve(&none), [], "all of a segment may go");
    let middle = change(&after, &[("#EXT-X-PART:DURATION=0.5,URI=\"1/14.1.m4s\"\n", "")]);
    assert_eq!(evolve(&middle)[0].rule, Rule::PartChanged);
}

/// The playlist, read at `sent` (in ms), with an answer at once, or held back.
fn pace(steps: &[(u64, u64, bool, &str)]) -> Vec<Rule> {
    let mut pace = Pace::default();
    let mut findings = Findings::default();
    let mut last = None;
    for (sent, received, blocked, text) in steps {
        let ms = Duration::from_millis;
        let round_trip = ms(10);
        let seen =
            Sighting { sent: ms(*sent), received: ms(*received), blocked: *blocked, round_trip, age: Duration::ZERO };
        let playlist = media(text);
        pace.see(&playlist, seen, &mut findings);
        last = Some(playlist);
    }
    pace.finish(&last.unwrap(), &mut findings);
    findings.into_iter().map(|finding| finding.rule).collect()
}

#[test]
fn clause_6_2_1_segments_come_in_time() {
    let list = |last: u64| {
        let segments: String = (1..=last).map(|n| format!("#EXTINF:4,\n{n}\n")).collect();
        format!("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:1\n{segments}")
    };
    let [two, three, four] = [2, 3, 4].map(list);
    let polled = |late: u64| {
        pace(&[
            (0, 10, false, &two),
            (2_000, 2_010, false, &three),
            (late, late + 10, false, &three),
            (late + 100, late + 110, false, &four),
        ])
    };
    assert_eq!(polled(8_000), [], "5.99 s at least");
    assert_eq!(polled(8_100), [Rule::SegmentLate]);
    assert_eq!(pace(&[(0, 10, false, &two), (20_000, 20_010, false, &three)]), [], "nobody looked");
    let blocked = |late: u64| pace(&[(0, 10, false, &two), (10, 2_010, true, &three), (2_010, late, true, &four)]);
    assert_eq!(blocked(8_000), []);
    assert_eq!(blocked(8_100), [Rule::SegmentLate]);
    let never = [(0, 10, false, two.as_str()), (2_000, 2_010, false, &three), (9_000, 9_010, false, &three)];
    assert_eq!(pace(&never), [Rule::SegmentLate], "and never comes");
}

#[test]
fn clause_6_2_1_parts_come_in_time() {
    let next = change(
        GOOD,
        &[("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"1/16.2.m4s\"", "#EXT-X-PART:DURATION=0.5,URI=\"1/16.2.m4s\"")],
    );
    let after = change(&next, &[("#EXT-X-REND", "#EXT-X-PART:DURATION=0.5,URI=\"1/16.3.m4s\"\n#EXT-X-REND")]);
    let run = |late: u64| pace(&[(0, 10, false, GOOD), (10, 500, true, &next), (500, late, true, &after)]);
    assert_eq!(run(1_200), [], "half a part target is granted");
    assert_eq!(run(1_400), [Rule::PartLate]);
}

#[test]
fn clause_6_2_5_1_a_delta_update_is_the_playlist() {
    let base = media(GOOD);
    let long = change(GOOD, &[("CAN-SKIP-UNTIL=12.0", "CAN-SKIP-UNTIL=4.0"), ("VERSION:6", "VERSION:9")]);
    let skipped = "#EXT-X-PROGRAM-DATE-TIME:2027-01-15T08:00:00.000Z\n#EXTINF:2.000000,\n1/10.m4s\n#EXT-X-PROGRAM-DATE-TIME:2027-01-15T08:00:02.000Z\n#EXTINF:2.000000,\n1/11.m4s\n";
    let delta =
        change(&long, &[(skipped, "#EXT-X-SKIP:SKIPPED-SEGMENTS=2\n"), ("#EXT-X-MAP:URI=\"1/init.mp4\"\n", "")]);
    let expanded = expand(&base, &media(&delta)).unwrap();
    assert_eq!(found(|f| evolution(&base, &expanded, f)), []);
    assert_eq!(expanded.segments.len(), 6);
    assert_eq!(found(|f| gave_delta(&media(&long), &media(&delta), f)), []);

    let far = change(&delta, &[("SKIPPED-SEGMENTS=2", "SKIPPED-SEGMENTS=1")]);
    let off = expand(&base, &media(&far)).unwrap();
    assert_eq!(found(|f| evolution(&base, &off, f))[0].rule, Rule::SegmentChanged, "another number of segments");
    assert_eq!(expand(&base, &media(&change(&delta, &[("SEQUENCE:10", "SEQUENCE:8")]))), None, "it was never listed");
    assert_eq!(expand(&base, &base), None);

    let greedy = change(GOOD, &[(skipped, "#EXT-X-SKIP:SKIPPED-SEGMENTS=2\n")]);
    assert_eq!(found(|f| gave_delta(&base, &media(&greedy), f))[0].rule, Rule::DeltaTooShort);
    assert_eq!(found(|f| gave_delta(&media(&long), &media(&long), f))[0].rule, Rule::DeltaNotGiven);
    assert_eq!(found(|f| gave_delta(&base, &base, f)), [], "nothing is old enough");
}

#[test]
fn renditions_of_one_instant() {
    let compare = |changes: Changes<'_>| found(|f| renditions(&media(GOOD), &media(&change(GOOD, changes)), f));
    assert_eq!(compare(&[]), []);
    assert_eq!(compare(&[("08:00:", "08:00:"), ("00.000Z", "00.021Z")]), [], "sound begins a frame later");
    let cases: &[(Rule, Changes<'_>)] = &[
        (Rule::RenditionsTargetDuration, &[("TARGETDURATION:2", "TARGETDURATION:3")]),
        (Rule::RenditionsControl, &[("PART-HOLD-BACK=1.5", "PART-HOLD-BACK=1.8")]),
        (Rule::RenditionsControl, &[("#EXT-X-SERVER-CONTROL", "#EXT-X-SERVER-CONTROLX")]),
        (Rule::RenditionsDate, &[("#EXT-X-PROGRAM-DATE-TIME", "#EXT-X-NO-DATE")]),
        (Rule::RenditionsDiscontinuity, &[("DISCONTINUITY-SEQUENCE:3", "DISCONTINUITY-SEQUENCE:2")]),
        (Rule::RenditionsDiscontinuity, &[("1/12.m4s\n", "1/12.m4s\n#EXT-X-DISCONTINUITY\n")]),
        (Rule::RenditionsAligned, &[(".000Z", ".200Z")]),
        (Rule::RenditionsAligned, &[("MEDIA-SEQUENCE:10", "MEDIA-SEQUENCE:9")]),
    ];
    let mut text = String::new();
    for (rule, changes) in cases {
        tell(&mut text, *rule, &compare(changes));
    }
    golden("renditions.txt", &text);
}

#[test]
fn clause_4_4_5_4_reports_tell_the_truth() {
    let tell = |msn: &str, order: Order| {
        let bearer = media(&change(GOOD, &[(",LAST-MSN=16,LAST-PART=1", msn)]));
        !found(|f| report(&bearer.reports[0], &bearer, &media(GOOD), order, f)).is_empty()
    };
    assert!(!tell(",LAST-MSN=16,LAST-PART=1", Order::Same));
    assert!(!tell(",LAST-MSN=16,LAST-PART=0", Order::Same), "a part behind");
    assert!(!tell("", Order::Same), "as the playlist itself");
    assert!(tell(",LAST-MSN=15,LAST-PART=3", Order::Same), "two behind");
    assert!(tell(",LAST-MSN=14,LAST-PART=3", Order::Before));
    assert!(!tell(",LAST-MSN=14,LAST-PART=3", Order::After), "it may have come since");
    assert!(!tell(",LAST-MSN=17,LAST-PART=0", Order::Same), "a part ahead");
    assert!(tell(",LAST-MSN=17,LAST-PART=2", Order::After));
    assert!(!tell(",LAST-MSN=17,LAST-PART=2", Order::Before));
}

#[test]
fn multivariant_playlists() {
    let check =
        |changes: Changes<'_>| found(|f| multivariant(&testing::multivariant(&change(MULTIVARIANT, changes)), f));
    assert_eq!(check(&[]), []);
    let second = "#EXT-X-STREAM-INF:BANDWIDTH=1636000,AVERAGE-BANDWIDTH=1484000,CODECS=\"avc1.64001f,mp4a.40.2\",RESOLUTION=854x480,FRAME-RATE=29.97,AUDIO=\"audio\"\n480p/index.m3u8\n";
    let i_frames = "#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=300000,CODECS=\"avc1.64001f\",RESOLUTION=1280x720,URI=\"720p/iframes.m3u8\"\n";
    let other = "#EXT-X-MEDIA:TYPE=AUDIO,URI=\"b\",GROUP-ID=\"audio\",NAME=\"Main\",LANGUAGE=\"de\"\n#EXT-X-STREAM-INF:BANDWIDTH=31";
    let cases: &[(Rule, Changes<'_>)] = &[
        (Rule::VersionTooLow, &[("RESOLUTION=854x480,", "REQ-VIDEO-LAYOUT=\"CH-STEREO\",RESOLUTION=854x480,")]),
        (Rule::Codecs, &[(",CODECS=\"avc1.64001f\"", "")]),
        (Rule::CodecsEntry, &[("CODECS=\"avc1.64001f,", "CODECS=\"avc3.64001f,")]),
        (Rule::Resolution, &[("RESOLUTION=854x480,", "")]),
        (Rule::FrameRate, &[("RESOLUTION=854x480,FRAME-RATE=29.97", "RESOLUTION=854x480")]),
        (Rule::AverageBandwidth, &[("AVERAGE-BANDWIDTH=1484000,", "")]),
        (Rule::BandwidthOrder, &[("AVERAGE-BANDWIDTH=1484000", "AVERAGE-BANDWIDTH=1700000")]),
        (Rule::GroupUnknown, &[("AUDIO=\"audio\"\n480p", "AUDIO=\"sound\"\n480p")]),
        (Rule::GroupNames, &[("#EXT-X-STREAM-INF:BANDWIDTH=31", other)]),
        (Rule::GroupAutoselect, &[("AUTOSELECT=YES", "AUTOSELECT=NO")]),
        (
            Rule::MediaUri,
            &[(
                "#EXT-X-STREAM-INF:BANDWIDTH=31",
                "#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"s\",NAME=\"S\",LANGUAGE=\"en\"\n#EXT-X-STREAM-INF:BANDWIDTH=31",
            )],
        ),
        (Rule::MediaLanguage, &[(",LANGUAGE=\"en\"", "")]),
        (Rule::IFramesAbsent, &[(i_frames, "")]),
        (Rule::VariantsFew, &[(second, "")]),
        (Rule::VariantsAspect, &[("854x480", "640x480")]),
        (
            Rule::VariantsOrder,
            &[("BANDWIDTH=3136000,AVERAGE-BANDWIDTH=2834000", "BANDWIDTH=9000000,AVERAGE-BANDWIDTH=2834000")],
        ),
        (Rule::ScorePartial, &[("RESOLUTION=854x480,", "RESOLUTION=854x480,SCORE=1.0,")]),
    ];
    let mut text = String::new();
    for (rule, changes) in cases {
        tell(&mut text, *rule, &check(changes));
    }
    let both = testing::multivariant(MULTIVARIANT);
    let tagged = change(GOOD, &[("#EXT-X-PART-INF", "#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-PART-INF")]);
    tell(&mut text, Rule::IndependentTwice, &found(|f| together(&both, &media(&tagged), false, f)));
    tell(&mut text, Rule::IFramesTag, &found(|f| together(&both, &media(GOOD), true, f)));
    let neither = testing::multivariant(&change(MULTIVARIANT, &[("#EXT-X-INDEPENDENT-SEGMENTS\n", "")]));
    tell(&mut text, Rule::IndependentSegments, &found(|f| together(&neither, &media(GOOD), false, f)));
    golden("multivariant.txt", &text);
}

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

#[test]
fn heads_of_responses() {
    const TYPE: (&str, &str) = ("content-type", "application/vnd.apple.mpegurl");
    const GZIP: (&str, &str) = ("content-encoding", "gzip");
    const VARY: (&str, &str) = ("vary", "Origin, Accept-Encoding");
    const KEPT: (&str, &str) = ("cache-control", "public, max-age=2");
    const LONG: (&str, &str) = ("cache-control", "public, max-age=24");
    const MEDIA: (&str, &str) = ("content-type", "video/mp4");
    let playlist =
        |blocking| Kind::Playlist { target: Duration::from_secs(4), live: true, low_latency: true, blocking };
    let (media, error) =
        (Kind::Media { listed: Duration::from_secs(60) }, Kind::Error { target: Duration::from_secs(4) });
    let check = |fields: &[(&'static str, &'static str)], kind: Kind, path: &str, redirected: bool, tls: bool| {
        let headers = headers(fields);
        found(|f| response(Head { headers: &headers, path, version: Version::HTTP_11, tls, redirected }, kind, f))
    };
    let plain =
        |fields: &[(&'static str, &'static str)], kind: Kind| check(fields, kind, "/live/index.m3u8", false, false);
    assert_eq!(plain(&[TYPE, GZIP, VARY, KEPT], playlist(false)), []);
    assert_eq!(plain(&[TYPE, GZIP, VARY, LONG], playlist(true)), []);
    assert_eq!(plain(&[MEDIA, ("cache-control", "public, max-age=60, immutable")], media), []);
    assert_eq!(plain(&[("cache-control", "max-age=1")], error), []);
    let mut text = String::new();
    let old = [("date", "Fri, 15 Jan 2027 08:00:13 GMT"), ("last-modified", "Fri, 15 Jan 2027 08:00:00 GMT")];
    for (rule, findings) in [
        (Rule::Redirect, check(&[TYPE, GZIP, VARY, KEPT], playlist(false), "/i.m3u8", true, false)),
        (Rule::Http2, check(&[TYPE, GZIP, VARY, KEPT], playlist(false), "/i.m3u8", false, true)),
        (Rule::PlaylistMime, check(&[MEDIA, GZIP, VARY, KEPT], playlist(false), "/playlist", false, false)),
        (Rule::Mime, plain(&[MEDIA, GZIP, VARY, KEPT], playlist(false))),
        (Rule::Mime, plain(&[("content-type", "text/html"), ("cache-control", "max-age=60")], media)),
        (Rule::Gzip, plain(&[TYPE, KEPT], playlist(false))),
        (Rule::Vary, plain(&[TYPE, GZIP, KEPT], playlist(false))),
        (Rule::CacheControl, plain(&[TYPE, GZIP, VARY], playlist(false))),
        (Rule::CachePlaylist, plain(&[TYPE, GZIP, VARY, LONG], playlist(false))),
        (Rule::CachePlaylist, plain(&[TYPE, GZIP, VARY, ("cache-control", "max-age=25")], playlist(true))),
        (Rule::CacheMedia, plain(&[MEDIA, ("cache-control", "max-age=59")], media)),
        (Rule::CacheMedia, plain(&[MEDIA, ("cache-control", "no-store")], media)),
        (Rule::CacheError, plain(&[("cache-control", "public, max-age=60")], error)),
        (Rule::Cookie, plain(&[MEDIA, ("cache-control", "max-age=60"), ("set-cookie", "a=b")], media)),
        (Rule::PlaylistOld, plain(&[TYPE, GZIP, VARY, KEPT, old[0], old[1]], playlist(false))),
    ] {
        tell(&mut text, rule, &findings);
    }
    golden("heads.txt", &text);
}
