//! The driver itself, devices, contexts.

use std::ffi::{CStr, c_char};

use crate::{
    Executed,
    api::module::MOST_SHARED_BYTES,
    driver::{
        DEVICES, anywhere, calls, current, in_context, initialised, last_blocks, put, set_current,
        set_orderly, take_executed, visible,
    },
    memory::TOTAL,
    status::{Answer, Status},
};

/// The CUDA version whose calls are simulated.
const VERSION: i32 = 12080;

/// Attributes by their numbers in the driver's header; what is not here is not simulated.
const fn attribute(number: u32, capability: (i32, i32)) -> Option<i32> {
    Some(match number {
        1 | 2 => 1024,  // threads per block, and along x
        5 => i32::MAX,  // blocks along x
        8 => 48 << 10,  // bytes of shared memory per block
        10 => 32,       // threads of a warp
        12 => 64 << 10, // registers per block
        16 => 2,        // multiprocessors
        41 => 1,        // one address space with the host
        75 => capability.0,
        76 => capability.1,
        81 | 97 => MOST_SHARED_BYTES as i32, // shared memory per multiprocessor, and per block that asks
        115 => 1,                            // memory pools
        _ => return None,
    })
}

fn device(number: i32) -> Answer<usize> {
    let number = usize::try_from(number).map_err(|_| Status::INVALID_DEVICE)?;
    if number < DEVICES.len() { Ok(number) } else { Err(Status::INVALID_DEVICE) }
}

/// The handle of a device's primary context.
const fn context(device: usize) -> usize {
    0x100 * (device + 1)
}

fn device_of(context: usize) -> Answer<usize> {
    let device = (context / 0x100).checked_sub(1).ok_or(Status::INVALID_CONTEXT)?;
    let exists = context.is_multiple_of(0x100) && device < DEVICES.len();
    if exists { Ok(device) } else { Err(Status::INVALID_CONTEXT) }
}

/// Returns how often the calling thread called a function.
#[unsafe(no_mangle)]
unsafe extern "C" fn adaloss_driver_calls(name: *const c_char) -> u64 {
    // SAFETY: the caller's promise: a text.
    let name = unsafe { CStr::from_ptr(name) };
    name.to_str().map_or(0, calls)
}

/// Lets texts be executed in the plainest order, for the calling thread.
#[unsafe(no_mangle)]
extern "C" fn adaloss_driver_set_orderly() {
    set_orderly();
}

/// Tells what the text of an entry did for the calling thread since it was last asked, if anything.
#[unsafe(no_mangle)]
unsafe extern "C" fn adaloss_driver_take_executed(name: *const c_char, to: *mut Executed) -> bool {
    // SAFETY: the caller's promise: a text.
    let name = unsafe { CStr::from_ptr(name) };
    let Some(executed) = name.to_str().ok().and_then(take_executed) else { return false };
    // SAFETY: the caller's promise: there is room for one.
    unsafe { to.write(executed) };
    true
}

/// Returns the blocks of the calling thread's last launch.
#[unsafe(no_mangle)]
extern "C" fn adaloss_driver_last_blocks() -> u32 {
    last_blocks()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuInit(flags: u32) -> Status {
    anywhere("cuInit", |driver| {
        driver.is_initialised = true;
        if flags == 0 { Ok(()) } else { Err(Status::INVALID_VALUE) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDriverGetVersion(version: *mut i32) -> Status {
    // SAFETY: the caller's promise.
    anywhere("cuDriverGetVersion", |_| unsafe { put(version, VERSION) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetErrorName(error: Status, text: *mut *const c_char) -> Status {
    anywhere("cuGetErrorName", |_| {
        let (name, _) = error.texts().ok_or(Status::INVALID_VALUE)?;
        // SAFETY: the caller's promise.
        unsafe { put(text, name.as_ptr()) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetErrorString(error: Status, text: *mut *const c_char) -> Status {
    anywhere("cuGetErrorString", |_| {
        let (_, meaning) = error.texts().ok_or(Status::INVALID_VALUE)?;
        // SAFETY: the caller's promise.
        unsafe { put(text, meaning.as_ptr()) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetCount(count: *mut i32) -> Status {
    // SAFETY: the caller's promise.
    initialised("cuDeviceGetCount", |_| unsafe { put(count, visible().len() as i32) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGet(to: *mut i32, ordinal: i32) -> Status {
    initialised("cuDeviceGet", |_| {
        let number = usize::try_from(ordinal).ok().and_then(|ordinal| visible().get(ordinal));
        let number = *number.ok_or(Status::INVALID_DEVICE)?;
        // SAFETY: the caller's promise.
        unsafe { put(to, number as i32) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetName(name: *mut c_char, length: i32, number: i32) -> Status {
    initialised("cuDeviceGetName", |_| {
        let bytes = DEVICES[device(number)?].name.to_bytes_with_nul();
        if name.is_null() || usize::try_from(length).map_or(true, |room| room < bytes.len()) {
            return Err(Status::INVALID_VALUE);
        }
        // SAFETY: the caller's promise: there is as much room.
        unsafe { name.copy_from_nonoverlapping(bytes.as_ptr().cast(), bytes.len()) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, number: i32) -> Status {
    initialised("cuDeviceTotalMem_v2", |_| {
        device(number)?;
        // SAFETY: the caller's promise.
        unsafe { put(bytes, TOTAL) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetAttribute(value: *mut i32, number: u32, of: i32) -> Status {
    initialised("cuDeviceGetAttribute", |_| {
        let value_of =
            attribute(number, DEVICES[device(of)?].capability).ok_or(Status::NOT_SUPPORTED)?;
        // SAFETY: the caller's promise.
        unsafe { put(value, value_of) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDevicePrimaryCtxRetain(to: *mut usize, number: i32) -> Status {
    initialised("cuDevicePrimaryCtxRetain", |driver| {
        let device = device(number)?;
        driver.retained[device] += 1;
        // SAFETY: the caller's promise.
        unsafe { put(to, context(device)) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDevicePrimaryCtxRelease_v2(number: i32) -> Status {
    initialised("cuDevicePrimaryCtxRelease_v2", |driver| {
        let retained = &mut driver.retained[device(number)?];
        *retained = retained.checked_sub(1).ok_or(Status::INVALID_CONTEXT)?;
        Ok(())
    })
}

/// How a host waits is nothing to a device that works only meanwhile.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuDevicePrimaryCtxSetFlags_v2(number: i32, _flags: u32) -> Status {
    initialised("cuDevicePrimaryCtxSetFlags_v2", |_| device(number).map(drop))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuCtxGetCurrent(to: *mut usize) -> Status {
    // SAFETY: the caller's promise.
    initialised("cuCtxGetCurrent", |_| unsafe { put(to, current().map_or(0, context)) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuCtxSetCurrent(of: usize) -> Status {
    initialised("cuCtxSetCurrent", |_| {
        set_current(if of == 0 { None } else { Some(device_of(of)?) });
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuCtxGetDevice(to: *mut i32) -> Status {
    in_context("cuCtxGetDevice", |_| {
        let device = current().ok_or(Status::INVALID_CONTEXT)?;
        // SAFETY: the caller's promise.
        unsafe { put(to, device as i32) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuCtxSynchronize() -> Status {
    in_context("cuCtxSynchronize", |driver| {
        driver.refuse_captures()?;
        driver.finish_all()
    })
}
