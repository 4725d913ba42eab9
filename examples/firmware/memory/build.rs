//! Puts the memory map of the board where the linker looks for it: for every package with programs.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let target = env::var("TARGET")?;
    let map = match target.as_str() {
        "thumbv6m-none-eabi" => "../memory/cortex-m0.x",
        "thumbv7em-none-eabihf" => "../memory/cortex-m4f.x",
        "riscv32imac-unknown-none-elf" => "../memory/riscv32.x",
        _ => return Err(format!("there is no board with a {target}").into()),
    };
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo says where to write")?);
    fs::copy(map, out.join("memory.x"))?;
    println!("cargo:rerun-if-changed={map}");
    println!("cargo:rustc-link-search={}", out.display());
    // The script of riscv-rt does not include the map itself.
    if target.starts_with("riscv") {
        println!("cargo:rustc-link-arg-bins=-Tmemory.x");
    }
    println!("cargo:rustc-link-arg-bins=-Tlink.x");
    Ok(())
}
