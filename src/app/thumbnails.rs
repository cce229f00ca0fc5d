//! A still picture of each live channel, made anew every few seconds from its last keyframe.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use crate::config::ThumbnailConfig;
use crate::ladder::RenditionKind;
use crate::live::{ChannelSnapshot, Msn, Part, RenditionSnapshot, Thumbnail};
use crate::media::Container;
use crate::source::ChannelName;
use crate::transcode;

/// Makes pictures of a channel until its packager is gone. `turns` bounds how many are made at one time in all channels.
pub(super) async fn take(
    channel: ChannelName,
    config: ThumbnailConfig,
    turns: Arc<Semaphore>,
    live: watch::Receiver<Arc<ChannelSnapshot>>,
    thumbnail: watch::Sender<Option<Arc<Thumbnail>>>,
) {
    let mut ticks = interval(config.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut seen, mut failures, mut pause) = (None, 0u32, 0u32);
    let mut packager = live.clone();
    loop {
        let turn = async {
            ticks.tick().await;
            turns.acquire().await
        };
        let turn = tokio::select! {
            turn = turn => turn,
            // Nothing is waited for but the end.
            _ = packager.wait_for(|_| false) => return,
        };
        let snapshot = Arc::clone(&live.borrow());
        if snapshot.multivariant.is_none() {
            thumbnail.send_if_modified(|thumbnail| thumbnail.take().is_some());
            continue;
        }
        if pause > 0 {
            pause -= 1;
            continue;
        }
        let Some((number, media)) = keyframe(&snapshot).filter(|(number, _)| seen != Some(*number)) else { continue };
        seen = Some(number);
        drop(snapshot);
        let taken = spawn_blocking(move || transcode::still(media, config.height)).await;
        drop(turn);
        match taken {
            Ok(Ok(still)) => {
                failures = 0;
                thumbnail.send_replace(Some(Arc::new(Thumbnail::new(still.jpeg))));
            }
            Ok(Err(error)) => {
                if failures == 0 {
                    warn!(%channel, "{error}; the channel goes on without");
                }
                // What cannot be decoded here is seldom tried.
                failures = failures.saturating_add(1);
                pause = failures.min(FAILED_PAUSE_MAX);
            }
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
}

/// Intervals at most that a channel is left alone for of which no picture can be made.
const FAILED_PAUSE_MAX: u32 = 30;

/// The newest keyframe, of the smallest picture that there is, with what is needed to decode it; and what it is of.
fn keyframe(snapshot: &ChannelSnapshot) -> Option<((Msn, bool), Bytes)> {
    let pictures = snapshot.renditions.iter().filter(|rendition| rendition.kind == RenditionKind::Video);
    // They stand in the order of their sizes.
    pictures.rev().find_map(|rendition| newest(rendition))
}

fn newest(rendition: &RenditionSnapshot) -> Option<((Msn, bool), Bytes)> {
    let begun = rendition.open.as_ref().and_then(|open| Some((open.session, open.msn, true, first_of(&open.parts)?)));
    let last = || {
        let last = rendition.segments.iter().rev().find(|segment| segment.data().is_some())?;
        Some((last.session, last.msn, false, first_of(last.parts()).or_else(|| last.data().cloned())?))
    };
    let (session, msn, open, media) = begun.or_else(last)?;
    let media = match rendition.container {
        Container::Ts => media,
        Container::Cmaf => {
            let header = &rendition.init(session)?.data;
            let mut whole = BytesMut::with_capacity(header.len().saturating_add(media.len()));
            whole.extend_from_slice(header);
            whole.extend_from_slice(first_chunk(&media));
            whole.freeze()
        }
    };
    Some(((msn, open), media))
}

/// The part that begins a segment, where it begins with a keyframe.
fn first_of(parts: &[Part]) -> Option<Bytes> {
    parts.first().filter(|part| part.independent).map(|part| part.data.clone())
}

/// `moof` and `mdat` of the first chunk: a keyframe is one of its own.
fn first_chunk(media: &[u8]) -> &[u8] {
    let box_end = |at: usize| {
        let size = media.get(at..)?.first_chunk().map(|size| u32::from_be_bytes(*size))?;
        at.checked_add(usize::try_from(size).ok()?).filter(|end| *end > at)
    };
    let end = box_end(0).and_then(box_end);
    end.and_then(|end| media.get(..end)).unwrap_or(media)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_ends_with_its_second_box() {
        let boxed = |size: u32| [size.to_be_bytes().as_slice(), &vec![7; usize::try_from(size).unwrap() - 4]].concat();
        let media = [boxed(12), boxed(20), boxed(12)].concat();
        assert_eq!(first_chunk(&media).len(), 32);
        for odd in [&b""[..], b"abc", &[0; 8], &boxed(12), &[255; 40]] {
            assert_eq!(first_chunk(odd), odd, "what is not boxes is left whole");
        }
    }
}
