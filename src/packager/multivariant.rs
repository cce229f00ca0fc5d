//! The text of the multivariant playlist (RFC 8216bis, 4.4.6).
//!
//! What it has, and does not have, for the sake of players:
//! - no `EXT-X-START`: where to join a live programme is what the hold-back of its media playlists says;
//! - no `SCORE`: it is for telling apart variants that `BANDWIDTH` ranks wrongly, and here more bits are always the better
//!   picture. Said of one variant it would have to be said of all, and other players than Apple's do not read it;
//! - no `CLOSED-CAPTIONS`: `NONE` is a promise for all variants, and a picture that is passed on may hold captions;
//! - one audio group with one member, `DEFAULT` and `AUTOSELECT`, which Safari needs to choose it unasked;
//! - `CODECS` in the forms that Safari and Android's decoders are looked up by (`avc1`, `hvc1`, `av01`, `mp4a.40.2`);
//! - the I-frame playlists last: a player that does not know them has read all else by then.

use std::collections::HashMap;

use m3u8_rs::{AlternativeMedia, AlternativeMediaType, MasterPlaylist, QuotedOrUnquoted, Resolution, VariantStream};

use super::bandwidth::Rates;
use crate::ladder::RenditionName;
use crate::layout::Resource;
use crate::media::DynamicRange;

/// The one audio group.
const AUDIO_GROUP: &str = "audio";

/// A video rendition as a variant.
#[derive(Clone, Debug)]
pub(super) struct Variant<'a> {
    pub(super) name: &'a RenditionName,
    pub(super) rates: Rates,
    /// Those of its I-frames alone; none where there is no playlist of them.
    pub(super) i_frames: Option<Rates>,
    /// What it is and was in the programme: `CODECS` names each media format of a variant (RFC 8216bis, 4.4.6.2).
    pub(super) codecs: Vec<&'a str>,
    pub(super) resolution: Option<(u32, u32)>,
    pub(super) range: DynamicRange,
    pub(super) frame_rate: Option<f64>,
}

/// The audio rendition.
#[derive(Clone, Debug)]
pub(super) struct Sound<'a> {
    pub(super) name: &'a RenditionName,
    pub(super) rates: Rates,
    pub(super) codec: &'a str,
    pub(super) channels: Option<u8>,
}

/// Writes the playlist, its variants in the order given.
pub(super) fn write(variants: &[Variant<'_>], sound: Option<&Sound<'_>>) -> String {
    // Said nowhere it is SDR everywhere; said of one variant it is said of each, for players that compare them.
    let tells_range = variants.iter().any(|v| v.range != DynamicRange::Sdr);
    let streams = variants.iter().map(|v| variant(v, sound, tells_range));
    let i_frames = variants.iter().filter_map(|v| i_frames(v, tells_range));
    let playlist = MasterPlaylist {
        independent_segments: true,
        alternatives: sound.map(alternative).into_iter().collect(),
        variants: streams.chain(i_frames).collect(),
        ..MasterPlaylist::default()
    };
    let mut text = Vec::with_capacity(1024);
    let written = playlist.write_to(&mut text);
    assert!(written.is_ok(), "writing into memory does not fail");
    String::from_utf8_lossy(&text).into_owned()
}

fn alternative(sound: &Sound<'_>) -> AlternativeMedia {
    AlternativeMedia {
        media_type: AlternativeMediaType::Audio,
        uri: Some(Resource::Playlist(sound.name.clone()).below_channel()),
        group_id: AUDIO_GROUP.to_owned(),
        name: "Main".to_owned(),
        default: true,
        autoselect: true,
        channels: sound.channels.map(|c| c.to_string()),
        ..AlternativeMedia::default()
    }
}

/// Bandwidths and codecs of a variant are those of all its renditions together.
fn variant(variant: &Variant<'_>, sound: Option<&Sound<'_>>, tells_range: bool) -> VariantStream {
    let with_sound = |own: u64, of: fn(Rates) -> u64| own.saturating_add(sound.map_or(0, |s| of(s.rates)));
    let codecs: Vec<&str> = variant.codecs.iter().copied().chain(sound.map(|s| s.codec)).collect();
    VariantStream {
        uri: Resource::Playlist(variant.name.clone()).below_channel(),
        bandwidth: with_sound(variant.rates.peak, |r| r.peak),
        average_bandwidth: Some(with_sound(variant.rates.average, |r| r.average)),
        codecs: Some(codecs.join(",")),
        resolution: resolution(variant),
        frame_rate: variant.frame_rate.map(|rate| (rate * 1_000.0).round() / 1_000.0),
        audio: sound.map(|_| AUDIO_GROUP.to_owned()),
        other_attributes: tells_range.then(|| range(variant)),
        ..VariantStream::default()
    }
}

/// `EXT-X-I-FRAME-STREAM-INF`, which has the picture's attributes but the frame rate and the audio group.
fn i_frames(variant: &Variant<'_>, tells_range: bool) -> Option<VariantStream> {
    let rates = variant.i_frames?;
    Some(VariantStream {
        is_i_frame: true,
        uri: Resource::IFrames(variant.name.clone()).below_channel(),
        bandwidth: rates.peak,
        average_bandwidth: Some(rates.average),
        codecs: Some(variant.codecs.join(",")),
        resolution: resolution(variant),
        other_attributes: tells_range.then(|| range(variant)),
        ..VariantStream::default()
    })
}

fn resolution(variant: &Variant<'_>) -> Option<Resolution> {
    variant.resolution.map(|(width, height)| Resolution { width: width.into(), height: height.into() })
}

fn range(variant: &Variant<'_>) -> HashMap<String, QuotedOrUnquoted> {
    HashMap::from([("VIDEO-RANGE".to_owned(), QuotedOrUnquoted::Unquoted(word(variant.range).to_owned()))])
}

fn word(range: DynamicRange) -> &'static str {
    match range {
        DynamicRange::Sdr => "SDR",
        DynamicRange::Hlg => "HLG",
        DynamicRange::Pq => "PQ",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packager::testing::golden;

    fn variant(name: &RenditionName, peak: u64, size: (u32, u32)) -> Variant<'_> {
        let rates = Rates { peak, average: peak * 9 / 10 };
        let i_frames = Some(Rates { peak: peak / 4, average: peak / 5 });
        let (codecs, range) = (vec!["avc1.64001f"], DynamicRange::Sdr);
        Variant { name, rates, i_frames, codecs, resolution: Some(size), range, frame_rate: Some(30_000.0 / 1_001.0) }
    }

    #[test]
    fn a_ladder_with_sound() {
        let names = ["480p", "720p", "audio"].map(|n| RenditionName::new(n).unwrap());
        let rates = Rates { peak: 136_000, average: 134_000 };
        let sound = Sound { name: &names[2], rates, codec: "mp4a.40.2", channels: Some(2) };
        let variants = [variant(&names[0], 1_500_000, (854, 480)), variant(&names[1], 3_000_000, (1280, 720))];
        golden("multivariant.m3u8", &write(&variants, Some(&sound)));
    }

    #[test]
    fn a_picture_without_sound() {
        let name = RenditionName::new("source").unwrap();
        let variant = Variant { i_frames: None, ..variant(&name, 6_000_000, (1920, 1080)) };
        golden("multivariant_silent.m3u8", &write(&[variant], None));
    }

    #[test]
    fn a_source_in_high_dynamic_range_above_its_ladder() {
        let names = ["source", "720p", "audio"].map(|n| RenditionName::new(n).unwrap());
        let rates = Rates { peak: 136_000, average: 134_000 };
        let sound = Sound { name: &names[2], rates, codec: "mp4a.40.2", channels: Some(2) };
        let source = variant(&names[0], 8_000_000, (1920, 1080));
        let codecs = vec!["hvc1.2.4.L123.90", "avc1.640028"];
        let source = Variant { codecs, range: DynamicRange::Pq, ..source };
        let variants = [variant(&names[1], 3_000_000, (1280, 720)), source];
        golden("multivariant_hdr.m3u8", &write(&variants, Some(&sound)));
    }
}
