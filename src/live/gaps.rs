//! A playlist for a place that lacks some of what it lists: the same text, with these segments as gaps (RFC 8216bis, 4.4.4.7).
//!
//! Numbers, durations and dates stay as they are, so that it says the same of time as the text that it was made from.

use std::collections::BTreeSet;

use bytes::Bytes;

/// `text`, a media playlist or one of I-frames, with `EXT-X-GAP` before each of these URIs. They are as the playlist has them,
/// relative to itself.
#[must_use]
pub fn with_gaps(text: &Bytes, missing: &BTreeSet<String>) -> Bytes {
    let is_missing = |line: &[u8]| std::str::from_utf8(line).is_ok_and(|line| missing.contains(line.trim_end()));
    let mut written = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if is_missing(line) {
            written.extend_from_slice(GAP);
        }
        written.extend_from_slice(line);
    }
    written.into()
}

const GAP: &[u8] = b"#EXT-X-GAP\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_becomes_a_gap() {
        let text = "#EXTM3U\n#EXT-X-MAP:URI=\"7/init.mp4\"\n#EXTINF:4.0,\n7/1.m4s\n#EXTINF:4.0,\n7/11.m4s\n";
        let missing = ["7/1.m4s", "7/init.mp4", "7/2.m4s"].map(str::to_owned).into();
        let expected =
            "#EXTM3U\n#EXT-X-MAP:URI=\"7/init.mp4\"\n#EXTINF:4.0,\n#EXT-X-GAP\n7/1.m4s\n#EXTINF:4.0,\n7/11.m4s\n";
        assert_eq!(with_gaps(&text.into(), &missing), expected);
        assert_eq!(with_gaps(&text.into(), &BTreeSet::new()), text);
    }

    #[test]
    fn each_i_frame_of_a_missing_segment_is_a_gap() {
        let entry = |range: &str, gap: &str| format!("#EXTINF:2.0,\n#EXT-X-BYTERANGE:{range}\n{gap}7/1.m4s\n");
        let text = [entry("5@0", ""), entry("5@9", "")].concat();
        let expected = [entry("5@0", "#EXT-X-GAP\n"), entry("5@9", "#EXT-X-GAP\n")].concat();
        assert_eq!(with_gaps(&text.into(), &["7/1.m4s".to_owned()].into()), expected);
    }
}
