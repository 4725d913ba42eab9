//! The room `apply`: a tensor into low precision, element by element and counter by counter.

use adaloss_core::format::{Element, Noise};
use adaloss_hal::{HasNarrow, Memory, Narrow, Plain};

use crate::{device::Ending, input, on_our_devices};

/// The most values of a tensor: more than what the devices take in one block.
const MOST: usize = 4500;

/// Checks our devices.
pub fn check(bytes: &[u8]) {
    on_our_devices!(bytes, check_on);
}

/// Checks that a device narrows to `F` as the definition says, and counts what it did.
pub fn check_on<F: Element + Plain, D: Memory + HasNarrow<F>>(device: &mut D, bytes: &[u8]) {
    input::run(bytes, |u| {
        let narrowing = input::narrowing(u, F::ENCODING, device.capabilities())?;
        let ending = Ending {
            from: input::scale(u)?,
            to: input::scale(u)?,
            narrowing,
            noise: Noise { seed: u.arbitrary()?, stream: u.arbitrary()? },
            stores: u.ratio(7, 8)?,
            measures: u.arbitrary()?,
        };
        let values = input::values(u, narrowing.format, MOST)?;
        let uploaded = crate::device::upload(device, &values);
        let left = ending.run::<F, D>(device, values.len(), |device, to, epilogue| {
            device.run(Narrow::<_, F> { input: D::view(&uploaded), to, epilogue })
        });
        ending.check(&left, &values, false);
        Ok(())
    });
}
