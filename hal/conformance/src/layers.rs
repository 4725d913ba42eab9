//! Steps of many layers: measured, narrowed, noted and certified one after the other, finished together, and
//! read afterwards.

use core::array;

use adaloss_core::{
    format::Element,
    policy::{self, Cell, Certificate, Config},
    statistics::{Histogram, Outcome},
};

use super::{
    Case, Discrepancy, Failure,
    bench::{Bench, pattern},
    compare, decide,
    tensor::{download, read_one, upload},
    values,
};
use adaloss_hal::{
    AddressSpace, Certify, Epilogue, Finish, HasDecide, HasNarrow, Memory, Narrow, Note, Plain,
};

/// Layers of a step, each with a cell that lives through all steps.
pub(super) const LAYERS: usize = 16;

/// Places of a layer's tensor: it begins at a multiple of 16 elements, or anywhere before that.
const ROOM: usize = (decide::Tensor::MOST + 1).next_multiple_of(16) + 16;

/// What a step takes and gives, on the device.
struct Layers<D: Memory, F: Plain> {
    values: D::Buffer<f32>,
    results: D::Buffer<F>,
    histograms: D::Buffer<Histogram>,
    outcomes: D::Buffer<Outcome>,
    from: D::Buffer<Cell>,
    cells: D::Buffer<Cell>,
    certificates: D::Buffer<Certificate>,
}

/// A layer in one step.
struct Layer {
    tensor: decide::Tensor,
    /// Where its tensor begins.
    first: usize,
    /// Whether it is narrowed once more after it was noted, as a first visit is.
    again: bool,
}

pub(super) fn check<F, D>(bench: &mut Bench<'_, D>, steps: u32, seed: u32) -> Result<(), Failure>
where
    F: Element + Plain,
    D: Memory + HasNarrow<F> + HasDecide,
{
    let case = Case::new("a step of layers (setup)", LAYERS * ROOM);
    let device = &mut *bench.device;
    let mut memory: Layers<D, F> = Layers {
        values: case.succeeds(device.zeroed(LAYERS * ROOM))?,
        results: case.succeeds(device.zeroed(LAYERS * ROOM))?,
        histograms: case.succeeds(device.zeroed(LAYERS))?,
        outcomes: case.succeeds(device.zeroed(LAYERS))?,
        from: case.succeeds(device.zeroed(LAYERS))?,
        cells: case.succeeds(device.zeroed(LAYERS))?,
        certificates: case.succeeds(device.zeroed(LAYERS))?,
    };
    let capabilities = bench.report.capabilities;
    let format = values::native(F::ENCODING, capabilities);
    let has = |config: &Config| {
        values::narrowings(F::ENCODING, capabilities).any(|has| has == config.narrowing())
    };
    let mut configs = [Config::for_format(format); LAYERS];
    let every = decide::configurations(format).filter(has);
    configs.iter_mut().zip(every).for_each(|(to, config)| *to = config);
    let mut cells = configs.map(|config| config.cell());
    case.succeeds(bench.device.write(&cells, D::view_mut(&mut memory.cells)))?;
    for step in 0..steps {
        let layers: [Layer; LAYERS] = array::from_fn(|layer| {
            let stream = seed.wrapping_add(layer as u32);
            let tensor = decide::Tensor::new(stream, step);
            // A half of them where a device may read several elements at a time.
            let odd = values::word(!stream, step as usize) as usize % 32;
            // The cell knows whether it is a first visit, and is not read: so `again` is given.
            let again = step == 0 || values::word(!stream, step as usize) >> 30 == 0;
            Layer { tensor, first: layer * ROOM + odd.saturating_sub(16), again }
        });
        bench.prepare_step(&layers, &configs, &mut memory)?;
        bench.step(&layers, &configs, &mut memory)?;
        bench.compare_step(&layers, &configs, &mut cells, &memory)?;
    }
    Ok(())
}

impl Layer {
    fn case(&self, config: &Config, cell: &Cell) -> Case {
        let scales = (self.tensor.incoming, cell.scale());
        Case::narrowing("a layer of a step", self.tensor.elements, config.narrowing(), scales)
    }
}

impl<D: Memory> Bench<'_, D> {
    /// Writes what a step begins with.
    fn prepare_step<F: Element + Plain>(
        &mut self,
        layers: &[Layer; LAYERS],
        configs: &[Config; LAYERS],
        memory: &mut Layers<D, F>,
    ) -> Result<(), Failure> {
        let case = Case::new("a step of layers (setup)", LAYERS * ROOM);
        let device = &mut *self.device;
        for (nth, (layer, config)) in layers.iter().zip(configs).enumerate() {
            let Layer { tensor, first, .. } = layer;
            let values = D::view_mut(&mut memory.values);
            let part = case.finds(D::Space::part_mut(values, *first..first + tensor.elements))?;
            upload(case, device, part, &|index| tensor.value(index))?;
            let histograms = D::view_mut(&mut memory.histograms);
            let histogram = Histogram::new(config.narrowing());
            let part = case.finds(D::Space::part_mut(histograms, nth..nth + 1))?;
            case.succeeds(device.write(&[histogram], part))?;
        }
        upload(case, device, D::view_mut(&mut memory.results), &pattern::<F>)?;
        let from = array::from_fn::<_, LAYERS, _>(|nth| Cell::at(layers[nth].tensor.incoming));
        case.succeeds(device.write(&from, D::view_mut(&mut memory.from)))?;
        let outcomes = [Outcome::EMPTY; LAYERS];
        case.succeeds(device.write(&outcomes, D::view_mut(&mut memory.outcomes)))?;
        let certificates = [Certificate::zeroed(); LAYERS];
        case.succeeds(device.write(&certificates, D::view_mut(&mut memory.certificates)))
    }

    /// Takes a step, without reading anything.
    fn step<F: Element + Plain>(
        &mut self,
        layers: &[Layer; LAYERS],
        configs: &[Config; LAYERS],
        memory: &mut Layers<D, F>,
    ) -> Result<(), Failure>
    where
        D: HasNarrow<F> + HasDecide,
    {
        for (nth, (layer, config)) in layers.iter().zip(configs).enumerate() {
            let (case, this) = (layer.case(config, &Cell::at(layer.tensor.incoming)), nth..nth + 1);
            self.pass(case, nth, layer, config, false, memory)?;
            self.pass(case, nth, layer, config, true, memory)?;
            let outcome = case.finds(D::Space::part(D::view(&memory.outcomes), this.clone()))?;
            let from = case.finds(D::Space::part(D::view(&memory.from), this.clone()))?;
            let cell = D::Space::part_mut(D::view_mut(&mut memory.cells), this.clone());
            let cell = case.finds(cell)?;
            case.succeeds(self.device.run(Note::<D::Space> { config, outcome, from, cell }))?;
            if layer.again {
                self.pass(case, nth, layer, config, true, memory)?;
            }

            let histograms = D::view(&memory.histograms);
            let histogram = case.finds(D::Space::part(histograms, this.clone()))?;
            let certificates = D::view_mut(&mut memory.certificates);
            let certificate = case.finds(D::Space::part_mut(certificates, this.clone()))?;
            let cell = case.finds(D::Space::part_mut(D::view_mut(&mut memory.cells), this))?;
            let certify = Certify::<D::Space> { config, histogram, cell, certificate };
            case.succeeds(self.device.run(certify))?;
        }
        self.finish(configs, memory)
    }

    /// Ends a step: neighbours of one configuration together.
    fn finish<F: Element + Plain>(
        &mut self,
        configs: &[Config; LAYERS],
        memory: &mut Layers<D, F>,
    ) -> Result<(), Failure>
    where
        D: HasDecide,
    {
        let mut first = 0;
        for same in configs.chunk_by(|a, b| a == b) {
            let case = Case::new("the end of a step of layers", same.len());
            let cells = D::view_mut(&mut memory.cells);
            let cells = case.finds(D::Space::part_mut(cells, first..first + same.len()))?;
            case.succeeds(self.device.run(Finish::<D::Space> { config: &same[0], cells }))?;
            first += same.len();
            self.report.operations += 1;
        }
        Ok(())
    }

    /// Runs over a layer's tensor: to measure it, or to store it.
    fn pass<F: Element + Plain>(
        &mut self,
        case: Case,
        nth: usize,
        Layer { tensor, first, .. }: &Layer,
        config: &Config,
        stores: bool,
        memory: &mut Layers<D, F>,
    ) -> Result<(), Failure>
    where
        D: HasNarrow<F>,
    {
        let (this, places) = (nth..nth + 1, *first..first + tensor.elements);
        let input = case.finds(D::Space::part(D::view(&memory.values), places.clone()))?;
        let to = case.finds(D::Space::part_mut(D::view_mut(&mut memory.results), places))?;
        let outcome = D::Space::part_mut(D::view_mut(&mut memory.outcomes), this.clone());
        let histogram = D::Space::part_mut(D::view_mut(&mut memory.histograms), this.clone());
        let epilogue = Epilogue {
            from: case.finds(D::Space::part(D::view(&memory.from), this.clone()))?,
            to: case.finds(D::Space::part(D::view(&memory.cells), this))?,
            narrowing: config.narrowing(),
            noise: tensor.apply(config, tensor.incoming).noise,
            stores,
            outcome: case.finds(outcome)?,
            histogram: if stores { None } else { Some(case.finds(histogram)?) },
        };
        case.succeeds(self.device.run(Narrow::<D::Space, F> { input, to, epilogue }))
    }

    /// Compares everything that a step left, and takes the cells through it in the core.
    fn compare_step<F: Element + Plain>(
        &mut self,
        layers: &[Layer; LAYERS],
        configs: &[Config; LAYERS],
        cells: &mut [Cell; LAYERS],
        memory: &Layers<D, F>,
    ) -> Result<(), Failure> {
        let device = &mut *self.device;
        for (nth, ((layer, config), cell)) in layers.iter().zip(configs).zip(cells).enumerate() {
            let Layer { tensor, first, again } = layer;
            let this = nth..nth + 1;
            let (case, mut leaving) = (layer.case(config, cell), cell.scale());
            let mut outcome = tensor.outcome(config, leaving);
            let _ = policy::note(config, &outcome, tensor.incoming, cell);
            if *again {
                leaving = cell.scale();
                outcome.merge(&tensor.outcome(config, leaving));
            }
            let (apply, mut counted) = (tensor.apply(config, leaving), Outcome::EMPTY);
            let room =
                case.finds(D::Space::part(D::view(&memory.results), nth * ROOM..(nth + 1) * ROOM))?;
            download(case, device, room, &mut |place, found: F| {
                let place = nth * ROOM + place;
                let index = place.wrapping_sub(*first);
                let found = found.to_bits();
                if index < tensor.elements {
                    let x = tensor.value(index);
                    let expected = apply.element(x, index as u64, &mut counted);
                    let differs = Discrepancy::Element { index, operand: Some(x), expected, found };
                    return if expected == found { Ok(()) } else { Err(case.fails(differs)) };
                }
                let expected = pattern::<F>(place).to_bits();
                let written = Discrepancy::Written { index: place, expected, found };
                if expected == found { Ok(()) } else { Err(case.fails(written)) }
            })?;
            let found = case.finds(D::Space::part(D::view(&memory.outcomes), this.clone()))?;
            compare::outcomes(case, &outcome, &read_one(case, device, found)?)?;

            let histogram = tensor.histogram_once(config);
            let found = case.finds(D::Space::part(D::view(&memory.histograms), this.clone()))?;
            compare::histograms(case, &histogram, &read_one(case, device, found)?)?;
            let certificate = policy::certify(config, &histogram, cell.scale(), cell);
            let found = case.finds(D::Space::part(D::view(&memory.certificates), this.clone()))?;
            compare::certificates(case, &certificate, &read_one(case, device, found)?)?;
            policy::finish(config, cell);
            let found = case.finds(D::Space::part(D::view(&memory.cells), this))?;
            compare::cells(case, cell, &read_one(case, device, found)?)?;
            self.report.operations += 4 + u64::from(*again);
            self.report.elements += tensor.elements as u64;
        }
        Ok(())
    }
}
