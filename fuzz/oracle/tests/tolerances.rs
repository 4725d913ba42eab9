//! No tolerance outlives its use: each is asserted to be needed where its cases are.

use std::{fs, path::Path};

/// The folders that hold all Rust code, and their builds.
const FOLDERS: [&str; 4] = ["core", "examples", "fuzz", "hal"];

/// Returns the texts of the Rust files below a folder, but for the table itself and what was built.
fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            if !path.ends_with("target") {
                sources(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !path.ends_with("oracle/src/tolerance.rs")
        {
            found.push(fs::read_to_string(&path).expect("a text file"));
        }
    }
}

/// Returns the names of the statics of a table.
fn names(table: &str) -> Vec<&str> {
    let statics = table.lines().filter_map(|line| line.strip_prefix("pub static "));
    statics.filter_map(|line| line.split_once(": Tolerance")).map(|(name, _)| name).collect()
}

/// Tells whether a text has a word, which is not part of a longer one.
fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let (before, after) = (&text[..at], &text[at + word.len()..]);
        !before.ends_with(is_part) && !after.starts_with(is_part)
    })
}

/// Returns what is wrong with each tolerance that no text needs.
fn forgotten(table: &str, texts: &[String]) -> Vec<String> {
    let is_found = |word: &str| texts.iter().any(|text| has_word(text, word));
    let complaint = |name: &str| match (is_found(name), is_found(&format!("{name}.assert_needed")))
    {
        (false, _) => Some(format!("{name} is not used")),
        (true, false) => Some(format!("{name} is never asserted to be needed")),
        (true, true) => None,
    };
    names(table).into_iter().filter_map(complaint).collect()
}

#[test]
fn each_tolerance_is_used_and_needed() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = fs::read_to_string(package.join("src/tolerance.rs")).expect("the table");
    let mut texts = Vec::new();
    FOLDERS.iter().for_each(|name| sources(&package.join("../..").join(name), &mut texts));
    assert_eq!(forgotten(&table, &texts), [""; 0]);
    assert_eq!(
        names(&table).len(),
        table.matches("\npub static ").count(),
        "a tolerance is overlooked"
    );
}

#[test]
fn planted_tolerances_are_found() {
    let table = "/// A reason.\npub static ONE: Tolerance = Tolerance::new(\"one\", 1.0);\n\
                 pub static TWO: Tolerance =\n    Tolerance::new(\"two\", 2.0);\n";
    assert_eq!(names(table), ["ONE", "TWO"]);
    let texts = [
        "assert!(ONE.allows(1.0) && NUMBER_TWO.allows(1.0)); TWO_OF.assert_needed();",
        "ONE.assert_needed();",
    ]
    .map(String::from);
    assert_eq!(forgotten(table, &texts), ["TWO is not used"]);
    let texts = ["use tolerance::{ONE, TWO}; TWO.assert_needed();".into()];
    assert_eq!(forgotten(table, &texts), ["ONE is never asserted to be needed"]);
}
