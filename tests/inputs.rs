//! `docs/inputs.md` names the test of each input; here the two are held together.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[test]
fn every_test_that_the_document_names_is_there() {
    let tests = tests();
    let missing: Vec<String> = named().into_iter().filter(|name| !tests.contains(name)).collect();
    assert!(missing.is_empty(), "docs/inputs.md names tests that are not there: {missing:#?}");
}

#[test]
fn every_numbered_test_is_in_the_document() {
    let named = named();
    let missing: Vec<String> = tests().into_iter().filter(|name| is_numbered(name) && !named.contains(name)).collect();
    assert!(missing.is_empty(), "docs/inputs.md does not name these tests: {missing:#?}");
}

/// `row_12_…`, `rows_10_to_14_…`, `lesson_9_…`, `r4_…`.
fn is_numbered(name: &str) -> bool {
    let mut words = name.split('_');
    match (words.next(), words.next()) {
        (Some("row" | "rows" | "lesson"), Some(number)) => is_number(number),
        (Some(trap), Some(_)) => trap.strip_prefix('r').is_some_and(is_number),
        _ => false,
    }
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// What stands in backticks in the last column of the document's tables.
fn named() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("docs/inputs.md")).unwrap_or_default();
    let cells = text.lines().filter(|line| line.starts_with('|')).filter_map(|line| line.rsplit('|').nth(1));
    let names: BTreeSet<String> =
        cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect();
    assert!(names.len() > 100, "the document is found");
    names
}

/// The names of all functions that are marked as tests, in `src` and `tests`.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut folders = vec![root().join("src"), root().join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("node_modules") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                names.extend(tests_of(&std::fs::read_to_string(&path).unwrap_or_default()));
            }
        }
    }
    names
}

/// Functions behind a `#[test]` of any kind, other attributes between them.
fn tests_of(text: &str) -> Vec<String> {
    let (mut names, mut marked) = (Vec::new(), false);
    for line in text.lines().map(str::trim_start) {
        marked |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        let function = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn "));
        if let (true, Some(function)) = (marked, function) {
            names.extend(function.split('(').next().map(str::to_owned));
            marked = false;
        }
    }
    names
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}
