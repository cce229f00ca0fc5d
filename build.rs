//! Makes the web pages ready to be built in: each file of `web/` and hls.js, as it is and compressed by gzip.
//!
//! All share one version, a hash over every one of them, which stands in the URLs of what the pages load: so those can
//! be cached for ever and still refer to each other by relative names. Pages name the place as `{{assets}}`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

/// What the pages load: the name in URLs, and the file below `web/`.
const ASSETS: [(&str, &str); 9] = [
    ("channels.js", "channels.js"),
    ("home.js", "home.js"),
    ("icon.svg", "icon.svg"),
    ("messages.js", "messages.js"),
    ("player.js", "player.js"),
    ("style.css", "style.css"),
    ("watch.js", "watch.js"),
    ("hls.min.js", "node_modules/hls.js/dist/hls.min.js"),
    ("hls.LICENSE.txt", "node_modules/hls.js/LICENSE"),
];

/// The pages themselves.
const PAGES: [&str; 3] = ["home.html", "watch.html", "missing.html"];

fn main() {
    if let Err(sentence) = build() {
        println!("cargo::error={sentence}");
    }
}

fn build() -> Result<(), String> {
    let out = PathBuf::from(std::env::var("OUT_DIR").map_err(|e| format!("OUT_DIR: {e}"))?).join("web");
    fs::create_dir_all(&out).map_err(|e| format!("cannot make {}: {e}", out.display()))?;
    let mut version = Sha256::new();
    for (name, file) in ASSETS {
        let content = read(file)?;
        version.update(&content);
        write(&out, name, &content)?;
    }
    for page in PAGES {
        version.update(read(page)?);
    }
    let version: String = version.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    for page in PAGES {
        let html = String::from_utf8(read(page)?).map_err(|e| format!("web/{page}: {e}"))?;
        write(&out, page, html.replace("{{assets}}", &format!("/assets/{version}")).as_bytes())?;
    }
    println!("cargo::rustc-env=PAGES_VERSION={version}");
    Ok(())
}

fn read(file: &str) -> Result<Vec<u8>, String> {
    let path = Path::new("web").join(file);
    println!("cargo::rerun-if-changed={}", path.display());
    fs::read(&path).map_err(|e| {
        let remedy = if file.starts_with("node_modules/") { ": run `make build`, or `npm ci` in web/" } else { "" };
        format!("cannot read {} ({e}){remedy}", path.display())
    })
}

/// Writes `content` to `out` as it is, and compressed beside it.
fn write(out: &Path, name: &str, content: &[u8]) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("cannot write {name}: {e}");
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(content).map_err(failed)?;
    fs::write(out.join(name), content).map_err(failed)?;
    fs::write(out.join(format!("{name}.gz")), gzip.finish().map_err(failed)?).map_err(failed)
}
