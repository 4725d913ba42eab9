//! Operands, epilogues and the shapes that convolutions are tried on.

use adaloss_core::{
    format::{Element, Format, Narrowing, Noise},
    policy::Cell,
    scale::Scale,
    statistics::{Histogram, Outcome},
};
use adaloss_hal::{Epilogue, HostError, HostSpace, network::Convolution};

/// Strides from one to three, padding, groups up to one per channel, kernels of one pixel and
/// larger than the image, dilation that does and does not divide strides, numbers of channels around those of a line, windows that
/// are mostly or nearly all padding, numbers that do not fit where they need not, and nothing at all.
pub(crate) fn shapes() -> Vec<Convolution> {
    let square = |batch, size, channels, filters, kernel| {
        Convolution::new(batch, [size; 2], channels, filters, [kernel; 2])
    };
    vec![
        square(1, 1, 1, 1, 1),
        square(2, 5, 3, 4, 3),
        square(3, 8, 16, 16, 3).padding([1; 2]),
        square(17, 8, 16, 32, 3).padding([1; 2]).stride([2; 2]),
        square(2, 9, 17, 33, 3).padding([1; 2]).stride([3; 2]),
        square(2, 7, 5, 20, 1),
        square(2, 8, 16, 24, 1).stride([2; 2]),
        square(2, 8, 12, 8, 1).stride([3; 2]),
        square(2, 6, 8, 8, 3).padding([1; 2]).groups(8),
        square(2, 6, 4, 12, 3).padding([1; 2]).groups(4).stride([2; 2]),
        square(2, 6, 40, 20, 3).padding([2, 0]).groups(2),
        square(2, 3, 3, 5, 5).padding([2; 2]),
        square(1, 2, 3, 5, 5).padding([4; 2]).stride([3, 2]),
        square(1, 4, 2, 3, 4),
        Convolution::new(2, [12, 3], 2, 2, [7, 1]).stride([2, 1]).padding([3, 0]),
        Convolution::new(1, [5, 17], 3, 7, [2, 4]).stride([1, 3]).padding([0, 1]),
        // An image that is divided, and many that are not.
        Convolution::new(2, [37, 70], 16, 18, [3; 2]).padding([1; 2]),
        Convolution::new(1, [61, 41], 18, 17, [5, 3]).stride([2; 2]).padding([2, 1]),
        square(50, 4, 8, 8, 3).padding([1; 2]),
        square(2, 9, 17, 33, 3).padding([2; 2]).dilation([2; 2]),
        square(2, 19, 16, 32, 3).padding([6; 2]).dilation([6; 2]),
        square(3, 13, 5, 16, 3).padding([3, 1]).dilation([3, 1]).stride([2; 2]),
        square(2, 17, 16, 18, 3).padding([4, 6]).dilation([4, 6]).stride([2, 4]),
        square(1, 17, 3, 2, 4).padding([2, 9]).dilation([3, 4]).stride([3, 6]),
        square(2, 8, 6, 12, 3).padding([2, 4]).dilation([2, 4]).groups(3),
        Convolution::new(2, [33, 70], 16, 18, [3; 2]).padding([2, 3]).dilation([2, 3]),
        square(2, 3, 5, 17, 3).padding([30; 2]).dilation([30, 31]).stride([2, 3]),
        square(2, 3, 4, 6, 2).padding([1 << 40; 2]).dilation([1 << 40; 2]).stride([1 << 39; 2]),
        square(2, 5, 3, 4, 1).stride([usize::MAX; 2]).dilation([usize::MAX, 1 << 63]),
        square(0, 5, 3, 2, 3),
        square(2, 4, 0, 3, 3),
        square(2, 4, 3, 0, 3),
    ]
}

/// Returns a random word: a hash of its place, `lowbias32` of Wellons' hash prospector.
pub(crate) fn word(stream: u32, index: usize) -> u32 {
    let mut x = (index as u32).wrapping_add(stream.wrapping_mul(0x9e37_79b9));
    x = (x ^ x >> 16).wrapping_mul(0x21f0_aaad);
    x = (x ^ x >> 15).wrapping_mul(0xd35a_2d97);
    x ^ x >> 15
}

/// Returns random elements of several binades.
pub(crate) fn reals<E: Element>(stream: u32, count: usize) -> Vec<E> {
    let real = |index| {
        let bits = word(stream, index);
        let x = (1.0 + (bits & 0xffff) as f32 / 65536.0) * ((bits >> 16 & 7) as f32 - 4.0).exp2();
        narrow(if bits >> 31 == 1 { -x } else { x })
    };
    (0..count).map(real).collect()
}

/// Returns small integers, whose sums of products are exact in any order.
pub(crate) fn integers<E: Element>(stream: u32, count: usize) -> Vec<E> {
    (0..count).map(|index| narrow((word(stream, index) % 9) as f32 - 4.0)).collect()
}

fn narrow<E: Element>(x: f32) -> E {
    E::narrow(x, Narrowing::to(Format::from(E::ENCODING)), 0, 0)
}

/// What an operation that stores and measures left.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Readout<F> {
    pub(crate) results: Vec<F>,
    pub(crate) outcome: Outcome,
    pub(crate) histogram: Histogram,
}

impl<F: Element> Readout<F> {
    /// Returns the bits of the results, in which NaN equals itself.
    pub(crate) fn bits(&self) -> Vec<u32> {
        self.results.iter().map(|x| x.to_bits()).collect()
    }
}

/// Runs an operation with an epilogue that brings results from 2^0 to `scale`.
pub(crate) fn run<F: Element>(
    count: usize,
    narrowing: Narrowing,
    scale: Scale,
    operation: impl for<'w> FnOnce(&'w mut [F], Epilogue<'w, HostSpace>) -> Result<(), HostError>,
) -> Readout<F> {
    let cells = [Cell::at(Scale::ONE), Cell::at(scale)];
    let mut outcome = [Outcome::EMPTY];
    let mut histogram = [Histogram::new(narrowing)];
    let mut results = vec![F::from_bits(0x55); count];
    let epilogue = Epilogue {
        from: &cells[..1],
        to: &cells[1..],
        narrowing,
        noise: Noise { seed: 3, stream: 5 },
        stores: true,
        when: None,
        outcome: &mut outcome[..],
        histogram: Some(&mut histogram[..]),
    };
    operation(&mut results, epilogue).expect("operands of the right shape");
    Readout { results, outcome: outcome[0], histogram: histogram[0] }
}
