//! Conformance of the GPU, then benchmarks, into one JSON file.
//!
//! ```sh
//! adaloss-on-device results.json [ELEMENTS]
//! ```
//!
//! The inputs are random and, unless another number of elements is asked for, larger than any cache.  Each
//! figure is the median of several launches, timed by the device's own events; bandwidths count what
//! has to be read and written, once.

mod bench;
mod products;

use std::{env, error::Error, fs, process::ExitCode};

use adaloss_gpu::Cuda;
use adaloss_on_device::conformance;
use serde_json::{Value, json};

/// Elements of the tensors that are streamed: 1 GiB of f32.
const ELEMENTS: usize = 1 << 28;

/// With fewer elements it is a trial of the program.
const TRIAL: usize = 1 << 25;

/// Steps of 16 random layers: a million layers in two formats.
const STEPS: u32 = 31_250;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("adaloss-on-device: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).ok_or("the name of a file for the results is missing")?;
    let elements = env::args().nth(2).map(|number| number.parse()).transpose()?;
    let elements = elements.unwrap_or(ELEMENTS);
    let mut device = Cuda::new(0)?;
    let context = device.stream().context().clone();
    let (major, minor) = context.compute_capability()?;
    let mut results = json!({
        "device": device.name()?,
        "capability": format!("{major}.{minor}"),
        "memory_bytes": context.total_mem()?,
        "elements": elements,
    });
    // Written after each part, so that a run that is cut off leaves what it had.
    let mut keep = |name: &str, value: Value| -> Result<(), Box<dyn Error>> {
        println!("{name}: {value:#}");
        results[name] = value;
        Ok(fs::write(&path, format!("{results:#}\n"))?)
    };
    let conforms = match elements {
        ..TRIAL => conformance::trial(&mut device),
        _ => conformance::run(&mut device, STEPS),
    };
    let all = conforms.iter().all(|(_, result)| result.is_ok());
    keep("conformance", conformance::report(&conforms))?;
    if !all {
        return Err("the device differs from core; no benchmark is run".into());
    }
    keep("bandwidth", bench::bandwidth(&mut device, elements)?)?;
    keep("decisions", bench::decisions(&mut device, elements)?)?;
    keep("many", bench::many(&mut device, elements < TRIAL)?)?;
    keep("products", products::products(&mut device, elements < TRIAL)?)
}
