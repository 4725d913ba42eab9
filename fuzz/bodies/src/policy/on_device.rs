//! One tensor of a scaler in a device's memory: passes are made by hand, from counts that a search found.

use adaloss_core::{
    policy::{Cell, Config},
    scale::Scale,
    scaler::{
        self, Purpose,
        device::{Asked, DeviceState, Entry, Line, Opening},
    },
    statistics::{Histogram, Outcome},
    unscale::Place,
};
use adaloss_hal::{
    Memory,
    scaler::{Advance, Close, Conclude, DeviceScaler, HasScaler},
};

use super::Visit;
use crate::device::{download, succeeds, upload};

/// The number of every line: each is read before the next one is written.
const SERIAL: u64 = 1;

/// A scaler of one cell, and what its operations read and write.
pub(super) struct OnDevice<D: Memory> {
    config: Config,
    state: D::Buffer<DeviceState>,
    cells: D::Buffer<Cell>,
    outcome: D::Buffer<Outcome>,
    histogram: D::Buffer<Histogram>,
    from: D::Buffer<Cell>,
    to: D::Buffer<Cell>,
    when: D::Buffer<u32>,
    words: [D::Buffer<u32>; 2],
    square_norm: D::Buffer<f64>,
    line: D::Buffer<Line>,
    /// Operations of the step under way.
    nth: u64,
}

/// What a visit left.
pub(super) struct Made {
    /// Whether it was measured.
    pub(super) is_measured: bool,
    /// The scale that it was stored at first.
    pub(super) stored: Scale,
    pub(super) visit: scaler::Visit,
    pub(super) cell: Cell,
}

impl<D: Memory + HasScaler> OnDevice<D> {
    pub(super) fn new(device: &mut D, config: Config) -> Self {
        Self {
            config,
            state: upload(device, &[DeviceState::new(&config)]),
            cells: upload(device, &[config.cell()]),
            outcome: upload(device, &[Outcome::EMPTY]),
            histogram: upload(device, &[Histogram::new(config.narrowing())]),
            from: upload(device, &[Cell::new()]),
            to: upload(device, &[Cell::new()]),
            when: upload(device, &[0]),
            words: [upload(device, &[0]), upload(device, &[0])],
            square_norm: upload(device, &[0.0]),
            line: upload(device, &[Line::EMPTY]),
            nth: 0,
        }
    }

    /// Asks for a pass of a visit; returns the scale that it stores at, if it is to be made.
    fn advance(&mut self, device: &mut D, visit: &Visit, purpose: Purpose) -> Option<Scale> {
        let source = upload(device, &[Cell::at(visit.tensor.incoming)]);
        let opening = Opening { place: Place::Layer(0), elements: visit.elements, stream: 0 };
        // The first pass that might be needed opens the visit.
        let opening = Some(opening).filter(|_| purpose == Purpose::Measure);
        self.nth += 1;
        let Self { config, state, cells, outcome, histogram, from, to, when, nth, .. } = self;
        succeeds(device.run(Advance::<D::Space> {
            ending: None,
            asked: Asked { opening, purpose: Some(purpose) },
            sources: &[D::view(&source)],
            scaler: DeviceScaler {
                config,
                state: D::view_mut(state),
                cells: D::view_mut(cells),
                nth: *nth,
            },
            outcome: D::view_mut(outcome),
            histogram: D::view_mut(histogram),
            from: D::view_mut(from),
            to: D::view_mut(to),
            when: D::view_mut(when),
        }));
        let is_made = download(device, D::view(&self.when))[0] != 0;
        is_made.then(|| {
            let [from, to] = [&self.from, &self.to].map(|cell| download(device, D::view(cell))[0]);
            assert_eq!(from.scale(), visit.tensor.incoming, "{purpose:?}");
            to.scale()
        })
    }

    /// Makes a visit of the cell.
    pub(super) fn visit(&mut self, device: &mut D, visit: &Visit) -> Made {
        let is_measured = self.advance(device, visit, Purpose::Measure).is_some();
        if is_measured {
            succeeds(device.write(&[visit.histogram], D::view_mut(&mut self.histogram)));
        }
        let mut store = |this: &mut Self, purpose| {
            let scale = this.advance(device, visit, purpose)?;
            let outcome = visit.outcome(&this.config, scale);
            succeeds(device.write(&[outcome], D::view_mut(&mut this.outcome)));
            Some(scale)
        };
        let stored = store(self, Purpose::Store).expect("every tensor is stored");
        store(self, Purpose::Replay);
        self.nth += 1;
        let Self { config, state, cells, outcome, histogram, from, line, nth, .. } = self;
        succeeds(device.run(Close::<D::Space> {
            origins: &[None],
            scaler: DeviceScaler {
                config,
                state: D::view_mut(state),
                cells: D::view_mut(cells),
                nth: *nth,
            },
            outcome: D::view_mut(outcome),
            histogram: D::view(histogram),
            scale: D::view_mut(from),
            serial: SERIAL,
            line: D::view_mut(line),
        }));
        let carried = download(device, D::view(&self.from))[0];
        let Some(Entry::Visit(visit)) = self.line(device) else { panic!("the visit was made") };
        assert_eq!(carried, Cell::at(visit.outgoing));
        Made { is_measured, stored, visit, cell: self.cell(device) }
    }

    /// Ends a step; goes on where too many were skipped.
    pub(super) fn finish(&mut self, device: &mut D) -> Cell {
        let nth = std::mem::take(&mut self.nth) + 1;
        let Self { config, state, cells, words, square_norm, line, .. } = self;
        let [applies, updates] = words;
        succeeds(device.run(Conclude::<D::Space> {
            scaler: DeviceScaler {
                config,
                state: D::view_mut(state),
                cells: D::view_mut(cells),
                nth,
            },
            requires: None,
            applies: D::view_mut(applies),
            updates: D::view_mut(updates),
            square_norm: D::view_mut(square_norm),
            serial: SERIAL,
            line: D::view_mut(line),
        }));
        let line = self.line(device);
        assert!(matches!(line, Some(Entry::Step(_))), "the step was not ended: {line:?}");
        let mut state = download(device, D::view(&self.state));
        state[0].go_on(0);
        succeeds(device.write(&state, D::view_mut(&mut self.state)));
        self.cell(device)
    }

    /// Reads the line that was written last, and clears it.
    fn line(&mut self, device: &mut D) -> Option<Entry> {
        let line = download(device, D::view(&self.line))[0];
        succeeds(device.write(&[Line::EMPTY], D::view_mut(&mut self.line)));
        line.entry(SERIAL)
    }

    fn cell(&self, device: &mut D) -> Cell {
        download(device, D::view(&self.cells))[0]
    }
}
