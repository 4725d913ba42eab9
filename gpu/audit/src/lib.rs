//! Reads compiled GPU kernels, PTX and machine code, for threads that would wait for one another for ever.
//!
//! A barrier has to be reached by all threads of a block together, and what a warp does together (shuffles,
//! matrices) by all of its threads.  The Rust source of the kernels cannot say anything else, but an optimiser
//! may: where two branches test the same condition, it leads whoever has passed the first one around the second,
//! and a barrier behind that one is then reached on two ways.  A GPU may hang there, and no test on a host sees it.
//!
//! - [`ptx`] reads the text that the kernels are shipped as, [`flow`] finds where threads meet again that a branch
//!   has parted, and [`divergence`] which instructions are reached by some threads of a block only.
//! - [`sass`] reads the disassembly of what an assembler made of it, and [`machine`] what that takes of a GPU.
//!
//! ```
//! use adaloss_audit::{divergence, ptx::Module};
//! let text = "
//! .visible .entry kernel()
//! {
//!     mov.u32 %r1, %tid.x;
//!     setp.eq.u32 %p1, %r1, 0;
//!     @%p1 bra $L_barrier;
//!     add.u32 %r2, %r1, 1;
//! $L_barrier:
//!     bar.sync 0;
//!     ret;
//! }
//! ";
//! // All threads meet at the label: thread 0 at once, the others after an addition.
//! let module = Module::parse(text)?;
//! assert!(divergence::partial(&module.entries[0]).is_empty());
//! // Here thread 0 alone comes to the barrier.
//! let module = Module::parse(&text.replace("bar.sync 0;", "").replace("add.u32 %r2, %r1, 1;", "bar.sync 0;"))?;
//! assert_eq!(divergence::partial(&module.entries[0])[0].line, 7);
//! # Ok::<(), adaloss_audit::ptx::PtxError>(())
//! ```

#![forbid(unsafe_code)]

pub mod divergence;
pub mod estimate;
pub mod flow;
pub mod machine;
pub mod ptx;
pub mod sass;
