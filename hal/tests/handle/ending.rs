//! How the accelerator ends an operation: four lanes narrow and count, and are merged.

use std::array;

use adaloss_core::{
    format::{Fate, Narrowing, Noise, Rounding, f16},
    policy::Cell,
    scale::Scale,
    statistics::{Histogram, Outcome},
};
use adaloss_hal::Epilogue;

use crate::{
    memory::{Accelerator, AcceleratorError, AcceleratorSpace, Handle, HandleMut, Values},
    sabotage::Sabotage,
};

/// How many units take results at the same time.
const LANES: usize = 4;
/// Results that a lane takes in one go.
const BLOCK: usize = 24;

/// An epilogue in the queue.
pub(crate) struct Ending {
    from: Handle<'static, Cell>,
    to: Handle<'static, Cell>,
    pub(crate) narrowing: Narrowing,
    noise: Noise,
    stores: bool,
    pub(crate) when: Option<Handle<'static, u32>>,
    outcome: Handle<'static, Outcome>,
    histogram: Option<Handle<'static, Histogram>>,
    sabotage: Sabotage,
}

impl Ending {
    pub(crate) fn queued(device: &Accelerator, epilogue: &Epilogue<'_, AcceleratorSpace>) -> Self {
        let Epilogue { from, to, narrowing, noise, stores, outcome, histogram, when } = epilogue;
        Self {
            from: from.queued(),
            to: to.queued(),
            narrowing: *narrowing,
            noise: *noise,
            stores: *stores,
            when: when.map(Handle::queued),
            outcome: outcome.queued(),
            histogram: histogram.as_ref().map(HandleMut::queued),
            sabotage: device.sabotage,
        }
    }

    /// Returns the scale that results carry.
    pub(crate) fn incoming(&self, values: &Values) -> Result<Scale, AcceleratorError> {
        Ok(values.load_one(self.from)?.scale())
    }

    /// Takes the results of an operation: blocks go round the lanes, the last block first.
    pub(crate) fn take(
        &self,
        values: &mut Values,
        results: &[f32],
        to: Handle<'_, f16>,
    ) -> Result<(), AcceleratorError> {
        let incoming = self.incoming(values)?;
        let shift = values.load_one(self.to)?.scale() / incoming;
        let measured = self.histogram.map(|handle| values.load_one(handle)).transpose()?;
        let empty = |histogram: Histogram| Histogram::new(histogram.narrowing());
        let mut lanes: [Lane; LANES] =
            array::from_fn(|_| Lane { outcome: Outcome::EMPTY, histogram: measured.map(empty) });
        let mut narrowed = values.load(to)?;
        let blocks = results.chunks(BLOCK).zip(narrowed.chunks_mut(BLOCK)).enumerate();
        for (nth, (results, narrowed)) in blocks.collect::<Vec<_>>().into_iter().rev() {
            let lane = &mut lanes[nth % LANES];
            for (index, (&x, to)) in (nth * BLOCK..).zip(results.iter().zip(narrowed)) {
                lane.take(self, x, shift.log2(), index, incoming, to);
            }
        }

        let mut outcome = values.load_one(self.outcome)?;
        if self.sabotage == Sabotage::OverwritesOutcome {
            outcome = Outcome::EMPTY;
        }
        let before = outcome;
        lanes.iter().for_each(|lane| outcome.merge(&lane.outcome));
        if self.sabotage == Sabotage::NarrowCounters {
            outcome.elements = before.elements & !0xffff | outcome.elements & 0xffff;
        }
        values.store(&narrowed, to)?;
        values.store(&[outcome], self.outcome)?;
        if let (Some(handle), Some(mut histogram)) = (self.histogram, measured) {
            let forgotten = usize::from(self.sabotage == Sabotage::ForgetsHistogram);
            for part in lanes.iter().skip(forgotten).filter_map(|lane| lane.histogram.as_ref()) {
                histogram.merge(part).map_err(|_| AcceleratorError::Format)?;
            }
            values.store(&[histogram], handle)?;
        }
        Ok(())
    }
}

/// One unit's counters.
struct Lane {
    outcome: Outcome,
    histogram: Option<Histogram>,
}

impl Lane {
    fn take(
        &mut self,
        ending: &Ending,
        x: f32,
        shift: i32,
        index: usize,
        incoming: Scale,
        to: &mut f16,
    ) {
        let Ending { narrowing, noise, sabotage, .. } = *ending;
        if let Some(histogram) = &mut self.histogram {
            let ignores = sabotage == Sabotage::IgnoresIncomingScale;
            histogram.observe_one(x, if ignores { Scale::ONE } else { incoming });
        }
        if !ending.stores && sabotage != Sabotage::StoresWhenMeasuring {
            return;
        }
        let repeats = sabotage == Sabotage::RepeatsNoise;
        let word = noise.word(if repeats { index % BLOCK } else { index } as u32);
        let narrowed = match sabotage {
            // Up from one half on: what random word 2^31 - 1 does.
            Sabotage::TiesUp if narrowing.rounding == Rounding::NearestEven => {
                narrowing.with_rounding(Rounding::Stochastic).narrow(x, shift, 0x7fff_ffff)
            }
            Sabotage::ShiftOffByOne => narrowing.narrow(x, shift + 1, word),
            Sabotage::MultipliesInF32 => {
                narrowing.narrow(x * f32::exp2(shift.clamp(-126, 127) as f32), 0, word)
            }
            _ => narrowing.narrow(x, shift, word),
        };
        *to = f16::from_bits(narrowed.bits as u16);
        if ending.stores {
            self.count(x, narrowed.fate, sabotage);
        }
    }

    fn count(&mut self, x: f32, fate: Fate, sabotage: Sabotage) {
        let outcome = &mut self.outcome;
        outcome.elements += 1;
        let counter = match fate {
            Fate::NonFinite if sabotage == Sabotage::DropsNonFinite => return,
            Fate::NonFinite => &mut outcome.nonfinite,
            Fate::Zero => &mut outcome.zero,
            Fate::Underflow => &mut outcome.underflow,
            Fate::Subnormal => &mut outcome.subnormal,
            Fate::Overflow => &mut outcome.overflow,
            Fate::Normal => &mut 0,
        };
        *counter += 1;
        if x.is_finite() {
            outcome.max_bits = outcome.max_bits.max(x.abs().to_bits());
        }
    }
}
