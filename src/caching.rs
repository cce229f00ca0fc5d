//! What is said of published resources wherever they are kept: how long a cache may use them, and their media types.
//!
//! The origin says it in its responses, the store in the metadata of its objects. Pure: values, no header fields.

use std::borrow::Cow;

use crate::ladder::RenditionKind;
use crate::media::Container;

/// `Content-Type` of playlists (RFC 8216bis, 4).
pub const PLAYLIST_TYPE: &str = "application/vnd.apple.mpegurl";

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

    /// That of a media playlist with parts that is asked for without directives: it is old within a second.
    pub const EDGE: Self = Self::Seconds(1);

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

/// `Content-Type` of a rendition's initialisation segments, segments and parts.
#[must_use]
pub fn media_type(container: Container, kind: RenditionKind) -> &'static str {
    match (container, kind) {
        (Container::Cmaf, RenditionKind::Video) => "video/mp4",
        (Container::Cmaf, RenditionKind::Audio) => "audio/mp4",
        (Container::Ts, _) => "video/mp2t",
    }
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
}
