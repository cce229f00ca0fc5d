//! The text of media playlists, against golden files.

use super::testing::{self, golden};
use crate::ladder::RenditionName;
use crate::live::{Media, Msn, Segment, SessionId};
use crate::media::Container;
use crate::playlist::MediaPlaylist;

fn write(segments: &[Segment], ended: bool) -> String {
    write_in(Container::Cmaf, segments, ended)
}

fn write_in(container: Container, segments: &[Segment], ended: bool) -> String {
    let rendition = RenditionName::new("720p").unwrap();
    let playlist = MediaPlaylist {
        rendition: &rendition,
        container,
        target_duration_secs: 4,
        first: segments.first().map_or(Msn(1), |s| s.msn),
        discontinuity_sequence: 3,
        ended,
    };
    playlist.write(segments.iter())
}

#[test]
fn live() {
    golden("media_live.m3u8", &write(&[1, 2, 3].map(|msn| testing::segment(msn, 4_000)), false));
}

#[test]
fn transport_streams_need_nothing_beside_them() {
    let session = SessionId(1_800_000_500_000);
    let gap = Segment { session, discontinuity: true, media: Media::Gap, ..testing::segment(2, 4_000) };
    let segments = [testing::segment(1, 1_234), gap, Segment { session, ..testing::segment(3, 4_000) }];
    golden("media_ts.m3u8", &write_in(Container::Ts, &segments, true));
}

#[test]
fn ended() {
    golden("media_ended.m3u8", &write(&[7, 8].map(|msn| testing::segment(msn, 3_967)), true));
}

#[test]
fn a_seam_names_its_own_initialisation_segment() {
    let seam = Segment { session: SessionId(1_800_000_500_000), discontinuity: true, ..testing::segment(2, 4_000) };
    golden("media_seam.m3u8", &write(&[testing::segment(1, 1_234), seam], false));
}

#[test]
fn a_gap_at_a_seam_names_no_initialisation_segment() {
    let session = SessionId(1_800_000_500_000);
    let gap = Segment { session, discontinuity: true, media: Media::Gap, ..testing::segment(2, 4_000) };
    let after = Segment { session, ..testing::segment(3, 4_000) };
    golden("media_gap.m3u8", &write(&[testing::segment(1, 4_000), gap, after], false));
}
