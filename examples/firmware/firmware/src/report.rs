//! One line for each tensor that was visited, and one for what each left behind at the end of a step.

use core::fmt;

use adaloss_core::{
    policy::{Certificate, Record},
    scale::Scale,
    scaler::Visit,
    statistics::Outcome,
    unscale::Place,
};

/// Over the bits of narrowed tensors and of weights; one byte at a time, without a table.
pub(crate) const CRC: crc::Crc<u32, crc::NoTable> =
    crc::Crc::<u32, crc::NoTable>::new(&crc::CRC_32_ISO_HDLC);

/// Everything that a visit decided and did.
pub(crate) struct Line<'a> {
    pub(crate) visit: &'a Visit,
    /// Over the bits that the tensor has now.
    pub(crate) checksum: u32,
    /// Unscaled gradients so far in this step that were rounded.
    pub(crate) tiny: u64,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Visit { place, incoming, outgoing, outcome, certificate, .. } = self.visit;
        write!(f, "{place}: {incoming} to {outgoing}")?;
        if let Some(certificate) = certificate {
            certified(certificate, f)?;
        }
        let Outcome { elements, nonfinite, zero, underflow, subnormal, overflow, max_bits, .. } =
            outcome;
        write!(f, "; {elements} elements, {nonfinite} not finite, {zero} zero, {underflow} lost,")?;
        write!(f, " {subnormal} subnormal, {overflow} beyond, max {max_bits:08x}")?;
        let Visit { replayed, passes, broke_promise, .. } = self.visit;
        write!(f, "; passes {passes}")?;
        for (is_so, name) in [(replayed, ", replayed"), (broke_promise, ", promise broken")] {
            f.write_str(if *is_so { name } else { "" })?;
        }
        write!(f, "; tiny {}, bits {:08x}", self.tiny, self.checksum)
    }
}

fn certified(certificate: &Certificate, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Certificate { rule, trigger, promised, before, scale, .. } = certificate;
    write!(f, "; {before} becomes {scale} by {rule:?} on {trigger:?}")?;
    f.write_str(if *promised { ", promised" } else { "" })?;
    let Certificate { window, lost_mass, nonzero, allowed, expected, .. } = certificate;
    write!(f, ", window {} to {}", window.least, window.greatest)?;
    write!(f, ", mass {:08x}", lost_mass.bits())?;
    write!(f, ", {allowed} of {nonzero} may vanish, expected")?;
    expected.iter().try_for_each(|at| write!(f, " {}/{}", at.underflow, at.overflow))
}

/// What a step left behind in a cell.
pub(crate) struct Left {
    pub(crate) place: Place,
    pub(crate) record: Record,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, record: Record { ceiling, flags, scale_log2, .. } } = self;
        let scale = Scale::saturating((*scale_log2).into());
        write!(f, "{place} had {scale}, ceiling {ceiling}, flags {flags}")
    }
}
