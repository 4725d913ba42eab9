//! The Rust half of the Python package `adaloss`: decisions and histograms, which are `adaloss-core`'s.
//!
//! The package is documented where it is used, in Python; `python/adaloss/_core.pyi` has the signatures.

mod cells;
mod histogram;

use pyo3::prelude::*;

/// `adaloss._core`.
#[pymodule]
mod _core {
    #[pymodule_export]
    use super::{histogram::Histogram, python::Cells};

    /// The version of the package.
    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "what Python calls it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}

/// What Python sees of [`cells`].
mod python {
    use adaloss_core::scaler::share::ShareError;
    use pyo3::{exceptions::PyValueError, prelude::*};

    use crate::{
        cells::{self, LoadError, Look},
        histogram::format_of,
    };

    /// The scales of a model's gradients, by name.
    #[pyclass(module = "adaloss._core")]
    pub(crate) struct Cells(cells::Cells);

    #[pymethods]
    impl Cells {
        #[new]
        fn new(format: &str) -> PyResult<Self> {
            Ok(Self(cells::Cells::new(format_of(format)?)))
        }

        /// Returns the exponent of the scale of a name, None before its first step.
        fn scale_log2(&self, name: &str) -> Option<i32> {
            self.0.scale_log2(name)
        }

        /// Takes note of looks of the step under way: name, largest magnitude unscaled, exponent of the scale, and whether
        /// the scale can have made it infinite.
        fn look(&mut self, looks: Vec<(String, f64, i32, bool)>) {
            let looks: Vec<Look> = looks
                .into_iter()
                .map(|(name, largest, scale_log2, is_scaled)| Look {
                    name,
                    largest,
                    scale_log2,
                    is_scaled,
                })
                .collect();
            self.0.look(&looks);
        }

        /// Ends the step; returns the name of the cell whose scale made values infinite, if one did.
        fn finish(&mut self) -> Option<String> {
            self.0.finish().map(str::to_owned)
        }

        /// Returns how many steps were finished.
        #[getter]
        fn steps(&self) -> u64 {
            self.0.steps()
        }

        fn __len__(&self) -> usize {
            self.0.names().len()
        }

        /// Returns the names of all cells, in the order of their numbers.
        fn names(&self) -> Vec<String> {
            self.0.names().to_vec()
        }

        /// Tells whether there is a cell of this name.
        fn has(&self, name: &str) -> bool {
            self.0.has(name)
        }

        /// Gives cells to names that have none, in this order.
        fn add(&mut self, names: Vec<String>) {
            for name in &names {
                self.0.number(name);
            }
        }

        /// Returns the message of this rank.
        fn pack(&mut self) -> PyResult<Vec<u8>> {
            self.0.pack().map_err(|error| PyValueError::new_err(error.to_string()))
        }

        /// Returns in what ranks differ that cannot share the step of a merged message, or of its header.
        fn differs(&mut self, merged: &[u8]) -> Option<&'static str> {
            let error = self.0.matches(merged).err()?;
            Some(match error {
                ShareError::Version => "version",
                ShareError::Cells => "cells",
                ShareError::Config => "config",
                ShareError::Step { .. } => "step",
                ShareError::Digest { .. } => "digest",
                _ => "damaged",
            })
        }

        /// Takes the merged message of all ranks.
        fn unpack(&mut self, merged: &[u8]) -> PyResult<()> {
            self.0.unpack(merged).map_err(|error| PyValueError::new_err(error.to_string()))
        }

        /// Returns the digest of the configuration.
        fn configuration(&mut self) -> u32 {
            self.0.configuration()
        }

        /// Returns digests of what the step began with, each with the name of the cell, None of what is of no cell.
        fn parts(&mut self) -> Vec<(Option<String>, u64)> {
            self.0.parts()
        }

        /// Returns name and bytes of each cell.
        fn save(&self) -> Vec<(String, Vec<u8>)> {
            self.0.save().into_iter().map(|(name, bytes)| (name, bytes.to_vec())).collect()
        }

        /// Returns the bytes of what is kept of the run beside its cells.
        fn save_run(&self) -> Vec<u8> {
            self.0.save_run()
        }

        /// Takes what `save` and `save_run` returned.
        #[pyo3(signature = (saved, run=None))]
        fn load(&mut self, saved: Vec<(String, Vec<u8>)>, run: Option<Vec<u8>>) -> PyResult<()> {
            self.0.load(saved, run.as_deref()).map_err(|error| {
                PyValueError::new_err(match error {
                    LoadError::Cell(name) => format!(
                        "the saved state of {name:?} is none of this format: it was damaged, or saved for another one"
                    ),
                    LoadError::Run => String::from(
                        "the saved counts of steps are none of this format: they were damaged, or saved for another one",
                    ),
                })
            })
        }
    }
}
