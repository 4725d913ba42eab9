//! Steps that are captured once and launched as one.

use std::{fmt, mem::MaybeUninit, slice, sync::Arc};

use adaloss_core::policy::Config;
use cudarc::driver::{
    CudaFunction, CudaGraph,
    sys::{
        CUgraphInstantiate_flags, CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED,
        CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL,
    },
};

use crate::{
    Buffer, Cuda, GpuError,
    device::{SUMS, allocate},
};

/// Bytes of the tables that all launches of a graph may bring: some thousands of joins, or of weights that are judged in lists.
const TABLES_BYTES: usize = 1 << 20;

/// What the address of a table, and of a configuration, has to be a multiple of.
const ALIGNMENT: usize = 16;

/// Operations of a [`Cuda`] that are launched together, without the cost of asking for each.
///
/// It is launched into the stream of the device that captured it.
pub struct Graph {
    graph: CudaGraph,
    /// The tables that launches were given the addresses of, and the room for the parts of sums; and room of the device's.
    _tables: Buffer<u8>,
    _rooms: Vec<Arc<Buffer<f32>>>,
    /// Keeps the kernels loaded, all of which are of one module.
    _kernels: CudaFunction,
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph").finish_non_exhaustive()
    }
}

impl Graph {
    /// Launches all operations, in the order in which they were captured; waits for none.
    ///
    /// # Errors
    ///
    /// The driver refuses, or work that was begun earlier failed.
    ///
    /// # Safety
    ///
    /// All memory that captured operations name is still there, [`Gradients`](crate::Gradients) and
    /// [`Weights`](crate::Weights) included, and nothing reads or writes it meanwhile but work that the
    /// device's stream waits for.
    pub unsafe fn launch(&self) -> Result<(), GpuError> {
        self.graph.launch().map_err(GpuError::of("to launch a graph"))
    }
}

/// The tables of the launches of a graph that is being captured.
#[derive(Debug)]
pub(crate) struct Tables {
    on_device: Buffer<u8>,
    /// Structures have bytes between their fields that are nothing.
    bytes: Vec<MaybeUninit<u8>>,
    /// Configurations that are among them, and their addresses.
    configs: Vec<(Config, u64)>,
    /// Room of the device's.
    rooms: Vec<Arc<Buffer<f32>>>,
}

impl Tables {
    /// Adds a table; returns its address, where it will be when the graph is launched.
    pub(crate) fn add<T: Copy>(&mut self, table: &[T]) -> Result<u64, GpuError> {
        const { assert!(align_of::<T>() <= ALIGNMENT) };
        let begin = self.bytes.len().next_multiple_of(ALIGNMENT);
        let end = begin + size_of_val(table);
        GpuError::length("the tables of a graph", end, end.min(TABLES_BYTES))?;
        self.bytes.resize(end, MaybeUninit::zeroed());
        // SAFETY: there is room for as many bytes, and the two do not overlap.
        unsafe {
            let to = self.bytes.as_mut_ptr().add(begin);
            to.copy_from_nonoverlapping(table.as_ptr().cast(), size_of_val(table));
        }
        Ok(self.on_device.view().address() + begin as u64)
    }

    /// Adds a configuration, unless it is there.
    pub(crate) fn config(&mut self, config: &Config) -> Result<u64, GpuError> {
        // By their bytes, as a device knows its own.
        let bytes = config.to_bytes();
        if let Some(&(_, known)) = self.configs.iter().find(|(of, _)| of.to_bytes() == bytes) {
            return Ok(known);
        }
        let address = self.add(slice::from_ref(config))?;
        self.configs.push((*config, address));
        Ok(address)
    }

    /// Keeps room of the device's for as long as the graph.
    pub(crate) fn keep(&mut self, room: &Arc<Buffer<f32>>) {
        if !self.rooms.iter().any(|kept| Arc::ptr_eq(kept, room)) {
            self.rooms.push(Arc::clone(room));
        }
    }

    /// Returns the room for the parts of sums, which a launch writes before another one reads them: it is behind the tables.
    pub(crate) fn sums(&self) -> u64 {
        self.on_device.view().address() + TABLES_BYTES as u64
    }
}

/// A capture that has begun, and ends with this.
struct Capture<'a>(&'a mut Cuda);

impl Capture<'_> {
    /// Ends the capture; the graph lacks its tables.
    fn end(&mut self) -> Result<(CudaGraph, Tables), GpuError> {
        let stream = self.0.stream().clone();
        let tables =
            self.0.captured.take().ok_or(GpuError::Captured { what: "to end it twice" })?;
        // What was refused where no error could be returned: a buffer was dropped.
        let refused = stream.context().check_err();
        let ended = stream.end_capture(CUgraphInstantiate_flags(0));
        refused.map_err(|_| GpuError::Captured { what: "to free memory" })?;
        let graph = ended.map_err(|error| match error.0 {
            CUDA_ERROR_STREAM_CAPTURE_INVALIDATED => {
                GpuError::Captured { what: "what waits for it" }
            }
            _ => GpuError::Driver { what: "to end a capture", error },
        })?;
        Ok((graph.ok_or(GpuError::Captured { what: "a graph of nothing" })?, tables))
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        if self.0.captured.is_some() {
            // What was captured before a panic is of no use.
            drop(self.end());
        }
    }
}

impl Cuda {
    /// Captures operations into a graph: they are not done, but done whenever it is launched.
    ///
    /// Only operations that wait for nothing can be captured: those of the corridor and products, and the methods of
    /// this type.  What they are given by value (formats, configurations, learning rates, what is written) is what it was
    /// when they were captured; what is in the device's memory is what it is when the graph is launched.
    /// Meanwhile no other thread can open the same GPU or wait for all of its work: the driver would refuse
    /// it, and this graph.
    ///
    /// An [`Engine`](adaloss_hal::scaler::Engine) decides on the device, so that a graph of its step is any step: first visits are
    /// narrowed once more, overflows replayed and steps skipped without the host.  What the host counts stays what it
    /// was: lines come with the same numbers, and stochastic rounding takes the same words.
    ///
    /// ```no_run
    /// # use adaloss_core::{format::{Format, f16}, policy::Config, scaler::device::Line};
    /// # use adaloss_gpu::{Cuda, GpuError};
    /// # use adaloss_hal::{Memory, Narrow, Run, scaler::{Carried, Engine, EngineError}};
    /// # let mut cuda = Cuda::new(0)?;
    /// let mut engine = Engine::new(&mut cuda, Config::for_format(Format::BINARY16), 1, 2)?;
    /// let (gradient, mut narrowed) = (cuda.zeroed::<f32>(1000)?, cuda.zeroed::<f16>(1000)?);
    /// let mut carried = Carried::new(&mut cuda)?; // nothing is allocated in a graph
    /// let graph = cuda.capture(|cuda| {
    ///     let mut visit = engine.loss(cuda, 1000)?;
    ///     while let Some(mut pass) = visit.next_pass(cuda)? {
    ///         let (input, to, epilogue) = (gradient.view(), narrowed.view_mut(), pass.epilogue());
    ///         cuda.run(Narrow { input, to, epilogue })?;
    ///     }
    ///     visit.finish_into(cuda, &mut carried)?;
    ///     // ... layers, weight gradients ...
    ///     engine.conclude(cuda, None)
    /// })?;
    /// let lines = engine.written();
    /// for _step in 0..1000 {
    ///     // SAFETY: the engine and the buffers are there.
    ///     unsafe { graph.launch()? };
    ///     engine.set_written(lines);
    /// }
    /// let mut room = [Line::EMPTY; 2];
    /// engine.read(&mut cuda, &mut room)?.for_each(|of| println!("{of:?}")); // of the last step
    /// # Ok::<(), EngineError<GpuError>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// An operation returned an error, which a read and an allocation do here; a buffer was
    /// dropped, whose memory is then lost; or the driver refused.  The device can be used afterwards,
    /// whatever happened.
    pub fn capture<E: From<GpuError>>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<Graph, E> {
        self.refuse_capture("another graph")?;
        let on_device = allocate(self.stream(), TABLES_BYTES + size_of::<f64>() * SUMS)?;
        let tables =
            Tables { on_device, bytes: Vec::new(), configs: Vec::new(), rooms: Vec::new() };
        let mode = CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.stream().begin_capture(mode).map_err(GpuError::of("to capture"))?;
        self.captured = Some(tables);
        let (worked, ended) = {
            let mut capture = Capture(self);
            (work(capture.0), capture.end())
        };
        // Its own error says more than that the capture came to nothing.
        worked?;
        let (graph, Tables { on_device, bytes, rooms, .. }) = ended?;
        // SAFETY: no table was added for which there is no room.
        unsafe { self.upload(&bytes, on_device.view().address(), "to copy a graph's tables")? };
        Ok(Graph {
            graph,
            _tables: on_device,
            _rooms: rooms,
            _kernels: self.kernels.advance.function.clone(),
        })
    }
}
