//! Where the f32 result of an operation goes.

use core::slice;

use adaloss_core::{
    apply::Pass,
    format::{Narrowing, Noise},
    policy::Cell,
    statistics::{Histogram, Outcome},
};

use crate::Device;

/// Where an operation's f32 result goes: the same for a product, a join and a plain apply.
///
/// The operation computes f32 results, which carry the scale of the cell `from`.  It adds them to
/// the histogram, if there is one, and if `stores` is set narrows `2^d` times them, with `2^d` the
/// ratio of the scales of `to` and `from`, and adds what became of them to the outcome.  It writes
/// nothing else.  Cells are in the device's memory: no host has to know the scales.
#[derive(Debug)]
pub struct Epilogue<'a, D: Device + 'a> {
    /// The cell whose scale the f32 results carry; one element.
    pub from: D::Ref<'a, Cell>,
    /// The cell whose scale the narrowed results carry; one element.
    pub to: D::Ref<'a, Cell>,
    /// Format, rounding and overflow.
    pub narrowing: Narrowing,
    /// The random words of stochastic rounding.
    pub noise: Noise,
    /// Whether results are narrowed and stored; a pass that only measures does neither.
    pub stores: bool,
    /// Takes the counts of what became of the results; one element.
    pub outcome: D::Mut<'a, Outcome>,
    /// Takes the counts of the results themselves; one element.
    pub histogram: Option<D::Mut<'a, Histogram>>,
}

/// The cells of a pass, for devices that work in host memory.
///
/// It turns the [`Pass`] that a `LossScaler` hands to its closures into an epilogue.
///
/// # Examples
///
/// ```
/// use adaloss_core::{format::{Format, f16}, policy::Config, scaler::LossScaler};
/// use adaloss_hal::{HostEpilogue, Narrow, portable::Portable};
/// let mut scaler = LossScaler::<1>::new(Config::for_format(Format::BINARY16));
/// let mut step = scaler.begin();
/// let gradient = step.loss(&[1.0e-9_f32, 2.0e-9][..], |values, pass| {
///     let mut narrowed = [f16::ZERO; 2];
///     Portable.apply(values, &mut narrowed[..], HostEpilogue::new(pass).epilogue())?;
///     Ok::<_, adaloss_hal::portable::PortableError>(narrowed)
/// })?;
/// assert_eq!(step.last().unwrap().outcome.underflow, 0);
/// # assert_eq!(step.finish(), adaloss_core::unscale::Verdict::Apply);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct HostEpilogue<'a> {
    cells: [Cell; 2],
    narrowing: Narrowing,
    noise: Noise,
    stores: bool,
    outcome: &'a mut Outcome,
    histogram: Option<&'a mut Histogram>,
}

impl<'a> HostEpilogue<'a> {
    /// Takes what a pass asks for.
    pub fn new(pass: &'a mut Pass<'_>) -> Self {
        let cells = [Cell::at(pass.incoming()), Cell::at(pass.outgoing())];
        let (narrowing, noise, stores) = (pass.narrowing(), pass.noise(), pass.stores());
        let (outcome, histogram) = pass.counters();
        Self { cells, narrowing, noise, stores, outcome, histogram }
    }

    /// Returns the epilogue for one operation.
    pub fn epilogue<D>(&mut self) -> Epilogue<'_, D>
    where
        D: for<'r> Device<
                Ref<'r, Cell> = &'r [Cell],
                Mut<'r, Outcome> = &'r mut [Outcome],
                Mut<'r, Histogram> = &'r mut [Histogram],
            >,
    {
        Epilogue {
            from: slice::from_ref(&self.cells[0]),
            to: slice::from_ref(&self.cells[1]),
            narrowing: self.narrowing,
            noise: self.noise,
            stores: self.stores,
            outcome: slice::from_mut(self.outcome),
            histogram: self.histogram.as_deref_mut().map(slice::from_mut),
        }
    }
}
