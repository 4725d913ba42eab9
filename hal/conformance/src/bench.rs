//! The bench a device is put on: one operation at a time, everything around it compared.

use adaloss_core::{
    apply::Apply,
    format::{Element, Noise},
    policy::Cell,
    scale::Scale,
    statistics::{Histogram, Outcome},
};

use super::{
    Case, Discrepancy, Failure, Report, compare,
    refusal::Mutation,
    tensor::{Tensor, download, read_one, upload},
};
use adaloss_hal::{AddressSpace, Device, Epilogue, Error, ErrorKind, Memory, Mut, Plain, Ref};

/// A device and the memory that its epilogues end in.
pub(super) struct Bench<'d, D: Memory> {
    pub(super) device: &'d mut D,
    pub(super) report: Report,
    /// Where results come from and where they go to, in one buffer.
    cells: D::Buffer<Cell>,
    outcome: D::Buffer<Outcome>,
    histogram: D::Buffer<Histogram>,
    predicates: Predicates<D>,
    runs: u32,
}

/// Whether an operation is to do something.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Predicate {
    /// It is, as a word of the device's memory says.
    On = 0,
    /// It is, as a word says that has one bit.
    OneBit = 1,
    /// It is not.
    Off = 2,
}

impl Predicate {
    const WORDS: [u32; 3] = [1, 1 << 31, 0];
}

/// The words of predicates, on the device.
pub(super) struct Predicates<D: Memory>(D::Buffer<u32>);

impl<D: Memory> Predicates<D> {
    pub(super) fn new(case: Case, device: &mut D) -> Result<Self, Failure> {
        let mut words = case.succeeds(device.zeroed(Predicate::WORDS.len()))?;
        case.succeeds(device.write(&Predicate::WORDS, D::view_mut(&mut words)))?;
        Ok(Self(words))
    }

    /// Names the word of a predicate.
    pub(super) fn view(
        &self,
        case: Case,
        predicate: Predicate,
    ) -> Result<Ref<'_, D, u32>, Failure> {
        let nth = predicate as usize;
        case.finds(D::Space::part(D::view(&self.0), nth..nth + 1))
    }
}

/// What a pass does, and how its results are compared.
#[derive(Clone, Copy)]
pub(super) struct Pass {
    pub(super) stores: bool,
    pub(super) measures: bool,
    /// Whether the bits of a NaN are compared.
    pub(super) nan_bits: bool,
}

impl Pass {
    pub(super) const STORES: Self = Self { stores: true, measures: false, nan_bits: true };
    pub(super) const MEASURES: Self = Self { stores: false, measures: true, nan_bits: true };
    pub(super) const BOTH: Self = Self { stores: true, measures: true, nan_bits: true };
    pub(super) const ALL: [Self; 3] = [Self::STORES, Self::MEASURES, Self::BOTH];

    /// Says what the pass does.
    const fn name(self) -> &'static str {
        match (self.stores, self.measures) {
            (true, true) => "storing and measuring",
            (true, false) => "storing",
            (false, true) => "measuring",
            (false, false) => "",
        }
    }

    /// The same pass over results of f32 arithmetic, whose NaN may have any bits.
    pub(super) const fn computed(self) -> Self {
        Self { nan_bits: false, ..self }
    }
}

/// What the counters hold before an operation adds to them.
pub(super) struct Start {
    pub(super) outcome: Outcome,
    pub(super) histogram: Histogram,
    noise: Noise,
}

/// An operation that ends in an epilogue.
///
/// What calls one is compiled for each device and type of results, and not for each operation.
pub(super) type Ending<'o, D, F> =
    dyn for<'w> Fn(&mut D, Mut<'w, D, F>, Epilogue<'w, <D as Device>::Space>) -> Done<D> + 'o;

/// An operation that ends in an epilogue, to which a mutation is applied before it is run.
pub(super) type MutatedEnding<'o, D, F> = dyn for<'w> Fn(&mut D, Mut<'w, D, F>, Epilogue<'w, <D as Device>::Space>, &Mutation) -> Done<D>
    + 'o;

/// Whether a device did something.
type Done<D> = Result<(), <D as Device>::Error>;

impl<'d, D: Memory> Bench<'d, D> {
    pub(super) fn new(device: &'d mut D) -> Result<Self, Failure> {
        let case = Case::new("zeroed", 1);
        Ok(Self {
            report: Report::of(device.capabilities()),
            cells: case.succeeds(device.zeroed(2))?,
            outcome: case.succeeds(device.zeroed(1))?,
            histogram: case.succeeds(device.zeroed(1))?,
            predicates: Predicates::new(case, device)?,
            device,
            runs: 0,
        })
    }

    /// Returns the predicate of the operation at hand: some have none.
    const fn predicate_in_turn(&self) -> Option<Predicate> {
        match self.runs % 3 {
            0 => None,
            1 => Some(Predicate::On),
            _ => Some(Predicate::OneBit),
        }
    }

    /// Runs an operation and compares what it wrote with what becomes of `results` in the core.
    pub(super) fn run<F: Element + Plain>(
        &mut self,
        case: Case,
        pass: Pass,
        to: &mut Tensor<D, F>,
        operation: &Ending<'_, D, F>,
        results: &dyn Fn(usize) -> f32,
    ) -> Result<(), Failure> {
        let case = Case { epilogue: pass.name(), ..case };
        let start = self.start(case, to)?;
        let when = self.predicate_in_turn();
        case.succeeds(self.launch(case, pass, &start, when, to, operation)?)?;
        self.report.operations += 1;
        self.compare(case, pass, &start, to, results)
    }

    /// Runs an operation and returns what the counters held before and after it.
    ///
    /// For results that the core knows within bounds only; the caller compares them.
    pub(super) fn measure<F: Element + Plain>(
        &mut self,
        case: Case,
        to: &mut Tensor<D, F>,
        operation: &Ending<'_, D, F>,
    ) -> Result<(Start, Outcome, Histogram), Failure> {
        let start = self.start(case, to)?;
        let when = self.predicate_in_turn();
        case.succeeds(self.launch(case, Pass::BOTH, &start, when, to, operation)?)?;
        self.report.operations += 1;
        let outcome = read_one(case, self.device, D::view(&self.outcome))?;
        let histogram = read_one(case, self.device, D::view(&self.histogram))?;
        Ok((start, outcome, histogram))
    }

    /// Runs an operation that has to fail, and compares that it wrote nothing.
    pub(super) fn refuses<F: Element + Plain>(
        &mut self,
        case: Case,
        kind: ErrorKind,
        to: &mut Tensor<D, F>,
        operation: &Ending<'_, D, F>,
    ) -> Result<(), Failure> {
        let start = self.start(case, to)?;
        let when = Some(Predicate::On);
        let result = self.launch(case, Pass::BOTH, &start, when, to, operation)?;
        self.refused(case, kind, result)?;
        let nothing = Pass { stores: false, measures: false, nan_bits: true };
        self.compare(case, nothing, &start, to, &|_| 0.0)
    }

    /// Checks that an operation failed with the right kind.
    pub(super) fn refused(
        &mut self,
        case: Case,
        kind: ErrorKind,
        result: Result<(), D::Error>,
    ) -> Result<(), Failure> {
        let found = result.err().map(|error| error.kind());
        if found != Some(kind) {
            return Err(case.fails(Discrepancy::Error { expected: Some(kind), found }));
        }
        self.report.refusals += 1;
        Ok(())
    }

    /// Runs an operation without a tensor of results with each mutation of its operands, and checks that it is refused; the
    /// caller compares that nothing was written.
    pub(super) fn refuses_every_mutation(
        &mut self,
        case: Case,
        operation: &mut dyn FnMut(&mut D, &Mutation) -> Done<D>,
    ) -> Result<(), Failure> {
        for nth in 0.. {
            let mutation = Mutation::new(self.report.capabilities, nth);
            let result = operation(self.device, &mutation);
            self.refused(
                Case { epilogue: mutation.description(), ..case },
                mutation.kind(),
                result,
            )?;
            if nth + 1 == mutation.count() {
                break;
            }
        }
        Ok(())
    }

    /// Runs an operation with each mutation of its operands, and checks that it is refused and wrote nothing; and without one,
    /// and with a predicate that says no.
    pub(super) fn refuses_mutated<F: Element + Plain>(
        &mut self,
        case: Case,
        to: &mut Tensor<D, F>,
        operation: &MutatedEnding<'_, D, F>,
    ) -> Result<(), Failure> {
        let nothing = Pass { stores: false, measures: false, nan_bits: true };
        for nth in 0.. {
            let mutation = Mutation::new(self.report.capabilities, nth);
            let start = self.start(case, to)?;
            let mutated: &Ending<'_, D, F> =
                &|device, to, epilogue| operation(device, to, epilogue, &mutation);
            let when = Some(Predicate::On);
            let result = self.launch(case, Pass::BOTH, &start, when, to, mutated)?;
            let case = Case { epilogue: mutation.description(), ..case };
            self.refused(case, mutation.kind(), result)?;
            self.compare(case, nothing, &start, to, &|_| 0.0)?;
            if nth + 1 == mutation.count() {
                break;
            }
        }
        let case = Case { epilogue: "with a predicate of 0", ..case };
        let start = self.start(case, to)?;
        let whole: &Ending<'_, D, F> =
            &|device, to, epilogue| operation(device, to, epilogue, &Mutation::none());
        let off = Some(Predicate::Off);
        case.succeeds(self.launch(case, Pass::BOTH, &start, off, to, whole)?)?;
        self.report.operations += 1;
        self.compare(case, nothing, &start, to, &|_| 0.0)
    }

    /// Fills the result with a pattern and the counters with numbers.
    fn start<F: Element + Plain>(
        &mut self,
        case: Case,
        to: &mut Tensor<D, F>,
    ) -> Result<Start, Failure> {
        self.runs += 1;
        let narrowing = case.narrowing_to::<F>();
        // Counters are of 64 bits: each is about to carry into its upper half. All of them together are possible.
        let mut outcome = Outcome {
            elements: (21 << 32) - 1,
            nonfinite: (6 << 32) - 1,
            zero: (5 << 32) - 1,
            underflow: (4 << 32) - 1,
            subnormal: (3 << 32) - 1,
            overflow: (2 << 32) - 1,
            max_bits: 1,
            ..Outcome::EMPTY
        };
        if self.runs.is_multiple_of(8) {
            outcome.max_bits = f32::MAX.to_bits(); // a maximum that must not be lowered
        }
        let mut histogram = Histogram::new(narrowing);
        let values = [1.0, 3.0e-5, f32::NAN, 0.0, 1.0e30];
        histogram.observe(&values, Scale::saturating(3));
        if self.runs.is_multiple_of(4) {
            enlarge(&mut histogram, &values);
        }
        upload(case, self.device, to.whole_mut(), &pattern::<F>)?;
        let cells = [Cell::at(case.from), Cell::at(case.to)];
        case.succeeds(self.device.write(&cells, D::view_mut(&mut self.cells)))?;
        case.succeeds(self.device.write(&[outcome], D::view_mut(&mut self.outcome)))?;
        case.succeeds(self.device.write(&[histogram], D::view_mut(&mut self.histogram)))?;
        Ok(Start { outcome, histogram, noise: Noise { seed: 0x5eed, stream: self.runs } })
    }

    /// Calls an operation with an epilogue.
    fn launch<F: Element + Plain>(
        &mut self,
        case: Case,
        pass: Pass,
        start: &Start,
        when: Option<Predicate>,
        to: &mut Tensor<D, F>,
        operation: &Ending<'_, D, F>,
    ) -> Result<Result<(), D::Error>, Failure> {
        let when = match when {
            None => None,
            Some(when) => Some(self.predicates.view(case, when)?),
        };
        let epilogue = Epilogue {
            from: case.finds(D::Space::part(D::view(&self.cells), 0..1))?,
            to: case.finds(D::Space::part(D::view(&self.cells), 1..2))?,
            narrowing: case.narrowing_to::<F>(),
            noise: start.noise,
            stores: pass.stores,
            when,
            outcome: D::view_mut(&mut self.outcome),
            histogram: pass.measures.then(|| D::view_mut(&mut self.histogram)),
        };
        Ok(operation(self.device, to.view_mut(case)?, epilogue))
    }

    /// Compares everything that an operation wrote or must not have written.
    fn compare<F: Element + Plain>(
        &mut self,
        case: Case,
        pass: Pass,
        start: &Start,
        to: &Tensor<D, F>,
        results: &dyn Fn(usize) -> f32,
    ) -> Result<(), Failure> {
        let narrowing = case.narrowing_to::<F>();
        let apply = Apply { narrowing, shift: case.to / case.from, noise: start.noise };
        let (mut outcome, mut histogram) = (start.outcome, start.histogram);
        let elements = to.elements();
        download(case, self.device, to.whole(), &mut |place, found: F| {
            let index = place.wrapping_sub(1);
            let is_guard = index >= elements;
            let is_used = !is_guard && (pass.stores || pass.measures);
            let x = if is_used { results(index) } else { 0.0 };
            if is_used && pass.measures {
                histogram.observe_one(x, case.from);
            }
            if is_guard || !pass.stores {
                let expected = pattern::<F>(place).to_bits();
                return match found.to_bits() {
                    found if found == expected => Ok(()),
                    found => {
                        Err(case.fails(Discrepancy::Written { index: place, expected, found }))
                    }
                };
            }
            let expected = F::from_bits(apply.element(x, index as u64, &mut outcome));
            let same = expected.to_bits() == found.to_bits()
                || !pass.nan_bits && expected.widen().is_nan() && found.widen().is_nan();
            if same {
                return Ok(());
            }
            let (expected, found) = (expected.to_bits(), found.to_bits());
            Err(case.fails(Discrepancy::Element { index, operand: Some(x), expected, found }))
        })?;
        self.report.elements += elements as u64;
        let found = read_one(case, self.device, D::view(&self.outcome))?;
        compare::outcomes(case, &outcome, &found)?;
        let found = read_one(case, self.device, D::view(&self.histogram))?;
        compare::histograms(case, &histogram, &found)?;
        download(case, self.device, D::view(&self.cells), &mut |index, found| {
            let scale = if index == 0 { case.from } else { case.to };
            compare::cells(case, &Cell::at(scale), &found)
        })
    }
}

/// Brings the counters of a histogram, in which each of these values was counted once, to where they carry into their upper
/// halves: from 1 to 2^32 - 1, by doubling and adding one.
///
/// Its copy is on the stack here alone, and not while the device is at work.
#[inline(never)]
fn enlarge(histogram: &mut Histogram, values: &[f32]) {
    for _ in 1..32 {
        let so_far = *histogram;
        // It is of the same format.
        let _ = histogram.merge(&so_far);
        histogram.observe(values, Scale::saturating(3));
    }
}

/// Returns what a result holds before an operation, guards included.
pub(super) fn pattern<F: Element>(place: usize) -> F {
    F::from_bits(0x5a5a_5a5a ^ (place as u32).wrapping_mul(0x0101_0101))
}
