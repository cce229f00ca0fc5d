//! For tests: what players make of the names of codecs in `CODECS`. Each function says whether one takes a name, and was written from
//! what its source reads, not from what this server writes.

/// Safari: WebKit's `parseAVCCodecParameters`, `parseHEVCCodecParameters` (HEVCUtilities.cpp) and `parseAV1CodecParameters`
/// (AV1Utilities.cpp), with the bound of H.264 that it sets its decoder (High, level 5.2; also Apple's authoring specification, 1.3b).
pub(super) fn safari_takes(name: &str) -> bool {
    let steps: Vec<&str> = name.split('.').collect();
    match steps.as_slice() {
        ["avc1", numbers] => {
            let [profile, _, level] = hex_bytes(numbers).unwrap_or([255; 3]);
            profile <= 100 && level <= 52
        }
        // 1.10: `hvc1`, not `hev1`.
        ["hvc1", profile, compatible, tier_and_level, constraints @ ..] => {
            let idc = profile.trim_start_matches(['A', 'B', 'C']);
            let level = tier_and_level.strip_prefix(['L', 'H']);
            let fits = constraints.len() <= 6 && constraints.iter().all(|byte| u8::from_str_radix(byte, 16).is_ok());
            fits && idc.parse::<u8>().is_ok()
                && u32::from_str_radix(compatible, 16).is_ok()
                && level.is_some_and(|level| level.parse::<u8>().is_ok())
        }
        ["av01", profile, level_and_tier, depth] => {
            let level = level_and_tier.strip_suffix(['M', 'H']).filter(|level| level.len() == 2);
            let depth: Option<u8> = depth.parse().ok().filter(|_| depth.len() == 2);
            matches!(*profile, "0" | "1" | "2")
                && level.is_some_and(|level| level.parse::<u8>().is_ok_and(|level| level < 24))
                && depth.is_some_and(|depth| depth == 8 || depth == 10)
        }
        ["mp4a", "40", object_type] => matches!(*object_type, "2" | "5" | "29"),
        _ => false,
    }
}

/// Android: `CodecSpecificDataUtil.getCodecProfileAndLevel` of Media3's ExoPlayer, which gives what `MediaCodecList` is asked for.
pub(super) fn android_takes(name: &str) -> bool {
    const AVC_LEVELS: [u8; 16] = [10, 11, 12, 13, 20, 21, 22, 30, 31, 32, 40, 41, 42, 50, 51, 52];
    const HEVC_LEVELS: [u8; 13] = [30, 60, 63, 90, 93, 120, 123, 150, 153, 156, 180, 183, 186];
    let steps: Vec<&str> = name.split('.').collect();
    match steps.as_slice() {
        ["avc1", numbers] => hex_bytes(numbers).is_some_and(|[profile, _, level]| {
            matches!(profile, 66 | 77 | 88 | 100 | 110 | 122 | 244) && AVC_LEVELS.contains(&level)
        }),
        ["hvc1", profile, _, tier_and_level, ..] => {
            let level = tier_and_level.strip_prefix(['L', 'H']).and_then(|level| level.parse().ok());
            matches!(*profile, "1" | "2" | "6") && level.is_some_and(|level| HEVC_LEVELS.contains(&level))
        }
        ["av01", "0", level_and_tier, depth, ..] => {
            let level = level_and_tier.get(..2).and_then(|level| level.parse::<u8>().ok());
            level.is_some_and(|level| level < 24) && matches!(depth.parse(), Ok(8u8 | 10))
        }
        ["mp4a", "40", object_type] => matches!(object_type.parse(), Ok(2u8 | 5 | 29 | 42)),
        _ => false,
    }
}

/// Six hexadecimal figures.
fn hex_bytes(text: &str) -> Option<[u8; 3]> {
    let numbers = u32::from_str_radix(text, 16).ok().filter(|_| text.len() == 6)?;
    let [_, bytes @ ..] = numbers.to_be_bytes();
    Some(bytes)
}
