//! A stand-in for the CUDA driver, for tests: `libcuda`, as far as `adaloss-gpu` calls it, with the
//! simulated grid of [`adaloss_kernels`] in the place of a GPU.
//!
//! ```text
//! adaloss-gpu --> cudarc --> dlopen("libcuda.so") --> this library --> the same kernels, on the grid
//! ```
//!
//! A launch runs the generic kernel that the PTX was made of; of the PTX text only its entry points and the
//! sizes of their parameters are read.  So what is tested is the host's side: which kernels it launches with
//! what, in which order, and when it waits.  On two more devices a launch runs the text itself, by
//! [`adaloss_interpreter`], which says what a kernel does that it must not.
//!
//! What a host gets wrong is noticed where a GPU would let it pass or fail at random:
//! - work is done when somebody waits for it, and not before: who does not wait sees old bytes;
//! - memory holds noise until it is written, and again after it was freed;
//! - pinned memory of the host is read when a copy is done, other memory when it is asked for;
//! - copies beyond an allocation and frees of what is none are refused, and so is an address given to
//!   a kernel that is not in one; a kernel that writes beyond an allocation breaks the context, as on a
//!   GPU;
//! - while a stream is captured, whatever waits is refused, and the capture is lost;
//! - calls without a current context are refused, on each thread.
//!
//! How many parameters a launch passes cannot be seen from here, nor on a GPU: it is as many as the
//! entry point has.
//!
//! There are three devices named "simulated grid": of compute capability 9.0, 8.0 and 7.5, which is too old
//! for the kernels; and two named "interpreted PTX", of 9.0 and 8.0.  `CUDA_VISIBLE_DEVICES` chooses among them, by their
//! numbers: 3 and 4 are the last two.  Not simulated: captures over several streams, memory that a graph
//! allocates, more than one dimension of blocks.  What is not simulated answers
//! `CUDA_ERROR_NOT_SUPPORTED`.
//!
//! # Examples
//!
//! ```no_run
//! let driver = adaloss_driver::Simulated::open()?; // before the first call of cudarc
//! // ... Cuda::new(0) ...
//! assert_eq!(driver.calls("cuStreamSynchronize"), 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod api;
mod driver;
mod executed;
mod kernel;
mod memory;
mod module;
mod simulated;
mod status;
mod stream;
mod text;

pub use executed::Executed;
pub use simulated::Simulated;

/// The variable that names a file of PTX, to be executed in the place of what a program loads on a device that executes text:
/// for tests of what finds mistakes in it.
pub const TEXT: &str = "ADALOSS_SIMULATED_TEXT";

/// The variable that plants mistakes in kernels, for tests of programs that have to survive them: one or more of
/// `hang=`, `crash=` and `differ=`, each with the name of an entry point, with commas between them.
pub const PLANTED: &str = "ADALOSS_SIMULATED_FAULTS";
