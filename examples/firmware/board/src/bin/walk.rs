//! Walks recorded layers with the policy that the command line names.

#![no_std]
#![no_main]

use adaloss_accelerator::{Accelerator, AcceleratorError, Model, Pool};
use adaloss_board::{Input, Lines, end};
use adaloss_core::scaler::State;
use adaloss_firmware::{Record, Walk, WalkError, config};

/// Blocks of 64 bytes that the accelerator has.
const BLOCKS: usize = 96;

/// The entry.
#[cfg_attr(target_arch = "arm", cortex_m_rt::entry)]
#[cfg_attr(target_arch = "riscv32", riscv_rt::entry)]
fn main() -> ! {
    end(walk())
}

fn walk() -> Result<(), WalkError<AcceleratorError>> {
    let args = semihosting::experimental::env::args::<64>();
    let policy = args.as_ref().ok().and_then(|args| args.into_iter().nth(1)?.ok());
    let Some(config) = policy.and_then(config) else {
        panic!("name a policy");
    };
    let pool = Pool::<BLOCKS>::new();
    let mut model = Model::<{ 64 * BLOCKS }>::new();
    let mut device = Accelerator::new(&mut model, &pool).map_err(WalkError::Device)?;
    let Ok(file) = Input::open(c"record") else {
        panic!("there is no file \"record\"");
    };
    let mut record = Record::open(file)?;
    let mut state = State::new(config);
    let mut walk = Walk::new(&mut device, &mut state).map_err(WalkError::Device)?;
    walk.run(&mut record, &mut Lines::default())
}
