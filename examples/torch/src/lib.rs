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
    use pyo3::{exceptions::PyValueError, prelude::*};

    use crate::{
        cells::{self, Look},
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

        /// Ends a step, of which looks were taken: name, largest magnitude unscaled, exponent of the scale, and whether the
        /// scale can have made it infinite.
        ///
        /// Returns the name of the cell whose scale made values infinite, if one did.
        fn step(&mut self, looks: Vec<(String, f64, i32, bool)>) -> Option<String> {
            let looks: Vec<Look> = looks
                .into_iter()
                .map(|(name, largest, scale_log2, is_scaled)| Look {
                    name,
                    largest,
                    scale_log2,
                    is_scaled,
                })
                .collect();
            self.0.step(&looks).map(str::to_owned)
        }

        /// Returns name and bytes of each cell.
        fn save(&self) -> Vec<(String, Vec<u8>)> {
            self.0.save().into_iter().map(|(name, bytes)| (name, bytes.to_vec())).collect()
        }

        /// Takes the cells that `save` returned.
        fn load(&mut self, saved: Vec<(String, Vec<u8>)>) -> PyResult<()> {
            self.0.load(saved).map_err(|name| {
                PyValueError::new_err(format!(
                    "the saved state of {name:?} is none of this format: it was damaged, or saved for another one"
                ))
            })
        }
    }
}
