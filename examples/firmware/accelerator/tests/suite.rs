//! Whether the accelerator does what the suite asks.

use adaloss_accelerator::{Accelerator, Model, Pool}; // yours here
use adaloss_conformance as conformance;
use adaloss_core::format::f16;

#[test]
fn conforms() -> Result<(), Box<dyn std::error::Error>> {
    let pool = Pool::<2048>::new();
    let mut device = Accelerator::new(Model::<{ 2048 * 64 }>::new(), &pool)?;
    println!("{}", conformance::memory(&mut device)?);
    println!("{}", conformance::narrow::<f16, _>(&mut device)?);
    Ok(())
}
