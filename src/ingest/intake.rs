//! A publisher's audio and video messages become the events of its channel.
//!
//! Joins the readers of tags, of codecs and of time. Pure; what it skips and mends it reports as [`Note`]s.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::flv::{Content, Found, Packet, TagError, audio_tag, video_tag};
use super::sound::{SoundCodec, SoundError, SoundPacket, SoundReader};
use super::timeline::{AudioTime, Timeline};
use super::video_track::VideoTrack;
use crate::media::{AccessUnit, MediaTime, Track, TrackFormat, VideoCodec};
use crate::source::SourceEvent;

/// Something in the input was not as it should be; the stream goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// It was mended or left out; the kind, for counting.
    Repair(&'static str),
    /// The sound turned into something that is not taken: the stream goes on as if silent. Said once.
    AudioCodec(String),
}

/// The publisher's media cannot be served, and the streamer should know before an audience does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// The picture has a codec that is not taken, so there is nothing to publish.
    #[error(
        "this server takes H.264, HEVC, AV1 and VP9 video, and {0}: choose an H.264 (x264, NVENC, QuickSync, AMF, VideoToolbox) encoder"
    )]
    Video(String),
    /// The sound has a codec that is not taken, from the beginning.
    #[error("this server takes AAC, Opus, MP3, AC-3 and FLAC audio, and {0}: choose AAC")]
    Audio(String),
}

/// What is kept of one publisher's media between messages.
#[derive(Debug)]
pub struct Intake {
    timeline: Timeline,
    /// By the track's number, below [`VIDEO_TRACKS_MAX`].
    pictures: BTreeMap<u8, VideoTrack>,
    sound: Option<SoundReader>,
    audio_format_due: bool,
    /// Audio from before the first IDR. Bounded; the oldest leaves first.
    held: VecDeque<Held>,
    held_bytes: usize,
    audio_codec_told: bool,
    /// What the message at hand had for sound.
    refused_sound: Option<String>,
    notes: Vec<Note>,
    /// Of one message, kept to spare the allocation.
    found_pictures: Found<VideoCodec>,
    found_sounds: Found<SoundCodec>,
}

/// A packet of sound that waits.
#[derive(Debug)]
struct Held {
    timestamp: u32,
    nanos: u32,
    packet: SoundPacket,
}

impl Intake {
    /// For a publisher whose first IDR is shown at `start`.
    #[must_use]
    pub fn new(start: MediaTime) -> Self {
        Self {
            timeline: Timeline::new(start),
            pictures: BTreeMap::new(),
            sound: None,
            audio_format_due: false,
            held: VecDeque::new(),
            held_bytes: 0,
            audio_codec_told: false,
            refused_sound: None,
            notes: Vec::new(),
            found_pictures: Vec::new(),
            found_sounds: Vec::new(),
        }
    }

    /// The first IDR was seen.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.timeline.has_begun()
    }

    /// What was skipped and mended since the last call.
    pub fn take_notes(&mut self) -> Vec<Note> {
        let mut notes = std::mem::take(&mut self.notes);
        notes.extend(self.timeline.take_repairs().into_iter().map(|repair| Note::Repair(repair.word())));
        notes
    }

    /// Takes a video message; what follows from it is added to `events`.
    ///
    /// # Errors
    /// [`Unsupported::Video`], where its codec is not taken, and no track has one that is.
    pub fn video(&mut self, timestamp: u32, body: Bytes, events: &mut Vec<SourceEvent>) -> Result<(), Unsupported> {
        let mut found = std::mem::take(&mut self.found_pictures);
        video_tag(body, &mut found);
        let mut refused = None;
        for found in found.drain(..) {
            match found {
                Ok(packet) => self.video_packet(timestamp, packet, events),
                Err(error @ TagError::Codec(_)) => {
                    self.note("video_codec");
                    refused = Some(error);
                }
                Err(error) => self.note(error.word()),
            }
        }
        self.found_pictures = found;
        let is_usable = self.pictures.values().any(VideoTrack::is_configured);
        refused.filter(|_| !is_usable).map_or(Ok(()), |error| Err(Unsupported::Video(error.to_string())))
    }

    /// Takes an audio message; what follows from it is added to `events`.
    ///
    /// # Errors
    /// [`Unsupported::Audio`], where its codec is not taken, and no sound has come that is.
    pub fn audio(&mut self, timestamp: u32, body: Bytes, events: &mut Vec<SourceEvent>) -> Result<(), Unsupported> {
        let mut found = std::mem::take(&mut self.found_sounds);
        audio_tag(body, &mut found);
        for found in found.drain(..) {
            match found {
                Ok(packet) if packet.track == 0 => self.audio_packet(timestamp, packet, events),
                Ok(_) => self.note("further_audio"),
                Err(error @ TagError::Codec(_)) => self.audio_unsupported(error.to_string()),
                Err(error) => self.note(error.word()),
            }
        }
        self.found_sounds = found;
        let is_usable = self.sound.as_ref().is_some_and(|sound| sound.format().is_some());
        self.refused_sound.take().filter(|_| !is_usable).map_or(Ok(()), |what| Err(Unsupported::Audio(what)))
    }

    fn video_packet(&mut self, timestamp: u32, packet: Packet<VideoCodec>, events: &mut Vec<SourceEvent>) {
        let Packet { track, codec, nanos, content } = packet;
        if track >= VIDEO_TRACKS_MAX {
            return self.note("further_track");
        }
        let picture = self.pictures.entry(track).or_insert_with(|| VideoTrack::new(codec));
        match content {
            Content::Config(record) => {
                if let Err(error) = picture.configure(codec, &record) {
                    self.note(error.word());
                }
            }
            Content::Frame { composition_millis, data } => {
                let composition =
                    MediaTime::from_millis(composition_millis.into()) + MediaTime::from_nanos(nanos.into());
                self.picture(Moment { track, timestamp, composition }, codec, &data, events);
            }
            Content::Metadata(values) => {
                if !picture.metadata(&values) {
                    self.note("video_metadata");
                }
            }
            Content::EndOfSequence => self.note("end_of_sequence"),
        }
    }

    fn picture(&mut self, moment: Moment, codec: VideoCodec, data: &Bytes, events: &mut Vec<SourceEvent>) {
        let Moment { track, timestamp, composition } = moment;
        let joins = !self.timeline.has_picture(track);
        let Some(video) = self.pictures.get_mut(&track) else { return };
        let picture = match video.picture(codec, data, joins) {
            Ok(picture) => picture,
            Err(error) => return self.note(error.word()),
        };
        // What follows a new format is not decodable before the IDR that the format is for.
        if video.waits() && !picture.key {
            return self.note("video_before_idr");
        }
        let begins = !self.timeline.has_begun();
        let Some(time) = self.timeline.video(track, timestamp, composition, picture.key) else {
            return self.note("video_before_idr");
        };
        self.push_discontinuity(events);
        if let Some(format) = self.pictures.get_mut(&track).and_then(VideoTrack::take_format) {
            events.push(SourceEvent::Format(Track::Video(track), TrackFormat::Video(format)));
        }
        self.push_audio_format(events);
        let unit = AccessUnit {
            dts: time.dts,
            pts: time.pts,
            duration: MediaTime::ZERO,
            key: picture.key,
            data: picture.data,
        };
        events.push(SourceEvent::Unit(Track::Video(track), unit));
        if begins {
            self.release_held(events);
        }
    }

    /// Before the first event behind a jump.
    fn push_discontinuity(&mut self, events: &mut Vec<SourceEvent>) {
        if self.timeline.take_discontinuity() {
            events.push(SourceEvent::Discontinuity);
        }
    }

    fn push_audio_format(&mut self, events: &mut Vec<SourceEvent>) {
        if let Some(format) = self.sound.as_ref().and_then(SoundReader::format)
            && std::mem::take(&mut self.audio_format_due)
        {
            events.push(SourceEvent::Format(Track::Audio, TrackFormat::Audio(format.clone())));
        }
    }

    fn audio_packet(&mut self, timestamp: u32, packet: Packet<SoundCodec>, events: &mut Vec<SourceEvent>) {
        let Packet { codec, nanos, content, .. } = packet;
        match content {
            Content::Config(config) => self.configure_audio(codec, &config),
            Content::Frame { data, .. } if data.is_empty() => self.note("empty_tag"),
            Content::Frame { data, .. } => self.audio_frame(codec, timestamp, nanos, &data, events),
            Content::Metadata(_) | Content::EndOfSequence => self.note("end_of_sequence"),
        }
    }

    fn configure_audio(&mut self, codec: SoundCodec, config: &Bytes) {
        let changed = self.with_sound(codec, |sound| sound.configure(config));
        match changed {
            Ok(changed) => self.sound_changed(changed),
            Err(SoundError::ObjectType(_)) => {
                self.audio_unsupported(changed.err().map_or_else(String::new, |e| e.to_string()))
            }
            Err(error) => {
                self.note("audio_config");
                self.audio_told(error.to_string());
            }
        }
    }

    /// Asks the reader of this codec: the one at hand, or another, which takes its place where it is content.
    fn with_sound<T>(
        &mut self,
        codec: SoundCodec,
        ask: impl FnOnce(&mut SoundReader) -> Result<T, SoundError>,
    ) -> Result<T, SoundError> {
        match &mut self.sound {
            Some(sound) if sound.codec() == codec => ask(sound),
            other => {
                let mut sound = SoundReader::new(codec);
                let answer = ask(&mut sound)?;
                *other = Some(sound);
                Ok(answer)
            }
        }
    }

    fn sound_changed(&mut self, changed: bool) {
        if changed && let Some(format) = self.sound.as_ref().and_then(SoundReader::format) {
            self.timeline.set_audio(format.sample_rate);
            self.audio_format_due = true;
            // What waits is of the format before.
            self.held_bytes = 0;
            for _ in std::mem::take(&mut self.held) {
                self.note("audio_before_start");
            }
        }
    }

    fn audio_frame(
        &mut self,
        codec: SoundCodec,
        timestamp: u32,
        nanos: u32,
        data: &Bytes,
        events: &mut Vec<SourceEvent>,
    ) {
        let packet = match self.with_sound(codec, |sound| sound.packet(data)) {
            Ok((packet, changed)) => {
                self.sound_changed(changed);
                packet
            }
            Err(SoundError::NoConfig) => return self.note("audio_before_config"),
            Err(_) => return self.note("audio_packet"),
        };
        self.place_audio(Held { timestamp, nanos, packet }, events);
    }

    fn place_audio(&mut self, sound: Held, events: &mut Vec<SourceEvent>) {
        let time = match self.timeline.audio(sound.timestamp, sound.nanos, sound.packet.samples) {
            AudioTime::At(time) => time,
            AudioTime::Early => return self.hold(sound),
            AudioTime::BeforeStart => return self.note("audio_before_start"),
            AudioTime::Surplus => return,
        };
        self.push_discontinuity(events);
        self.push_audio_format(events);
        let rate = self.sound.as_ref().and_then(SoundReader::format).map_or(0, |format| format.sample_rate);
        let SoundPacket { samples, data } = sound.packet;
        let duration = MediaTime::from_ticks(i64::from(samples), rate);
        events.push(SourceEvent::Unit(Track::Audio, AccessUnit { dts: time, pts: time, duration, key: true, data }));
    }

    fn hold(&mut self, sound: Held) {
        self.held_bytes += sound.packet.data.len();
        self.held.push_back(sound);
        while self.held.len() > HELD_FRAMES_MAX || self.held_bytes > HELD_BYTES_MAX {
            let Some(oldest) = self.held.pop_front() else { break };
            self.held_bytes -= oldest.packet.data.len();
            self.note("audio_before_start");
        }
    }

    fn release_held(&mut self, events: &mut Vec<SourceEvent>) {
        self.held_bytes = 0;
        for sound in std::mem::take(&mut self.held) {
            self.place_audio(sound, events);
        }
    }

    fn audio_unsupported(&mut self, what: String) {
        self.note("audio_codec");
        self.audio_told(what.clone());
        self.refused_sound = Some(what);
    }

    fn audio_told(&mut self, what: String) {
        if !std::mem::replace(&mut self.audio_codec_told, true) {
            self.notes.push(Note::AudioCodec(what));
        }
    }

    fn note(&mut self, kind: &'static str) {
        self.notes.push(Note::Repair(kind));
    }
}

/// Where a picture belongs.
struct Moment {
    track: u8,
    timestamp: u32,
    composition: MediaTime,
}

/// Picture tracks that are taken: 0 to 15.
const VIDEO_TRACKS_MAX: u8 = 16;
/// Three seconds of AAC at 48 kHz: more than encoders let sound and picture run apart.
const HELD_FRAMES_MAX: usize = 144;
/// Three seconds of the sound that takes most: PCM of 16 bits, or FLAC of a few channels.
const HELD_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::amf::Amf0Value;
    use crate::ingest::scripted::{
        AUDIO_CONFIG, AUDIO_FRAME, AV1_RECORD, PPS, SPS, SPS_480P, VP9_KEY, avc_record, hevc_record, picture,
        video_config,
    };
    use proptest::prelude::*;

    const START: MediaTime = MediaTime::from_millis(1_000);

    #[derive(Default)]
    struct Told(Vec<SourceEvent>);

    impl Told {
        /// One word an event.
        fn words(&mut self) -> Vec<String> {
            let word = |event| match event {
                SourceEvent::Format(Track::VIDEO, TrackFormat::Video(format)) => format!("video {}", format.height),
                SourceEvent::Format(Track::Audio, TrackFormat::Audio(format)) => {
                    format!("audio {}", format.sample_rate)
                }
                SourceEvent::Unit(Track::VIDEO, unit) if unit.key => "IDR".to_owned(),
                SourceEvent::Unit(Track::VIDEO, _) => "P".to_owned(),
                SourceEvent::Unit(Track::Audio, _) => "sound".to_owned(),
                SourceEvent::Format(..) | SourceEvent::Unit(..) => "further".to_owned(),
                SourceEvent::Discontinuity => "discontinuity".to_owned(),
                SourceEvent::End => "end".to_owned(),
            };
            self.0.drain(..).map(word).collect()
        }
    }

    fn video(intake: &mut Intake, told: &mut Told, timestamp: u32, body: &[u8]) {
        intake.video(timestamp, Bytes::copy_from_slice(body), &mut told.0).unwrap();
    }

    fn audio(intake: &mut Intake, told: &mut Told, timestamp: u32, body: &[u8]) {
        intake.audio(timestamp, Bytes::copy_from_slice(body), &mut told.0).unwrap();
    }

    fn kinds(intake: &mut Intake) -> Vec<&'static str> {
        let kind = |note| match note {
            Note::Repair(kind) => kind,
            Note::AudioCodec(_) => "told",
        };
        intake.take_notes().into_iter().map(kind).collect()
    }

    #[test]
    fn row_20_row_26_lesson_35_audio_from_before_the_first_idr_is_kept_where_it_belongs_behind_it() {
        let (mut intake, mut told) = (Intake::new(START), Told::default());
        audio(&mut intake, &mut told, 0, AUDIO_FRAME);
        audio(&mut intake, &mut told, 0, AUDIO_CONFIG);
        for timestamp in [0, 21, 43, 64] {
            audio(&mut intake, &mut told, timestamp, AUDIO_FRAME);
        }
        video(&mut intake, &mut told, 50, &picture(true, 0));
        video(&mut intake, &mut told, 50, &video_config(SPS));
        video(&mut intake, &mut told, 50, &picture(false, 0));
        assert!(told.words().is_empty() && !intake.has_begun());
        video(&mut intake, &mut told, 50, &picture(true, 0));
        assert_eq!(told.words(), ["video 1080", "audio 48000", "IDR", "sound", "sound"]);
        assert_eq!(
            kinds(&mut intake),
            [
                "audio_before_config",
                "video_before_config",
                "video_before_idr",
                "audio_before_start",
                "audio_before_start"
            ]
        );
    }

    #[test]
    fn rows_22_24_25_only_changed_formats_are_told_and_video_waits_for_its_idr() {
        let (mut intake, mut told) = (Intake::new(START), Told::default());
        for _ in 0..3 {
            audio(&mut intake, &mut told, 0, AUDIO_CONFIG);
            video(&mut intake, &mut told, 0, &video_config(SPS));
        }
        video(&mut intake, &mut told, 0, &picture(true, 0));
        video(&mut intake, &mut told, 40, &video_config(SPS));
        audio(&mut intake, &mut told, 40, AUDIO_CONFIG);
        video(&mut intake, &mut told, 40, &picture(false, 0));
        audio(&mut intake, &mut told, 40, AUDIO_FRAME);
        assert_eq!(told.words(), ["video 1080", "audio 48000", "IDR", "P", "sound"]);
        video(&mut intake, &mut told, 80, &video_config(SPS_480P));
        video(&mut intake, &mut told, 80, &picture(false, 0));
        video(&mut intake, &mut told, 120, &picture(true, 0));
        audio(&mut intake, &mut told, 120, &[0xaf, 0, 0x12, 0x10]);
        audio(&mut intake, &mut told, 120, AUDIO_FRAME);
        assert_eq!(told.words(), ["video 480", "IDR", "audio 44100", "sound"]);
    }

    #[test]
    fn row_25_a_format_from_within_the_stream_comes_before_its_idr() {
        let nal = |nal: &[u8]| [&u32::try_from(nal.len()).unwrap().to_be_bytes()[..], nal].concat();
        let (mut intake, mut told) = (Intake::new(START), Told::default());
        let sets = [&[0x17, 1, 0, 0, 0][..], &nal(SPS), &nal(PPS)].concat();
        video(&mut intake, &mut told, 0, &sets);
        video(&mut intake, &mut told, 0, &picture(true, 0));
        assert_eq!(told.words(), ["video 1080", "IDR"]);
    }

    #[test]
    fn row_23_sound_that_cannot_be_served_is_refused_with_the_reason() {
        let mut intake = Intake::new(START);
        let refused = intake.audio(0, Bytes::from_static(&[0x5f, 1, 2, 3]), &mut Vec::new()).unwrap_err().to_string();
        assert!(refused.contains("Nellymoser") && refused.contains("choose AAC"), "{refused}");
    }

    #[test]
    fn row_23_sound_that_turns_into_another_codec_is_left_out_and_told_once() {
        let (mut intake, mut told) = (Intake::new(START), Told::default());
        audio(&mut intake, &mut told, 0, AUDIO_CONFIG);
        for _ in 0..3 {
            audio(&mut intake, &mut told, 0, &[0x5f, 1, 2, 3]);
        }
        assert_eq!(kinds(&mut intake), ["audio_codec", "told", "audio_codec", "audio_codec"]);
        video(&mut intake, &mut told, 0, &video_config(SPS));
        video(&mut intake, &mut told, 0, &picture(true, 0));
        assert_eq!(told.words(), ["video 1080", "audio 48000", "IDR"]);
    }

    #[test]
    fn row_33_other_video_codecs_are_refused_unless_there_is_one_to_show() {
        let (mut intake, mut told) = (Intake::new(START), Told::default());
        let refused = intake.video(0, Bytes::from_static(&[0x14, 0]), &mut told.0).unwrap_err().to_string();
        assert!(refused.contains("VP6 is not supported") && refused.contains("HEVC"), "{refused}");
        video(&mut intake, &mut told, 0, &video_config(SPS));
        video(&mut intake, &mut told, 0, b"\x90vp08");
        video(&mut intake, &mut told, 0, b"\x96\x00avc1\x10");
        assert_eq!(kinds(&mut intake), ["video_codec", "video_codec", "further_track"]);
    }

    #[test]
    fn rows_24_31_33_a_change_of_codec_is_a_format_before_its_key_picture() {
        let (mut intake, mut told) = (Intake::new(START), Told::default());
        video(&mut intake, &mut told, 0, &video_config(SPS));
        video(&mut intake, &mut told, 0, &picture(true, 0));
        video(&mut intake, &mut told, 40, &[b"\x90hvc1", &hevc_record()[..]].concat());
        let hevc = |kind: u8| [&[0x1c, 1, 0, 0, 0, 0, 0, 0, 3][..], &[kind << 1, 1, 9]].concat();
        video(&mut intake, &mut told, 40, &hevc(1));
        video(&mut intake, &mut told, 80, &hevc(19));
        video(&mut intake, &mut told, 120, &hevc(1));
        assert_eq!(told.words(), ["video 1080", "IDR", "video 180", "IDR", "P"]);
        video(&mut intake, &mut told, 160, &video_config(SPS));
        video(&mut intake, &mut told, 160, &picture(true, 0));
        video(&mut intake, &mut told, 200, &[b"\x90av01", AV1_RECORD].concat());
        video(&mut intake, &mut told, 200, b"\x93av01\x32\x03\x10\xaa\xbb");
        video(&mut intake, &mut told, 240, &[b"\x93vp09", VP9_KEY].concat());
        assert_eq!(told.words(), ["video 1080", "IDR", "video 180", "IDR", "video 180", "IDR"]);
        assert_eq!(kinds(&mut intake), ["video_before_idr"]);
    }

    #[test]
    fn row_32_further_tracks_begin_with_their_own_key_after_the_first() {
        let (mut intake, mut told) = (Intake::new(START), Told::default());
        let config = [&[0x96, 0x00][..], b"avc1", &[1], &avc_record(SPS_480P, PPS)].concat();
        let frame = |nal: u8| [&[0x96, 0x03][..], b"avc1", &[1, 0, 0, 0, 3, nal, 1, 2]].concat();
        video(&mut intake, &mut told, 0, &config);
        video(&mut intake, &mut told, 0, &frame(0x65));
        assert!(told.0.is_empty(), "before the first track");
        video(&mut intake, &mut told, 0, &video_config(SPS));
        video(&mut intake, &mut told, 0, &picture(true, 0));
        video(&mut intake, &mut told, 40, &frame(0x41));
        video(&mut intake, &mut told, 40, &picture(false, 0));
        video(&mut intake, &mut told, 80, &picture(true, 0));
        video(&mut intake, &mut told, 80, &frame(0x65));
        let times: Vec<_> = told
            .0
            .iter()
            .filter_map(|event| match event {
                SourceEvent::Unit(track, unit) => Some((*track, (unit.pts - START).as_millis())),
                _ => None,
            })
            .collect();
        assert_eq!(times, [(Track::VIDEO, 0), (Track::VIDEO, 40), (Track::VIDEO, 80), (Track::Video(1), 80)]);
        assert!(matches!(told.0[4], SourceEvent::Format(Track::Video(1), _)), "{:?}", told.0[4]);
        assert_eq!(kinds(&mut intake), ["video_before_idr", "video_before_idr"]);
    }

    #[test]
    fn row_12_a_jump_is_told_once_before_what_is_behind_it() {
        let (mut intake, mut told) = (Intake::new(START), Told::default());
        audio(&mut intake, &mut told, 50_000, AUDIO_CONFIG);
        video(&mut intake, &mut told, 50_000, &video_config(SPS));
        video(&mut intake, &mut told, 50_000, &picture(true, 0));
        audio(&mut intake, &mut told, 50_000, AUDIO_FRAME);
        audio(&mut intake, &mut told, 0, AUDIO_FRAME);
        video(&mut intake, &mut told, 0, &picture(true, 0));
        assert_eq!(told.words(), ["video 1080", "audio 48000", "IDR", "sound", "discontinuity", "sound", "IDR"]);
    }

    #[test]
    fn lesson_30_further_sounds_are_counted_and_left_out() {
        let (mut intake, mut told) = (Intake::new(START), Told::default());
        audio(&mut intake, &mut told, 0, b"\x95\x00mp4a\x01\x11\x90");
        audio(&mut intake, &mut told, 0, b"\x95\x01mp4a\x01\x21");
        assert_eq!(kinds(&mut intake), ["further_audio"; 2]);
        video(&mut intake, &mut told, 0, &video_config(SPS));
        video(&mut intake, &mut told, 0, &picture(true, 0));
        assert_eq!(told.words(), ["video 1080", "IDR"]);
    }

    #[test]
    fn row_31_metadata_tell_the_colours() {
        let (mut intake, mut told) = (Intake::new(START), Told::default());
        let number = |name: &str, value: f64| (name.to_owned(), Amf0Value::Number(value));
        let points = [
            number("colorPrimaries", 9.0),
            number("transferCharacteristics", 16.0),
            number("matrixCoefficients", f64::NAN),
        ];
        let info = Amf0Value::Object([("colorConfig".to_owned(), Amf0Value::Object(points.into()))].into());
        let values = rml_amf0::serialize(&vec![Amf0Value::Utf8String("colorInfo".into()), info]).unwrap();
        video(&mut intake, &mut told, 0, &video_config(SPS));
        video(&mut intake, &mut told, 0, &[&b"\x84avc1"[..], &values].concat());
        video(&mut intake, &mut told, 0, b"\x84avc1\x02\x00");
        video(&mut intake, &mut told, 0, &picture(true, 0));
        let SourceEvent::Format(_, TrackFormat::Video(format)) = &told.0[0] else { panic!() };
        let colour = format.coding.colour.unwrap();
        assert_eq!((colour.primaries, colour.transfer, colour.matrix), (9, 16, 2));
        assert_eq!(kinds(&mut intake), ["video_metadata"]);
    }

    #[test]
    fn row_23_packets_of_any_length_follow_each_other() {
        let (mut intake, mut told) = (Intake::new(START), Told::default());
        video(&mut intake, &mut told, 0, &video_config(SPS));
        video(&mut intake, &mut told, 0, &picture(true, 0));
        for (timestamp, toc) in [(0, 0xe0u8), (3, 0xf8), (23, 0x18), (83, 0xe0)] {
            audio(&mut intake, &mut told, timestamp, &[b"\x91Opus", &[toc, 7][..]].concat());
        }
        let micros = |time: MediaTime| time.as_nanos() / 1000;
        let sounds: Vec<_> = told
            .0
            .iter()
            .filter_map(|event| match event {
                SourceEvent::Unit(Track::Audio, unit) => Some((micros(unit.pts - START), micros(unit.duration))),
                _ => None,
            })
            .collect();
        assert_eq!(sounds, [(0, 2_500), (2_500, 20_000), (22_500, 60_000), (82_500, 2_500)]);
    }

    #[test]
    fn row_22_row_30_odd_tags_are_counted_and_change_nothing() {
        let (mut intake, mut told) = (Intake::new(START), Told::default());
        for body in [&[][..], &[0x17], &[0x57, 0], &[0x17, 2, 0, 0, 0], &[0x17, 0, 0, 0, 0], &[0x17, 7, 0, 0, 0]] {
            video(&mut intake, &mut told, 0, body);
        }
        audio(&mut intake, &mut told, 0, AUDIO_CONFIG);
        for body in [&[][..], &[0xaf], &[0xaf, 1]] {
            audio(&mut intake, &mut told, 0, body);
        }
        assert_eq!(
            kinds(&mut intake),
            [
                "empty_tag",
                "truncated_tag",
                "command_frame",
                "end_of_sequence",
                "video_config",
                "packet_type",
                "empty_tag",
                "truncated_tag",
                "empty_tag"
            ]
        );
    }

    #[test]
    fn row_30_an_end_of_sequence_ends_nothing() {
        let (mut intake, mut told) = (Intake::new(START), Told::default());
        audio(&mut intake, &mut told, 0, AUDIO_CONFIG);
        video(&mut intake, &mut told, 0, &video_config(SPS));
        video(&mut intake, &mut told, 0, &picture(true, 0));
        video(&mut intake, &mut told, 40, &[0x17, 2, 0, 0, 0]);
        video(&mut intake, &mut told, 40, b"\x92avc1");
        audio(&mut intake, &mut told, 40, b"\x92mp4a");
        video(&mut intake, &mut told, 40, &picture(false, 0));
        audio(&mut intake, &mut told, 40, AUDIO_FRAME);
        assert_eq!(told.words(), ["video 1080", "audio 48000", "IDR", "P", "sound"]);
        assert_eq!(kinds(&mut intake), ["end_of_sequence"; 3]);
    }

    #[test]
    fn row_16_what_the_tag_calls_a_keyframe_is_none_without_an_idr() {
        let (mut intake, mut told) = (Intake::new(START), Told::default());
        let recovery = [0x17, 1, 0, 0, 0, 0, 0, 0, 4, 0x41, 1, 2, 3];
        video(&mut intake, &mut told, 0, &video_config(SPS));
        video(&mut intake, &mut told, 0, &recovery);
        assert!(told.0.is_empty(), "nothing begins with it");
        video(&mut intake, &mut told, 40, &picture(true, 0));
        video(&mut intake, &mut told, 80, &recovery);
        assert_eq!(told.words(), ["video 1080", "IDR", "P"]);
        assert_eq!(kinds(&mut intake), ["video_before_idr"]);
    }

    #[test]
    fn what_is_held_before_the_first_idr_is_bounded() {
        let (mut intake, mut told) = (Intake::new(START), Told::default());
        audio(&mut intake, &mut told, 0, AUDIO_CONFIG);
        for n in 0..10_000 {
            audio(&mut intake, &mut told, n * 21, AUDIO_FRAME);
        }
        assert_eq!(intake.held.len(), HELD_FRAMES_MAX);
        for _ in 0..200 {
            audio(&mut intake, &mut told, 0, &[&[0xaf, 1][..], &[0; 100_000]].concat());
        }
        assert_eq!(intake.held.len(), HELD_BYTES_MAX / 100_000);
    }

    proptest! {
        #[test]
        fn garbage_never_panics_and_formats_come_first(
            bodies in prop::collection::vec((any::<u32>(), prop::sample::select(vec![0x17u8, 0x27, 0xaf, 0x57, 0x97]), 0u8..3, prop::collection::vec(any::<u8>(), 0..30)), 0..40)
        ) {
            let (mut intake, mut told) = (Intake::new(START), Told::default());
            video(&mut intake, &mut told, 0, &video_config(SPS));
            for (timestamp, first, second, rest) in bodies {
                let body: Bytes = [&[first, second][..], &rest].concat().into();
                let _ = intake.video(timestamp, body.clone(), &mut told.0);
                let _ = intake.audio(timestamp, body, &mut told.0);
                video(&mut intake, &mut told, timestamp, &picture(true, 0));
                audio(&mut intake, &mut told, timestamp, AUDIO_CONFIG);
                audio(&mut intake, &mut told, timestamp, AUDIO_FRAME);
            }
            let words = told.words();
            let first = |prefix: &str| words.iter().position(|w| w.starts_with(prefix));
            prop_assert!(first("sound").is_none() || first("audio") < first("sound"));
            prop_assert!(first("IDR").is_none() || first("video") < first("IDR"));
        }
    }
}
