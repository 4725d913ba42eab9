//! A runtime of cust's, through the simulated driver: both libraries in one context.

use std::error::Error;

use adaloss_conformance as conformance;
use adaloss_core::{
    format::{Element, Format, Narrowing, Noise, f16},
    policy::{Cell, Config},
    propagate::Scaled,
    scale::Scale,
    scaler::device::{Entry, Line},
    statistics::{Histogram, Outcome},
    unscale::{Unscaled, unscale},
};
use adaloss_cust::{elements, elements_mut, on};
use adaloss_gpu::{GpuSpace, Gradient, Into};
use adaloss_hal::{
    AddressSpace, Device, Epilogue, HasNarrow, Memory, Narrow, Run,
    portable::Portable,
    scaler::{Engine, HasScaler},
};
use cust::{
    context::Context,
    memory::{CopyDestination, DeviceBuffer},
    stream::{Stream, StreamFlags},
};

/// Opens the simulated GPU as a runtime of cust's does.
fn runtime() -> Result<(Context, Stream), Box<dyn Error>> {
    let context = cust::quick_init()?;
    assert_eq!(cust::device::Device::get_device(0)?.name()?, "simulated grid");
    Ok((context, Stream::new(StreamFlags::DEFAULT, None)?))
}

#[test]
fn a_device_on_a_stream_of_custs_conforms() -> Result<(), Box<dyn Error>> {
    let (_context, stream) = runtime()?;
    // SAFETY: the stream is dropped last.
    let mut device = unsafe { on(&stream)? };
    conformance::memory(&mut device)?;
    conformance::narrow::<f16, _>(&mut device)?;
    assert_eq!(entries(&mut device)?, entries(&mut Portable)?);
    Ok(())
}

/// Takes a step of a scaler that lives on the device, and returns what it wrote down.
fn entries<D: Memory + HasNarrow<f16> + HasScaler>(
    device: &mut D,
) -> Result<Vec<Entry>, Box<dyn Error>>
where
    D::Error: 'static,
{
    let mut engine = Engine::new(device, Config::for_format(Format::BINARY16), 1, 3)?;
    let mut gradient = device.zeroed::<f32>(3)?;
    device.write(&[1.0e-9, -7.0e-9, 3.0e-8], D::view_mut(&mut gradient))?;
    let mut narrowed = device.zeroed::<f16>(3)?;
    let mut visit = engine.loss(device, 3)?;
    while let Some(mut pass) = visit.next_pass(device)? {
        let (input, to) = (D::view(&gradient), D::view_mut(&mut narrowed));
        device.run(Narrow::<D::Space, f16> { input, to, epilogue: pass.epilogue() })?;
    }
    let carried = visit.finish(device)?;
    engine.layer(device, 0, 0, &carried)?.finish(device)?;
    engine.conclude(device, None)?;
    let mut room = [Line::EMPTY; 3];
    Ok(engine.read(device, &mut room)?.collect::<Result<_, _>>()?)
}

/// Values in a buffer of cust's are narrowed into another and unscaled into a third, which cust reads.
#[test]
fn buffers_stay_custs() -> Result<(), Box<dyn Error>> {
    let (_context, stream) = runtime()?;
    // SAFETY: the stream is dropped last.
    let mut device = unsafe { on(&stream)? };
    let noise = Noise { seed: 3, stream: 0 };
    let values: Vec<f32> = (0..777)
        .map(|index| 1.0e-9 * (noise.word(index) as f32 / 2.0_f32.powi(31) - 1.0))
        .collect();
    let narrowing = Narrowing::to(Format::BINARY16);
    let from = DeviceBuffer::from_slice(&values)?;
    let mut narrowed = DeviceBuffer::from_slice(&[0_u16; 777])?;
    let mut unscaled = DeviceBuffer::from_slice(&[0.0_f32; 777])?;
    let mut bad = DeviceBuffer::from_slice(&[0_u64])?;
    let mut cells = device.zeroed::<Cell>(2)?;
    let scale = Scale::new(24)?;
    device.write(&[Cell::new(), Cell::at(scale)], cells.view_mut())?;
    let (mut outcome, mut met) = (device.zeroed::<Outcome>(1)?, device.zeroed::<Unscaled>(1)?);
    let mut histogram = device.zeroed::<Histogram>(1)?;
    device.write(&[Histogram::new(narrowing)], histogram.view_mut())?;
    let cell = |nth| GpuSpace::part(cells.view(), nth..nth + 1).ok_or("two cells");
    let epilogue = Epilogue {
        from: cell(0)?,
        to: cell(1)?,
        narrowing,
        noise: Noise::default(),
        stores: true,
        when: None,
        outcome: outcome.view_mut(),
        histogram: Some(histogram.view_mut()),
    };
    let (input, to) = (elements::<f32>(&from), elements_mut::<f16>(&mut narrowed));
    device.run(Narrow { input, to, epilogue })?;
    // Named anew for each use.
    macro_rules! gradients {
        () => {
            [Gradient {
                from: elements::<f16>(&narrowed),
                cell: cell(1)?,
                to: Some(elements_mut::<f32>(&mut unscaled)),
                met: met.view_mut(),
            }]
        };
    }
    let table = device.gradients(gradients!())?;
    device.unscale_all(&table, gradients!(), Into::Place, elements_mut::<u64>(&mut bad))?;

    // cust's copies wait for the stream.
    let (mut bits, mut found, mut count) = ([0_u16; 777], [1.0_f32; 777], [1_u64]);
    narrowed.copy_to(&mut bits)?;
    unscaled.copy_to(&mut found)?;
    bad.copy_to(&mut count)?;
    let expected: Vec<f16> = values.iter().map(|&x| f16::narrow(x, narrowing, 24, 0)).collect();
    assert!(expected.iter().zip(bits).all(|(x, bits)| x.to_bits() == bits));
    let mut widened = [0.0; 777];
    unscale(Format::BINARY16, Scaled::new(expected.as_slice(), scale), &mut widened)?;
    assert_eq!((found, count), (widened, [0]));
    Ok(())
}
