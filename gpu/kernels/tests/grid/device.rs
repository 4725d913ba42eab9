//! A device of the HAL whose operations are launches on the simulated grid.

use std::ptr::null_mut;

use adaloss_core::format::Element;
use adaloss_hal::{
    Branch, Capabilities, Certify, Epilogue, Finish, Fitting, HostError, HostHeap, HostMemory,
    HostSpace, Matmul, Narrow, Note, Plain, Product, Propagate, Run, Summarise, Unscale,
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
    ) -> Result<(), HostError> {
        let Matmul { product, a, b, to, epilogue } = operation.into_inner();
        let (epilogue, to) = (named(epilogue.reborrow()), Out::of(to));
        let Product { rows, inner, columns, transpose_a, transpose_b } = *product;
        let product = matmul::Product { a: a.as_ptr(), b: b.as_ptr(), rows, inner, columns };
        let transposed = [transpose_a, transpose_b];
        // SAFETY: everything named is borrowed, and has its length: the operation fits.
        self.multiplies().launch(|block| unsafe {
            matmul(block, &product, transposed, to, &epilogue);
        });
        Ok(())
    }
}

/// Names the memory of the epilogue of an operation that fits as kernels do.
fn named(of: Epilogue<'_, HostSpace>) -> epilogue::Epilogue {
    let Epilogue { from, to, narrowing, noise, stores, outcome, histogram } = of;
    epilogue::Epilogue {
        from: from.as_ptr(),
        to: to.as_ptr(),
        narrowing,
        noise,
        stores,
        outcome: outcome.as_mut_ptr(),
        histogram: histogram.map_or(null_mut(), <[_]>::as_mut_ptr),
    }
}

impl HostMemory for Simulated {
    type Error = HostError;

    fn can_do(&self) -> Capabilities {
        Capabilities::ALL
    }
}

impl HostHeap for Simulated {}

impl<F: Element + Plain> Run<Summarise<'_, '_, HostSpace, F>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, Summarise<'_, '_, HostSpace, F>>,
    ) -> Result<(), HostError> {
        let Summarise { input, to } = operation.into_inner();
        let (input, to) = (*input, to.as_mut_ptr());
        // SAFETY: nothing else names the statistics during the launch, and they are one element: the operation fits.
        self.grid().launch(|block| unsafe { statistics(block, F::ENCODING.into(), input, to) });
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

impl Run<Certify<'_, '_, HostSpace>> for Simulated {
    fn execute(
        &mut self,
        operation: Fitting<'_, Certify<'_, '_, HostSpace>>,
    ) -> Result<(), HostError> {
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
    ) -> Result<(), HostError> {
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
    ) -> Result<(), HostError> {
        let Finish { config, cells } = operation.into_inner();
        let (config, count, cells) = (*config, cells.len(), cells.as_mut_ptr());
        // SAFETY: the cells are borrowed, and as many.
        self.grid().launch(|block| unsafe { finish(block, config, cells, count) });
        Ok(())
    }
}
