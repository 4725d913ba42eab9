//! What a launch looks like: as many blocks as run at a time, and conversions by themselves.

use std::num::NonZero;

use adaloss_core::{
    format::{E4M3, E5M2, Element, Format, Narrowing, Noise, Rounding, bf16, f16},
    policy::{Cell, Config},
    statistics::Statistics,
};
use adaloss_gpu::{GpuError, GpuSpace};
use adaloss_hal::{AddressSpace, Device, Finish, Memory, Plain, Run, Summarise};

use crate::{DRIVER, cuda};

/// Multiprocessors of the simulated GPU.
const MULTIPROCESSORS: u32 = 2;

/// The driver says how many blocks of 256 threads and 16 KiB fit: six into 100 KiB.
#[test]
fn a_grid_is_as_large_as_runs_at_a_time() {
    let device = &mut cuda();
    let resident: Vec<_> = device.resident().collect();
    assert_eq!(resident.len(), 59);
    assert!(resident.contains(&("adaloss_statistics_f16", 6)));
    assert!(resident.contains(&("adaloss_matmul_nt_bf16_f32", 1)));
    let values = device.zeroed::<f16>(100_000).expect("memory");
    let mut statistics = device.zeroed::<Statistics>(1).expect("memory");
    for (limit, blocks) in [(None, 6), (NonZero::new(1), 1), (NonZero::new(9), 9), (None, 6)] {
        device.limit_blocks(limit);
        let (input, to) = (values.view(), statistics.view_mut());
        device.run(Summarise { input, to }).expect("lengths");
        assert_eq!(DRIVER.last_blocks(), MULTIPROCESSORS * blocks, "{limit:?}");
    }
    // No more than have something to do.
    let few = GpuSpace::part(values.view(), 0..1500).expect("a part");
    device.run(Summarise { input: few, to: statistics.view_mut() }).expect("lengths");
    assert_eq!(DRIVER.last_blocks(), 2);
}

/// The end of a step takes a thread for each cell, and nothing where there is none.
#[test]
fn a_step_of_many_cells_ends_in_one_launch() {
    let device = &mut cuda();
    let config = Config::for_format(Format::BINARY16);
    let mut cells = device.zeroed::<Cell>(1000).expect("memory");
    for (count, launches, blocks) in [(1, 1, 1), (256, 1, 1), (257, 1, 2), (1000, 1, 4), (0, 0, 4)]
    {
        let before = DRIVER.calls("cuLaunchKernel");
        let part = GpuSpace::part_mut(cells.view_mut(), 0..count).expect("a part");
        device.run(Finish { config: &config, cells: part }).expect("any number");
        let found = (DRIVER.calls("cuLaunchKernel") - before, DRIVER.last_blocks());
        assert_eq!(found, (launches, blocks), "{count} cells");
    }
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
