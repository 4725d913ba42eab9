//! The room `propagate`: branches brought to one scale and summed, in the order given.

use std::array;

use adaloss_core::{
    format::{Element, Encoding, Format, Noise},
    policy::Cell,
    propagate::{common_scale, shifted},
    scale::{Scale, Shift},
};
use adaloss_hal::{Branch, HasNarrow, Memory, Plain, Propagate};
use adaloss_oracle::{apfloat, is_same, product};

use crate::{
    device::{Ending, upload},
    input, on_our_devices,
};

/// The most branches of a join.
const BRANCHES: usize = 5;
/// The most elements of each.
const MOST: usize = 300;

/// Checks our devices.
pub fn check(bytes: &[u8]) {
    on_our_devices!(bytes, check_on);
}

/// Checks that a device joins branches as the definition says: each is widened, brought to one scale
/// with one rounding to f32, and added in f32.
///
/// A device whose f32 flushes is given branches whose sums stay away from f32's subnormals.
pub fn check_on<F: Element + Plain, D: Memory + HasNarrow<F>>(device: &mut D, bytes: &[u8]) {
    input::run(bytes, |u| {
        let narrowing = input::narrowing(u, F::ENCODING, device.capabilities())?;
        let length = u.int_in_range(0..=MOST)?;
        let count = u.int_in_range(2..=BRANCHES)?;
        let mut branches: Vec<(Vec<F>, Scale)> = (0..count)
            .map(|_| Ok((input::elements(u, length)?, input::scale(u)?)))
            .collect::<arbitrary::Result<_>>()?;
        if !device.capabilities().subnormals {
            branches.iter_mut().for_each(tame);
        }
        let common = common_scale(branches.iter().map(|branch| branch.1)).expect("branches");
        let least = branches.iter().map(|branch| branch.1.log2()).min();
        assert_eq!(Some(common.log2()), least, "bringing a branch down never overflows");
        let ending = Ending {
            from: common,
            to: input::scale(u)?,
            narrowing,
            noise: Noise { seed: u.arbitrary()?, stream: u.arbitrary()? },
            stores: u.ratio(7, 8)?,
            measures: u.arbitrary()?,
        };

        let memory: Vec<_> = branches
            .iter()
            .map(|(values, scale)| (upload(device, values), upload(device, &[Cell::at(*scale)])))
            .collect();
        let views: [_; BRANCHES] = array::from_fn(|nth| {
            let (values, cell) = &memory[nth % count];
            Branch { gradient: D::view(values), cell: D::view(cell) }
        });
        let views = &views[..count];
        let left = ending.run::<F, D>(device, length, |device, to, epilogue| {
            device.run(Propagate::<_, F> { branches: views, to, epilogue })
        });
        ending.check(&left, &sums(narrowing.format, &branches, common, length), true);
        Ok(())
    });
}

/// Keeps the elements of a branch and its scale so near 1 that no sum meets a subnormal f32.
fn tame<F: Element>((values, scale): &mut (Vec<F>, Scale)) {
    let one = 1.0_f32;
    let bits = F::narrow(one, adaloss_core::format::Narrowing::to(F::ENCODING.into()), 0, 0);
    values.iter_mut().filter(|x| !x.widen().is_normal()).for_each(|x| *x = bits);
    *scale = Scale::saturating(scale.log2().clamp(-20, 20));
}

/// Returns the sums by definition.
fn sums<F: Element>(
    format: Format,
    branches: &[(Vec<F>, Scale)],
    common: Scale,
    length: usize,
) -> Vec<f32> {
    let term = |(values, scale): &(Vec<F>, Scale), index: usize| {
        let x = apfloat::read(format, values[index].to_bits()) as f32;
        let shift = common / *scale;
        let moved = to_f32(x, shift);
        let found = shifted(x, shift);
        assert!(is_same(found, moved), "2^{} * {x:e}: {found:e}, not {moved:e}", shift.log2());
        moved
    };
    let sum = |index| {
        let mut terms = branches.iter().map(|branch| term(branch, index));
        let first = terms.next().expect("two branches or more");
        // One times a term is the term: APFloat's sum with one rounding.
        terms.fold(first, |sum, term| apfloat::unfused(term, 1.0, sum))
    };
    (0..length).map(sum).collect()
}

/// Rounds the exact `2^d x` to f32 once.
fn to_f32(x: f32, shift: Shift) -> f32 {
    // The product is exact in f64, and a cast rounds to nearest even, as LLVM confirms.
    let moved = product(x, shift.log2()) as f32;
    if x.is_finite() {
        let round = apfloat::Round::NearestTiesToEven;
        let llvm = apfloat::round_product(Encoding::Binary32, x, shift.log2(), round);
        assert_eq!(moved.to_bits(), llvm);
    }
    moved
}
