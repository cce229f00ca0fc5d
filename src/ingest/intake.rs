//! A publisher's audio and video messages become the events of its channel.
//!
//! Joins the readers of tags, H.264, AAC and time. Pure; what it skips and mends it reports as [`Note`]s.

use std::collections::VecDeque;

use bytes::Bytes;

use super::aac::AacConfig;
use super::avc::AvcReader;
use super::flv::{AudioTag, TagError, VideoTag, audio_tag, video_tag};
use super::sound::SoundError;
use super::timeline::{AudioTime, Timeline};
use crate::media::{AccessUnit, MediaTime, Track, TrackFormat};
use crate::source::SourceEvent;

/// Something in the input was not as it should be; the stream goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// It was mended or left out; the kind, for counting.
    Repair(&'static str),
    /// The sound has a codec that is not taken: the stream goes on as if silent. Said once.
    AudioCodec(String),
}

/// The picture has a codec that is not taken, so there is nothing to publish.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this server takes H.264 video, and {0}: choose an H.264 (x264, NVENC, QuickSync, AMF, VideoToolbox) encoder")]
pub struct VideoUnsupported(String);

/// What is kept of one publisher's media between messages.
#[derive(Debug)]
pub struct Intake {
    timeline: Timeline,
    avc: AvcReader,
    aac: Option<AacConfig>,
    video_format_due: bool,
    audio_format_due: bool,
    /// Audio from before the first IDR. Bounded; the oldest leaves first.
    held: VecDeque<(u32, Bytes)>,
    audio_codec_told: bool,
    notes: Vec<Note>,
}

impl Intake {
    /// For a publisher whose first IDR is shown at `start`.
    #[must_use]
    pub fn new(start: MediaTime) -> Self {
        Self {
            timeline: Timeline::new(start),
            avc: AvcReader::default(),
            aac: None,
            video_format_due: false,
            audio_format_due: false,
            held: VecDeque::new(),
            audio_codec_told: false,
            notes: Vec::new(),
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
    /// [`VideoUnsupported`], where there is no H.264 in this stream.
    pub fn video(
        &mut self,
        timestamp: u32,
        body: Bytes,
        events: &mut Vec<SourceEvent>,
    ) -> Result<(), VideoUnsupported> {
        match video_tag(body) {
            Ok(VideoTag::Config(record)) => match self.avc.configure(&record) {
                Ok(changed) => self.video_format_due |= changed,
                Err(error) => self.note(error.word()),
            },
            Ok(VideoTag::Frame { composition_millis, data }) => {
                self.picture(timestamp, composition_millis, &data, events)
            }
            Ok(VideoTag::EndOfSequence) => self.note("end_of_sequence"),
            Ok(VideoTag::Command) => self.note("command_frame"),
            Err(error @ TagError::Codec(_)) if self.avc.format().is_none() => {
                return Err(VideoUnsupported(error.to_string()));
            }
            Err(error) => self.note(tag_word(&error)),
        }
        Ok(())
    }

    /// Takes an audio message; what follows from it is added to `events`.
    pub fn audio(&mut self, timestamp: u32, body: Bytes, events: &mut Vec<SourceEvent>) {
        match audio_tag(body) {
            Ok(AudioTag::Config(config)) => self.configure_audio(&config),
            Ok(AudioTag::Frame(data)) => self.audio_frame(timestamp, data, events),
            Err(TagError::Codec(codec)) => self.audio_unsupported(codec),
            Err(error) => self.note(tag_word(&error)),
        }
    }

    fn picture(&mut self, timestamp: u32, composition_millis: i32, data: &Bytes, events: &mut Vec<SourceEvent>) {
        let picture = match self.avc.picture(data) {
            Ok((picture, changed)) => {
                self.video_format_due |= changed;
                picture
            }
            Err(error) => return self.note(error.word()),
        };
        // What follows a new format is not decodable before the IDR that the format is for.
        if self.video_format_due && !picture.key {
            return self.note("video_before_idr");
        }
        let begins = !self.has_begun();
        let Some(time) = self.timeline.video(timestamp, composition_millis, picture.key) else {
            return self.note("video_before_idr");
        };
        self.push_video_format(events);
        self.push_audio_format(events);
        let unit = AccessUnit {
            dts: time.dts,
            pts: time.pts,
            duration: MediaTime::ZERO,
            key: picture.key,
            data: picture.data,
        };
        events.push(SourceEvent::Unit(Track::VIDEO, unit));
        if begins {
            self.release_held(events);
        }
    }

    fn push_video_format(&mut self, events: &mut Vec<SourceEvent>) {
        if std::mem::take(&mut self.video_format_due)
            && let Some(format) = self.avc.format()
        {
            events.push(SourceEvent::Format(Track::VIDEO, TrackFormat::Video(format.clone())));
        }
    }

    fn push_audio_format(&mut self, events: &mut Vec<SourceEvent>) {
        if std::mem::take(&mut self.audio_format_due)
            && let Some(aac) = &self.aac
        {
            events.push(SourceEvent::Format(Track::Audio, TrackFormat::Audio(aac.format.clone())));
        }
    }

    fn configure_audio(&mut self, config: &Bytes) {
        // Some encoders repeat it every second.
        if self.aac.as_ref().is_some_and(|known| known.format.config == config) {
            return;
        }
        match AacConfig::parse(config) {
            Ok(aac) => {
                self.timeline.set_audio(aac.format.sample_rate, aac.frame_samples);
                self.aac = Some(aac);
                self.audio_format_due = true;
            }
            Err(error @ SoundError::FalseConfig) => {
                self.note("audio_config");
                self.audio_told(error.to_string());
            }
            Err(error) => self.audio_unsupported(error.to_string()),
        }
    }

    fn audio_frame(&mut self, timestamp: u32, data: Bytes, events: &mut Vec<SourceEvent>) {
        let Some(aac) = &self.aac else { return self.note("audio_before_config") };
        if data.is_empty() {
            return self.note("empty_tag");
        }
        let duration = MediaTime::from_ticks(i64::from(aac.frame_samples), aac.format.sample_rate);
        let time = match self.timeline.audio(timestamp) {
            AudioTime::At(time) => time,
            AudioTime::Early => return self.hold(timestamp, data),
            AudioTime::BeforeStart => return self.note("audio_before_start"),
        };
        self.push_audio_format(events);
        events.push(SourceEvent::Unit(Track::Audio, AccessUnit { dts: time, pts: time, duration, key: true, data }));
    }

    fn hold(&mut self, timestamp: u32, data: Bytes) {
        if data.len() > HELD_FRAME_BYTES_MAX {
            return self.note("audio_before_start");
        }
        if self.held.len() >= HELD_FRAMES_MAX {
            self.held.pop_front();
            self.note("audio_before_start");
        }
        self.held.push_back((timestamp, data));
    }

    fn release_held(&mut self, events: &mut Vec<SourceEvent>) {
        for (timestamp, data) in std::mem::take(&mut self.held) {
            self.audio_frame(timestamp, data, events);
        }
    }

    fn audio_unsupported(&mut self, what: String) {
        self.note("audio_codec");
        self.audio_told(what);
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

fn tag_word(error: &TagError) -> &'static str {
    match error {
        TagError::Empty => "empty_tag",
        TagError::Truncated => "truncated_tag",
        TagError::Codec(_) => "video_codec",
        TagError::PacketType(_) => "packet_type",
        TagError::FurtherTrack => "further_track",
    }
}

/// Three seconds at 48 kHz: more than encoders let sound and picture run apart.
const HELD_FRAMES_MAX: usize = 144;
/// More than any AAC frame of 8 channels has (14496-3, 4.5.1.1: 768 bytes a channel); what is larger is not AAC.
const HELD_FRAME_BYTES_MAX: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::scripted::{AUDIO_CONFIG, AUDIO_FRAME, PPS, SPS, SPS_480P, picture, video_config};
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
        intake.audio(timestamp, Bytes::copy_from_slice(body), &mut told.0);
    }

    fn kinds(intake: &mut Intake) -> Vec<&'static str> {
        let kind = |note| match note {
            Note::Repair(kind) => kind,
            Note::AudioCodec(_) => "told",
        };
        intake.take_notes().into_iter().map(kind).collect()
    }

    #[test]
    fn row_20_audio_from_before_the_first_idr_is_kept_where_it_belongs_behind_it() {
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
    fn a_format_from_within_the_stream_comes_before_its_idr() {
        let nal = |nal: &[u8]| [&u32::try_from(nal.len()).unwrap().to_be_bytes()[..], nal].concat();
        let (mut intake, mut told) = (Intake::new(START), Told::default());
        let sets = [&[0x17, 1, 0, 0, 0][..], &nal(SPS), &nal(PPS)].concat();
        video(&mut intake, &mut told, 0, &sets);
        video(&mut intake, &mut told, 0, &picture(true, 0));
        assert_eq!(told.words(), ["video 1080", "IDR"]);
    }

    #[test]
    fn row_23_other_audio_codecs_are_left_out_and_told_once() {
        let (mut intake, mut told) = (Intake::new(START), Told::default());
        for _ in 0..3 {
            audio(&mut intake, &mut told, 0, &[0x2f, 1, 2, 3]);
        }
        assert_eq!(kinds(&mut intake), ["audio_codec", "told", "audio_codec", "audio_codec"]);
        video(&mut intake, &mut told, 0, &video_config(SPS));
        video(&mut intake, &mut told, 0, &picture(true, 0));
        assert_eq!(told.words(), ["video 1080", "IDR"]);
    }

    #[test]
    fn row_33_other_video_codecs_are_refused_unless_there_is_h264_too() {
        let (mut intake, mut told) = (Intake::new(START), Told::default());
        let refused = intake.video(0, Bytes::from_static(b"\x90hvc1"), &mut told.0).unwrap_err().to_string();
        assert!(refused.contains("HEVC") && refused.contains("H.264"), "{refused}");
        video(&mut intake, &mut told, 0, &video_config(SPS));
        video(&mut intake, &mut told, 0, b"\x90hvc1");
        video(&mut intake, &mut told, 0, b"\x96\x00avc1\x01");
        assert_eq!(kinds(&mut intake), ["video_codec", "further_track"]);
    }

    #[test]
    fn row_30_odd_tags_are_counted_and_change_nothing() {
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
    fn what_is_held_before_the_first_idr_is_bounded() {
        let (mut intake, mut told) = (Intake::new(START), Told::default());
        audio(&mut intake, &mut told, 0, AUDIO_CONFIG);
        for n in 0..10_000 {
            audio(&mut intake, &mut told, n * 21, AUDIO_FRAME);
        }
        audio(&mut intake, &mut told, 0, &[&[0xaf, 1][..], &[0; 100_000]].concat());
        assert_eq!(intake.held.len(), HELD_FRAMES_MAX);
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
                intake.audio(timestamp, body, &mut told.0);
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
