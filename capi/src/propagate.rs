//! On to the next layer: joins.

use core::ffi::c_void;

use adaloss_core::{
    propagate::{common_scale, sum_at},
    with_element,
};

use crate::{
    ADALOSS_ERROR_BRANCHES, adaloss_code, adaloss_format,
    code::{Refused, code},
    memory::{Place, any_bytes, array, array_mut},
    scale,
};

/// One branch of a join.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct adaloss_branch {
    pub gradient: *const c_void,
    pub scale_log2: i32,
    pub reserved: u32,
}

any_bytes!(adaloss_branch);

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_propagate_common(
    scales_log2: *const i32,
    count: usize,
    common_log2: *mut i32,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for an array and a place.
        let (scales, place) = unsafe { (array(scales_log2, count)?, Place::new(common_log2)?) };
        let scales = scale::parse_all(scales.iter().copied())?;
        let common = common_scale(scales).ok_or(Refused(ADALOSS_ERROR_BRANCHES))?;
        place.set(common.log2());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_propagate_join(
    format: adaloss_format,
    branches: *const adaloss_branch,
    branch_count: usize,
    sum: *mut f32,
    count: usize,
    common_log2: *mut i32,
) -> adaloss_code {
    code(|| {
        let format = format.parse()?;
        // SAFETY: the header asks for an array of branches, one of `count` elements, and a place.
        let (branches, sum, place) = unsafe {
            (array(branches, branch_count)?, array_mut(sum, count)?, Place::new(common_log2)?)
        };
        let scales = scale::parse_all(branches.iter().map(|branch| branch.scale_log2))?;
        let common = match common_scale(scales.clone()) {
            Some(common) if branches.len() >= 2 => common,
            _ => return Err(Refused(ADALOSS_ERROR_BRANCHES)),
        };
        with_element!(format.encoding, F => {
            let elements = |branch: &adaloss_branch| {
                // SAFETY: the header asks for `count` elements in each branch, apart from the sum.
                unsafe { array(branch.gradient.cast::<F>(), count) }
            };
            branches.iter().try_for_each(|branch| elements(branch).map(drop))?;
            sum_at(format, branches.iter().flat_map(elements).zip(scales), common, sum);
        });
        place.set(common.log2());
        Ok(())
    })
}
