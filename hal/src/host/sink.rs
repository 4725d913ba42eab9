//! An epilogue at work on a device in host memory.

use adaloss_core::{
    apply::Apply,
    format::Element,
    scale::Scale,
    statistics::{Histogram, Outcome},
};

use super::{HostError, one, one_mut};
use crate::{epilogue::Epilogue, space::HostSpace};

/// Results that are kept at a time; nothing depends on this.
const CHUNK: usize = 64;

/// An epilogue at work: takes the f32 results of an operation in parts, in any order.
#[derive(Debug)]
pub struct Sink<'a, F> {
    /// How results are narrowed.
    pub apply: Apply,
    /// The scale that results carry.
    pub incoming: Scale,
    /// Whether they are narrowed and stored.
    pub stores: bool,
    /// Takes the counts of what became of them.
    pub outcome: &'a mut Outcome,
    /// Takes the counts of the results themselves, where they are measured.
    pub histogram: Option<&'a mut Histogram>,
    element: core::marker::PhantomData<F>,
}

impl<'a, F: Element> Sink<'a, F> {
    /// Takes the epilogue of an operation that fits.
    ///
    /// # Errors
    ///
    /// A cell, the outcome or the histogram is not one element.
    pub fn open(epilogue: Epilogue<'a, HostSpace>) -> Result<Self, HostError> {
        // An operation that is to do nothing does not come here.
        let Epilogue { from, to, narrowing, noise, stores, outcome, histogram, when: _ } = epilogue;
        let incoming = one("the cell that results come from", from)?.scale();
        let outgoing = one("the cell that results go to", to)?.scale();
        let histogram = match histogram {
            Some(histogram) => Some(one_mut("a histogram", histogram)?),
            None => None,
        };
        Ok(Self {
            apply: Apply { narrowing, shift: outgoing / incoming, noise },
            incoming,
            stores,
            outcome: one_mut("an outcome", outcome)?,
            histogram,
            element: core::marker::PhantomData,
        })
    }

    /// Takes the results from place `first` of the tensor on.
    ///
    /// # Errors
    ///
    /// The lengths differ, or `F` is not the format of the epilogue.
    pub fn put(&mut self, first: usize, values: &[f32], to: &mut [F]) -> Result<(), HostError> {
        if let Some(histogram) = &mut self.histogram {
            histogram.observe(values, self.incoming);
        }
        if self.stores {
            self.apply.slice(values, to, first as u64, self.outcome)?;
        }
        Ok(())
    }

    /// Takes the results from place `first` of the tensor on, each computed from its place.
    ///
    /// # Errors
    ///
    /// `F` is not the format of the epilogue.
    pub fn each(
        &mut self,
        first: usize,
        to: &mut [F],
        mut result: impl FnMut(usize) -> f32,
    ) -> Result<(), HostError> {
        let mut results = [0.0; CHUNK];
        for (nth, to) in to.chunks_mut(CHUNK).enumerate() {
            let first = first + nth * CHUNK;
            let results = &mut results[..to.len()];
            results.iter_mut().zip(first..).for_each(|(x, place)| *x = result(place));
            self.put(first, results, to)?;
        }
        Ok(())
    }
}
