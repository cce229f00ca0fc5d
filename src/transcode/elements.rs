//! Which GStreamer elements the server needs, and where Debian keeps them.

use gstreamer as gst;

/// Each element with the Debian package that brings it.
const NEEDED: [(&str, &str); 12] = [
    ("appsrc", "gstreamer1.0-plugins-base"),
    ("appsink", "gstreamer1.0-plugins-base"),
    ("videoconvert", "gstreamer1.0-plugins-base"),
    ("audioconvert", "gstreamer1.0-plugins-base"),
    ("audioresample", "gstreamer1.0-plugins-base"),
    ("deinterlace", "gstreamer1.0-plugins-good"),
    ("flvmux", "gstreamer1.0-plugins-good"),
    ("rtmp2sink", "gstreamer1.0-plugins-bad"),
    ("x264enc", "gstreamer1.0-plugins-ugly"),
    ("avdec_h264", "gstreamer1.0-libav"),
    ("avdec_aac", "gstreamer1.0-libav"),
    ("avenc_aac", "gstreamer1.0-libav"),
];

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
        let error = missing(|name| !name.contains("264") && name != "avdec_aac").unwrap();
        assert_eq!(
            error.to_string(),
            "GStreamer lacks x264enc, avdec_h264, avdec_aac: \
             run `apt-get install gstreamer1.0-plugins-ugly gstreamer1.0-libav`"
        );
        assert_eq!(missing(|_| true), None);
    }
}
