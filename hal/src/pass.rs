//! A pass of a scaler on the host, as the epilogue that an operation ends in.

use core::slice;

use adaloss_core::{
    apply::Pass,
    format::{Narrowing, Noise},
    policy::Cell,
    statistics::{Histogram, Outcome},
};

use crate::{device::Memory, epilogue::Epilogue, space::HostSpace};

/// The cells of a pass, for devices that work in host memory.
///
/// It turns a [`Pass`] of a visit into an epilogue.
///
/// # Examples
///
/// ```
/// use adaloss_core::{format::{Format, f16}, policy::Config, scaler::LossScaler};
/// use adaloss_hal::{HostEpilogue, Narrow, Run, portable::Portable};
/// let mut scaler = LossScaler::<1>::new(Config::for_format(Format::BINARY16));
/// let mut step = scaler.begin();
/// let (values, mut narrowed) = ([1.0e-9_f32, 2.0e-9], [f16::ZERO; 2]);
/// let mut visit = step.loss();
/// while let Some(mut pass) = visit.next_pass() {
///     let mut ending = HostEpilogue::new(&mut pass);
///     Portable.run(Narrow { input: &values[..], to: &mut narrowed[..], epilogue: ending.epilogue() })?;
/// }
/// let gradient = visit.finish(narrowed)?;
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
    pub fn epilogue(&mut self) -> Epilogue<'_, HostSpace> {
        Epilogue {
            from: slice::from_ref(&self.cells[0]),
            to: slice::from_ref(&self.cells[1]),
            narrowing: self.narrowing,
            noise: self.noise,
            stores: self.stores,
            when: None,
            outcome: slice::from_mut(self.outcome),
            histogram: self.histogram.as_deref_mut().map(slice::from_mut),
        }
    }
}

/// The cells and counters of a pass, for devices with memory of their own.
///
/// It turns a [`Pass`] of a visit of a `LossScaler` on the host into an epilogue in the device's memory, and brings back what was counted.  One serves any number of tensors, one
/// after the other.
///
/// Each pass ends in a read, and so waits for the device: the scaler on the host needs every
/// outcome.  A loop that is not to wait keeps the scaler on the device, if that has the operations of
/// [`scaler`](crate::scaler), and drives it with an [`Engine`](crate::scaler::Engine).
///
/// # Examples
///
/// ```
/// use adaloss_core::{format::{Format, f16}, policy::Config, scaler::LossScaler, unscale::Verdict};
/// use adaloss_hal::{DeviceEpilogue, HasNarrow, Memory, Narrow, portable::Portable};
///
/// // Any device with memory will do; nothing below knows which.
/// fn first_gradient<D: Memory + HasNarrow<f16>>(device: &mut D) -> Result<u64, D::Error> {
///     let mut loss_gradient = device.zeroed::<f32>(2)?;
///     device.write(&[1.0e-9, 2.0e-9], D::view_mut(&mut loss_gradient))?;
///     let mut epilogue = DeviceEpilogue::new(device)?;
///
///     let mut scaler = LossScaler::<1>::new(Config::for_format(Format::BINARY16));
///     let mut step = scaler.begin();
///     let mut narrowed = device.zeroed::<f16>(2)?;
///     let mut visit = step.loss();
///     while let Some(mut pass) = visit.next_pass() {
///         epilogue.run(device, &mut pass, |device, mut epilogue| {
///             let (to, epilogue) = (D::view_mut(&mut narrowed), epilogue.reborrow());
///             device.run(Narrow { input: D::view(&loss_gradient), to, epilogue })
///         })?;
///     }
///     let gradient = visit.finish(narrowed).expect("there are no more passes");
///     assert!(gradient.scale().log2() > 20); // what was counted on the device decided
///     let underflow = step.last().unwrap().outcome.underflow;
///     assert_eq!(step.finish(), Verdict::Apply);
///     Ok(underflow)
/// }
/// assert_eq!(first_gradient(&mut Portable)?, 0);
/// # Ok::<(), adaloss_hal::HostError>(())
/// ```
#[derive(Debug)]
pub struct DeviceEpilogue<D: Memory> {
    from: D::Buffer<Cell>,
    to: D::Buffer<Cell>,
    outcome: D::Buffer<Outcome>,
    histogram: D::Buffer<Histogram>,
}

impl<D: Memory> DeviceEpilogue<D> {
    /// Allocates two cells, an outcome and a histogram.
    ///
    /// # Errors
    ///
    /// The device's memory is exhausted.
    pub fn new(device: &mut D) -> Result<Self, D::Error> {
        Ok(Self {
            from: device.zeroed(1)?,
            to: device.zeroed(1)?,
            outcome: device.zeroed(1)?,
            histogram: device.zeroed(1)?,
        })
    }

    /// Runs the operation that a pass asks for: copies the pass's scales and counts to the device,
    /// calls `operation` with the epilogue to end in, and copies the counts back.
    ///
    /// # Errors
    ///
    /// What `operation` returned, or a copy failed; the pass has counted nothing.
    pub fn run(
        &mut self,
        device: &mut D,
        pass: &mut Pass<'_>,
        operation: impl FnOnce(&mut D, Epilogue<'_, D::Space>) -> Result<(), D::Error>,
    ) -> Result<(), D::Error> {
        device.write(&[Cell::at(pass.incoming())], D::view_mut(&mut self.from))?;
        device.write(&[Cell::at(pass.outgoing())], D::view_mut(&mut self.to))?;
        let (narrowing, noise, stores) = (pass.narrowing(), pass.noise(), pass.stores());
        // Operations add to what is there, so that nothing has to be merged afterwards.
        let (outcome, histogram) = pass.counters();
        device.write(slice::from_ref(outcome), D::view_mut(&mut self.outcome))?;
        if let Some(histogram) = &histogram {
            device.write(slice::from_ref(&**histogram), D::view_mut(&mut self.histogram))?;
        }
        let measures = histogram.is_some();
        let epilogue = Epilogue {
            from: D::view(&self.from),
            to: D::view(&self.to),
            narrowing,
            noise,
            stores,
            when: None,
            outcome: D::view_mut(&mut self.outcome),
            histogram: measures.then(|| D::view_mut(&mut self.histogram)),
        };
        operation(device, epilogue)?;
        if let Some(histogram) = histogram {
            device.read(D::view(&self.histogram), slice::from_mut(histogram))?;
        }
        device.read(D::view(&self.outcome), slice::from_mut(outcome))
    }
}
