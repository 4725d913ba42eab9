//! What the driver refuses comes back as an error that says so.

use std::thread;

use adaloss_gpu::{Cuda, GpuError};
use adaloss_hal::{Device, Error, ErrorKind, Memory};

use crate::{cuda, open};

#[test]
fn a_gpu_that_is_too_old_is_refused() {
    let error = open(2).expect_err("its capability is 7.5");
    assert_eq!(error, GpuError::Capability { found: (7, 5) });
    let error = open(3).expect_err("there are three");
    assert_eq!(error, GpuError::NoDevice { ordinal: 3, count: 3 });
}

#[test]
fn exhausted_memory_is_said_to_be() {
    let mut device = cuda();
    let error = device.zeroed::<f32>(1 << 40).expect_err("it has a GiB");
    assert_eq!(error.kind(), ErrorKind::Memory);
    let four = device.zeroed::<f32>(4).expect("it goes on");
    let mut read = [1.0; 4];
    device.read(four.view(), &mut read).expect("as many");
    assert_eq!(read, [0.0; 4]);
}

/// A thread has a context of its own until one is bound.
#[test]
fn a_device_can_be_sent_to_another_thread() {
    let mut device = cuda();
    let mut buffer = device.zeroed::<f32>(3).expect("memory");
    let written = thread::spawn(move || {
        device.write(&[1.0, 2.0, 3.0], Cuda::view_mut(&mut buffer))?;
        let mut read = [0.0; 3];
        device.read(buffer.view(), &mut read)?;
        Ok::<_, GpuError>(read)
    });
    assert_eq!(written.join().expect("no panic"), Ok([1.0, 2.0, 3.0]));
}

/// What is written waits for nothing, and what is read waits for all of it.
#[test]
fn only_a_read_waits() {
    let mut device = cuda();
    let mut buffer = device.zeroed::<u32>(2).expect("memory");
    for round in 1..10 {
        let mut values = [round, 2 * round];
        device.write(&values, buffer.view_mut()).expect("two");
        // They may be changed again at once.
        values.fill(0);
        let mut read = values;
        device.read(buffer.view(), &mut read).expect("two");
        assert_eq!(read, [round, 2 * round]);
    }
}
