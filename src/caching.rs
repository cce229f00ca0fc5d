//! What is said of published resources wherever they are kept: how long a cache may use them, and their media types.
//!
//! The origin says it in its responses, the store in the metadata of its objects. Pure: values, no header fields.

use std::borrow::Cow;
use std::time::Duration;

use crate::ladder::{RenditionKind, RenditionName};
use crate::layout::Resource;
use crate::media::Container;

/// `Content-Type` of playlists (RFC 8216bis, 4).
pub const PLAYLIST_TYPE: &str = "application/vnd.apple.mpegurl";

/// `Content-Type` of what is kept of a channel, and of what is told of channels.
pub const JSON_TYPE: &str = "application/json";

/// `Content-Type` of still pictures, and of the sheets of a storyboard.
pub const PICTURE_TYPE: &str = "image/jpeg";

/// `Content-Type` of the file that tells of a storyboard's tiles (WebVTT, 7).
pub const STORYBOARD_TYPE: &str = "text/vtt; charset=utf-8";

/// How long a copy may be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// For ever: the URL will never mean other bytes. Two weeks, as AWS MediaPackage has it; a copy that outlives the
    /// original is right.
    Immutable,
    /// This many seconds.
    Seconds(u32),
    /// Not at all.
    Never,
}

impl Cache {
    /// How long a copy of what never changes is kept.
    pub const IMMUTABLE_FOR: Duration = Duration::from_secs(1_209_600);

    /// That of the multivariant playlist: half the target duration, rounded up.
    #[must_use]
    pub fn multivariant(target_duration_secs: u32) -> Self {
        Self::Seconds(target_duration_secs.div_ceil(2).max(1))
    }

    /// That of a media playlist: half the target duration (RFC 8216bis, B.1), in whole seconds and at least one.
    #[must_use]
    pub fn playlist(target_duration_secs: u32) -> Self {
        Self::Seconds((target_duration_secs / 2).max(1))
    }

    /// The value of `Cache-Control`, where a response was given for a token.
    #[must_use]
    pub fn control_within(self, reach: Reach) -> Cow<'static, str> {
        let scope = if reach.shared { "public" } else { "private" };
        match self {
            Self::Immutable => {
                let seconds = Self::IMMUTABLE_FOR.as_secs().min(u64::from(reach.seconds));
                Cow::Owned(format!("{scope}, max-age={seconds}, immutable"))
            }
            Self::Seconds(seconds) => Cow::Owned(format!("{scope}, max-age={}", seconds.min(reach.seconds))),
            Self::Never => self.control(),
        }
    }

    /// That of a media playlist with parts that is asked for without directives: it is old within a second.
    pub const EDGE: Self = Self::Seconds(1);

    /// That of a playlist of what is over, and may still be removed.
    pub const OVER: Self = Self::Seconds(60);

    /// That of a media playlist under the URL that asks for what it has just come to hold: six target durations (RFC 8216bis,
    /// B.1), as the same URL never stands for anything else that a player would want.
    #[must_use]
    pub fn settled(target_duration_secs: u32) -> Self {
        Self::Seconds(target_duration_secs.saturating_mul(6).max(1))
    }

    /// The value of `Cache-Control`.
    #[must_use]
    pub fn control(self) -> Cow<'static, str> {
        match self {
            Self::Immutable => Cow::Borrowed("public, max-age=1209600, immutable"),
            Self::Seconds(seconds) => Cow::Owned(format!("public, max-age={seconds}")),
            Self::Never => Cow::Borrowed("no-store"),
        }
    }
}

/// For whom and for how long a response may be kept that was given for a playback token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// What is left of the token's time: nobody gets from a cache what the origin would refuse.
    pub seconds: u32,
    /// Shared caches know the response by its token too. Those that leave the query out of account do not know it by one that
    /// stands there, and would give it to everybody.
    pub shared: bool,
}

/// `Content-Type` of a rendition's initialisation segments, segments and parts.
#[must_use]
pub fn media_type(container: Container, kind: RenditionKind) -> &'static str {
    match (container, kind) {
        (Container::Cmaf, RenditionKind::Video) => "video/mp4",
        (Container::Cmaf, RenditionKind::Audio) => "audio/mp4",
        (Container::Ts, _) => "video/mp2t",
    }
}

/// The same, by what stands in its path.
#[must_use]
pub fn type_of(resource: &Resource) -> &'static str {
    let container = if matches!(resource, Resource::TsSegment(..)) { Container::Ts } else { Container::Cmaf };
    let is_sound = resource.rendition().is_some_and(|name| *name == RenditionName::audio());
    media_type(container, if is_sound { RenditionKind::Audio } else { RenditionKind::Video })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_follow_the_target_duration() {
        for (secs, multivariant, playlist) in
            [(0, 1, 1), (1, 1, 1), (4, 2, 2), (5, 3, 2), (u32::MAX, 1 << 31, (1 << 31) - 1)]
        {
            assert_eq!(Cache::multivariant(secs), Cache::Seconds(multivariant));
            assert_eq!(Cache::playlist(secs), Cache::Seconds(playlist));
        }
    }

    #[test]
    fn values_are_those_of_the_field() {
        let values = [Cache::Immutable, Cache::Seconds(3), Cache::Never].map(Cache::control);
        assert_eq!(values, ["public, max-age=1209600, immutable", "public, max-age=3", "no-store"]);
    }

    #[test]
    fn nothing_outlives_the_token_that_it_was_given_for() {
        let within = |cache: Cache, seconds, shared| cache.control_within(Reach { seconds, shared });
        assert_eq!(within(Cache::Immutable, 90, true), "public, max-age=90, immutable");
        assert_eq!(within(Cache::Immutable, u32::MAX, true), Cache::Immutable.control());
        assert_eq!(within(Cache::Seconds(3), 2, false), "private, max-age=2");
        assert_eq!(within(Cache::Seconds(3), 60, false), "private, max-age=3");
        assert_eq!(within(Cache::Never, 60, true), "no-store");
    }
}
