//! Convolution, forward and back: on tensor cores where they multiply such operands and chunks of channels, otherwise tile by tile.

use std::ptr;

use adaloss_core::format::{Element, f16};
use adaloss_hal::{
    Epilogue, Fitting, Plain, Product, Run,
    network::{Convolution as Shape, Convolve, ConvolveInput, ConvolveWeight},
};
use adaloss_kernels::{
    epilogue,
    network::{
        convolve::{Convolution, Direction},
        implicit::Implicit,
        operand::Operand,
    },
    parts::parts_of,
};
use cudarc::driver::PushKernelArg;

use super::{operand, pool::sliding};
use crate::{
    Cuda, Elements, ElementsMut, GpuError, GpuSpace,
    device::of,
    kernels::Parameter,
    matmul::start,
    narrow::named_epilogue,
    tensor_cores::{self, Results, Sums, common},
};

/// Names a convolution as kernels do, and what its sums start at.
fn named(of: Shape, bias: Option<Elements<'_, f32>>) -> Result<Convolution, GpuError> {
    let Shape { batch, input, channels, filters, kernel, stride, padding, dilation, groups } = of;
    let [rows, columns] = sliding(input, of.output(), kernel, stride, padding)?;
    // What fits has a group.
    let groups = groups.max(1);
    let named = Convolution {
        batch,
        rows,
        columns,
        dilation,
        channels,
        filters,
        groups,
        channels_of_group: channels / groups,
        filters_of_group: filters / groups,
        bias: start(bias),
    };
    GpuError::extents(&named.counts())?;
    Ok(named)
}

/// One direction of a convolution on tensor cores.
#[derive(Clone, Copy, Debug)]
struct Convolved {
    of: Convolution,
    direction: Direction,
    lengths: [usize; 3],
}

impl Convolved {
    /// Returns what each launch computes.
    fn launches<E>(self, operands: [*const E; 2]) -> impl Iterator<Item = Implicit<E>> {
        let classes: Vec<_> = Implicit::<E>::classes(&self.of, self.direction).collect();
        let launch = move |class| Implicit::new(&self.of, self.direction, class, operands);
        classes.into_iter().map(launch)
    }
}

impl Sums for Convolved {
    fn lengths(&self) -> [usize; 3] {
        self.lengths
    }

    /// As many for each class of pixels, so that one launch adds them up.
    fn parts(&self) -> usize {
        let launches = || self.launches([ptr::null::<f16>(); 2]);
        let tiles = launches().map(|of| of.tiles(self.direction)).sum();
        let terms = launches().map(|of| of.terms(self.direction)).max();
        parts_of(tiles, terms.unwrap_or(0))
    }

    fn are_aligned(&self) -> bool {
        true
    }

    unsafe fn launch<E: tensor_cores::Operand>(
        &self,
        device: &Cuda,
        operands: [u64; 2],
        parts: usize,
        results: Results,
        to: u64,
        epilogue: &Parameter<epilogue::Epilogue>,
    ) -> Result<(), GpuError> {
        let direction = self.direction;
        for of in self.launches(operands.map(|address| address as *const E)) {
            let named = of.in_parts(parts);
            let (tiles, is_slim) = (named.tiles(direction), named.is_slim(direction));
            let kernels = &device.on_tensor_cores_of::<E>().convolutions[direction as usize];
            if tiles > 0 {
                // SAFETY: the caller's promise.
                unsafe {
                    device.launch_sums(kernels.of(is_slim), named, tiles, results, to, epilogue)?;
                }
            }
        }
        Ok(())
    }
}

/// Returns the product that a convolution is whose windows are pixels.
fn product(of: Shape, direction: Direction) -> Option<Product> {
    let Shape { batch, input: [height, width], channels, filters, .. } = of;
    let one = Shape::new(batch, of.input, channels, filters, [1; 2]);
    let pixels = batch * height * width;
    (of == one).then(|| match direction {
        Direction::Output => {
            Product { transpose_b: true, ..Product::new(pixels, channels, filters) }
        }
        Direction::Input => Product::new(pixels, filters, channels),
        Direction::Weight => {
            Product { transpose_a: true, ..Product::new(filters, pixels, channels) }
        }
    })
}

/// Runs one direction of a convolution: an operation, its operands, and what it computes.
macro_rules! convolves {
    ($operation:ident, $a:ident, $b:ident $($bias:ident)?, $direction:ident) => {
        impl<A, B, F> Run<$operation<'_, '_, GpuSpace, A, B, F>> for Cuda
        where
            A: Element + Plain,
            B: Element + Plain,
            F: Element + Plain,
        {
            fn execute(
                &mut self,
                operation: Fitting<'_, $operation<'_, '_, GpuSpace, A, B, F>>,
            ) -> Result<(), GpuError> {
                let $operation { convolution, $a, $b, $($bias,)? to, epilogue } =
                    operation.into_inner();
                let (operands, bias) = ([operand(*$a), operand(*$b)], None$(.or(*$bias))?);
                let direction = Direction::$direction;
                self.convolve(*convolution, direction, operands, bias, to, epilogue.reborrow())
            }
        }
    };
}
convolves!(Convolve, input, weight bias, Output);
convolves!(ConvolveInput, gradient, weight, Input);
convolves!(ConvolveWeight, gradient, input, Weight);

impl Cuda {
    /// Launches a convolution of operands that fit.
    fn convolve<F: Element>(
        &mut self,
        shape: Shape,
        direction: Direction,
        operands: [Parameter<Operand>; 2],
        bias: Option<Elements<'_, f32>>,
        to: &ElementsMut<'_, F>,
        epilogue: Epilogue<'_, GpuSpace>,
    ) -> Result<(), GpuError> {
        let (to, epilogue) = (to.shared(), named_epilogue(epilogue));
        let factors = operands.map(|of| (of.0.encoding(), of.0.first() as u64));
        let format = common(factors.map(|(encoding, _)| encoding));
        if let Some((format, product)) = format.zip(product(shape, direction)) {
            // SAFETY: all that is named is borrowed, and has its length, and the epilogue is for these elements: the operation fits.
            return unsafe {
                self.in_factors_of::<F>(
                    format,
                    (product, start(bias)),
                    factors,
                    to.address(),
                    &epilogue,
                )
            };
        }
        let convolution = named(shape, bias)?;
        if let Some(format) = format
            && Implicit::<f16>::has(&convolution, direction)
        {
            let [input, weight, output] = shape.lengths();
            let lengths = match direction {
                Direction::Output => [input, weight, output],
                Direction::Input => [output, weight, input],
                Direction::Weight => [output, input, weight],
            };
            let of = Convolved { of: convolution, direction, lengths };
            // SAFETY: as above.
            return unsafe {
                self.in_factors_of::<F>(format, of, factors, to.address(), &epilogue)
            };
        }
        let tiles = convolution.tiles(direction);
        let (convolution, direction) = (Parameter(convolution), direction as u32);
        let (to, count, kernel) = (to.address(), to.count(), of::<F>(&self.kernels.convolve));
        let [a, b] = operands;
        // SAFETY: the parameters are the entry point's; for the rest as above.
        unsafe {
            self.launch(kernel, self.shape_of_parts(kernel, tiles), |launch| {
                launch.arg(&convolution).arg(&direction).arg(&a).arg(&b);
                launch.arg(&to).arg(&count).arg(&epilogue);
            })
        }
    }
}
