//! What the driver refuses comes back as an error that says so.

use std::thread;

use adaloss_gpu::{Cuda, GpuError, GpuSpace};
use adaloss_hal::{AddressSpace, Device, Error, ErrorKind, Memory};

use crate::{alone, cuda, open};

#[test]
fn a_gpu_that_is_too_old_is_refused() {
    let error = open(2).expect_err("its capability is 7.5");
    assert_eq!(error, GpuError::Capability { found: (7, 5) });
    let error = open(5).expect_err("there are five");
    assert_eq!(error, GpuError::NoDevice { ordinal: 5, count: 5 });
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

/// A copy reads pinned memory when its stream comes to it: what is passed to a write is put elsewhere before.
#[test]
fn pinned_values_may_be_changed_after_a_write() {
    let mut device = cuda();
    let context = device.stream().context().clone();
    // SAFETY: all of it is written before it is read.
    let mut pinned = unsafe { context.alloc_pinned::<u32>(3) }.expect("memory");
    pinned.as_mut_slice().expect("nothing reads it").copy_from_slice(&[1, 2, 3]);
    let mut buffer = device.zeroed::<u32>(3).expect("memory");
    device.write(pinned.as_slice().expect("nothing writes it"), buffer.view_mut()).expect("three");
    pinned.as_mut_slice().expect("nothing reads it").fill(7);
    drop(pinned);
    let mut read = [0; 3];
    device.read(buffer.view(), &mut read).expect("three");
    assert_eq!(read, [1, 2, 3]);
}

/// More than there is room for at a time, in one write and in thousands that nothing waits for.
#[test]
fn writes_of_any_size_arrive() {
    let mut device = cuda();
    let long: Vec<u32> = (0..3_000_001).collect();
    let mut buffer = device.zeroed::<u32>(long.len()).expect("memory");
    device.write(&long, buffer.view_mut()).expect("as many");
    let mut short = device.zeroed::<u32>(25 * 50_000).expect("memory");
    for nth in 0..50_000 {
        let to = GpuSpace::part_mut(short.view_mut(), 25 * nth..25 * (nth + 1)).expect("a part");
        device.write(&[nth as u32; 25], to).expect("as many");
    }
    let mut read = vec![0; long.len()];
    device.read(buffer.view(), &mut read).expect("as many");
    assert_eq!(read, long);
    let mut read = vec![0; 25 * 50_000];
    device.read(short.view(), &mut read).expect("as many");
    assert!(read.chunks(25).zip(0..).all(|(of, nth)| of == [nth; 25]));
}

/// Whoever drops a device may have written a moment ago.
#[test]
fn a_device_is_dropped_while_a_write_is_on_its_way() {
    let mut device = cuda();
    let stream = device.stream().clone();
    let mut buffer = device.zeroed::<u32>(2).expect("memory");
    // It keeps the kernels: unloading them would wait for all work.
    let _graph = {
        let _alone = alone();
        device.capture(|device| device.clear(buffer.view_mut())).expect("nothing waits")
    };
    device.write(&[3, 4], buffer.view_mut()).expect("two");
    drop(device);
    let mut other = Cuda::on(stream).expect("the context is still there");
    let mut read = [0; 2];
    other.read(buffer.view(), &mut read).expect("two");
    assert_eq!(read, [3, 4]);
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
