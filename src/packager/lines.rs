//! The lines of what a playlist lists, each written once: a playlist of hours changes at its ends only.

use std::collections::VecDeque;
use std::ops::Range;

use crate::live::{Msn, Segment, SessionId};
use crate::playlist::{MediaPlaylist, Writer};

/// What stands for one segment in a playlist: its own lines, or those of its I-frames.
pub(super) trait Written {
    /// The segment.
    fn segment(&self) -> &Segment;

    /// Writes the lines.
    fn write(&self, writer: &mut Writer<'_>);
}

impl Written for &Segment {
    fn segment(&self) -> &Segment {
        self
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.segment(&(*self).into(), &[]);
    }
}

/// The lines; see the module.
#[derive(Debug, Default)]
pub(super) struct Lines {
    text: String,
    /// The number of each segment, and how long its lines are.
    lengths: VecDeque<(Msn, usize)>,
    /// The session whose initialisation segment holds at the end.
    mapped: Option<SessionId>,
}

impl Lines {
    /// Nothing that was written holds any more.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Drops what `listed` has no more, and writes what it has besides, by `writer`, which is to be an empty one.
    pub(super) fn update<E: Written>(&mut self, listed: impl Iterator<Item = E>, mut writer: Writer<'_>) {
        let mut listed = listed.peekable();
        let first = listed.peek().map(|first| first.segment().msn);
        let mut dropped = 0;
        while let Some((_, length)) = self.lengths.pop_front_if(|(msn, _)| first.is_none_or(|first| *msn < first)) {
            dropped += length;
        }
        self.text.drain(..dropped.min(self.text.len()));
        let last = self.lengths.back().map(|(msn, _)| *msn);
        writer.set_mapped(self.mapped);
        for entry in listed.filter(|entry| last.is_none_or(|last| entry.segment().msn > last)) {
            let before = writer.text().len();
            entry.write(&mut writer);
            self.lengths.push_back((entry.segment().msn, writer.text().len() - before));
        }
        self.text.push_str(writer.text());
        self.mapped = writer.mapped();
    }

    /// Writes the lines of `listed`, which they were updated with. The first that has media names its initialisation segment,
    /// whatever stood before it when its lines were written.
    pub(super) fn write<E: Written>(&self, listed: impl Iterator<Item = E>, writer: &mut Writer<'_>) {
        let mut anew = 0;
        for (entry, (_, length)) in listed.zip(&self.lengths) {
            entry.write(writer);
            anew += length;
            if !entry.segment().is_gap() {
                break;
            }
        }
        writer.append(self.text.get(anew..).unwrap_or_default(), self.mapped);
    }

    /// The playlist of `segments`, which they were updated with, and where the lines begin and end in it.
    pub(super) fn playlist<'s>(
        &self,
        of: &MediaPlaylist<'_>,
        segments: impl Iterator<Item = &'s Segment>,
    ) -> (String, Range<usize>) {
        let mut writer = Writer::new(of.rendition, of.container);
        writer.begin(of, of.version(), |_| ());
        let begin = writer.text().len();
        self.write(segments, &mut writer);
        let written = begin..writer.text().len();
        (writer.end(of.ended), written)
    }

    /// How long the lines are from segment `msn` on.
    pub(super) fn length_from(&self, msn: Msn) -> usize {
        let newest = self.lengths.iter().rev().take_while(|(listed, _)| *listed >= msn);
        newest.map(|(_, length)| length).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ladder::RenditionName;
    use crate::live::Media;
    use crate::media::Container;
    use crate::packager::testing;

    proptest! {
        /// By each step a segment is listed, of another run or not, a gap or not, and some leave.
        #[test]
        fn what_is_written_once_reads_as_if_it_were_written_anew(
            steps in prop::collection::vec((any::<bool>(), 0u64..4, 0usize..3), 1..40)
        ) {
            let rendition = RenditionName::new("720p").unwrap();
            let writer = || Writer::new(&rendition, Container::Cmaf);
            let (mut lines, mut listed, mut session) = (Lines::default(), VecDeque::new(), 1);
            for ((gap, seam, leave), number) in steps.into_iter().zip(1..) {
                session += u64::from(seam == 0);
                let mut segment = testing::segment(number, 4_000);
                (segment.session, segment.discontinuity) = (SessionId(session), seam == 0);
                if gap {
                    segment.media = Media::Gap;
                }
                listed.push_back(segment);
                drop(listed.drain(..leave.min(listed.len())));
                lines.update(listed.iter(), writer());
                let mut text = writer();
                lines.write(listed.iter(), &mut text);
                let mut anew = writer();
                listed.iter().for_each(|segment| segment.write(&mut anew));
                prop_assert_eq!(text.text(), anew.text());
                // Behind the first media all is as it was written.
                let mut mapped = None;
                for from in &listed {
                    if mapped.is_some() {
                        let mut end = writer();
                        end.set_mapped(mapped);
                        listed.iter().filter(|segment| segment.msn >= from.msn).for_each(|segment| segment.write(&mut end));
                        prop_assert_eq!(&text.text()[text.text().len() - lines.length_from(from.msn)..], end.text());
                    }
                    mapped = Some(from.session).filter(|_| !from.is_gap()).or(mapped);
                }
            }
            let head = MediaPlaylist {
                rendition: &rendition,
                container: Container::Cmaf,
                target_duration_secs: 4,
                first: Msn(1),
                discontinuity_sequence: 0,
                ended: true,
            };
            lines.clear();
            lines.update(listed.iter(), writer());
            prop_assert_eq!(lines.playlist(&head, listed.iter()).0, head.write(listed.iter()));
        }
    }
}
