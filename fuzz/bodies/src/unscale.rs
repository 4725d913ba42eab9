//! The room `unscale`: back to f32, exactly where f32 can, and counted.

use adaloss_core::{
    format::{Element, Format},
    policy::Cell,
    scale::Scale,
    unscale::Unscaled,
};
use adaloss_hal::{HasNarrow, Memory, Plain, Unscale};
use adaloss_oracle::{apfloat, product};

use crate::{
    device::{download, succeeds, upload},
    input, on_our_devices,
};

/// The most elements of a tensor.
const MOST: usize = 700;

/// Checks our devices.
pub fn check(bytes: &[u8]) {
    on_our_devices!(bytes, check_on);
}

/// Checks that a device unscales with one rounding, and tells what it met.
///
/// A device whose f32 flushes may write zero for what is below 2^-126; it counts it all the same.
pub fn check_on<F: Element + Plain, D: Memory + HasNarrow<F>>(device: &mut D, bytes: &[u8]) {
    input::run(bytes, |u| {
        let length = u.int_in_range(0..=MOST)?;
        let (values, scale) = (input::elements::<F>(u, length)?, input::scale(u)?);
        let before = Unscaled { elements: u.arbitrary::<u16>()?.into(), nonfinite: 3, tiny: 5 };
        let gradient = upload(device, &values);
        let cell = upload(device, &[Cell::at(scale)]);
        let mut to = upload(device, &vec![1.0_f32; length]);
        let mut met = upload(device, &[before]);
        succeeds(device.run(Unscale::<D::Space, F> {
            gradient: D::view(&gradient),
            cell: D::view(&cell),
            to: D::view_mut(&mut to),
            counts: D::view_mut(&mut met),
        }));
        let (to, met) = (download(device, D::view(&to)), download(device, D::view(&met)));
        let flushes = !device.capabilities().subnormals;
        let expected = met_by_definition(&values, scale, flushes, &to, before);
        assert_eq!(met, [expected], "{values:?} at {scale}");
        Ok(())
    });
}

/// Compares the unscaled elements with the exact quotients, and returns what is to be counted.
fn met_by_definition<F: Element>(
    values: &[F],
    scale: Scale,
    flushes: bool,
    found: &[f32],
    mut met: Unscaled,
) -> Unscaled {
    let format = Format::from(F::ENCODING);
    let format = if flushes { format.flushing() } else { format };
    for (&x, &found) in values.iter().zip(found) {
        let x = apfloat::read(format, x.to_bits()) as f32;
        let exact = product(x, -scale.log2());
        let expected = exact as f32;
        let is_tiny = x != 0.0 && exact.abs() < f64::from(f32::MIN_POSITIVE);
        let same = found.to_bits() == expected.to_bits()
            || found.is_nan() && x.is_nan()
            || flushes && is_tiny && found == 0.0;
        assert!(same, "{x:e} at {scale}: {found:e} instead of {expected:e}");
        assert!(is_tiny || !expected.is_finite() || f64::from(expected) == exact, "not exact");
        met.elements += 1;
        met.nonfinite += u64::from(!expected.is_finite());
        met.tiny += u64::from(is_tiny);
    }
    met
}
