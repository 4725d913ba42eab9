//! Decisions on the device: core's own, a thread per layer.

use adaloss_core::{
    policy::{self, Cell, Certificate, Config},
    scale::Scale,
    statistics::{Histogram, Outcome},
};

use crate::{Block, block::share};

/// One layer's decision.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Decision {
    /// The method.
    pub config: *const Config,
    /// What was seen.
    pub histogram: *const Histogram,
    /// The layer's cell, which is decided.
    pub cell: *mut Cell,
    /// Takes what the histogram promises.
    pub certificate: *mut Certificate,
}

/// Decides scales from histograms: a thread per layer.
///
/// # Safety
///
/// Everything that the decisions name is there and initialised; nobody else reads or writes cells and
/// certificates during the launch, and each is named once.
pub unsafe fn decide<B: Block>(block: &mut B, decisions: &[Decision]) {
    let of = share(block, decisions.len());
    block.each(|thread| {
        for index in of(thread) {
            let Some(&Decision { config, histogram, cell, certificate }) = decisions.get(index)
            else {
                return;
            };
            // SAFETY: the caller's promise.
            unsafe { certificate.write(policy::decide(&*config, &*histogram, &mut *cell)) };
        }
    });
}

/// What became of one layer's narrowing.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Note {
    /// The method.
    pub config: *const Config,
    /// What narrowing did.
    pub outcome: *const Outcome,
    /// The cell whose scale the f32 results carried.
    pub from: *const Cell,
    /// The layer's cell, which takes note.
    pub cell: *mut Cell,
}

/// Lets cells take note of outcomes: a thread per layer.
///
/// # Safety
///
/// As for [`decide`]; a `from` may be named often, and may be the cell itself.
pub unsafe fn note<B: Block>(block: &mut B, notes: &[Note]) {
    let of = share(block, notes.len());
    block.each(|thread| {
        for index in of(thread) {
            let Some(&Note { config, outcome, from, cell }) = notes.get(index) else { return };
            // SAFETY: the caller's promise; the scale is copied before the cell changes.
            unsafe {
                let incoming: Scale = (*from).scale();
                policy::note(&*config, &*outcome, incoming, &mut *cell);
            }
        }
    });
}
