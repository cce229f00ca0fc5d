//! What a process before this one left of a channel, read back from its stored playlists: the playlist is the journal.
//!
//! Pure. It is asked with the objects that are at hand, and says which ones it needs besides, until it has the whole.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use m3u8_rs::{MasterPlaylist, MediaPlaylist, MediaSegment, QuotedOrUnquoted, VariantStream};
use mp4_atom::{Decode as _, Ftyp, Moof, Moov};

use super::bandwidth::Rates;
use super::i_frames::IFrame;
use super::init::{Header, VIDEO_TIMESCALE};
use crate::ladder::{RenditionKind, RenditionName, RenditionSpec};
use crate::layout::Resource;
use crate::live::{Init, Media, Msn, Segment, SessionId};
use crate::media::{Container, DynamicRange, MediaTime};
use crate::source::ChannelName;

/// Objects of the store by their paths below the channel.
pub type Objects = BTreeMap<String, Fetched>;

/// What is known of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// It is this.
    There(Bytes),
    /// There is none.
    Absent,
    /// The store has not told.
    Unknown,
}

impl From<Option<Bytes>> for Fetched {
    fn from(object: Option<Bytes>) -> Self {
        object.map_or(Self::Absent, Self::There)
    }
}

/// How far the objects go.
#[derive(Debug)]
pub enum Reading {
    /// The channel has no playlist.
    Nothing,
    /// These paths below the channel are to be fetched, those of the newest media first.
    Needs(Vec<String>),
    /// All that can be had is there.
    Whole(Box<Former>),
}

/// Why playlists cannot be gone on from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is not a playlist, or not one that Headwater writes.
    #[error("{path} cannot be read: {why}")]
    Playlist {
        /// Below the channel.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The channel is to be packed in something else now.
    #[error("its segments are packed in another container than is configured now")]
    Container,
    /// Not one segment is left that all renditions have.
    #[error("none of the segments that its playlists list is there")]
    NoMedia,
}

/// A channel as its stored playlists have it: of the hot end the segments that are there, and before it those that the playlists
/// name, as a stored playlist names only what is stored. So are those of the hot end of which the store has not told.
#[derive(Debug)]
pub struct Former {
    pub(super) multivariant: Bytes,
    pub(super) target_secs: u32,
    /// The playlists have an end.
    pub(super) ended: bool,
    /// They are of two programmes: of the one that was being replaced, and of the next. Neither can be gone on with.
    pub(super) mixed: bool,
    /// The first number that one of them lists.
    pub(super) first: Msn,
    /// The number behind the last that one of them lists.
    pub(super) next: Msn,
    /// In the order of the multivariant playlist, the sound last.
    pub(super) renditions: Vec<FormerRendition>,
}

/// One rendition.
#[derive(Debug)]
pub(super) struct FormerRendition {
    pub(super) spec: RenditionSpec,
    /// Of its last run that has media.
    pub(super) header: Header,
    /// The formats of its picture or sound, and of the sound in the same segments.
    pub(super) codecs: Vec<String>,
    pub(super) sound: Option<String>,
    /// What the multivariant playlist says of its variant, the sound included, and of its I-frames.
    pub(super) rates: Option<Rates>,
    pub(super) i_frame_rates: Option<Rates>,
    pub(super) discontinuity_sequence: u64,
    pub(super) inits: Vec<Init>,
    /// The number of the first entry of the I-frame playlist.
    pub(super) first_i_frame: u64,
    /// Without holes.
    pub(super) segments: Vec<(Segment, Vec<IFrame>)>,
    /// Media has said when it is decoded.
    is_timed: bool,
}

impl Former {
    /// Reads what `objects` hold of a channel, with the media of the last `hot`, and of six target durations at least.
    ///
    /// # Errors
    /// [`Unreadable`] where there are playlists that cannot be gone on from.
    pub fn read(
        channel: &ChannelName,
        container: Container,
        hot: Duration,
        objects: &Objects,
    ) -> Result<Reading, Unreadable> {
        let mut reader = Reader { channel, container, hot: hot.into(), objects, needs: Vec::new() };
        let read = reader.read();
        reader.needs.sort_by_key(|(made, _)| std::cmp::Reverse(*made));
        match read {
            _ if !reader.needs.is_empty() => {
                Ok(Reading::Needs(reader.needs.into_iter().map(|(_, path)| path).collect()))
            }
            Err(error) => Err(error),
            Ok(None) => Ok(Reading::Nothing),
            Ok(Some(former)) => Ok(Reading::Whole(Box::new(former))),
        }
    }

    /// When what it lists ends, by its dates.
    #[must_use]
    pub fn ends_at(&self) -> Option<SystemTime> {
        self.renditions.iter().filter_map(|rendition| Some(rendition.segments.last()?.0.ends_at())).max()
    }

    /// Its playlists have no end yet.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.ended && !self.mixed
    }

    /// Nobody goes on with it: its playlists get their end.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// The last number that it lists.
    #[must_use]
    pub fn last(&self) -> Msn {
        Msn(self.next.0.saturating_sub(1))
    }
}

struct Reader<'a> {
    channel: &'a ChannelName,
    container: Container,
    hot: MediaTime,
    objects: &'a Objects,
    /// What is lacking, by the number that it was made with; what many segments need counts as the newest.
    needs: Vec<(Msn, String)>,
}

/// A rendition as its playlists have it.
struct Listing {
    rendition: FormerRendition,
    playlist: MediaPlaylist,
    i_frames: Option<MediaPlaylist>,
}

impl Listing {
    /// The last number that the playlist lists.
    fn last(&self) -> Msn {
        let listed = u64::try_from(self.playlist.segments.len()).unwrap_or(u64::MAX);
        Msn(self.playlist.media_sequence.saturating_add(listed).saturating_sub(1))
    }

    /// The numbers are such as Headwater could have come to.
    fn check(&self) -> Result<(), Unreadable> {
        let playlist = &self.playlist;
        let numbers = [playlist.media_sequence, playlist.discontinuity_sequence];
        let of_i_frames = self.i_frames.iter().map(|list| list.media_sequence);
        let sane = numbers.into_iter().chain(of_i_frames).all(|number| number <= NUMBER_MAX);
        if sane && (1..=TARGET_SECS_MAX).contains(&playlist.target_duration) && !playlist.segments.is_empty() {
            return Ok(());
        }
        let path = Resource::Playlist(self.rendition.spec.name.clone()).below_channel();
        Err(Unreadable::Playlist { path, why: "it is empty, or its numbers are out of range".to_owned() })
    }

    /// The discontinuities up to a number.
    fn seams(&self, until: Msn) -> u64 {
        let numbered = (self.playlist.media_sequence..).zip(&self.playlist.segments);
        let seams = numbered.filter(|(msn, listed)| *msn <= until.0 && listed.discontinuity).count();
        self.playlist.discontinuity_sequence.saturating_add(u64::try_from(seams).unwrap_or(u64::MAX))
    }
}

/// The playlists are of one programme: they count the same discontinuities up to a number that all have.
fn agree(listings: &[Listing], common: Msn) -> bool {
    let mut seams = listings.iter().map(|listing| listing.seams(common));
    let first = seams.next();
    seams.all(|other| Some(other) == first)
}

/// As far as numbers come in practice, and far from where sums of them end.
pub const NUMBER_MAX: u64 = 1 << 53;

/// An hour: no segment is so long.
const TARGET_SECS_MAX: u64 = 3_600;

/// Segments by which one rendition may be ahead of another. They are stored together.
const APART_MAX: u64 = 64;

impl<'a> Reader<'a> {
    /// The channel, as far as nothing is needed besides.
    fn read(&mut self) -> Result<Option<Former>, Unreadable> {
        let Some(multivariant) = self.object(&Resource::Multivariant, NEWEST) else { return Ok(None) };
        let outline = self.outline(multivariant)?;
        let read: Vec<_> = outline.into_iter().map(|rendition| self.listing(rendition)).collect();
        if !self.needs.is_empty() {
            return Ok(None);
        }
        let mut listings = read.into_iter().collect::<Result<Vec<_>, _>>()?;
        listings.iter().try_for_each(Listing::check)?;
        let (Some(last), Some(common)) =
            (listings.iter().map(Listing::last).max(), listings.iter().map(Listing::last).min())
        else {
            return Err(Unreadable::NoMedia);
        };
        if last.0.saturating_sub(common.0) > APART_MAX {
            let why = "its renditions are too far apart".to_owned();
            return Err(Unreadable::Playlist { path: Resource::Multivariant.below_channel(), why });
        }
        let ended = listings.iter().any(|listing| listing.playlist.end_list);
        let mixed = !agree(&listings, common);
        let target = listings.iter().map(|listing| listing.playlist.target_duration).max().unwrap_or(1);
        let holes = listings.iter_mut().map(|listing| self.fill(listing)).collect::<Result<Vec<_>, _>>()?;
        let mut renditions: Vec<_> = listings.into_iter().map(|listing| listing.rendition).collect();
        if renditions.iter().flat_map(|rendition| &rendition.segments).all(|(segment, _)| segment.is_gap()) {
            return Err(Unreadable::NoMedia);
        }
        // What one rendition has lost is taken from all, so that they go on together.
        let whole_from = holes.into_iter().max().unwrap_or(Msn(0)).min(common);
        renditions.iter_mut().for_each(|rendition| rendition.drop_before(whole_from));
        let firsts = renditions.iter().filter_map(|rendition| Some(rendition.segments.first()?.0.msn));
        let first = firsts.min().unwrap_or(common);
        let (target_secs, next) = (u32::try_from(target).unwrap_or(u32::MAX), Msn(last.0.saturating_add(1)));
        let multivariant = multivariant.clone();
        Ok(Some(Former { multivariant, target_secs, ended, mixed, first, next, renditions }))
    }

    /// An object, made with this number; none where there is none, or it is yet to be fetched.
    fn object(&mut self, resource: &Resource, made: Msn) -> Option<&'a Bytes> {
        let path = resource.below_channel();
        match self.objects.get(&path) {
            Some(Fetched::There(data)) => Some(data),
            Some(Fetched::Absent | Fetched::Unknown) => None,
            None => {
                self.needs.push((made, path));
                None
            }
        }
    }

    /// The store has not told of it.
    fn is_unknown(&self, resource: &Resource) -> bool {
        self.objects.get(&resource.below_channel()) == Some(&Fetched::Unknown)
    }

    /// The renditions that the multivariant playlist names, without media.
    fn outline(&self, text: &Bytes) -> Result<Vec<FormerRendition>, Unreadable> {
        let bad =
            |why: &str| Unreadable::Playlist { path: Resource::Multivariant.below_channel(), why: why.to_owned() };
        let playlist = m3u8_rs::parse_master_playlist_res(text).map_err(|_| bad("it is no multivariant playlist"))?;
        let name = |uri: &str| self.rendition(uri).ok_or_else(|| bad("it names a playlist outside the channel"));
        let variants = playlist.variants.iter().filter(|variant| !variant.is_i_frame);
        let pictures = variants.map(|variant| Ok(self.picture(name(&variant.uri)?, variant, &playlist)));
        let uris = playlist.alternatives.iter().filter_map(|sound| Some((sound.uri.as_deref()?, sound)));
        let sounds = uris.map(|(uri, sound)| {
            let channels = sound.channels.as_deref().and_then(|channels| channels.parse().ok());
            Ok(FormerRendition::sound(name(uri)?, sound_codec(&playlist), channels))
        });
        pictures.chain(sounds).collect()
    }

    fn rendition(&self, uri: &str) -> Option<RenditionName> {
        match self.resource(uri)? {
            Resource::Playlist(name) => Some(name),
            _ => None,
        }
    }

    /// What a URI of the multivariant playlist names.
    fn resource(&self, uri: &str) -> Option<Resource> {
        let (channel, resource) = Resource::parse(&format!("live/{}/{uri}", self.channel))?;
        (channel == *self.channel).then_some(resource)
    }

    fn picture(&self, name: RenditionName, variant: &VariantStream, playlist: &MasterPlaylist) -> FormerRendition {
        let (sound, codecs): (Vec<_>, Vec<_>) = codecs(variant).partition(|codec| is_sound(codec));
        let size = |length: u64| u32::try_from(length).unwrap_or(u32::MAX);
        let header = Header {
            timescale: VIDEO_TIMESCALE,
            codec: codecs.last().cloned().unwrap_or_default(),
            resolution: variant.resolution.as_ref().map(|pixels| (size(pixels.width), size(pixels.height))),
            range: range(variant),
            channels: None,
            data: Bytes::new(),
        };
        let sound = sound.into_iter().next().filter(|_| playlist.alternatives.is_empty());
        let i_frames = Resource::IFrames(name.clone()).below_channel();
        let of_i_frames = playlist.variants.iter().find(|variant| variant.is_i_frame && variant.uri == i_frames);
        let frame_rate = variant.frame_rate.filter(|rate| rate.is_finite() && *rate > 0.0);
        let spec = RenditionSpec { frame_rate, ..spec(name, RenditionKind::Video) };
        FormerRendition {
            rates: Some(rates(variant)),
            i_frame_rates: of_i_frames.map(rates),
            ..FormerRendition::new(spec, header, codecs, sound)
        }
    }

    /// The rendition with its playlists.
    fn listing(&mut self, rendition: FormerRendition) -> Result<Listing, Unreadable> {
        let name = rendition.spec.name.clone();
        let lists_i_frames = rendition.spec.kind == RenditionKind::Video && self.container == Container::Cmaf;
        let i_frames = Some(Resource::IFrames(name.clone())).filter(|_| lists_i_frames);
        // Both are asked for before either is missed.
        let (i_frames, playlist) =
            (i_frames.map(|resource| self.playlist(&resource)), self.playlist(&Resource::Playlist(name)));
        Ok(Listing { rendition, playlist: playlist?, i_frames: i_frames.and_then(Result::ok) })
    }

    fn playlist(&mut self, resource: &Resource) -> Result<MediaPlaylist, Unreadable> {
        let bad = |why: &str| Unreadable::Playlist { path: resource.below_channel(), why: why.to_owned() };
        let text = self.object(resource, NEWEST).ok_or_else(|| bad("it is not there"))?;
        m3u8_rs::parse_media_playlist_res(text).map_err(|_| bad("it is no media playlist"))
    }

    /// Gives the rendition its segments, from the newest to the first hole before one that is there. The number behind that
    /// hole; 0 where there is none. The newest that are not there are gaps: their numbers were told.
    fn fill(&mut self, listing: &mut Listing) -> Result<Msn, Unreadable> {
        let Listing { rendition, playlist, i_frames } = listing;
        rendition.discontinuity_sequence = playlist.discontinuity_sequence;
        let mut of_segments = i_frames.as_ref().map(i_frames_by_uri).unwrap_or_default();
        rendition.first_i_frame = i_frames.as_ref().map_or(1, |list| list.media_sequence);
        let (mut found, mut hole) = (false, None);
        let target = MediaTime::from(Duration::from_secs(playlist.target_duration));
        let hot = self.hot.max(target + target + target + target + target + target);
        let mut newer = MediaTime::ZERO;
        // The newest first: should the time for reading be over, it is the old ones that are missing.
        let numbered: Vec<_> = (playlist.media_sequence..).map(Msn).zip(&playlist.segments).collect();
        for (msn, listed) in numbered.into_iter().rev() {
            let i_frames = of_segments.remove(&listed.uri).unwrap_or_default();
            let (segment, there) = self.segment(rendition, msn, listed, newer < hot)?;
            newer += segment.duration;
            if hole.is_some() || found && !there {
                hole = hole.or(Some(Msn(msn.0.saturating_add(1))));
                rendition.leave_out(&segment, &i_frames);
            } else if there {
                found |= !segment.is_gap();
                rendition.segments.push((segment, i_frames));
            } else {
                rendition.segments.push((segment.without_media(), Vec::new()));
            }
        }
        rendition.segments.reverse();
        rendition.put_in_time();
        Ok(hole.unwrap_or(Msn(0)))
    }

    /// A listed segment, and whether it is there: its media where that is `hot`, else by the playlist's word.
    fn segment(
        &mut self,
        rendition: &mut FormerRendition,
        msn: Msn,
        listed: &MediaSegment,
        hot: bool,
    ) -> Result<(Segment, bool), Unreadable> {
        let path = || format!("{}/{}", rendition.spec.name, listed.uri);
        let bad = |why: &str| Unreadable::Playlist { path: path(), why: why.to_owned() };
        let resource = self.resource(&path()).ok_or_else(|| bad("it is no segment's path"))?;
        let session = match &resource {
            Resource::Segment(_, session, number) | Resource::TsSegment(_, session, number) if *number == msn => {
                *session
            }
            _ => return Err(bad("it does not have the number at which it is listed")),
        };
        if matches!(resource, Resource::TsSegment(..)) != (self.container == Container::Ts) {
            return Err(Unreadable::Container);
        }
        let date = listed.program_date_time.ok_or_else(|| bad("it has no date"))?;
        let gap = listed.unknown_tags.iter().any(|tag| tag.tag == "X-GAP");
        let segment = Segment {
            msn,
            session,
            discontinuity: listed.discontinuity,
            start: MediaTime::ZERO,
            duration: duration(listed.duration),
            program_date_time: date.into(),
            media: Media::Gap,
        };
        if gap {
            return Ok((segment, true));
        }
        let has_init = self.container == Container::Ts || self.init(rendition, session);
        let media = match hot {
            true if !self.is_unknown(&resource) => {
                self.object(&resource, msn).map(|data| Media::Hot { data: data.clone(), parts: Vec::new() })
            }
            _ => Some(Media::Cold { bytes: None }),
        };
        Ok(match media.filter(|_| has_init) {
            Some(media) => (Segment { media, ..segment }, true),
            None => (segment, false),
        })
    }

    /// Gives the rendition the initialisation segment of a run. False where it is not there.
    fn init(&mut self, rendition: &mut FormerRendition, session: SessionId) -> bool {
        if rendition.inits.iter().any(|init| init.session == session) {
            return true;
        }
        let resource = Resource::Init(rendition.spec.name.clone(), session);
        if self.needs.iter().any(|(_, path)| *path == resource.below_channel()) {
            return false;
        }
        let Some(data) = self.object(&resource, NEWEST) else { return false };
        rendition.inits.push(Init { session, data: data.clone() });
        true
    }
}

impl FormerRendition {
    fn new(spec: RenditionSpec, header: Header, codecs: Vec<String>, sound: Option<String>) -> Self {
        Self {
            spec,
            header,
            codecs,
            sound,
            rates: None,
            i_frame_rates: None,
            discontinuity_sequence: 0,
            inits: Vec::new(),
            first_i_frame: 1,
            segments: Vec::new(),
            is_timed: false,
        }
    }

    fn sound(name: RenditionName, codec: String, channels: Option<u8>) -> Self {
        let (resolution, range, data) = (None, DynamicRange::default(), Bytes::new());
        let header = Header { timescale: 0, codec: codec.clone(), resolution, range, channels, data };
        Self::new(spec(name, RenditionKind::Audio), header, vec![codec], None)
    }

    /// Puts each segment where its media says, and one without behind what is before it; what is before all that says it ends where
    /// that begins.
    fn put_in_time(&mut self) {
        self.inits.reverse();
        let timescales: Vec<_> = self.inits.iter().map(|init| (init.session, timescale(&init.data))).collect();
        let said = |segment: &Segment| {
            let scale =
                timescales.iter().find(|(session, _)| *session == segment.session).and_then(|(_, scale)| *scale);
            decode_time(segment.data()?, scale?)
        };
        let first = self.segments.iter().enumerate().find_map(|(place, (segment, _))| Some((place, said(segment)?)));
        self.is_timed = first.is_some();
        let (before, begin) = first.unwrap_or((0, MediaTime::ZERO));
        let sum = |sum, (segment, _): &(Segment, Vec<IFrame>)| sum + segment.duration;
        let mut end = begin - self.segments.iter().take(before).fold(MediaTime::ZERO, sum);
        for (segment, _) in &mut self.segments {
            segment.start = said(segment).unwrap_or(end);
            end = segment.start + segment.duration;
        }
        if let Some(init) = self.inits.last() {
            self.header.timescale = timescale(&init.data).unwrap_or(self.header.timescale);
            self.header.data = init.data.clone();
        }
    }

    /// Where the media does not say when it is decoded, it ends at `edge`, which is known from elsewhere.
    pub(super) fn end_at(&mut self, edge: MediaTime) {
        let end = self.segments.last().map_or(edge, |(last, _)| last.start + last.duration);
        let late = (edge - end).max(MediaTime::ZERO);
        if !self.is_timed {
            self.segments.iter_mut().for_each(|(segment, _)| segment.start += late);
        }
    }

    fn drop_before(&mut self, first: Msn) {
        let kept = self.segments.iter().position(|(segment, _)| segment.msn >= first).unwrap_or(self.segments.len());
        let gone: Vec<_> = self.segments.drain(..kept).collect();
        gone.iter().for_each(|(segment, i_frames)| self.leave_out(segment, i_frames));
    }

    /// A segment has left the playlist, and the I-frames in it theirs.
    fn leave_out(&mut self, segment: &Segment, i_frames: &[IFrame]) {
        self.discontinuity_sequence = self.discontinuity_sequence.saturating_add(u64::from(segment.discontinuity));
        let entries = i_frames.len().max(usize::from(segment.is_gap()));
        self.first_i_frame = self.first_i_frame.saturating_add(u64::try_from(entries).unwrap_or(0));
    }
}

/// Playlists and initialisation segments are needed before all media.
const NEWEST: Msn = Msn(u64::MAX);

/// Before there is a run that says what is expected of it.
fn spec(name: RenditionName, kind: RenditionKind) -> RenditionSpec {
    RenditionSpec { name, kind, bitrate_average: 0, bitrate_peak: 0, frame_rate: None }
}

fn codecs(variant: &VariantStream) -> impl Iterator<Item = String> {
    variant.codecs.iter().flat_map(|codecs| codecs.split(',')).map(|codec| codec.trim().to_owned())
}

fn rates(variant: &VariantStream) -> Rates {
    let peak = variant.bandwidth.min(NUMBER_MAX);
    Rates { peak, average: variant.average_bandwidth.map_or(peak, |average| average.min(peak)) }
}

fn is_sound(codec: &str) -> bool {
    codec.starts_with("mp4a.")
}

fn sound_codec(playlist: &MasterPlaylist) -> String {
    playlist.variants.iter().flat_map(codecs).find(|codec| is_sound(codec)).unwrap_or_default()
}

fn range(variant: &VariantStream) -> DynamicRange {
    match variant.other_attributes.as_ref().and_then(|attributes| attributes.get("VIDEO-RANGE")) {
        Some(QuotedOrUnquoted::Unquoted(range)) if range == "PQ" => DynamicRange::Pq,
        Some(QuotedOrUnquoted::Unquoted(range)) if range == "HLG" => DynamicRange::Hlg,
        _ => DynamicRange::Sdr,
    }
}

/// Playlists tell microseconds; single precision holds them to 16 seconds.
fn duration(seconds: f32) -> MediaTime {
    let told = Duration::try_from_secs_f64(f64::from(seconds)).unwrap_or_default();
    let micros = i64::try_from((told + Duration::from_nanos(500)).as_micros()).unwrap_or(0);
    MediaTime::from_nanos(micros.saturating_mul(1_000))
}

/// The I-frames of each segment.
fn i_frames_by_uri(list: &MediaPlaylist) -> BTreeMap<String, Vec<IFrame>> {
    let mut found: BTreeMap<String, (MediaTime, Vec<IFrame>)> = BTreeMap::new();
    for entry in &list.segments {
        let Some(range) = &entry.byte_range else { continue };
        let begin = usize::try_from(range.offset.unwrap_or(0)).unwrap_or(usize::MAX);
        let length = usize::try_from(range.length).unwrap_or(usize::MAX);
        let (offset, i_frames) = found.entry(entry.uri.clone()).or_default();
        i_frames.push(IFrame { offset: *offset, bytes: begin..begin.saturating_add(length) });
        *offset += duration(entry.duration);
    }
    found.into_iter().map(|(uri, (_, i_frames))| (uri, i_frames)).collect()
}

/// Ticks a second of an initialisation segment's track.
fn timescale(init: &Bytes) -> Option<u32> {
    let mut cursor = std::io::Cursor::new(init);
    Ftyp::decode(&mut cursor).ok()?;
    let moov = Moov::decode(&mut cursor).ok()?;
    Some(moov.trak.first()?.mdia.mdhd.timescale)
}

/// When the first sample of a segment is decoded.
fn decode_time(segment: &Bytes, timescale: u32) -> Option<MediaTime> {
    let moof = Moof::decode(&mut std::io::Cursor::new(segment)).ok()?;
    let ticks = moof.traf.first()?.tfdt.as_ref()?.base_media_decode_time;
    Some(MediaTime::from_ticks(i64::try_from(ticks).ok()?, timescale))
}

#[cfg(test)]
mod tests;
