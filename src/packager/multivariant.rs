//! The text of the multivariant playlist (RFC 8216bis, 4.4.6).

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
    let playlist = MasterPlaylist {
        independent_segments: true,
        alternatives: sound.map(alternative).into_iter().collect(),
        variants: variants.iter().map(|v| variant(v, sound, tells_range)).collect(),
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
    let range =
        || HashMap::from([("VIDEO-RANGE".to_owned(), QuotedOrUnquoted::Unquoted(word(variant.range).to_owned()))]);
    VariantStream {
        uri: Resource::Playlist(variant.name.clone()).below_channel(),
        bandwidth: with_sound(variant.rates.peak, |r| r.peak),
        average_bandwidth: Some(with_sound(variant.rates.average, |r| r.average)),
        codecs: Some(codecs.join(",")),
        resolution: variant.resolution.map(|(w, h)| Resolution { width: w.into(), height: h.into() }),
        frame_rate: variant.frame_rate.map(|rate| (rate * 1_000.0).round() / 1_000.0),
        audio: sound.map(|_| AUDIO_GROUP.to_owned()),
        other_attributes: tells_range.then(range),
        ..VariantStream::default()
    }
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
        let (codecs, range) = (vec!["avc1.64001f"], DynamicRange::Sdr);
        Variant { name, rates, codecs, resolution: Some(size), range, frame_rate: Some(30_000.0 / 1_001.0) }
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
        golden("multivariant_silent.m3u8", &write(&[variant(&name, 6_000_000, (1920, 1080))], None));
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
