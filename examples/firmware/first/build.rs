//! Puts the memory map of the board where the linker looks for it.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let map = "../board/memory/cortex-m4f.x";
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo says where to write")?);
    fs::copy(map, out.join("memory.x"))?;
    println!("cargo:rerun-if-changed={map}");
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rustc-link-arg-bins=-Tlink.x");
    Ok(())
}
