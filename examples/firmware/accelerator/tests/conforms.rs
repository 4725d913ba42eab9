//! The driver and the model behind it do what the core says, and the conformance suite would notice if they did not.

use adaloss_accelerator::{
    Accelerator, AcceleratorError, Bus, Fault, Model, Pool, Register, command, option, status,
};
use adaloss_conformance as conformance;
use adaloss_core::format::f16;
use adaloss_hal::Memory;

const BLOCKS: usize = 2048;
const BYTES: usize = 64 * BLOCKS;

/// A way to be wrong between the driver and the accelerator.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mistake {
    None,
    NeverBusy,
    RoundsTowardsZero,
    StoresWhenMeasuring,
    MeasuresNothing,
    ForgetsIncoming,
    ShiftsOneTooFar,
    SaturatesNothing,
    LeavesOutTheLast,
}

/// An accelerator whose registers do not reach it as they were written.
struct Wire {
    model: Model<BYTES>,
    mistake: Mistake,
}

impl Bus for Wire {
    fn load(&mut self, register: Register) -> u32 {
        let word = self.model.load(register);
        if self.mistake == Mistake::NeverBusy { status::IDLE } else { word }
    }

    fn store(&mut self, register: Register, word: u32) {
        let word = match (self.mistake, register) {
            (Mistake::RoundsTowardsZero, Register::Options) => word | option::TRUNCATE,
            (Mistake::StoresWhenMeasuring, Register::Options) => word | option::STORE,
            (Mistake::MeasuresNothing, Register::Options) => word & !option::MEASURE,
            (Mistake::SaturatesNothing, Register::Options) => word & !option::SATURATE,
            (Mistake::ForgetsIncoming, Register::Incoming) => 0,
            (Mistake::ShiftsOneTooFar, Register::Shift) => word.wrapping_add(1),
            (Mistake::LeavesOutTheLast, Register::Length) => word.saturating_sub(1),
            _ => word,
        };
        self.model.store(register, word);
    }

    fn read(&self, address: u32, to: &mut [u8]) -> Result<(), Fault> {
        self.model.read(address, to)
    }

    fn write(&mut self, address: u32, from: &[u8]) -> Result<(), Fault> {
        self.model.write(address, from)
    }
}

/// Runs a test in a thread with room for the accelerator's memory and the suite on its stack.
fn with_room<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::Builder::new().stack_size(4 << 20).spawn(test).unwrap().join().unwrap()
}

fn conforms(mistake: Mistake) -> Result<conformance::Report, String> {
    with_room(move || {
        let pool = Pool::<BLOCKS>::new();
        let wire = Wire { model: Model::new(), mistake };
        let mut device = Accelerator::new(wire, &pool).unwrap();
        let said = |failure: conformance::Failure| failure.to_string();
        conformance::memory(&mut device).map_err(said)?;
        conformance::narrow::<f16, _>(&mut device).map_err(said)
    })
}

#[test]
fn the_accelerator_conforms() {
    let report = conforms(Mistake::None).unwrap();
    assert!(report.elements > 100_000 && report.refusals > 10, "{report}");
    assert!(!report.capabilities.subnormals && !report.capabilities.stochastic_rounding);
}

#[test]
fn every_mistake_is_found() {
    for mistake in [
        Mistake::NeverBusy,
        Mistake::RoundsTowardsZero,
        Mistake::StoresWhenMeasuring,
        Mistake::MeasuresNothing,
        Mistake::ForgetsIncoming,
        Mistake::ShiftsOneTooFar,
        Mistake::SaturatesNothing,
        Mistake::LeavesOutTheLast,
    ] {
        assert!(conforms(mistake).is_err(), "{mistake:?}");
    }
}

#[test]
fn memory_is_given_out_once_and_taken_back() {
    let pool = Pool::<8>::new();
    let mut device = Accelerator::new(Model::<512>::new(), &pool).unwrap();
    // Half of it is the driver's own.
    let first = device.zeroed::<u32>(17).unwrap();
    let second = device.zeroed::<u32>(32).unwrap();
    let exhausted = device.zeroed::<u8>(1).unwrap_err();
    assert_eq!(exhausted, AcceleratorError::Memory { bytes: 1 });
    device.zeroed::<u8>(0).unwrap();
    drop(first);
    drop(device.zeroed::<f32>(32).unwrap());
    let huge = device.zeroed::<f64>(usize::MAX).unwrap_err();
    assert_eq!(huge, AcceleratorError::Memory { bytes: usize::MAX });
    drop(second);
    device.zeroed::<u32>(64).unwrap();
}

#[test]
fn a_command_that_leads_out_of_memory_does_nothing() {
    let mut model = Model::<256>::new();
    model.write(0, &1.0_f32.to_ne_bytes()).unwrap();
    let wrong = [
        (Register::Values, 253),
        (Register::Results, 255),
        (Register::Outcome, 201),
        (Register::Length, 1 << 30),
        (Register::Command, 2),
    ];
    for (register, word) in wrong {
        for (register, word) in [
            (Register::Results, 64),
            (Register::Length, 1),
            (Register::Options, option::STORE),
            (Register::Outcome, 128),
            (register, word),
        ] {
            model.store(register, word);
        }
        if register != Register::Command {
            model.store(Register::Command, command::NARROW);
        }
        while model.load(Register::Status) == status::BUSY {}
        assert_eq!(model.load(Register::Status), status::FAULT, "{register:?} {word}");
        let mut memory = [0; 252];
        model.read(4, &mut memory).unwrap();
        assert_eq!(memory, [0; 252], "{register:?} {word}");
        model.store(Register::Values, 0);
    }
}
