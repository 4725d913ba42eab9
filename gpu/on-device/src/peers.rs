//! PyTorch's times for the same purposes, beside ours.

use serde_json::{Value, json};

use crate::results::Results;

/// The program that takes them, which python3 runs.
pub(crate) const PROGRAM: &str = include_str!("peers.py");

/// Rows of PyTorch's that serve a purpose together, and rows of ours, by part and name, that serve the same.
type Pair = (&'static [&'static str], &'static [(&'static str, &'static str)]);

/// What serves the same purpose.
const PAIRS: &[Pair] = &[
    (&["copy"], &[("streams", "copy")]),
    (&["scale and cast to binary16"], &[("streams", "apply binary16")]),
    (&["cast to E4M3"], &[("streams", "apply E4M3")]),
    (&["histogram of exponents, bincount"], &[("streams", "measure binary16")]),
    (&["aminmax of binary32"], &[("streams", "measure binary16")]),
    (&["aminmax of binary16"], &[("streams", "measure binary16 elements")]),
    (&["aminmax of binary16", "std_mean of binary16"], &[("streams", "statistics binary16")]),
    (&["aminmax of binary32", "std_mean of binary32"], &[("streams", "statistics binary32")]),
    (&["unscale binary16 and check"], &[("streams", "unscale binary16")]),
    (&["list: widen, check and unscale"], &[("lists", "unscale")]),
    (
        &["list: widen, check, unscale and SGD, fused"],
        &[("lists", "check"), ("lists", "unscale and update")],
    ),
];

/// Returns PyTorch's time over ours for what serves the same purpose, and cuBLAS's over ours for each product.
pub(crate) fn ratios(results: &Results) -> Value {
    let ms = |part: &str, row: &str| results.row(part, row)?["ms"].as_f64();
    let mut ratios = Vec::new();
    for (theirs, ours) in PAIRS {
        let theirs_ms: Option<f64> = theirs.iter().map(|row| ms("peers", row)).sum();
        let ours_ms: Option<f64> = ours.iter().map(|(part, row)| ms(part, row)).sum();
        if let (Some(theirs_ms), Some(ours_ms)) = (theirs_ms, ours_ms) {
            let ours: Vec<_> = ours.iter().map(|(part, row)| format!("{part}, {row}")).collect();
            ratios.push(
                json!({ "torch": theirs, "ours": ours, "torch_over_ours": theirs_ms / ours_ms }),
            );
        }
    }
    for row in results.rows("products") {
        let name = row["row"].as_str().unwrap_or_default();
        if let (Some(theirs), Some(ours)) = (ms("peers", name), row["ms"].as_f64()) {
            ratios.push(json!({ "torch": [name], "ours": [format!("products, {name}")], "torch_over_ours": theirs / ours }));
        }
    }
    ratios.into()
}
