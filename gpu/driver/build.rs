//! Gives the library the name by which the CUDA driver is looked for.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // The loader takes what is loaded already for what is asked for, if it bears that name.
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libcuda.so");
    }
}
