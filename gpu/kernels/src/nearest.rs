//! The commonest narrowing, a few values at a time and without a branch: to nearest even, with gradual underflow.

use core::{array, marker::PhantomData};

use adaloss_core::{
    apply::Apply,
    format::{Element, Encoding, Narrowing, Overflow, Rounding, Subnormals},
    statistics::Outcome,
};

use crate::{Block, convert::round};

/// How values become elements of one type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nearest<F> {
    factor: f32,
    /// A product below this is small.
    small: f32,
    /// A product that is not normal in f32 was rounded, and an element of as many binades may not be made of it.
    rounds_twice: bool,
    /// What becomes of what is beyond the format, or infinite.
    overflow: Overflow,
    element: PhantomData<F>,
}

/// What became of values, so far: fewer than 2^32.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fates {
    pub(crate) nonfinite: u32,
    pub(crate) zero: u32,
    /// Those that are zero now.
    pub(crate) vanished: u32,
    /// Those that are zero or subnormal now.
    pub(crate) small: u32,
    pub(crate) overflow: u32,
    pub(crate) max_bits: u32,
}

impl Fates {
    pub(crate) const NONE: Self =
        Self { nonfinite: 0, zero: 0, vanished: 0, small: 0, overflow: 0, max_bits: 0 };

    /// Adds what became of a value, which is counted itself when it is taken.
    #[inline(always)]
    pub(crate) fn add(&mut self, outcome: &Outcome) {
        let Outcome { nonfinite, zero, underflow, subnormal, overflow, max_bits, .. } = *outcome;
        let vanished = zero + underflow;
        self.nonfinite += nonfinite as u32;
        self.zero += zero as u32;
        self.vanished += vanished as u32;
        self.small += (vanished + subnormal) as u32;
        self.overflow += overflow as u32;
        self.max_bits = max_bits.max(self.max_bits);
    }
}

/// Returns the greatest magnitude that is rounded to zero: half of the smallest element; of f32, whose products are
/// rounded already, zero.
const fn vanishing(encoding: Encoding) -> f32 {
    match encoding {
        Encoding::Binary32 => 0.0,
        _ => encoding.widen(1) / 2.0,
    }
}

/// Returns the least magnitude that is rounded to a normal number: half of the smallest element below that, since what lies
/// between goes to the even one.
const fn normal(encoding: Encoding) -> f32 {
    encoding.widen(encoding.min_normal_bits()) - vanishing(encoding)
}

/// Returns the least magnitude that is rounded beyond the largest finite element.
pub(crate) const fn beyond(encoding: Encoding) -> f32 {
    let greatest = encoding.max_finite_bits();
    let half = match encoding {
        Encoding::Binary32 => return f32::INFINITY,
        _ => 1 << (23 - encoding.precision()),
    };
    // Half way goes to the even one.
    f32::from_bits(encoding.widen(greatest).to_bits() + half + greatest.is_multiple_of(2) as u32)
}

/// Tells whether an encoding's smallest normal number is that of f32, and it is not f32.
const fn is_wide(encoding: Encoding) -> bool {
    matches!(encoding, Encoding::BFloat16)
}

#[inline(always)]
pub(crate) const fn magnitude(x: f32) -> u32 {
    x.to_bits() & 0x7fff_ffff
}

impl<F: Element> Nearest<F> {
    /// Settles what is the same for every value; `None` of any other narrowing than this one.
    #[inline(always)]
    pub(crate) fn new(apply: &Apply) -> Option<Self> {
        let Narrowing { format, rounding, overflow } = apply.narrowing;
        let is_commonest = matches!(rounding, Rounding::NearestEven)
            & matches!(format.subnormals, Subnormals::Gradual);
        let factor = apply.shift.factor()?;
        let rounds_twice = is_wide(F::ENCODING) & (factor < 1.0);
        is_commonest.then_some(Self {
            factor,
            small: if rounds_twice { f32::MIN_POSITIVE } else { normal(F::ENCODING) },
            rounds_twice,
            overflow,
            element: PhantomData,
        })
    }

    /// Narrows a few values, and adds what became of them.
    ///
    /// `None` where a bfloat16 is subnormal, and its product with the factor may have been rounded: then nothing was added.
    #[inline(always)]
    pub(crate) fn narrow<B: Block, const N: usize>(
        &self,
        values: [f32; N],
        fates: &mut Fates,
    ) -> Option<[F; N]> {
        let products = values.map(|x| x * self.factor);
        let (mut new, mut greatest) = (Fates::NONE, 0);
        // Over slices: the compiler unrolls them, and keeps no array in memory for them.
        for (x, product) in values.iter().zip(&products) {
            greatest = magnitude(*x).max(greatest);
            let magnitude = product.abs();
            let least = if is_wide(F::ENCODING) { self.small } else { normal(F::ENCODING) };
            new.vanished += u32::from(magnitude <= vanishing(F::ENCODING));
            new.small += u32::from(magnitude < least);
        }
        // Most that vanish were zeros, where there are any.
        if new.vanished > 0 {
            values.iter().for_each(|&x| new.zero += u32::from(x == 0.0));
        }
        if is_wide(F::ENCODING) && self.rounds_twice && new.small > new.zero {
            return None;
        }
        fates.zero += new.zero;
        fates.vanished += new.vanished;
        fates.small += new.small;
        let mut narrowed = round::<B, F, N>(products);
        let is_within = |product: f32| product < beyond(F::ENCODING);
        let mut max_bits = greatest;
        // Something is beyond the format, or no number.
        if !is_within(f32::from_bits(greatest) * self.factor) {
            max_bits = 0;
            let mut overflow = 0;
            products.iter().for_each(|x| overflow += u32::from(!is_within(x.abs())));
            if greatest >= f32::INFINITY.to_bits() {
                let mut nonfinite = 0;
                for x in &values {
                    nonfinite += u32::from(!x.is_finite());
                    let finite = if x.is_finite() { magnitude(*x) } else { 0 };
                    max_bits = finite.max(max_bits);
                }
                fates.nonfinite += nonfinite;
                overflow -= nonfinite;
            } else {
                max_bits = greatest;
            }
            fates.overflow += overflow;
            let overflowed = match self.overflow {
                Overflow::Infinity => F::ENCODING.overflow_bits(),
                Overflow::Saturate => F::ENCODING.max_finite_bits(),
            };
            narrowed = array::from_fn(|nth| {
                let (x, product) = (values[nth], products[nth]);
                let sign = (x.to_bits() >> 31) << (F::ENCODING.bits() - 1);
                let bits = if x.is_nan() { F::ENCODING.nan_bits() } else { overflowed };
                let beyond = F::from_bits(sign | bits);
                if is_within(product.abs()) { narrowed[nth] } else { beyond }
            });
        }
        fates.max_bits = max_bits.max(fates.max_bits);
        Some(narrowed)
    }
}
