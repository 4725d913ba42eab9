//! One line for each tensor that was visited.

use core::fmt;

use adaloss_core::{policy::Certificate, scaler::Visit, statistics::Outcome};

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
        let Visit { place, incoming, outgoing, outcome, certificate, replayed } = self.visit;
        write!(f, "{place}: {incoming} to {outgoing}")?;
        if let Some(certificate) = certificate {
            decided(certificate, f)?;
        }
        let Outcome { elements, nonfinite, zero, underflow, subnormal, overflow, max_bits, .. } =
            outcome;
        write!(f, "; {elements} elements, {nonfinite} not finite, {zero} zero, {underflow} lost,")?;
        write!(f, " {subnormal} subnormal, {overflow} beyond, max {max_bits:08x}")?;
        if *replayed {
            f.write_str(", replayed")?;
        }
        write!(f, "; tiny {}, bits {:08x}", self.tiny, self.checksum)
    }
}

fn decided(certificate: &Certificate, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Certificate { rule, trigger, limited, promised, before, scale, .. } = certificate;
    write!(f, "; {before} becomes {scale} by {rule:?} on {trigger:?}")?;
    for (is_so, name) in [(limited, ", limited"), (promised, ", promised")] {
        f.write_str(if *is_so { name } else { "" })?;
    }
    let Certificate { window, nonzero, allowed, expected, .. } = certificate;
    write!(f, ", window {} to {}", window.least, window.greatest)?;
    write!(f, ", {allowed} of {nonzero} may vanish, expected")?;
    expected.iter().try_for_each(|at| write!(f, " {}/{}", at.underflow, at.overflow))
}
