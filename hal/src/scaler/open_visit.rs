//! One visit of a tensor on a device: the passes that might be needed.

use core::{array, mem};

use adaloss_core::{
    format::Noise,
    policy::{Cell, Config},
    scaler::{
        Purpose,
        device::{Asked, Opening},
    },
    unscale::Place,
};

use super::{Describe, Described, Engine, EngineError, HasScaler, MOST_ORIGINS, engine::Left};
use crate::{
    device::{Device, Memory, Ref},
    epilogue::Epilogue,
    run::Run,
};

/// The scale of a gradient, in the memory of a device, and the cell that it came from.
pub struct Carried<D: Memory> {
    scale: D::Buffer<Cell>,
    origin: Place,
}

impl<D: Memory> Carried<D> {
    /// Allocates room for the scale of a visit, for [`OpenVisit::finish_into`]: until then it is 2^0, from the loss.
    ///
    /// # Errors
    ///
    /// The device's memory is exhausted.
    pub fn new(device: &mut D) -> Result<Self, D::Error> {
        Ok(Self { scale: device.zeroed(1)?, origin: Place::Loss })
    }

    /// Names the scale, as a cell that has it; one element.
    pub fn scale(&self) -> Ref<'_, D, Cell> {
        D::view(&self.scale)
    }

    /// Returns the tensor whose cell the scale came from.
    pub const fn origin(&self) -> Place {
        self.origin
    }
}

/// A visit under way on a device: hands out the passes that might be needed.
///
/// It is what [`adaloss_core::scaler::OpenVisit`] is to a step on the host; a visit that is left is found in the same way.
pub struct OpenVisit<'e, D: Memory, const N: usize> {
    engine: &'e mut Engine<D>,
    place: Place,
    origins: [Option<Place>; N],
    noise: Noise,
    /// What the coming passes are for, the next one first.
    purposes: Purposes,
    /// Whether the device was asked about the next one already.
    is_asked: bool,
}

/// What passes of a visit might be for, in order.
#[derive(Clone, Copy, Debug)]
struct Purposes([Option<Purpose>; 4]);

impl Purposes {
    /// Returns what a configuration might need, for a visit of a join or another tensor.
    fn of(config: &Config, is_join: bool) -> Self {
        let policy = config.policy();
        let measures = policy.follows_maxima() && config.period() != Config::NEVER;
        // Under policies that follow maxima a first visit is narrowed once more, whether overflows are replayed or not.
        let replays = policy.follows_maxima() || policy.wants_operands() && config.replays();
        let joins = is_join && policy.wants_operands();
        Self([
            measures.then_some(Purpose::Measure),
            Some(Purpose::Store),
            joins.then_some(Purpose::Join),
            replays.then_some(Purpose::Replay),
        ])
    }

    fn next(&self) -> Option<Purpose> {
        self.0.iter().flatten().next().copied()
    }

    fn take(&mut self) -> Option<Purpose> {
        self.0.iter_mut().find_map(Option::take)
    }
}

impl<'e, D: Memory + HasScaler, const N: usize> OpenVisit<'e, D, N> {
    pub(super) fn open(
        engine: &'e mut Engine<D>,
        device: &mut D,
        place: Place,
        elements: usize,
        sources: [&Carried<D>; N],
    ) -> Result<Self, EngineError<D::Error>> {
        engine.row.check()?;
        let stream = engine.streams.next(engine.steps, place);
        let noise = Noise { seed: engine.config.seed(), stream };
        let purposes = Purposes::of(&engine.config, N > 1);
        let wants_operands = engine.config.policy().wants_operands() && N < 2;
        let opening = Some(Opening { place, elements: elements as u64, stream });
        let purpose = purposes.next().filter(|_| !wants_operands);
        let scales = sources.map(|source| D::view(&source.scale));
        engine.advance(device, Asked { opening, purpose }, &scales)?;
        let origins = array::from_fn(|nth| Some(sources[nth].origin));
        Ok(Self { engine, place, origins, noise, purposes, is_asked: !wants_operands })
    }

    /// Tells whether the policy may decide from operands here, so that they are to be
    /// [described](Self::describe) before the first pass.
    pub fn wants_operands(&self) -> bool {
        !self.is_asked && N < 2
    }

    /// Names the predicate of operations that compute statistics of the operands: 0 where no decision is due; one element.
    pub fn operands_predicate(&self) -> Ref<'_, D, u32> {
        D::view(&self.engine.when)
    }

    /// Describes the operands, if the policy decides from them now.
    ///
    /// # Errors
    ///
    /// The device failed.
    pub fn describe(
        &mut self,
        device: &mut D,
        described: &Described<'_, D::Space>,
    ) -> Result<(), D::Error>
    where
        D: for<'r, 'w> Run<Describe<'r, 'w, <D as Device>::Space>>,
    {
        let Engine { config, state, cells, nth, .. } = &mut *self.engine;
        let scaler = Engine::<D>::scaler(config, state, cells, nth);
        device.run(Describe { described: described.reborrow(), scaler })
    }

    /// Returns the next pass over the tensor; `None` where there are no more.
    ///
    /// # Errors
    ///
    /// The device failed.
    pub fn next_pass(&mut self, device: &mut D) -> Result<Option<Pass<'_, D>>, D::Error> {
        let Some(purpose) = self.purposes.take() else { return Ok(None) };
        if !mem::take(&mut self.is_asked) {
            let asked = Asked { opening: None, purpose: Some(purpose) };
            self.engine.advance(device, asked, &[])?;
        }
        Ok(Some(Pass { engine: self.engine, noise: self.noise, purpose }))
    }

    /// Ends the visit: returns the scale that the values carry.
    ///
    /// The device is told of it with the next operation of the engine.  Where the device refuses the visit, since passes are
    /// missing, or does nothing any more, the scale says nothing, and the step is not used.
    ///
    /// # Errors
    ///
    /// There is no room for a line, or the device failed.
    pub fn finish(self, device: &mut D) -> Result<Carried<D>, EngineError<D::Error>> {
        if self.engine.stays || N > MOST_ORIGINS {
            let mut carried = Carried::new(device)?;
            self.close(device, &mut carried)?;
            return Ok(carried);
        }
        let fresh = device.zeroed(1)?;
        let Self { engine, place, origins, .. } = self;
        let line = engine.row.keep()?;
        let origins = array::from_fn(|nth| origins.get(nth).copied().flatten());
        engine.left = Some(Left { origins, line });
        // The last pass that was made wrote the scale there.
        Ok(Carried { scale: mem::replace(&mut engine.to, fresh), origin: place })
    }

    /// Ends the visit, and puts the scale that the values carry where that of an earlier step was: it allocates nothing, and so
    /// can be captured in a graph.  It takes an operation of the device.
    ///
    /// From then on the engine's memory stays where it is, since a graph may name it: [`finish`](Self::finish) takes an
    /// operation as well.
    ///
    /// # Errors
    ///
    /// As [`finish`](Self::finish).
    pub fn finish_into(
        self,
        device: &mut D,
        carried: &mut Carried<D>,
    ) -> Result<(), EngineError<D::Error>> {
        self.engine.stays = true;
        self.close(device, carried)
    }

    /// Ends the visit by an operation of its own.
    fn close(self, device: &mut D, carried: &mut Carried<D>) -> Result<(), EngineError<D::Error>> {
        let Self { engine, place, origins, .. } = self;
        let line = engine.row.keep()?;
        engine.close(device, &origins, line, Some(&mut carried.scale))?;
        carried.origin = place;
        Ok(())
    }
}

/// One run over a tensor that might be needed.
pub struct Pass<'p, D: Memory> {
    engine: &'p mut Engine<D>,
    noise: Noise,
    purpose: Purpose,
}

impl<D: Memory> Pass<'_, D> {
    /// Returns what it is for.
    pub const fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Tells whether results are narrowed and stored; otherwise they are measured.
    pub const fn stores(&self) -> bool {
        !matches!(self.purpose, Purpose::Measure)
    }

    /// Returns the epilogue of the operation that makes the pass, which does nothing where it is not needed.
    pub fn epilogue(&mut self) -> Epilogue<'_, D::Space> {
        let stores = self.stores();
        let Engine { config, from, to, when, outcome, histogram, .. } = &mut *self.engine;
        Epilogue {
            from: D::view(from),
            to: D::view(to),
            narrowing: config.narrowing(),
            noise: self.noise,
            stores,
            when: Some(D::view(when)),
            outcome: D::view_mut(outcome),
            histogram: (!stores).then(|| D::view_mut(histogram)),
        }
    }
}
