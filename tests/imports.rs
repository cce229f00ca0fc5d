//! The edges of ARCHITECTURE.md: stages never import each other, and an outside crate has one home.

use std::path::{Path, PathBuf};

/// Each stage's directory. `app` may use all of them, nobody else any.
const STAGES: [&str; 8] = ["ingest", "transcode", "packager", "store", "origin", "follow", "admin", "verify"];

/// A test that holds a stage against the checker.
const COMPARES: &str = "packager/low_latency_rules.rs";

/// Crates, and the only places below `src` that may name them.
const HOMES: &[(&str, &[&str])] = &[
    ("mimalloc", &["main.rs"]),
    ("rml_rtmp", &["ingest"]),
    ("rml_amf0", &["ingest"]),
    ("tokio_rustls", &["tls.rs"]),
    ("x509_parser", &["tls.rs", "origin"]),
    ("jsonwebtoken", &["origin"]),
    ("socket2", &["ingest"]),
    ("ipnet", &["networks.rs"]),
    ("gstreamer", &["transcode"]),
    ("fast_image_resize", &["transcode"]),
    ("mp4_atom", &["packager", "progressive"]),
    ("mpeg2ts", &["packager"]),
    ("aws_sdk_s3", &["store"]),
    ("aws_config", &["store"]),
    ("hyper_rustls", &["ingest", "follow", "verify"]),
    ("moka", &["archive"]),
    ("url", &["verify", "main.rs"]),
    ("hmac", &["ingest"]),
    ("hyper", &["origin", "admin", "follow", "http_server.rs", "http_server"]),
];

#[test]
fn stages_do_not_import_each_other() {
    for (file, text) in sources() {
        let home = home(&file);
        let others = STAGES.iter().filter(|stage| **stage != home);
        for stage in others
            .filter(|stage| **stage != "verify" || !file.ends_with(COMPARES))
            .filter(|_| home != "app" && home != "main.rs" && home != "lib.rs")
        {
            assert!(!text.contains(&format!("crate::{stage}")), "{} imports crate::{stage}", file.display());
        }
    }
}

#[test]
fn an_outside_crate_has_one_home() {
    for (file, text) in sources() {
        for (name, homes) in HOMES.iter().filter(|(_, homes)| !homes.contains(&home(&file).as_str())) {
            assert!(!text.contains(&format!("{name}::")), "{} uses {name}, whose home is {homes:?}", file.display());
        }
    }
}

/// A mistake is not made twice: what checks playlists and media has nothing in common with what writes them, neither the
/// server's own modules nor the crates that those write with.
#[test]
fn the_checker_shares_no_code_with_what_it_checks() {
    let checker: Vec<_> = sources().into_iter().filter(|(file, _)| home(file) == "verify").collect();
    assert!(checker.len() > 20, "it is found");
    for (file, text) in checker {
        let other = text.split("crate::").skip(1).find(|path| !path.starts_with("verify::"));
        assert_eq!(other.map(|path| &path[..20.min(path.len())]), None, "{} uses the crate", file.display());
        for writer in ["m3u8_rs", "mp4_atom", "mpeg2ts"] {
            assert!(!text.contains(writer), "{} uses {writer}", file.display());
        }
    }
}

#[test]
fn pure_time_has_no_wall_clock() {
    for name in ["media.rs", "source.rs", "ladder.rs", "layout.rs"] {
        let text = std::fs::read_to_string(root().join(name)).unwrap_or_default();
        assert!(!text.is_empty() && !text.contains("::now("), "{name} asks a clock");
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The first step below `src`.
fn home(file: &Path) -> String {
    let below = file.strip_prefix(root()).unwrap_or(file);
    below.components().next().map(|step| step.as_os_str().to_string_lossy().into_owned()).unwrap_or_default()
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                files.push((path, text));
            }
        }
    }
    assert!(files.len() > 20, "the sources are found");
    files
}
