//! Files that hold what a test expects.

use std::path::Path;

/// Compares `text` with a file below `src/MODULE/golden/`; `UPDATE_GOLDEN=1` writes the file instead.
pub(crate) fn golden(module: &str, file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(module).join("golden").join(file);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).expect("the golden file is there");
    assert_eq!(text, expected, "{file}; UPDATE_GOLDEN=1 rewrites it");
}
