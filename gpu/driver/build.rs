//! Gives the library the name by which the CUDA driver is looked for.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // The loader takes what is loaded already for what is asked for, if it bears that name.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libcuda.so");
}
