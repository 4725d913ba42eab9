//! A device of the HAL whose operations are launches on the simulated grid.

use std::ptr::{null, null_mut};

use adaloss_core::{
    format::{Element, Encoding, bf16, f16},
    policy::Cell,
};
use adaloss_hal::{
    Branch, Capabilities, Device, Epilogue, Fitting, HostError, HostSpace, Matmul, Memory, Narrow,
    Plain, Product, Propagate, Run, Summarise, Unscale,
    host::{filled, same_length},
    scaler::{Advance, Close, Conclude, DeviceScaler, Ended, Ending, Evidence, Judge},
};
use adaloss_kernels::{
    apply::apply,
    block::Factor,
    epilogue,
    grid::Grid,
    matmul::{self, matmul},
    memory::Out,
    multiply::{self, Multiplication, multiply},
    network::operand::Operand,
    propagate::{self, propagate},
    scaler::{self, List, Place},
    statistics::statistics,
    tensor_cores,
    unscale::{Gradient, Into, unscale_one},
};

/// The device: memory is the host's, and each launch has another shape and order.
#[derive(Debug, Default)]
pub(crate) struct Simulated {
    launches: u32,
}

impl Simulated {
    /// Returns the grid of the next launch.
    pub(crate) fn grid(&mut self) -> Grid {
        self.launches += 1;
        let shapes = [(1, 32), (3, 64), (2, 256), (7, 96), (1, 1024)];
        let (blocks, threads) = shapes[self.launches as usize % shapes.len()];
        Grid::new(blocks, threads).with_seed(self.launches % 5)
    }

    /// Returns the grid of the next product.
    pub(crate) fn multiplies(&mut self) -> Grid {
        self.launches += 1;
        Grid::new(1 + self.launches % 3, tensor_cores::THREADS)
            .with_shared(tensor_cores::SHARED_WORDS)
            .with_seed(self.launches % 5)
    }

    /// Returns the grid of the next launch that computes tiles of sums.
    pub(crate) fn tiles(&mut self) -> Grid {
        self.launches += 1;
        Grid::new(1 + self.launches % 3, multiply::THREADS).with_seed(self.launches % 5)
    }

    /// Multiplies on tensor cores operands that fit.
    fn multiply<E: Factor, F: Element>(
        &mut self,
        product: Product,
        [a, b]: [*const E; 2],
        bias: *const f32,
        to: Out<'_, F>,
        epilogue: &epilogue::Epilogue,
    ) {
        let Product { rows, inner, columns, transpose_a, transpose_b } = product;
        let product = matmul::Product { a, b, bias, rows, inner, columns, parts: 1 };
        let transposed = [transpose_a, transpose_b];
        // SAFETY: everything named is borrowed, and has its length: the operation fits.
        self.multiplies().launch(|block| unsafe {
            if product.is_slim() {
                matmul::<_, E, F, true>(block, &product, transposed, to, epilogue);
            } else {
                matmul::<_, E, F, false>(block, &product, transposed, to, epilogue);
            }
        });
    }
}

impl<A, B, F> Run<Matmul<'_, '_, HostSpace, A, B, F>> for Simulated
where
    A: Element + Plain,
    B: Element + Plain,
    F: Element + Plain,
{
    fn execute(
        &mut self,
        operation: Fitting<'_, Matmul<'_, '_, HostSpace, A, B, F>>,
    ) -> Result<(), HostError> {
        let Matmul { product, a, b, bias, to, epilogue } = operation.into_inner();
        let (epilogue, to) = (named(epilogue.reborrow()), Out::of(to));
        let bias = bias.map_or(null(), <[_]>::as_ptr);
        match (A::ENCODING, B::ENCODING) {
            (Encoding::Binary16, Encoding::Binary16) => {
                self.multiply::<f16, F>(
                    *product,
                    [a.as_ptr().cast(), b.as_ptr().cast()],
                    bias,
                    to,
                    &epilogue,
                );
            }
            (Encoding::BFloat16, Encoding::BFloat16) => {
                self.multiply::<bf16, F>(
                    *product,
                    [a.as_ptr().cast(), b.as_ptr().cast()],
                    bias,
                    to,
                    &epilogue,
                );
            }
            _ => {
                let Product { rows, inner, columns, transpose_a, transpose_b } = *product;
                let (transposes_a, transposes_b) = (transpose_a, transpose_b);
                let product =
                    Multiplication { rows, inner, columns, transposes_a, transposes_b, bias };
                let operands = [Operand::new(a.as_ptr()), Operand::new(b.as_ptr())];
                // SAFETY: everything named is borrowed, and has its length: the operation fits.
                self.tiles().launch(|block| unsafe {
                    multiply(block, &product, operands, to, &epilogue);
                });
            }
        }
        Ok(())
    }
}

/// Names the memory of the epilogue of an operation that fits as kernels do.
pub(crate) fn named(of: Epilogue<'_, HostSpace>) -> epilogue::Epilogue {
    let Epilogue { from, to, narrowing, noise, stores, when, outcome, histogram } = of;
    epilogue::Epilogue {
        from: from.as_ptr(),
        to: to.as_ptr(),
        narrowing,
        noise,
        stores,
        when: when.map_or(null(), <[_]>::as_ptr),
        outcome: outcome.as_mut_ptr(),
        histogram: histogram.map_or(null_mut(), <[_]>::as_mut_ptr),
    }
}

/// It is no `HostMemory`, whose operations on scalers are not kernels.
impl Device for Simulated {
    type Error = HostError;
    type Space = HostSpace;

    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    fn read<T: Plain>(&mut self, from: &[T], to: &mut [T]) -> Result<(), HostError> {
        same_length("what is read", from.len(), to.len())?;
        to.copy_from_slice(from);
        Ok(())
    }

    fn is_off(&mut self, _: &[u32]) -> Result<bool, HostError> {
        Ok(false)
    }

    fn write<T: Plain>(&mut self, from: &[T], to: &mut [T]) -> Result<(), HostError> {
        same_length("what is written", from.len(), to.len())?;
        to.copy_from_slice(from);
        Ok(())
    }
}

impl Memory for Simulated {
    type Buffer<T: Plain> = Vec<T>;

    fn zeroed<T: Plain>(&mut self, length: usize) -> Result<Vec<T>, HostError> {
        filled(length, T::zeroed())
    }

    fn view<T: Plain>(buffer: &Vec<T>) -> &[T] {
        buffer
    }

    fn view_mut<T: Plain>(buffer: &mut Vec<T>) -> &mut [T] {
        buffer
    }
}

impl<F: Element + Plain> Run<Summarise<'_, '_, HostSpace, F>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, Summarise<'_, '_, HostSpace, F>>,
    ) -> Result<(), HostError> {
        let Summarise { input, to, when } = operation.into_inner();
        let (input, to, when) = (*input, to.as_mut_ptr(), when.map_or(null(), <[_]>::as_ptr));
        self.grid().launch(|block| {
            // SAFETY: nothing else names the statistics during the launch, and they are one element, as a predicate is: the
            // operation fits.
            unsafe { statistics(block, F::ENCODING.into(), input, to, when) };
        });
        Ok(())
    }
}

impl<F: Element + Plain> Run<Narrow<'_, '_, HostSpace, F>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, Narrow<'_, '_, HostSpace, F>>,
    ) -> Result<(), HostError> {
        let Narrow { input, to, epilogue } = operation.into_inner();
        let (input, to, epilogue) = (*input, Out::of(to), named(epilogue.reborrow()));
        // SAFETY: everything named is borrowed, and the cells are not written; the tensors are of one length and the epilogue
        // is for their elements: the operation fits.
        self.grid().launch(|block| unsafe { apply(block, input, to, &epilogue) });
        Ok(())
    }
}

impl<F: Element + Plain> Run<Propagate<'_, '_, HostSpace, F>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, Propagate<'_, '_, HostSpace, F>>,
    ) -> Result<(), HostError> {
        let Propagate { branches, to, epilogue } = operation.into_inner();
        let branches = branches.iter().map(|Branch { gradient, cell }| propagate::Branch {
            gradient: gradient.as_ptr(),
            cell: cell.as_ptr(),
        });
        let branches: Vec<_> = branches.collect();
        let (to, epilogue) = (Out::of(to), named(epilogue.reborrow()));
        // SAFETY: as above, and the branches have as many elements and a cell each.
        self.grid().launch(|block| unsafe { propagate(block, &branches, to, &epilogue) });
        Ok(())
    }
}

impl<F: Element + Plain> Run<Unscale<'_, '_, HostSpace, F>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, Unscale<'_, '_, HostSpace, F>>,
    ) -> Result<(), HostError> {
        let Unscale { gradient, cell, to, counts } = operation.into_inner();
        let gradient = Gradient {
            from: gradient.as_ptr(),
            to: to.as_mut_ptr(),
            count: to.len(),
            cell: cell.as_ptr(),
            met: counts.as_mut_ptr(),
        };
        self.grid().launch(|block| {
            // SAFETY: the gradient names what is borrowed, and fits; `NULL` is no counter.
            unsafe {
                unscale_one(block, F::ENCODING.into(), &gradient, Into::Place, null_mut());
            }
        });
        Ok(())
    }
}

/// Names a scaler as kernels do.
fn scaler(of: &mut DeviceScaler<'_, '_, HostSpace>) -> scaler::Scaler {
    let DeviceScaler { config, state, cells, nth } = of;
    scaler::Scaler {
        config: *config,
        state: state.as_mut_ptr(),
        cells: cells.as_mut_ptr(),
        cell_count: cells.len(),
        nth: *nth,
    }
}

/// Names a list as kernels do.
fn list<T: Copy>(items: &[T], nothing: T) -> List<T> {
    let (first, others) = items.split_first().map_or((nothing, &[][..]), |(of, rest)| (*of, rest));
    List { count: items.len(), first, others: others.as_ptr() }
}

impl Run<Advance<'_, '_, HostSpace>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, Advance<'_, '_, HostSpace>>,
    ) -> Result<(), HostError> {
        let Advance { ending, asked, sources, scaler, outcome, histogram, from, to, when } =
            operation.into_inner();
        let sources: Vec<_> = sources.iter().map(|source| source.as_ptr()).collect();
        let opening = asked.opening;
        let advance = scaler::Advance {
            scaler: self::scaler(scaler),
            ending: ending.as_mut().map_or(scaler::Ending::NONE, self::ending),
            place: opening.map(|opening| opening.place).into(),
            elements: opening.map_or(0, |opening| opening.elements),
            stream: opening.map_or(0, |opening| opening.stream),
            purpose: asked.purpose.into(),
            sources: list::<*const Cell>(&sources, null()),
            outcome: outcome.as_mut_ptr(),
            histogram: histogram.as_mut_ptr(),
            from: from.as_mut_ptr(),
            to: to.as_mut_ptr(),
            when: when.as_mut_ptr(),
        };
        // SAFETY: everything named is borrowed, and has its length: the operation fits.
        self.grid().launch(|block| unsafe { scaler::advance(block, &advance) });
        Ok(())
    }
}

impl Run<Close<'_, '_, HostSpace>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, Close<'_, '_, HostSpace>>,
    ) -> Result<(), HostError> {
        let Close { origins, scaler, outcome, histogram, scale, serial, line } =
            operation.into_inner();
        let origins: Vec<_> = origins.iter().map(|&origin| Place::from(origin)).collect();
        let close = scaler::Close {
            scaler: self::scaler(scaler),
            origins: list(&origins, Place::Unknown),
            outcome: outcome.as_mut_ptr(),
            histogram: histogram.as_ptr(),
            scale: scale.as_mut_ptr(),
            serial: *serial,
            line: line.as_mut_ptr(),
        };
        // SAFETY: as above.
        self.grid().launch(|block| unsafe { scaler::close(block, &close) });
        Ok(())
    }
}

impl Run<Judge<'_, '_, '_, HostSpace>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, Judge<'_, '_, '_, HostSpace>>,
    ) -> Result<(), HostError> {
        let Judge { ended, evidence, scaler, other } = operation.into_inner();
        let evidence: Vec<_> = evidence.iter_mut().map(self::evidence).collect();
        let nothing = scaler::Evidence::WeightSquares { id: 0, sum: null() };
        let (ending, outcome, histogram) = match ended {
            Some(Ended { ending, outcome, histogram }) => {
                (self::ending(ending), outcome.as_mut_ptr(), histogram.as_ptr())
            }
            None => (scaler::Ending::NONE, null_mut(), null()),
        };
        let judge = scaler::Judge {
            scaler: self::scaler(scaler),
            other: other.map_or(null(), <[_]>::as_ptr),
            ending,
            outcome,
            histogram,
            evidence: list(&evidence, nothing),
        };
        // SAFETY: as above.
        self.grid().launch(|block| unsafe { scaler::judge(block, &judge) });
        Ok(())
    }
}

/// Names the end of a visit as kernels do.
fn ending(of: &mut Ending<'_, HostSpace>) -> scaler::Ending {
    let Ending { origins, serial, line } = of;
    let origins = origins.map(Place::from);
    scaler::Ending { origins, serial: *serial, line: line.as_mut_ptr() }
}

/// Names evidence as kernels do.
fn evidence(of: &mut Evidence<'_, '_, HostSpace>) -> scaler::Evidence {
    match of {
        Evidence::Gradient { id, origin, elements, outcome } => scaler::Evidence::Gradient {
            id: *id,
            origin: (*origin).into(),
            elements: *elements,
            outcome: outcome.as_mut_ptr(),
        },
        Evidence::Unscaled { id, origin, elements, counts } => scaler::Evidence::Unscaled {
            id: *id,
            origin: (*origin).into(),
            elements: *elements,
            counts: counts.as_mut_ptr(),
        },
        Evidence::Loss { rows, sum, serial, line } => scaler::Evidence::Loss {
            rows: *rows,
            sum: sum.as_ptr(),
            serial: *serial,
            line: line.as_mut_ptr(),
        },
        Evidence::Squares { id, is_gradient, sum } => {
            scaler::Evidence::Squares { id: *id, is_gradient: *is_gradient, sum: sum.as_ptr() }
        }
        Evidence::Weight { id, elements, saturates, outcome } => scaler::Evidence::Weight {
            id: *id,
            elements: *elements,
            saturates: *saturates,
            outcome: outcome.as_ptr(),
        },
        Evidence::WeightSquares { id, sum } => {
            scaler::Evidence::WeightSquares { id: *id, sum: sum.as_ptr() }
        }
    }
}

impl Run<Conclude<'_, '_, HostSpace>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, Conclude<'_, '_, HostSpace>>,
    ) -> Result<(), HostError> {
        let Conclude { scaler, requires, applies, updates, square_norm, serial, line } =
            operation.into_inner();
        let conclude = scaler::Conclude {
            scaler: self::scaler(scaler),
            requires: requires.map_or(null(), <[_]>::as_ptr),
            applies: applies.as_mut_ptr(),
            updates: updates.as_mut_ptr(),
            square_norm: square_norm.as_mut_ptr(),
            serial: *serial,
            line: line.as_mut_ptr(),
        };
        // SAFETY: as above.
        self.grid().launch(|block| unsafe { scaler::conclude(block, &conclude) });
        Ok(())
    }
}
