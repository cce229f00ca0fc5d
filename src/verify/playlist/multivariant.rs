//! Multivariant playlists (4.4.6).

use super::super::finding::Findings;
use super::super::rule::Rule;
use super::attribute::Attributes;
use super::line::Line;
use super::value;

/// A multivariant playlist.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Multivariant {
    /// `EXT-X-VERSION`, and its line.
    pub version: Option<(u64, u32)>,
    /// The lowest version that allows what is in it, what that is, and its line (8).
    pub needs: (u64, &'static str, u32),
    /// `EXT-X-INDEPENDENT-SEGMENTS`.
    pub independent_segments: bool,
    /// `EXT-X-STREAM-INF`, in their order.
    pub variants: Vec<Variant>,
    /// `EXT-X-MEDIA`.
    pub media: Vec<Media>,
    /// `EXT-X-I-FRAME-STREAM-INF`.
    pub i_frames: Vec<IFrameVariant>,
}

/// `EXT-X-STREAM-INF`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Variant {
    /// Its line.
    pub line: u32,
    /// As it is written.
    pub uri: String,
    /// `BANDWIDTH`, in bits per second.
    pub bandwidth: Option<u64>,
    /// `AVERAGE-BANDWIDTH`, likewise.
    pub average_bandwidth: Option<u64>,
    /// `CODECS`.
    pub codecs: Option<String>,
    /// `RESOLUTION`: width and height.
    pub resolution: Option<(u64, u64)>,
    /// There is `FRAME-RATE`.
    pub frame_rate: bool,
    /// There is `SCORE`.
    pub score: bool,
    /// The groups that it names.
    pub groups: Vec<(MediaType, String)>,
}

/// `EXT-X-I-FRAME-STREAM-INF`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IFrameVariant {
    /// Its line.
    pub line: u32,
    /// As it is written.
    pub uri: String,
    /// `BANDWIDTH`, in bits per second.
    pub bandwidth: Option<u64>,
    /// There is `CODECS`.
    pub codecs: bool,
    /// There is `RESOLUTION`.
    pub resolution: bool,
}

/// What a rendition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaType {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
    /// Text.
    Subtitles,
    /// Text within pictures.
    ClosedCaptions,
}

/// `EXT-X-MEDIA`.
#[derive(Clone, Debug, PartialEq)]
pub struct Media {
    /// Its line.
    pub line: u32,
    /// `TYPE`.
    pub kind: MediaType,
    /// As it is written.
    pub uri: Option<String>,
    /// `GROUP-ID`.
    pub group: String,
    /// `NAME`.
    pub name: String,
    /// There is `LANGUAGE`.
    pub language: bool,
    /// `DEFAULT`.
    pub default: bool,
    /// `AUTOSELECT`, where it is there.
    pub autoselect: Option<bool>,
}

impl MediaType {
    const WORDS: [&'static str; 4] = ["AUDIO", "VIDEO", "SUBTITLES", "CLOSED-CAPTIONS"];

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Audio => "AUDIO",
            Self::Video => "VIDEO",
            Self::Subtitles => "SUBTITLES",
            Self::ClosedCaptions => "CLOSED-CAPTIONS",
        }
    }

    fn of(word: &str) -> Option<Self> {
        [Self::Audio, Self::Video, Self::Subtitles, Self::ClosedCaptions].into_iter().find(|kind| kind.word() == word)
    }
}

impl Variant {
    /// It has pictures, as far as it says.
    #[must_use]
    pub fn has_video(&self) -> bool {
        let video = |codec: &str| {
            ["avc", "hvc", "hev", "dvh", "av01", "vp09", "vp08", "mjpg"].iter().any(|name| codec.starts_with(name))
        };
        let says = |codecs: &String| codecs.split(',').any(|codec| video(codec.trim()));
        self.codecs.as_ref().map_or(self.resolution.is_some(), says)
    }
}

/// Reads the lines of a multivariant playlist.
pub(super) fn read(lines: &[Line<'_>], findings: &mut Findings) -> Multivariant {
    let mut playlist = Multivariant::default();
    let mut pending: Option<Variant> = None;
    for line in lines {
        if let Some(uri) = line.uri() {
            match pending.take() {
                Some(variant) => playlist.variants.push(Variant { uri: uri.to_owned(), ..variant }),
                None => findings.add(Rule::VariantUri, line.number, format!("`{uri}` without EXT-X-STREAM-INF")),
            }
            continue;
        }
        let Some((name, value)) = line.tag() else { continue };
        let (needs, what) = version_of(name, value);
        if needs > playlist.needs.0 {
            playlist.needs = (needs, what, line.number);
        }
        if name == "STREAM-INF" {
            if let Some(lost) = pending.replace(variant(value, line.number, findings)) {
                findings.add(Rule::VariantUri, lost.line, "no URI follows");
            }
            continue;
        }
        playlist.tag(name, value, line.number, findings);
    }
    if let Some(lost) = pending {
        findings.add(Rule::VariantUri, lost.line, "no URI follows");
    }
    playlist
}

/// The lowest version that allows a tag, and what of it needs that (8).
fn version_of(name: &str, value: &str) -> (u64, &'static str) {
    let captions = value.contains("TYPE=CLOSED-CAPTIONS");
    match name {
        "MEDIA" if value.contains("INSTREAM-ID=") && !captions => (13, "INSTREAM-ID of what is no closed captions"),
        "STREAM-INF" | "I-FRAME-STREAM-INF" if value.contains(",REQ-") || value.starts_with("REQ-") => {
            (12, "an attribute of requirements")
        }
        "DEFINE" if value.contains("QUERYPARAM=") => (11, "QUERYPARAM of EXT-X-DEFINE"),
        "DEFINE" => (8, "EXT-X-DEFINE"),
        "MEDIA" if value.contains("INSTREAM-ID=\"SERVICE") => (7, "INSTREAM-ID of a service"),
        _ => (1, ""),
    }
}

impl Multivariant {
    fn tag(&mut self, name: &str, value: &str, line: u32, findings: &mut Findings) {
        match name {
            "VERSION" => {
                self.version = value::integer(value).map(|version| (version, line));
                if self.version.is_none() {
                    findings.add(Rule::TagSyntax, line, format!("EXT-X-VERSION is `{value}`"));
                }
            }
            "INDEPENDENT-SEGMENTS" => self.independent_segments = true,
            "MEDIA" => self.media.extend(media(value, line, findings)),
            "I-FRAME-STREAM-INF" => self.i_frames.push(i_frames(value, line, findings)),
            _ => {}
        }
    }

    /// The renditions with playlists of their own in this group.
    pub fn group<'a>(&'a self, kind: MediaType, name: &'a str) -> impl Iterator<Item = &'a Media> {
        self.media.iter().filter(move |media| media.kind == kind && media.group == name)
    }
}

fn variant(value: &str, line: u32, findings: &mut Findings) -> Variant {
    let attributes = Attributes::parse("STREAM-INF", line, value, findings);
    attributes.require("BANDWIDTH", findings);
    let mut groups = Vec::new();
    for word in MediaType::WORDS.into_iter().filter(|word| attributes.has(word)) {
        // Of captions there may be none, which has no quotes.
        if word == "CLOSED-CAPTIONS" && attributes.bare(word, &mut Findings::default()) == Some("NONE") {
            continue;
        }
        let group = attributes.quoted(word, findings).map(str::to_owned);
        groups.extend(MediaType::of(word).zip(group));
    }
    Variant {
        line,
        uri: String::new(),
        bandwidth: attributes.integer("BANDWIDTH", findings),
        average_bandwidth: attributes.integer("AVERAGE-BANDWIDTH", findings),
        codecs: attributes.quoted("CODECS", findings).map(str::to_owned),
        resolution: attributes.resolution("RESOLUTION", findings),
        frame_rate: attributes.seconds("FRAME-RATE", findings).is_some(),
        score: attributes.seconds("SCORE", findings).is_some(),
        groups,
    }
}

fn i_frames(value: &str, line: u32, findings: &mut Findings) -> IFrameVariant {
    let attributes = Attributes::parse("I-FRAME-STREAM-INF", line, value, findings);
    attributes.require("BANDWIDTH", findings);
    attributes.require("URI", findings);
    IFrameVariant {
        line,
        uri: attributes.quoted("URI", findings).unwrap_or_default().to_owned(),
        bandwidth: attributes.integer("BANDWIDTH", findings),
        codecs: attributes.quoted("CODECS", findings).is_some(),
        resolution: attributes.resolution("RESOLUTION", findings).is_some(),
    }
}

fn media(value: &str, line: u32, findings: &mut Findings) -> Option<Media> {
    let attributes = Attributes::parse("MEDIA", line, value, findings);
    for name in ["TYPE", "GROUP-ID", "NAME"] {
        attributes.require(name, findings);
    }
    let kind = attributes.word("TYPE", &MediaType::WORDS, findings).and_then(MediaType::of)?;
    let text = |name: &str, findings: &mut Findings| attributes.quoted(name, findings).map(str::to_owned);
    let yes_or_no =
        |name: &str, findings: &mut Findings| attributes.word(name, &["YES", "NO"], findings).map(|word| word == "YES");
    Some(Media {
        line,
        kind,
        uri: text("URI", findings),
        group: text("GROUP-ID", findings).unwrap_or_default(),
        name: text("NAME", findings).unwrap_or_default(),
        language: attributes.has("LANGUAGE"),
        default: yes_or_no("DEFAULT", findings).unwrap_or_default(),
        autoselect: yes_or_no("AUTOSELECT", findings),
    })
}
