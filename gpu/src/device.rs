//! The device: a stream of a context, and the kernels.

use std::{num::NonZero, ops::Range, slice, sync::Arc};

use adaloss_core::{
    format::Element,
    policy::{Cell, Config},
};
use adaloss_hal::{AddressSpace, Capabilities, Device, Memory, Plain, scaler::MOST_EVIDENCE};
use adaloss_kernels::{network::columns, parts::MOST_RESULTS, scaler::Evidence, sums::PARTS};
use cudarc::driver::{
    CudaContext, CudaStream, DevicePtr, LaunchConfig,
    result::{memcpy_dtod_async, memcpy_dtoh_async, memset_d8_async},
    sys::{
        self, CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
        CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE,
    },
};

use crate::{
    Buffer, Elements, ElementsMut, GpuError,
    graph::Tables,
    kernels::{Kernel, Kernels, PerEncoding, THREADS},
    staging::Staging,
};

/// Bytes of the tables that a launch may bring.
const TABLE_BYTES: usize = 1 << 12;

const _: () = assert!(MOST_EVIDENCE * size_of::<Evidence>() <= TABLE_BYTES);

/// Numbers of two sums, part by part: what a launch leaves for the next.
pub(crate) const SUMS: usize = 2 * columns::ROOM;

const _: () = assert!(PARTS <= columns::ROOM);

/// Numbers that take as much room as a cell, and what room is a multiple of, so that a cell can lie behind it.
const CELL: usize = size_of::<Cell>().div_ceil(size_of::<f32>());
const ROOM: usize = align_of::<Cell>();

/// A GPU.
///
/// Operations are put into one stream, in the order of the calls.  A clone puts its operations into the same stream, so that
/// either may use what the other has made; each brings tables of its own.
#[derive(Debug)]
pub struct Cuda {
    stream: Arc<CudaStream>,
    pub(crate) kernels: Arc<Kernels>,
    multiprocessors: u32,
    /// The most blocks that a launch has for each multiprocessor.
    blocks: Option<NonZero<u32>>,
    /// What the host writes, on its way, once something is.
    staging: Option<Staging>,
    /// What a launch brings beside its parameters, once one does: the next copy waits in the stream for the launch
    /// before it.
    table: Option<Buffer<u8>>,
    /// Where a launch leaves the parts of sums for the next, once one does.
    sums: Option<Buffer<f64>>,
    /// What one launch of an operation leaves for the next, beside sums, and behind it a cell of the scale 1, which is all zero; a
    /// graph keeps what its launches were given.
    room: Option<Arc<Buffer<f32>>>,
    /// Configurations that are on the device already.
    configs: Vec<(Config, Buffer<Config>)>,
    /// What the launches of a graph bring, while one is captured.
    pub(crate) captured: Option<Tables>,
}

impl Cuda {
    /// The most branches of a join.
    pub const MOST_BRANCHES: usize = 64;

    /// Opens a GPU by its number, from 0, with a stream of its own in its primary context.
    ///
    /// # Errors
    ///
    /// There is no driver or no such GPU, it is too old for the kernels, or has no memory left.
    pub fn new(ordinal: usize) -> Result<Self, GpuError> {
        // SAFETY: it looks for the library, as the first call of the driver would.
        if !unsafe { sys::is_culib_present() } {
            return Err(GpuError::NoDriver);
        }
        let count = CudaContext::device_count().map_err(GpuError::of("the number of GPUs"))?;
        let count = usize::try_from(count).unwrap_or(0);
        if ordinal >= count {
            return Err(GpuError::NoDevice { ordinal, count });
        }
        let context = CudaContext::new(ordinal).map_err(GpuError::of("a context"))?;
        let stream = context.new_stream().map_err(GpuError::of("a stream"))?;
        Self::on(stream)
    }

    /// Opens the GPU of a stream, into which operations are put: for runtimes that have one.
    ///
    /// # Errors
    ///
    /// The GPU is too old for the kernels, or has no memory left.
    pub fn on(stream: Arc<CudaStream>) -> Result<Self, GpuError> {
        let kernels = Kernels::load(stream.context(), false)?;
        Self::with(stream, kernels)
    }

    /// Opens the GPU of a stream with kernels that the driver compiles from their PTX, though there is machine code
    /// for it: some seconds, unless the driver has kept what it compiled before.
    ///
    /// # Errors
    ///
    /// As for [`on`](Self::on).
    pub fn compiled_on(stream: Arc<CudaStream>) -> Result<Self, GpuError> {
        let kernels = Kernels::load(stream.context(), true)?;
        Self::with(stream, kernels)
    }

    fn with(stream: Arc<CudaStream>, kernels: Kernels) -> Result<Self, GpuError> {
        let context = stream.context();
        let count = context
            .attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
            .map_err(GpuError::of("the number of multiprocessors"))?;
        // Whoever opens a GPU hears at once that its memory is exhausted.
        let table = Some(allocate(&stream, TABLE_BYTES)?);
        let sums = Some(allocate(&stream, SUMS)?);
        let room = Some(Arc::new(allocate(&stream, MOST_RESULTS + CELL)?));
        let staging = Some(Staging::new(context)?);
        Ok(Self {
            multiprocessors: u32::try_from(count).unwrap_or(1).max(1),
            blocks: None,
            staging,
            stream,
            kernels: Arc::new(kernels),
            table,
            sums,
            room,
            configs: Vec::new(),
            captured: None,
        })
    }

    /// Returns the stream.
    pub const fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// Returns the name of the GPU.
    ///
    /// # Errors
    ///
    /// The driver has none.
    pub fn name(&self) -> Result<String, GpuError> {
        self.stream.context().name().map_err(GpuError::of("the name of a GPU"))
    }

    /// Tells whether the driver has compiled the kernels: there is machine code for GPUs of compute capability 8.0 to
    /// 9.0, which a driver that is older than CUDA 12 may refuse.
    pub fn is_compiled(&self) -> bool {
        self.kernels.are_compiled
    }

    /// Returns, by the name of each entry point, how many blocks of it a multiprocessor runs at a time.
    pub fn resident(&self) -> impl Iterator<Item = (&str, u32)> {
        self.kernels.all().map(|kernel| (kernel.name.as_str(), kernel.resident))
    }

    /// Limits how many blocks for each multiprocessor a launch has, or lets it have as many as run at a time, which
    /// the driver reports for each kernel.
    ///
    /// Whatever the limit, a launch does all of its work; fewer blocks leave room for what else runs on the GPU.
    pub const fn limit_blocks(&mut self, per_multiprocessor: Option<NonZero<u32>>) {
        self.blocks = per_multiprocessor;
    }

    /// Returns the shape of a launch over so many elements.
    pub(crate) fn shape(&self, kernel: &Kernel, elements: usize) -> LaunchConfig {
        self.shape_of_parts(kernel, elements.div_ceil(4 * THREADS as usize))
    }

    /// Returns the shape of a launch over so many parts of tensors, a block each while there are blocks.
    pub(crate) fn shape_of_parts(&self, kernel: &Kernel, parts: usize) -> LaunchConfig {
        let &Kernel { resident, threads, shared_bytes, .. } = kernel;
        let most = self.blocks.map_or(resident, NonZero::get).saturating_mul(self.multiprocessors);
        let blocks = u32::try_from(parts).unwrap_or(u32::MAX).clamp(1, most);
        LaunchConfig {
            grid_dim: (blocks, 1, 1),
            block_dim: (threads, 1, 1),
            shared_mem_bytes: shared_bytes,
        }
    }

    /// Launches a kernel.
    ///
    /// # Safety
    ///
    /// The parameters are those of the entry point, and what they name is what the kernel asks for.
    pub(crate) unsafe fn launch<'a>(
        &'a self,
        kernel: &'a Kernel,
        shape: LaunchConfig,
        parameters: impl FnOnce(&mut cudarc::driver::LaunchArgs<'a>),
    ) -> Result<(), GpuError> {
        let mut launch = self.stream.launch_builder(&kernel.function);
        parameters(&mut launch);
        // SAFETY: the caller's promise.
        unsafe { launch.launch(shape) }.map(drop).map_err(GpuError::of("to launch a kernel"))
    }

    /// Brings a table for the next launch; returns its address.
    ///
    /// A copy in a graph would read the host's memory whenever the graph is launched: tables of a
    /// graph are collected instead, and copied when it is complete.
    pub(crate) fn bring<T: Copy>(&mut self, table: &[T]) -> Result<u64, GpuError> {
        if let Some(tables) = &mut self.captured {
            return tables.add(table);
        }
        self.refuse_capture("to bring a table")?;
        GpuError::length("a table", size_of_val(table), size_of_val(table).min(TABLE_BYTES))?;
        let made = || allocate(&self.stream, TABLE_BYTES);
        let address = room(&mut self.table, made)?.view().address();
        // SAFETY: there is so much room, and the copy waits for launches before it.
        unsafe { self.upload(table, address, "to copy a table") }?;
        Ok(address)
    }

    /// Returns the address of room for the parts of two sums; what a graph needs of it, it has itself.
    pub(crate) fn sums(&mut self) -> Result<u64, GpuError> {
        if let Some(tables) = &self.captured {
            return Ok(tables.sums());
        }
        let made = || allocate(&self.stream, SUMS);
        Ok(room(&mut self.sums, made)?.view().address())
    }

    /// Returns the address of room for so many numbers, which are whatever the last operation left there, and that of a cell of
    /// the scale 1.
    ///
    /// There is always room for the parts of a product.  A graph allocates nothing: what is captured finds the room for more
    /// that was made before.
    pub(crate) fn room(&mut self, count: usize) -> Result<[u64; 2], GpuError> {
        let count = count.max(MOST_RESULTS).next_multiple_of(ROOM);
        let room = match &self.room {
            Some(room) if room.view().count() >= count + CELL => Arc::clone(room),
            _ => {
                self.refuse_capture("room for an operation that has not run before")?;
                Arc::new(allocate(&self.stream, count + CELL)?)
            }
        };
        let (first, length) = (room.view().address(), room.view().count() - CELL);
        if let Some(tables) = &mut self.captured {
            tables.keep(&room);
        }
        self.room = Some(room);
        Ok([first, first + (length * size_of::<f32>()) as u64])
    }

    /// Returns the address of a configuration on the device.
    pub(crate) fn config(&mut self, config: &Config) -> Result<u64, GpuError> {
        // Bytes tell configurations apart where numbers do not: NaN is equal to nothing.
        let bytes = config.to_bytes();
        if let Some(tables) = &mut self.captured {
            // A graph may outlive the device and its configurations.
            return tables.config(config);
        }
        if let Some((_, known)) = self.configs.iter().find(|(of, _)| of.to_bytes() == bytes) {
            return Ok(known.view().address());
        }
        let buffer = self.table_of(slice::from_ref(config))?;
        let address = buffer.view().address();
        self.configs.push((*config, buffer));
        Ok(address)
    }

    /// Allocates elements with these values.
    pub(crate) fn table_of<T: Copy>(&mut self, values: &[T]) -> Result<Buffer<T>, GpuError> {
        self.refuse_capture("to allocate")?;
        let buffer = allocate(&self.stream, values.len())?;
        // SAFETY: there is room for as many.
        unsafe { self.upload(values, buffer.view().address(), "to copy a table") }?;
        Ok(buffer)
    }

    /// Copies values of the host, which may be changed again when this returns.
    ///
    /// # Safety
    ///
    /// There is so much room at the address.
    pub(crate) unsafe fn upload<T>(
        &mut self,
        values: &[T],
        address: u64,
        what: &'static str,
    ) -> Result<(), GpuError> {
        if size_of_val(values) == 0 {
            return Ok(());
        }
        self.bind()?;
        let staging = room(&mut self.staging, || Staging::new(self.stream.context()))?;
        // SAFETY: the caller's promise; the stream is always this one.
        unsafe { staging.copy(values, address, &self.stream) }.map_err(GpuError::of(what))
    }

    /// Makes the context that of the calling thread, which may be another one than the last time.
    fn bind(&self) -> Result<(), GpuError> {
        self.stream.context().bind_to_thread().map_err(GpuError::of("to bind its context"))
    }

    /// Refuses what a graph cannot contain, whoever captures the stream.
    pub(crate) fn refuse_capture(&self, what: &'static str) -> Result<(), GpuError> {
        let status = self.stream.capture_status().map_err(GpuError::of("whether it captures"))?;
        match status {
            CU_STREAM_CAPTURE_STATUS_NONE => Ok(()),
            _ => Err(GpuError::Captured { what }),
        }
    }

    /// Copies elements within the device's memory.
    ///
    /// # Errors
    ///
    /// The lengths differ.
    pub fn copy<T: Plain>(
        &mut self,
        from: Elements<'_, T>,
        to: ElementsMut<'_, T>,
    ) -> Result<(), GpuError> {
        GpuError::length("what is copied to", from.count(), to.shared().count())?;
        let count = from.count();
        // SAFETY: so many elements are at either address, and what is written is borrowed.
        unsafe { self.move_elements::<T>(from.address(), count, to.shared().address()) }
    }

    /// Copies so many elements from one address to another.
    ///
    /// # Safety
    ///
    /// They are there, and room for them; nobody else writes either.
    pub(crate) unsafe fn move_elements<T: Plain>(
        &self,
        from: u64,
        count: usize,
        to: u64,
    ) -> Result<(), GpuError> {
        if count * size_of::<T>() == 0 {
            return Ok(());
        }
        self.bind()?;
        // SAFETY: the caller's promise.
        unsafe { memcpy_dtod_async(to, from, count * size_of::<T>(), self.stream.cu_stream()) }
            .map_err(GpuError::of("to copy"))
    }

    /// Makes every byte of some elements zero: what counters are before a step.
    ///
    /// # Errors
    ///
    /// The driver refuses.
    pub fn clear<T: Plain>(&mut self, elements: ElementsMut<'_, T>) -> Result<(), GpuError> {
        let of = elements.shared();
        let bytes = of.count() * size_of::<T>();
        if bytes == 0 {
            return Ok(());
        }
        self.bind()?;
        // SAFETY: so many bytes are there.
        unsafe { memset_d8_async(of.address(), 0, bytes, self.stream.cu_stream()) }
            .map_err(GpuError::of("to clear"))
    }
}

impl Clone for Cuda {
    fn clone(&self) -> Self {
        let &Self { ref stream, ref kernels, multiprocessors, blocks, .. } = self;
        Self {
            stream: Arc::clone(stream),
            kernels: Arc::clone(kernels),
            multiprocessors,
            blocks,
            staging: None,
            table: None,
            sums: None,
            room: None,
            configs: Vec::new(),
            captured: None,
        }
    }
}

/// Returns what there is, or makes it.
fn room<T>(
    of: &mut Option<T>,
    make: impl FnOnce() -> Result<T, GpuError>,
) -> Result<&mut T, GpuError> {
    match of {
        Some(there) => Ok(there),
        none => Ok(none.insert(make()?)),
    }
}

/// Returns the entry point for elements of type `F`.
///
/// A kernel takes the elements to be as large as their encoding says.  Anybody can give a type an encoding, and so a type of another
/// size does not compile here.
pub(crate) fn of<F: Element>(kernels: &PerEncoding) -> &Kernel {
    const {
        assert!(
            8 * size_of::<F>() == F::ENCODING.bits() as usize,
            "an element of its encoding's size"
        );
    }
    &kernels[F::ENCODING as usize]
}

/// Allocates zeros.
pub(crate) fn allocate<T>(stream: &Arc<CudaStream>, count: usize) -> Result<Buffer<T>, GpuError> {
    let size = count.checked_mul(size_of::<T>());
    let bytes = size.ok_or(GpuError::Memory { bytes: u64::MAX })?;
    if bytes == 0 {
        return Ok(Buffer::new(None, 0, count));
    }
    let refused = |_| GpuError::Memory { bytes: bytes as u64 };
    let memory = stream.alloc_zeros::<u8>(bytes).map_err(refused)?;
    let address = memory.device_ptr(stream).0;
    Ok(Buffer::new(Some(memory), address, count))
}

impl Device for Cuda {
    type Error = GpuError;
    type Space = GpuSpace;

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::ALL;
        // The order of a sum's terms, and what is rounded on the way, is the tensor cores'.
        capabilities.sequential_sums = false;
        capabilities
    }

    /// Returns false, and waits for nothing: kernels look at the word.
    fn is_off(&mut self, _: Elements<'_, u32>) -> Result<bool, GpuError> {
        Ok(false)
    }

    fn read<T: Plain>(&mut self, from: Elements<'_, T>, to: &mut [T]) -> Result<(), GpuError> {
        GpuError::length("what is read", from.count(), to.len())?;
        if size_of_val(to) == 0 {
            return Ok(());
        }
        self.refuse_capture("to read")?;
        // SAFETY: so many elements are there, and it is waited for.
        unsafe { memcpy_dtoh_async(to, from.address(), self.stream.cu_stream()) }
            .map_err(GpuError::of("to read"))?;
        self.stream.synchronize().map_err(GpuError::of("to wait"))
    }

    fn write<T: Plain>(&mut self, from: &[T], to: ElementsMut<'_, T>) -> Result<(), GpuError> {
        GpuError::length("what is written", to.shared().count(), from.len())?;
        if let Some(tables) = &mut self.captured {
            // SAFETY: a table of so many elements, initialised when the graph is complete.
            let from = unsafe { Elements::from_raw(tables.add(from)?, from.len()) };
            return self.copy(from, to);
        }
        self.refuse_capture("to write")?;
        // SAFETY: so many elements are there.
        unsafe { self.upload(from, to.shared().address(), "to write") }
    }
}

/// The GPU's memory, as operands name it.
#[derive(Clone, Copy, Debug)]
pub struct GpuSpace;

impl AddressSpace for GpuSpace {
    type Ref<'a, T: Plain> = Elements<'a, T>;
    type Mut<'a, T: Plain> = ElementsMut<'a, T>;

    fn len<T: Plain>(elements: Elements<'_, T>) -> usize {
        elements.count()
    }

    fn part<T: Plain>(elements: Self::Ref<'_, T>, range: Range<usize>) -> Option<Self::Ref<'_, T>> {
        elements.part(range)
    }

    fn part_mut<T: Plain>(
        elements: Self::Mut<'_, T>,
        range: Range<usize>,
    ) -> Option<Self::Mut<'_, T>> {
        elements.part(range)
    }

    fn shared<'a, T: Plain>(elements: &'a ElementsMut<'_, T>) -> Elements<'a, T> {
        elements.shared()
    }

    fn reborrow<'short, 'long: 'short, T: Plain>(
        elements: Elements<'long, T>,
    ) -> Elements<'short, T> {
        elements
    }

    fn truncate<T: Plain>(elements: &mut ElementsMut<'_, T>, length: usize) {
        elements.truncate(length);
    }

    fn reborrow_mut<'a, T: Plain>(elements: &'a mut ElementsMut<'_, T>) -> ElementsMut<'a, T> {
        elements.reborrow()
    }
}

impl Memory for Cuda {
    type Buffer<T: Plain> = Buffer<T>;

    fn zeroed<T: Plain>(&mut self, length: usize) -> Result<Buffer<T>, GpuError> {
        self.refuse_capture("to allocate")?;
        allocate(&self.stream, length)
    }

    fn view<T: Plain>(buffer: &Buffer<T>) -> Elements<'_, T> {
        buffer.view()
    }

    fn view_mut<T: Plain>(buffer: &mut Buffer<T>) -> ElementsMut<'_, T> {
        buffer.view_mut()
    }
}
