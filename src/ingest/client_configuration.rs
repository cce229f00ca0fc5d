//! `GetClientConfiguration` of OBS Multitrack Video: which tracks an encoder is to send, from the channel's ladder and
//! from what the encoder can do.
//!
//! Field names and their meaning are those of OBS (`frontend/utility/models/multitrack-video.hpp`). Pure; [`driver`]
//! checks the stream key.

pub mod driver;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::{LadderConfig, RenditionSource};

/// What an encoder says of itself and asks for. Unknown fields are passed over.
#[derive(Clone, Deserialize)]
pub struct Asked {
    /// The stream key.
    #[serde(default)]
    pub authentication: String,
    #[serde(default)]
    client: Client,
    #[serde(default)]
    capabilities: Capabilities,
    #[serde(default)]
    preferences: Preferences,
}

#[derive(Clone, Default, Deserialize)]
struct Client {
    #[serde(default)]
    supported_codecs: Vec<String>,
    /// Of newer versions only.
    #[serde(default)]
    supported_encoders: Vec<String>,
}

#[derive(Clone, Default, Deserialize)]
struct Capabilities {
    #[serde(default)]
    gpu: Option<Vec<Gpu>>,
}

#[derive(Clone, Deserialize)]
struct Gpu {
    #[serde(default)]
    vendor_id: u32,
}

#[derive(Clone, Default, Deserialize)]
struct Preferences {
    /// Kilobits a second of all tracks.
    maximum_aggregate_bitrate: Option<u64>,
    maximum_video_tracks: Option<u32>,
    #[serde(default)]
    vod_track_audio: bool,
    composition_gpu_index: Option<u32>,
    audio_channels: Option<u32>,
    #[serde(default)]
    canvases: Vec<Canvas>,
    /// Before schema 2025-01-25 there was one canvas, and its fields stood here.
    #[serde(flatten)]
    canvas: Option<Canvas>,
}

/// The picture: as large as the streamer wants to send it.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Canvas {
    width: u32,
    height: u32,
    framerate: FrameRate,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct FrameRate {
    numerator: u32,
    denominator: u32,
}

/// What the server has to offer.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// The channel's ladder.
    pub ladder: &'a LadderConfig,
    /// Seconds of a segment, which the keyframe interval divides.
    pub segment_secs: f64,
    /// Where to publish, without the key: `rtmp://HOST/live`.
    pub url: &'a str,
    /// Names this answer.
    pub config_id: &'a str,
}

/// A video track to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rung {
    width: u32,
    height: u32,
    kbps: u64,
}

impl Asked {
    /// Reads a request.
    ///
    /// # Errors
    /// What is wrong with it, for the streamer.
    pub fn read(request: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(request).map_err(|error| format!("the request of the encoder cannot be read: {error}"))
    }

    fn canvas(&self) -> Result<Canvas, String> {
        let canvas = self.preferences.canvases.first().copied().or(self.preferences.canvas);
        let canvas = canvas.ok_or("the encoder did not say how large its picture is")?;
        let FrameRate { numerator, denominator } = canvas.framerate;
        let sizes = 64..=8192;
        if sizes.contains(&canvas.width) && sizes.contains(&canvas.height) && numerator > 0 && denominator > 0 {
            Ok(canvas)
        } else {
            Err(format!(
                "a picture of {}x{} at {numerator}/{denominator} fps cannot be sent",
                canvas.width, canvas.height
            ))
        }
    }

    /// The encoder that does the least harm to what else runs on the streamer's machine.
    fn encoder(&self) -> &'static str {
        let gpus = self.capabilities.gpu.as_deref().unwrap_or_default();
        let composing = self.preferences.composition_gpu_index.and_then(|index| gpus.get(usize::try_from(index).ok()?));
        let of = |gpu: &Gpu| match gpu.vendor_id {
            0x10de => NVENC,
            0x1002 => AMF,
            0x8086 => QSV,
            _ => X264,
        };
        let preferred = composing.or(gpus.first()).map_or(X264, of);
        let offered = |encoder: &&str| self.client.supported_encoders.iter().any(|known| known == encoder);
        if self.client.supported_encoders.is_empty() {
            return preferred;
        }
        [preferred, NVENC, AMF, QSV].into_iter().find(offered).unwrap_or(X264)
    }
}

/// The answer to an encoder whose key is good.
///
/// # Errors
/// Why no track can be sent, for the streamer.
pub fn configuration(asked: &Asked, offer: &Offer<'_>) -> Result<Value, String> {
    let codecs = &asked.client.supported_codecs;
    if !codecs.is_empty() && !codecs.iter().any(|codec| codec == "h264") {
        return Err("the encoder has no H.264, which this server asks for".to_owned());
    }
    let canvas = asked.canvas()?;
    let audio_kbps = (offer.ladder.audio_bitrate / 1000).max(1);
    let rungs = within(rungs(&canvas, offer.ladder), &asked.preferences, audio_kbps)?;
    let keyint = keyint_secs(offer.segment_secs);
    let encoder = asked.encoder();
    let tracks: Vec<Value> = rungs.iter().map(|rung| track(rung, encoder, canvas.framerate, keyint)).collect();
    let channels = asked.preferences.audio_channels.filter(|n| (1..=8).contains(n)).unwrap_or(2);
    let audio = |track: u32| json!([{ "codec": "aac", "track_id": track, "channels": channels, "settings": { "bitrate": audio_kbps } }]);
    let mut audio_configurations = json!({ "live": audio(1) });
    if asked.preferences.vod_track_audio
        && let Some(audios) = audio_configurations.as_object_mut()
    {
        audios.insert("vod".to_owned(), audio(2));
    }
    Ok(json!({
        "meta": meta(offer.config_id),
        "status": { "result": "success" },
        "ingest_endpoints": [{
            "protocol": if offer.url.starts_with("rtmps:") { "RTMPS" } else { "RTMP" },
            "url_template": format!("{}/{{stream_key}}", offer.url.trim_end_matches('/')),
        }],
        "encoder_configurations": tracks,
        "audio_configurations": audio_configurations,
    }))
}

/// The answer that has OBS show `text` and not start.
#[must_use]
pub fn refusal(text: &str, config_id: &str) -> Value {
    let html = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    json!({
        "meta": meta(config_id),
        "status": { "result": "error", "html_en_us": html },
        "ingest_endpoints": [],
        "encoder_configurations": [],
        "audio_configurations": { "live": [] },
    })
}

fn meta(config_id: &str) -> Value {
    json!({ "service": "Headwater", "schema_version": "2025-01-25", "config_id": config_id })
}

/// The ladder's renditions as the encoder can make them: its own picture where one is passed through, and those that
/// are smaller. Best first; where none fits, the encoder's own picture alone.
fn rungs(canvas: &Canvas, ladder: &LadderConfig) -> Vec<Rung> {
    let whole = |kbps| Rung { width: even(canvas.width), height: even(canvas.height), kbps };
    let rung = |source: &RenditionSource| match *source {
        RenditionSource::Passthrough { bitrate } => {
            Some(whole(bitrate.map_or_else(|| usual_kbps(canvas), |b| b / 1000)))
        }
        RenditionSource::Encode { height, bitrate } if height < canvas.height => {
            let width = u64::from(canvas.width) * u64::from(height) / u64::from(canvas.height);
            let width = even(u32::try_from(width).unwrap_or(canvas.width).max(2));
            Some(Rung { width, height: even(height), kbps: bitrate / 1000 })
        }
        RenditionSource::Encode { height, bitrate } if height == canvas.height => Some(whole(bitrate / 1000)),
        RenditionSource::Encode { .. } => None,
    };
    let mut rungs: Vec<Rung> = ladder.renditions.iter().filter_map(|rendition| rung(&rendition.source)).collect();
    // Of two of one size the first is the better.
    let mut sizes = std::collections::BTreeSet::new();
    rungs.retain(|rung| sizes.insert((rung.width, rung.height)));
    rungs.sort_by_key(|rung| std::cmp::Reverse(rung.height));
    if rungs.is_empty() {
        rungs.push(whole(usual_kbps(canvas)));
    }
    rungs
}

/// Pictures are coded in 4:2:0, whose sizes are even.
fn even(size: u32) -> u32 {
    size & !1
}

/// A tenth of a bit for each pixel up to 30 pictures a second, and half of that beyond: 2.8 Mbit/s for 720p30,
/// 9.3 Mbit/s for 1080p60.
fn usual_kbps(canvas: &Canvas) -> u64 {
    let FrameRate { numerator, denominator } = canvas.framerate;
    let rate = (u64::from(numerator) / u64::from(denominator.max(1))).clamp(1, 120);
    let weighed = rate.min(30) * 2 + rate.saturating_sub(30);
    (u64::from(canvas.width) * u64::from(canvas.height) * weighed / 20_000).max(KBPS_MIN)
}

/// Keeps to the streamer's limits. The smallest renditions go first: the server can make those from the others at the
/// least cost. The best one gives up bits before that, as far as it stays clearly better than the next.
fn within(mut rungs: Vec<Rung>, preferences: &Preferences, audio_kbps: u64) -> Result<Vec<Rung>, String> {
    let tracks = preferences.maximum_video_tracks.and_then(|max| usize::try_from(max).ok()).unwrap_or(TRACKS_MAX);
    rungs.truncate(tracks.clamp(1, TRACKS_MAX));
    let Some(limit) = preferences.maximum_aggregate_bitrate else { return Ok(rungs) };
    let limit = limit.saturating_sub(audio_kbps);
    while let Some((best, others)) = rungs.split_first_mut() {
        let left = limit.saturating_sub(others.iter().map(|rung| rung.kbps).sum());
        let least = others.first().map_or(KBPS_MIN, |next| next.kbps.saturating_mul(6) / 5).min(best.kbps);
        if left >= least {
            best.kbps = best.kbps.min(left);
            return Ok(rungs);
        }
        rungs.pop();
    }
    Err(format!("the limit of the bit rate is too low: at least {} kbit/s are needed", KBPS_MIN + audio_kbps))
}

/// The longest interval of 1 or 2 s that divides a segment.
fn keyint_secs(segment_secs: f64) -> u32 {
    if (segment_secs / 2.0).fract().abs() < 1e-6 { 2 } else { 1 }
}

fn track(rung: &Rung, encoder: &'static str, rate: FrameRate, keyint: u32) -> Value {
    json!({
        "type": encoder,
        "width": rung.width,
        "height": rung.height,
        "framerate": { "numerator": rate.numerator, "denominator": rate.denominator },
        "gpu_scale_type": "OBS_SCALE_BICUBIC",
        "colorspace": "VIDEO_CS_709",
        "range": "VIDEO_RANGE_PARTIAL",
        "format": "VIDEO_FORMAT_NV12",
        "canvas_index": 0,
        "settings": settings(encoder, rung.kbps, keyint),
    })
}

/// What the encoder plugins of OBS understand. No B-frames, so that all tracks have the same delay.
fn settings(encoder: &str, kbps: u64, keyint: u32) -> Value {
    let mut settings = json!({ "rate_control": "CBR", "bitrate": kbps, "keyint_sec": keyint, "profile": "high" });
    let own = match encoder {
        NVENC => {
            json!({ "preset": "p4", "tune": "hq", "multipass": "qres", "bf": 0, "lookahead": false, "psycho_aq": true })
        }
        AMF => json!({ "preset": "quality", "bf": 0 }),
        QSV => json!({ "target_usage": "TU4", "bframes": 0, "max_bitrate": kbps }),
        _ => json!({ "preset": "veryfast", "x264opts": "bframes=0 scenecut=0", "use_bufsize": false }),
    };
    if let (Some(settings), Value::Object(own)) = (settings.as_object_mut(), own) {
        settings.extend(own);
    }
    settings
}

const NVENC: &str = "obs_nvenc_h264_tex";
const AMF: &str = "h264_texture_amf";
const QSV: &str = "obs_qsv11_v2";
const X264: &str = "obs_x264";
/// What OBS can send at most (`MAX_OUTPUT_VIDEO_ENCODERS`).
const TRACKS_MAX: usize = 10;
/// Less is no picture.
const KBPS_MIN: u64 = 300;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{EncodeProfile, LongGop, MissingRungs, RenditionConfig};
    use crate::ladder::RenditionName;

    fn ladder(sources: &[RenditionSource]) -> LadderConfig {
        let named = |(i, source): (usize, &RenditionSource)| RenditionConfig {
            name: RenditionName::new(&format!("r{i}")).unwrap(),
            source: *source,
        };
        LadderConfig {
            name: "default".into(),
            profile: EncodeProfile::Balanced,
            long_gop: LongGop::Encode,
            missing_rungs: MissingRungs::Encode,
            renditions: sources.iter().enumerate().map(named).collect(),
            audio_bitrate: 128_000,
        }
    }

    fn shipped() -> LadderConfig {
        let encode = |height, bitrate| RenditionSource::Encode { height, bitrate };
        let passthrough = RenditionSource::Passthrough { bitrate: None };
        ladder(&[passthrough, encode(720, 2_800_000), encode(480, 1_400_000), encode(360, 800_000)])
    }

    /// What OBS 31 sends, shortened.
    fn request(extra: &str) -> Vec<u8> {
        format!(
            r#"{{"service":"IVS","schema_version":"2025-01-25","authentication":"key","client":{{"name":"obs-studio",
            "version":"31.0.0","supported_codecs":["av1","h264","h265"]}},"capabilities":{{"cpu":{{"physical_cores":8}},
            "gpu":[{{"model":"x","vendor_id":4318,"device_id":1,"dedicated_video_memory":1}}]}},"preferences":{{
            {extra}"vod_track_audio":false,"composition_gpu_index":0,"audio_samples_per_sec":48000,"audio_channels":2,
            "canvases":[{{"width":1920,"height":1080,"canvas_width":2560,"canvas_height":1440,
            "framerate":{{"numerator":60,"denominator":1}}}}]}}}}"#
        )
        .into_bytes()
    }

    fn answer(request: &[u8], ladder: &LadderConfig) -> Result<Value, String> {
        let offer = Offer { ladder, segment_secs: 4.0, url: "rtmp://h.example/live", config_id: "c0ffee" };
        configuration(&Asked::read(request)?, &offer)
    }

    fn tracks(request: &[u8], ladder: &LadderConfig) -> Vec<(u64, u64, u64)> {
        let answer = answer(request, ladder).unwrap();
        let number = |track: &Value, field: &str| track.pointer(field).and_then(Value::as_u64).unwrap();
        let tracks = answer["encoder_configurations"].as_array().unwrap();
        let track = |t| (number(t, "/width"), number(t, "/height"), number(t, "/settings/bitrate"));
        tracks.iter().map(track).collect()
    }

    fn check(answer: &Value, golden: &str) {
        let path = format!("{}/src/ingest/golden/{golden}", env!("CARGO_MANIFEST_DIR"));
        let text = serde_json::to_string_pretty(answer).unwrap() + "\n";
        if std::env::var_os("GOLDEN").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{golden}; GOLDEN=1 rewrites it");
    }

    #[test]
    fn obs_gets_the_ladder_of_its_channel() {
        check(&answer(&request(""), &shipped()).unwrap(), "client_configuration.json");
        check(&refusal("no channel has <this> key", "c0ffee"), "client_configuration_refusal.json");
    }

    #[test]
    fn the_ladder_fits_the_canvas() {
        let at = |width: u32, height: u32| {
            let canvas = format!(
                r#"{{"preferences":{{"canvases":[{{"width":{width},"height":{height},
                "framerate":{{"numerator":30,"denominator":1}}}}]}}}}"#
            );
            tracks(canvas.as_bytes(), &shipped())
        };
        assert_eq!(at(1280, 720), [(1280, 720, 2764), (852, 480, 1400), (640, 360, 800)], "720p once");
        assert_eq!(at(640, 360), [(640, 360, 691)]);
        assert_eq!(at(1081, 1921)[..2], [(1080, 1920, 6229), (404, 720, 2800)], "upright, and even");
        let small = ladder(&[RenditionSource::Encode { height: 2160, bitrate: 9_000_000 }]);
        assert_eq!(tracks(&request(""), &small), [(1920, 1080, 9331)], "never without a track");
    }

    #[test]
    fn limits_of_the_streamer_are_kept() {
        let limited = |limits: &str| tracks(&request(limits), &shipped());
        let rates = |limits: &str| limited(limits).into_iter().map(|(.., kbps)| kbps).collect::<Vec<_>>();
        assert_eq!(rates(r#""maximum_video_tracks":2,"#), [9331, 2800]);
        assert_eq!(rates(r#""maximum_video_tracks":0,"#), [9331], "the limit cannot mean no picture");
        assert_eq!(rates(r#""maximum_aggregate_bitrate":20000,"#), [9331, 2800, 1400, 800]);
        assert_eq!(rates(r#""maximum_aggregate_bitrate":12000,"#), [6872, 2800, 1400, 800]);
        assert_eq!(rates(r#""maximum_aggregate_bitrate":8000,"#), [3672, 2800, 1400]);
        assert_eq!(rates(r#""maximum_aggregate_bitrate":5000,"#), [4872]);
        let hopeless = answer(&request(r#""maximum_aggregate_bitrate":200,"#), &shipped()).unwrap_err();
        assert!(hopeless.contains("at least 428 kbit/s"), "{hopeless}");
    }

    #[test]
    fn the_encoder_is_one_that_the_client_has() {
        let with = |client: &str| {
            let text = format!(
                r#"{{{client}"preferences":{{"width":640,"height":360,"framerate":{{"numerator":30000,"denominator":1001}}}}}}"#
            );
            let answer = answer(text.as_bytes(), &shipped()).unwrap();
            answer["encoder_configurations"][0]["type"].as_str().unwrap().to_owned()
        };
        assert_eq!(with(""), X264, "of the older schema, too");
        for (vendor, encoder) in [(0x10de, NVENC), (0x1002, AMF), (0x8086, QSV), (0x1af4, X264)] {
            assert_eq!(with(&format!(r#""capabilities":{{"gpu":[{{"vendor_id":{vendor}}}]}},"#)), encoder);
        }
        assert_eq!(with(r#""capabilities":{"gpu":null},"client":{"supported_encoders":["obs_qsv11_v2"]},"#), QSV);
        assert_eq!(
            with(r#""capabilities":{"gpu":[{"vendor_id":4318}]},"client":{"supported_encoders":["obs_x264"]},"#),
            X264
        );
    }

    #[test]
    fn keyframes_divide_segments() {
        assert_eq!([4.0, 2.0, 6.0, 3.0, 1.0, 5.0].map(keyint_secs), [2, 2, 2, 1, 1, 1]);
    }

    #[test]
    fn what_cannot_be_answered_is_said() {
        let wrong = |request: &str| answer(request.as_bytes(), &shipped()).unwrap_err();
        assert!(wrong("{").contains("cannot be read"));
        assert!(wrong(r#"{"preferences":[]}"#).contains("cannot be read"));
        assert!(wrong("{}").contains("how large its picture is"));
        assert!(wrong(r#"{"client":{"supported_codecs":["av1"]}}"#).contains("no H.264"));
        let canvas = |width: u32, rate: u32| {
            wrong(&format!(
                r#"{{"preferences":{{"canvases":[{{"width":{width},"height":1,"framerate":{{"numerator":1,"denominator":{rate}}}}}]}}}}"#
            ))
        };
        assert!(canvas(u32::MAX, 1).contains("cannot be sent") && canvas(640, 0).contains("cannot be sent"));
    }
}
