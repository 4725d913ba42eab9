//! Kernels by name: what PTX is made of, called on the simulated grid.

use std::{
    env, process,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use adaloss_kernels::{
    block::{MOST_THREADS, WARP},
    entries::*,
    grid::{Grid, SimulatedBlock},
    scaler::{Ending, Evidence, List, Scaler},
};

use crate::{
    memory::Memory,
    status::{Answer, Status},
};

/// Bytes that the parameters of a kernel may take.
pub(crate) const MOST_BYTES: usize = 4096;

/// A kernel and what a launch passes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel {
    name: &'static str,
    /// The bytes of each parameter.
    pub(crate) sizes: &'static [usize],
    /// Runs it on one block.
    run: unsafe fn(&mut SimulatedBlock<'_>, Parameters<'_>),
    /// Tells whether the device's memory has what the parameters name.
    names: unsafe fn(&Memory, Parameters<'_>) -> bool,
    /// Returns an address that it writes, or NULL where none is a parameter.
    written: unsafe fn(Parameters<'_>) -> usize,
}

/// The parameters of a launch, one after the other, without gaps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameters<'a>(&'a [u8]);

impl Parameters<'_> {
    /// Takes the next parameter.
    ///
    /// # Safety
    ///
    /// The bytes that come next are of this type.
    unsafe fn take<T: Argument>(&mut self) -> T {
        let (these, rest) = self.0.split_at(size_of::<T>());
        self.0 = rest;
        // SAFETY: the caller's promise; they are as many.
        unsafe { these.as_ptr().cast::<T>().read_unaligned() }
    }
}

/// The shape of a launch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) blocks: [u32; 3],
    pub(crate) threads: [u32; 3],
    /// What a block gets of shared memory beside what the kernel has.
    pub(crate) shared_bytes: u32,
}

impl Shape {
    /// Returns what the orders of the next launch are made from.
    pub(crate) fn next_seed() -> u32 {
        static LAUNCHES: AtomicU32 = AtomicU32::new(0);
        LAUNCHES.fetch_add(1, Relaxed) % 5
    }

    /// Returns how many blocks there are and how many threads each has, if all are along one axis.
    pub(crate) fn along_one_axis(self) -> Answer<(u32, u32)> {
        match (self.blocks, self.threads) {
            ([blocks, 1, 1], [threads, 1, 1]) => Ok((blocks, threads)),
            _ => Err(Status::NOT_SUPPORTED),
        }
    }

    /// Returns the grid.
    pub(crate) fn grid(self) -> Answer<Grid> {
        let (blocks, threads) = self.along_one_axis()?;
        if blocks == 0 || threads == 0 || threads > MOST_THREADS {
            return Err(Status::INVALID_VALUE);
        }
        if !threads.is_multiple_of(WARP) {
            return Err(Status::NOT_SUPPORTED);
        }
        let grid = Grid::new(blocks, threads).with_seed(Self::next_seed());
        Ok(match self.shared_bytes {
            0 => grid,
            bytes => grid.with_shared(bytes as usize / 4),
        })
    }
}

impl Kernel {
    /// Returns the kernel of an entry point.
    pub(crate) fn named(name: &str) -> Option<Self> {
        macro_rules! entry {
            (fn $name:ident($block:ident $(, $parameter:ident: $type:ty)*) { $($call:tt)* }) => {
                if name == stringify!($name) {
                    unsafe fn run($block: &mut SimulatedBlock<'_>, mut parameters: Parameters<'_>) {
                        // SAFETY: the launcher's promise: parameters are the kernel's, in its order.
                        unsafe {
                            $(let $parameter = parameters.take::<$type>();)*
                            $($call)*
                        }
                    }
                    unsafe fn names(memory: &Memory, mut parameters: Parameters<'_>) -> bool {
                        // SAFETY: as above.
                        unsafe { true $(& parameters.take::<$type>().is_named(memory))* }
                    }
                    unsafe fn written(mut parameters: Parameters<'_>) -> usize {
                        // SAFETY: as above.
                        let all = unsafe { [$(parameters.take::<$type>().written()),*] };
                        all.into_iter().find(|&address| address != 0).unwrap_or(0)
                    }
                    return Some(Self {
                        name: stringify!($name),
                        sizes: &[$(size_of::<$type>()),*],
                        run,
                        names,
                        written,
                    });
                }
            };
        }
        adaloss_kernels::entries!(entry);
        adaloss_kernels::products!(entry);
        None
    }

    /// Returns the names of all entry points.
    #[cfg(test)]
    pub(crate) fn names() -> Vec<&'static str> {
        let mut names = Vec::new();
        macro_rules! entry {
            (fn $name:ident($block:ident $(, $parameter:ident: $type:ty)*) { $($call:tt)* }) => {
                names.push(stringify!($name));
            };
        }
        adaloss_kernels::entries!(entry);
        adaloss_kernels::products!(entry);
        names
    }

    /// Runs the kernel on all blocks.
    ///
    /// # Safety
    ///
    /// The parameters are the kernel's, and what they name is what the kernel asks for.
    pub(crate) unsafe fn launch(self, grid: Grid, parameters: &[u8], memory: &Memory) -> Answer {
        let parameters = Parameters(parameters);
        // SAFETY: the caller's promise.
        if !unsafe { (self.names)(memory, parameters) } {
            return Err(Status::ILLEGAL_ADDRESS);
        }
        let planted = Planted::of(self.name);
        match planted {
            Some(Planted::Hang) => loop {
                thread::sleep(Duration::from_secs(1));
            },
            Some(Planted::Crash) => process::abort(),
            Some(Planted::Differ) | None => {}
        }
        // SAFETY: the caller's promise.
        grid.launch(|block| unsafe { (self.run)(block, parameters) });
        // SAFETY: the caller's promise.
        let written = unsafe { (self.written)(parameters) } as *mut u8;
        if planted == Some(Planted::Differ) && !written.is_null() {
            // SAFETY: it is in an allocation, and the kernel may write it.
            unsafe { *written ^= 1 };
        }
        memory.check_guards()
    }
}

/// What is planted in a kernel, for tests of those who watch a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Planted {
    /// It does not end.
    Hang,
    /// The process ends.
    Crash,
    /// A bit of its result is another one.
    Differ,
}

impl Planted {
    /// Returns what [`PLANTED`](crate::PLANTED) plants in a kernel.
    fn of(kernel: &str) -> Option<Self> {
        static ALL: OnceLock<Vec<(Planted, String)>> = OnceLock::new();
        let all = ALL.get_or_init(|| {
            let text = env::var(crate::PLANTED).unwrap_or_default();
            let of = |word: &str| {
                let (what, kernel) = word.split_once('=')?;
                let what = match what {
                    "hang" => Self::Hang,
                    "crash" => Self::Crash,
                    "differ" => Self::Differ,
                    _ => return None,
                };
                Some((what, kernel.to_owned()))
            };
            text.split(',').filter_map(of).collect()
        });
        all.iter().find(|(_, of)| of == kernel).map(|&(what, _)| what)
    }
}

/// What can be a parameter.
trait Argument: Copy {
    /// Returns its address, if it is one that a kernel writes to.
    fn written(self) -> usize {
        0
    }

    /// Tells whether the addresses within are of the device's memory.
    fn is_named(self, _: &Memory) -> bool {
        true
    }
}

impl Argument for u32 {}
impl Argument for usize {}
impl Argument for Narrowing {}
impl Argument for Noise {}
impl Argument for Sgd {}
impl Argument for AdamW {}
impl Argument for f32 {}
impl Argument for Mask {}
impl Argument for Pooling {}
impl Argument for Columns {}

impl<T> Argument for *const T {
    fn is_named(self, memory: &Memory) -> bool {
        memory.names(self.addr())
    }
}

impl<T> Argument for *mut T {
    fn written(self) -> usize {
        self.addr()
    }

    fn is_named(self, memory: &Memory) -> bool {
        memory.names(self.addr())
    }
}

impl Argument for Epilogue {
    fn is_named(self, memory: &Memory) -> bool {
        let Self { from, to, when, outcome, histogram, .. } = self;
        from.is_named(memory)
            && to.is_named(memory)
            && when.is_named(memory)
            && outcome.is_named(memory)
            && histogram.is_named(memory)
    }
}

impl<E> Argument for Product<E> {
    fn is_named(self, memory: &Memory) -> bool {
        let Self { a, b, bias, .. } = self;
        a.is_named(memory) && b.is_named(memory) && bias.is_named(memory)
    }
}

impl Argument for Multiplication {
    fn is_named(self, memory: &Memory) -> bool {
        self.bias.is_named(memory)
    }
}

impl Argument for Convolution {
    fn is_named(self, memory: &Memory) -> bool {
        self.bias.is_named(memory)
    }
}

impl<E> Argument for Implicit<E> {
    fn is_named(self, memory: &Memory) -> bool {
        let Self { a, b, bias, .. } = self;
        a.is_named(memory) && b.is_named(memory) && bias.is_named(memory)
    }
}

impl Argument for Operand {
    fn is_named(self, memory: &Memory) -> bool {
        self.first().is_named(memory)
    }
}

impl Argument for Normalisation {
    fn is_named(self, memory: &Memory) -> bool {
        self.input.is_named(memory)
    }
}

impl Argument for Forward {
    fn is_named(self, memory: &Memory) -> bool {
        self.of.is_named(memory) && self.moments.is_named(memory)
    }
}

impl Argument for Attention {
    fn is_named(self, memory: &Memory) -> bool {
        self.input.is_named(memory)
    }
}

impl Argument for Loss {
    fn written(self) -> usize {
        self.gradient.written()
    }

    fn is_named(self, memory: &Memory) -> bool {
        let Self { logits, labels, weights, gradient, sum, parts, .. } = self;
        logits.is_named(memory)
            && labels.is_named(memory)
            && weights.is_named(memory)
            && gradient.is_named(memory)
            && sum.is_named(memory)
            && parts.is_named(memory)
    }
}

impl Argument for Step {
    fn written(self) -> usize {
        self.weight.written()
    }

    fn is_named(self, memory: &Memory) -> bool {
        let Self { gradient, weight, square_norm, when, .. } = self;
        gradient.is_named(memory)
            && weight.is_named(memory)
            && square_norm.is_named(memory)
            && when.is_named(memory)
    }
}

impl Argument for Scaler {
    fn is_named(self, memory: &Memory) -> bool {
        let Self { config, state, cells, .. } = self;
        config.is_named(memory) && state.is_named(memory) && cells.is_named(memory)
    }
}

impl<T: Argument> Argument for List<T> {
    fn is_named(self, memory: &Memory) -> bool {
        self.first.is_named(memory) && self.others.is_named(memory)
    }
}

impl Argument for Ending {
    fn is_named(self, memory: &Memory) -> bool {
        self.line.is_named(memory)
    }
}

impl Argument for Advance {
    fn written(self) -> usize {
        self.when.written()
    }

    fn is_named(self, memory: &Memory) -> bool {
        let Self { scaler, ending, sources, outcome, histogram, from, to, when, .. } = self;
        scaler.is_named(memory)
            && ending.is_named(memory)
            && sources.is_named(memory)
            && outcome.is_named(memory)
            && histogram.is_named(memory)
            && from.is_named(memory)
            && to.is_named(memory)
            && when.is_named(memory)
    }
}

impl Argument for Describe {
    fn written(self) -> usize {
        self.scaler.state.written()
    }

    fn is_named(self, memory: &Memory) -> bool {
        let Self { scaler, gradient, weight, .. } = self;
        scaler.is_named(memory) && gradient.is_named(memory) && weight.is_named(memory)
    }
}

impl Argument for Close {
    fn written(self) -> usize {
        self.line.written()
    }

    fn is_named(self, memory: &Memory) -> bool {
        let Self { scaler, origins, outcome, histogram, scale, line, .. } = self;
        scaler.is_named(memory)
            && origins.others.is_named(memory)
            && outcome.is_named(memory)
            && histogram.is_named(memory)
            && scale.is_named(memory)
            && line.is_named(memory)
    }
}

impl Argument for Judge {
    fn written(self) -> usize {
        self.scaler.state.written()
    }

    fn is_named(self, memory: &Memory) -> bool {
        let Self { scaler, other, ending, outcome, histogram, evidence } = self;
        scaler.is_named(memory)
            && other.is_named(memory)
            && ending.is_named(memory)
            && outcome.is_named(memory)
            && histogram.is_named(memory)
            && evidence.is_named(memory)
    }
}

impl Argument for Evidence {
    fn is_named(self, memory: &Memory) -> bool {
        match self {
            Self::Gradient { outcome, .. } => outcome.is_named(memory),
            Self::Unscaled { counts, .. } => counts.is_named(memory),
            Self::Loss { sum, line, .. } => sum.is_named(memory) && line.is_named(memory),
            Self::Squares { sum, .. } | Self::WeightSquares { sum, .. } => sum.is_named(memory),
            Self::Weight { outcome, .. } => outcome.is_named(memory),
        }
    }
}

impl Argument for Conclude {
    fn written(self) -> usize {
        self.line.written()
    }

    fn is_named(self, memory: &Memory) -> bool {
        let Self { scaler, requires, applies, updates, square_norm, line, .. } = self;
        scaler.is_named(memory)
            && requires.is_named(memory)
            && applies.is_named(memory)
            && updates.is_named(memory)
            && square_norm.is_named(memory)
            && line.is_named(memory)
    }
}

impl<F> Argument for Gradient<F> {
    fn is_named(self, memory: &Memory) -> bool {
        let Self { from, to, cell, met, .. } = self;
        from.is_named(memory)
            && to.is_named(memory)
            && cell.is_named(memory)
            && met.is_named(memory)
    }
}
