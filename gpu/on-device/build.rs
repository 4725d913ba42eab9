//! Notes the commit that the program is built from, for its results.

use std::process::Command;

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn main() {
    let commit = git(&["rev-parse", "HEAD"]).unwrap_or_else(|| "unknown".into());
    let changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_none_or(|of| !of.is_empty());
    println!("cargo:rustc-env=ADALOSS_COMMIT={commit}");
    println!("cargo:rustc-env=ADALOSS_CHANGED={changed}");
    println!("cargo:rerun-if-changed=build.rs");
    // Every commit and checkout is written there; what is changed without one may be overlooked.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={log}");
    }
}
