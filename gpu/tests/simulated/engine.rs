//! Steps of scalers that live on the GPU: those of the portable device, and nothing waits but the read at their end.

use adaloss_core::{
    format::{Element, bf16, f16},
    policy::Config,
};
use adaloss_gpu::{Cuda, GpuError};
use adaloss_hal::{
    HasMatmul, Plain,
    portable::Portable,
    scaler::{EngineError, HasScaler},
};
use adaloss_on_device::steps::{AT_ONCE, Model, configurations};

use crate::{DRIVER, alone, cuda};

/// Returns how often the driver was asked to copy to the host, and to wait otherwise, while something was done.
fn waits<T>(work: impl FnOnce() -> T) -> (T, [u64; 2]) {
    let count = || {
        let others = ["cuStreamSynchronize", "cuEventSynchronize", "cuCtxSynchronize"];
        [
            DRIVER.calls("cuMemcpyDtoHAsync_v2"),
            others.iter().map(|name| DRIVER.calls(name)).sum::<u64>(),
        ]
    };
    let before = count();
    let done = work();
    let after = count();
    (done, std::array::from_fn(|nth| after[nth] - before[nth]))
}

/// A model on either device.
struct Both<F: Plain> {
    gpu: Model<Cuda, F>,
    host: Model<Portable, F>,
}

impl<F: Element + Plain> Both<F>
where
    Cuda: HasMatmul<F, F, F> + HasMatmul<F, F, f32> + HasScaler,
    Portable: HasMatmul<F, F, F> + HasMatmul<F, F, f32>,
{
    fn new(device: &mut Cuda, config: Config, seed: u32) -> Self {
        Self {
            gpu: Model::with_products(device, config, seed).expect("memory"),
            host: Model::with_products(&mut Portable, config, seed).expect("memory"),
        }
    }

    /// Reads the lines, which have to be those of the portable device, and compares all else.
    fn compare(&mut self, device: &mut Cuda) -> Vec<String> {
        let (found, waited) = waits(|| self.gpu.read(device).expect("lines"));
        // There are two scalers.
        assert_eq!(waited, [2, 2]);
        let expected = self.host.read(&mut Portable).expect("lines");
        assert_eq!(found, expected);
        let left = self.gpu.left(device).expect("memory");
        assert_eq!(left, self.host.left(&mut Portable).expect("memory"));
        if found.iter().any(|entry| entry.contains("Stop") || entry.contains("Halted")) {
            self.gpu.go_on(device).expect("memory");
            self.host.go_on(&mut Portable).expect("memory");
        }
        found
    }
}

/// Takes steps, and returns what was written down of them.
fn takes_steps<F: Element + Plain>(config: Config, seed: u32, steps: u32) -> Vec<String>
where
    Cuda: HasMatmul<F, F, F> + HasMatmul<F, F, f32>,
    Portable: HasMatmul<F, F, F> + HasMatmul<F, F, f32>,
{
    let device = &mut cuda();
    let mut both = Both::<F>::new(device, config, seed);
    let mut entries = Vec::new();
    for begin in (0..steps).step_by(AT_ONCE) {
        let ((), waited) = waits(|| {
            for step in begin..begin + AT_ONCE as u32 {
                both.gpu.step(device, step).expect("room for lines");
                both.host.step(&mut Portable, step).expect("room for lines");
            }
        });
        assert_eq!(waited, [0, 0]);
        entries.extend(both.compare(device));
    }
    entries
}

#[test]
fn steps_wait_for_nothing_and_are_those_of_the_portable_device() {
    let mut entries = Vec::new();
    for (config, seed) in
        configurations(f16::ENCODING.into()).expect("possible").into_iter().zip(50..)
    {
        entries.extend(takes_steps::<f16>(config, seed, 24));
    }
    let [config, ..] = configurations(bf16::ENCODING.into()).expect("possible")[..] else {
        panic!("none")
    };
    entries.extend(takes_steps::<bf16>(config, 60, 24));
    let has = |what: &[&str]| entries.iter().any(|entry| what.iter().all(|of| entry.contains(of)));
    // A first visit, of which the certificate was due; what an overflow made necessary; a join that was stored twice.
    assert!(has(&["Visit", "passes: 3", "First"]));
    assert!(has(&["Visit", "replayed: true", "overflow: 0"]));
    assert!(has(&["Visit", "Join", "passes: 2"]));
    assert!(has(&["Loss(LossSum { loss: 2.5"]));
    assert!(has(&["Step", "verdict: Apply"]));
    assert!(has(&["Step", "verdict: Skip { layer: Loss, cause: NonFinite }"]));
    assert!(has(&["Step", "verdict: Stop"]));
    assert!(has(&["Halted", "Weight(0)"]));
}

/// A graph of the steps' operations decides as they do: the values of the device are other ones at each launch.
#[test]
fn a_captured_step_decides() {
    let device = &mut cuda();
    let config = configurations(f16::ENCODING.into()).expect("possible")[0];
    let mut both = Both::<f16>::new(device, config, 70);
    let graph = {
        let _alone = alone();
        device.capture(|device| both.gpu.compute(device)).expect("nothing waits")
    };
    let lines = both.gpu.written();
    let mut entries = Vec::new();
    for step in 0..30 {
        both.gpu.write(device, step).expect("lengths");
        // SAFETY: the model is there.
        let (launched, waited) = waits(|| unsafe { graph.launch() });
        assert_eq!((launched, waited), (Ok(()), [0, 0]));
        both.gpu.set_written(lines);
        both.host.write(&mut Portable, step).expect("lengths");
        both.host.compute(&mut Portable).expect("room for lines");
        entries.extend(both.compare(device));
    }
    let has = |what: &[&str]| entries.iter().any(|entry| what.iter().all(|of| entry.contains(of)));
    assert!(has(&["replayed: true"]) && has(&["verdict: Skip"]), "{entries:?}");
}

/// A visit ends in memory of its own, or else in what is allocated for it, which a graph cannot contain.
#[test]
fn a_captured_visit_allocates_nothing() {
    let device = &mut cuda();
    let config = configurations(f16::ENCODING.into()).expect("possible")[0];
    let mut engine = adaloss_hal::scaler::Engine::new(device, config, 1, 1).expect("memory");
    let _alone = alone();
    let captured = device.capture(|device| {
        let visit = engine.loss(device, 0)?;
        visit.finish(device).map(drop)
    });
    let refused = GpuError::Captured { what: "to allocate" };
    assert_eq!(captured.err(), Some(EngineError::Device(refused)));
}
