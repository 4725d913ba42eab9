//! The device: its threads and its memory, which is the host's.

use core::ops::Range;
use std::{fmt, io, sync::Arc, vec::Vec};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::{
    Capabilities, Device, Memory, Plain,
    portable::{Portable, PortableError},
};

/// The CPU with a number of threads.
///
/// A clone shares the threads.
///
/// # Examples
///
/// ```
/// use adaloss_core::{format::{Format, Narrowing, Noise, f16}, policy::Cell, statistics::Outcome};
/// use adaloss_hal::{Epilogue, Matmul, Product, cpu::Cpu};
/// let mut cpu = Cpu::new(2)?;
/// let (cell, mut outcome) = ([Cell::new()], [Outcome::EMPTY]);
/// let epilogue = Epilogue {
///     from: &cell[..],
///     to: &cell[..],
///     narrowing: Narrowing::to(Format::BINARY16),
///     noise: Noise::default(),
///     stores: true,
///     outcome: &mut outcome[..],
///     histogram: None,
/// };
/// let (a, b) = ([f16::from_f32(2.0); 3], [f16::from_f32(0.5); 3]);
/// let mut to = [f16::ZERO];
/// cpu.matmul(Product::new(1, 3, 1), &a[..], &b[..], &mut to[..], epilogue)?;
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

impl Device for Cpu {
    type Error = PortableError;
    type Ref<'a, T: Plain> = &'a [T];
    type Mut<'a, T: Plain> = &'a mut [T];

    fn capabilities(&self) -> Capabilities {
        Capabilities { subnormals: true, stochastic_rounding: true, sequential_sums: false }
    }

    fn read<T: Plain>(&mut self, from: &[T], to: &mut [T]) -> Result<(), PortableError> {
        Portable.read(from, to)
    }

    fn write<T: Plain>(&mut self, from: &[T], to: &mut [T]) -> Result<(), PortableError> {
        Portable.write(from, to)
    }

    fn len<T: Plain>(elements: &[T]) -> usize {
        elements.len()
    }

    fn part<'a, T: Plain>(elements: &'a [T], range: Range<usize>) -> Option<&'a [T]>
    where
        Self: 'a,
    {
        elements.get(range)
    }

    fn part_mut<'a, T: Plain>(elements: &'a mut [T], range: Range<usize>) -> Option<&'a mut [T]>
    where
        Self: 'a,
    {
        elements.get_mut(range)
    }

    fn shared<'a, T: Plain>(elements: &'a &mut [T]) -> &'a [T] {
        elements
    }

    fn reborrow<'short, 'long: 'short, T: Plain>(elements: &'long [T]) -> &'short [T]
    where
        Self: 'long,
    {
        elements
    }

    fn reborrow_mut<'a, T: Plain>(elements: &'a mut &mut [T]) -> &'a mut [T] {
        elements
    }
}

impl Memory for Cpu {
    type Buffer<T: Plain> = Vec<T>;

    fn zeroed<T: Plain>(&mut self, length: usize) -> Result<Vec<T>, PortableError> {
        Portable.zeroed(length)
    }

    fn view<T: Plain>(buffer: &Vec<T>) -> &[T] {
        buffer
    }

    fn view_mut<T: Plain>(buffer: &mut Vec<T>) -> &mut [T] {
        buffer
    }
}
