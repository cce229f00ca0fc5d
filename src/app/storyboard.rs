//! Which pictures of a recording its storyboard shows.

use std::collections::VecDeque;

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

/// At most `most` pictures, as far apart from each other everywhere: the first of some of the segments, of the smallest rendition; and
/// when the last of them is over.
pub(super) fn scenes(stretch: &Stretch, most: u32) -> (VecDeque<Scene>, MediaTime) {
    let of = |position: usize| stretch.entries.iter().map(move |entry| entry.pieces.get(position));
    let bytes = |position: usize| of(position).flatten().map(|piece| piece.2).fold(0, u64::saturating_add);
    let pictures = stretch.head.renditions.iter().enumerate().filter(|(_, it)| it.kind == RenditionKind::Video);
    let Some((position, rendition)) = pictures.min_by_key(|(position, _)| bytes(*position)) else {
        return (VecDeque::new(), MediaTime::ZERO);
    };
    let length = of(position).flatten().fold(MediaTime::ZERO, |sum, piece| sum + piece.duration()).as_nanos();
    let apart = APART.max(MediaTime::from_nanos(length.checked_div(most.max(1).into()).unwrap_or(length)));
    let (mut scenes, mut now, mut next) = (VecDeque::new(), MediaTime::ZERO, MediaTime::ZERO);
    for (entry, piece) in stretch.entries.iter().zip(of(position)) {
        let Some(piece) = piece else { continue };
        if !piece.is_gap() && now >= next && scenes.len() < usize::try_from(most).unwrap_or(usize::MAX) {
            let init = Resource::Init(rendition.name.clone(), entry.session);
            let init = Some(init).filter(|_| stretch.head.container == Container::Cmaf);
            let segment = Resource::segment(stretch.head.container, rendition.name.clone(), entry.session, entry.msn);
            scenes.push_back(Scene { at: now, media: init.into_iter().chain([segment]).collect() });
            next = now + apart;
        }
        // Not that of the longest rendition: sound is cut elsewhere than the picture.
        now += piece.duration();
    }
    (scenes, now)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::chronicle::{Entry, Head, Moment, Piece, Rendition};
    use crate::ladder::RenditionName;
    use crate::live::{Msn, SessionId};

    /// Segments of 2 s, of three pictures and a sound.
    fn stretch(count: u64) -> Stretch {
        let rendition = |(name, kind)| Rendition { name: RenditionName::new(name).unwrap(), kind };
        let renditions = [
            ("720p", RenditionKind::Video),
            ("180p", RenditionKind::Video),
            ("480p", RenditionKind::Video),
            ("audio", RenditionKind::Audio),
        ];
        let entry = |number: u64| Entry {
            msn: Msn(number),
            session: SessionId(7),
            discontinuity: false,
            unproven: false,
            // The sound is a little longer, and the smallest picture is not the last.
            pieces: [(2_000_000, 9), (2_000_000, 5), (2_000_000, 7), (2_005_333, 1)]
                .map(|(micros, bytes)| Piece(Moment(number * 2_000), micros, if number == 3 { 0 } else { bytes }))
                .to_vec(),
        };
        let head = Head {
            target_duration_secs: 2,
            container: Container::Cmaf,
            renditions: renditions.map(rendition).to_vec(),
            multivariant: String::new(),
            sessions: BTreeSet::from([SessionId(7)]),
        };
        Stretch { head, entries: (0..count).map(entry).collect(), seams: 0, programmes: BTreeSet::new() }
    }

    #[test]
    fn pictures_are_apart_and_not_too_many() {
        let of =
            |count, most| scenes(&stretch(count), most).0.iter().map(|scene| scene.at.as_millis()).collect::<Vec<_>>();
        assert_eq!(of(10, 100), [0, 8_000, 14_000], "number 3 is a gap");
        assert_eq!(of(100, 4), [0, 50_000, 100_000, 150_000]);
        assert_eq!((of(0, 100), of(10, 0)), (vec![], vec![]));
        assert_eq!(scenes(&stretch(100), 4).1, MediaTime::from_millis(200_000), "by the picture's clock");
        let first = &scenes(&stretch(1), 9).0[0];
        let media: Vec<String> = first.media.iter().map(Resource::below_channel).collect();
        assert_eq!(media, ["180p/7/init.mp4", "180p/7/0.m4s"], "the smallest");
    }
}
