//! Modules, functions, launches.

use std::{
    ffi::{CStr, c_char, c_void},
    ptr, slice,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use adaloss_kernels::block::SHARED_WORDS;

use crate::{
    driver::{DEVICES, current, in_context, put, set_last_blocks},
    kernel::{MOST_BYTES, Shape},
    memory::Memory,
    module::Module,
    status::Status,
};

#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleLoadData(to: *mut usize, image: *const c_char) -> Status {
    in_context("cuModuleLoadData", |driver| {
        driver.refuse_unsafe()?;
        // SAFETY: the caller's promise: a text.
        let text = unsafe { CStr::from_ptr(image) };
        let text = text.to_str().map_err(|_| Status::INVALID_IMAGE)?;
        let device = current().ok_or(Status::INVALID_CONTEXT)?;
        let module = Module::load(text, &DEVICES[device])?;
        let handle = driver.next();
        driver.modules.insert(handle, module);
        // SAFETY: the caller's promise.
        unsafe { put(to, handle) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleUnload(module: usize) -> Status {
    in_context("cuModuleUnload", |driver| {
        driver.refuse_unsafe()?;
        driver.finish_all()?;
        driver.modules.remove(&module).map(Module::unload).ok_or(Status::INVALID_HANDLE)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleGetFunction(
    to: *mut usize,
    module: usize,
    name: *const c_char,
) -> Status {
    in_context("cuModuleGetFunction", |driver| {
        // SAFETY: the caller's promise: a text.
        let name = unsafe { CStr::from_ptr(name) };
        let of = driver.modules.get(&module).ok_or(Status::INVALID_HANDLE)?;
        let function = of.function(name.to_str().map_err(|_| Status::NOT_FOUND)?)?;
        let handle = driver.next();
        driver.functions.insert(handle, function);
        // SAFETY: the caller's promise.
        unsafe { put(to, handle) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuFuncSetAttribute(function: usize, attribute: u32, value: i32) -> Status {
    in_context("cuFuncSetAttribute", |driver| {
        let function = driver.functions.get_mut(&function).ok_or(Status::INVALID_HANDLE)?;
        match (attribute, u32::try_from(value)) {
            // Bytes of shared memory that a launch may ask for.
            (8, Ok(bytes @ 0..=MOST_SHARED_BYTES)) => function.most_shared_bytes = bytes,
            _ => return Err(Status::INVALID_VALUE),
        }
        Ok(())
    })
}

/// Threads that a multiprocessor runs at a time.
const MOST_RESIDENT_THREADS: u32 = 2048;

/// Bytes of shared memory that each kernel has without asking.
const STATIC_SHARED_BYTES: usize = 4 * SHARED_WORDS;

#[unsafe(no_mangle)]
unsafe extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    to: *mut i32,
    function: usize,
    threads: i32,
    shared_bytes: usize,
    _flags: u32,
) -> Status {
    in_context("cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags", |driver| {
        let function = driver.functions.get(&function).ok_or(Status::INVALID_HANDLE)?;
        let threads = u32::try_from(threads).map_err(|_| Status::INVALID_VALUE)?;
        if threads == 0 || shared_bytes > function.most_shared_bytes as usize {
            return Err(Status::INVALID_VALUE);
        }
        let by_threads = MOST_RESIDENT_THREADS / threads;
        let bytes = if shared_bytes == 0 { STATIC_SHARED_BYTES } else { shared_bytes };
        let by_memory =
            MOST_SHARED_BYTES / u32::try_from(bytes).map_err(|_| Status::INVALID_VALUE)?;
        // SAFETY: the caller's promise.
        unsafe { put(to, by_threads.min(by_memory) as i32) }
    })
}

/// Bytes of shared memory that a kernel can be allowed.
pub(crate) const MOST_SHARED_BYTES: u32 = 100 << 10;

#[unsafe(no_mangle)]
unsafe extern "C" fn cuLaunchKernel(
    function: usize,
    blocks_x: u32,
    blocks_y: u32,
    blocks_z: u32,
    threads_x: u32,
    threads_y: u32,
    threads_z: u32,
    shared_bytes: u32,
    stream: usize,
    parameters: *const *const u8,
    extra: *const *const c_void,
) -> Status {
    in_context("cuLaunchKernel", |driver| {
        let function = driver.functions.get(&function).ok_or(Status::INVALID_HANDLE)?;
        let function = function.clone();
        if !function.is_loaded.load(Relaxed) {
            return Err(Status::INVALID_HANDLE);
        }
        let shape = Shape {
            blocks: [blocks_x, blocks_y, blocks_z],
            threads: [threads_x, threads_y, threads_z],
            shared_bytes,
        };
        if shared_bytes > function.most_shared_bytes {
            return Err(Status::INVALID_VALUE);
        }
        let sizes = function.kernel.sizes;
        let bytes: usize = sizes.iter().sum();
        if !ptr::eq(extra, ptr::null()) || bytes > MOST_BYTES {
            return Err(Status::INVALID_VALUE);
        }
        shape.grid()?;
        set_last_blocks(blocks_x);
        // Parameters are copied when a launch is asked for, not when it runs.
        let mut copied = Vec::with_capacity(bytes);
        for (nth, &size) in sizes.iter().enumerate() {
            // SAFETY: the caller's promise: an address for each parameter, of as many bytes.
            copied.extend_from_slice(unsafe { slice::from_raw_parts(*parameters.add(nth), size) });
        }
        let launch = move |memory: &mut Memory| {
            // SAFETY: the launcher's promise, as on a GPU.
            unsafe { function.launch(shape, &copied, memory) }
        };
        driver.give(stream, Arc::new(launch))
    })
}
