//! Captures and graphs.

use std::thread;

use crate::{
    driver::{LEGACY, in_context, put},
    status::Status,
    stream::{Capture, Mode},
};

#[unsafe(no_mangle)]
unsafe extern "C" fn cuStreamBeginCapture_v2(stream: usize, mode: u32) -> Status {
    in_context("cuStreamBeginCapture_v2", |driver| {
        let mode = match mode {
            0 => Mode::Global,
            1 => Mode::ThreadLocal,
            2 => Mode::Relaxed,
            _ => return Err(Status::INVALID_VALUE),
        };
        if stream == LEGACY {
            return Err(Status::STREAM_CAPTURE_UNSUPPORTED);
        }
        let of = driver.stream(stream)?;
        if of.capture.is_some() {
            return Err(Status::ILLEGAL_STATE);
        }
        let thread = thread::current().id();
        of.capture = Some(Capture { mode, thread, work: Vec::new(), is_lost: false });
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuStreamEndCapture(stream: usize, to: *mut usize) -> Status {
    in_context("cuStreamEndCapture", |driver| {
        // SAFETY: the caller's promise.
        unsafe { put(to, 0)? };
        let of = driver.stream(stream)?;
        let capture = of.capture.take().ok_or(Status::ILLEGAL_STATE)?;
        if capture.mode != Mode::Relaxed && capture.thread != thread::current().id() {
            of.capture = Some(capture);
            return Err(Status::STREAM_CAPTURE_WRONG_THREAD);
        }
        if capture.is_lost {
            return Err(Status::STREAM_CAPTURE_INVALIDATED);
        }
        let handle = driver.next();
        driver.graphs.insert(handle, capture.work);
        // SAFETY: as above.
        unsafe { put(to, handle) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuStreamIsCapturing(stream: usize, to: *mut u32) -> Status {
    in_context("cuStreamIsCapturing", |driver| {
        let status = match &driver.stream(stream)?.capture {
            None => 0,
            Some(capture) if !capture.is_lost => 1,
            Some(_) => 2,
        };
        // SAFETY: the caller's promise.
        unsafe { put(to, status) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGraphInstantiateWithFlags(to: *mut usize, graph: usize, _: u64) -> Status {
    in_context("cuGraphInstantiateWithFlags", |driver| {
        let work = driver.graphs.get(&graph).ok_or(Status::INVALID_VALUE)?.clone();
        let handle = driver.next();
        driver.executables.insert(handle, work);
        // SAFETY: the caller's promise.
        unsafe { put(to, handle) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGraphLaunch(executable: usize, stream: usize) -> Status {
    in_context("cuGraphLaunch", |driver| {
        let work = driver.executables.get(&executable).ok_or(Status::INVALID_VALUE)?.clone();
        work.into_iter().try_for_each(|work| driver.give(stream, work))
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGraphUpload(executable: usize, _stream: usize) -> Status {
    in_context("cuGraphUpload", |driver| {
        driver.executables.get(&executable).map(drop).ok_or(Status::INVALID_VALUE)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGraphDestroy(graph: usize) -> Status {
    in_context("cuGraphDestroy", |driver| {
        driver.graphs.remove(&graph).map(drop).ok_or(Status::INVALID_VALUE)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGraphExecDestroy(executable: usize) -> Status {
    in_context("cuGraphExecDestroy", |driver| {
        driver.executables.remove(&executable).map(drop).ok_or(Status::INVALID_VALUE)
    })
}
