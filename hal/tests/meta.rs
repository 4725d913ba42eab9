//! The device without elements counts what a program asks of it, and refuses what any device would.
#![cfg(feature = "alloc")]

use adaloss_hal::{
    Convolution, Device, ErrorKind, HostError, Memory, OperationKind, Run, Shape,
    meta::Meta,
    network::{Accumulate, Attention},
};

#[test]
fn bytes_are_those_of_the_buffers_that_exist() -> Result<(), HostError> {
    let mut device = Meta::default();
    let first = device.zeroed::<u16>(1000)?;
    let second = device.zeroed::<f64>(10)?;
    assert_eq!((device.cost().bytes, device.cost().most_bytes), (2080, 2080));
    drop(first);
    assert_eq!((device.cost().bytes, device.cost().most_bytes), (80, 2080));
    device.restart();
    assert_eq!((device.cost().bytes, device.cost().most_bytes), (80, 80));
    let _third = device.clone().zeroed::<u8>(5)?;
    assert_eq!(device.cost().bytes, 85);
    drop(second);
    assert_eq!(device.cost().bytes, 5);
    Ok(())
}

#[test]
fn more_than_can_be_addressed_is_refused() -> Result<(), HostError> {
    let mut device = Meta::default();
    assert_eq!(
        device.zeroed::<f64>(usize::MAX / 4).err(),
        Some(HostError::Memory { elements: usize::MAX / 4 })
    );
    let most = device.zeroed::<u8>(usize::MAX)?;
    assert!(device.zeroed::<u8>(1).is_err());
    drop(most);
    assert_eq!(device.cost().bytes, 0);
    Ok(())
}

#[test]
fn what_is_read_is_zero_and_lengths_are_checked() -> Result<(), HostError> {
    let mut device = Meta::default();
    let mut buffer = device.zeroed::<f32>(2)?;
    device.write(&[1.0, 2.0], Meta::view_mut(&mut buffer))?;
    let mut read = [3.0; 2];
    device.read(Meta::view(&buffer), &mut read)?;
    assert_eq!(read, [0.0; 2]);
    assert!(device.read(Meta::view(&buffer), &mut [0.0; 3]).is_err());
    assert!(device.write(&[1.0], Meta::view_mut(&mut buffer)).is_err());
    Ok(())
}

/// A bias of two does not divide rows of three.
#[test]
fn operands_that_do_not_fit_are_refused() -> Result<(), HostError> {
    let mut device = Meta::default();
    let (bias, mut rows) = (device.zeroed::<f32>(0)?, device.zeroed::<f32>(3)?);
    let operation = Accumulate { input: Meta::view(&bias), to: Meta::view_mut(&mut rows) };
    let error = device.run(operation).unwrap_err();
    assert_eq!(adaloss_hal::Error::kind(&error), ErrorKind::Shape);
    assert_eq!(device.cost().of(OperationKind::Accumulate), 0);
    Ok(())
}

#[test]
fn multiply_adds_are_those_of_the_shape() {
    // The first layer of ResNet-50: 112 x 112 pixels, 64 filters, 7 x 7 x 3 terms.
    let stem = Convolution::new(2, [224; 2], 3, 64, [7; 2]).stride([2; 2]).padding([3; 2]);
    assert_eq!(Shape::Convolution(stem).multiply_adds(), 2 * 112 * 112 * 64 * 147);
    let nothing = Convolution::new(1, [2; 2], 3, 64, [7; 2]);
    assert_eq!(Shape::Convolution(nothing).multiply_adds(), 0);
    // Of four tokens the first attends to one and the last to four: ten pairs, two products of 8 features each.
    let attention = Attention { batch: 3, tokens: 4, heads: 2, width: 8 };
    assert_eq!(Shape::Attention(attention).multiply_adds(), 3 * 2 * 10 * 2 * 8);
}
