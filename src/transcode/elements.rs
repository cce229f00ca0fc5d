//! Which GStreamer elements the server needs, and where Debian keeps them.

use gstreamer as gst;

use super::{decoder, sound};

/// Each element with the Debian package that brings it.
const NEEDED: [(&str, &str); 18] = [
    ("appsrc", "gstreamer1.0-plugins-base"),
    ("appsink", "gstreamer1.0-plugins-base"),
    ("videoconvert", "gstreamer1.0-plugins-base"),
    ("videoscale", "gstreamer1.0-plugins-base"),
    ("decodebin", "gstreamer1.0-plugins-base"),
    ("audioconvert", "gstreamer1.0-plugins-base"),
    ("audioresample", "gstreamer1.0-plugins-base"),
    ("deinterlace", "gstreamer1.0-plugins-good"),
    ("flvmux", "gstreamer1.0-plugins-good"),
    ("qtdemux", "gstreamer1.0-plugins-good"),
    ("jpegenc", "gstreamer1.0-plugins-good"),
    ("rtmp2sink", "gstreamer1.0-plugins-bad"),
    ("tsdemux", "gstreamer1.0-plugins-bad"),
    ("h264parse", "gstreamer1.0-plugins-bad"),
    ("x264enc", "gstreamer1.0-plugins-ugly"),
    ("avdec_h264", "gstreamer1.0-libav"),
    ("avdec_aac", "gstreamer1.0-libav"),
    ("avenc_aac", "gstreamer1.0-libav"),
];

/// The same for those that only some sources need: without one the server runs, and refuses what it would have decoded.
const OPTIONAL: [(&str, &str); 16] = [
    ("avdec_h265", "gstreamer1.0-libav"),
    ("libde265dec", "gstreamer1.0-plugins-bad"),
    ("dav1ddec", "gstreamer1.0-plugins-rs"),
    ("av1dec", "gstreamer1.0-plugins-bad"),
    ("avdec_vp9", "gstreamer1.0-libav"),
    ("vp9dec", "gstreamer1.0-plugins-good"),
    ("opusdec", "gstreamer1.0-plugins-base"),
    ("avdec_mp3", "gstreamer1.0-libav"),
    ("mpg123audiodec", "gstreamer1.0-plugins-good"),
    ("avdec_ac3", "gstreamer1.0-libav"),
    ("avdec_eac3", "gstreamer1.0-libav"),
    ("avdec_flac", "gstreamer1.0-libav"),
    ("flacdec", "gstreamer1.0-plugins-good"),
    ("alawdec", "gstreamer1.0-plugins-good"),
    ("mulawdec", "gstreamer1.0-plugins-good"),
    ("speexdec", "gstreamer1.0-plugins-good"),
];

/// GStreamer has none of the elements that decode this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("This server cannot decode {codec}: its GStreamer lacks {element}, of Debian's package {package}.")]
pub(super) struct Lacking {
    codec: &'static str,
    element: &'static str,
    package: &'static str,
}

/// The first of `elements`, which are of [`NEEDED`] or [`OPTIONAL`], that is there; `codec` is what they decode.
///
/// # Errors
/// [`Lacking`], which names the last: the one that is easiest to have.
pub(super) fn first(codec: &'static str, elements: &[&'static str]) -> Result<&'static str, Lacking> {
    first_of(codec, elements, |name| gst::ElementFactory::find(name).is_some())
}

fn first_of(
    codec: &'static str,
    elements: &[&'static str],
    is_there: impl Fn(&str) -> bool,
) -> Result<&'static str, Lacking> {
    let found = elements.iter().copied().find(|element| is_there(element));
    found.ok_or_else(|| {
        let element = elements.last().copied().unwrap_or_default();
        let mut known = NEEDED.iter().chain(&OPTIONAL);
        let package = known.find(|(name, _)| *name == element).map_or("gstreamer1.0-libav", |(_, package)| package);
        Lacking { codec, element, package }
    })
}

/// GStreamer is not there, or not whole. Its text says what to install.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MissingElements {
    /// The library does not start.
    #[error("GStreamer does not start: {0}; install gstreamer1.0-plugins-base")]
    Library(String),
    /// Elements are missing.
    #[error("GStreamer lacks {}: run `apt-get install {}`", .elements.join(", "), .packages.join(" "))]
    Elements {
        /// Their names.
        elements: Vec<&'static str>,
        /// The Debian packages that bring them.
        packages: Vec<&'static str>,
    },
}

/// Starts GStreamer and looks for every element that pipelines are built of. May be called again.
///
/// # Errors
/// Names what is missing and the Debian packages to install.
pub fn init() -> Result<(), MissingElements> {
    gst::init().map_err(|error| MissingElements::Library(error.to_string()))?;
    match missing(|name| gst::ElementFactory::find(name).is_some()) {
        Some(missing) => Err(missing),
        None => Ok(()),
    }
}

/// What sources may come in that cannot be decoded here, a sentence for each codec, for the log. [`init`] comes first.
#[must_use]
pub fn undecodable() -> Vec<String> {
    decoder::lacking().chain(sound::lacking()).map(|lacking| lacking.to_string()).collect()
}

fn missing(is_there: impl Fn(&str) -> bool) -> Option<MissingElements> {
    let gone: Vec<_> = NEEDED.iter().filter(|(element, _)| !is_there(element)).collect();
    let mut packages: Vec<&'static str> = gone.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    let elements: Vec<&'static str> = gone.iter().map(|(element, _)| *element).collect();
    (!elements.is_empty()).then_some(MissingElements::Elements { elements, packages })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_says_what_to_install() {
        let error = missing(|name| !["x264enc", "avdec_h264", "avdec_aac"].contains(&name)).unwrap();
        assert_eq!(
            error.to_string(),
            "GStreamer lacks x264enc, avdec_h264, avdec_aac: \
             run `apt-get install gstreamer1.0-plugins-ugly gstreamer1.0-libav`"
        );
        assert_eq!(missing(|_| true), None);
    }

    #[test]
    fn whatever_is_needed_or_may_be_is_what_the_script_installs() {
        let script = include_str!("../../scripts/install-packages");
        // Debian has the best of AV1's decoders in newer releases only, and the next best in all.
        let known = NEEDED.iter().chain(&OPTIONAL).filter(|(element, _)| *element != "dav1ddec");
        for (element, package) in known {
            let is_named = script.split_whitespace().any(|word| word == *package);
            assert!(is_named, "{element} is in {package}");
        }
        init().unwrap();
        assert_eq!(undecodable(), [""; 0]);
    }

    #[test]
    fn a_decoder_that_is_not_there_is_named_with_its_package() {
        assert_eq!(first_of("AV1", &["dav1ddec", "av1dec"], |name| name == "av1dec"), Ok("av1dec"));
        assert_eq!(
            first_of("AV1", &["dav1ddec", "av1dec"], |_| false).unwrap_err().to_string(),
            "This server cannot decode AV1: its GStreamer lacks av1dec, of Debian's package gstreamer1.0-plugins-bad."
        );
    }
}
