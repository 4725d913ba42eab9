//! A model with a scaler: what firmware keeps of it, and a step.

use adaloss_core::{
    format::f16,
    policy::{Cell, Config},
    scaler::State,
    unscale::Verdict,
};

/// Layers that a model has.
pub const CELLS: usize = 4;

/// The results of a layer, where they are narrowed to, and the scaler.
#[derive(Debug)]
pub struct Model {
    values: [f32; 8],
    narrowed: [f16; 8],
    /// The scaler, apart from its cells.
    pub state: State,
    /// A cell per layer.
    pub cells: [Cell; CELLS],
    verdict: Verdict,
}

impl Model {
    /// Makes the scaler of a new run.
    #[inline(always)]
    pub fn new(config: Config) -> Self {
        Self {
            values: [1.0e-9; 8],
            narrowed: [f16::ZERO; 8],
            state: State::new(config),
            cells: [Cell::new(); CELLS],
            verdict: Verdict::Apply,
        }
    }

    /// Takes a loss gradient back through a layer, and asks for the verdict.
    #[inline(always)]
    pub fn step(&mut self) {
        let Self { values, narrowed, state, cells, .. } = self;
        let mut step = state.begin(cells);
        let gradient = step.loss().apply(values, narrowed).map(|gradient| gradient.tag());
        let layer = gradient.and_then(|gradient| step.layer(0, gradient));
        let layer = layer.and_then(|visit| visit.apply(values, narrowed));
        core::hint::black_box(layer.is_ok());
        self.verdict = step.finish();
    }
}
