//! The program that waits for a GPU runs to its end, through the simulated driver.

#![cfg(target_os = "linux")]

use std::{env, error::Error, fs, process::Command};

use adaloss_driver::Simulated;
use serde_json::Value;

#[test]
fn the_results_are_complete() -> Result<(), Box<dyn Error>> {
    let path = env::temp_dir().join(format!("adaloss-on-device-{}.json", std::process::id()));
    let run = Command::new(env!("CARGO_BIN_EXE_adaloss-on-device"))
        .args([path.as_os_str(), "1000".as_ref()])
        .env("LD_PRELOAD", Simulated::path()?)
        .output()?;
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{errors}");
    let results: Value = serde_json::from_slice(&fs::read(&path)?)?;
    fs::remove_file(&path)?;
    assert_eq!(results["device"], "simulated grid");
    assert_eq!(results["capability"], "9.0");
    let parts = results["conformance"].as_array().ok_or("a list")?;
    assert!(parts.len() == 2 && parts.iter().all(|part| part["difference"].is_null()));
    let rows = results["bandwidth"].as_array().ok_or("a list")?;
    let is_time = |value: &Value| value.as_f64().is_some_and(|time| time > 0.0);
    assert!(rows.len() == 13 && rows.iter().all(|row| is_time(&row["ms"])));
    for time in ["us_per_layer", "us_per_layer_captured", "us_per_layer_of_apply_captured"] {
        assert!(is_time(&results["decisions"][time]), "{time}");
    }
    let products = results["products"].as_array().ok_or("a list")?;
    assert!(products.len() == 17 && products.iter().all(|row| is_time(&row["ms_with_histogram"])));
    // Better than the bound of conformance, which is 2^-22 for each term.
    assert!(products.iter().all(|row| row["error"].as_f64().is_some_and(|error| error < 1.0e-6)));
    assert_eq!(results["decisions"]["layers"], 50);
    assert_eq!(results["many"]["tensors"], 161);
    // Every step is taken: those that are timed, and three before.
    assert_eq!(results["many"]["steps"], 24);
    Ok(())
}
