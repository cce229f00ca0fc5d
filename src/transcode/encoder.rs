//! How `x264enc` is set, as properties by name. What each choice costs and buys is measured in `benches/processes.rs`.

use crate::config::EncodeProfile;

use super::plan::Encoding;
use super::probe::FrameRate;
use super::sizing::VBV;

/// IDRs stand at the cuts and nowhere else: x264's own limit is beyond any run of frames between two of them.
const KEY_DISTANCE: &str = "1073741823";

/// The property names and values of `x264enc` for a rendition.
pub(super) fn settings(encoding: &Encoding, profile: EncodeProfile, rate: FrameRate) -> Vec<(&'static str, String)> {
    let threads = threads(encoding, rate);
    let kbits = (encoding.bitrate / 1000).clamp(1, 2_000_000);
    let mut settings = vec![
        ("bitrate", kbits.to_string()),
        ("vbv-buf-capacity", VBV.as_millis().to_string()),
        ("key-int-max", KEY_DISTANCE.to_owned()),
        ("option-string", "scenecut=0".to_owned()),
        ("threads", threads.to_string()),
        ("byte-stream", "false".to_owned()),
        ("speed-preset", preset(encoding, profile).to_owned()),
    ];
    match profile {
        EncodeProfile::Balanced => settings.extend([
            ("bframes", b_frames(encoding).to_owned()),
            ("b-adapt", "true".to_owned()),
            ("mb-tree", "true".to_owned()),
            ("rc-lookahead", "10".to_owned()),
            ("sync-lookahead", "0".to_owned()),
        ]),
        EncodeProfile::LowLatency => settings.push(("tune", "zerolatency".to_owned())),
    }
    settings
}

/// The `profile` and, where CODECS is latched already, the `level` that the encoder's caps ask for.
pub(super) fn profile_and_level(encoding: &Encoding) -> (&'static str, Option<String>) {
    let Some((profile, level)) = encoding.stands_in else { return ("high", None) };
    let profile = match profile {
        66 => "constrained-baseline",
        77 => "main",
        _ => "high",
    };
    (profile, Some(level_text(level)))
}

/// `31` is level 3.1, `40` is level 4.
fn level_text(level: u8) -> String {
    match (level / 10, level % 10) {
        (whole, 0) => whole.to_string(),
        (whole, tenth) => format!("{whole}.{tenth}"),
    }
}

/// The small renditions can afford more of x264 for what they cost.
fn preset(encoding: &Encoding, profile: EncodeProfile) -> &'static str {
    match profile {
        EncodeProfile::Balanced if encoding.height <= 480 => "veryfast",
        EncodeProfile::Balanced | EncodeProfile::LowLatency => "superfast",
    }
}

/// Baseline has none.
fn b_frames(encoding: &Encoding) -> &'static str {
    match encoding.stands_in {
        Some((66, _)) => "0",
        _ => "2",
    }
}

/// One thread for each 1280x720 at 60 a second that x264 has to keep up with: more cost memory and little time.
fn threads(encoding: &Encoding, rate: FrameRate) -> u32 {
    let samples = f64::from(encoding.width) * f64::from(encoding.height) * rate.per_second();
    [1.0, 2.0, 3.0, 4.0, 5.0]
        .iter()
        .filter(|&&step| samples > step * 1280.0 * 720.0 * 45.0)
        .fold(1, |count, _| count + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(height: u32, profile: EncodeProfile, fps: u32) -> Vec<(&'static str, String)> {
        let encoding = Encoding { width: height * 16 / 9, height, bitrate: 2_800_000, stands_in: None };
        settings(&encoding, profile, FrameRate { numerator: fps, denominator: 1 })
    }

    fn value<'a>(settings: &'a [(&str, String)], name: &str) -> Option<&'a str> {
        settings.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn balanced_looks_ahead_and_low_latency_does_not() {
        let balanced = of(720, EncodeProfile::Balanced, 30);
        assert_eq!(value(&balanced, "rc-lookahead"), Some("10"));
        assert_eq!(value(&balanced, "speed-preset"), Some("superfast"));
        assert_eq!(value(&of(480, EncodeProfile::Balanced, 30), "speed-preset"), Some("veryfast"));
        let fast = of(720, EncodeProfile::LowLatency, 30);
        assert_eq!((value(&fast, "tune"), value(&fast, "rc-lookahead")), (Some("zerolatency"), None));
    }

    #[test]
    fn threads_follow_the_work() {
        let threads = |height, fps| value(&of(height, EncodeProfile::Balanced, fps), "threads").unwrap().to_owned();
        assert_eq!(
            (threads(360, 60), threads(720, 30), threads(1080, 30), threads(2160, 60)),
            ("1".into(), "1".into(), "2".into(), "6".into())
        );
    }

    #[test]
    fn a_stand_in_keeps_profile_and_level() {
        let encoding = Encoding { width: 640, height: 360, bitrate: 1, stands_in: Some((77, 31)) };
        assert_eq!(profile_and_level(&encoding), ("main", Some("3.1".to_owned())));
        assert_eq!(level_text(40), "4");
    }
}
