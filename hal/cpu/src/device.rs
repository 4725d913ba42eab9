//! The device: its threads and its memory, which is the host's.

use std::{fmt, io, sync::Arc};

use rayon::{ThreadPool, ThreadPoolBuilder};

use adaloss_hal::{Capabilities, HostError, HostHeap, HostMemory};

/// The CPU with a number of threads.
///
/// A clone shares the threads.
///
/// # Examples
///
/// ```
/// use adaloss_core::{format::{Format, Narrowing, Noise, f16}, policy::Cell, statistics::Outcome};
/// use adaloss_cpu::Cpu;
/// use adaloss_hal::{Epilogue, Matmul, Product, Run};
/// let mut cpu = Cpu::new(2)?;
/// let (cell, mut outcome) = ([Cell::new()], [Outcome::EMPTY]);
/// let epilogue = Epilogue {
///     from: &cell[..],
///     to: &cell[..],
///     narrowing: Narrowing::to(Format::BINARY16),
///     noise: Noise::default(),
///     stores: true,
///     when: None,
///     outcome: &mut outcome[..],
///     histogram: None,
/// };
/// let (a, b) = ([f16::from_f32(2.0); 3], [f16::from_f32(0.5); 3]);
/// let mut to = [f16::ZERO];
/// let product = Product::new(1, 3, 1);
/// cpu.run(Matmul { product, a: &a[..], b: &b[..], bias: None, to: &mut to[..], epilogue })?;
/// assert_eq!(to[0].to_f32(), 3.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Cpu {
    /// None where the caller's thread is the only one.
    pub(super) pool: Option<Arc<ThreadPool>>,
}

impl Cpu {
    /// Starts the threads; with one, everything runs on the caller's and none is started.
    ///
    /// # Errors
    ///
    /// `threads` is zero, or the system has no more of them.
    pub fn new(threads: usize) -> io::Result<Self> {
        let pool = match threads {
            0 => return Err(io::Error::new(io::ErrorKind::InvalidInput, "a CPU without threads")),
            1 => None,
            _ => {
                let pool = ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .thread_name(|nth| std::format!("adaloss-cpu-{nth}"))
                    .build();
                Some(Arc::new(pool.map_err(io::Error::other)?))
            }
        };
        Ok(Self { pool })
    }

    /// Returns the number of threads.
    pub fn threads(&self) -> usize {
        self.pool.as_ref().map_or(1, |pool| pool.current_num_threads())
    }
}

impl fmt::Debug for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cpu").field("threads", &self.threads()).finish()
    }
}

impl HostMemory for Cpu {
    type Error = HostError;

    fn can_do(&self) -> Capabilities {
        let mut capabilities = Capabilities::ALL;
        capabilities.sequential_sums = false;
        capabilities
    }
}

impl HostHeap for Cpu {}
