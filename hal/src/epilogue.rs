//! Where the f32 result of an operation goes.

use adaloss_core::{
    format::{Narrowing, Noise},
    policy::Cell,
    statistics::{Histogram, Outcome},
};

use crate::space::AddressSpace;

/// Where an operation's f32 result goes: the same for a product, a join and a plain apply.
///
/// The operation computes f32 results, which carry the scale of the cell `from`.  It adds them to
/// the histogram, if there is one, and if `stores` is set narrows `2^d` times them, with `2^d` the
/// ratio of the scales of `to` and `from`, and adds what became of them to the outcome.  It writes
/// nothing else.  Cells are in the device's memory: no host has to know the scales.
#[derive(Debug)]
pub struct Epilogue<'a, S: AddressSpace> {
    /// The cell whose scale the f32 results carry; one element.
    pub from: S::Ref<'a, Cell>,
    /// The cell whose scale the narrowed results carry; one element.
    pub to: S::Ref<'a, Cell>,
    /// Format, rounding and overflow.
    pub narrowing: Narrowing,
    /// The random words of stochastic rounding.
    pub noise: Noise,
    /// Whether results are narrowed and stored; a pass that only measures does neither.
    pub stores: bool,
    /// The predicate, if there is one: a word in the device's memory, which is 0 where the operation is to do nothing; one
    /// element.
    pub when: Option<S::Ref<'a, u32>>,
    /// Takes the counts of what became of the results; one element.
    pub outcome: S::Mut<'a, Outcome>,
    /// Takes the counts of the results themselves; one element.
    pub histogram: Option<S::Mut<'a, Histogram>>,
}

impl<'a, S: AddressSpace> Epilogue<'a, S> {
    /// Lends the epilogue to one operation, so that another can end in the same one.
    pub fn reborrow(&mut self) -> Epilogue<'_, S> {
        Epilogue {
            from: S::reborrow(self.from),
            to: S::reborrow(self.to),
            narrowing: self.narrowing,
            noise: self.noise,
            stores: self.stores,
            when: self.when.map(S::reborrow),
            outcome: S::reborrow_mut(&mut self.outcome),
            histogram: self.histogram.as_mut().map(S::reborrow_mut),
        }
    }
}
