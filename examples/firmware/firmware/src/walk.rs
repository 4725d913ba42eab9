//! Recorded layers, through the corridor.

use core::{fmt, iter};

use adaloss_core::{
    format::f16,
    policy::{Cell, Operands},
    propagate::shifted,
    scale::Scale,
    scaler::{State, Step, StepError},
    statistics::Statistics,
    unscale::Place,
};
use adaloss_hal::{HasNarrow, Memory};
use embedded_io::Read;

use crate::{
    Record, RecordError,
    layers::{BATCH, GRADIENT, LAYERS, WIDTHS},
    report::{Left, Line},
    tensors::Tensors,
};

/// A device and a scaler, for recorded layers.
pub struct Walk<'d, D: Memory> {
    device: &'d mut D,
    tensors: Tensors<D>,
    state: &'d mut State,
    cells: [Cell; LAYERS],
}

/// What ends a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkError<E> {
    /// The device failed.
    Device(E),
    /// The record is none, or ends too early.
    Record(RecordError),
    /// The scaler refused a visit.
    Step(StepError),
    /// A line cannot be printed.
    Print,
}

impl<'d, D: Memory + HasNarrow<f16>> Walk<'d, D> {
    /// Takes a device, some of its memory, and the scaler of a new run, whose 4 KiB stay where the
    /// caller has them.
    ///
    /// # Errors
    ///
    /// The device's memory is exhausted.
    pub fn new(device: &'d mut D, state: &'d mut State) -> Result<Self, D::Error> {
        let tensors = Tensors::new(device)?;
        Ok(Self { device, tensors, state, cells: [Cell::new(); LAYERS] })
    }

    /// Walks every step of a record, and prints a line for each tensor, what each left behind, and each
    /// verdict.
    ///
    /// # Errors
    ///
    /// The device failed, the record is cut off, or a line cannot be printed.
    pub fn run<R: Read>(
        &mut self,
        record: &mut Record<R>,
        to: &mut impl fmt::Write,
    ) -> Result<(), WalkError<D::Error>> {
        for nth in 0..record.steps() {
            writeln!(to, "step {nth}")?;
            self.step(record, to)?;
        }
        let digest = self.state.digest(&self.cells);
        writeln!(to, "{:?}, digest {digest:08x}", self.state.totals())?;
        Ok(())
    }

    fn step<R: Read>(
        &mut self,
        record: &mut Record<R>,
        to: &mut impl fmt::Write,
    ) -> Result<(), WalkError<D::Error>> {
        let Self { device, tensors, state, cells } = self;
        let wants_operands = state.config().policy().wants_operands();
        let mut step = state.begin(cells);
        let mut values = [0.0; GRADIENT];

        let results = &mut values[..BATCH * WIDTHS[LAYERS]];
        record.gradient(results)?;
        tensors.compute(device, results).map_err(WalkError::Device)?;
        let mut visit = step.loss();
        if visit.wants_operands() {
            visit.describe(&Operands::Cast(Statistics::of(results)));
        }
        while let Some(mut pass) = visit.next_pass() {
            tensors.narrow(device, &mut pass, 0).map_err(WalkError::Device)?;
        }
        let mut gradient = visit.finish(0)?;
        print(&step, tensors.checksum(device, 0).map_err(WalkError::Device)?, to)?;

        for layer in (1..LAYERS).rev() {
            let (inputs, outputs) = (WIDTHS[layer], WIDTHS[layer + 1]);
            let weight = record.weight(inputs * outputs, wants_operands)?;
            let (&from, incoming) = gradient.as_ref().into_parts();
            let seen = tensors.observe(device, from, BATCH * outputs);
            let operands = Operands::Product {
                gradient: seen.map_err(WalkError::Device)?,
                weight,
                fan_in: outputs as u32,
            };

            let results = &mut values[..BATCH * inputs];
            record.gradient(results)?;
            // What a product of the scaled gradient and the weight would have given.
            results.iter_mut().for_each(|x| *x = shifted(*x, incoming / Scale::ONE));
            tensors.compute(device, results).map_err(WalkError::Device)?;
            let mut visit = step.layer(layer, &gradient)?;
            if visit.wants_operands() {
                visit.describe(&operands);
            }
            while let Some(mut pass) = visit.next_pass() {
                tensors.narrow(device, &mut pass, 1 - from).map_err(WalkError::Device)?;
            }
            gradient = visit.finish(1 - from)?;
            let (&narrowed, scale) = gradient.as_ref().into_parts();
            let checksum = tensors.checksum(device, narrowed).map_err(WalkError::Device)?;
            let met = tensors.unscale(device, narrowed, scale).map_err(WalkError::Device)?;
            step.unscale(layer, &gradient, |_, _| ((), met));
            print(&step, checksum, to)?;
        }
        for place in iter::once(Place::Loss).chain((0..LAYERS).map(Place::Layer)) {
            if let Some(record) = step.record(place) {
                writeln!(to, "{}", Left { place, record })?;
            }
        }
        writeln!(to, "{:?}", step.finish())?;
        Ok(())
    }
}

/// Prints what happened at the last visit, and the bits that its tensor has now.
fn print(step: &Step<'_>, checksum: u32, to: &mut impl fmt::Write) -> fmt::Result {
    step.last().map_or(Ok(()), |visit| {
        writeln!(to, "{}", Line { visit: &visit, checksum, tiny: step.tiny() })
    })
}

impl<E> From<StepError> for WalkError<E> {
    fn from(error: StepError) -> Self {
        Self::Step(error)
    }
}

impl<E> From<RecordError> for WalkError<E> {
    fn from(error: RecordError) -> Self {
        Self::Record(error)
    }
}

impl<E> From<fmt::Error> for WalkError<E> {
    fn from(_: fmt::Error) -> Self {
        Self::Print
    }
}

impl<E: fmt::Display> fmt::Display for WalkError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(error) => error.fmt(f),
            Self::Record(error) => error.fmt(f),
            Self::Step(error) => error.fmt(f),
            Self::Print => f.write_str("a line could not be printed"),
        }
    }
}

impl<E: core::error::Error> core::error::Error for WalkError<E> {}
