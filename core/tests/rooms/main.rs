//! Rule 1 of the design: in the order of the corridor a room imports only rooms before it.

mod imports;

use std::{
    fs,
    path::{Path, PathBuf},
};

use imports::files;

/// The corridor.
const ROOMS: [&str; 8] =
    ["format", "scale", "statistics", "policy", "apply", "propagate", "unscale", "scaler"];

/// The front door stays readable.
const MOST_LINES_OF_LIB: usize = 150;

fn source_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn violations(path: &str, text: &str) -> Vec<String> {
    imports::violations(&ROOMS, path, text)
}

#[test]
fn every_room_imports_only_rooms_before_it() {
    let folder = source_folder();
    let found: Vec<String> = files(&folder, &folder)
        .iter()
        .flat_map(|(path, text)| violations(path.to_str().expect("ASCII"), text))
        .collect();
    assert!(found.is_empty(), "against the order {ROOMS:?}:\n{}", found.join("\n"));
}

#[test]
fn every_room_exists_and_is_declared_by_the_front_door() {
    let folder = source_folder();
    let lib = fs::read_to_string(folder.join("lib.rs")).expect("lib.rs");
    for room in ROOMS {
        let file = folder.join(room).with_extension("rs").is_file();
        let mod_rs = folder.join(room).join("mod.rs").is_file();
        assert!(file != mod_rs, "room {room} is one file or one folder");
        assert!(lib.lines().any(|line| line == format!("pub mod {room};")), "{room} is public");
    }
}

#[test]
fn the_front_door_stays_short() {
    let lib = fs::read_to_string(source_folder().join("lib.rs")).expect("lib.rs");
    let lines = lib.lines().count();
    assert!(lines <= MOST_LINES_OF_LIB, "lib.rs has {lines} lines");
}

/// The checker has to see what it is there for, in every way that Rust spells an import.
#[test]
fn planted_violations_are_found() {
    let planted = [
        ("scale.rs", "use crate::policy::Config;", "policy"),
        (
            "scale.rs",
            "use crate::{format::Format, statistics::{Histogram, Outcome}};",
            "statistics",
        ),
        ("format/mod.rs", "pub use crate::scale::*;", "scale"),
        ("format/narrowing.rs", "use super::super::scale::Scale as S;", "scale"),
        (
            "format/narrowing.rs",
            "use super::{Encoding, super::{policy, format::Format}};",
            "policy",
        ),
        ("statistics/mod.rs", "fn f(c: &crate::policy::Config) {}", "policy"),
        ("policy/mod.rs", "fn f() { assert!(super::apply::ready(1)); }", "apply"),
        ("policy/cell.rs", "fn f() -> Vec<crate::unscale::Verdict> { x::<u8>() }", "unscale"),
        ("apply.rs", "mod inner { use super::super::propagate::Scaled; }", "propagate"),
        ("apply.rs", "macro_rules! m { () => { $crate::scaler::run() } }", "scaler"),
        ("unscale.rs", "use crate::{self as all};", "the whole crate"),
        ("unscale.rs", "use crate::*;", "the whole crate"),
        ("unscale.rs", "use self::super::scaler::Step;", "scaler"),
        ("unscale.rs", "use crate::helpers::clamp;", "helpers"),
        ("unscale.rs", "#[cfg(test)] mod tests {} use crate::scaler::Step;", "scaler"),
    ];
    for (path, text, room) in planted {
        assert_eq!(violations(path, text), [format!("{path} imports {room}")], "{text}");
    }
    assert_eq!(violations("utils.rs", ""), ["utils.rs is in no room"]);
}

#[test]
fn what_is_allowed_is_not_found() {
    let allowed = [
        ("scale.rs", "use crate::format::Format; use core::fmt;"),
        ("scaler/mod.rs", "use crate::{apply::Pass, format::{Format, Element}, policy};"),
        ("policy/amax.rs", "use super::{Cell, Config, cell::MAXIMA}; use crate::scale::Scale;"),
        ("policy/mod.rs", "pub use self::cell::Cell; mod cell; use super::scale::Scale;"),
        ("format/mod.rs", "//! See [`crate::policy`].\n/// `use crate::scaler::Step`\nfn f() {}"),
        ("format/mod.rs", "const S: &str = \"use crate::scaler::Step;\";"),
        ("format/mod.rs", "#[cfg(test)]\n#[rustfmt::skip]\nmod tests { use crate::scaler::Step; }"),
        ("format/mod.rs", "#[cfg(test)] use crate::scaler::Step;"),
        ("format/mod.rs", "pub(crate) fn f(x: super::format::E) { self.x = 1; E::self_ }"),
        ("apply.rs", "mod inner { use super::helper; }"),
        ("lib.rs", "pub mod format; pub use crate::scaler::LossScaler;"),
    ];
    for (path, text) in allowed {
        assert_eq!(violations(path, text), [""; 0], "{text}");
    }
}
