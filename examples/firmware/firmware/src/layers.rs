//! The network that is recorded, and trained on the device.

/// Elements of a sample and of what every layer makes of it: five linear layers, with a rectifier
/// between each two.
pub const WIDTHS: [usize; LAYERS + 1] = [64, 32, 32, 32, 32, 10];

/// The number of linear layers.
pub const LAYERS: usize = 5;

/// Samples of a step: a gradient has at most 128 elements, so that a microcontroller with 16 KiB can
/// hold it in f32 and in binary16.
pub const BATCH: usize = 4;

/// The most elements of a gradient that leaves a layer; that of the first layer's input is not needed.
pub(crate) const GRADIENT: usize = BATCH * 32;

/// Returns the first weight of a layer among those of all; of [`LAYERS`], how many there are.
pub(crate) const fn first_weight(layer: usize) -> usize {
    let (mut first, mut l) = (0, 0);
    while l < layer {
        first += WIDTHS[l] * WIDTHS[l + 1];
        l += 1;
    }
    first
}

/// Returns the first element of a layer's input among those of all; of [`LAYERS`], how many there are.
pub(crate) const fn first_input(layer: usize) -> usize {
    let (mut first, mut l) = (0, 0);
    while l < layer {
        first += BATCH * WIDTHS[l];
        l += 1;
    }
    first
}
