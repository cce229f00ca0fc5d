//! Which pictures of a recording its storyboard shows.

use crate::chronicle::Stretch;
use crate::ladder::RenditionKind;
use crate::layout::Resource;
use crate::media::{Container, MediaTime};

/// From one picture to the next at least.
const APART: MediaTime = MediaTime::from_millis(5_000);

/// A picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scene {
    /// When it is shown, from the recording's start.
    pub(super) at: MediaTime,
    /// The segment that begins with it, and before that what is needed to read it.
    pub(super) media: Vec<Resource>,
}

/// At most `most` pictures, as far apart from each other everywhere: the first of some of the segments, of the smallest rendition.
pub(super) fn scenes(stretch: &Stretch, most: u32) -> Vec<Scene> {
    let pictures = |kind| kind == RenditionKind::Video;
    // They stand in the order of their sizes.
    let Some(position) = stretch.head.renditions.iter().rposition(|rendition| pictures(rendition.kind)) else {
        return Vec::new();
    };
    let Some(rendition) = stretch.head.renditions.get(position) else { return Vec::new() };
    let length = stretch.duration().as_nanos();
    let apart = APART.max(MediaTime::from_nanos(length.checked_div(most.max(1).into()).unwrap_or(length)));
    let (mut scenes, mut now, mut next) = (Vec::new(), MediaTime::ZERO, MediaTime::ZERO);
    for entry in &stretch.entries {
        let piece = entry.pieces.get(position).filter(|piece| !piece.is_gap());
        if piece.is_some() && now >= next && scenes.len() < usize::try_from(most).unwrap_or(usize::MAX) {
            let init = Resource::Init(rendition.name.clone(), entry.session);
            let init = Some(init).filter(|_| stretch.head.container == Container::Cmaf);
            let segment = Resource::segment(stretch.head.container, rendition.name.clone(), entry.session, entry.msn);
            scenes.push(Scene { at: now, media: init.into_iter().chain([segment]).collect() });
            next = now + apart;
        }
        now += entry.duration();
    }
    scenes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::chronicle::{Entry, Head, Moment, Piece, Rendition};
    use crate::ladder::RenditionName;
    use crate::live::{Msn, SessionId};

    /// Segments of 2 s, of two pictures and a sound.
    fn stretch(count: u64) -> Stretch {
        let rendition = |(name, kind)| Rendition { name: RenditionName::new(name).unwrap(), kind };
        let renditions =
            [("720p", RenditionKind::Video), ("180p", RenditionKind::Video), ("audio", RenditionKind::Audio)];
        let entry = |number: u64| Entry {
            msn: Msn(number),
            session: SessionId(7),
            discontinuity: false,
            unproven: false,
            pieces: vec![Piece(Moment(number * 2_000), 2_000_000, u64::from(number != 3)); 3],
        };
        let head = Head {
            target_duration_secs: 2,
            container: Container::Cmaf,
            renditions: renditions.map(rendition).to_vec(),
            multivariant: String::new(),
            sessions: BTreeSet::from([SessionId(7)]),
        };
        Stretch { head, entries: (0..count).map(entry).collect(), seams: 0 }
    }

    #[test]
    fn pictures_are_apart_and_not_too_many() {
        let of =
            |count, most| scenes(&stretch(count), most).iter().map(|scene| scene.at.as_millis()).collect::<Vec<_>>();
        assert_eq!(of(10, 100), [0, 8_000, 14_000], "number 3 is a gap");
        assert_eq!(of(100, 4), [0, 50_000, 100_000, 150_000]);
        assert_eq!((of(0, 100), of(10, 0)), (vec![], vec![]));
        let first = &scenes(&stretch(1), 9)[0];
        let media: Vec<String> = first.media.iter().map(Resource::below_channel).collect();
        assert_eq!(media, ["180p/7/init.mp4", "180p/7/0.m4s"], "the smallest");
    }
}
