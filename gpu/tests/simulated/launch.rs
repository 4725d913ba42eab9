//! What a launch looks like: as many blocks as run at a time, and conversions by themselves.

use std::num::NonZero;

use adaloss_core::{
    format::{E4M3, E5M2, Element, Format, Narrowing, Noise, Rounding, bf16, f16},
    policy::Config,
    statistics::Statistics,
};
use adaloss_gpu::{GpuError, GpuSpace};
use adaloss_hal::{
    AddressSpace, Device, Memory, Plain, Run, Summarise,
    scaler::{Carried, Engine},
};

use crate::{DRIVER, cuda};

/// Multiprocessors of the simulated GPU.
const MULTIPROCESSORS: u32 = 2;

/// The driver says how many blocks of 256 threads and 16 KiB fit: six into 100 KiB; and two of a product's, of 48 KiB.
#[test]
fn a_grid_is_as_large_as_runs_at_a_time() {
    let device = &mut cuda();
    let resident: Vec<_> = device.resident().collect();
    assert_eq!(resident.len(), adaloss_kernels::entries::COUNT);
    assert!(resident.contains(&("adaloss_statistics_f16", 6)));
    assert!(resident.contains(&("adaloss_matmul_nt_bf16_f32", 2)));
    let values = device.zeroed::<f16>(100_000).expect("memory");
    let mut statistics = device.zeroed::<Statistics>(1).expect("memory");
    for (limit, blocks) in [(None, 6), (NonZero::new(1), 1), (NonZero::new(9), 9), (None, 6)] {
        device.limit_blocks(limit);
        let (input, to) = (values.view(), statistics.view_mut());
        device.run(Summarise { input, to, when: None }).expect("lengths");
        assert_eq!(DRIVER.last_blocks(), MULTIPROCESSORS * blocks, "{limit:?}");
    }
    // No more than have something to do.
    let few = GpuSpace::part(values.view(), 0..1500).expect("a part");
    device.run(Summarise { input: few, to: statistics.view_mut(), when: None }).expect("lengths");
    assert_eq!(DRIVER.last_blocks(), 2);
}

/// What a visit decides is one block, and brings nothing but a table for what is computed from more than one tensor.
#[test]
fn a_decision_is_one_block() {
    let device = &mut cuda();
    let config = Config::for_format(Format::BINARY16);
    let engine = &mut Engine::new(device, config, 1000, 8).expect("memory");
    let mut carried = [(); 3].map(|()| Carried::new(device).expect("memory"));
    let launches = || ["cuLaunchKernel", "cuMemcpyHtoDAsync_v2"].map(|name| DRIVER.calls(name));
    let visit = engine.loss(device, 0).expect("room");
    visit.finish_into(device, &mut carried[0]).expect("room");
    let before = launches();
    let [loss, left, right] = &mut carried;
    let visit = engine.layer(device, 999, 0, loss).expect("room");
    visit.finish_into(device, left).expect("room");
    assert_eq!(launches(), [before[0] + 2, before[1]]);
    let visit = engine.join(device, 998, 0, [loss, left]).expect("room");
    visit.finish_into(device, right).expect("room");
    assert_eq!(launches(), [before[0] + 4, before[1] + 2]);
    // An engine writes a word before it concludes.
    engine.conclude(device, None).expect("room");
    assert_eq!((launches(), DRIVER.last_blocks()), ([before[0] + 5, before[1] + 3], 1));
}

fn converts<F: Element + Plain>(rounding: Rounding) {
    let device = &mut cuda();
    let (narrowing, noise) =
        (Narrowing::to(F::ENCODING.into()).with_rounding(rounding), Noise { seed: 3, stream: 1 });
    let words = Noise { seed: 1, stream: 0 };
    let values: Vec<f32> = (0..2000).map(|index| f32::from_bits(words.word(index))).collect();
    let mut from = device.zeroed::<f32>(values.len()).expect("memory");
    device.write(&values, from.view_mut()).expect("lengths");
    let mut narrowed = device.zeroed::<F>(values.len()).expect("memory");
    device.narrow(from.view(), narrowed.view_mut(), narrowing, noise).expect("lengths");
    device.widen(narrowed.view(), from.view_mut()).expect("lengths");
    let (mut found, mut wide) = (vec![F::from_bits(0); values.len()], vec![0.0_f32; values.len()]);
    device.read(narrowed.view(), &mut found).expect("lengths");
    device.read(from.view(), &mut wide).expect("lengths");
    for (index, x) in values.into_iter().enumerate() {
        let word = if rounding == Rounding::Stochastic { noise.word(index as u32) } else { 0 };
        let expected = F::narrow(x, narrowing, 0, word);
        assert_eq!(found[index].to_bits(), expected.to_bits(), "{x:e}");
        assert_eq!(
            wide[index].to_bits(),
            Format::from(F::ENCODING).widen(expected.to_bits()).to_bits()
        );
    }
}

#[test]
fn conversions_are_those_of_core() {
    converts::<f16>(Rounding::NearestEven);
    converts::<bf16>(Rounding::TowardZero);
    converts::<E5M2>(Rounding::Stochastic);
    converts::<E4M3>(Rounding::NearestEven);
    converts::<f32>(Rounding::NearestEven);
}

#[test]
fn a_conversion_to_another_format_or_length_is_refused() {
    let device = &mut cuda();
    let from = device.zeroed::<f32>(3).expect("memory");
    let mut to = device.zeroed::<f16>(3).expect("memory");
    let (narrowing, noise) = (Narrowing::to(Format::E5M2), Noise::default());
    let error = device.narrow(from.view(), to.view_mut(), narrowing, noise);
    assert!(matches!(error, Err(GpuError::Encoding { .. })), "{error:?}");
    let two = GpuSpace::part(from.view(), 0..2).expect("a part");
    let error = device.narrow(two, to.view_mut(), Narrowing::to(Format::BINARY16), noise);
    assert!(matches!(error, Err(GpuError::Length { expected: 2, found: 3, .. })), "{error:?}");
    let mut wide = device.zeroed::<f32>(2).expect("memory");
    let error = device.widen(to.view(), wide.view_mut());
    assert!(matches!(error, Err(GpuError::Length { expected: 3, found: 2, .. })), "{error:?}");
}
