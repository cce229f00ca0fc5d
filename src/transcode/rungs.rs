//! Which rungs of a ladder the tracks of one encoder stand on: pure.
//!
//! A passthrough rendition is the tallest track. A rung of the ladder whose height a track has is that track, under the rung's
//! name. A track that no rung has is a rendition of its own, named by its height. What is left of the ladder is encoded from the
//! tallest track, or left out, as [`MissingRungs`] says; a rung of a height that is there is not made a second time.

use std::collections::BTreeSet;

use crate::config::{LadderConfig, MissingRungs, RenditionConfig, RenditionSource};
use crate::ladder::RenditionName;

use super::observed::Pictures;

/// Lines by which a track may miss a rung's height: encoders round to whole macroblocks.
const LINES_NEAR: u32 = 8;

/// A rendition, and where its pictures come from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Rung<'a> {
    /// A track, passed on under this name.
    Track(RenditionName, &'a Pictures),
    /// Encoded, as the ladder says.
    Filled(&'a RenditionConfig),
}

/// What the ladder becomes of these tracks, which may all be passed on.
pub(super) fn assign<'a>(ladder: &'a LadderConfig, tracks: &'a [Pictures]) -> Vec<Rung<'a>> {
    let mut free: Vec<&Pictures> = tracks.iter().collect();
    free.sort_by_key(|track| std::cmp::Reverse((track.lines(), track.measured.bitrate)));
    let mut taken = vec![None; ladder.renditions.len()];
    let is_passthrough = |config: &RenditionConfig| matches!(config.source, RenditionSource::Passthrough { .. });
    for passthrough in [true, false] {
        let rungs = ladder.renditions.iter().zip(&mut taken);
        for (config, taken) in rungs.filter(|(config, _)| is_passthrough(config) == passthrough) {
            *taken = free.iter().position(|track| stands_on(track, config)).map(|position| free.remove(position));
        }
    }
    let named = ladder.renditions.iter().zip(taken).filter_map(|(config, taken)| match taken {
        Some(track) => Some(Rung::Track(config.name.clone(), track)),
        None if is_wanted(ladder, config, tracks) => Some(Rung::Filled(config)),
        None => None,
    });
    let mut rungs: Vec<Rung<'_>> = named.collect();
    let mut names: BTreeSet<RenditionName> = ladder.renditions.iter().map(|config| config.name.clone()).collect();
    rungs.extend(free.into_iter().filter_map(|track| Some(Rung::Track(own_name(track, &mut names)?, track))));
    rungs
}

fn stands_on(track: &Pictures, config: &RenditionConfig) -> bool {
    match config.source {
        RenditionSource::Passthrough { .. } => true,
        RenditionSource::Encode { height, .. } => track.lines().abs_diff(height) <= LINES_NEAR,
    }
}

/// A rung without a track is to be encoded.
fn is_wanted(ladder: &LadderConfig, config: &RenditionConfig, tracks: &[Pictures]) -> bool {
    let is_there = || tracks.iter().any(|track| stands_on(track, config));
    ladder.missing_rungs == MissingRungs::Encode && !is_there()
}

/// `720p`, or `720p-2` where that is the name of another.
fn own_name(track: &Pictures, names: &mut BTreeSet<RenditionName>) -> Option<RenditionName> {
    let plain = format!("{}p", track.lines());
    let texts = std::iter::once(plain.clone()).chain((2..100).map(|number| format!("{plain}-{number}")));
    let name = texts.filter_map(|text| RenditionName::new(&text).ok()).find(|name| !names.contains(name))?;
    names.insert(name.clone());
    Some(name)
}
