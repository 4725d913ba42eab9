//! The decisions of the corridor, where the cells live: each operation a value.

use adaloss_core::{
    policy::{Cell, Certificate, Config},
    statistics::{Histogram, Outcome},
};

use crate::{
    device::Device,
    kind::OperationKind,
    operation::{Operation, Visitor},
    run::{Run, has},
    space::AddressSpace,
};

/// Runs [`adaloss_core::policy::certify`] on one histogram, and on one cell in the device's memory at the scale that it has, and
/// writes the certificate.
///
/// It takes evidence and moves no scale.
pub struct Certify<'r, 'w, S: AddressSpace> {
    /// The configuration of the cell.
    pub config: &'r Config,
    /// What was counted; one element.
    pub histogram: S::Ref<'r, Histogram>,
    /// The cell, which takes the evidence; one element.
    pub cell: S::Mut<'w, Cell>,
    /// The certificate; one element.
    pub certificate: S::Mut<'w, Certificate>,
}

impl<S: AddressSpace> Operation for Certify<'_, '_, S> {
    type Space = S;

    const KIND: OperationKind = OperationKind::Certify;

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        visitor.input("the histogram", Some(1), &mut self.histogram);
        visitor.written("the cell", 1, &mut self.cell);
        visitor.readout("the certificate", &mut self.certificate);
    }
}

/// Runs [`adaloss_core::policy::note`] on what narrowing to a cell's scale did and on that cell in the device's memory.
///
/// At a first visit it gives the cell its first scale; the tensor has to be narrowed once more before anything reads it at
/// that scale.
///
/// The scale at which `note` would replay an overflow is not stored: a host that replays reads the outcome and calls the
/// core itself.  A loop that does not wait for the device cannot replay, and sets that in its configuration
/// ([`Config::replays`]): `measured` then keeps a binade of headroom below the least ceiling of late.
pub struct Note<'r, 'w, S: AddressSpace> {
    /// The configuration of the cell.
    pub config: &'r Config,
    /// What narrowing did; one element.
    pub outcome: S::Ref<'r, Outcome>,
    /// The cell whose scale the f32 results carried; one element.
    pub from: S::Ref<'r, Cell>,
    /// The cell whose scale they were narrowed to; one element.
    pub cell: S::Mut<'w, Cell>,
}

impl<S: AddressSpace> Operation for Note<'_, '_, S> {
    type Space = S;

    const KIND: OperationKind = OperationKind::Note;

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        visitor.input("the outcome", Some(1), &mut self.outcome);
        visitor.input("the cell that results come from", Some(1), &mut self.from);
        visitor.readout("the cell", &mut self.cell);
    }
}

/// Runs [`adaloss_core::policy::finish`] on each of any number of cells: once per step, after the last operation that reads a
/// tensor at their scales, for they become those of the next step.
///
/// The records of the step are not kept.  Cells of different configurations take an operation for each.
pub struct Finish<'r, 'w, S: AddressSpace> {
    /// The configuration of the cells.
    pub config: &'r Config,
    /// The cells.
    pub cells: S::Mut<'w, Cell>,
}

impl<S: AddressSpace> Operation for Finish<'_, '_, S> {
    type Space = S;

    const KIND: OperationKind = OperationKind::Finish;

    fn operands(&mut self, visitor: &mut impl Visitor<S>) {
        visitor.cells("the cells", &mut self.cells);
    }
}

has! {
    /// A device that decides scales where they live: it has [`Certify`], [`Note`] and [`Finish`].
    pub trait HasDecide:
        for<'r, 'w> Run<Certify<'r, 'w, <Self as Device>::Space>>
        + for<'r, 'w> Run<Note<'r, 'w, <Self as Device>::Space>>
        + for<'r, 'w> Run<Finish<'r, 'w, <Self as Device>::Space>>
}
