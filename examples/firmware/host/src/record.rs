//! What boards walk: the gradients of a training run in f32.

use adaloss_core::{
    format::{Encoding, Format, f16},
    policy::{Cell, Config, Policy},
    scale::Scale,
    scaler::State,
};
use adaloss_firmware::{BATCH, Digits, Gradients, LAYERS, Perceptron, Record, WIDTHS};
use adaloss_hal::network::LossSum;
use anyhow::Result;

/// Records so many steps of a training in f32, which loses nothing and needs no scale.
///
/// No run has everything: in every 61st step a gradient has an infinity, in every 67th a NaN, which lower the
/// scale of the gradient before for long; in every 23rd all gradients are 2^20 times as large and in every 29th
/// 2^-20 times, and in every 31st the gradients of one layer are zero.
///
/// # Errors
///
/// None.
pub fn record(steps: u32) -> Result<Vec<u8>> {
    let format = Format::from(Encoding::Binary32);
    let config = Config::for_format(format).with_policy(Policy::Fixed(Scale::ONE))?;
    let (mut state, mut cells) = (State::new(config), [Cell::new(); LAYERS]);
    let mut perceptron = Perceptron::<f32>::new();
    let mut to = Recorder { bytes: Record::<&[u8]>::MAGIC.to_vec(), step: 0, tensor: 0 };
    to.bytes.extend(steps.to_le_bytes());

    let (mut pixels, mut labels) = ([0.0; BATCH * WIDTHS[0]], [0; BATCH]);
    for step in 0..steps {
        let batches = Digits::TRAIN.batches() as u32;
        Digits::TRAIN.batch((step % batches) as usize, &mut pixels, &mut labels);
        (to.step, to.tensor) = (step, 0);
        let scaler = (&mut state, &mut cells[..]);
        let _verdict =
            perceptron.step(scaler, (&pixels, &labels), &mut LossSum::default(), &mut to)?;
    }
    Ok(to.bytes)
}

/// Takes down what a training sees.
struct Recorder {
    bytes: Vec<u8>,
    step: u32,
    /// Which of the step's gradients comes next.
    tensor: usize,
}

impl Gradients<f32> for Recorder {
    fn see(&mut self, weight: &[f32], gradient: &[f32]) {
        self.bytes.extend(weight.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()));
        let spoilt = |every: u32| self.step % every == every - 1;
        let factor = match (spoilt(23), spoilt(29)) {
            (true, _) => 1_048_576.0,
            (_, true) => 1.0 / 1_048_576.0,
            _ => 1.0,
        };
        let is_zero = spoilt(31) && self.tensor == 2;
        let mut gradient: Vec<f32> =
            gradient.iter().map(|x| if is_zero { 0.0 } else { x * factor }).collect();
        let place = self.step as usize % gradient.len();
        match (spoilt(61), spoilt(67), self.tensor) {
            (true, _, 3) => gradient[place] = f32::NEG_INFINITY,
            (_, true, 1) => gradient[place] = f32::NAN,
            _ => {}
        }
        self.bytes.extend(gradient.iter().flat_map(|x| x.to_le_bytes()));
        self.tensor += 1;
    }
}
