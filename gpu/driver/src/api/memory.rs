//! Memory, of the device and pinned of the host, and copies.

use std::sync::Arc;

use crate::{
    driver::{Driver, LEGACY, in_context, put},
    memory::{Memory, TOTAL, copy},
    status::{Answer, Status},
    stream::Work,
};

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> Status {
    // SAFETY: the caller's promise.
    in_context("cuMemGetInfo_v2", |driver| unsafe {
        put(free, driver.memory.available())?;
        put(total, TOTAL)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemAlloc_v2(to: *mut usize, bytes: usize) -> Status {
    in_context("cuMemAlloc_v2", |driver| {
        driver.refuse_unsafe()?;
        let address = driver.memory.allocate(bytes)?;
        // SAFETY: the caller's promise.
        unsafe { put(to, address) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemFree_v2(address: usize) -> Status {
    in_context("cuMemFree_v2", |driver| {
        driver.refuse_unsafe()?;
        if address == 0 {
            return Ok(());
        }
        driver.memory.condemn(address)?;
        driver.finish_all()?;
        driver.memory.free(address)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemAllocAsync(to: *mut usize, bytes: usize, stream: usize) -> Status {
    in_context("cuMemAllocAsync", |driver| {
        driver.stream(stream)?.refuse_capture(Status::NOT_SUPPORTED)?;
        let address = driver.memory.allocate(bytes)?;
        // SAFETY: the caller's promise.
        unsafe { put(to, address) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemFreeAsync(address: usize, stream: usize) -> Status {
    in_context("cuMemFreeAsync", |driver| {
        // While a graph is captured, only its own memory may be freed, which is not simulated.
        driver.stream(stream)?.refuse_capture(Status::INVALID_VALUE)?;
        driver.memory.condemn(address)?;
        driver.give(stream, Arc::new(move |memory: &mut Memory| memory.free(address)))
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemHostAlloc(to: *mut usize, bytes: usize, _flags: u32) -> Status {
    in_context("cuMemHostAlloc", |driver| {
        driver.refuse_unsafe()?;
        let address = driver.memory.pin(bytes)?;
        // SAFETY: the caller's promise.
        unsafe { put(to, address) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemFreeHost(address: usize) -> Status {
    in_context("cuMemFreeHost", |driver| {
        driver.refuse_unsafe()?;
        driver.memory.unpin(address)
    })
}

/// What a copy leaves or reaches.
#[derive(Clone, Copy)]
enum Side {
    Host(usize),
    Device(usize),
}

impl Side {
    fn address(self, memory: &Memory, bytes: usize) -> Answer<usize> {
        match self {
            Self::Host(0) if bytes > 0 => Err(Status::INVALID_VALUE),
            Self::Host(address) => Ok(address),
            Self::Device(address) => memory.check(address, bytes).map(|()| address),
        }
    }
}

/// Puts a copy into a stream.
///
/// Bytes of the host that are not pinned are read at once, as the driver does; a graph reads them
/// whenever it is launched.
fn put_copy(driver: &mut Driver, stream: usize, to: Side, from: Side, bytes: usize) -> Answer {
    let target = to.address(&driver.memory, bytes)?;
    let source = from.address(&driver.memory, bytes)?;
    let is_captured = driver.stream(stream)?.capture.is_some();
    let is_staged =
        matches!(from, Side::Host(_)) && !is_captured && !driver.memory.is_pinned(source, bytes);
    let work: Work = if is_staged {
        let mut staged = vec![0_u8; bytes];
        // SAFETY: the caller's promise: so many bytes are there.
        unsafe { copy(staged.as_mut_ptr().expose_provenance(), source, bytes) };
        Arc::new(move |_: &mut Memory| {
            // SAFETY: within an allocation, which is freed in this stream or by who waits for it.
            unsafe { copy(target, staged.as_ptr().expose_provenance(), bytes) };
            Ok(())
        })
    } else {
        Arc::new(move |memory: &mut Memory| {
            // An address of the device may have been freed in another stream, or before a launch.
            let (to, from) = (to.address(memory, 0), from.address(memory, 0));
            let (Ok(to), Ok(from)) = (to, from) else { return Err(Status::ILLEGAL_ADDRESS) };
            // SAFETY: they were within allocations, and the host's bytes are promised by the caller.
            unsafe { copy(to, from, bytes) };
            Ok(())
        })
    };
    driver.give(stream, work)
}

/// Copies at once.
fn copy_now(driver: &mut Driver, to: Side, from: Side, bytes: usize) -> Answer {
    driver.refuse_unsafe()?;
    put_copy(driver, LEGACY, to, from, bytes)?;
    driver.finish(LEGACY)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyHtoD_v2(to: usize, from: usize, bytes: usize) -> Status {
    in_context("cuMemcpyHtoD_v2", |driver| {
        copy_now(driver, Side::Device(to), Side::Host(from), bytes)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyDtoH_v2(to: usize, from: usize, bytes: usize) -> Status {
    in_context("cuMemcpyDtoH_v2", |driver| {
        copy_now(driver, Side::Host(to), Side::Device(from), bytes)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyDtoD_v2(to: usize, from: usize, bytes: usize) -> Status {
    in_context("cuMemcpyDtoD_v2", |driver| {
        copy_now(driver, Side::Device(to), Side::Device(from), bytes)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyHtoDAsync_v2(
    to: usize,
    from: usize,
    bytes: usize,
    stream: usize,
) -> Status {
    in_context("cuMemcpyHtoDAsync_v2", |driver| {
        put_copy(driver, stream, Side::Device(to), Side::Host(from), bytes)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyDtoHAsync_v2(
    to: usize,
    from: usize,
    bytes: usize,
    stream: usize,
) -> Status {
    in_context("cuMemcpyDtoHAsync_v2", |driver| {
        put_copy(driver, stream, Side::Host(to), Side::Device(from), bytes)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyDtoDAsync_v2(
    to: usize,
    from: usize,
    bytes: usize,
    stream: usize,
) -> Status {
    in_context("cuMemcpyDtoDAsync_v2", |driver| {
        put_copy(driver, stream, Side::Device(to), Side::Device(from), bytes)
    })
}

/// Puts a fill into a stream.
fn put_fill(driver: &mut Driver, stream: usize, to: usize, byte: u8, bytes: usize) -> Answer {
    driver.memory.check(to, bytes)?;
    let fill = move |memory: &mut Memory| {
        if !memory.names(to) {
            return Err(Status::ILLEGAL_ADDRESS);
        }
        // SAFETY: within an allocation.
        unsafe { (to as *mut u8).write_bytes(byte, bytes) };
        Ok(())
    };
    driver.give(stream, Arc::new(fill))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemsetD8_v2(to: usize, byte: u8, bytes: usize) -> Status {
    in_context("cuMemsetD8_v2", |driver| {
        driver.refuse_unsafe()?;
        put_fill(driver, LEGACY, to, byte, bytes)?;
        driver.finish(LEGACY)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemsetD8Async(to: usize, byte: u8, bytes: usize, stream: usize) -> Status {
    in_context("cuMemsetD8Async", |driver| put_fill(driver, stream, to, byte, bytes))
}
