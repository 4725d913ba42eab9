//! Streams and events.

use crate::{
    driver::{Driver, LEGACY, in_context, put},
    status::{Answer, Status},
    stream::{Event, Step, Stream},
};

const NON_BLOCKING: u32 = 1;
const WITHOUT_TIMES: u32 = 2;

#[unsafe(no_mangle)]
unsafe extern "C" fn cuStreamCreate(to: *mut usize, flags: u32) -> Status {
    in_context("cuStreamCreate", |driver| {
        let handle = driver.next();
        let stream = Stream { blocks: flags & NON_BLOCKING == 0, ..Stream::default() };
        driver.streams.insert(handle, stream);
        // SAFETY: the caller's promise.
        unsafe { put(to, handle) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuStreamCreateWithPriority(to: *mut usize, flags: u32, _: i32) -> Status {
    // SAFETY: the caller's promise.
    unsafe { cuStreamCreate(to, flags) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuStreamDestroy_v2(stream: usize) -> Status {
    in_context("cuStreamDestroy_v2", |driver| {
        if stream == LEGACY {
            return Err(Status::INVALID_HANDLE);
        }
        driver.finish(stream)?;
        driver.streams.remove(&stream);
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuStreamSynchronize(stream: usize) -> Status {
    in_context("cuStreamSynchronize", |driver| {
        driver.stream(stream)?.refuse_capture(Status::STREAM_CAPTURE_UNSUPPORTED)?;
        driver.take_turns(stream)?;
        driver.finish(stream)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuStreamQuery(stream: usize) -> Status {
    in_context("cuStreamQuery", |driver| {
        driver.stream(stream)?.refuse_capture(Status::STREAM_CAPTURE_UNSUPPORTED)?;
        // Who asks again and again must find it done some day.
        let was_done = driver.stream(stream)?.steps.is_empty();
        driver.finish(stream)?;
        if was_done { Ok(()) } else { Err(Status::NOT_READY) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuStreamWaitEvent(stream: usize, event: usize, _flags: u32) -> Status {
    in_context("cuStreamWaitEvent", |driver| {
        let (recorded, is_captured) = {
            let event = driver.events.get(&event).ok_or(Status::INVALID_HANDLE)?;
            (event.recorded, event.is_captured)
        };
        let waiting = driver.stream(stream)?;
        match recorded {
            // Never recorded: there is nothing to wait for.
            None => Ok(()),
            Some((of, _)) if of == stream && waiting.capture.is_some() == is_captured => Ok(()),
            Some(_) if waiting.capture.is_some() => {
                waiting.refuse_capture(Status::STREAM_CAPTURE_ISOLATION)
            }
            // It would join the capture of another stream.
            Some(_) if is_captured => Err(Status::NOT_SUPPORTED),
            Some((of, ticket)) => {
                waiting.steps.push_back(Step::Wait { stream: of, ticket });
                Ok(())
            }
        }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventCreate(to: *mut usize, flags: u32) -> Status {
    in_context("cuEventCreate", |driver| {
        let handle = driver.next();
        let event = Event { is_timed: flags & WITHOUT_TIMES == 0, ..Event::default() };
        driver.events.insert(handle, event);
        // SAFETY: the caller's promise.
        unsafe { put(to, handle) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventDestroy_v2(event: usize) -> Status {
    in_context("cuEventDestroy_v2", |driver| {
        driver.events.remove(&event).map(drop).ok_or(Status::INVALID_HANDLE)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventRecord(event: usize, stream: usize) -> Status {
    in_context("cuEventRecord", |driver| {
        driver.take_turns(stream)?;
        let ticket = driver.next() as u64;
        let of = driver.stream(stream)?;
        let is_captured = of.capture.is_some();
        if !is_captured {
            of.steps.push_back(Step::Record { event, ticket });
        }
        let event = driver.events.get_mut(&event).ok_or(Status::INVALID_HANDLE)?;
        let recorded = Some((stream, ticket));
        *event = Event { recorded, is_captured, reached: None, is_timed: event.is_timed };
        Ok(())
    })
}

/// Returns where an event was recorded, if it may be asked for.
fn recorded(driver: &mut Driver, event: usize) -> Answer<Option<(usize, u64)>> {
    let &Event { recorded, is_captured, .. } =
        driver.events.get(&event).ok_or(Status::INVALID_HANDLE)?;
    match recorded {
        Some((stream, _)) if is_captured => {
            driver.stream(stream)?.refuse_capture(Status::CAPTURED_EVENT)?;
            Err(Status::CAPTURED_EVENT)
        }
        other => Ok(other),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventQuery(event: usize) -> Status {
    in_context("cuEventQuery", |driver| {
        let Some((stream, ticket)) = recorded(driver, event)? else { return Ok(()) };
        let awaits = driver.streams.get(&stream).is_some_and(|of| of.awaits(ticket));
        driver.reach(stream, ticket)?;
        if awaits { Err(Status::NOT_READY) } else { Ok(()) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventSynchronize(event: usize) -> Status {
    in_context("cuEventSynchronize", |driver| match recorded(driver, event)? {
        Some((stream, ticket)) => driver.reach(stream, ticket),
        None => Ok(()),
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventElapsedTime_v2(to: *mut f32, begin: usize, end: usize) -> Status {
    in_context("cuEventElapsedTime_v2", |driver| {
        let reached = |event| {
            let event = driver.events.get(&event).filter(|event| event.is_timed);
            let event = event.ok_or(Status::INVALID_HANDLE)?;
            event.reached.ok_or(Status::NOT_READY)
        };
        let elapsed = reached(end)?.saturating_duration_since(reached(begin)?);
        // SAFETY: the caller's promise.
        unsafe { put(to, 1000.0 * elapsed.as_secs_f32()) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventElapsedTime(to: *mut f32, begin: usize, end: usize) -> Status {
    // SAFETY: the caller's promise.
    unsafe { cuEventElapsedTime_v2(to, begin, end) }
}
