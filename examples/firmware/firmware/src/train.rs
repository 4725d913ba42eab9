//! Training, where the data are.

use core::fmt;

use adaloss_core::{
    format::{Format, f16},
    policy::{Cell, Config},
    scaler::State,
};
use adaloss_hal::network::LossSum;

use crate::{
    Digits, Perceptron, WIDTHS,
    layers::{BATCH, LAYERS},
};

/// Trains a perceptron with gradients in binary16; prints a line per epoch, and the bits of every
/// weight at the end.
///
/// # Errors
///
/// What could not be printed.
pub fn train(
    perceptron: &mut Perceptron<f16>,
    epochs: u32,
    to: &mut impl fmt::Write,
) -> fmt::Result {
    let mut state = State::new(Config::for_format(Format::BINARY16));
    let mut cells = [Cell::new(); LAYERS];
    for epoch in 1..=epochs {
        let mut sum = LossSum::default();
        let (mut pixels, mut labels) = ([0.0; BATCH * WIDTHS[0]], [0; BATCH]);
        for nth in 0..Digits::TRAIN.batches() {
            Digits::TRAIN.batch(nth, &mut pixels, &mut labels);
            let scaler = (&mut state, &mut cells[..]);
            // There is a cell per layer, and slices are of the lengths that the device asks for.
            let _verdict = perceptron
                .step(scaler, (&pixels, &labels), &mut sum, &mut ())
                .map_err(|_| fmt::Error)?;
        }
        let mut test = LossSum::default();
        for nth in 0..Digits::TEST.batches() {
            Digits::TEST.batch(nth, &mut pixels, &mut labels);
            perceptron.judge(&pixels, &labels, &mut test).map_err(|_| fmt::Error)?;
        }
        write!(to, "epoch {epoch}: loss {:.4}, test loss {:.4}", sum.mean(), test.mean())?;
        write!(to, ", {:.1} % right; scales", 100.0 * test.accuracy())?;
        cells[1..].iter().rev().try_for_each(|cell| write!(to, " {}", cell.scale()))?;
        writeln!(to)?;
    }
    for (nth, weight) in perceptron.masters().iter().enumerate() {
        let end = if nth % 8 == 7 { '\n' } else { ' ' };
        write!(to, "{:08x}{end}", weight.to_bits())?;
    }
    Ok(())
}
