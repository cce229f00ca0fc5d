//! The rules: what each is called, how much it matters, whose clause it is, and what it says. One table, from which the
//! report and `docs/verify.md` are made.

use std::fmt;

use serde::{Serialize, Serializer};

/// How much it matters that a rule is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Worth knowing.
    Note,
    /// What ought to be (SHOULD), and what Apple demands of an offer (which variants there are) rather than of its form.
    Warning,
    /// What must be: players may fail.
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// Rules by their names. The clause is of draft-pantos-hls-rfc8216bis-22 where no other document is named.
macro_rules! rules {
    ($($rule:ident $level:ident $id:literal $clause:literal $says:literal)*) => {
        /// A rule of live HLS.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $(#[doc = $says] $rule,)*
        }

        impl Rule {
            /// All of them, in the order of the document.
            pub const ALL: &'static [Self] = &[$(Self::$rule,)*];

            /// What it is called in reports and metrics.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self { $(Self::$rule => $id,)* }
            }

            /// How much it matters.
            #[must_use]
            pub const fn level(self) -> Level {
                match self { $(Self::$rule => Level::$level,)* }
            }

            /// Where it stands.
            #[must_use]
            pub const fn clause(self) -> &'static str {
                match self { $(Self::$rule => $clause,)* }
            }

            /// What it demands, in one sentence.
            #[must_use]
            pub const fn says(self) -> &'static str {
                match self { $(Self::$rule => $says,)* }
            }
        }
    };
}

rules! {
    // The text of any playlist.
    FirstLine Error "first-line" "4.4.1.1" "The first line is #EXTM3U."
    Encoding Error "encoding" "4.1" "A playlist is UTF-8 without a byte order mark or control characters."
    TagSyntax Error "tag-syntax" "4.4" "The value of a tag is of the form that the tag demands."
    TagDuplicate Error "tag-duplicate" "4.4.3" "A tag about the whole playlist stands in it once."
    TagPlace Error "tag-place" "4.4.3.2" "Sequence numbers stand before the first segment and the first discontinuity."
    AttributeSyntax Error "attribute-syntax" "4.2" "An attribute list is NAME=value, with commas and no spaces between."
    AttributeDuplicate Error "attribute-duplicate" "4.2" "An attribute stands once in its list."
    AttributeMissing Error "attribute-missing" "4.4" "An attribute that its tag requires is there."
    AttributeValue Error "attribute-value" "4.2" "The value of an attribute is of the type that it demands."
    PlaylistKind Error "playlist-kind" "4.4.6" "A playlist is a media or a multivariant playlist, not both."
    SegmentWithoutDuration Error "segment-without-duration" "4.4.4.1" "Each segment has its EXTINF."
    DanglingTag Warning "dangling-tag" "4.4.4" "A segment's tags are followed by its URI."
    ByterangeOffset Error "byterange-offset" "4.4.4.2" "A byte range without an offset follows one of the same resource."
    Unread Note "unread" "-" "There is more of it than this checker reads."

    // One media playlist.
    TargetDurationMissing Error "target-duration-missing" "4.4.3.1" "EXT-X-TARGETDURATION is there, and at least 1."
    SegmentDuration Error "segment-duration" "4.4.3.1" "EXTINF, rounded, is no longer than the target duration."
    SegmentOverrun Error "segment-overrun" "Apple 7.7" "No segment is more than 0.5 s longer than the target duration."
    VersionTooLow Error "version-too-low" "8" "EXT-X-VERSION is at least what the playlist's tags require."
    VersionTooHigh Warning "version-too-high" "6.2.1" "EXT-X-VERSION is no higher than needed."
    PlaylistType Error "playlist-type" "4.4.3.5" "A VOD playlist is complete, and a sliding one has no EXT-X-PLAYLIST-TYPE."
    DateMissing Error "date-missing" "Apple 8.4" "A live media playlist has EXT-X-PROGRAM-DATE-TIME."
    DateAtDiscontinuity Warning "date-at-discontinuity" "6.2.1" "A segment after a discontinuity has EXT-X-PROGRAM-DATE-TIME."
    DateForm Warning "date-form" "4.4.4.6" "A date says its time zone and is exact to the millisecond."
    DateOverlap Error "date-overlap" "6.2.1" "Dates are not ambiguous: a segment begins no more than a second before the one before it ends."
    DateContinuity Warning "date-continuity" "4.4.4.6" "Without a discontinuity dates advance by the duration of the segments."
    HoldBack Error "hold-back" "4.4.3.8" "HOLD-BACK is at least three target durations."
    SkipBoundary Error "skip-boundary" "4.4.3.8" "CAN-SKIP-UNTIL is at least six target durations, and there where CAN-SKIP-DATERANGES is."
    DiscontinuitySequence Error "discontinuity-sequence" "6.2.2, Apple 8.17" "A live playlist with a discontinuity has EXT-X-DISCONTINUITY-SEQUENCE."
    DeltaAbsent Warning "delta-absent" "Apple 14.4" "A low-latency playlist longer than two minutes offers delta updates."
    StartOffset Warning "start-offset" "4.4.2.2" "EXT-X-START is not within three target durations of the end of a live playlist."
    SkipUnasked Error "skip-unasked" "6.2.5.1" "Only who asks for a delta update gets one."

    // Parts in one playlist.
    PartInfMissing Error "part-inf-missing" "4.4.3.7" "A playlist with parts has EXT-X-PART-INF."
    PartTooLong Error "part-too-long" "4.4.4.9" "A part is no longer than PART-TARGET."
    PartTooShort Error "part-too-short" "4.4.4.9" "A part is at least 85 % of PART-TARGET, save an independent one, a gap, one before a gap, and the last of its segment."
    PartTagsLate Error "part-tags-late" "4.4.4.9" "DISCONTINUITY, KEY, MAP and PROGRAM-DATE-TIME stand before the first part of their segment."
    PartsSum Error "parts-sum" "3.2" "The parts of a segment are together as long as the segment."
    PartsOld Warning "parts-old" "6.2.2" "Parts leave the playlist once they are three target durations from its end."
    PartsInIFrames Warning "parts-in-i-frames" "4.4.4.9" "An I-frame playlist has no parts."
    PartHoldBack Error "part-hold-back" "4.4.3.8" "With EXT-X-PART-INF there is PART-HOLD-BACK, of at least two part targets."
    PartHoldBackThree Error "part-hold-back-three" "4.4.3.8, Apple 14.3" "PART-HOLD-BACK is at least three part targets."
    BlockingAbsent Warning "blocking-absent" "B.1" "A low-latency playlist offers blocking reload."
    HintAfterEnd Error "hint-after-end" "4.4.5.3" "A playlist that has ended hints at nothing."
    HintDuplicate Warning "hint-duplicate" "6.2.6" "There is at most one preload hint of a type."
    HintListed Warning "hint-listed" "4.4.5.3" "A hint names what is not in the playlist yet."
    HintAbsent Warning "hint-absent" "B.1" "A live low-latency playlist hints at its next part."
    ReportUri Error "report-uri" "4.4.5.4" "The URI of a rendition report is relative."

    // Two versions of a media playlist.
    SequenceDecreased Error "sequence-decreased" "6.2.2" "EXT-X-MEDIA-SEQUENCE never decreases."
    SegmentChanged Error "segment-changed" "6.2.1" "A listed segment and its tags do not change."
    SegmentRemoved Error "segment-removed" "6.2.1" "Segments leave at the head of the playlist only."
    PartChanged Error "part-changed" "6.2.1" "Listed parts do not change, and leave in their order."
    WindowShort Error "window-short" "6.2.2" "No segment is removed that leaves less than three target durations."
    WindowSegments Warning "window-segments" "Apple 8.11" "A live playlist lists at least six segments."
    TargetDurationChanged Error "target-duration-changed" "6.2.1" "EXT-X-TARGETDURATION does not change."
    PartTargetChanged Error "part-target-changed" "6.2.1" "PART-TARGET does not change."
    DiscontinuityStep Error "discontinuity-step" "6.2.2" "EXT-X-DISCONTINUITY-SEQUENCE counts the discontinuities that were removed, and no others."
    AfterEnd Error "after-end" "4.4.3.4" "Nothing is added after EXT-X-ENDLIST, nor is that taken back."
    SegmentLate Error "segment-late" "6.2.1" "A new segment comes within 1.5 target durations of the one before it."
    PartLate Error "part-late" "6.2.1" "A new part comes within a part target of the one before it (half a part target is granted on top)."
    DeltaWrong Error "delta-wrong" "6.2.5.1" "A delta update, expanded, is the whole playlist."
    DeltaTooShort Error "delta-too-short" "6.2.5.1" "A delta update skips only what is older than CAN-SKIP-UNTIL."
    DeltaNotGiven Error "delta-not-given" "6.2.5.1" "Who asks for a delta update of a playlist with CAN-SKIP-UNTIL gets one."

    // Renditions of one instant.
    RenditionsTargetDuration Error "renditions-target-duration" "6.2.4" "All playlists have the same target duration."
    RenditionsControl Error "renditions-control" "6.2.4" "All playlists or none have EXT-X-SERVER-CONTROL, with the same values."
    RenditionsDate Error "renditions-date" "6.2.4" "All playlists or none have EXT-X-PROGRAM-DATE-TIME."
    RenditionsDiscontinuity Error "renditions-discontinuity" "6.2.4, Apple 8.15" "The discontinuity sequence number is the same in all playlists at the same time."
    RenditionsAligned Warning "renditions-aligned" "Apple 8.22" "Segments begin at the same times, with the same numbers, in all playlists."
    ReportsMissing Error "reports-missing" "B.1" "A low-latency playlist reports on each other playlist."
    ReportUnknown Warning "report-unknown" "4.4.5.4" "A rendition report is about a playlist of the same presentation."
    ReportStale Error "report-stale" "4.4.5.4" "A rendition report is as up to date as the playlist it stands in (a part is granted)."

    // The multivariant playlist.
    VariantUri Error "variant-uri" "4.4.6.2" "EXT-X-STREAM-INF is followed by a URI."
    Codecs Error "codecs" "Apple 9.1, 9.3" "Each variant has CODECS."
    CodecsEntry Warning "codecs-entry" "Apple 1.10" "Sample entries are avc1 and hvc1, not avc3 and hev1."
    Resolution Error "resolution" "Apple 9.2, 9.4" "Each variant with video has RESOLUTION."
    FrameRate Error "frame-rate" "Apple 9.15" "Each variant with video has FRAME-RATE."
    AverageBandwidth Error "average-bandwidth" "Apple 9.14" "Each variant has AVERAGE-BANDWIDTH."
    BandwidthOrder Error "bandwidth-order" "4.4.6.2" "AVERAGE-BANDWIDTH is no more than BANDWIDTH."
    GroupUnknown Error "group-unknown" "4.4.6.2" "A group that a variant names is there."
    GroupNames Error "group-names" "4.4.6.1.1" "Members of a group have different names, and one of them at most is the default."
    GroupAutoselect Error "group-autoselect" "4.4.6.1" "The default of a group is not AUTOSELECT=NO."
    MediaUri Error "media-uri" "4.4.6.1" "Subtitles have a URI, closed captions have none."
    MediaLanguage Warning "media-language" "Apple 8.10" "Each EXT-X-MEDIA that is not video has LANGUAGE."
    IndependentSegments Warning "independent-segments" "Apple 9.11, 9.12" "EXT-X-INDEPENDENT-SEGMENTS is in the multivariant playlist, or else in each media playlist."
    IndependentTwice Warning "independent-segments-twice" "4.4.2.1" "EXT-X-INDEPENDENT-SEGMENTS is not in both the multivariant and the media playlists."
    IFramesAbsent Warning "i-frames-absent" "Apple 6.1" "There is an I-frame playlist."
    IFramesTag Error "i-frames-tag" "4.4.6.3" "An I-frame playlist has EXT-X-I-FRAMES-ONLY."
    VariantsFew Warning "variants-few" "Apple 9.9" "Video comes in several bit rates."
    VariantsAspect Warning "variants-aspect" "Apple 1.33" "All variants have the same aspect ratio."
    VariantsOrder Note "variants-order" "Apple 1.32" "The first variant is one of about 2 Mbit/s: players begin with it."
    ScorePartial Warning "score-partial" "4.4.6.2, Apple 9.19" "All variants or none have SCORE."

    // Media.
    MediaFormat Error "media-format" "3.1" "A segment is fragmented MP4, MPEG-TS, packed audio or WebVTT, and whole."
    MapMissing Error "map-missing" "3.1.2, Apple 8.20" "Segments of fragmented MP4 have an EXT-X-MAP."
    MediaDuration Error "media-duration" "Apple 8.1" "EXTINF is the duration of the media to within a frame."
    MediaContinuity Error "media-continuity" "Apple 7.1, 7.3" "A segment begins where the one before it ended, unless there is a discontinuity."
    MediaKeyframe Error "media-keyframe" "Apple 7.4" "A segment of video starts with an IDR."
    PartsMedia Error "parts-media" "3.2" "The parts of a segment hold the same samples as the segment."
    PartsBytes Note "parts-bytes" "3.2" "The parts of a segment, one after the other, are the bytes of the segment."
    PartIndependent Warning "part-independent" "4.4.4.9" "A part that starts with an IDR is INDEPENDENT=YES."
    PartIndependentFalse Error "part-independent-false" "4.4.4.9" "A part with INDEPENDENT=YES holds an IDR."
    Bandwidth Error "bandwidth" "4.4.6.2, Apple 1.29" "The measured peak is less than 125 % of BANDWIDTH."
    BandwidthAverage Warning "bandwidth-average" "Apple 1.28" "The measured average is less than 110 % of AVERAGE-BANDWIDTH."
    TsSync Error "ts-sync" "3.1.1" "A transport stream is packets of 188 bytes that begin with 0x47."
    TsTables Error "ts-tables" "3.1.1" "A segment of a transport stream has its PAT and PMT before its media."
    TsContinuity Error "ts-continuity" "Apple 7.2" "Continuity counters of a transport stream go on."

    // What the server does.
    Unavailable Error "unavailable" "6.2.1" "What a playlist lists can be fetched."
    Redirect Error "redirect" "Apple 8.18" "Nothing is redirected."
    PlaylistMime Error "playlist-mime" "4" "A playlist is known by its path (.m3u8, .m3u) or its Content-Type (application/vnd.apple.mpegurl, audio/mpegurl)."
    Mime Warning "mime" "Apple 10.4" "Content-Type is one that Apple recommends."
    Gzip Error "gzip" "6.2.1, Apple 10.1" "A playlist is compressed by gzip for who accepts that."
    Vary Warning "vary" "RFC 9110 12.5.5" "A response that depends on Accept-Encoding says so in Vary."
    CacheControl Warning "cache-control" "RFC 9111 5.2, B.1" "A response says how long it may be kept."
    CachePlaylist Warning "cache-playlist" "B.1" "A live playlist is kept no longer than half a target duration, an answer to a blocking request no longer than six."
    CacheMedia Warning "cache-media" "6.2.2, B.1" "Media may be kept as long as they are listed."
    CacheError Warning "cache-error" "B.1" "An error is kept no longer than a target duration."
    Cookie Warning "cookie" "RFC 9111 7.3" "No cookie is set: caches would pass it on, or not keep the response."
    PlaylistOld Warning "playlist-old" "Apple 8.24" "Last-Modified of a live playlist is no more than three target durations before Date."
    Http2 Warning "http2" "B.1" "A low-latency stream over TLS is served by HTTP/2 or later."
    BlockingEarly Error "blocking-early" "6.2.5.2" "A blocking request is answered once the playlist holds what was asked for."
    BlockingLost Error "blocking-lost" "6.2.5.2" "A blocking request is answered, after three target durations by 503 at the latest."
    BlockingOld Error "blocking-old" "6.2.5.2" "A request for an old position is answered at once, with the whole playlist."
    BlockingRollover Error "blocking-rollover" "6.2.5.2" "A part past the end of its segment is the first of the next."
    BlockingFuture Warning "blocking-future" "6.2.5.2" "A request for a segment more than two ahead is answered by 400."
    BlockingPartAlone Error "blocking-part-alone" "6.2.5.2" "_HLS_part without _HLS_msn is answered by 400."
    HintUnanswered Error "hint-unanswered" "6.2.6" "A hinted part is sent once it is complete."
    HintWrong Error "hint-wrong" "4.4.5.3" "The answer to a hint is the part as it is listed afterwards."
    HintDripped Error "hint-dripped" "6.2.6" "No byte of a part is sent before the whole part can be, at full speed."
    UnknownFound Warning "unknown-found" "6.2.6" "What is neither listed nor hinted at is answered by 404."
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_rule_has_a_name_of_its_own() {
        let ids: BTreeSet<&str> = Rule::ALL.iter().map(|rule| rule.id()).collect();
        assert_eq!(ids.len(), Rule::ALL.len());
        assert!(ids.iter().all(|id| id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')));
    }

    /// `UPDATE_GOLDEN=1` writes the table into the document.
    #[test]
    fn the_document_lists_each_rule() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/verify.md");
        let text = std::fs::read_to_string(&path).unwrap();
        let (before, _) = text.split_once("| rule |").expect("the table of rules is the last thing in the document");
        let rows = Rule::ALL
            .iter()
            .map(|rule| format!("| `{}` | {} | {} | {} |\n", rule.id(), rule.level(), rule.clause(), rule.says()));
        let expected =
            format!("{before}| rule | level | clause | says |\n|---|---|---|---|\n{}", rows.collect::<String>());
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &expected).unwrap();
        } else {
            assert_eq!(text, expected, "UPDATE_GOLDEN=1 rewrites it");
        }
    }
}
