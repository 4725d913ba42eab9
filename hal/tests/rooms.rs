//! In the order of `lib.rs` a module imports only modules before it.

#[path = "../../core/tests/rooms/imports.rs"]
mod imports;

use std::{fs, path::Path};

/// From what needs nothing to what needs most.
const MODULES: [&str; 22] = [
    "kind",
    "plain",
    "space",
    "shape",
    "readout",
    "error",
    "group",
    "device",
    "epilogue",
    "operation",
    "run",
    "narrow",
    "matmul",
    "network",
    "scaler",
    "pass",
    "host",
    "portable",
    "wrap",
    "fault",
    "record",
    "meta",
];

#[test]
fn every_module_imports_only_modules_before_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let found: Vec<String> = imports::files(&folder, &folder)
        .iter()
        .flat_map(|(path, text)| imports::violations(&MODULES, path.to_str().expect("ASCII"), text))
        .collect();
    assert!(found.is_empty(), "against the order {MODULES:?}:\n{}", found.join("\n"));
}

#[test]
fn the_order_names_every_module() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"));
    let lib = lib.expect("lib.rs");
    let declared = lib
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'));
    let mut declared: Vec<&str> = declared.collect();
    let mut named = MODULES.to_vec();
    declared.sort_unstable();
    named.sort_unstable();
    assert_eq!(declared, named);
}
