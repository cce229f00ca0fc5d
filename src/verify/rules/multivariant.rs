//! What must hold of a multivariant playlist (4.4.6; Apple's authoring specification, 9), and of it together with the
//! playlists that it names.

use std::collections::BTreeSet;

use super::super::finding::Findings;
use super::super::playlist::{Media, MediaPlaylist, MediaType, Multivariant, Variant};
use super::super::rule::Rule;

/// The first variant is to be about this fast (Apple 1.32); half and double of it are about that.
const FIRST_BANDWIDTH: u64 = 2_000_000;

/// Checks the multivariant playlist by itself.
pub fn multivariant(playlist: &Multivariant, findings: &mut Findings) {
    let (version, (needed, what, at)) = (playlist.version.map_or(1, |(version, _)| version), playlist.needs);
    if version < needed {
        findings.add(Rule::VersionTooLow, at, format!("version {version}, and {what} needs {needed}"));
    }
    for variant in &playlist.variants {
        attributes(variant, findings);
        bandwidths(variant, findings);
        for (kind, group) in &variant.groups {
            if playlist.group(*kind, group).next().is_none() {
                findings.add(Rule::GroupUnknown, variant.line, format!("{}=\"{group}\" names no group", kind.word()));
            }
        }
    }
    for i_frames in playlist.i_frames.iter().filter(|i_frames| !i_frames.codecs) {
        findings.add(Rule::Codecs, i_frames.line, "EXT-X-I-FRAME-STREAM-INF without CODECS");
    }
    for i_frames in playlist.i_frames.iter().filter(|i_frames| !i_frames.resolution) {
        findings.add(Rule::Resolution, i_frames.line, "EXT-X-I-FRAME-STREAM-INF without RESOLUTION");
    }
    groups(playlist, findings);
    offer(playlist, findings);
}

fn attributes(variant: &Variant, findings: &mut Findings) {
    match &variant.codecs {
        None => findings.add(Rule::Codecs, variant.line, "EXT-X-STREAM-INF without CODECS"),
        Some(codecs) if codecs.split(',').any(|c| c.trim().starts_with("avc3") || c.trim().starts_with("hev1")) => {
            findings.add(Rule::CodecsEntry, variant.line, format!("CODECS=\"{codecs}\""));
        }
        Some(_) => {}
    }
    if variant.has_video() && variant.resolution.is_none() {
        findings.add(Rule::Resolution, variant.line, "video without RESOLUTION");
    }
    if variant.has_video() && !variant.frame_rate {
        findings.add(Rule::FrameRate, variant.line, "video without FRAME-RATE");
    }
}

fn bandwidths(variant: &Variant, findings: &mut Findings) {
    match (variant.bandwidth, variant.average_bandwidth) {
        (_, None) => findings.add(Rule::AverageBandwidth, variant.line, "EXT-X-STREAM-INF without AVERAGE-BANDWIDTH"),
        (Some(peak), Some(average)) if average > peak => {
            findings.add(Rule::BandwidthOrder, variant.line, format!("an average of {average} above a peak of {peak}"));
        }
        _ => {}
    }
}

fn groups(playlist: &Multivariant, findings: &mut Findings) {
    for (index, media) in playlist.media.iter().enumerate() {
        let before = || playlist.media.iter().take(index).filter(|m| m.kind == media.kind && m.group == media.group);
        if before().any(|other| other.name == media.name) {
            findings.add(Rule::GroupNames, media.line, format!("another `{}` in `{}`", media.name, media.group));
        }
        if media.default && before().any(|other| other.default) {
            findings.add(Rule::GroupNames, media.line, format!("another default in `{}`", media.group));
        }
        one_rendition(media, findings);
    }
}

fn one_rendition(media: &Media, findings: &mut Findings) {
    if media.default && media.autoselect == Some(false) {
        findings.add(Rule::GroupAutoselect, media.line, "DEFAULT=YES and AUTOSELECT=NO");
    }
    match media.kind {
        MediaType::Subtitles if media.uri.is_none() => {
            findings.add(Rule::MediaUri, media.line, "subtitles without URI")
        }
        MediaType::ClosedCaptions if media.uri.is_some() => {
            findings.add(Rule::MediaUri, media.line, "closed captions with URI");
        }
        _ => {}
    }
    if media.kind != MediaType::Video && !media.language {
        findings.add(Rule::MediaLanguage, media.line, format!("`{}` without LANGUAGE", media.name));
    }
}

/// Which variants there are, and in which order.
fn offer(playlist: &Multivariant, findings: &mut Findings) {
    let videos: Vec<&Variant> = playlist.variants.iter().filter(|variant| variant.has_video()).collect();
    let (Some(first), Some(line)) = (playlist.variants.first(), videos.first().map(|video| video.line)) else { return };
    if playlist.i_frames.is_empty() {
        findings.add(Rule::IFramesAbsent, None, "no EXT-X-I-FRAME-STREAM-INF");
    }
    let uris: BTreeSet<&str> = videos.iter().map(|video| video.uri.as_str()).collect();
    if uris.len() < 2 {
        findings.add(Rule::VariantsFew, line, "one variant with video");
    }
    // Width by height, within a twentieth: sizes are rounded to what encoders take.
    let ratio = |video: &&Variant| video.resolution.filter(|(_, h)| *h > 0).map(|(w, h)| w.saturating_mul(1_000) / h);
    let ratios: Vec<u64> = videos.iter().filter_map(ratio).collect();
    if let (Some(least), Some(most)) = (ratios.iter().min(), ratios.iter().max())
        && most.saturating_mul(20) > least.saturating_mul(21)
    {
        findings.add(Rule::VariantsAspect, line, format!("width to height from {least} to {most} thousandths"));
    }
    let bandwidth = first.bandwidth.unwrap_or_default();
    if videos.len() > 1 && !(FIRST_BANDWIDTH / 2..=FIRST_BANDWIDTH * 2).contains(&bandwidth) {
        findings.add(Rule::VariantsOrder, first.line, format!("the first one has BANDWIDTH={bandwidth}"));
    }
    let scored = playlist.variants.iter().filter(|variant| variant.score).count();
    if scored > 0 && scored < playlist.variants.len() {
        findings.add(Rule::ScorePartial, line, format!("{scored} of {} variants have SCORE", playlist.variants.len()));
    }
}

/// Checks a media playlist against the multivariant playlist that names it; findings are about the media playlist.
/// `i_frames`: it was named as one of I-frames.
pub fn together(multivariant: &Multivariant, playlist: &MediaPlaylist, i_frames: bool, findings: &mut Findings) {
    match (multivariant.independent_segments, playlist.independent_segments) {
        (true, Some(line)) => findings.add(Rule::IndependentTwice, line, "it is in the multivariant playlist already"),
        (false, None) => findings.add(Rule::IndependentSegments, None, "it is in neither"),
        (true, None) | (false, Some(_)) => {}
    }
    if i_frames && !playlist.i_frames_only {
        findings.add(Rule::IFramesTag, None, "an I-frame playlist without EXT-X-I-FRAMES-ONLY");
    }
}
