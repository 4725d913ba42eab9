//! A device of the HAL whose operations are launches on the simulated grid.

use std::ptr::null_mut;

use adaloss_core::{
    apply::ApplyError, format::Element, policy::Cell, statistics::Statistics, unscale::Unscaled,
};
use adaloss_hal::{
    Branch, Capabilities, Certify, Epilogue, Finish, Fitting, HostHeap, HostMemory, HostSpace,
    Matmul, Narrow, Note, Plain, Product, Run, portable::PortableError,
};
use adaloss_kernels::{
    apply::apply,
    block::Factor,
    epilogue,
    grid::Grid,
    matmul::{self, matmul},
    memory::Out,
    policy::{self, Evidence, certify, finish, note},
    propagate::{self, propagate},
    statistics::statistics,
    unscale::{Gradient, Into, unscale_one},
};

/// The device: memory is the host's, and each launch has another shape and order.
#[derive(Debug, Default)]
pub(crate) struct Simulated {
    launches: u32,
}

impl Simulated {
    /// Returns the grid of the next launch.
    fn grid(&mut self) -> Grid {
        self.launches += 1;
        let shapes = [(1, 32), (3, 64), (2, 256), (7, 96), (1, 1024)];
        let (blocks, threads) = shapes[self.launches as usize % shapes.len()];
        Grid::new(blocks, threads).with_seed(self.launches % 5)
    }

    /// Returns the grid of the next product.
    pub(crate) fn multiplies(&mut self) -> Grid {
        self.launches += 1;
        Grid::new(1 + self.launches % 3, matmul::THREADS)
            .with_shared(matmul::SHARED_WORDS)
            .with_seed(self.launches % 5)
    }
}

impl<E: Factor + Plain, F: Element + Plain> Run<Matmul<'_, '_, HostSpace, E, E, F>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, Matmul<'_, '_, HostSpace, E, E, F>>,
    ) -> Result<(), PortableError> {
        let Matmul { product, a, b, to, epilogue } = operation.into_inner();
        let (epilogue, to) = (checked::<F>(epilogue.reborrow())?, Out::of(to));
        let Product { rows, inner, columns, transpose_a, transpose_b } = *product;
        let named = matmul::Product { a: a.as_ptr(), b: b.as_ptr(), rows, inner, columns };
        let transposed = [transpose_a, transpose_b];
        // SAFETY: everything named is borrowed, and has its length: the operation fits.
        self.multiplies().launch(|block| unsafe {
            matmul(block, &named, transposed, to, &epilogue);
        });
        Ok(())
    }
}

fn length(what: &'static str, expected: usize, found: usize) -> Result<(), PortableError> {
    if expected == found { Ok(()) } else { Err(PortableError::Length { what, expected, found }) }
}

fn one<'a, T>(what: &'static str, of: &'a [T]) -> Result<&'a T, PortableError> {
    length(what, 1, of.len())?;
    Ok(&of[0])
}

fn one_mut<'a, T>(what: &'static str, of: &'a mut [T]) -> Result<&'a mut T, PortableError> {
    length(what, 1, of.len())?;
    Ok(&mut of[0])
}

/// Checks an epilogue as whoever launches a kernel has to.
fn checked<F: Element>(of: Epilogue<'_, HostSpace>) -> Result<epilogue::Epilogue, PortableError> {
    let Epilogue { from, to, narrowing, noise, stores, outcome, histogram } = of;
    let asked = narrowing.format.encoding;
    if asked != F::ENCODING {
        return Err(ApplyError::Encoding { asked, given: F::ENCODING }.into());
    }
    let histogram = match histogram {
        Some(histogram) => one_mut("a histogram", histogram)?,
        None => null_mut(),
    };
    Ok(epilogue::Epilogue {
        from: one("the cell that results come from", from)?,
        to: one("the cell that results go to", to)?,
        narrowing,
        noise,
        stores,
        outcome: one_mut("an outcome", outcome)?,
        histogram,
    })
}

impl HostMemory for Simulated {
    type Error = PortableError;

    fn can_do(&self) -> Capabilities {
        Capabilities::ALL
    }
}

impl HostHeap for Simulated {}

impl<F: Element + Plain> Narrow<F> for Simulated {
    fn statistics(&mut self, values: &[F], to: &mut [Statistics]) -> Result<(), PortableError> {
        let to: *mut Statistics = one_mut("statistics", to)?;
        // SAFETY: nothing else names the statistics during the launch.
        self.grid().launch(|block| unsafe { statistics(block, F::ENCODING.into(), values, to) });
        Ok(())
    }

    fn apply(
        &mut self,
        values: &[f32],
        to: &mut [F],
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), PortableError> {
        length("the narrowed tensor", values.len(), to.len())?;
        let epilogue = checked::<F>(epilogue)?;
        let to = Out::of(to);
        // SAFETY: what the epilogue names is borrowed by it, and the cells are not written.
        self.grid().launch(|block| unsafe { apply(block, values, to, &epilogue) });
        Ok(())
    }

    fn propagate(
        &mut self,
        branches: &[Branch<&[F], &[Cell]>],
        to: &mut [F],
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), PortableError> {
        if branches.is_empty() {
            return Err(PortableError::Branches);
        }
        let named = branches.iter().map(|Branch { gradient, cell }| {
            length("a branch of a join", to.len(), gradient.len())?;
            let cell = one("the cell of a branch", cell)?;
            Ok(propagate::Branch { gradient: gradient.as_ptr(), cell })
        });
        let named: Vec<_> = named.collect::<Result<_, PortableError>>()?;
        let epilogue = checked::<F>(epilogue)?;
        let to = Out::of(to);
        // SAFETY: as above, and the branches have their lengths.
        self.grid().launch(|block| unsafe { propagate(block, &named, to, &epilogue) });
        Ok(())
    }

    fn unscale(
        &mut self,
        gradient: &[F],
        cell: &[Cell],
        to: &mut [f32],
        met: &mut [Unscaled],
    ) -> Result<(), PortableError> {
        length("the unscaled tensor", gradient.len(), to.len())?;
        let gradient = Gradient {
            from: gradient.as_ptr(),
            to: to.as_mut_ptr(),
            count: to.len(),
            cell: one("the cell of a gradient", cell)?,
            met: one_mut("what unscaling met", met)?,
        };
        self.grid().launch(|block| {
            // SAFETY: the gradient names what was borrowed, and `NULL` is no counter.
            unsafe {
                unscale_one(block, F::ENCODING.into(), &gradient, Into::Place, null_mut());
            }
        });
        Ok(())
    }
}

impl Run<Certify<'_, '_, HostSpace>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, Certify<'_, '_, HostSpace>>,
    ) -> Result<(), PortableError> {
        let Certify { config, histogram, cell, certificate } = operation.into_inner();
        let evidence = Evidence {
            config: *config,
            histogram: histogram.as_ptr(),
            cell: cell.as_mut_ptr(),
            certificate: certificate.as_mut_ptr(),
        };
        // SAFETY: everything named is borrowed, and is one element: the operation fits.
        self.grid().launch(|block| unsafe { certify(block, &[evidence]) });
        Ok(())
    }
}

impl Run<Note<'_, '_, HostSpace>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, Note<'_, '_, HostSpace>>,
    ) -> Result<(), PortableError> {
        let Note { config, outcome, from, cell } = operation.into_inner();
        let of = policy::Note {
            config: *config,
            outcome: outcome.as_ptr(),
            from: from.as_ptr(),
            cell: cell.as_mut_ptr(),
        };
        // SAFETY: everything named is borrowed, and is one element: the operation fits.
        self.grid().launch(|block| unsafe { note(block, &[of]) });
        Ok(())
    }
}

impl Run<Finish<'_, '_, HostSpace>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, Finish<'_, '_, HostSpace>>,
    ) -> Result<(), PortableError> {
        let Finish { config, cells } = operation.into_inner();
        let (config, count, cells) = (*config, cells.len(), cells.as_mut_ptr());
        // SAFETY: the cells are borrowed, and as many.
        self.grid().launch(|block| unsafe { finish(block, config, cells, count) });
        Ok(())
    }
}
