//! Runs the PTX that the kernels are shipped as, and finds what a GPU would let pass.
//!
//! ```text
//! text --> tokens --> statements --> instructions with numbered registers --> a warp at a time
//!          token      reader         decode, operands, code                   launch, block, machine
//! ```
//!
//! An instruction is executed by all threads of a warp at once that are at it: a register is an array of 32 lanes.
//! Threads that a branch has parted go on by themselves, and together where they meet.  The ISA leaves much open;
//! what an execution makes of it is said by a [`Schedule`], and is the same for the same one.
//!
//! What is not known is an error, with its line: an operation, a modifier, a type, a directive.  What a kernel must
//! not do is a [`Fault`]: an access beyond what is there or not aligned, a read of registers or shared memory that
//! nobody wrote, a race for shared memory, an access to bytes whose copy was not waited for, a barrier that some threads
//! do not come to.
//!
//! Not simulated: more than one axis of blocks and threads, memory that a module's kernels write (`.global` is
//! constant), calls, textures, and the order of accesses to global memory by different blocks, which run one after
//! the other.  Not looked for: races for global memory, and reads of local memory that nobody wrote.
//!
//! ```
//! use adaloss_interpreter::{GlobalMemory, Launch, Module, Refused, Schedule};
//!
//! /// One allocation.
//! struct Words(Vec<u8>);
//!
//! const FIRST: u64 = 0x7f00_0000;
//!
//! impl GlobalMemory for Words {
//!     fn read(&self, address: u64, to: &mut [u8]) -> Result<(), Refused> {
//!         let first = address.wrapping_sub(FIRST) as usize;
//!         let from = self.0.get(first..first.saturating_add(to.len())).ok_or(Refused::NOWHERE)?;
//!         to.copy_from_slice(from);
//!         Ok(())
//!     }
//!     fn write(&mut self, address: u64, from: &[u8]) -> Result<(), Refused> {
//!         let first = address.wrapping_sub(FIRST) as usize;
//!         let to = self.0.get_mut(first..first.saturating_add(from.len())).ok_or(Refused::NOWHERE)?;
//!         to.copy_from_slice(from);
//!         Ok(())
//!     }
//! }
//!
//! let module = Module::parse("
//! .visible .entry number(.param .u64 to)
//! {
//!     .reg .b32 %r<2>;
//!     .reg .b64 %rd<3>;
//!     ld.param.b64 %rd0, [to];
//!     mov.u32 %r0, %tid.x;
//!     mul.wide.u32 %rd1, %r0, 4;
//!     add.s64 %rd2, %rd0, %rd1;
//!     st.global.b32 [%rd2], %r0;
//!     ret;
//! }
//! ")?;
//! let launch = Launch {
//!     blocks: 1,
//!     threads: 32,
//!     dynamic_shared_bytes: 0,
//!     parameters: &FIRST.to_le_bytes(),
//!     schedule: Schedule::default(),
//!     most_instructions: Some(1000),
//! };
//! let number = module.entry("number").expect("the entry");
//! let mut memory = Words(vec![0; 128]);
//! let counts = number.launch(&mut memory, &launch)?;
//! assert_eq!(memory.0[4..12], [1, 0, 0, 0, 2, 0, 0, 0]);
//! assert_eq!((counts.total().by_warps, counts.sectors_written), (6, 4));
//!
//! // There is one word too few.
//! let fault = number.launch(&mut Words(vec![0; 124]), &launch).unwrap_err();
//! assert_eq!(
//!     fault.to_string(),
//!     "number, line 10, block 0, thread 31: 4 bytes at 0x7f00007c: in no allocation"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod access;
mod bits;
mod block;
mod code;
mod compare;
mod compute;
mod convert;
mod counts;
mod decode;
mod error;
mod float;
mod integer;
mod lanes;
mod launch;
mod machine;
mod memory;
mod module;
mod names;
mod operands;
pub mod operation;
mod reader;
mod registers;
mod schedule;
mod shared;
mod shuffle;
mod small;
mod tensor;
pub mod text;
mod token;
mod traffic;
pub mod types;
mod undefined;
mod warp;

pub use counts::{Class, Counts, Executed};
pub use error::{Fault, FaultKind, PtxError};
pub use launch::Launch;
pub use memory::{GlobalMemory, Refused};
pub use module::{Entry, Module, Parameter};
pub use schedule::{Divergence, Schedule};
pub use tensor::Sums;
