//! Which scales are legal.

use adaloss_core::scale::Scale;

use crate::{
    ADALOSS_ERROR_SCALE, adaloss_code,
    code::{Refused, code},
    memory::Place,
};

/// Reads an exponent as a scale.
pub(crate) fn parse(log2: i32) -> Result<Scale, Refused> {
    Scale::new(log2).map_err(|_| Refused(ADALOSS_ERROR_SCALE))
}

/// Reads exponents as scales, all or none.
pub(crate) fn parse_all(
    log2: impl ExactSizeIterator<Item = i32> + Clone,
) -> Result<impl ExactSizeIterator<Item = Scale> + Clone, Refused> {
    log2.clone().try_for_each(|log2| parse(log2).map(drop))?;
    Ok(log2.map(Scale::saturating))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_scale_factor(scale_log2: i32, factor: *mut f32) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for a place.
        let place = unsafe { Place::new(factor) }?;
        place.set(parse(scale_log2)?.factor());
        Ok(())
    })
}
