//! Certificates and decisions on the device: core's own, a thread per cell.

use adaloss_core::{
    policy::{self, Cell, Certificate, Config},
    scale::Scale,
    statistics::{Histogram, Outcome},
};

use crate::{Block, block::share};

/// One layer's evidence.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Evidence {
    /// The method.
    pub config: *const Config,
    /// What was seen.
    pub histogram: *const Histogram,
    /// The layer's cell, whose scale is certified.
    pub cell: *mut Cell,
    /// Takes what the histogram promises.
    pub certificate: *mut Certificate,
}

/// Certifies the scales of cells from histograms: a thread per layer.
///
/// # Safety
///
/// Everything that the evidence names is there and initialised; nobody else reads or writes cells and
/// certificates during the launch, and each is named once.
pub unsafe fn certify<B: Block>(block: &mut B, evidence: &[Evidence]) {
    let of = share(block, evidence.len());
    block.each(|thread| {
        for index in of(thread) {
            let Some(&Evidence { config, histogram, cell, certificate }) = evidence.get(index)
            else {
                return;
            };
            // SAFETY: the caller's promise; the scale is copied before the cell changes.
            unsafe {
                let scale: Scale = (*cell).scale();
                certificate.write(policy::certify(&*config, &*histogram, scale, &mut *cell));
            }
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
/// As for [`certify`]; a `from` may be named often, and may be the cell itself.
pub unsafe fn note<B: Block>(block: &mut B, notes: &[Note]) {
    let of = share(block, notes.len());
    block.each(|thread| {
        for index in of(thread) {
            let Some(&Note { config, outcome, from, cell }) = notes.get(index) else { return };
            // SAFETY: the caller's promise; the scale is copied before the cell changes.
            unsafe {
                let incoming: Scale = (*from).scale();
                // What is narrowed once more, and when, is the host's business.
                let _ = policy::note(&*config, &*outcome, incoming, &mut *cell);
            }
        }
    });
}

/// Ends a step of cells that have one method: a thread per cell.
///
/// # Safety
///
/// The method is there, and so many cells are, initialised; nobody else reads or writes the cells during
/// the launch.
pub unsafe fn finish<B: Block>(
    block: &mut B,
    config: *const Config,
    cells: *mut Cell,
    count: usize,
) {
    let of = share(block, count);
    block.each(|thread| {
        for index in of(thread) {
            // SAFETY: the caller's promise, and no other thread has this number.
            unsafe {
                policy::finish(&*config, &mut *cells.add(index));
            }
        }
    });
}
