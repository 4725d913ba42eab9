//! The fast device for host memory: threads and vector instructions.
//!
//! It does what the [`portable`](adaloss_hal::portable) device does.  Work is divided into chunks that
//! depend on the shape alone, and partial sums are merged in the order of the chunks, so that the
//! number of threads changes no bit.  Within a chunk, products and convolutions run through two
//! kernels that keep a tile of sums in registers (`kernel`); their f32 results stay in the cache
//! until the epilogue (`sink`) has measured and narrowed them.
//!
//! Vector instructions are those of `pulp`, which picks the widest that the machine has; the
//! elementwise loops are plain code that the compiler turns into them.
//!
//! The sums of a product, of a convolution and of its backward pass to the input run in the order of the
//! index, with fused multiplications: where the product of two elements of 16 or 8 bits is a normal
//! f32 it is exact, and the sums are bit for bit those of the portable device.  Products of f32 are
//! not exact, and the gradient of a weight is summed in parts, so that
//! [`Capabilities::sequential_sums`](adaloss_hal::Capabilities::sequential_sums) is not claimed.

#![forbid(unsafe_code)]

mod chunks;
mod convolve;
mod device;
mod kernel;
mod matmul;
mod narrow;
mod network;
mod scratch;
mod sink;
mod widen;

pub use device::Cpu;

pub(crate) use {scratch::Scratch, sink::Sink, widen::widen};

/// Elements of one chunk of an elementwise operation: 16 KiB as f32, which fit a first-level cache of 32 KiB or more
/// together with their narrowed results and an operand of 16 bits.
pub(crate) const CHUNK: usize = 4096;
